"""The Centrifuge protocol in Protocol Buffers, by the bytes that others send and expect."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode
from gateway.messages import (
    ClientInfo,
    Command,
    ConnectRequest,
    ConnectResult,
    HistoryResult,
    Join,
    Leave,
    Payload,
    PingRequest,
    Pong,
    PresenceRequest,
    PresenceResult,
    PresenceStatsResult,
    Publication,
    PublishRequest,
    PublishResult,
    Push,
    Quoted,
    Refresh,
    RefreshResult,
    Result,
    RPCRequest,
    RPCResult,
    SendRequest,
    SubRefreshResult,
    Subscribe,
    SubscribeRequest,
    SubscribeResult,
    Unsubscribe,
    UnsubscribeResult,
)
from gateway.protocols.base import Wire, WireProtocol
from gateway.protocols.centrifuge_fields import PUBLICATION, SUBSCRIBE_RESULT
from gateway.protocols.centrifuge_protobuf import CentrifugeProtobuf
from gateway.protocols.protobuf import delimited, varint
from tests.protocols.google import google, messages
from tests.protocols.test_centrifuge_json import fields

codec = CentrifugeProtobuf()
as_protocol: WireProtocol = codec

ANN = ClientInfo("7", "b2", Payload(b'{"name":"Ann"}'))


def decode_one(frame: str) -> Command:
    [command] = codec.decode(bytes.fromhex(frame))
    return command


def assert_refused(frame: bytes) -> None:
    with pytest.raises(Disconnect) as caught:
        codec.decode(frame)
    assert (caught.value.code, caught.value.reason) == (DisconnectCode.BAD_REQUEST, "bad request")


def read(frame: bytes) -> Any:
    """What google's runtime reads in a frame with one reply."""
    [reply] = messages(frame)
    return google("Reply").FromString(reply)


# — the protocol's own examples —


@pytest.mark.parametrize(
    ("frame", "command"),
    [
        ("00", Command(0, Pong())),
        ("08 0801 22 04 22 02 7079", Command(1, ConnectRequest(name="py"))),
    ],
)
def test_golden_commands(frame: str, command: Command) -> None:
    found = decode_one(frame)
    assert (found.id, type(found.request)) == (command.id, type(command.request))
    assert fields(found.request) == fields(command.request)


def test_golden_replies_and_pushes() -> None:
    assert codec.encode_result(1, UnsubscribeResult()) == bytes.fromhex("04 0801 3a 00")
    push = codec.encode_push("a", Publication(Payload(b"{}"), offset=3))
    assert push == bytes.fromhex("0d 22 0b 12 01 61 22 06 22 02 7b7d 30 03")
    assert codec.ping == codec.pong == bytes.fromhex("00")


FIRST_FRAMES = {
    "swift": ("0b 0801 2207 2205 7377696674", ConnectRequest(name="swift")),
    "java, with a token": ("0f 0801 220b 0a03 657930 2204 6a617661", ConnectRequest(token="ey0", name="java")),
    "dart, which writes what is empty, too": ("0c 0801 2208 2204 64617274 2a00", ConnectRequest(name="dart")),
    "dart, with a subscription that is not recoverable": (
        "1a 0801 2216 1a0c 0a02 2337 1206 1800 3200 3800 2204 64617274 2a00",
        ConnectRequest(subs={"#7": SubscribeRequest()}, name="dart"),
    ),
    "dart, with data, a version and a subscription that goes on": (
        "23 0801 221f 1202 7b7d 1a0d 0a02 2337 1207 1801 3201 65 3803 2204 64617274 2a04 302e3138",
        ConnectRequest(
            data=Raw(b"{}"),
            subs={"#7": SubscribeRequest(recover=True, epoch="e", offset=3)},
            name="dart",
            version="0.18",
        ),
    ),
}


