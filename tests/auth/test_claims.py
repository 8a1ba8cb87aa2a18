"""Claims as issuers write them, and what is read without a look at who has signed."""

from typing import Any

import jwt
import msgspec
import pytest
from msgspec import Raw

from gateway.auth.claims import MAX_TOKEN_LENGTH, claimed_user, has_passed, header, seconds, user_id

NOW = 1_800_000_000


def token(**claims: Any) -> str:
    return jwt.PyJWS().encode(msgspec.json.encode(claims), "a secret of more than thirty-two bytes", "HS256")


@pytest.mark.parametrize(("written", "meant"), [(None, None), (7, 7), (7.5, 7.5), ("7", 7), ("7.5", 7.5), ("4e9", 4e9)])
def test_moments(written: Any, meant: float | None) -> None:
    assert seconds(written) == meant


@pytest.mark.parametrize("written", ["", "soon", "0x1", "nan", "1e999", "٧"])
def test_what_is_no_moment(written: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        seconds(written)


@pytest.mark.parametrize("written", [b"true", b"[]", b"{}", b"1e999", b"7,"])
def test_what_is_no_user_id(written: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        user_id(Raw(written))


@pytest.mark.parametrize(
    ("exp", "passed"),
    [
        (NOW, True),
        (NOW + 1, False),
        (str(NOW), True),
        (str(NOW + 1), False),
        ("soon", False),
        (None, False),
        ([], False),
    ],
)
def test_whether_a_token_has_had_its_time(exp: Any, passed: bool) -> None:
    assert has_passed(token(exp=exp), NOW) == passed


@pytest.mark.parametrize("text", ["", "x.y.z", "no token", "ä.ä.ä"])
def test_what_is_no_token_has_had_no_time_and_names_nobody(text: str) -> None:
    assert (has_passed(text, NOW), claimed_user(text), header(text)) == (False, "", "")


def test_long_ones_are_not_looked_at() -> None:
    assert not has_passed(token(exp=1, info="x" * MAX_TOKEN_LENGTH), NOW)


def test_whom_a_token_names() -> None:
    assert claimed_user(token(sub="ann")) == "ann"
    assert claimed_user(token(sub=None)) == claimed_user(token()) == ""
    assert claimed_user(token(sub="ann", uid=7), "uid") == "7"


def test_what_a_token_says_of_its_signature() -> None:
    assert header(jwt.encode({}, "a secret of more than thirty-two bytes", headers={"kid": "k\n"})) == (
        "alg is 'HS256', kid is 'k\\n'"
    )
