"""Which published keys verify which tokens, and which are never used."""

import base64
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt import InvalidAlgorithmError, InvalidSignatureError
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

from gateway.auth.jwks import MOST_KEYS, read_key_set
from tests.auth.issuer import ED25519, P256, P384, P521, RSA, RSA_OTHER, document, jwk, signed

SUITABLE = {
    "RS256": RSA,
    "RS384": RSA,
    "RS512": RSA,
    "ES256": P256,
    "ES384": P384,
    "ES512": P521,
    "EdDSA": ED25519,
}


@pytest.mark.parametrize(("algorithm", "key"), SUITABLE.items(), ids=SUITABLE)
@pytest.mark.parametrize("names_algorithm", [True, False])
def test_keys_of_all_kinds(algorithm: str, key: Any, names_algorithm: bool) -> None:
    keys = read_key_set(document(jwk(key, "k", alg=algorithm if names_algorithm else None)))
    assert keys.left_out == ()
    assert keys.keyrings["k"].verify(signed(key, algorithm)).key == "k"


def test_an_algorithm_by_its_newer_name() -> None:
    keyring = read_key_set(document(jwk(ED25519, "k", alg="Ed25519"))).keyrings["k"]
    assert keyring.verify(signed(ED25519, "EdDSA")).key == "k"


SHORT = rsa.generate_private_key(65537, 1024)  # noqa: S505  a weak key on purpose
PRIVATE = {**RSAAlgorithm.to_jwk(RSA, as_dict=True), "kid": "k", "use": "sig", "key_ops": ["verify"]}
SECRET = {"kty": "oct", "k": "c2VjcmV0", "kid": "k", "use": "sig", "alg": "HS256"}
ED448 = {**OKPAlgorithm.to_jwk(ed448.Ed448PrivateKey.generate().public_key(), as_dict=True), "kid": "k", "use": "sig"}

UNSUITABLE: dict[str, tuple[dict[str, Any], str]] = {
    "for encryption": (jwk(RSA, "k", use="enc"), "'k' is not for signatures (use is 'enc')"),
    "for nobody knows what": (jwk(RSA, "k", use=None), "'k' is not for signatures (use is '')"),
    "for signing alone": (jwk(RSA, "k", key_ops=["sign"]), "'k' is not for signatures (use is 'sig')"),
    "a secret": (SECRET, "its kty is 'oct'"),
    "of no kind": ({"kid": "k", "use": "sig"}, "its kty is ''"),
    "without id": (jwk(RSA, None), "it has no kid"),
    "of another algorithm": (
        jwk(RSA, "k", alg="ES256"),
        "'k' is none for these algorithms, or too short or long (alg is 'ES256')",
    ),
    "of an algorithm of secrets": (jwk(RSA, "k", alg="HS256"), "alg is 'HS256'"),
    "of no algorithm": (jwk(P256, "k", alg="none"), "alg is 'none'"),
    "of a curve that is not used": (jwk(ec.generate_private_key(ec.SECP256K1()), "k"), "none for these algorithms"),
    "of another Edwards curve": (ED448, "none for these algorithms"),
    "too short": (jwk(SHORT, "k"), "none for these algorithms, or too short"),
    "too long": (jwk(RSA, "k", n="_w" + "_" * 1366), "none for these algorithms, or too short or long"),
    "a private one": (PRIVATE, "none for these algorithms"),
    "damaged": (jwk(RSA, "k", n="!"), "'k' cannot be read"),
    "with half of it": (jwk(P256, "k", y=None), "'k' cannot be read"),
    "with a number for a text": (jwk(ED25519, "k", x=7), "'k' cannot be read"),
    "with a number for its id": (jwk(RSA, 7), "is none (RFC 7517)"),
}


@pytest.mark.parametrize(("key", "reason"), UNSUITABLE.values(), ids=UNSUITABLE)
def test_keys_that_are_never_used_do_not_spoil_the_others(key: dict[str, Any], reason: str) -> None:
    keys = read_key_set(document(key, jwk(P256, "good")))
    assert list(keys.keyrings) == ["good"]
    assert [each for each in keys.left_out if each.startswith("key 1: ") and reason in each], keys.left_out


def test_an_algorithm_cannot_be_chosen_by_the_token() -> None:
    """The classic forgery: sign by HMAC with the public key, which everybody knows."""
    published = jwk(RSA, "k")
    keyring = read_key_set(document(published)).keyrings["k"]
    public = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for secret in (public, json.dumps(published).encode()):
        unsigned = signed("some secret of thirty-two bytes and more", "HS256").rpartition(".")[0]
        signature = base64.urlsafe_b64encode(hmac.digest(secret, unsigned.encode(), "sha256")).decode().rstrip("=")
        with pytest.raises(InvalidAlgorithmError):
            keyring.verify(f"{unsigned}.{signature}")
    with pytest.raises(InvalidAlgorithmError):
        keyring.verify(signed(None, "none"))
    with pytest.raises(InvalidAlgorithmError):
        keyring.verify(signed(P256, "ES256"))
    with pytest.raises(InvalidSignatureError):
        keyring.verify(signed(RSA_OTHER, "RS256"))


def test_a_key_that_names_its_algorithm_is_for_that_alone() -> None:
    keyring = read_key_set(document(jwk(RSA, "k", alg="RS256"))).keyrings["k"]
    assert keyring.verify(signed(RSA, "RS256")).key == "k"
    with pytest.raises(InvalidAlgorithmError):
        keyring.verify(signed(RSA, "RS512"))


def test_keys_of_different_kinds_may_share_an_id() -> None:
    keyring = read_key_set(document(jwk(RSA, "k"), jwk(P256, "k"), jwk(RSA_OTHER, "k"))).keyrings["k"]
    for key, algorithm in ((RSA, "RS256"), (P256, "ES256"), (RSA_OTHER, "RS384")):
        assert keyring.verify(signed(key, algorithm)).key == "k"


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"keys":{}}', b"\xff", b'{"keys":[' + b"[" * 5000], ids=repr
)
def test_what_is_no_set_of_keys(body: bytes) -> None:
    with pytest.raises(ValueError, match="is no set of keys"):
        read_key_set(body)


def test_a_set_without_keys_is_one() -> None:
    assert read_key_set(b'{"keys":[]}').keyrings == {}


def test_what_is_in_a_set_and_no_key() -> None:
    assert read_key_set(b'{"keys":[1,null,"x"]}').left_out == tuple(f"key {n}: is none (RFC 7517)" for n in (1, 2, 3))


def test_very_many_keys_are_not_looked_at() -> None:
    keys = read_key_set(document(*(jwk(ED25519, str(number)) for number in range(MOST_KEYS + 2))))
    assert len(keys.keyrings) == MOST_KEYS
    assert keys.left_out == (f"all beyond the first {MOST_KEYS}",)
