"""WebSocket frames: bytes in, messages out, and messages to bytes. No network here.

Source: RFC 6455, sections 5 to 8; RFC 7692 for compressed messages.
"""

import codecs
import zlib
from collections.abc import Callable
from struct import Struct

from websockets import frames as _websockets

from gateway.transports.deflate import Compression, deflate, inflate

apply_mask: Callable[[bytes, bytes], bytes] = getattr(_websockets, "apply_mask")  # noqa: B009  # in C where built
"""Exclusive or of a payload with a mask of four bytes."""

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FINAL, COMPRESSED = 0x80, 0x40
_WHOLE = {FINAL | TEXT: TEXT, FINAL | BINARY: BINARY}
"""Messages that are one frame, by its first byte."""
_RESERVED = 0x70
_MASKED = 0x80
_CONTROL = 0x8
_EXTENDED = 126
"""A length that stands for one in the next two bytes."""
_MASKED_HEAD = 6
"""Bytes of the shortest head of a client's frame."""
_head, _head_16, _head_64 = Struct(">BB").pack, Struct(">BBH").pack, Struct(">BBQ").pack
"""A server's head: by the length that is in it, or in the two or eight bytes behind."""

CONTROL_SIZE = 125
"""Most bytes of a control frame's payload (RFC 6455, section 5.5)."""

FRAGMENT_SIZE = 64
"""Bytes. Nobody needs smaller fragments, and each costs as much as a message: a message may have as many of them as
go into the largest one,
"""

FRAGMENTS = 1024
"""or this many, if that is more."""

NORMAL, NO_CODE, ABNORMAL = 1000, 1005, 1006
PROTOCOL_ERROR, INVALID_DATA, POLICY, TOO_BIG = 1002, 1007, 1008, 1009

CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)})
"""What a close frame may say (RFC 6455, section 7.4, and its registry)."""

_utf8_decoder = codecs.getincrementaldecoder("utf-8")


