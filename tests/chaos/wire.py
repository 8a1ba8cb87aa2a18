"""WebSocket and Centrifuge JSON from the client's side, as little of them as thousands of clients need.

Source: RFC 6455, section 5; Centrifuge protocol, "JSON framing" and "Commands".
"""

from collections.abc import Iterator

import msgspec
from msgspec import Struct

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA


class Failure(Struct):
    code: int
    message: str = ""
    temporary: bool = False


class Data(Struct):
    """What is published here: its number in the channel, from one on."""

    n: int


class Publication(Struct):
    data: Data
    offset: int = 0


class Connected(Struct):
    client: str
    node: str = ""
    ping: int = 0


class Subscribed(Struct):
    epoch: str = ""
    offset: int = 0
    recovered: bool = False
    publications: list[Publication] = []


class Info(Struct):
    client: str


class Member(Struct):
    info: Info


class Unsubscribed(Struct):
    code: int


class Push(Struct):
    channel: str = ""
    pub: Publication | None = None
    join: Member | None = None
    leave: Member | None = None
    unsubscribe: Unsubscribed | None = None


class Line(Struct):
    """One line from the server; a ping has nothing in it."""

    id: int = 0
    error: Failure | None = None
    connect: Connected | None = None
    subscribe: Subscribed | None = None
    push: Push | None = None


read_line = msgspec.json.Decoder(Line).decode


def upgrade(host: str, port: int) -> bytes:
    return (
        f"GET /connection/websocket HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: YmVuY2ggYmVuY2ggYmVuYw==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def frame(payload: bytes, kind: int = TEXT) -> bytes:
    """A frame of a client; masked with zeros, which leave it as it is."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | kind, 0x80 | size, 0, 0, 0, 0)) + payload
    return bytes((0x80 | kind, 0xFE)) + size.to_bytes(2, "big") + bytes(4) + payload


def frames(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Kind and payload of each whole frame in the buffer, which they leave."""
    at = 0
    while len(buffer) >= at + 2:
        size, begin = buffer[at + 1], at + 2
        if size >= 126:
            begin += 2 if size == 126 else 8
            size = int.from_bytes(buffer[at + 2 : begin], "big")
        if len(buffer) < begin + size:
            break
        yield buffer[at] & 0x0F, bytes(buffer[begin : begin + size])
        at = begin + size
    del buffer[:at]
