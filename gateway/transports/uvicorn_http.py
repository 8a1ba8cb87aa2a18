"""Uvicorn's HTTP protocol class, with an end to every wait for a client, and of one mind with it where a request ends.

Uvicorn waits without end for a request's head, its body, and a client that must read before its connection can
close. And it loses the body of a request that offers an upgrade which nobody takes, as Java's HttpClient offers h2c:
httptools takes all behind such a head for another protocol, so that the body has gone, or is read as a request.
`protocol_class` gives the class for ``uvicorn.Config(http=)``.
"""

import asyncio
import re
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from functools import partial
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.transports.handshake import HEAD_LIMIT, offers_websocket
from gateway.transports.kernel import lift_user_timeout, unacknowledged
from gateway.transports.raw_response import EXTENSION, Overseer

DEFAULT_TIMEOUT = 10.0
"""Seconds for a class used as it stands, as in ``uvicorn --http gateway.transports.uvicorn_http:HttpProtocol``."""


class Deadline:
    """The time by which a peer must finish what it has begun."""

    __slots__ = ("_excused", "_expire", "_loop", "_seconds", "_timer")

    def __init__(self, loop: AbstractEventLoop, seconds: float, expire: Callable[[], None]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._expire = expire
        self._timer: TimerHandle | None = None
        self._excused = False

    def begin(self, *, excused: bool = False) -> None:
        """Start the time, unless it runs. An excuse lets it run once more: for while we did not read."""
        self._excused |= excused
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._fire)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._excused = False

    def _fire(self) -> None:
        self._timer = None
        if self._excused:
            self._excused = False
            self.begin()
        else:
            self._expire()


ANNOUNCED = b"\r\ncontent-length: "
IN_CHUNKS = b"\r\ntransfer-encoding: chunked\r\n"
CHUNKS = re.compile(rb"\r\ntransfer-encoding: chunked(?=\r\n)", re.IGNORECASE)
INTERIM = b"HTTP/1.1 100 "
CLOSING = b"\r\nconnection: close\r\n"
ENCODED = b"\r\ncontent-encoding: "
NOTHING_ANNOUNCED = b"\r\ncontent-length: 0\r\n"


class HeadWithBody:
    """The transport as the cycle of one request sees it: the head of a response waits for the body that it announces.

    Not to save a write alone. A proxy written in Go (Caddy, Traefik) may end its connection as soon as it has passed
    the head on, since its server then closes the request's body, which its client has yet to see the end of
    (golang/go issue 40747): a body that comes in a segment of its own is lost, once in some 30,000 requests.
    """

    __slots__ = ("_bare", "_head", "_transport", "_until_close", "_waits", "chunked", "is_closing")

    def __init__(self, transport: asyncio.Transport, *, until_close: bool = False) -> None:
        """``until_close``: the peer speaks HTTP/1.0, and knows no chunks; a body ends with the connection there."""
        self._transport = transport
        self._until_close = until_close
        self._bare = False
        """Whether what is written loses the frames of its chunks."""
        self._waits = True
        self._head = b""
        self.chunked = False
        """Whether a head has left that announces chunks of the body as it is."""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        if self._waits:
            if not (data := self._begin(data)):
                return
        elif self._bare:
            data = without_frame(data)
        elif self._head:
            data = self._head + data
            self._head = b""
        self._transport.write(data)

    def _begin(self, head: bytes) -> bytes:
        """What of a head, which comes whole, leaves at once: nothing if the body follows that it announces."""
        self._waits = head.startswith(INTERIM)
        announced = ANNOUNCED in head
        if (self._until_close or not announced) and IN_CHUNKS in (lowered := head.lower()):
            if not self._until_close:
                self.chunked = ENCODED not in lowered
                return head
            self._bare = True
            head = CHUNKS.sub(b"", head)
            if CLOSING not in lowered:  # releases of uvicorn differ in whether they say so
                head = head.removesuffix(b"\r\n") + CLOSING[2:] + b"\r\n"
            return head
        if announced and NOTHING_ANNOUNCED not in head:
            self._head = head
            return b""
        return head

    def close(self) -> None:
        if self._head:  # the program has failed
            self._transport.write(self._head)
        self._transport.close()


