"""The Pusher protocol: what events, members and counts look like, and what a client may say."""

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, Struct

from gateway.core.hub import Hub
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode
from gateway.kinds import Names
from gateway.messages import (
    ClientInfo,
    Exclusion,
    Join,
    Leave,
    MemberAdded,
    MemberRemoved,
    Payload,
    Publication,
    Push,
    Refresh,
    RPCResult,
    Subscribe,
    SubscriptionCount,
    Unsubscribe,
    opaque,
)
from gateway.metrics import Metrics
from gateway.protocols.pusher import CLOSES, PusherProtocol, closing, read_data, said, told
from gateway.transports.single_frames import PortableWire
from tests.core.test_hub import Client, Reader

SHOP = PusherProtocol(Names("shop"))
NOOR = ClientInfo("17", "48213.907714", Payload(b'{"name":"Noor"}'))

Words = dict[str, Any]


def event(channel: str, publication: Publication, protocol: PusherProtocol = SHOP) -> Words:
    """What a client reads of it."""
    read = json.loads(protocol.encode_push(channel, publication).decode())
    assert isinstance(read, dict)
    return read


def published(data: str | bytes, **tags: str) -> Publication:
    return Publication(Payload(data.encode() if isinstance(data, str) else data), tags=tags or None)


# — events —


@pytest.mark.parametrize(
    ("push", "frame"),
    [
        (
            published('{"t":"Rain"}', event="headline"),
            rb'{"event":"headline","channel":"news","data":"{\"t\":\"Rain\"}"}',
        ),
        (published("1.07", event="tick"), b'{"event":"tick","channel":"news","data":"1.07"}'),
        (published("null"), b'{"event":"message","channel":"news","data":"null"}'),
        (published(""), b'{"event":"message","channel":"news","data":"null"}'),
        (published('""', event="a", format="text"), b'{"event":"a","channel":"news","data":""}'),
        (published('"hello"', event="a", format="text"), b'{"event":"a","channel":"news","data":"hello"}'),
        (published('"hello"', event="a"), rb'{"event":"a","channel":"news","data":"\"hello\""}'),
        (published("[1]", format="text"), b'{"event":"message","channel":"news","data":"[1]"}'),
        (
            published("1", event=r"App\Events\OrderPaid"),
            rb'{"event":"App\\Events\\OrderPaid","channel":"news","data":"1"}',
        ),
        (published("1", event=""), b'{"event":"","channel":"news","data":"1"}'),
        (published("1", event="a", lang="en"), b'{"event":"a","channel":"news","data":"1"}'),
        (Publication(Payload(b"1"), offset=7, epoch="xyz"), b'{"event":"message","channel":"news","data":"1"}'),
        (
            MemberAdded("17", Payload(b'{"name": "Noor"}')),
            rb'{"event":"pusher_internal:member_added","channel":"news",'
            rb'"data":"{\"user_id\":\"17\",\"user_info\":{\"name\": \"Noor\"}}"}',
        ),
        (
            MemberAdded("17"),
            rb'{"event":"pusher_internal:member_added","channel":"news",'
            rb'"data":"{\"user_id\":\"17\",\"user_info\":null}"}',
        ),
        (
            MemberAdded("17", opaque(b"\xff")),
            rb'{"event":"pusher_internal:member_added","channel":"news",'
            rb'"data":"{\"user_id\":\"17\",\"user_info\":null}"}',
        ),
        (
            MemberRemoved("17"),
            rb'{"event":"pusher_internal:member_removed","channel":"news","data":"{\"user_id\":\"17\"}"}',
        ),
        (
            SubscriptionCount(3),
            rb'{"event":"pusher_internal:subscription_count","channel":"news","data":"{\"subscription_count\":3}"}',
        ),
    ],
)
def test_pushes(push: Push, frame: bytes) -> None:
    assert SHOP.encode_push("shop:news", push) == frame


