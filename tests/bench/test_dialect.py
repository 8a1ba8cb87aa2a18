"""Bytes that are sent, and words that are made of what comes."""

import json

import pytest

from gateway.bench.dialect import (
    BINARY,
    CENTRIFUGE,
    CENTRIFUGE_PROTOBUF,
    MARK,
    client_frame,
    closing,
    fill,
    message,
    now,
    troubles,
)
from gateway.messages import ConnectRequest, PublishRequest, SubscribeRequest, SubscribeResult
from gateway.protocols.centrifuge_protobuf import CentrifugeProtobuf


def test_messages_are_json_of_the_size_asked_for() -> None:
    at = now()
    data = message(at, 100)
    assert len(data) == 100
    assert json.loads(data)["t"] == at
    assert data.count(MARK) == 1
    assert len(message(now(), 1)) == len(message(now(), 29)) == 29


def test_the_centrifuge_frames_are_filled() -> None:
    connect, subscribe = fill(CENTRIFUGE.hello[0], channel="news", token="secret").splitlines()
    assert json.loads(connect) == {"id": 1, "connect": {"token": "secret"}}
    assert json.loads(subscribe) == {"id": 2, "subscribe": {"channel": "news"}}
    publish = fill(CENTRIFUGE.publish, channel="news").replace(b"{data}", message(now(), 50))
    assert json.loads(publish)["publish"]["channel"] == "news"


def test_the_same_in_protobuf() -> None:
    hello = CENTRIFUGE_PROTOBUF.encode(fill(CENTRIFUGE_PROTOBUF.hello[0], channel="news", token="secret"))
    connect, subscribe = CentrifugeProtobuf().decode(hello)
    assert isinstance(connect.request, ConnectRequest)
    assert isinstance(subscribe.request, SubscribeRequest)
    assert (connect.id, connect.request.token) == (1, "secret")
    assert (subscribe.id, subscribe.request.channel) == (2, "news")
    assert CENTRIFUGE_PROTOBUF.ready in CentrifugeProtobuf().encode_result(2, SubscribeResult())
    data = message(now(), 200)
    publish = fill(CENTRIFUGE_PROTOBUF.publish, channel="news").replace(b"{data}", data)
    [command] = CentrifugeProtobuf().decode(CENTRIFUGE_PROTOBUF.encode(publish))
    assert isinstance(command.request, PublishRequest)
    assert (command.request.channel, bytes(command.request.data)) == ("news", data)
    assert client_frame(b"\x00", CENTRIFUGE_PROTOBUF.first)[0] == BINARY


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, "8180"),
        (125, "81fd"),
        (126, "81fe007e"),
        (65535, "81feffff"),
        (65536, "81ff0000000000010000"),
    ],
)
def test_frames_name_their_size(size: int, head: str) -> None:
    frame = client_frame(b"x" * size)
    assert frame == bytes.fromhex(head) + bytes(4) + b"x" * size


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"\x0b\xc0slow", "closed 3008: slow"),
        (b"\x03\xe8", "closed 1000"),
        (b"", "closed without a code"),
    ],
)
def test_a_close_frame_is_put_into_words(payload: bytes, words: str) -> None:
    assert closing(payload) == words


@pytest.mark.parametrize(
    ("received", "words"),
    [
        (b'{"id":1,"error":{"code":109,"message":"token expired"}}', "connect: token expired (109)"),
        (b'{"id":1,"connect":{}}\n{"id":2,"error":{"message":"no","code":103}}', "subscribe: no (103)"),
        (b'\x81\x15{"id":2,"subscribe":{}}\x81\x20{"id":3,"error":{"code":103}}', "publish: refused (103)"),
        (b'{"id":9,"error":{}}', "error: refused"),
        (b'{"push":{"unsubscribe":{"code":2500,"reason":"gone"}}}', "unsubscribe: gone (2500)"),
        (b'{"push":{"disconnect":{"code":3001,"reason":"shutdown"}}}', "disconnect: shutdown (3001)"),
        (b'{"id":1,"connect":{}}', ""),
        (b'{"id":3,"error":{"code":1}}' * 2, "publish: refused (1), publish: refused (1)"),
    ],
)
def test_trouble_is_put_into_words(received: bytes, words: str) -> None:
    assert ", ".join(troubles(received)) == words
