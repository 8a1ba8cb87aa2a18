"""The keys that tokens are verified with, each bound to the algorithms it is meant for."""

import hmac
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt import DecodeError, InvalidKeyError, PyJWS, PyJWTError
from jwt.algorithms import Algorithm, HMACAlgorithm, get_default_algorithms
from msgspec import Struct

from gateway.config.settings import TokenSettings
from gateway.errors import SettingsError

HEADERS = 64
"""Different headers of good tokens that are kept: libraries write them in their ways, with key ids or without."""

RSA_BITS = 2048
"""Shorter keys have been factored or soon will be."""

RSA_ALGORITHMS = ("RS256", "RS384", "RS512")
ECDSA_ALGORITHMS = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}

_INNER, _OUTER = (bytes(each ^ pad for each in range(256)) for pad in (0x36, 0x5C))

_PEM_EXAMPLE = '"-----BEGIN PUBLIC KEY-----\\nMII...\\n-----END PUBLIC KEY-----"'


class NamedKey(NamedTuple):
    """A key, and what the settings call it: logs tell by which of several a token was signed."""

    name: str
    key: Any


Bindings = Mapping[str, Callable[[], Sequence[NamedKey]]]
"""By algorithm, the keys that are good now."""


class Verified(Struct):
    """What a token carries, and the name of the key that has signed it; empty if nobody looked at that."""

    payload: bytes
    key: str


class KeyRefused(PyJWTError):  # noqa: N818  as TokenRefused
    """A token's key is none of its issuer's, or not for its algorithm. The text is for the log."""

    def __init__(self, text: str, claim: str) -> None:
        super().__init__(text)
        self.claim = claim


class BoundAlgorithm(Algorithm):
    """An algorithm with its keys, made ready once; keys from elsewhere are not looked at."""

    def __init__(self, algorithm: Algorithm, keys: Callable[[], Sequence[NamedKey]]) -> None:
        self._algorithm = algorithm
        self._keys = keys

    def signer(self, signed: bytes, signature: bytes, kid: str) -> str | None:
        """Name of the key that has signed, if one has. Raises ``ValueError`` for a signature that cannot be read.

        Both are as they stand in a token.
        """
        sig = segment(signature)
        keys = self._first(kid) if kid else self._keys()
        return next((name for name, key in keys if self._algorithm.verify(signed, key, sig)), None)

    def _first(self, kid: str) -> Sequence[NamedKey]:
        """The keys, that of the name first, which decides nothing more.

        It is what a stranger writes, and other issuers have names of their own.
        """
        return sorted(self._keys(), key=lambda each: each.name != kid)

    def prepare_key(self, key: Any) -> Any:
        return key

    def verify(self, msg: bytes, key: Any, sig: bytes) -> bool:
        return any(self._algorithm.verify(msg, each.key, sig) for each in self._keys())

    def sign(self, msg: bytes, key: Any) -> bytes:
        return self._algorithm.sign(msg, self._keys()[0].key)

    @staticmethod
    def to_jwk(key_obj: Any, as_dict: Any = False) -> Any:
        raise NotImplementedError("these keys stay here")

    @staticmethod
    def from_jwk(jwk: Any) -> Any:
        raise NotImplementedError("these keys come from settings")


class BoundHMAC(BoundAlgorithm):
    """HMAC, as most tokens are signed. What a secret gives by itself is made once (RFC 2104, section 4)."""

    def __init__(self, algorithm: HMACAlgorithm, keys: Callable[[], Sequence[NamedKey]]) -> None:
        super().__init__(algorithm, keys)
        self._hash: Callable[[bytes], Any] = algorithm.hash_alg
        self._begun: dict[bytes, tuple[Any, Any]] = {}
        """By secret, the inner and the outer hash."""

    def signer(self, signed: bytes, signature: bytes, kid: str) -> str | None:
        for name, key in self._first(kid) if kid else self._keys():
            begun = self._begun.get(key) or self._begin(key)
            inner, outer = begun[0].copy(), begun[1].copy()
            inner.update(signed)
            outer.update(inner.digest())
            # as texts: of bytes there is one, so that nothing else that could be read as the same is let pass
            if hmac.compare_digest(unpadded(outer.digest()), signature):
                return name
        return None

    def _begin(self, secret: bytes) -> tuple[Any, Any]:
        block = self._hash(b"").block_size
        padded = (self._hash(secret).digest() if len(secret) > block else secret).ljust(block, b"\0")
        found = self._begun[secret] = self._hash(padded.translate(_INNER)), self._hash(padded.translate(_OUTER))
        return found


class Keyring:
    """Verifies signatures by keys, each bound to its algorithms.

    Knows no algorithm without a key of its own, so that a token's header can only choose among what is there.
    """

    def __init__(self, bindings: Bindings) -> None:
        self._jws = PyJWS(algorithms=[])
        known = get_default_algorithms()
        self._bound = {name: _bound(known[name], keys) for name, keys in bindings.items()}
        for name, algorithm in self._bound.items():
            self._jws.register_algorithm(name, algorithm)
        self.algorithms = self._jws.get_algorithms()
        self._headers: dict[bytes, tuple[BoundAlgorithm, str]] = {}
        """Headers of good tokens, as they stand there, with their key ids: nearly all tokens share one."""

    def verify(self, token: str) -> Verified:
        """What a token with a good signature carries. Raises ``PyJWTError`` for any other.

        Of one whose header is known nothing is left to be read but what is signed (RFC 7515, section 5.2).
        """
        try:
            signed, _, signature = token.encode("ascii").rpartition(b".")
            header, _, payload = signed.partition(b".")
            algorithm, kid = self._headers[header]
            if (name := algorithm.signer(signed, signature, kid)) is not None:
                return Verified(segment(payload), name)
        except (KeyError, ValueError):
            pass
        return self._examine(token)

    def _examine(self, token: str) -> Verified:
        """The same by the library, which knows all headers, and says what is wrong."""
        if not self.algorithms:
            raise InvalidKeyError("no key is configured")
        found = self._jws.decode_complete(token, algorithms=self.algorithms)
        _check_spelling(token)
        algorithm, kid = self._bound[found["header"]["alg"]], found["header"].get("kid", "")
        signed, _, signature = token.encode("ascii").rpartition(b".")
        if len(self._headers) < HEADERS:
            self._headers[signed.partition(b".")[0]] = algorithm, kid
        return Verified(cast(bytes, found["payload"]), algorithm.signer(signed, signature, kid) or "")


