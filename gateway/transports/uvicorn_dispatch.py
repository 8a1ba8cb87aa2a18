"""The first protocol of a connection to uvicorn: looks at its first request and hands it to HTTP or WebSocket.

Uvicorn's own way to a WebSocket is to parse the request as HTTP, write it down again and have it parsed once more.
That is a sixth of what a new connection costs.
"""

import asyncio
import re
from asyncio import AbstractEventLoop
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway import files
from gateway.transports.handshake import HEAD_LIMIT
from gateway.transports.uvicorn_http import HttpProtocol

_WEBSOCKET = re.compile(rb"\r\nupgrade:[ \t]*websocket[ \t]*\r\n", re.IGNORECASE)
_LEFT_TO_HTTP = re.compile(rb" HTTP/1\.0\r\n|\r\n(?:content-length|transfer-encoding)[ \t]*:", re.IGNORECASE)
"""Where it stands in the head, HTTP knows whether a WebSocket is meant (`handshake.offers_websocket`)."""


class DispatchProtocol(asyncio.Protocol):
    """Collects the first head; what comes of it takes the transport over."""

    __slots__ = (
        "_app_state",
        "_config",
        "_deadline",
        "_head",
        "_loop",
        "_server_state",
        "_transport",
        "peer",
        "spared",
    )

    http: type[HttpProtocol] = HttpProtocol

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None,
    ) -> None:
        self._config = config
        self._server_state = server_state
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._head = b""
        self.peer: tuple[str, int] | None = None
        """Where the connection comes from, if the socket does not tell it."""
        self.spared = False
        """Whether it may have one of the last files: operators look what is the matter."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        sock = transport.get_extra_info("socket")
        if sock is not None and not self.spared and files.exhausted(sock.fileno()):
            self._transport.abort()  # an answer would be read by nobody in time
        self._server_state.connections.add(cast(Any, self))
        self._deadline = self._loop.call_later(self.http.timeout, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0 and len(self._head) < HEAD_LIMIT:
            return
        self._leave()
        kind: Any = self._config.ws_protocol_class if self._opens_websocket(end + 2) else self.http
        protocol = kind(
            config=self._config, server_state=self._server_state, app_state=self._app_state, _loop=self._loop
        )
        protocol.connection_made(self._transport)
        if self.peer is not None:
            protocol.come_from(self.peer)
        self._transport.set_protocol(protocol)
        protocol.data_received(self._head)

    def _opens_websocket(self, end: int) -> bool:
        head = self._head
        return (
            head.startswith(b"GET ")
            and _WEBSOCKET.search(head, 0, end) is not None
            and _LEFT_TO_HTTP.search(head, 0, end) is None
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    def shutdown(self) -> None:
        """Uvicorn stops: who has asked for nothing yet is answered nothing."""
        self._transport.close()

    def _leave(self) -> None:
        self._deadline.cancel()
        self._server_state.connections.discard(cast(Any, self))


def protocol_class(http: type[HttpProtocol]) -> type[DispatchProtocol]:
    """The class for uvicorn's ``http``, with this class for what is HTTP."""
    return type("DispatchProtocol", (DispatchProtocol,), {"__slots__": (), "http": http})
