"""What handlers raise, and what the client gets."""

from datetime import date
from http import HTTPStatus
from typing import Any

import pytest
from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from starlette.exceptions import WebSocketException

from gateway import Disconnect, DisconnectCode, Error, ErrorCode, Gateway
from gateway.program.routes.answers import invalid, translate
from tests.program.routes.clients import connected, gateway_with, running

KNOWN = {400: 107, 401: 101, 403: 103, 404: 102, 422: 107, 429: 111}


@pytest.mark.parametrize("status", [each.value for each in HTTPStatus if each >= 400])
def test_http_statuses(status: int) -> None:
    error = translate(HTTPException(status, "in words"))
    assert isinstance(error, Error)
    assert error.message == "in words"
    assert error.code == (100 if status >= 500 else KNOWN.get(status, status))
    assert error.temporary == (status >= 500 or status == 429)


@pytest.mark.parametrize(
    ("detail", "message"),
    [
        ({"code": "taken", "field": "größe"}, '{"code": "taken", "field": "größe"}'),
        ([1, None], "[1, null]"),
        ({"at": date(2024, 2, 29)}, '{"at": "2024-02-29"}'),
    ],
)
def test_details_that_are_no_text_become_json(detail: Any, message: str) -> None:
    error = translate(HTTPException(409, detail))
    assert isinstance(error, Error)
    assert (error.code, error.message) == (409, message)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (1008, 3507),
        (1003, 3501),
        (1007, 3501),
        (1000, 3004),
        (1011, 3004),
        (2999, 3004),
        (3000, 3000),
        (4999, 4999),
        (5000, 3004),
    ],
)
def test_websocket_codes(code: int, expected: int) -> None:
    reason = translate(WebSocketException(code, "in words"))
    assert isinstance(reason, Disconnect)
    assert (reason.code, reason.reason) == (expected, "in words")


def test_websocket_codes_without_words() -> None:
    reason = translate(WebSocketException(1008))
    assert isinstance(reason, Disconnect)
    assert reason.reason == "permission denied"


@pytest.mark.parametrize("kind", [RequestValidationError, WebSocketRequestValidationError])
def test_what_does_not_validate(kind: Any) -> None:
    error = translate(
        kind([{"loc": ("body", "a", 0), "msg": "is wrong", "input": "secret"}, {"loc": (), "msg": "too"}])
    )
    assert isinstance(error, Error)
    assert (error.code, error.message) == (107, "bad request: a.0: is wrong; too")


def test_long_messages_are_cut() -> None:
    assert len(invalid([{"loc": ("body",), "msg": "x" * 1000}]).message) == 500


def test_a_disconnect_that_can_be_said_is_said() -> None:
    translated = translate(Disconnect(4000, "lunch"))
    assert isinstance(translated, Disconnect)
    assert (translated.code, translated.reason) == (4000, "lunch")


@pytest.mark.parametrize("failure", [ValueError("x"), Error(418, "tea")])
def test_the_rest_stays_as_it_is(failure: Exception) -> None:
    assert translate(failure) is failure


@pytest.fixture
def gateway() -> Gateway:
    return gateway_with()


async def test_errors_answer_and_the_connection_lives_on(gateway: Gateway) -> None:
    room = gateway.channel("chat:{code:int}", presence=True, history_size=10, publish="anyone", read="anyone")
    raised: dict[str, Any] = {"error": Error(418, "tea", temporary=True)}

    @room.on_subscribe
    @room.on_publish
    @room.on_presence
    @room.on_history
    async def refuse(code: int) -> None:
        raise raised["error"]

    commands = ("subscribe", "publish", "presence", "presence_stats", "history")
    async with connected(gateway) as client:
        for kind in commands:
            body = {"data": 1} if kind == "publish" else {}
            reply = await client.ask(kind, channel="chat:1", **body)
            assert reply["error"] == {"code": 418, "message": "tea", "temporary": True}
        raised["error"] = HTTPException(404, "no such room")
        for kind in commands:
            body = {"data": 1} if kind == "publish" else {}
            assert await client.error(kind, channel="chat:1", **body) == (102, "no such room")
        assert gateway.node.hub.channels == {}


@pytest.mark.parametrize("kind", ["connect", "rpc", "subscribe"])
async def test_disconnects_close(gateway: Gateway, kind: str) -> None:
    async def throw_out() -> None:
        raise Disconnect(4001, "out") if kind != "subscribe" else WebSocketException(1008, "policy")

    if kind == "connect":
        gateway.on_connect(throw_out)
    gateway.rpc("it")(throw_out)
    gateway.channel("it").on_subscribe(throw_out)
    async with running(gateway) as opened:
        client = opened()
        if kind != "connect":
            await client.connect()
        body = {"connect": {}, "rpc": {"method": "it"}, "subscribe": {"channel": "it"}}[kind]
        expected = (3507, "policy") if kind == "subscribe" else (4001, "out")
        assert await client.disconnected(kind, **body) == expected


@pytest.mark.parametrize("code", [5, 1005, 5000])
async def test_a_code_that_no_close_frame_can_carry(gateway: Gateway, code: int) -> None:
    @gateway.rpc("it")
    async def throw_out() -> None:
        raise Disconnect(code, "x")

    async with connected(gateway) as client:
        assert await client.disconnected("rpc", method="it") == (3004, "x")


async def test_a_reason_that_no_close_frame_can_carry_is_cut(gateway: Gateway) -> None:
    @gateway.rpc("it")
    async def throw_out() -> None:
        raise Disconnect(4000, "ü" * 100)

    async with connected(gateway) as client:
        code, reason = await client.disconnected("rpc", method="it")
        assert code == 4000
        assert len(reason.encode()) <= 123
        assert "ü" * 100 > reason > "ü" * 50


async def test_a_refused_connect_can_be_tried_again(gateway: Gateway) -> None:
    refusals = [HTTPException(503, "not yet")]

    @gateway.on_connect
    async def connect() -> str:
        if refusals:
            raise refusals.pop()
        return "alice"

    async with running(gateway) as opened:
        client = opened()
        reply = await client.ask("connect")
        assert reply["error"] == {"code": ErrorCode.INTERNAL, "message": "not yet", "temporary": True}
        other = opened()
        await other.connect()
        assert other.session.user == "alice"
        assert await client.disconnected("connect") == (DisconnectCode.BAD_REQUEST, "bad request")
