"""Clients that only listen: what they ask for, what they are told, and how a session serves them."""

import json
from typing import Any

import pytest

from gateway.core.cluster import DisconnectUser
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode
from gateway.messages import (
    ClientInfo,
    Command,
    ConnectRequest,
    ConnectResult,
    Join,
    Payload,
    Publication,
    Push,
    Refresh,
    SubscribeRequest,
    SubscribeResult,
    Unsubscribe,
)
from gateway.protocols.base import Wire, WireProtocol
from gateway.protocols.centrifuge_json_uni import CentrifugeJsonUni
from tests.session.rig import NOW, Client, Rig

codec = CentrifugeJsonUni()
as_protocol: WireProtocol = codec


def asked(frame: bytes) -> ConnectRequest:
    [command] = codec.decode(frame)
    assert isinstance(command.request, ConnectRequest)
    return command.request


# — the connect request —


@pytest.mark.parametrize("frame", [b"", b"null", b"{}", b' {\n"unknown": 1}\n'])
def test_an_empty_request(frame: bytes) -> None:
    assert codec.decode(frame) == [Command(1, ConnectRequest())]


def test_a_full_request() -> None:
    frame = b'{"token":"t","data":{"a":\n1},"name":"page","subs":{"room":{"recover":true,"epoch":"e","offset":3}}}'
    request = asked(frame)
    assert (request.token, bytes(request.data), request.name) == ("t", b'{"a":\n1}', "page")
    assert request.subs == {"room": SubscribeRequest(recover=True, epoch="e", offset=3)}


def test_half_a_character_is_forgiven() -> None:
    assert asked(rb'{"name":"\ud83d"}').name == "\ufffd"


@pytest.mark.parametrize(
    "frame",
    [b"{", b"[]", b"1", b'{"token":5}', b'{"token":"\xff"}', b"{}\n{}", b"[" * 100_000, b'{"subs":{"a":[]}}'],
)
def test_what_is_no_request(frame: bytes) -> None:
    with pytest.raises(Disconnect) as refused:
        codec.decode(frame)
    assert refused.value.code == 3501


# — what clients are told —


def test_the_connect_push() -> None:
    result = ConnectResult("f1", "1.0.0", subs={"#7": SubscribeResult()}, ping=25, session="77")
    assert codec.encode_result(1, result) == (
        b'{"connect":{"client":"f1","version":"1.0.0","subs":{"#7":{}},"ping":25,"session":"77"}}'
    )


def test_the_connect_push_with_what_was_missed() -> None:
    missed = SubscribeResult(recovered=True, publications=[Publication(Payload(b'{\n"n":1}'), offset=4)])
    told = json.loads(codec.encode_result(1, ConnectResult("f1", "1", subs={"room": missed})))
    assert told["connect"]["subs"]["room"] == {"recovered": True, "publications": [{"data": {"n": 1}, "offset": 4}]}


@pytest.mark.parametrize(
    ("channel", "push", "told"),
    [
        ("#7", Publication(Payload(b'{"hello":\ntrue}')), b'{"channel":"#7","pub":{"data":{"hello":true}}}'),
        ("a", Join(ClientInfo("7", "b2")), b'{"channel":"a","join":{"info":{"user":"7","client":"b2"}}}'),
        ("a", Unsubscribe(2000, "out"), b'{"channel":"a","unsubscribe":{"code":2000,"reason":"out"}}'),
        ("", Refresh(True, 60), b'{"refresh":{"expires":true,"ttl":60}}'),
    ],
)
def test_pushes_are_bare(channel: str, push: Push, told: bytes) -> None:
    assert codec.encode_push(channel, push) == told


def test_binary_data_cannot_be_told() -> None:
    with pytest.raises(Disconnect) as refused:
        codec.encode_push("a", Publication(Payload(b"\0"), binary=True))
    assert refused.value.code == 3506