@pytest.mark.parametrize(("frame", "request_"), FIRST_FRAMES.values(), ids=FIRST_FRAMES)
def test_first_frames_of_sdks(frame: str, request_: ConnectRequest) -> None:
    """Of those that speak nothing else."""
    found = decode_one(frame)
    assert found.id == 1
    assert isinstance(found.request, ConnectRequest)
    assert fields(found.request) == fields(request_)


# — commands —


def test_commands_of_a_frame_keep_their_order() -> None:
    frame = bytes.fromhex("00 06 0802 4202 0a00 04 0803 5a00 05 6203 0a0131 00")
    assert [(each.id, type(each.request)) for each in codec.decode(frame)] == [
        (0, Pong),
        (2, PresenceRequest),
        (3, PingRequest),
        (0, SendRequest),
        (0, Pong),
    ]


def test_the_first_of_several_bodies_counts() -> None:
    """In the order that the protocol has, whatever comes first."""
    numbers = [4, 11, 5, 6, 7, 8, 9, 10, 13, 12, 14, 15]
    for at, number in enumerate(numbers):
        rest = b"".join(varint(each << 3 | 2) + b"\x00" for each in reversed(numbers[at:]))
        [command] = codec.decode(delimited(b"\x08\x07" + rest))
        [(_, request)] = google("Command").FromString(varint(number << 3 | 2) + b"\x00").ListFields()
        assert type(command.request).__name__ == request.DESCRIPTOR.name


@pytest.mark.parametrize("frame", ["00", "02 0800", "04 3a02 0a00", "02 2200"])
def test_anything_without_id_is_a_pong(frame: str) -> None:
    assert decode_one(frame) == Command(0, Pong())


def test_payloads_are_the_clients_bytes() -> None:
    data = bytes(range(256))
    [publish, rpc] = codec.decode(
        delimited(google("Command")(id=1, publish={"channel": "a", "data": data}).SerializeToString())
        + delimited(google("Command")(id=2**32 - 1, rpc={"method": "m", "data": data}).SerializeToString())
    )
    assert isinstance(publish.request, PublishRequest)
    assert isinstance(rpc.request, RPCRequest)
    assert bytes(publish.request.data) == bytes(rpc.request.data) == data
    assert rpc.id == 2**32 - 1


def test_offsets_of_64_bits() -> None:
    def subscribe(offset: int) -> bytes:
        return delimited(google("Command")(id=1, subscribe={"offset": offset}).SerializeToString())

    [command] = codec.decode(subscribe(2**53))
    assert isinstance(command.request, SubscribeRequest)
    assert command.request.offset == 2**53
    assert_refused(subscribe(2**53 + 1))
    assert_refused(subscribe(2**64 - 1))


@pytest.mark.parametrize(
    "frame",
    [
        b"",  # nothing at all
        b"\x05\x08\x01",  # cut off
        b"\x00\x80",  # a length that goes on
        b"\xff" * 10 + b"\x01",  # and one that does not end
        b"\x02\x08\x01",  # an id, and no body
        b"\x05\x08\x01\x82\x02\x00",  # one that nobody knows
        b"\x05\x08\x01\x2d\x01\x02",  # a group that does not end
        b"\x06\x08\x01\x2a\x02\x0a\x01\xff",  # a message that goes on behind its end
        b"{}",
        b'{"id":1,"connect":{}}',
    ],
)
def test_no_command(frame: bytes) -> None:
    assert_refused(frame)


@given(st.binary(max_size=100))
def test_whatever_comes_is_commands_or_refused(frame: bytes) -> None:
    try:
        commands = codec.decode(frame)
    except Disconnect as refused:
        assert refused.code == DisconnectCode.BAD_REQUEST  # noqa: PT017  it may as well be read
    else:
        assert commands


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=3), st.integers(0, 700))
def test_frames_that_are_cut_off(payloads: list[bytes], size: int) -> None:
    whole, ends = b"", {}
    for count, data in enumerate(payloads, 1):
        whole += delimited(google("Command")(id=1, publish={"channel": "a", "data": data}).SerializeToString())
        ends[len(whole)] = count
    size = min(size, len(whole))
    if size in ends:
        assert len(codec.decode(whole[:size])) == ends[size]
    else:
        assert_refused(whole[:size])