@pytest.mark.parametrize(
    "data",
    [
        "{}",
        ' {"a" :\t[1, 2]\r\n} ',
        '{"big":123456789012345678901234567890,"f":1.10,"e":1E+2,"dup":1,"dup":2}',
        '{"é":"ü€😀","s":"\\u00e9\\/\\n"}',
        '"\\ud83d"',
        '"</script>"',
        '"\u2028\u2029\x7f"',
        "null",
        "true",
        "-0.0",
        '""',
    ],
)
def test_data_of_a_backend_is_a_string_with_its_bytes(data: str) -> None:
    assert event("shop:news", published(data, event="a"))["data"] == data


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_arrives(text: str) -> None:
    """Be it posted as text or as JSON, in an event of any name."""
    written = json.dumps(text, ensure_ascii=False)
    posted = published(written, event=text, format="text")
    assert event("shop:news", posted) == {"event": text, "channel": "news", "data": text}
    assert event("shop:news", published(written))["data"] == written


@pytest.mark.parametrize(
    ("namespace", "channel"), [("", "news"), ("shop", "shop:news"), ("tenants:42", "tenants:42:news")]
)
def test_channels_have_their_name_in_the_namespace(namespace: str, channel: str) -> None:
    assert event(channel, published("1"), PusherProtocol(Names(namespace)))["channel"] == "news"


def test_an_inbox_has_the_name_that_clients_know() -> None:
    assert event("shop:#17", published("1"))["channel"] == "#server-to-user-17"


def test_a_message_to_one_client_has_no_channel() -> None:
    assert PusherProtocol(Names("")).encode_push("", published('{"a":1}')) == rb'{"event":"message","data":"{\"a\":1}"}'
    assert SHOP.encode_push("", published("1", event="a")) == rb'{"event":"a","data":"1"}'


@pytest.mark.parametrize("sender", [None, NOOR])
def test_binary_data_is_a_string_in_base64(sender: ClientInfo | None) -> None:
    """In quotes of its own, or clients would take what has digits only for a number."""
    sent = Publication(Payload(b"\xd7\x6d\xf8"), sender, binary=True, tags={"format": "text"})
    assert event("shop:news", sent)["data"] == '"1234"'


def test_a_stream_ends_with_a_word() -> None:
    """As it does for plain clients, who know no tags either."""
    assert event("shop:news", published("null", stream="done")) == {
        "event": "message",
        "channel": "news",
        "data": '{"stream":"done"}',
    }
    assert event("shop:news", published("1", stream="done"))["data"] == "1"


# — events of clients —


@pytest.mark.parametrize("data", ['{"on": true}', "[1, 2]", "5", '"text"', "null", '{"big":123456789012345678901}'])
def test_data_of_a_client_keeps_its_type(data: str) -> None:
    typing = Publication(Payload(data.encode()), NOOR, tags={"event": "client-typing"})
    frame = SHOP.encode_push("shop:private-desk", typing).decode()
    assert frame == f'{{"event":"client-typing","channel":"private-desk","data":{data}}}'


@pytest.mark.parametrize("channel", ["presence-desk", "presence-cache-desk"])
def test_in_presence_channels_a_client_has_a_name(channel: str) -> None:
    typing = Publication(Payload(b"{}"), NOOR, tags={"event": "client-typing"})
    assert event(f"shop:{channel}", typing) == {
        "event": "client-typing",
        "channel": channel,
        "data": {},
        "user_id": "17",
    }


@pytest.mark.parametrize("channel", ["desk", "private-desk", "private-cache-desk", "#17"])
def test_elsewhere_it_has_none(channel: str) -> None:
    assert "user_id" not in event(f"shop:{channel}", Publication(Payload(b"{}"), NOOR))


def test_nobody_is_called_nothing() -> None:
    assert "user_id" not in event("shop:presence-desk", Publication(Payload(b"{}"), ClientInfo("", "c1")))


def test_what_other_clients_publish_has_a_name_for_events() -> None:
    assert event("shop:news", Publication(Payload(b"{}"), ClientInfo("7", "c1")))["event"] == "client-message"


# — streams —


