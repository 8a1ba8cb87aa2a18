"""Patterns of origins that none can match, or too many do."""

from fnmatch import fnmatchcase

import pytest

from gateway.config.contradictions import find_warnings
from gateway.config.origins import problem_of_origin
from gateway.config.settings import Settings


@pytest.mark.parametrize(
    ("pattern", "right"),
    [
        ("https://a.com/", "https://a.com"),
        ("https://a.com/chat", "https://a.com"),
        ("https://a.com?x", "https://a.com"),
        ("a.com", "https://a.com"),
        ("localhost:3000", "https://localhost:3000"),
        (" https://a.com", "https://a.com"),
        ('"https://a.com"', "https://a.com"),
        ("https://a.com:443", "https://a.com"),
        ("http://a.com:80", "http://a.com"),
        ("https://u@a.com", "https://a.com"),
        ("https://bücher.de", "https://xn--bcher-kva.de"),
        ("https://*.bücher.de:8443/x", "https://*.xn--bcher-kva.de:8443"),
        ("http://[::1]:3000", "http://[[]::1]:3000"),
    ],
)
def test_what_matches_nothing_is_told_with_what_would(pattern: str, right: str) -> None:
    told = problem_of_origin(pattern)
    assert told.startswith("can match no origin; write it ")
    assert told.endswith(f': "{right}"')
    assert not problem_of_origin(right)
    origin = right.replace("*", "x").replace("[[]", "[")
    assert fnmatchcase(origin, right)
    assert not fnmatchcase(origin, pattern)


def test_a_name_that_cannot_be_written_is_told_all_the_same() -> None:
    assert '"https://xn--..."' in problem_of_origin(f"https://{'ü' * 80}.de")


@pytest.mark.parametrize(
    ("pattern", "stranger"),
    [
        ("https://a.com*", "https://a.com.attacker.example"),
        ("https://*a.com", "https://attacker-a.com"),
    ],
)
def test_what_matches_strangers_is_told(pattern: str, stranger: str) -> None:
    assert f'matches "{stranger}", too' in problem_of_origin(pattern)
    assert fnmatchcase(stranger, pattern)


def test_null_is_nobodys_origin_and_nothing_is_none() -> None:
    assert "sandboxed" in problem_of_origin("null")
    assert "matches no origin" in problem_of_origin("")


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "https://a.com",
        "https://A.com",  # origins are compared in lower case
        "https://a.com:8443",
        "https://*.a.com",
        "*.a.com",
        "http://localhost:*",
        "http://*",
        "https://[ab].com",
        "capacitor://localhost",
        "app://.",
    ],
)
def test_what_is_right_is_left_alone(pattern: str) -> None:
    assert problem_of_origin(pattern) == ""


def test_they_are_warnings() -> None:
    settings = Settings.model_validate(
        {"client": {"allowed_origins": ["https://a.com/"], "allow_anonymous_connect_without_token": True}}
    )
    assert list(find_warnings(settings)) == [
        'client.allowed_origins: "https://a.com/" can match no origin; write it without a path: "https://a.com"'
    ]
