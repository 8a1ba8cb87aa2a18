from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import asdict

from gateway.errors import Disconnect, DisconnectCode
from gateway.messages import (
    Command,
    ConnectRequest,
    FilterNode,
    HistoryRequest,
    PingRequest,
    Pong,
    Position,
    PresenceRequest,
    PresenceStatsRequest,
    PublishRequest,
    RefreshRequest,
    Request,
    RPCRequest,
    SendRequest,
    SubRefreshRequest,
    SubscribeRequest,
    UnsubscribeRequest,
)
from gateway.protocols.centrifuge_json import CentrifugeJson

codec = CentrifugeJson()


def fields(request: Struct) -> dict[str, Any]:
    """What a request holds, raw parts as bytes, without what is at its default."""
    return {
        name: bytes(value) if isinstance(value, memoryview) or type(value).__name__ == "Raw" else value
        for name, value in asdict(request).items()
        if value and (type(value).__name__ != "Raw" or bytes(value))
    }


def decode_one(frame: bytes) -> Command:
    (command,) = codec.decode(frame)
    return command


def assert_refused(frame: bytes) -> None:
    with pytest.raises(Disconnect) as caught:
        codec.decode(frame)
    assert caught.value.code == DisconnectCode.BAD_REQUEST


# — commands —

COMMANDS: dict[bytes, tuple[type[Request], dict[str, Any]]] = {
    b'"connect":{"token":"eyJ0","name":"js","version":"5.3.0","data":{"a": 1},"headers":{"x":"y"},"flag":3}': (
        ConnectRequest,
        {"token": "eyJ0", "name": "js", "version": "5.3.0", "data": b'{"a": 1}', "headers": {"x": "y"}},
    ),
    b'"connect":{"subs":{"#7":{"recover":true,"epoch":"hWJk","offset":3}}}': (
        ConnectRequest,
        {"subs": {"#7": SubscribeRequest(recover=True, epoch="hWJk", offset=3)}},
    ),
    b'"ping":{}': (PingRequest, {}),
    b'"subscribe":{"channel":"room:42","recover":true,"epoch":"qTzWvbYc","offset":18,"recoverable":true}': (
        SubscribeRequest,
        {"channel": "room:42", "recover": True, "epoch": "qTzWvbYc", "offset": 18, "recoverable": True},
    ),
    b'"subscribe":{"channel":"a","token":"t","positioned":true,"join_leave":true,"delta":"fossil","flag":2,"type":1,'
    b'"tf":{"op":"and"},"data":[1]}': (
        SubscribeRequest,
        {"channel": "a", "token": "t", "positioned": True, "join_leave": True, "delta": "fossil", "flag": 2}
        | {"type": 1, "tf": FilterNode(op="and"), "data": b"[1]"},
    ),
    b'"unsubscribe":{"channel":"a"}': (UnsubscribeRequest, {"channel": "a"}),
    b'"publish":{"channel":"a","data":{"text":"hi"}}': (PublishRequest, {"channel": "a", "data": b'{"text":"hi"}'}),
    b'"presence":{"channel":"a"}': (PresenceRequest, {"channel": "a"}),
    b'"presence_stats":{"channel":"a"}': (PresenceStatsRequest, {"channel": "a"}),
    b'"history":{"channel":"a","limit":-1,"since":{"offset":17,"epoch":"q"},"reverse":true}': (
        HistoryRequest,
        {"channel": "a", "limit": -1, "since": Position(17, "q"), "reverse": True},
    ),
    b'"rpc":{"method":"add","data":[1,2]}': (RPCRequest, {"method": "add", "data": b"[1,2]"}),
    b'"send":{"data":1}': (SendRequest, {"data": b"1"}),
    b'"refresh":{"token":"t"}': (RefreshRequest, {"token": "t"}),
    b'"sub_refresh":{"channel":"a","token":"t"}': (SubRefreshRequest, {"channel": "a", "token": "t"}),
}