def test_the_last_push() -> None:
    assert codec.encode_disconnect(Disconnect(DisconnectCode.SHUTDOWN)) == (
        b'{"disconnect":{"code":3001,"reason":"shutdown"}}'
    )
    assert json.loads(codec.encode_disconnect(Disconnect(4001, 'a "b"\n'))) == {
        "disconnect": {"code": 4001, "reason": 'a "b"\n'}
    }


def test_messages_are_lines() -> None:
    assert Wire(codec, bytes).pack([b"{}", b"[]"]) == b"{}\n[]"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Error(ErrorCode.TOKEN_EXPIRED), 3005),
        (Error(ErrorCode.EXPIRED), 3005),
        (Error(ErrorCode.TOO_MANY_REQUESTS), 3013),
        (Error(ErrorCode.PERMISSION_DENIED), 3507),
        (Error(ErrorCode.UNKNOWN_CHANNEL), 3004),
        (Error(403, "not a member"), 3004),
    ],
)
def test_an_error_ends_the_connection(error: Error, code: int) -> None:
    with pytest.raises(Disconnect) as refused:
        codec.encode_error(1, error)
    assert refused.value.code == code


# — the session —


async def open_rig(**client: Any) -> Rig:
    rig = await Rig.open(**client)
    rig.wire = Wire(codec, bytes)
    return rig


async def listening(rig: Rig, **request: Any) -> tuple[Client, dict[str, Any]]:
    """A connected client, and its connect push."""
    client = rig.client()
    await client.say(request)
    [told] = client.take()
    return client, told["connect"]


async def test_connecting_brings_the_channels_asked_for() -> None:
    rig = await open_rig()
    client, told = await listening(rig, subs={"news": {}})
    assert told["subs"] == {"news": {}}
    assert "pong" not in told
    await rig.publish("news", 1)
    assert client.take() == [{"channel": "news", "pub": {"data": 1}}]
    await client.leave()
    await rig.assert_empty()


async def test_pings_want_no_answer() -> None:
    rig = await open_rig(ping_interval=25, pong_timeout=8)
    client, told = await listening(rig)
    assert told["ping"] == 25
    rig.pass_time(100)
    assert client.take() in ([{}] * 4, [{}] * 5)  # the first comes after half an interval to a whole one
    assert client.closed is None


async def test_a_session_of_its_own_by_which_the_api_reaches_it() -> None:
    rig = await open_rig()
    (first, told), (second, other) = await listening(rig), await listening(rig)
    assert len({told["session"], other["session"], told["client"], other["client"]}) == 4
    rig.control(DisconnectUser(user="", session=told["session"], code=4001, reason="lunch"))
    assert (first.closed, second.closed) == ((4001, "lunch"), None)


async def test_a_session_that_is_nobodys() -> None:
    rig = await open_rig()
    client, _ = await listening(rig)
    rig.control(DisconnectUser(user="", session="another", code=4001, reason="lunch"))
    assert client.closed is None


async def test_those_who_may_not_connect_are_closed() -> None:
    rig = await open_rig(allow_anonymous_connect_without_token=False)
    refused: list[tuple[dict[str, Any], int]] = [
        ({}, 3501),
        ({"token": "forged"}, 3500),
        ({"token": rig.token(ttl=-10)}, 3005),
        ({"token": rig.token(), "subs": {"nowhere:x": {}}}, 3501),
    ]
    for request, code in refused:
        client = rig.client()
        await client.say(request)
        assert client.closed is not None
        assert client.closed[0] == code
        assert client.take() == []
    await rig.assert_empty()


async def test_an_expiry_that_only_the_server_can_move() -> None:
    rig = await open_rig(expired_close_delay=25)
    client, told = await listening(rig, token=rig.token(ttl=60))
    assert (told["expires"], told["ttl"]) == (True, 60)
    rig.pass_time(86)
    assert client.closed == (3005, "connection expired")
    assert rig.clock() == NOW + 86