# — replies —

FIRST = Publication(Payload(b'{"n":1}'), offset=19, epoch="q", time=5, trace="t")
RESULTS: list[tuple[Result, str, dict[str, Any]]] = [
    (
        ConnectResult("5f0c", "1.0.0", expires=True, ttl=1800, ping=25, pong=True, session="s", node="n", time=2**41),
        "connect",
        {"client": "5f0c", "version": "1.0.0", "expires": True, "ttl": 1800, "ping": 25, "pong": True}
        | {"session": "s", "node": "n", "time": 2**41},
    ),
    (
        ConnectResult(
            "d0",
            "1",
            data=Payload(b"\xff\n"),
            subs={"a": SubscribeResult(publications=[FIRST]), "b": SubscribeResult()},
        ),
        "connect",
        {"client": "d0", "version": "1", "data": b"\xff\n"}
        | {"subs": {"a": {"publications": [{"data": b'{"n":1}', "offset": 19}]}, "b": {}}},
    ),
    (
        SubscribeResult(
            expires=True,
            ttl=5,
            recoverable=True,
            epoch="q",
            publications=[FIRST, Publication(Payload(b"\x00"), ANN, 20, {"a": "b"}, binary=True)],
            recovered=True,
            offset=2**53,
            positioned=True,
            data=Payload(b"1"),
            was_recovering=True,
        ),
        "subscribe",
        {
            "publications": [
                {"data": b'{"n":1}', "offset": 19},
                {"data": b"\x00", "offset": 20, "tags": {"a": "b"}}
                | {"info": {"user": "7", "client": "b2", "conn_info": b'{"name":"Ann"}'}},
            ]
        }
        | {"expires": True, "ttl": 5, "recoverable": True, "epoch": "q", "recovered": True, "offset": 2**53}
        | {"positioned": True, "data": b"1", "was_recovering": True},
    ),
    (SubscribeResult(), "subscribe", {}),
    (UnsubscribeResult(), "unsubscribe", {}),
    (PublishResult(), "publish", {}),
    (
        PresenceResult({"b2": ANN, "c7": ClientInfo("", "c7", chan_info=Payload(b"2"))}),
        "presence",
        {
            "presence": {
                "b2": {"user": "7", "client": "b2", "conn_info": b'{"name":"Ann"}'},
                "c7": {"client": "c7", "chan_info": b"2"},
            }
        },
    ),
    (PresenceResult({}), "presence", {}),
    (PresenceStatsResult(2, 1), "presence_stats", {"num_clients": 2, "num_users": 1}),
    (
        HistoryResult([FIRST], 20, "q"),
        "history",
        {"publications": [{"data": b'{"n":1}', "offset": 19}], "offset": 20, "epoch": "q"},
    ),
    (RPCResult(Payload(b"\xff")), "rpc", {"data": b"\xff"}),
    (RPCResult(), "rpc", {}),
    (
        RefreshResult("5f0c", "1.0.0", expires=True, ttl=60),
        "refresh",
        {"client": "5f0c", "version": "1.0.0", "expires": True, "ttl": 60},
    ),
    (SubRefreshResult(expires=True, ttl=600), "sub_refresh", {"expires": True, "ttl": 600}),
]


@pytest.mark.parametrize(("result", "name", "expected"), RESULTS)
def test_results(result: Result, name: str, expected: dict[str, Any]) -> None:
    reply = read(codec.encode_result(300, result))
    assert reply == google("Reply")(id=300, **{name: expected})
    assert reply.HasField(name), "an SDK reads it by its key"


