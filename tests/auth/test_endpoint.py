"""Addresses of keys, and what tokens may say about them."""

from typing import Any

import pytest
from jwt import InvalidTokenError

from gateway.auth.endpoint import KeyEndpoint
from gateway.config.settings import TokenSettings
from gateway.errors import SettingsError
from tests.auth.issuer import P256, signed

SITES = r"^https://(?P<tenant>one|two-2|three\.x)\.example\.com$"
SHARED = "https://keys.example.com/{{tenant}}/jwks.json"


def endpoint(url: str, **settings: Any) -> KeyEndpoint:
    return KeyEndpoint(TokenSettings(jwks_public_endpoint=url, **settings), "client.token")


def token(**claims: Any) -> str:
    return signed(P256, "ES256", **claims)


def test_one_address_for_all() -> None:
    one = endpoint("https://a.example.com/jwks", issuer_regex=SITES)
    assert not one.varies
    assert one.address("no token at all") == "https://a.example.com/jwks"


def test_one_for_each_issuer() -> None:
    each = endpoint(SHARED, issuer_regex=SITES)
    assert each.varies
    for tenant in ("one", "two-2", "three.x"):
        found = each.address(token(iss=f"https://{tenant}.example.com"))
        assert found == f"https://keys.example.com/{tenant}/jwks.json"


def test_one_for_each_audience() -> None:
    each = endpoint("https://{{app}}.example.com/{{app}}", audience_regex="^(?P<app>web|phone)$")
    assert each.address(token(aud=["other", "phone"])) == "https://phone.example.com/phone"
    assert each.address(token(aud="web")) == "https://web.example.com/web"


def test_issuer_and_audience_together() -> None:
    each = endpoint(SHARED + "?for={{app}}", issuer_regex=SITES, audience_regex="(?P<app>web|phone)")
    known = {"iss": "https://one.example.com", "aud": "web"}
    assert each.address(token(**known)) == "https://keys.example.com/one/jwks.json?for=web"
    with pytest.raises(InvalidTokenError):
        each.address(token(**known | {"aud": "tv"}))


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"iss": "https://four.example.com"},
        {"iss": "https://one.example.com.evil.example"},
        {"iss": "https://one/../../evil.example.com"},
        {"iss": ["https://one.example.com"]},
        {"iss": 7},
    ],
    ids=str,
)
def test_tokens_from_nowhere_name_no_address(claims: dict[str, Any]) -> None:
    with pytest.raises(InvalidTokenError):
        endpoint(SHARED, issuer_regex=SITES).address(token(**claims))


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "a.!.c", "ä.ä.ä"])
def test_what_is_no_token_names_no_address(text: str) -> None:
    with pytest.raises(InvalidTokenError):
        endpoint(SHARED, issuer_regex=SITES).address(text)


def test_a_group_that_took_no_part() -> None:
    each = endpoint(SHARED, issuer_regex="^(?:(?P<tenant>one|two)|other)$")
    assert each.address(token(iss="one")) == "https://keys.example.com/one/jwks.json"
    with pytest.raises(InvalidTokenError):
        each.address(token(iss="other"))


@pytest.mark.parametrize(
    "url",
    [
        "keys.example.com/jwks",
        "ftp://a/jwks",
        "https:///jwks",
        "https://a:0/",
        "https://a:x/",
        "https://[a/",
        "https://a/{{",
    ],
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^client\.token\.jwks_public_endpoint is no address .*, for example "):
        endpoint(url)


@pytest.mark.parametrize(
    "pattern",
    [
        "^https://(?P<tenant>.*)$",
        "^https://(?P<tenant>[a-z]+)$",
        r"^https://(?P<tenant>\w+)$",
        "^https://(?P<tenant>a|b?)$",
        "^https://(?P<tenant>a.example|b)$",
        "^https://(?P<tenant>)$",
        "^https://(?P<tenant>a|)$",
        "^https://(?P<tenant>a/b)$",
        "^https://(?P<tenant>(a|b))$",
    ],
)
def test_a_stranger_must_not_choose_where_keys_come_from(pattern: str) -> None:
    with pytest.raises(SettingsError, match=r"^client\.token\.issuer_regex has in its group tenant more than a list"):
        endpoint(SHARED, issuer_regex=pattern)


@pytest.mark.parametrize("pattern", [".*/(?P<tenant>.*)", "(?P<tenant>(.*))"])
def test_nor_by_a_second_group_of_the_name(pattern: str) -> None:
    with pytest.raises(SettingsError, match=r"^client\.token\.audience_regex has in its group tenant more than a list"):
        endpoint(SHARED, issuer_regex=SITES, audience_regex=pattern)


@pytest.mark.parametrize("pattern", ["", "^(?P<other>a|b)$"])
def test_a_placeholder_has_its_group(pattern: str) -> None:
    with pytest.raises(SettingsError, match=r"^client\.token\.jwks_public_endpoint has \{\{tenant\}\}, and no pattern"):
        endpoint(SHARED, issuer_regex=pattern)