class Violation(Exception):  # noqa: N818  the word of RFC 6455 for what fails a connection
    """What a peer must not send. The connection fails with this close code (RFC 6455, section 7.1.7)."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"{code} {reason}")


class Fragments:
    """A message that comes in several frames."""

    __slots__ = ("decoder", "kind", "payloads", "size")

    def __init__(self, kind: int) -> None:
        self.kind = kind
        """Its first byte."""
        self.payloads: list[bytes] = []
        self.size = 0
        self.decoder: codecs.IncrementalDecoder | None = None


class FrameParser:
    """The receiving half of a server's connection.

    ``window_bits`` is the window of a client that may compress its messages, 0 if it may not.
    """

    __slots__ = ("_buffer", "_ended", "_limit", "_message", "_needed", "_window", "unfinished", "violation")

    def __init__(self, limit: int, window_bits: int = 0) -> None:
        self.violation: Violation | None = None
        """Set when the peer broke the protocol."""
        self.unfinished = False
        """Whether a part of a frame or of a message waits for its end."""
        self._ended = False
        """After a close frame or a violation nothing is parsed any more."""
        self._limit = limit
        self._window = window_bits
        self._buffer: bytearray | None = None
        self._needed = 2
        self._message: Fragments | None = None

    @property
    def kept(self) -> int:
        """Bytes of what is unfinished."""
        return (self._message.size if self._message is not None else 0) + len(self._buffer or b"")

    def limit(self, size: int) -> None:
        """Let no message be larger than this from now on."""
        self._limit = size
        self._needed = 0  # the frame that waits for its end is looked at again before that

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Messages and control frames that these bytes complete, as (opcode, payload).

        Text is valid UTF-8. A close frame is the last, and a valid one; ``violation`` is to be looked at afterwards.
        """
        size = len(data)
        # nearly all that comes is one whole frame with one message
        opcode = _WHOLE.get(data[0]) if size > _MASKED_HEAD else None
        if opcode is not None and not (self.unfinished or self._ended):
            start, announced = _MASKED_HEAD, data[1] - _MASKED
            if announced == _EXTENDED:
                start, announced = _MASKED_HEAD + 2, data[2] << 8 | data[3]
            elif announced > _EXTENDED:
                announced = -1
            if size - start == announced <= self._limit:
                payload = apply_mask(data[start:], data[start - 4 : start])
                if opcode == BINARY or payload.isascii() or _is_utf8(payload):
                    return [(opcode, payload)]
        return self._feed(data)

    def _feed(self, data: bytes) -> list[tuple[int, bytes]]:
        if self._ended:
            return []
        if self._buffer is not None:
            self._buffer += data
            if len(self._buffer) < self._needed:
                return []
            data, self._buffer = bytes(self._buffer), None
        messages: list[tuple[int, bytes]] = []
        try:
            rest = self._parse(data, messages)
        except Violation as violation:
            self.violation = violation.with_traceback(None)  # whose frames know this parser
            self._end()
        else:
            if rest < len(data):
                self._buffer = bytearray(data[rest:])
        self.unfinished = self._buffer is not None or self._message is not None
        return messages

    def _parse(self, data: bytes, messages: list[tuple[int, bytes]]) -> int:
        """Parse whole frames; answers where the rest begins."""
        position, end = 0, len(data)
        while True:
            self._needed = 2
            if end - position < 2:
                return position
            first, size = data[position], data[position + 1] & 0x7F
            start = position + 6
            if size > CONTROL_SIZE:
                extended = 2 if size == 126 else 8
                start += extended
                self._needed = 2 + extended
                if end - position < self._needed:
                    self._check(first, data[position + 1], 0)
                    return position
                size = int.from_bytes(data[position + 2 : position + 2 + extended], "big")
            self._check(first, data[position + 1], size)
            if end < start + size:
                self._needed = start + size - position
                return position
            payload = apply_mask(data[start : start + size], data[start - 4 : start])
            position = start + size
            if first == FINAL | TEXT:
                messages.append((TEXT, _utf8(payload)))
            elif first == FINAL | BINARY:
                messages.append((BINARY, payload))
            elif first & _CONTROL:
                if first == FINAL | CLOSE:
                    parse_close(payload)
                    messages.append((CLOSE, payload))
                    self._end()
                    return end
                messages.append((first & 0x0F, payload))
            else:
                self._gather(first, payload, messages)

    def _end(self) -> None:
        self._ended = True
        self._message = None

    def _check(self, first: int, second: int, size: int) -> None:
        """Refuse a frame by its header, before its payload arrives."""
        if not second & _MASKED:
            raise Violation(PROTOCOL_ERROR, "frame is not masked")
        opcode = first & 0x0F
        allowed = COMPRESSED if self._window and opcode in (TEXT, BINARY) else 0
        if first & _RESERVED & ~allowed:
            raise Violation(PROTOCOL_ERROR, "reserved bits are set")
        if opcode & _CONTROL:
            if opcode > PONG:
                raise Violation(PROTOCOL_ERROR, "unknown opcode")
            if not first & FINAL:
                raise Violation(PROTOCOL_ERROR, "control frame is fragmented")
            if second & 0x7F > CONTROL_SIZE:
                raise Violation(PROTOCOL_ERROR, "control frame is too long")
            return
        if opcode > BINARY:
            raise Violation(PROTOCOL_ERROR, "unknown opcode")
        message = self._message
        if (opcode == CONTINUATION) != (message is not None):
            raise Violation(
                PROTOCOL_ERROR, "continuation of nothing" if opcode == CONTINUATION else "unfinished message"
            )
        if size + (message.size if message is not None else 0) > self._limit:
            raise Violation(TOO_BIG, "message is too big")

    def _gather(self, first: int, payload: bytes, messages: list[tuple[int, bytes]]) -> None:
        """A fragment, or a compressed message."""
        message = self._message or Fragments(first)
        kind = message.kind
        if kind & COMPRESSED == 0 and kind & 0x0F == TEXT:
            message.decoder = message.decoder or _utf8_decoder()
            try:
                message.decoder.decode(payload, bool(first & FINAL))
            except UnicodeDecodeError as error:
                raise Violation(INVALID_DATA, "text is not UTF-8") from error
        if not first & FINAL:
            self._message = message
            message.payloads.append(payload)
            message.size += len(payload)
            if len(message.payloads) > max(FRAGMENTS, self._limit // FRAGMENT_SIZE):
                raise Violation(POLICY, "too many fragments")
            return
        self._message = None
        if message.payloads:
            payload = b"".join((*message.payloads, payload))
        if kind & COMPRESSED:
            payload = self._inflate(payload)
            if kind & 0x0F == TEXT:
                _utf8(payload)
        messages.append((kind & 0x0F, payload))

    def _inflate(self, payload: bytes) -> bytes:
        try:
            inflated = inflate(payload, self._window, self._limit + 1)
        except zlib.error as error:
            raise Violation(INVALID_DATA, "cannot be decompressed") from error
        if len(inflated) > self._limit:
            raise Violation(TOO_BIG, "message is too big")
        return inflated


def _utf8(text: bytes) -> bytes:
    """The same bytes, which are UTF-8."""
    if not (text.isascii() or _is_utf8(text)):
        raise Violation(INVALID_DATA, "text is not UTF-8")
    return text


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def parse_close(payload: bytes) -> tuple[int, str]:
    """Code and reason of a close frame; 1005 for none. Raises `Violation`."""
    if not payload:
        return NO_CODE, ""
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or code not in CLOSE_CODES:
        raise Violation(PROTOCOL_ERROR, "invalid close code")
    return code, _utf8(payload[2:]).decode()


def frame(opcode: int, payload: bytes, *, compressed: bool = False) -> bytes:
    """One whole, unmasked frame."""
    first = FINAL | opcode | (COMPRESSED if compressed else 0)
    size = len(payload)
    if size < 126:
        return _head(first, size) + payload
    if size < 65536:
        return _head_16(first, 126, size) + payload
    return _head_64(first, 127, size) + payload


def message_frame(opcode: int, payload: bytes, compression: Compression | None) -> bytes:
    """A whole message as one frame, compressed where that was agreed on and is shorter."""
    compressed = None if compression is None else deflate(payload, compression)
    return frame(opcode, payload) if compressed is None else frame(opcode, compressed, compressed=True)


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame; a reason too long for one is cut. Without ``code`` if it is 1005, "none"."""
    if code == NO_CODE:
        return frame(CLOSE, b"")
    text = reason.encode()[: CONTROL_SIZE - 2].decode(errors="ignore")  # never through a character
    return frame(CLOSE, code.to_bytes(2, "big") + text.encode())