def test_a_client_may_be_told_where_an_event_stands() -> None:
    protocol = PusherProtocol(Names(""), offsets=True)
    sent = Publication(Payload(b"1"), offset=7, epoch="xyz", tags={"event": "a"})
    frame = b'{"event":"a","channel":"news","data":"1","offset":7,"epoch":"xyz"}'
    assert protocol.encode_push("news", sent) == frame
    assert protocol.encode_push("news", published("1", event="a")) == b'{"event":"a","channel":"news","data":"1"}'


# — messages —


def test_messages_about_the_connection_and_about_channels() -> None:
    assert said("pusher:error", {"code": 4301, "message": "no"}) == (
        b'{"event":"pusher:error","data":{"code":4301,"message":"no"}}'
    )
    assert told("pusher_internal:subscription_succeeded", "news", {}) == (
        b'{"event":"pusher_internal:subscription_succeeded","channel":"news","data":"{}"}'
    )
    error = SHOP.encode_error(1, Error(ErrorCode.INTERNAL))
    assert error == b'{"event":"pusher:error","data":{"code":null,"message":"internal server error"}}'


def test_pings_are_messages() -> None:
    assert SHOP.read(SHOP.ping).event == "pusher:ping"
    assert SHOP.read(SHOP.pong).event == "pusher:pong"


# — what clients say —


class Subscribing(Struct):
    channel: str
    auth: str = ""


