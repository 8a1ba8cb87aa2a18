"""Sets of keys as issuers publish them: JSON in, keyrings by key id out (RFC 7517, RFC 7518 section 6, RFC 8037)."""

from collections.abc import Mapping
from typing import Any

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWTError
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from msgspec import Raw, Struct

from gateway.auth.keys import ECDSA_ALGORITHMS, RSA_ALGORITHMS, RSA_BITS, Keyring, NamedKey

MOST_KEYS = 100
"""Keys of a set that are looked at; large issuers publish a dozen."""

_READERS: dict[str, Any] = {"RSA": RSAAlgorithm, "EC": ECAlgorithm, "OKP": OKPAlgorithm}
"""By type of key. There is no symmetric one: what is published is no secret."""


_OTHER_NAMES = {"Ed25519": "EdDSA"}
"""Of algorithms (RFC 9864)."""


class KeySet(Struct, frozen=True):
    """The keys that can verify tokens, by id, and of the others why they cannot."""

    keyrings: Mapping[str, Keyring] = {}
    left_out: tuple[str, ...] = ()


class Unsuitable(ValueError):  # noqa: N818  it is none of ours that is wrong
    """A key cannot verify tokens; the text says why."""


class _Document(Struct):
    keys: list[Raw]


LONGEST_RSA = 8192
"""Bits of an RSA key at most: with twice as many each token takes ten milliseconds of everybody's time."""


class _Terms(Struct):
    """What a key says of its use."""

    kty: str = ""
    kid: str = ""
    use: str = ""
    alg: str | None = None
    key_ops: list[str] | None = None


def read_key_set(document: bytes) -> KeySet:
    """Raises ``ValueError`` for what is no set of keys."""
    try:
        keys = msgspec.json.decode(document, type=_Document).keys
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError("is no set of keys (JWKS)") from error
    found: dict[str, dict[str, list[NamedKey]]] = {}
    left_out = [f"all beyond the first {MOST_KEYS}"] if len(keys) > MOST_KEYS else []
    for number, key in enumerate(keys[:MOST_KEYS], 1):
        try:
            kid, algorithms, public = _read(key)
        except Unsuitable as reason:
            left_out.append(f"key {number}: {reason}")
            continue
        for algorithm in algorithms:
            found.setdefault(kid, {}).setdefault(algorithm, []).append(NamedKey(kid, public))
    return KeySet({kid: _keyring(keys) for kid, keys in found.items()}, tuple(left_out))


def _keyring(keys: Mapping[str, list[NamedKey]]) -> Keyring:
    return Keyring({algorithm: lambda good=good: good for algorithm, good in keys.items()})  # type: ignore[misc]


def _read(key: Raw) -> tuple[str, tuple[str, ...], object]:
    """A key's id, its algorithms, and the key itself. Raises ``Unsuitable``."""
    try:
        terms = msgspec.json.decode(key, type=_Terms)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Unsuitable("is none (RFC 7517)") from error
    reader = _READERS.get(terms.kty)
    if reader is None:
        raise Unsuitable(f"its kty is {terms.kty!r:.40}")
    if not terms.kid:
        raise Unsuitable("it has no kid")
    if terms.use != "sig" or (terms.key_ops is not None and "verify" not in terms.key_ops):
        raise Unsuitable(f"{terms.kid!r:.80} is not for signatures (use is {terms.use!r:.40})")
    try:
        public = reader.from_jwk(msgspec.json.decode(key))
    except (PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, AttributeError) as error:
        raise Unsuitable(f"{terms.kid!r:.80} cannot be read") from error
    fitting = _algorithms(public)
    meant = _OTHER_NAMES.get(terms.alg or "", terms.alg)
    algorithms = tuple(each for each in fitting if meant in (None, each))
    if not algorithms:
        raise Unsuitable(
            f"{terms.kid!r:.80} is none for these algorithms, or too short or long (alg is {terms.alg!r:.40})"
        )
    return terms.kid, algorithms, public


def _algorithms(key: object) -> tuple[str, ...]:
    """Those that a key can verify. Of a private one none: it is out of place there, and everybody has it."""
    match key:
        case RSAPublicKey() if RSA_BITS <= key.key_size <= LONGEST_RSA:
            return RSA_ALGORITHMS
        case EllipticCurvePublicKey() if key.curve.name in ECDSA_ALGORITHMS:
            return (ECDSA_ALGORITHMS[key.curve.name],)
        case Ed25519PublicKey():
            return ("EdDSA",)
    return ()
