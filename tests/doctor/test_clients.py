"""Would this page, and this token, be let in?"""

import logging
from typing import Any

import jwt
import pytest

from gateway import Settings
from gateway.auth.tokens import sign_connection, sign_subscription
from gateway.doctor.clients import examine_origin, examine_token, look_at_token, read_claims
from gateway.doctor.finding import Finding, Level
from gateway.transports import admission
from tests.auth.issuer import ED25519, P256, issuing, jwk, signed
from tests.doctor.looking import one, texts

SECRET, OTHER = "one of more than thirty-two letters", "another of more than thirty-two letters"
NOW = 1_700_000_000.0


def of_origin(origin: str, host: str = "gateway", *, same_origin: bool = False, **client: Any) -> Finding:
    [finding] = examine_origin(Settings(client=client), origin, host, same_origin=same_origin)
    return finding


def of_token(token: str, /, **client: Any) -> list[Finding]:
    settings = Settings(client={"token": {"hmac_secret_key": SECRET}} | client)
    return list(examine_token(settings, token, lambda: NOW))


# — origins —


def test_an_origin_that_is_listed(caplog: pytest.LogCaptureFixture) -> None:
    assert of_origin("https://a.example", allowed_origins=["https://*.example"]).level is Level.OK


def test_one_that_is_not_gets_the_line_to_write(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        found = of_origin("https://B.example", allowed_origins=["https://a.example"])
    assert (found.level, found.text) == (
        Level.PROBLEM,
        "pages of it get 403: client.allowed_origins has https://a.example",
    )
    assert found.remedy == 'client.allowed_origins = ["https://a.example","https://b.example"]'
    assert not caplog.records  # nobody has been refused
    assert not admission.log.disabled
    assert "has nothing" in of_origin("https://a.example").text


def test_the_gateways_own_origin_is_let_in_where_it_is_embedded() -> None:
    assert of_origin("https://chat.example", "chat.example", same_origin=True).level is Level.OK
    assert of_origin("https://chat.example", "chat.example").level is Level.PROBLEM


@pytest.mark.parametrize(
    ("origin", "right"),
    [
        ("https://a.example/", "https://a.example"),
        ("https://a.example/chat", "https://a.example"),
        ("https://a.example?x", "https://a.example"),
        ("https://a.example#x", "https://a.example"),
        ("a.example", "https://example.com"),
        ("//a.example", "https://example.com"),
        ("http://[::", "https://example.com"),
    ],
)
def test_what_is_no_origin(origin: str, right: str) -> None:
    found = of_origin(origin, allowed_origins=["*"])
    assert (found.level, found.text[:12]) == (Level.PROBLEM, "is no origin")
    assert found.remedy.endswith(right)


# — tokens —


def test_a_token_that_is_good() -> None:
    assert texts(of_token(sign_connection(SECRET, "ann", 60, NOW))) == ['lets the user "ann" connect, for another 60 s']
    assert texts(of_token(sign_connection(SECRET, "", now=NOW))) == [
        "lets an anonymous user connect, for ever (it has no exp)"
    ]
    nothing_said = jwt.encode({"sub": "ann", "exp": None, "channel": None}, SECRET)
    assert "for ever" in one(of_token(nothing_said), "connect").text


def test_a_token_for_a_channel() -> None:
    token = sign_subscription(SECRET, "ann", "chat:a", 60, NOW)
    assert texts(of_token(token)) == ['lets the user "ann" subscribe to chat:a']
    settings = {"subscription_token": {"enabled": True, "hmac_secret_key": OTHER}}
    assert "client.subscription_token" in one(of_token(token, **settings), "has signed it").remedy


@pytest.mark.parametrize(
    ("claims", "text"),
    [
        ({"exp": NOW - 90}, "exp has passed: exp was 90 s ago"),
        ({"nbf": NOW + 30}, "nbf is not reached: nbf is in 30 s"),
    ],
)
def test_a_token_out_of_its_time(claims: dict[str, float], text: str) -> None:
    [found] = of_token(jwt.encode({"sub": "ann"} | claims, SECRET))
    assert (found.level, found.text) == (Level.PROBLEM, text)
    assert "clocks" in found.remedy


@pytest.mark.parametrize(("wanted", "claim"), [("audience", "aud"), ("issuer", "iss")])
@pytest.mark.parametrize("form", ["", "_regex"])
def test_a_token_for_somebody_else(wanted: str, claim: str, form: str) -> None:
    keys = {"hmac_secret_key": SECRET, wanted + form: "chat"}
    [found] = of_token(jwt.encode({"sub": "ann", claim: "shop"}, SECRET), token=keys)
    assert found.text.startswith(f"wrong {wanted} ({claim})")
    assert found.remedy == f"sign with {claim} = 'chat', which client.token wants; it has 'shop'"


def test_a_token_of_another_key() -> None:
    [found] = of_token(sign_connection(OTHER, "ann"))
    assert found.level is Level.PROBLEM
    assert found.remedy == "it was signed with another key than those of client.token: give both sides the same"


def test_a_token_by_an_algorithm_that_has_no_key() -> None:
    token = sign_connection(OTHER, "ann")
    [found] = of_token(token, token={})
    assert found.remedy == "it is signed by HS256: give client.token a key for that (hmac_secret_key)"
    unsigned = jwt.encode({"sub": "ann"}, "", algorithm="none")
    [found] = of_token(unsigned)
    assert "hmac_secret_key, rsa_public_key, ecdsa_public_key" in found.remedy


def test_a_token_without_user_where_they_are_not_wanted() -> None:
    _, found = of_token(sign_connection(SECRET, ""), disallow_anonymous_connection_tokens=True)
    assert (found.level, found.text) == (Level.PROBLEM, "has no user (sub)")


def test_a_token_of_another_kind() -> None:
    [found] = of_token(jwt.encode({"sub": "ann", "info": 1, "b64info": "!"}, SECRET))
    assert found.remedy == "sign it as docs/tokens.md says"


@pytest.mark.parametrize("token", ["", "x", "a.b", "a.b.c", "a.MTI.c", "a.ü.c", "a.eyJ.c"])
def test_what_is_no_token(token: str) -> None:
    assert read_claims(token) is None
    [found] = of_token(token)
    assert found.text.startswith("is no JWT")


# — keys that are fetched —


async def test_the_key_of_a_token_is_fetched_for_it() -> None:
    async with issuing(jwk(P256, "k")) as issuer:
        settings = Settings.model_validate({"client": {"token": {"jwks_public_endpoint": issuer.url}}})
        [good] = await look_at_token(settings, signed(P256, "ES256"), lambda: NOW)
        assert (good.level, good.text.partition(",")[0]) == (Level.OK, 'lets the user "ann" connect')
        [channel] = await look_at_token(settings, signed(P256, "ES256", channel="news"), lambda: NOW)
        assert channel.text == 'lets the user "ann" subscribe to news'
        [unknown] = await look_at_token(settings, signed(P256, "ES256", "other"), lambda: NOW)
        assert (unknown.level, issuer.url in unknown.remedy) == (Level.PROBLEM, True)
        issuer.fail()
        [away] = await look_at_token(settings, signed(P256, "ES256"), lambda: NOW)
        assert away.text == f"its key cannot be fetched: {issuer.url}: HTTP 503 Service Unavailable"


async def test_without_an_endpoint_nothing_is_fetched() -> None:
    settings = Settings.model_validate({"client": {"token": {"hmac_secret_key": SECRET}}})
    [found] = await look_at_token(settings, sign_connection(SECRET, "ann"), lambda: NOW)
    assert found.level is Level.OK


def test_an_algorithm_that_only_published_keys_have() -> None:
    [found] = of_token(signed(ED25519, "EdDSA"))
    assert found.remedy == "it is signed by EdDSA: give client.token a key for that (jwks_public_endpoint)"
