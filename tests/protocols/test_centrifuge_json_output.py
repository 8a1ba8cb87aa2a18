import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode
from gateway.messages import (
    ClientInfo,
    Command,
    ConnectResult,
    HistoryResult,
    Join,
    Leave,
    Payload,
    Pong,
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
    RPCResult,
    SubRefreshResult,
    Subscribe,
    SubscribeResult,
    Unsubscribe,
    UnsubscribeResult,
)
from gateway.protocols.base import Wire
from gateway.protocols.centrifuge_json import CentrifugeJson

codec = CentrifugeJson()


# — replies —

ANN = ClientInfo("7", "b2", Payload(b'{"name":"Ann"}'))
FIRST = Publication(Payload(b'{"n":1}'), offset=19)
RESULTS: list[tuple[Result, bytes]] = [
    (
        ConnectResult("5f0c", "1.0.0", expires=True, ttl=1800, ping=25, pong=True),
        b'"connect":{"client":"5f0c","version":"1.0.0","expires":true,"ttl":1800,"ping":25,"pong":true}',
    ),
    (
        ConnectResult("d0", "1.0.0", data=Payload(b'{"a":\n1}'), session="s", node="n", time=5),
        b'"connect":{"client":"d0","version":"1.0.0","data":{"a":1},"session":"s","node":"n","time":5}',
    ),
    (
        ConnectResult("d0", "1", subs={"#7": SubscribeResult(recoverable=True, epoch="h", offset=3, positioned=True)}),
        b'"connect":{"client":"d0","version":"1",'
        b'"subs":{"#7":{"recoverable":true,"epoch":"h","offset":3,"positioned":true}}}',
    ),
    (
        ConnectResult("d0", "1", subs={"a": SubscribeResult(publications=[FIRST]), "b": SubscribeResult()}, ping=25),
        b'"connect":{"client":"d0","version":"1","subs":{"a":{"publications":[{"data":{"n":1},"offset":19}]},"b":{}},'
        b'"ping":25}',
    ),
    (SubscribeResult(), b'"subscribe":{}'),
    (
        SubscribeResult(recoverable=True, epoch="qTzW", offset=17, positioned=True),
        b'"subscribe":{"recoverable":true,"epoch":"qTzW","offset":17,"positioned":true}',
    ),
    (
        SubscribeResult(
            recoverable=True,
            epoch="q",
            publications=[FIRST, Publication(Payload(b'{"n":2}'), ANN, 20)],
            recovered=True,
            offset=18,
            positioned=True,
            was_recovering=True,
        ),
        b'"subscribe":{"recoverable":true,"epoch":"q","publications":[{"data":{"n":1},"offset":19},'
        b'{"data":{"n":2},"info":{"user":"7","client":"b2","conn_info":{"name":"Ann"}},"offset":20}],'
        b'"recovered":true,"offset":18,"positioned":true,"was_recovering":true}',
    ),
    (
        SubscribeResult(expires=True, ttl=60, data=Payload(b'{"why":"admin"}')),
        b'"subscribe":{"expires":true,"ttl":60,"data":{"why":"admin"}}',
    ),
    (UnsubscribeResult(), b'"unsubscribe":{}'),
    (PublishResult(), b'"publish":{}'),
    (PresenceResult({}), b'"presence":{"presence":{}}'),
    (
        PresenceResult({"b2": ANN, "c7": ClientInfo("", "c7", chan_info=Payload(b"1"))}),
        b'"presence":{"presence":{"b2":{"user":"7","client":"b2","conn_info":{"name":"Ann"}},'
        b'"c7":{"user":"","client":"c7","chan_info":1}}}',
    ),
    (PresenceStatsResult(0, 0), b'"presence_stats":{"num_clients":0,"num_users":0}'),
    (HistoryResult([], 0, ""), b'"history":{"publications":[],"offset":0,"epoch":""}'),
    (
        HistoryResult([FIRST], 20, "q"),
        b'"history":{"publications":[{"data":{"n":1},"offset":19}],"offset":20,"epoch":"q"}',
    ),
    (RPCResult(), b'"rpc":{}'),
    (RPCResult(Payload(b"[1]")), b'"rpc":{"data":[1]}'),
    (RefreshResult(), b'"refresh":{}'),
    (
        RefreshResult("5f", "1.0.0", True, 1800),
        b'"refresh":{"client":"5f","version":"1.0.0","expires":true,"ttl":1800}',
    ),
    (SubRefreshResult(True, 600), b'"sub_refresh":{"expires":true,"ttl":600}'),
]


@pytest.mark.parametrize(("result", "body"), RESULTS)
def test_results(result: Result, body: bytes) -> None:
    assert json.loads(codec.encode_result(8, result)) == json.loads(b'{"id":8,%b}' % body)
    assert b"\n" not in codec.encode_result(8, result)


