"""What a server speaks, as bytes: templates of what is sent, and marks by which answers are known."""

import re
import time
from collections.abc import Callable, Iterator

import msgspec

from gateway.protocols.centrifuge_fields import COMMAND
from gateway.protocols.centrifuge_json import Envelope
from gateway.protocols.protobuf import delimited

MARK = b'"t":'
"""Stands once in each message, and nowhere else in what a server sends: deliveries are counted by it."""
DIGITS = 16
"""Length of the time behind the mark, in microseconds."""

TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
"""First bytes of whole frames (RFC 6455, section 5.2)."""
CONTROL_LIMIT = 125
"""Longest payload of a control frame, and of any frame whose length takes one byte."""
LONG, HUGE = 126, 127
"""In place of a length: it follows in two bytes, or in eight."""

_EPOCH = int(10 ** (DIGITS - 1))  # so that each time has as many digits as any other
_EMPTY = len(b'{"t":,"x":""}') + DIGITS

_ERROR = re.compile(rb'(?:"id":(\d+)[^\n\x81]*?)?"(error|unsubscribe|disconnect)":\{([^{}]*)\}')
_CODE = re.compile(rb'"code":(\d+)')
_WORDS = re.compile(rb'"(?:message|reason)":"([^"]*)"')
_COMMANDS = {b"1": "connect", b"2": "subscribe", b"3": "publish"}


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """How to connect, subscribe and publish. ``{channel}``, ``{data}`` and ``{token}`` are filled in."""

    path: str
    """Target of the upgrade request."""
    hello: tuple[bytes, ...] = ()
    """Text frames sent once upgraded."""
    steps: tuple[bytes, ...] = ()
    """What has to come before each frame of ``hello``; without, they are sent at once."""
    ready: bytes = b""
    """Subscribed once this has come; empty: as soon as ``hello`` is sent."""
    publish: bytes = b"{data}"
    """Text frame that publishes."""
    ping: bytes = b""
    """Text frame that asks for ``pong``."""
    pong: bytes = b""
    names: tuple[str, ...] = ()
    """Subprotocols to ask for."""
    first: int = TEXT
    """First byte of frames that are no control frames."""
    encode: Callable[[bytes], bytes] = bytes
    """What makes of a template, once it is filled in, what is sent."""
    mark: bytes = MARK
    """How `MARK` stands in what is delivered: otherwise, where data are JSON in a string."""


CENTRIFUGE = Dialect(
    path="/connection/websocket",
    hello=(b'{"id":1,"connect":{"token":"{token}"}}\n{"id":2,"subscribe":{"channel":"{channel}"}}',),
    ready=b'"id":2,"subscribe"',
    publish=b'{"id":3,"publish":{"channel":"{channel}","data":{data}}}',
    ping=b"{}",
    pong=b"{}",
)
"""Centrifuge JSON, as this gateway speaks it."""

_command = msgspec.json.Decoder(Envelope).decode


def to_protobuf(frame: bytes) -> bytes:
    """Commands of Centrifuge JSON in Protobuf."""
    return b"".join(delimited(COMMAND.write(_command(line))) for line in frame.split(b"\n"))


CENTRIFUGE_PROTOBUF = msgspec.structs.replace(
    CENTRIFUGE,
    ready=b"\x08\x02\x32",  # id 2, subscribe
    ping=b"\x00",
    pong=b"\x00",
    names=("centrifuge-protobuf",),
    first=BINARY,
    encode=to_protobuf,
)


def fill(template: bytes, *, channel: str, token: str = "") -> bytes:
    """The template with all but its ``{data}``."""
    return template.replace(b"{channel}", channel.encode()).replace(b"{token}", token.encode())


def now() -> int:
    """The time as it stands in a message: microseconds of a clock that all processes share."""
    return _EPOCH + time.monotonic_ns() // 1000


def message(at: int, size: int) -> bytes:
    """JSON of about ``size`` bytes that says when it was published."""
    return b'{"t":%d,"x":"%b"}' % (at, b"x" * (size - _EMPTY))


def client_frame(payload: bytes, first: int = TEXT) -> bytes:
    """One frame as a client sends it, masked with zeros: that leaves the payload as it is."""
    size = len(payload)
    if size <= CONTROL_LIMIT:
        head = bytes((first, 0x80 | size))
    elif size < 1 << 16:
        head = bytes((first, 0x80 | LONG)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, 0x80 | HUGE)) + size.to_bytes(8, "big")
    return head + bytes(4) + payload


def closing(payload: bytes) -> str:
    """What a close frame says, for people: "closed 3008: slow"."""
    if len(payload) < 2:
        return "closed without a code"
    words = payload[2:].decode(errors="replace")
    return f"closed {int.from_bytes(payload[:2], 'big')}" + (f": {words}" if words else "")


def troubles(received: bytes | bytearray) -> Iterator[str]:
    """The error replies and farewells in it, for people: "subscribe: permission denied (103)"."""
    for found in _ERROR.finditer(received):
        number, kind, body = found.groups()
        subject = _COMMANDS.get(number or b"", kind.decode())
        words, code = _WORDS.search(body), _CODE.search(body)
        text = words[1].decode(errors="replace") if words else "refused"
        yield f"{subject}: {text}" + (f" ({int(code[1])})" if code else "")