def without_frame(data: bytes) -> bytes:
    """What is in a chunk, without the last one, which is empty and may stand behind it."""
    size, _, rest = data.partition(b"\r\n")
    return rest[: int(size, 16)] if size else b""


class HttpProtocol(HttpToolsProtocol):
    """HTTP/1.1: a request's head and its body each arrive in time, and the head is of limited size.

    Satisfies `raw_response.RawResponse`, for the response that is under way.

    Source: RFC 9110 and 9112; of the former section 7.8 for offered upgrades, 6.5 for trailers.
    """

    timeout = DEFAULT_TIMEOUT

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._peer: tuple[str, int] | None = None
        self._reading = True
        self._in_head = True
        self._head_size = 0
        self._overseer: Overseer | None = None
        self._outlasts = False
        self._answering: RequestResponseCycle | None = None
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.write = transport.write
        self.waiting = transport.get_write_buffer_size
        self.abort = transport.abort
        self._deadline = Deadline(self.loop, self.timeout, transport.abort)
        self._deadline.begin()

    def come_from(self, peer: tuple[str, int]) -> None:
        """Say where the connection comes from, if the socket does not tell it."""
        self.client = self._peer = peer

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.end()
        for cycle in (self._answering, *(waiting for waiting, _ in self.pipeline)):  # uvicorn tells the latest alone
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        super().connection_lost(exc)
        if (overseer := self._overseer) is not None:
            self._overseer = None
            overseer.lose()
        self._let_go()

    def data_received(self, data: bytes) -> None:
        if self._outlasts:  # a request behind a stream would wait for its end, and nobody hear of ours
            self.cycle.keep_alive = False
            return
        self._unset_keepalive_if_required()
        self._parse(data)
        if self._refused or self.transport.is_closing() or self.transport.get_protocol() is not self:
            return
        if self._in_head:
            # Headers are counted when whole. One that never ends would otherwise grow in the parser.
            self._head_size += len(data)
            if self._head_size > HEAD_LIMIT:
                self.send_400_response("Request head too large.")
                return
        # Blank lines between requests begin none, but have stopped uvicorn's keep-alive timer.
        if self._reading or (self.cycle.response_complete and self.timeout_keep_alive_task is None):
            self._deadline.begin(excused=self.flow.read_paused)
        else:
            self._deadline.end()

    def _parse(self, data: bytes) -> None:
        """Take in what has arrived, to its end: httptools stops behind every head that offers an upgrade."""
        try:
            while data and not self._refused:
                try:
                    self.parser.feed_data(data)
                    return
                except HttpParserUpgrade as offer:
                    data = data[offer.args[0] :]
                if self._should_upgrade():
                    self.handle_websocket_upgrade()
                    if data:  # frames
                        self.transport.get_protocol().data_received(data)  # type: ignore[attr-defined]  # it is set
                    return
                self._pass_over_upgrade()
        except HttpParserError:
            self.logger.warning(message := "Invalid HTTP request received.")
            self.send_400_response(message)

    def send_400_response(self, msg: str) -> None:
        """Refuse the last request and all behind it. If others are still to be answered, they are, and no more is."""
        due: RequestResponseCycle | None = self.cycle
        broken_body = self._reading and not self._in_head
        if broken_body and self.pipeline and self.pipeline[0][0] is due:
            self.pipeline.popleft()
            due = self.pipeline[0][0] if self.pipeline else self._answering
        elif broken_body and due is not None and due.response_started:
            self.transport.close()
            return
        elif broken_body:
            due = None
        if due is None or due.response_complete:
            super().send_400_response(msg)
            return
        self._refused, due.keep_alive = True, False
        self._deadline.end()
        self.flow.resume_reading()  # to throw away: a socket that closes on what is unread takes the answers along

    def _should_upgrade(self) -> bool:
        """Whether the request opens a WebSocket. It does not while an answer is due to one before it."""
        idle = getattr(self.cycle, "response_complete", True)  # there may be none yet
        version = self.parser.get_http_version()
        return (
            idle and self._should_upgrade_to_ws() and offers_websocket(self.parser.get_method(), version, self.headers)
        )

    def _pass_over_upgrade(self) -> None:
        """Have the head read again without its offer, by a parser that takes what follows for its body."""
        headers = self.headers
        line = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        fields = [b"%b: %b\r\n" % field for field in headers if field[0] != b"upgrade"]
        self.parser = HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn: it is thrown away
        self.parser.feed_data(b"%b%b\r\n" % (line, b"".join(fields)))
        self.headers[:] = headers

    def pause_writing(self) -> None:
        lift_user_timeout(self.transport.get_extra_info("socket"))  # an event stream has a deadline of its own
        super().pause_writing()
        if self._overseer is not None:
            self._overseer.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._overseer is not None:
            self._overseer.resume()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._reading = self._in_head = True
        self._head_size = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        if self._in_head:  # a trailer, which no proxy has looked at, must not pass for a header
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.get_method() == b"CONNECT":
            raise ValueError("no proxy")
        if self.parser.get_http_version() == "0.9":
            raise ValueError("no version")  # whoever speaks that expects no head
        if self.parser.should_upgrade() and not self._should_upgrade():
            return  # the head is read again
        former = self.cycle
        super().on_headers_complete()
        self._in_head = False
        self._deadline.end()
        if self.cycle is former:
            return  # an upgrade
        self.scope["extensions"] = {EXTENSION: self}  # type: ignore[dict-item]  # not an empty one, as it has it
        if not self.pipeline:
            self._answering = self.cycle
        if self.scope["method"] != "HEAD":
            old = self.scope["http_version"] == "1.0"
            self.cycle.transport = HeadWithBody(self.transport, until_close=old)  # type: ignore[assignment]  # it has all that is called
        if not (getattr(self.server_state, "keep_alive", True) and self.parser.should_keep_alive()):
            # the server stops, as ours says: the next request goes elsewhere; or the client has said so in a list
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()
            self._reading = False

    def on_response_complete(self) -> None:
        self._overseer = None
        self._outlasts = False
        if self.pipeline:
            self._answering = self.pipeline[-1][0]
        super().on_response_complete()

    # — for who writes a response's body past ASGI —

    def ready(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # of the latest request, for which others may wait
        transport: object = cycle and cycle.transport
        return isinstance(transport, HeadWithBody) and transport.chunked and not self.pipeline

    def outlast(self) -> None:
        if (answering := self._answering) is None:  # the connection is gone
            return
        self._outlasts = True
        if self.cycle is not answering:
            self.cycle, answering.keep_alive = answering, False
            self.pipeline.clear()
        self._deadline.end()
        self.flow.resume_reading()

    def attach(self, overseer: Overseer) -> None:
        self._overseer = overseer
        self.outlast()
        if self.flow.write_paused:
            overseer.pause()

    def unread(self) -> int:
        return self.waiting() + unacknowledged(self.transport.get_extra_info("socket"))

    def handle_websocket_upgrade(self) -> None:
        self._deadline.end()
        if self._peer is not None and self.ws_protocol_class is not None:
            self.ws_protocol_class = partial(_made_of, self.ws_protocol_class, self._peer)  # type: ignore[assignment]
        super().handle_websocket_upgrade()
        self._let_go()

    def timeout_keep_alive_handler(self) -> None:
        # close() would wait without end for a peer that has not read its response yet.
        self.transport.abort()

    def _count(self, size: int) -> None:
        self._head_size += size
        if self._head_size > HEAD_LIMIT:
            raise ValueError("request head too large")  # httptools stops, and uvicorn answers 400

    def _let_go(self) -> None:
        """Keep nothing that keeps this object: a closed connection is freed at once, not when a collector comes by."""
        self._unset_keepalive_if_required()  # uvicorn leaves it to fire after a reset
        self.parser = self.cycle = self.scope = self._answering = None  # type: ignore[assignment]  # as uvicorn has it
        self.pipeline.clear()


def _made_of(kind: Any, peer: tuple[str, int], **options: Any) -> Any:
    """A WebSocket protocol that knows where its connection comes from."""
    protocol = kind(**options)
    protocol.come_from(peer)
    return protocol


def protocol_class(timeout: float) -> type[HttpProtocol]:
    """The class for uvicorn's ``http``, with `timeout` seconds for every wait."""
    return type("HttpProtocol", (HttpProtocol,), {"timeout": timeout})