def test_errors() -> None:
    assert read(codec.encode_error(3, Error(ErrorCode.UNKNOWN_CHANNEL))) == google("Reply")(
        id=3, error={"code": 102, "message": "unknown channel"}
    )
    assert read(codec.encode_error(4, Error(ErrorCode.INTERNAL))) == google("Reply")(
        id=4, error={"code": 100, "message": "internal server error", "temporary": True}
    )


# — pushes —

PUSHES: list[tuple[str, Push, dict[str, Any]]] = [
    ("room", FIRST, {"channel": "room", "pub": {"data": b'{"n":1}', "offset": 19}}),
    ("room", Publication(Payload(b"")), {"channel": "room", "pub": {}}),
    ("ü", Publication(Payload(b"\xff\n"), binary=True), {"channel": "ü", "pub": {"data": b"\xff\n"}}),
    (
        "room",
        Publication(Payload(b"1"), ANN, 1, {"lang": "en"}, epoch="q"),
        {
            "channel": "room",
            "pub": {
                "data": b"1",
                "info": {"user": "7", "client": "b2", "conn_info": b'{"name":"Ann"}'},
                "offset": 1,
                "tags": {"lang": "en"},
                "epoch": "q",
            },
        },
    ),
    ("", Publication(Payload(b"\xff"), binary=True), {"message": {"data": b"\xff"}}),
    ("", Publication(Payload(b"")), {"message": {}}),
    ("room", Join(ClientInfo("7", "b2")), {"channel": "room", "join": {"info": {"user": "7", "client": "b2"}}}),
    ("room", Leave(ClientInfo("7", "b2")), {"channel": "room", "leave": {"info": {"user": "7", "client": "b2"}}}),
    ("a", Unsubscribe(2500, "x"), {"channel": "a", "unsubscribe": {"code": 2500, "reason": "x"}}),
    (
        "a",
        Subscribe(recoverable=True, epoch="q", offset=3, positioned=True, data=Payload(b"{}")),
        {
            "channel": "a",
            "subscribe": {"recoverable": True, "epoch": "q", "offset": 3, "positioned": True, "data": b"{}"},
        },
    ),
    ("a", Subscribe(), {"channel": "a", "subscribe": {}}),
    ("", Refresh(expires=True, ttl=60), {"refresh": {"expires": True, "ttl": 60}}),
]


@pytest.mark.parametrize(("channel", "push", "expected"), PUSHES)
def test_pushes(channel: str, push: Push, expected: dict[str, Any]) -> None:
    assert read(codec.encode_push(channel, push)) == google("Reply")(push=expected)


def test_the_publishers_bytes_are_passed_on() -> None:
    data = Payload(b' {"a":\n\t1.50} ')
    assert read(codec.encode_push("room", Publication(data))).push.pub.data == data


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5))
def test_messages_of_a_frame(data: list[bytes]) -> None:
    pushes = [codec.encode_push("room", Publication(Payload(each))) for each in data]
    frame = Wire(codec, bytes).pack(pushes)
    assert [google("Reply").FromString(each).push.pub.data for each in messages(frame)] == data


def test_what_maps_have() -> None:
    """Removals have no data, also for who has negotiated delta: there is room for that in JSON alone."""
    gone = Publication(Quoted(), key="k", removed=True, offset=4, previous=Payload(b"1"), patchable=True)
    assert PUBLICATION.write(gone) == b"\x30\x04\x5a\x01k\x60\x01"
    patch = Publication(Quoted(b"p"), key="k", offset=5, delta=True)
    assert PUBLICATION.write(patch) == b"\x22\x01p\x30\x05\x40\x01\x5a\x01k"
    page = SubscribeResult(type=1, phase=2, cursor="k", state=[Publication(Payload(b"1"), key="k")])
    assert SUBSCRIBE_RESULT.write(page) == b"\x78\x01\x80\x01\x02\x8a\x01\x01k\x92\x01\x06\x22\x011\x5a\x01k"
