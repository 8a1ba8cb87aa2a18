"""The keys that tokens are verified with, each bound to the algorithms it is meant for."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt import DecodeError, InvalidKeyError, PyJWS, PyJWTError
from jwt.algorithms import Algorithm, HMACAlgorithm, get_default_algorithms

from gateway.config.settings import TokenSettings
from gateway.errors import SettingsError

HEADERS = 64
"""Different headers of good tokens that are kept: libraries write them in their ways, with key ids or without."""

_RSA_BITS = 2048
"""Shorter keys have been factored or soon will be."""

_ECDSA_ALGORITHMS = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}

_PEM_EXAMPLE = '"-----BEGIN PUBLIC KEY-----\\nMII...\\n-----END PUBLIC KEY-----"'


class BoundAlgorithm(Algorithm):
    """An algorithm with its keys, made ready once; keys from elsewhere are not looked at."""

    def __init__(self, algorithm: Algorithm, keys: Callable[[], list[Any]]) -> None:
        self._algorithm = algorithm
        self._keys = keys

    def prepare_key(self, key: Any) -> Any:
        return key

    def verify(self, msg: bytes, key: Any, sig: bytes) -> bool:
        return any(self._algorithm.verify(msg, own, sig) for own in self._keys())

    def sign(self, msg: bytes, key: Any) -> bytes:
        return self._algorithm.sign(msg, self._keys()[0])

    @staticmethod
    def to_jwk(key_obj: Any, as_dict: Any = False) -> Any:
        raise NotImplementedError("these keys stay here")

    @staticmethod
    def from_jwk(jwk: Any) -> Any:
        raise NotImplementedError("these keys come from settings")


class Keyring:
    """Verifies signatures by the keys in one section of the settings.

    Knows no algorithm without a key of its own, so that a token's header can only choose among what is
    configured. Raises ``SettingsError`` for a key that cannot be used; ``section`` says where it stands.
    """

    def __init__(self, settings: TokenSettings, section: str, clock: Callable[[], float]) -> None:
        self._jws = PyJWS(algorithms=[])
        known = get_default_algorithms()
        self._bound = {
            name: BoundAlgorithm(known[name], keys) for name, keys in _bindings(settings, section, clock).items()
        }
        for name, algorithm in self._bound.items():
            self._jws.register_algorithm(name, algorithm)
        self.algorithms = self._jws.get_algorithms()
        self._headers: dict[str, BoundAlgorithm] = {}
        """Headers of good tokens, as they stand there: nearly all tokens share one."""

    def verify(self, token: str) -> bytes:
        """The payload of a token with a good signature. Raises ``PyJWTError`` for any other."""
        if not self.algorithms:
            raise InvalidKeyError("no key is configured")
        header, _, rest = token.partition(".")
        if (algorithm := self._headers.get(header)) and (payload := _verified(algorithm, header, rest)) is not None:
            return payload
        # one that is not known, or not good: the library says why
        found = self._jws.decode_complete(token, algorithms=self.algorithms)
        _check_spelling(token)
        if len(self._headers) < HEADERS:
            self._headers[header] = self._bound[found["header"]["alg"]]
        return cast(bytes, found["payload"])

    def read(self, token: str) -> bytes:
        """The payload of a token, whoever signed it. Raises ``PyJWTError``."""
        return cast(bytes, self._jws.decode(token, options={"verify_signature": False}))


def _verified(algorithm: BoundAlgorithm, header: str, rest: str) -> bytes | None:
    """The payload of a token whose header is known to be good; None if the token is not (RFC 7515, section 5.2)."""
    try:
        payload, _, signature = rest.encode("ascii").partition(b".")
        signed = algorithm.verify(b"%b.%b" % (header.encode("ascii"), payload), None, _segment(signature))
        return _segment(payload) if signed else None
    except (ValueError, PyJWTError):
        return None


def _check_spelling(token: str) -> None:
    """Raises ``DecodeError`` for what some releases of the library read, though it is written in another way."""
    try:
        for part in token.encode("ascii").split(b"."):
            _segment(part)
    except ValueError as error:
        raise DecodeError("not base64url as RFC 7515 has it") from error


def _segment(text: bytes) -> bytes:
    """Base64url without padding (RFC 7515, appendix C), written in the one way there is. Raises ``ValueError``."""
    data = urlsafe_b64decode(text + b"==="[: -len(text) % 4])
    if urlsafe_b64encode(data).rstrip(b"=") != text:
        raise ValueError("not base64url")
    return data


def sign(payload: bytes, secret: str) -> str:
    """A token that carries ``payload``, signed by HS256."""
    algorithm = HMACAlgorithm(HMACAlgorithm.SHA256)
    jws = PyJWS(algorithms=[])
    jws.register_algorithm("HS256", BoundAlgorithm(algorithm, lambda: [algorithm.prepare_key(secret)]))
    return jws.encode(payload, "", algorithm="HS256")


def _bindings(settings: TokenSettings, section: str, clock: Callable[[], float]) -> dict[str, Callable[[], list[Any]]]:
    bindings: dict[str, Callable[[], list[Any]]] = {}
    if settings.hmac_secret_key or settings.hmac_previous_secret_key:
        secrets = _secrets(settings, section, clock)
        bindings.update(dict.fromkeys(("HS256", "HS384", "HS512"), secrets))
    if settings.rsa_public_key:
        rsa = _rsa(settings.rsa_public_key, f"{section}.rsa_public_key")
        bindings.update(dict.fromkeys(("RS256", "RS384", "RS512"), lambda: [rsa]))
    if settings.ecdsa_public_key:
        key, algorithm = _ecdsa(settings.ecdsa_public_key, f"{section}.ecdsa_public_key")
        bindings[algorithm] = lambda: [key]
    return bindings


def _secrets(settings: TokenSettings, section: str, clock: Callable[[], float]) -> Callable[[], list[bytes]]:
    current, previous = (
        [_secret(getattr(settings, name), f"{section}.{name}")] if getattr(settings, name) else []
        for name in ("hmac_secret_key", "hmac_previous_secret_key")
    )
    until = settings.hmac_previous_secret_key_valid_until
    return lambda: current + previous if not until or clock() <= until else current


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
    if key.key_size < _RSA_BITS:
        raise SettingsError(f"{name} has {key.key_size} bits; expected an RSA public key of at least {_RSA_BITS}")
    return key


def _ecdsa(pem: str, name: str) -> tuple[EllipticCurvePublicKey, str]:
    key = _load(pem, name)
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in _ECDSA_ALGORITHMS:
        raise SettingsError(
            f"{name} is not an ECDSA key on P-256, P-384 or P-521; expected such a public key as PEM: {_PEM_EXAMPLE}"
        )
    return key, _ECDSA_ALGORITHMS[key.curve.name]


def _load(pem: str, name: str) -> object:
    try:
        return load_pem_public_key(pem.encode())
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{name} is not a public key; expected PEM: {_PEM_EXAMPLE}") from error
