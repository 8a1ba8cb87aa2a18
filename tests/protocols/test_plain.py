"""Plain WebSockets: what a publication looks like in each format, and what a client may send."""

from typing import Any

import pytest

from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode
from gateway.messages import ClientInfo, Join, Payload, Publication, RPCResult
from gateway.protocols.base import WireProtocol
from gateway.protocols.plain import Plain, PlainBytes, PlainJson, PlainText

FORMATS: list[Plain] = [PlainText(), PlainJson(), PlainBytes()]
BINARY = Publication(Payload(b"\xff\x00"), binary=True)


def encode(protocol: Plain, data: bytes) -> bytes:
    return protocol.encode_push("lobby", Publication(Payload(data), offset=7, epoch="e", tags={"a": "b"}))


@pytest.mark.parametrize(
    ("data", "text", "json"),
    [
        (b'"hello"', b"hello", b'"hello"'),
        (b'"two\\nlines"', b"two\nlines", b'"two\\nlines"'),
        (b'""', b"", b'""'),
        ('"ü€😀"'.encode(), "ü€😀".encode(), '"ü€😀"'.encode()),
        (b'{"a": [1, 2]}', b'{"a": [1, 2]}', b'{"a": [1, 2]}'),
        (b"3.5", b"3.5", b"3.5"),
        (b"", b"null", b"null"),
        (b'"\\ud800"', b'"\\ud800"', b'"\\ud800"'),
    ],
)
def test_data_in_each_format(data: bytes, text: bytes, json: bytes) -> None:
    assert [encode(protocol, data) for protocol in FORMATS] == [text, json, text]


def test_binary_data_needs_the_format_for_it() -> None:
    assert PlainBytes().encode_push("lobby", BINARY) == b"\xff\x00"
    for protocol in (PlainText(), PlainJson()):
        with pytest.raises(Disconnect) as refused:
            protocol.encode_push("lobby", BINARY)
        assert refused.value.code == DisconnectCode.INAPPROPRIATE_PROTOCOL


@pytest.mark.parametrize(
    ("protocol", "message", "value"),
    [
        (PlainText(), "hi", "hi"),
        (PlainText(), "", ""),
        (PlainJson(), '{"a": 1}', {"a": 1}),
        (PlainJson(), b"[null]", [None]),
        (PlainBytes(), b"\xff", b"\xff"),
        (PlainBytes(), "ü", "ü".encode()),
    ],
)
def test_reads(protocol: Plain, message: str | bytes, value: Any) -> None:
    assert protocol.read(message) == value


@pytest.mark.parametrize(
    ("protocol", "message", "code"),
    [
        (PlainText(), b"hi", 1003),
        (PlainJson(), "hi", 1007),
        (PlainJson(), "", 1007),
        (PlainJson(), b'"\xff"', 1007),
        (PlainJson(), "[" * 100_000, 1007),
    ],
)
def test_refuses(protocol: Plain, message: str | bytes, code: int) -> None:
    with pytest.raises(Disconnect) as refused:
        protocol.read(message)
    assert refused.value.code == code


@pytest.mark.parametrize("protocol", FORMATS)
def test_there_is_nothing_but_publications(protocol: WireProtocol) -> None:
    with pytest.raises(Disconnect):
        protocol.decode(b"{}")
    with pytest.raises(Disconnect):
        protocol.encode_result(1, RPCResult())
    with pytest.raises(Disconnect):
        protocol.encode_error(1, Error(ErrorCode.INTERNAL))
    with pytest.raises(Disconnect):
        protocol.encode_push("lobby", Join(ClientInfo("u", "c")))


def test_joins() -> None:
    assert PlainText().join([b"a", b"b"]) == b"ab"
