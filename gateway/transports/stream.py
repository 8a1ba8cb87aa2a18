"""One client's response that does not end, on any server, and its wire."""

from starlette.types import Message, Send

from gateway.core.wheel import Wheel
from gateway.errors import Disconnect, DisconnectCode
from gateway.protocols.base import StreamProtocol, Wire
from gateway.transports.asgi import AsgiTransport
from gateway.transports.raw_response import chunk
from gateway.transports.slow_consumer import WriteLimits
from gateway.transports.stream_kinds import StreamKind


class StreamWire(Wire):
    """One kind of stream, in one protocol, by the server's ``send`` or past it."""

    __slots__ = ("kind",)

    protocol: StreamProtocol

    def __init__(self, kind: StreamKind, protocol: StreamProtocol, *, direct: bool) -> None:
        frame = kind.frame(protocol)
        framed = (lambda payload: chunk(frame(payload))) if direct else frame
        super().__init__(protocol, framed, emulated=not protocol.unidirectional)
        self.kind = kind

    def farewell(self, reason: Disconnect) -> bytes:
        """What tells the client the reason; nothing if it has gone, or if that is for WebSockets to say."""
        told = reason.code > DisconnectCode.CONNECTION_CLOSED
        return self.pack([self.protocol.encode_disconnect(reason)]) if told else b""


class StreamTransport(AsgiTransport):
    """One client's stream, on any server."""

    __slots__ = ("name", "wire")

    def __init__(self, wire: StreamWire, send: Send, wheel: Wheel, limits: WriteLimits) -> None:
        super().__init__(send, wheel, limits)
        self.name = wire.kind.name
        self.wire = wire

    def message(self, frame: bytes) -> Message:
        return {"type": "http.response.body", "body": frame, "more_body": True}

    def size(self, frame: bytes) -> int:
        return len(frame)

    def farewell(self, reason: Disconnect) -> Message:
        return {"type": "http.response.body", "body": self.wire.farewell(reason), "more_body": False}