def test_replies_as_in_the_description() -> None:
    assert codec.encode_result(1, UnsubscribeResult()) == b'{"id":1,"unsubscribe":{}}'
    assert codec.encode_error(3, Error(ErrorCode.UNKNOWN_CHANNEL)) == (
        b'{"id":3,"error":{"code":102,"message":"unknown channel"}}'
    )


def test_errors() -> None:
    assert json.loads(codec.encode_error(2, Error(ErrorCode.INTERNAL))) == {
        "id": 2,
        "error": {"code": 100, "message": "internal server error", "temporary": True},
    }
    assert json.loads(codec.encode_error(2, Error(403, 'not a "member"'))) == {
        "id": 2,
        "error": {"code": 403, "message": 'not a "member"'},
    }


# — pushes —

PUSHES: list[tuple[str, Push, bytes]] = [
    ("a", Publication(Payload(b"{}"), offset=3), b'{"channel":"a","pub":{"data":{},"offset":3}}'),
    ("a", Publication(Payload(b"0")), b'{"channel":"a","pub":{"data":0}}'),
    ("a", Publication(Payload(b"1"), tags={}), b'{"channel":"a","pub":{"data":1}}'),
    (
        "a",
        Publication(Payload(b"null"), ANN, 1, {"k": "v"}, time=5, epoch="Zx"),
        b'{"channel":"a","pub":{"data":null,"info":{"user":"7","client":"b2","conn_info":{"name":"Ann"}},"offset":1,'
        b'"tags":{"k":"v"},"epoch":"Zx"}}',
    ),
    ("a", Publication(Payload(b"1"), offset=2, epoch="Zx"), b'{"channel":"a","pub":{"data":1,"offset":2}}'),
    (
        "a",
        Publication(Payload(b"1"), offset=2, version=2**63 - 1, patchable=True),
        b'{"channel":"a","pub":{"data":1,"offset":2,"version":9223372036854775807}}',
    ),
    (
        "a",
        Publication(Quoted('{"é":\n"\\n"}'.encode()), ANN, 1, {"k": "v"}, epoch="Zx", version=3),
        rb'{"channel":"a","pub":{"data":"{\"\u00e9\":\n\"\\n\"}","info":{"user":"7","client":"b2","conn_info":{"name":'
        rb'"Ann"}},"offset":1,"tags":{"k":"v"},"epoch":"Zx","version":3}}',
    ),
    (
        "a",
        Publication(Quoted(b"13\n11@0,2:9}3P2S2G;"), offset=2, delta=True),
        rb'{"channel":"a","pub":{"data":"13\n11@0,2:9}3P2S2G;","offset":2,"delta":true}}',
    ),
    ("a", Publication(Quoted(), offset=3, version=1), b'{"channel":"a","pub":{"data":"null","offset":3,"version":1}}'),
    ("lobby", Join(ANN), b'{"channel":"lobby","join":{"info":{"user":"7","client":"b2","conn_info":{"name":"Ann"}}}}'),
    ("lobby", Leave(ClientInfo("", "c7")), b'{"channel":"lobby","leave":{"info":{"user":"","client":"c7"}}}'),
    (
        "a",
        Unsubscribe(2000, "server unsubscribe"),
        b'{"channel":"a","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}',
    ),
    (
        "alerts",
        Subscribe(True, "Zx", positioned=True, data=Payload(b'{"why":"admin"}')),
        b'{"channel":"alerts","subscribe":{"recoverable":true,"epoch":"Zx","positioned":true,"data":{"why":"admin"}}}',
    ),
    ("", Refresh(True, 60), b'{"refresh":{"expires":true,"ttl":60}}'),
    ("", Refresh(), b'{"refresh":{}}'),
    ("", Publication(Payload(b'{"a":\n1}')), b'{"message":{"data":{"a":1}}}'),
    ("", Publication(Payload()), b'{"message":{"data":null}}'),
]


@pytest.mark.parametrize(("channel", "push", "expected"), PUSHES)
def test_pushes(channel: str, push: Push, expected: bytes) -> None:
    assert json.loads(codec.encode_push(channel, push)) == {"push": json.loads(expected)}


def test_names_are_escaped() -> None:
    name = 'q"\\\n\x00é\u2028'
    assert json.loads(codec.encode_push(name, Unsubscribe(2000, name)))["push"] == {
        "channel": name,
        "unsubscribe": {"code": 2000, "reason": name},
    }


