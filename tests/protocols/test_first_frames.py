"""What clients say before they are let in: reading it takes little time, whatever it is."""

import json
from typing import Any

import pytest

from gateway.errors import Disconnect, DisconnectCode
from gateway.messages import ConnectRequest, SubscribeRequest
from gateway.protocols.base import FIELDS_AT_FIRST, WireProtocol
from gateway.protocols.centrifuge_fields import CONNECT_REQUEST, SUBSCRIBE_REQUEST
from gateway.protocols.centrifuge_json import CentrifugeJson
from gateway.protocols.centrifuge_json_uni import CentrifugeJsonUni
from gateway.protocols.centrifuge_protobuf import CentrifugeProtobuf
from gateway.protocols.centrifuge_protobuf_uni import CentrifugeProtobufUni
from gateway.protocols.protobuf import LEN, delimited, varint

LARGEST = 65536


def filled(item: bytes, between: bytes = b",") -> bytes:
    """As many of them as fit in a first frame."""
    return between.join([item] * ((LARGEST - 100) // len(item + between)))


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | LEN) + delimited(content)


def command(number: int, request: bytes) -> bytes:
    return delimited(b"\x08\x01" + field(number, request))


def within(levels: int) -> bytes:
    """A condition in so many others."""
    node = b""
    for _ in range(levels):
        node = field(6, node)
    return node


def subscribe(nodes: bytes, more: bytes = b"") -> bytes:
    return b'{"id":1,"subscribe":{"channel":"a","tf":{%b"nodes":[%b]}}}' % (more, nodes)


JSON = {
    "conditions": subscribe(filled(b"{}")),
    "conditions, and a null": subscribe(filled(b'{"nodes":[{}]}'), b'"key":null,'),
    "conditions that are null": subscribe(filled(b"null")),
    "subscriptions": b'{"id":1,"connect":{"subs":{%b}}}' % filled(b'"":{}'),
    "subscriptions that are null": b'{"id":1,"connect":{"subs":{%b}}}'
    % b",".join(b'"%d":null' % each for each in range(5000)),
    "keys": b'{"id":1,"sub_refresh":{"track":[%b]}}' % filled(b'{"items":[{}]}'),
    "pongs": filled(b"{}", b"\n"),
    "commands with null": filled(b'{"id":1,"subscribe":{"token":null}}', b"\n"),
    "commands, the last with null": filled(b'{"id":1,"connect":{}}', b"\n") + b'\n{"id":1,"connect":{"token":null}}',
    "escapes, and a null": b'{"id":1,"connect":{"token":null,"name":"%b"}}' % filled(b"\\n", b""),
}
PROTOBUF = {
    "conditions": command(5, field(13, filled(field(6, b""), b""))),
    "conditions in conditions": command(5, field(13, filled(within(98), b""))),
    "subscriptions": command(4, filled(field(3, b""), b"")),
    "the same message": delimited(b"\x08\x01" + filled(field(4, b""), b"")),
    "headers": command(4, filled(field(6, b""), b"")),
    "keys": command(15, filled(field(4, field(2, b"")), b"")),
    "texts": command(5, field(13, filled(field(5, b""), b""))),
    "fields that are not known": delimited(b"\x08\x01" + filled(b"\xf8\x01\x00", b"")),
    "groups": delimited(b"\x08\x01" + filled(b"\xfb\x01" * 98 + b"\xfc\x01" * 98, b"")),
    "pongs": filled(b"\x00", b""),
    "commands": filled(command(11, b""), b""),
}


def assert_refused(protocol: WireProtocol, frame: bytes) -> None:
    with pytest.raises(Disconnect) as refused:
        protocol.decode(frame, admitted=False)
    assert (refused.value.code, refused.value.reason) == (DisconnectCode.BAD_REQUEST, "bad request")


@pytest.mark.parametrize("frame", JSON.values(), ids=JSON)
def test_more_things_than_a_connect_request_has(frame: bytes) -> None:
    assert_refused(CentrifugeJson(), frame)
    assert CentrifugeJson().decode(frame), "of those who have been let in it may be read"


@pytest.mark.parametrize("frame", PROTOBUF.values(), ids=PROTOBUF)
def test_more_fields_than_a_connect_request_has(frame: bytes) -> None:
    assert_refused(CentrifugeProtobuf(), frame)
    if frame not in (PROTOBUF["fields that are not known"], PROTOBUF["groups"]):  # which are no command
        assert CentrifugeProtobuf().decode(frame)


def test_who_only_listens_is_held_to_it_always() -> None:
    with pytest.raises(Disconnect):
        CentrifugeProtobufUni().decode(filled(field(3, b""), b""))
    with pytest.raises(Disconnect):
        CentrifugeJsonUni().decode(b'{"subs":{%b}}' % filled(b'"":{}'))


def test_a_connect_request_may_recover_many_subscriptions() -> None:
    positions: dict[str, Any] = {
        f"room:{number}": {"recover": True, "offset": 7, "epoch": "e"} for number in range(1100)
    }
    subs = {name: SubscribeRequest(**position) for name, position in positions.items()}
    request = ConnectRequest(token="t" * 300, subs=subs)
    text = json.dumps({"id": 1, "connect": {"token": request.token, "subs": positions}}).encode()
    assert CentrifugeJson().decode(text, admitted=False)[0].request == request
    binary = CONNECT_REQUEST.write(request)
    assert CentrifugeProtobuf().decode(command(4, binary), admitted=False)[0].request == request
    assert CentrifugeProtobufUni().decode(binary)[0].request == request


@pytest.mark.parametrize("token", ["", None], ids=["read as it is", "mended"])
def test_what_a_payload_holds_takes_no_time_to_be_read(token: str | None) -> None:
    rows = [{"id": 1, "v": None}] * 2500
    sub = {"channel": "a", "data": {"text": "null {" * 1000, "rows": rows}}
    frame = json.dumps({"id": 1, "connect": {"token": token, "data": rows}}).encode()
    [read] = CentrifugeJson().decode(frame, admitted=False)
    assert isinstance(read.request, ConnectRequest)
    assert json.loads(bytes(read.request.data)) == rows
    [read] = CentrifugeJson().decode(
        json.dumps({"id": 1, "subscribe": {**sub, "token": token}}).encode(), admitted=False
    )
    assert isinstance(read.request, SubscribeRequest)
    assert json.loads(bytes(read.request.data)) == sub["data"]
    frame = json.dumps({"token": token, "data": rows}).encode()
    assert len(bytes(CentrifugeJsonUni().decode(frame)[0].request.data)) > 2500  # type: ignore[union-attr]


def test_many_commands_may_come_with_connect() -> None:
    """Subscriptions that an SDK asks for at once, without waiting for the answer."""
    connect = ConnectRequest(token="t" * 300)
    subscribes = [SubscribeRequest(channel=f"feed:{each}", recover=True, offset=9, epoch="e") for each in range(1000)]
    frame = command(4, CONNECT_REQUEST.write(connect)) + b"".join(
        command(5, SUBSCRIBE_REQUEST.write(each)) for each in subscribes
    )
    assert [each.request for each in CentrifugeProtobuf().decode(frame, admitted=False)] == [connect, *subscribes]


def test_nulls_of_a_usual_number_of_subscriptions() -> None:
    blank = {"token": None, "epoch": None, "offset": None, "tf": None, "delta": None, "recover": None, "cursor": None}
    frame = json.dumps({"id": 1, "connect": {"token": None, "subs": {str(number): blank for number in range(128)}}})
    [read] = CentrifugeJson().decode(frame.encode(), admitted=False)
    assert read.request == ConnectRequest(subs={str(number): SubscribeRequest() for number in range(128)})


def test_the_last_field_that_may_be_is_read() -> None:
    protocol = CentrifugeProtobuf()
    pongs = b"\x00" * FIELDS_AT_FIRST
    assert len(protocol.decode(pongs, admitted=False)) == FIELDS_AT_FIRST
    assert_refused(protocol, pongs + b"\x00")
