"""Passwords, the tokens for them, and those who guess."""

from collections.abc import Callable

import msgspec
import pytest

from gateway.admin.login import AUDIENCE, LIFETIME, ROOM, Login
from gateway.auth.keys import sign
from gateway.auth.tokens import TokenRefused, TokenVerifier, sign_connection
from gateway.config.settings import AdminSettings, ClientSettings, TokenSettings
from tests.admin.ground import PASSWORD

NOW = 1_800_000_000.0


class Time:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def login(clock: Callable[[], float] = lambda: NOW, **settings: object) -> Login:
    found = AdminSettings.model_validate({"enabled": True, "password": PASSWORD, **settings})
    return Login(lambda: found, clock, clock)


def header(token: str) -> str:
    return f"Bearer {token}"


def test_the_right_password_opens() -> None:
    door = login()
    token = door.open(PASSWORD, "")
    assert door.admits(header(token))
    assert door.admits(f"bearer  {token}")
    for other in ("", token, f"Basic {token}", header(""), header(token[:-2]), header("x.y.z"), header("\N{SNOWMAN}")):
        assert not door.admits(other), other


@pytest.mark.parametrize("password", ["", "x", PASSWORD + " ", PASSWORD.upper(), "\N{SNOWMAN}", "\ud800"])
def test_no_other_password_does(password: str) -> None:
    assert login().open(password, "") == ""


def test_without_a_password_nothing_opens() -> None:
    door = login(password="")
    assert door.open("", "") == ""
    assert not door.admits(header(sign(msgspec.json.encode({"aud": AUDIENCE, "exp": NOW + 9}), door._ring()[0])))


def test_a_token_is_good_wherever_password_and_secret_are_the_same() -> None:
    token = header(login(secret="s" * 32).open(PASSWORD, ""))
    assert login(secret="s" * 32).admits(token)
    assert not login().admits(token)
    assert not login(secret="t" * 32).admits(token)
    assert not login(secret="s" * 32, password="another").admits(token)


def test_a_token_ends() -> None:
    time = Time()
    door = login(time)
    token = header(door.open(PASSWORD, ""))
    time.now += LIFETIME - 1
    assert door.admits(token)
    time.now += 1
    assert not door.admits(token)


def test_another_password_ends_tokens_at_once() -> None:
    found = [AdminSettings(enabled=True, password=PASSWORD)]
    door = Login(lambda: found[-1], lambda: NOW, lambda: NOW)
    token = header(door.open(PASSWORD, ""))
    found.append(AdminSettings(enabled=True, password="another"))
    assert not door.admits(token)
    assert door.open(PASSWORD, "") == ""
    assert door.admits(header(door.open("another", "")))


def test_nobody_is_asked_where_it_is_insecure() -> None:
    assert login(insecure=True, password="").admits("")


@pytest.mark.parametrize("secret", ["", PASSWORD])
def test_a_clients_token_is_none_for_operators_and_the_other_way_round(secret: str) -> None:
    """Even where one secret is used for all."""
    door = login(secret=secret)
    assert not door.admits(header(sign_connection(PASSWORD, "bob", aud=AUDIENCE, ttl=60, now=NOW)))
    verifier = TokenVerifier(ClientSettings(token=TokenSettings(hmac_secret_key=PASSWORD)), lambda: NOW)
    with pytest.raises(TokenRefused, match="signed"):
        verifier.connection(door.open(PASSWORD, ""))


@pytest.mark.parametrize("claims", [{"aud": "x", "exp": NOW + 9}, {"aud": AUDIENCE}, {"exp": NOW + 9}, [], "text"])
def test_a_token_for_anything_else_is_none(claims: object) -> None:
    door = login()
    key, _ = door._ring()
    assert door.admits(header(sign(msgspec.json.encode({"aud": AUDIENCE, "exp": NOW + 9}), key)))
    assert not door.admits(header(sign(msgspec.json.encode(claims), key)))


# — those who guess —


def test_who_guesses_has_to_wait() -> None:
    time = Time()
    door = login(time)
    for _ in range(5):
        assert door.wait("192.0.2.1") == 0
        door.open("wrong", "192.0.2.1")
    assert door.wait("192.0.2.1") == 12
    assert door.wait("192.0.2.2") == 0
    time.now += 12
    assert door.wait("192.0.2.1") == 0
    time.now += 60
    for _ in range(5):
        assert door.wait("192.0.2.1") == 0
        door.open("wrong", "192.0.2.1")
    assert door.wait("192.0.2.1") == 12


def test_the_right_password_costs_nothing() -> None:
    door = login()
    for _ in range(9):
        door.open(PASSWORD, "192.0.2.1")
    assert door.wait("192.0.2.1") == 0


def test_a_network_of_ipv6_is_one_address() -> None:
    door = login()
    for number in range(5):
        door.open("wrong", f"2001:db8::{number}")
    assert door.wait("2001:db8::ffff") == 12
    assert door.wait("2001:db8:0:1::1") == 0


def test_those_who_guess_are_not_kept_for_ever() -> None:
    door = login()
    for number in range(3 * ROOM):
        door.open("wrong", f"10.0.{number >> 8}.{number & 255}")
    assert len(door._wrong) <= 2 * ROOM