def test_a_payload_keeps_its_bytes() -> None:
    data = b'{"big": 123456789012345678901234567890, "f":1.10,"e":1E+2,"s":"\\u00e9\\/\xc3\xa9\\n" ,"dup":1,"dup":2}'
    assert (
        codec.encode_push("a", Publication(Payload(data))) == b'{"push":{"channel":"a","pub":{"data":' + data + b"}}}"
    )


def test_line_ends_are_left_out_where_they_are_white_space() -> None:
    data = Payload(b'{\n "a": "x\\ny",\r\n "b": [1,\n2]\n}\n')
    clean = b'{ "a": "x\\ny",\r "b": [1,2]}'
    info = ClientInfo("7", "b2", data, data)
    for message in (
        codec.encode_push("a", Publication(data, info)),
        codec.encode_push("a", Join(info)),
        codec.encode_push("a", Subscribe(data=data)),
        codec.encode_result(1, SubscribeResult(data=data, publications=[Publication(data, info)])),
        codec.encode_result(1, HistoryResult([Publication(data)], 1, "e")),
        codec.encode_result(1, ConnectResult("c", "1", data=data)),
        codec.encode_result(1, RPCResult(data)),
        codec.encode_result(1, PresenceResult({"b2": info})),
    ):
        assert b"\n" not in message
        assert clean in message


def test_no_data_still_makes_valid_json() -> None:
    """Namespaces of the format ``binary`` take empty data."""
    assert json.loads(codec.encode_push("a", Publication(Payload(b""))))["push"]["channel"] == "a"


BINARY = Publication(Payload(b"\x00\xff"), binary=True)


def test_binary_data_ends_the_connection() -> None:
    encodings: tuple[Callable[[], bytes], ...] = (
        lambda: codec.encode_push("a", BINARY),
        lambda: codec.encode_result(1, HistoryResult([FIRST, BINARY], 1, "e")),
        lambda: codec.encode_result(1, SubscribeResult(publications=[BINARY])),
        lambda: codec.encode_result(1, ConnectResult("c", "1", subs={"a": SubscribeResult(publications=[BINARY])})),
    )
    for encode in encodings:
        with pytest.raises(Disconnect) as caught:
            encode()
        assert caught.value.code == DisconnectCode.INAPPROPRIATE_PROTOCOL


def test_only_payloads_are_spliced_in() -> None:
    with pytest.raises(TypeError, match="object does not go on the wire"):
        codec.encode_push("a", Publication(Payload(b"1"), info=object()))  # type: ignore[arg-type]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(json_values, st.sampled_from([None, 0, 2]), st.booleans())
def test_any_payload_reaches_others_as_it_was_published(value: Any, indent: int | None, escape: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=escape)
    try:
        data = text.encode().replace(b"\n", b"\r")  # white space too, but no end of a command
    except UnicodeEncodeError:
        return
    (command,) = codec.decode(b'{"id":1,"publish":{"channel":"a","data":%b}}' % data)
    assert isinstance(command.request, PublishRequest)
    assert bytes(command.request.data) == data
    stored = Payload(text.encode())
    message = codec.encode_push("a", Publication(stored))
    assert message == b'{"push":{"channel":"a","pub":{"data":' + text.replace("\n", "").encode() + b"}}}"
    assert json.loads(message)["push"]["pub"]["data"] == value


def test_the_last_push() -> None:
    assert codec.encode_disconnect(Disconnect(DisconnectCode.SHUTDOWN)) == (
        b'{"push":{"disconnect":{"code":3001,"reason":"shutdown"}}}'
    )


# — frames —


def test_messages_are_joined_by_line_ends() -> None:
    assert codec.join([b"{}"]) == b"{}"
    assert codec.join([b'{"id":1}', b"{}", b"{}"]) == b'{"id":1}\n{}\n{}'


def test_a_wire_frames_what_its_protocol_joins() -> None:
    wire = Wire(codec, bytes.decode)
    assert (wire.ping, wire.pack([b"{}", b"{}"])) == ("{}", "{}\n{}")
    assert codec.decode(codec.pong) == [Command(0, Pong())]
    assert (codec.name, codec.binary) == ("centrifuge-json", False)


def test_a_payload_without_anything_is_null_and_breaks_no_frame() -> None:
    assert codec.encode_result(1, RPCResult(Payload(b""))) == b'{"id":1,"rpc":{"data":null}}'


def test_what_is_encoded_stays_as_it_was() -> None:
    """Another client may be told the same, in another protocol."""
    missed = SubscribeResult(publications=[Publication(Payload(b"1"), offset=1, epoch="e")])
    result = ConnectResult("c", "1", subs={"room": missed})
    assert codec.encode_result(1, result) == codec.encode_result(1, result)
    assert missed.publications == [Publication(Payload(b"1"), offset=1, epoch="e")]