@pytest.mark.parametrize(("body", "expected"), COMMANDS.items())
def test_commands(body: bytes, expected: tuple[type[Request], dict[str, Any]]) -> None:
    command = decode_one(b'{"id":7,%b}' % body)
    assert (command.id, type(command.request), fields(command.request)) == (7, *expected)


def test_unknown_fields_and_white_space() -> None:
    frame = b' { "unknown" : {"deep":[null,{}]}, "id" : 7 , "presence" : {"channel":"a","more":[1.5e3]} }\r'
    assert decode_one(frame) == Command(7, PresenceRequest("a"))


def test_the_first_of_several_bodies_counts() -> None:
    bodies = [body for body in COMMANDS if not body.startswith(b'"connect":{"subs"') and b"fossil" not in body]
    order = [type(decode_one(b'{"id":1,%b}' % b",".join(reversed(bodies[at:]))).request) for at in range(len(bodies))]
    assert order == [COMMANDS[body][0] for body in bodies]
    assert order[:3] == [ConnectRequest, PingRequest, SubscribeRequest]


@pytest.mark.parametrize(
    "line", [b"{}", b" { } ", b'{"id":0}', b'{"publish":{"channel":"a"}}', b'{"id":0,"connect":{}}']
)
def test_anything_without_id_is_a_pong(line: bytes) -> None:
    assert decode_one(line) == Command(0, Pong())


def test_send_needs_no_id() -> None:
    assert type(decode_one(b'{"send":{"data":{}}}').request) is SendRequest
    assert type(decode_one(b'{"send":{},"publish":{}}').request) is Pong


def test_commands_of_a_frame_keep_their_order() -> None:
    lines = [b'{"id":%d,"presence":{"channel":"c%d"}}' % (number, number) for number in range(1, 40)]
    expected = [Command(number, PresenceRequest(f"c{number}")) for number in range(1, 40)]
    assert codec.decode(b"\n".join(lines)) == expected
    assert codec.decode(b"\n".join(lines) + b"\n") == expected


PRESENCE = b'{"id":1,"presence":{"channel":"a"}}'
REFUSED = {
    "empty": b"",
    "line end": b"\n",
    "blank": b"  ",
    "two line ends": PRESENCE + b"\n\n",
    "empty line between": PRESENCE + b"\n\n" + PRESENCE,
    "line end first": b"\n" + PRESENCE,
    "blank line between": PRESENCE + b"\n \n" + PRESENCE,
    "one bad line of several": PRESENCE + b"\n{\n" + PRESENCE,
    "two commands on a line": PRESENCE + PRESENCE,
    "a command over two lines": PRESENCE.replace(b",", b",\n"),
    "not JSON": b"hello",
    "null": b"null",
    "list": b"[]",
    "string": b'"x"',
    "cut off": PRESENCE[:-1],
    "no body": b'{"id":1}',
    "unknown body": b'{"id":1,"conquer":{}}',
    "null body": b'{"id":1,"presence":null}',
    "negative id": PRESENCE.replace(b"1", b"-1"),
    "id too large": PRESENCE.replace(b"1", b"4294967296"),
    "id of 30 digits": PRESENCE.replace(b"1", b"9" * 30),
    "id of 5000 digits": PRESENCE.replace(b"1", b"9" * 5000),
    "id as text": PRESENCE.replace(b"1", b'"1"'),
    "id with fraction": PRESENCE.replace(b"1", b"1.5"),
    "channel of a wrong type": PRESENCE.replace(b'"a"', b"17"),
    "body of a wrong type": b'{"id":1,"presence":[]}',
    "negative offset": b'{"id":1,"subscribe":{"channel":"a","offset":-1}}',
    "offset beyond what JSON keeps exact": b'{"id":1,"subscribe":{"channel":"a","offset":18446744073709551615}}',
    "nested deeply": b'{"id":1,"publish":{"channel":"a","data":%b1%b}}' % (b"[" * 30_000, b"]" * 30_000),
    "nested deeply where nobody looks": b'{"id":1,"x":%b1%b,"presence":{}}' % (b"[" * 30_000, b"]" * 30_000),
    "not UTF-8": b"\xff\xfe" + PRESENCE,
    "a channel that is not UTF-8": PRESENCE.replace(b'"a"', b'"\xff"'),
}


