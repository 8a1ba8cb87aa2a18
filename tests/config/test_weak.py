"""Secrets that can be guessed."""

from typing import Any

import pytest

from gateway.config.settings import Settings
from gateway.config.weak import DEV_SECRET, find_weak

GOOD = "0f7ce7b1ac6d1e8e9b1f3c0d5a2b4968"


def weak(**sections: Any) -> list[str]:
    return list(find_weak(Settings.model_validate(sections)))


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        ("x", "client.token.hmac_secret_key can be guessed, for it is shorter (1) than 32 bytes"),
        ("change-me", "is a word that everybody knows"),
        ("your-256-bit-secret", "is a word that everybody knows"),
        ("MySecretKey123", "is a word that everybody knows"),
        (DEV_SECRET, "is a word that everybody knows"),
        (GOOD[:31], "shorter (31) than 32 bytes"),
        ("ab" * 32, "few different characters (2)"),
    ],
)
def test_secrets_that_sign(secret: str, text: str) -> None:
    (told,) = weak(client={"token": {"hmac_secret_key": secret}})
    assert text in told
    assert told.endswith('take the output of "openssl rand -hex 32"')
    assert secret == "x" or secret not in told


def test_each_is_named() -> None:
    tokens = {"hmac_previous_secret_key": "x", "hmac_secret_keys": {"2026": "x", "2027": GOOD}}
    told = weak(
        client={"token": tokens, "subscription_token": {"enabled": True, "hmac_secret_key": "x"}},
        http_api={"key": "x", "keys": {"billing": "x", "jobs": GOOD[:16]}},
        admin={"enabled": True, "password": "x", "secret": GOOD[:31]},
    )
    assert [line.partition(" ")[0] for line in told] == [
        "client.token.hmac_previous_secret_key",
        "client.token.hmac_secret_keys.2026",
        "client.subscription_token.hmac_secret_key",
        "http_api.key",
        "http_api.keys.billing",
        "admin.password",
        "admin.secret",
    ]


@pytest.mark.parametrize("section", ["client", "http_api"])
def test_the_page_for_operators_is_closed_where_others_are_open(section: str) -> None:
    told = weak(**{section: {"insecure": True}}, admin={"enabled": True, "password": "x"})
    assert [line.partition(" ")[0] for line in told] == ["admin.password"]


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"client": {"token": {"hmac_secret_key": GOOD}}, "http_api": {"key": GOOD}},
        {"client": {"subscription_token": {"hmac_secret_key": "not in use"}}},
        {"client": {"insecure": True, "token": {"hmac_secret_key": DEV_SECRET}}},  # which is told anyhow
        {"http_api": {"insecure": True, "key": "x"}},
        {"admin": {"password": "x"}},
        {"admin": {"enabled": True, "insecure": True, "password": "x"}},
        {"admin": {"enabled": True, "password": GOOD[:16], "secret": GOOD}},
    ],
)
def test_what_is_good_or_does_not_matter(sections: dict[str, Any]) -> None:
    assert weak(**sections) == []