def _bound(algorithm: Algorithm, keys: Callable[[], Sequence[NamedKey]]) -> BoundAlgorithm:
    return BoundHMAC(algorithm, keys) if isinstance(algorithm, HMACAlgorithm) else BoundAlgorithm(algorithm, keys)


def read(token: str) -> Verified:
    """What a token carries, whoever signed it. Raises ``PyJWTError``."""
    return Verified(cast(bytes, PyJWS().decode(token, options={"verify_signature": False})), "")


def _check_spelling(token: str) -> None:
    """Raises ``DecodeError`` for what some releases of the library read, though it is written in another way."""
    try:
        for part in token.encode("ascii").split(b"."):
            segment(part)
    except ValueError as error:
        raise DecodeError("not base64url as RFC 7515 has it") from error


_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_+/=", b"+/\0\0\0")  # in base64url the latter stand for nothing


def unpadded(data: bytes) -> bytes:
    """Base64url without padding (RFC 7515, appendix C)."""
    return b2a_base64(data, newline=False).translate(_TO_URL, b"=")


def segment(text: bytes) -> bytes:
    """What such base64 says, if it is written in the one way there is. Raises ``ValueError``."""
    plain = text.translate(_FROM_URL)
    data = a2b_base64(plain + b"==")  # it reads no more of the padding than there should be
    if b2a_base64(data, newline=False).rstrip(b"=") != plain:
        raise ValueError("not base64url")
    return data


def sign(payload: bytes, secret: str) -> str:
    """A token that carries ``payload``, signed by HS256."""
    algorithm = HMACAlgorithm(HMACAlgorithm.SHA256)
    jws = PyJWS(algorithms=[])
    jws.register_algorithm("HS256", BoundAlgorithm(algorithm, lambda: [NamedKey("", algorithm.prepare_key(secret))]))
    return jws.encode(payload, "", algorithm="HS256")


def configured(settings: TokenSettings, section: str, clock: Callable[[], float]) -> Bindings:
    """The keys in one section of the settings.

    Raises ``SettingsError`` for a key that cannot be used; ``section`` says where it stands.
    """
    secrets = _named(settings, section, "hmac_secret_key", _secret)
    previous = _named(settings, section, "hmac_previous_secret_key", _secret)
    rsa = _named(settings, section, "rsa_public_key", _rsa)
    bindings: dict[str, Callable[[], Sequence[NamedKey]]] = {}
    if secrets or previous:
        until = settings.hmac_previous_secret_key_valid_until
        always = secrets + previous

        def good() -> list[NamedKey]:
            return always if not until or clock() <= until else secrets

        bindings.update(dict.fromkeys(("HS256", "HS384", "HS512"), good))
    if rsa:
        bindings.update(dict.fromkeys(RSA_ALGORITHMS, lambda: rsa))
    by_curve: dict[str, list[NamedKey]] = {}
    for name, (key, algorithm) in _named(settings, section, "ecdsa_public_key", _ecdsa):
        by_curve.setdefault(algorithm, []).append(NamedKey(name, key))
    for algorithm, keys in by_curve.items():
        bindings[algorithm] = partial(list, keys)
    return bindings


def _named(settings: TokenSettings, section: str, kind: str, read: Callable[[str, str], Any]) -> list[NamedKey]:
    """The keys of a kind: that which has no name is called as its setting is."""
    given = {kind: (getattr(settings, kind), f"{section}.{kind}")}
    given.update((name, (key, f"{section}.{kind}s.{name}")) for name, key in getattr(settings, f"{kind}s", {}).items())
    return [NamedKey(name, read(*place)) for name, place in given.items() if place[0]]


def _secret(value: str, key: str) -> bytes:
    try:
        return HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(value)
    except PyJWTError:
        raise SettingsError(
            f"{key} holds an asymmetric key, which is no secret: "
            'write a random text such as the output of "openssl rand -hex 32"'
        ) from None


def _rsa(pem: str, name: str) -> RSAPublicKey:
    key = _load(pem, name)
    if not isinstance(key, RSAPublicKey):
        raise SettingsError(f"{name} is not an RSA key; expected an RSA public key as PEM: {_PEM_EXAMPLE}")
    if key.key_size < RSA_BITS:
        raise SettingsError(f"{name} has {key.key_size} bits; expected an RSA public key of at least {RSA_BITS}")
    return key


def _ecdsa(pem: str, name: str) -> tuple[EllipticCurvePublicKey, str]:
    key = _load(pem, name)
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in ECDSA_ALGORITHMS:
        raise SettingsError(
            f"{name} is not an ECDSA key on P-256, P-384 or P-521; expected such a public key as PEM: {_PEM_EXAMPLE}"
        )
    return key, ECDSA_ALGORITHMS[key.curve.name]


def _load(pem: str, name: str) -> object:
    try:
        return load_pem_public_key(pem.encode())
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{name} is not a public key; expected PEM: {_PEM_EXAMPLE}") from error
