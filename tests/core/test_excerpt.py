"""Excerpts: what is shown of messages, and the secrets that are not."""

import json
from typing import Any

import pytest
from msgspec import Raw

from gateway.core.excerpt import READ, SHOWN, excerpt
from gateway.messages import (
    ClientInfo,
    ConnectRequest,
    ConnectResult,
    HistoryRequest,
    Payload,
    Position,
    PresenceResult,
    SubscribeRequest,
)

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"


def payload(value: Any) -> Payload:
    return Payload(json.dumps(value).encode())


NAMES = ["secret", "client_secret", "Password", "apiKey", "key", "token", "access_token", "refreshToken"]


@pytest.mark.parametrize("name", [*NAMES, "Authorization", "X-Auth", "cookie", "sessionId", "pass", "passwd"])
def test_names_of_secrets_at_any_depth(name: str) -> None:
    shown = excerpt(payload({"a": [{"b": {name: {"deep": "hidden"}, "c": 1}}]}))
    assert json.loads(shown) == {"a": [{"b": {name: "***", "c": 1}}]}


@pytest.mark.parametrize("name", ["author", "text", "compass_north", "public_key"])
def test_names_of_what_is_none(name: str) -> None:
    assert json.loads(excerpt(payload({name: "shown"}))) == {name: "shown"}


def test_a_secret_in_json_that_is_written_into_a_string() -> None:
    inner = json.dumps({"password": "hidden", "c": json.dumps({"token": "hidden"})})
    shown = json.loads(excerpt(payload({"body": inner})))
    assert json.loads(shown["body"]) == {"password": "***", "c": json.dumps({"token": "***"}, separators=(",", ":"))}


def test_what_looks_like_json_with_a_secret_and_cannot_be_read_is_not_shown() -> None:
    assert excerpt(payload({"body": '{"password": "hidden'})) == '{"body":"***"}'
    assert excerpt(payload({"body": "{ is a brace"})) == '{"body":"{ is a brace"}'


def test_a_jwt_is_a_token_wherever_it_stands() -> None:
    assert excerpt(payload([JWT, f"Bearer {JWT}", JWT[:30]])) == '["***","Bearer ***","***"]'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Bearer bWFkZSB1cA==", "Bearer ***"),
        ("curl -H 'Authorization: bearer 2YotnFZFEjr1zCsicMWpAA' x", "curl -H 'Authorization: bearer ***' x"),
        ("see postgres://bob:hunter2@db/app, ann@example.org", "see postgres://***@db/app, ann@example.org"),
        ("redis://:hunter2@10.0.0.1:6379", "redis://***@10.0.0.1:6379"),
        ("https://example.org:8000/@ann", "https://example.org:8000/@ann"),
        ("the bearer of this", "the bearer of this"),
    ],
)
def test_other_tokens_and_passwords_in_a_string(text: str, shown: str) -> None:
    assert json.loads(excerpt(payload([text]))) == [shown]


def test_it_is_masked_before_it_is_cut() -> None:
    for length in range(SHOWN - 60, SHOWN):
        shown = excerpt(payload({"a": "x" * length, "password": "hidden"}))
        assert len(shown.encode()) <= SHOWN
        assert not any(part in shown for part in ("hid", '"h'))


def test_characters_stay_whole() -> None:
    shown = excerpt(payload("ä" * SHOWN)[:-1] + b'"')
    assert "\N{REPLACEMENT CHARACTER}" not in shown
    assert excerpt(Payload(b'["' + "ä".encode() * SHOWN + b'"]')).endswith("ä…")


@pytest.mark.parametrize(
    "data",
    [b"hello", b"\xff\xfe", b'{"password":"hidden"', b"[" * 1000 + b"]" * 1000, b"[" * 700 + b"]" * 700, b"1e999"],
)
def test_of_what_is_no_json_the_size_is_told(data: bytes) -> None:
    assert excerpt(Payload(data)) == f'"{len(data)} bytes, not JSON"'


def test_of_what_is_large_the_size_is_told() -> None:
    data = payload({"password": "hidden", "a": "x" * READ})
    assert excerpt(data) == f'"{len(data)} bytes"'
    assert excerpt(ConnectRequest(name="x" * (READ + 1))) == f'{{"name":"{READ + 1} characters"}}'


def test_nothing() -> None:
    assert excerpt(None) == excerpt(Payload()) == excerpt(Raw()) == ""


def test_tokens_of_commands_and_what_answers_them() -> None:
    request = ConnectRequest(
        token=JWT,
        data=Raw(b'{"room":1,"secret":"hidden"}'),
        subs={"a": SubscribeRequest(token="hidden", recover=True, offset=5)},
        headers={"Authorization": "hidden", "x": "y"},
    )
    assert json.loads(excerpt(request)) == {
        "token": "***",
        "data": {"room": 1, "secret": "***"},
        "subs": {"a": {"token": "***", "recover": True, "offset": 5}},
        "headers": {"Authorization": "***", "x": "y"},
    }
    assert "hidden" not in excerpt(ConnectResult("c1", "1", session="hidden"))


def test_a_message_shows_what_it_says() -> None:
    request = HistoryRequest("room", since=Position(3, "e"))
    assert json.loads(excerpt(request)) == {"channel": "room", "since": {"offset": 3, "epoch": "e"}}


def test_of_a_long_list_some_is_shown() -> None:
    shown = excerpt(PresenceResult({f"c{n}": ClientInfo("u", "c") for n in range(10_000)}))
    assert '"c9"' in shown
    assert '"c10"' not in shown
    assert "9990" in shown


def test_what_cannot_be_shown_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    assert excerpt({"half": "\ud83d"}) == excerpt(object()) == ""
    assert "an excerpt could not be made" in caplog.text