@pytest.mark.parametrize(
    ("frame", "event", "channel", "data"),
    [
        ('{"event":"pusher:ping"}', "pusher:ping", "", "{}"),
        ('{"event":"pusher:ping","data":null}', "pusher:ping", "", "null"),
        (' {"data": {"a": 1} , "event":"b", "channel":"c", "user_id":"7"}\n', "b", "c", '{"a": 1}'),
        ('{"event":"é","channel":"😀","data":"ü"}', "é", "😀", '"ü"'),
        ('{"event":"a","data":1,"event":"b","data":2}', "b", "", "2"),
        ('{"event":"a","data":%s}' % ("9" * 5000), "a", "", "9" * 5000),
        (r'{"event":"a","data":"\ud83d\ude00"}', "a", "", r'"\ud83d\ude00"'),
    ],
)
def test_reads(frame: str, event: str, channel: str, data: str) -> None:
    read = SHOP.read(frame.encode())
    assert (read.event, read.channel, bytes(read.data).decode()) == (event, channel, data)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"event":1}',
        b'{"event":null}',
        b'{"event":"a","channel":7}',
        b'{"event":"a"} {}',
        b'{"event":"a","data":NaN}',
        b'{"event":"a","data":-Infinity}',
        b'{"event":"a","data":{"b":[01]}}',
        b'{"event":"a","data":[1,]}',
        b'{"event":"a","data":"\xff"}',
        b'{"event":"a","data":"\n"}',
        rb'{"event":"\ud800"}',
        rb'{"event":"a","data":"\ud800"}',
        rb'{"event":"a","data":{"b":{"\udc00":1}}}',
        b'{"event":"a","data":%b}' % (b"[" * 100_000 + b"]" * 100_000),
        b'{"event":"a","data":%b}' % (b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    ],
)
def test_what_is_no_message(frame: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        SHOP.read(frame)


PIECES = st.sampled_from(
    [b'{"event":', b'"a"', b',"data":', b"{", b"}", b"[", b"]", b":", b",", b"1e999", b"NaN", b"\\ud800", b"\xff", b'"']
)


@given(st.one_of(st.binary(), st.lists(PIECES).map(b"".join)))
def test_bytes_are_a_message_or_none(frame: bytes) -> None:
    try:
        said_by = SHOP.read(frame)
    except ValueError:
        return
    assert json.loads(frame)["event"] == said_by.event
    relayed = Publication(Payload(said_by.data), NOOR)
    assert event("shop:private-desk", relayed)["data"] == json.loads(bytes(said_by.data))


@pytest.mark.parametrize(
    "data",
    [
        '{"channel":"news","auth":"k:1"}',
        r'"{\"channel\":\"news\",\"auth\":\"k:1\"}"',
        '{"auth":"k:0","more":[],"auth":"k:1","channel":"news"}',
    ],
)
def test_data_is_an_object_or_a_string_of_one(data: str) -> None:
    assert read_data(Raw(data.encode()), Subscribing) == Subscribing("news", "k:1")


@pytest.mark.parametrize(
    "data",
    [
        "null",
        "{}",
        "1",
        '"news"',
        '"1"',
        '""',
        r'"\"{}\""',
        '{"channel":7}',
        r'"{\"channel\":\"\\ud800\"}"',
        json.dumps('{"more":' + "[" * 100_000),
    ],
)
def test_what_is_no_such_data(data: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_data(Raw(data.encode()), Subscribing)


# — the ends —


@pytest.mark.parametrize("code", DisconnectCode)
def test_clients_return_where_they_may(code: DisconnectCode) -> None:
    """At once, or after a second; a session that has gone stale has only been silent."""
    end = closing(Disconnect(code))
    assert (4100 <= end.code < 4300) is (Disconnect(code).reconnect or code is DisconnectCode.STALE)
    assert end.code in {4004, 4009, 4100, 4200, 4201}
    assert end.reason == code.reason


@pytest.mark.parametrize(
    ("code", "closed"),
    [
        (DisconnectCode.SHUTDOWN, 4200),
        (DisconnectCode.NO_PONG, 4201),
        (DisconnectCode.SLOW, 4100),
        (DisconnectCode.FORCE_DISCONNECT, 4009),
        (DisconnectCode.CONNECTION_LIMIT, 4004),
        (3499, 4200),
        (3999, 4009),
        (1009, 1009),
        (4001, 4001),
        (4999, 4999),
    ],
)
def test_how_connections_end(code: int, closed: int) -> None:
    end = closing(Disconnect(code, "why"))
    assert (end.code, end.reason) == (closed, "why")


def test_what_ends_otherwise_is_among_the_codes() -> None:
    assert CLOSES.keys() <= {int(code) for code in DisconnectCode}


# — beside the other protocols —


async def test_an_event_is_encoded_once_for_all_and_is_a_frame_of_its_own() -> None:
    encoded = []

    class Counted(PusherProtocol):
        def encode_push(self, channel: str, push: Push) -> bytes:
            encoded.append(super().encode_push(channel, push))
            return encoded[-1]

    wire, hub = PortableWire(Counted(Names("shop"))), Hub(Metrics())
    clients = [Client(wire, f"1.{number}") for number in range(3)]
    for client in clients:
        hub.open(client)
        reader = Reader(client, "shop:news")
        hub.join(reader)
        hub.enter(reader, None)
    hub.publish("shop:news", Publication(Payload(b"1")))
    hub.publish("shop:news", Publication(Payload(b"2"), exclude=Exclusion(clients=("1.0",))))
    hub.flush()
    one, two = (each.decode() for each in encoded)
    frames: list[Any] = [client.frames for client in clients]
    assert frames == [[[one]], [[one, two]], [[one, two]]]


@pytest.mark.parametrize(
    "push", [Join(NOOR), Leave(NOOR), Unsubscribe(2000, "server unsubscribe"), Subscribe(), Refresh()]
)
def test_what_others_are_told_is_no_message_here(push: Push) -> None:
    with pytest.raises(Disconnect) as refused:
        SHOP.encode_push("shop:news", push)
    assert refused.value.code == DisconnectCode.INAPPROPRIATE_PROTOCOL


def test_every_push_is_told_or_refused() -> None:
    told_here = {Publication, MemberAdded, MemberRemoved, SubscriptionCount}
    assert {*get_args(Push)} == told_here | {Join, Leave, Unsubscribe, Subscribe, Refresh}


def test_there_are_no_commands() -> None:
    with pytest.raises(Disconnect) as refused:
        SHOP.decode(b'{"event":"pusher:ping"}')
    assert refused.value.code == DisconnectCode.BAD_REQUEST
    with pytest.raises(Disconnect):
        SHOP.encode_result(1, RPCResult())
    assert SHOP.join([b"a", b"b"]) == b"ab"
