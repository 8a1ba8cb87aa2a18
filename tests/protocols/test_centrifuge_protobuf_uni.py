"""Clients that only listen, in Protocol Buffers: what they ask for, and what they are told."""

from typing import Any

import pytest

from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode
from gateway.messages import (
    ClientInfo,
    ConnectRequest,
    ConnectResult,
    Join,
    Payload,
    Publication,
    Push,
    SubscribeResult,
    Unsubscribe,
)
from gateway.protocols.base import Wire, WireProtocol
from gateway.protocols.centrifuge_protobuf_uni import CentrifugeProtobufUni
from tests.protocols.google import google, messages
from tests.session.rig import Rig

codec = CentrifugeProtobufUni()
as_protocol: WireProtocol = codec


def read(frame: bytes) -> Any:
    """What google's runtime reads in a frame with one push."""
    [push] = messages(frame)
    return google("Push").FromString(push)


def asked(frame: bytes) -> ConnectRequest:
    [command] = codec.decode(frame)
    assert command.id == 1
    assert isinstance(command.request, ConnectRequest)
    return command.request


def test_an_empty_request() -> None:
    assert asked(b"").token == ""


def test_a_full_request() -> None:
    frame = google("ConnectRequest")(
        token="t", data=b"\xff", name="page", subs={"room": {"recover": True, "epoch": "e", "offset": 3}}
    ).SerializeToString()
    request = asked(frame)
    assert (request.token, bytes(request.data), request.name) == ("t", b"\xff", "page")
    [sub] = request.subs.values()
    assert (sub.recover, sub.epoch, sub.offset) == (True, "e", 3)


@pytest.mark.parametrize("frame", [b"\x0a", b"\x0a\x05t", b"\x0a\x01\xff", b"{}", b"\x00"])
def test_no_request(frame: bytes) -> None:
    with pytest.raises(Disconnect) as refused:
        codec.decode(frame)
    assert refused.value.code == DisconnectCode.BAD_REQUEST


def test_connecting_is_a_push() -> None:
    """Whose fields have other numbers than those of a result."""
    subs = {"room": SubscribeResult(recoverable=True, epoch="e", offset=2), "empty": SubscribeResult()}
    result = ConnectResult("c", "1.0", True, 60, Payload(b"\xff"), subs, ping=25, session="s", node="n", time=2**41)
    assert read(codec.encode_result(1, result)) == google("Push")(
        connect={"client": "c", "version": "1.0", "expires": True, "ttl": 60, "data": b"\xff", "ping": 25}
        | {"session": "s", "node": "n", "time": 2**41}
        | {"subs": {"room": {"recoverable": True, "epoch": "e", "offset": 2}, "empty": {}}}
    )


@pytest.mark.parametrize(
    ("channel", "push", "expected"),
    [
        ("room", Publication(Payload(b"\xff"), offset=3), {"channel": "room", "pub": {"data": b"\xff", "offset": 3}}),
        ("room", Join(ClientInfo("7", "b2")), {"channel": "room", "join": {"info": {"user": "7", "client": "b2"}}}),
        ("room", Unsubscribe(2000, "gone"), {"channel": "room", "unsubscribe": {"code": 2000, "reason": "gone"}}),
        ("", Publication(Payload(b"1")), {"message": {"data": b"1"}}),
    ],
)
def test_pushes_are_bare(channel: str, push: Push, expected: dict[str, Any]) -> None:
    assert read(codec.encode_push(channel, push)) == google("Push")(**expected)


def test_the_farewell() -> None:
    told = read(codec.encode_disconnect(Disconnect(DisconnectCode.SHUTDOWN)))
    assert told == google("Push")(disconnect={"code": 3001, "reason": "shutdown"})


def test_several_in_one_frame_and_pings() -> None:
    pushes = [codec.encode_push("room", Publication(Payload(each))) for each in (b"1", b"2")]
    found = [google("Push").FromString(each) for each in messages(Wire(codec, bytes).pack([*pushes, codec.ping]))]
    assert [each.pub.data for each in found] == [b"1", b"2", b""]
    assert found[2] == google("Push")()


def test_an_error_ends_the_connection() -> None:
    with pytest.raises(Disconnect) as refused:
        codec.encode_error(1, Error(ErrorCode.TOKEN_EXPIRED))
    assert refused.value.code == DisconnectCode.EXPIRED


async def test_a_session() -> None:
    rig = await Rig.open()
    rig.wire = Wire(codec, bytes)
    client = rig.client()
    await client.session.receive(google("ConnectRequest")(subs={"news": {}}).SerializeToString())
    await rig.publish("news", 1)
    rig.node.hub.flush()
    told, push = [google("Push").FromString(each) for frame in client.transport.frames for each in messages(frame)]
    assert told.connect.subs == {"news": google("SubscribeResult")()}
    assert push == google("Push")(channel="news", pub={"data": b"1"})
