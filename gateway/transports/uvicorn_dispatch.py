"""The first protocol of a connection to uvicorn: a WebSocket's, which hands over to HTTP what is none.

Uvicorn's own way to a WebSocket is to parse the request as HTTP, write it down again and have it parsed once more.
That is a sixth of what a new connection costs.
"""

import asyncio
import re
from asyncio import AbstractEventLoop
from functools import cache, partial
from typing import Any

from uvicorn.config import Config

from gateway import files
from gateway.transports.handshake import HEAD_LIMIT, read_usual
from gateway.transports.raw import ReadyState
from gateway.transports.uvicorn_http import HttpProtocol
from gateway.transports.uvicorn_websocket import WebSocketProtocol

_WEBSOCKET = re.compile(rb"\r\nupgrade:[ \t]*websocket[ \t]*\r\n", re.IGNORECASE)
_LEFT_TO_HTTP = re.compile(rb" HTTP/1\.0\r\n|\r\n(?:content-length|transfer-encoding)[ \t]*:", re.IGNORECASE)
"""Where it stands in the head, HTTP knows whether a WebSocket is meant (`handshake.offers_websocket`)."""


class Unheard(dict["DispatchProtocol", float]):
    """Connections that have not said yet what for, in the order in which they came, and since when there are.

    One timer for all drops those that take too long.
    """

    def __init__(self, timeout: float) -> None:
        super().__init__()
        self._timeout = timeout
        self._loop: AbstractEventLoop | None = None
        """Where the timer runs, if it does."""

    def add(self, protocol: "DispatchProtocol") -> None:
        self[protocol] = protocol.loop.time()
        if self._loop is not protocol.loop:
            self._wake(protocol.loop, self._timeout)

    def _wake(self, loop: AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        loop.call_later(seconds, self._look, loop)

    def _look(self, loop: AbstractEventLoop) -> None:
        now, self._loop = loop.time(), None
        while self:
            protocol, since = next(iter(self.items()))
            if (left := since + self._timeout - now) > 0:
                self._wake(loop, left)
                return
            del self[protocol]
            protocol.abort()


class DispatchProtocol(WebSocketProtocol):
    """Looks at the first head; if that opens no WebSocket, HTTP takes the transport over."""

    __slots__ = ()

    http: type[HttpProtocol]
    unheard: Unheard
    lookout: files.Numbers
    spared = False
    """Whether it may have one of the last files: operators look what is the matter."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not self.spared and self.lookout.due():
            sock = transport.get_extra_info("socket")
            if sock is not None and self.lookout.exhausted(sock.fileno()):
                self.abort()  # an answer would be read by nobody in time
        self.unheard.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.unheard.pop(self, None)
        super().connection_lost(exc)

    def _open(self, data: bytes) -> None:
        if self._head is None and (request := read_usual(data)) is not None:
            self.unheard.pop(self, None)
            self._give(request)
            return
        head = self._gather(data)
        end = head.find(b"\r\n\r\n")
        if end < 0 and len(head) < HEAD_LIMIT:
            return
        self.unheard.pop(self, None)
        if _opens_websocket(head, end + 2):
            self._read_head()
        else:
            self._hand_over(bytes(head))

    def _hand_over(self, head: bytes) -> None:
        self.server.connections.discard(self)
        protocol: Any = self.http(
            config=self.config, server_state=self.server, app_state=self._app_state or {}, _loop=self.loop
        )
        protocol.connection_made(self.transport)
        if self.peer is not None:
            protocol.come_from(self.peer)
        self.transport.set_protocol(protocol)
        protocol.data_received(head)


def _opens_websocket(head: bytearray, end: int) -> bool:
    return (
        head.startswith(b"GET ")
        and _WEBSOCKET.search(head, 0, end) is not None
        and _LEFT_TO_HTTP.search(head, 0, end) is None
    )


def protocol_class(http: type[HttpProtocol], websocket: type[WebSocketProtocol]) -> type[DispatchProtocol]:
    """The class for uvicorn's ``http``, with these classes for what is HTTP and what is not."""
    given = {"http": http, "unheard": Unheard(http.timeout), "lookout": files.Numbers()}
    return type("DispatchProtocol", (DispatchProtocol, websocket), {"__slots__": (), **given})


_class_of = cache(partial(protocol_class, HttpProtocol))


def first_protocol(config: Config, **given: Any) -> asyncio.Protocol:
    """For an application of your own: ``--http gateway.transports.uvicorn_dispatch:first_protocol``.

    With one of our classes as ``--ws`` it reads the head of a WebSocket by itself; all else is `HttpProtocol`'s.
    """
    kind = config.ws_protocol_class
    if isinstance(kind, type) and issubclass(kind, WebSocketProtocol):
        known: Any = kind  # which mypy takes for unhashable
        return _class_of(known)(config, **given)
    return HttpProtocol(config, **given)


def is_unheard(connection: object) -> bool:
    """Whether somebody has connected there, and has not said yet what for."""
    return isinstance(connection, DispatchProtocol) and connection.state is ReadyState.OPENING