@pytest.mark.parametrize("frame", REFUSED.values(), ids=REFUSED)
def test_what_is_not_a_command_is_refused(frame: bytes) -> None:
    assert_refused(frame)


def test_ids_up_to_32_bits() -> None:
    assert decode_one(PRESENCE.replace(b"1", b"4294967295")).id == 2**32 - 1


BAD_DATA = [
    b"01",
    b"1.",
    b".5",
    b"1e",
    b"+1",
    b"NaN",
    b"-",
    b"tru",
    b'"\\x"',
    b'"a\tb"',
    b'"\\u12g4"',
    b"[1,]",
    b"{1:2}",
]


@pytest.mark.parametrize("data", BAD_DATA)
def test_payloads_must_be_json(data: bytes) -> None:
    assert_refused(b'{"id":1,"publish":{"channel":"a","data":%b}}' % data)


@pytest.mark.parametrize("data", [b'"\xff"', b'{"\xff":1}', b'"\xed\xa0\x80"', b'"\xc0\xaf"'])
@pytest.mark.parametrize("kind", [b"publish", b"rpc", b"send", b"connect", b"subscribe"])
def test_payloads_must_be_utf_8(kind: bytes, data: bytes) -> None:
    """Bytes that are not text would go out in the text frames of others."""
    assert_refused(b'{"id":1,"%b":{"data":%b}}' % (kind, data))


def outcome(frame: bytes) -> list[Command] | int:
    try:
        return codec.decode(frame)
    except Disconnect as reason:
        return reason.check().code


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b'{"id":1,"connect":{"token":{}}}', "bad request: Expected `str`, got `object` - at `$.connect.token`"),
        (b'{"id":"1"}', "bad request: Expected `int`, got `str` - at `$.id`"),
        (b'{"id":1,"publish":{"channel":"\xff"}}', "bad request"),
        (b"{", "bad request"),
    ],
)
def test_a_page_is_told_which_field_is_wrong(frame: bytes, reason: str) -> None:
    with pytest.raises(Disconnect) as caught:
        codec.decode(frame)
    assert caught.value.check().reason == reason


@given(st.binary())
def test_bytes_are_commands_or_a_bad_request(frame: bytes) -> None:
    found = outcome(frame)
    assert found == DisconnectCode.BAD_REQUEST or (isinstance(found, list) and found)


@given(
    st.lists(st.sampled_from([b'{"id":1,', b'"publish":', b"{", b"}", b'"data":', b'"\xff"', b"1", b"[", b"\n", b","]))
)
def test_scraps_of_commands_are_commands_or_a_bad_request(scraps: list[bytes]) -> None:
    found = outcome(b"".join(scraps))
    assert found == DisconnectCode.BAD_REQUEST or (isinstance(found, list) and found)


@pytest.mark.parametrize(
    ("escaped", "read"),
    [
        (rb"\ud83d", rb"\ufffd"),
        (rb"a\ud83db", rb"a\ufffdb"),
        (rb"\udc00\ud83d", rb"\ufffd\ufffd"),
        (rb"\ud83d\ude00", rb"\ud83d\ude00"),
        (rb"\ud83d\ud83d\ude00", rb"\ufffd\ud83d\ude00"),
        (rb"\\ud83d\ud83d", rb"\\ud83d\ufffd"),
        (rb"\"\n\ud83d", rb"\"\n\ufffd"),
    ],
)
def test_half_a_character_does_not_cost_the_connection(escaped: bytes, read: bytes) -> None:
    """A browser escapes the halves of an emoji that a program has cut in two."""
    [command] = CentrifugeJson().decode(b'{"id":1,"publish":{"channel":"a","data":"%b"}}' % escaped)
    assert isinstance(command.request, PublishRequest)
    assert bytes(command.request.data) == b'"%b"' % read
