"""Wires of WebSockets whose clients take no message apart: each that they are sent is a frame of its own."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from gateway.protocols.base import Wire, WireProtocol
from gateway.transports.deflate import Compression
from gateway.transports.frames import BINARY, TEXT, message_frame


class PortableWire(Wire):
    """Frames for a transport on any server: text or bytes, many of them."""

    __slots__ = ()

    def __init__(self, protocol: WireProtocol) -> None:
        super().__init__(protocol, bytes if protocol.binary else bytes.decode)

    def pack(self, messages: Sequence[bytes]) -> list[Any]:
        return [self.frame(message) for message in messages]


class DirectWire(Wire):
    """Frames for a socket: whole, one after the other."""

    __slots__ = ()

    def __init__(self, protocol: WireProtocol, compression: Compression | None) -> None:
        opcode = BINARY if protocol.binary else TEXT
        super().__init__(protocol, partial(message_frame, opcode, compression=compression))

    def pack(self, messages: Sequence[bytes]) -> bytes:
        if len(messages) == 1:
            return self.frame(messages[0])  # type: ignore[no-any-return]
        return b"".join(map(self.frame, messages))
