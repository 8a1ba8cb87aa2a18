"""WebSocket over plain ASGI: runs on any server."""

from typing import ClassVar

from starlette.types import Message, Receive

from gateway.errors import Disconnect
from gateway.protocols.base import Wire, WireProtocol
from gateway.session import Speaking
from gateway.transports.asgi import AsgiTransport
from gateway.transports.base import UNAUTHENTICATED, is_unauthenticated
from gateway.transports.frames import NO_CODE, TOO_BIG


def portable_wire(protocol: WireProtocol) -> Wire:
    """ASGI wants text frames decoded."""
    return Wire(protocol, bytes if protocol.binary else bytes.decode)


class _Transport(AsgiTransport):
    """One client's WebSocket."""

    __slots__ = ()

    name: ClassVar[str] = "websocket"

    def farewell(self, reason: Disconnect) -> Message:
        return websocket_farewell(reason)


class WebSocketTransport(_Transport):
    """Frames are text."""

    __slots__ = ()

    def message(self, frame: str) -> Message:
        return {"type": "websocket.send", "text": frame}

    def size(self, frame: str) -> int:
        return len(frame.encode())


class BinaryWebSocketTransport(_Transport):
    """Frames are binary."""

    __slots__ = ()

    def message(self, frame: bytes) -> Message:
        return {"type": "websocket.send", "bytes": frame}

    def size(self, frame: bytes) -> int:
        return len(frame)


def transport_of(protocol: WireProtocol) -> type[_Transport]:
    """What takes the frames of its `portable_wire`."""
    return BinaryWebSocketTransport if protocol.binary else WebSocketTransport


def websocket_farewell(reason: Disconnect) -> Message:
    return {"type": "websocket.close", "code": reason.code, "reason": reason.reason}


def payload_of(message: Message) -> bytes:
    """What a client has sent, text or not."""
    text = message.get("text")
    payload: bytes = message["bytes"] if text is None else text.encode()
    return payload


async def converse(session: Speaking, receive: Receive, largest: int) -> tuple[int, str]:
    """Give the session its frames until the connection ends, or one is of more than ``largest`` bytes (1009).

    Returns the code and the reason with which it was closed.

    While one is carried out no other is received: what comes meanwhile is the server's to bound.
    """
    while (message := await receive())["type"] == "websocket.receive":
        payload = payload_of(message)
        if len(payload) > (min(largest, UNAUTHENTICATED) if is_unauthenticated(session) else largest):
            session.reject(Disconnect(TOO_BIG, "message is too big"))
        else:
            await session.receive(payload)
    return message.get("code", NO_CODE), message.get("reason") or ""
