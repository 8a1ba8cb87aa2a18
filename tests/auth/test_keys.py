"""Several keys of a kind, each with a name: so that one can follow another."""

from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.auth.tokens import TokenExpired, TokenInvalid, TokenVerifier
from gateway.config.settings import ClientSettings, TokenSettings
from gateway.errors import SettingsError

NOW = 1_800_000_000
OLD, NEW, FOREIGN = (f"the {name} secret, of more than thirty-two bytes" for name in ("old", "new", "foreign"))
RSA = [rsa.generate_private_key(65537, 2048) for _ in range(2)]
P256, P384 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
OTHER_P256 = ec.generate_private_key(ec.SECP256R1())


def pem(key: Any) -> str:
    text: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


def verifier(**token: Any) -> TokenVerifier:
    return TokenVerifier(ClientSettings(token=TokenSettings(**token)), lambda: NOW)


def signed(key: Any, algorithm: str = "HS256", kid: Any = None, **claims: Any) -> str:
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode({"sub": "ann", **claims}, key, algorithm, headers)


def test_each_of_several_secrets_is_good_and_named() -> None:
    tokens = verifier(hmac_secret_key=OLD, hmac_secret_keys={"2027": NEW})
    for _ in range(2):  # then the header is known
        assert tokens.connection(signed(OLD)).key == "hmac_secret_key"
        assert tokens.connection(signed(NEW)).key == "2027"
        assert tokens.subscription(signed(NEW, channel="a")).key == "2027"
        with pytest.raises(TokenInvalid):
            tokens.connection(signed(FOREIGN))


def test_names_alone_do() -> None:
    tokens = verifier(hmac_secret_keys={"a": OLD})
    assert tokens.has_keys
    assert tokens.connection(signed(OLD)).user == "ann"


@pytest.mark.parametrize("kid", ["2027", "hmac_secret_key", "another issuer's", ""])
def test_the_key_id_is_a_hint_and_no_more(kid: str) -> None:
    tokens = verifier(hmac_secret_key=OLD, hmac_secret_keys={"2027": NEW})
    for _ in range(2):
        assert tokens.connection(signed(OLD, kid=kid)).key == "hmac_secret_key"
        assert tokens.connection(signed(NEW, kid=kid)).key == "2027"


def test_that_which_the_key_id_names_is_tried_first() -> None:
    tokens = verifier(hmac_secret_keys={"first": OLD, "second": OLD})
    assert tokens.connection(signed(OLD)).key == "first"
    assert tokens.connection(signed(OLD, kid="second")).key == "second"
    assert tokens.connection(signed(OLD, kid="second")).key == "second"


def test_keys_of_other_kinds_have_names_too() -> None:
    tokens = verifier(
        rsa_public_key=pem(RSA[0]),
        rsa_public_keys={"r": pem(RSA[1])},
        ecdsa_public_keys={"e": pem(P256), "f": pem(P384), "g": pem(OTHER_P256)},
    )
    assert tokens.connection(signed(RSA[0], "RS256")).key == "rsa_public_key"
    assert tokens.connection(signed(RSA[1], "RS512")).key == "r"
    assert tokens.connection(signed(P256, "ES256")).key == "e"
    assert tokens.connection(signed(P384, "ES384")).key == "f"
    assert tokens.connection(signed(OTHER_P256, "ES256")).key == "g"
    with pytest.raises(TokenInvalid):
        tokens.connection(signed(OLD))


def test_a_name_opens_no_other_algorithm() -> None:
    tokens = verifier(hmac_secret_keys={"h": OLD}, rsa_public_keys={"r": pem(RSA[0])})
    with pytest.raises(TokenInvalid):
        tokens.connection(signed(OLD, "HS256", kid="r").replace("e", "E", 1))
    assert tokens.connection(signed(OLD, "HS256", kid="r")).key == "h"


@pytest.mark.parametrize(
    "claims",
    [{"exp": NOW - 1}, {"nbf": NOW + 9}, {"aud": "wrong"}, {"channel": "a"}, {"meta": 5}, {"exp": "soon"}],
)
def test_of_a_genuine_token_that_is_no_good_the_key_is_known(claims: dict[str, Any]) -> None:
    tokens = verifier(hmac_secret_keys={"2027": NEW}, audience="right")
    token = signed(NEW, **{"aud": "right", **claims})
    for verify in (tokens.connection, *([] if "channel" in claims else [tokens.subscription])):
        with pytest.raises((TokenInvalid, TokenExpired)) as refused:
            verify(token)
        error: Any = refused.value
        assert error.key == "2027"


def test_of_a_forged_one_there_is_none() -> None:
    with pytest.raises(TokenInvalid) as refused:
        verifier(hmac_secret_keys={"2027": NEW}).connection(signed(FOREIGN, kid="2027"))
    assert refused.value.key == ""


def test_a_named_key_that_cannot_be_is_told_by_its_name() -> None:
    with pytest.raises(SettingsError, match=r"^client\.token\.rsa_public_keys\.r is not a public key"):
        verifier(rsa_public_keys={"r": "garbage"})
    with pytest.raises(SettingsError, match=r"^client\.token\.hmac_secret_keys\.h holds an asymmetric key"):
        verifier(hmac_secret_keys={"h": pem(P256)})


def test_keys_change_while_it_runs() -> None:
    tokens = verifier(hmac_secret_key=OLD)
    assert tokens.connection(signed(OLD)).user == "ann"
    tokens.reload(ClientSettings(token=TokenSettings(hmac_secret_keys={"new": NEW})))
    assert tokens.connection(signed(NEW)).key == "new"
    with pytest.raises(TokenInvalid):
        tokens.connection(signed(OLD))
    with pytest.raises(SettingsError):
        tokens.reload(ClientSettings(token=TokenSettings(rsa_public_key="garbage")))
    assert tokens.connection(signed(NEW)).key == "new", "what was good before is"
    tokens.reload(ClientSettings())
    assert not tokens.has_keys
