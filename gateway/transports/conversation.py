"""ASGI over a raw connection: what an ordinary WebSocket route sees of it.

Source: ASGI specification 3.0, "WebSocket", spec version 2.4.
"""

import asyncio
import logging
import os
from asyncio import TimerHandle
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from itertools import takewhile
from typing import Any, Protocol
from urllib.parse import quote, unquote

from starlette.types import ASGIApp, Message, Scope
from uvicorn.config import Config
from uvicorn.protocols.utils import ClientDisconnected, get_local_addr, is_ssl

from gateway.transports.frames import BINARY, NORMAL, PING, TEXT, frame, message_frame
from gateway.transports.handshake import Headers, UpgradeRequest, response
from gateway.transports.raw import MESSAGE_COST, QUEUED, AskedConnection, RawConnection, ReadyState, Receiver

INTERNAL_ERROR, RESTART = 1011, 1012

log = logging.getLogger("uvicorn.error")


class ServerConnection(AskedConnection, Protocol):
    """What else an application call needs of it."""

    state: ReadyState
    written: int
    """Bytes of the application's own messages."""


def websocket_scope(request: UpgradeRequest, config: Config, transport: asyncio.Transport) -> Scope:
    """What ASGI says of a connection, but for what is the application's."""
    return asgi_scope(request, config, get_local_addr(transport), scheme_of(transport))


def scheme_of(transport: asyncio.Transport) -> str:
    return "wss" if is_ssl(transport) else "ws"


def asgi_scope(
    request: UpgradeRequest, config: Config, server: tuple[str, int | None] | None, scheme: str
) -> dict[str, Any]:
    path, _, query = request.target.partition("?")
    root_path = config.root_path
    return {
        "type": "websocket",
        "asgi": {"version": config.asgi_version, "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": scheme,
        "server": server,
        "client": request.client,
        "root_path": root_path,
        "path": root_path + unquote(path),
        "raw_path": (root_path + path).encode("ascii"),
        "query_string": query.encode("ascii"),
        "headers": request.headers,
        "subprotocols": request.values(b"sec-websocket-protocol"),
    }


def log_answer(client: tuple[str, int] | None, path: str, what: str) -> None:
    """Without the query, which may hold a token."""
    if log.isEnabledFor(logging.INFO):
        host, port = client or ("", 0)
        log.info('%s:%d - "WebSocket %s" %s', host, port, quote(path), what)


class Conversation:
    """One application call. Satisfies `Receiver`."""

    __slots__ = (
        "_arrived",
        "_connection",
        "_denial",
        "_ended",
        "_keepalive",
        "_queue",
        "_scope",
        "_size",
        "_writable",
        "over",
    )

    def __init__(self, connection: ServerConnection, scope: Scope, keepalive: tuple[float, float]) -> None:
        self._connection = connection
        self._scope = scope
        self._keepalive = Keepalive(connection, *keepalive, self._overdue) if keepalive[0] else None
        self._queue: deque[Message] = deque([{"type": "websocket.connect"}])
        self._size = 0
        self._arrived: asyncio.Event | None = None
        """Made by whoever has to wait for it."""
        self._writable: asyncio.Event | None = None
        self._denial: tuple[int, Headers, bytes] | None = None
        self._ended: Message | None = None
        """The last message: it is received again and again."""
        self.over = False
        """Whether the application has returned."""

    async def run(self, app: ASGIApp) -> None:
        """Call the application, and close what it leaves open."""
        code = NORMAL
        try:
            await app(self._scope, self.receive, self.send)
            if self._connection.state is ReadyState.ASKED:
                log.error("ASGI callable returned without completing handshake.")
        except ClientDisconnected:
            pass
        except asyncio.CancelledError:  # uvicorn has waited long enough for us
            code = RESTART
            raise
        except Exception:
            log.exception("Exception in ASGI application\n")
            code = INTERNAL_ERROR
        finally:
            self.over = True
            self._end(code)

    def _end(self, code: int) -> None:
        """The application has returned; if it has handed the connection over, that is nothing to us."""
        if self._connection.state is ReadyState.ASKED:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, [], b"Internal Server Error")
        elif self._ended is None:
            self._close(code, "")

    # — the application's side —

    async def receive(self) -> Message:
        while not self._queue:
            if self._ended is not None:
                return self._ended
            self._arrived = self._arrived or asyncio.Event()
            await self._arrived.wait()
        message = self._queue.popleft()
        if not self._queue and self._size:
            self._size = 0
            self._connection.go_on()
        return message

    async def send(self, message: Message) -> None:
        """Raises ``ClientDisconnected``, an ``OSError``, when the client has gone."""
        kind = message["type"]
        while self._writable is not None and kind == "websocket.send":  # a close must not wait for who never reads
            await self._writable.wait()
        state = self._connection.state
        if self._ended is not None or state > ReadyState.OPEN:
            raise ClientDisconnected
        if kind == "websocket.send" and state is ReadyState.OPEN:
            text = message.get("text")
            if text is None:
                self._write(BINARY, message["bytes"])
            else:
                self._write(TEXT, text.encode())
        elif kind == "websocket.close" and state is ReadyState.OPEN:
            code, reason = message.get("code", NORMAL), message.get("reason") or ""
            self._close(code, reason)
        elif state is ReadyState.ASKED:
            self._decide(kind, message)
        else:
            raise RuntimeError(f"Unexpected ASGI message '{kind}' on a connection that is {state.name.lower()}.")

    def _write(self, opcode: int, payload: bytes) -> None:
        message = message_frame(opcode, payload, self._connection.compression)
        self._connection.written += len(message)
        self._connection.write(message)

    def _decide(self, kind: str, message: Message) -> None:
        """Accept, refuse, or part of a refusal."""
        if kind == "websocket.http.response.body" and self._denial is not None:
            status, headers, body = self._denial
            self._denial = status, headers, body + message.get("body", b"")
            if not message.get("more_body", False):
                self._refuse(*self._denial)
        elif self._denial is not None:
            raise RuntimeError(f"Expected ASGI message 'websocket.http.response.body' but got '{kind}'.")
        elif kind == "websocket.accept":
            self._connection.accept(message.get("subprotocol"), _headers(message))
            self._log("[accepted]")
            if self._keepalive is not None:
                self._keepalive.start()
        elif kind == "websocket.close":
            self._refuse(HTTPStatus.FORBIDDEN, [], b"")
        elif kind == "websocket.http.response.start":
            if not 200 <= message["status"] < 600:
                raise RuntimeError(f"A connection cannot be refused with status {message['status']}.")
            self._denial = message["status"], _headers(message), b""
        else:
            raise RuntimeError(f"Expected ASGI message 'websocket.accept' or 'websocket.close' but got '{kind}'.")

    def _refuse(self, status: int, headers: Headers, body: bytes) -> None:
        self._connection.refuse(response(status, headers, body))
        self._log(str(int(status)))
        self._finish(1006, "")

    def _close(self, code: int, reason: str) -> None:
        self._connection.close(code, reason)
        self._finish(code, reason)

    def _log(self, what: str) -> None:
        log_answer(self._scope.get("client"), self._scope["path"], what)

    # — the connection's side —

    def take(self, messages: list[tuple[int, bytes]]) -> None:
        for opcode, payload in messages:
            message: Message = {"type": "websocket.receive"}
            if opcode == TEXT:
                message["text"] = payload.decode()
            else:
                message["bytes"] = payload
            self._queue.append(message)
            self._size += len(payload) + MESSAGE_COST
        self._wake()
        if self._size > QUEUED:
            self._connection.hold()

    def pause(self) -> None:
        self._writable = asyncio.Event()

    def resume(self) -> None:
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    def drain(self) -> None:
        if self._connection.state is ReadyState.ASKED:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, [(b"retry-after", b"1")], b"")
        elif self._connection.state is ReadyState.OPEN:
            self._close(RESTART, "service restart")

    def breach(self, code: int, reason: str) -> None:
        self._log(f"{code} {reason}")

    def lose(self, code: int, reason: str) -> None:
        self._finish(code, reason)

    def hear_pong(self, payload: bytes) -> None:
        if self._keepalive is not None:
            self._keepalive.hear(payload)

    def hand_over(self, receiver: Receiver, limit: int) -> bool:
        """Another takes the connection, with what has arrived for the application.

        Answers whether that was all of it: from the first message of more than ``limit`` bytes on it is dropped.
        """
        ended = self._ended
        if ended is None and self._writable is not None:
            receiver.pause()
        queue, self._queue = self._queue, deque()
        self._size = 0
        self._finish(NORMAL, "handed over")
        received = [
            (BINARY, message["bytes"]) if "bytes" in message else (TEXT, message["text"].encode())
            for message in queue
            if message["type"] == "websocket.receive"
        ]
        fitting = list(takewhile(lambda message: len(message[1]) <= limit, received))
        self._connection.go_on()  # the receiver holds it again, if this is too much for it
        if fitting:
            receiver.take(fitting)
        if ended is not None:
            receiver.lose(ended["code"], ended["reason"])
        return len(fitting) == len(received)

    def _overdue(self) -> None:
        """No pong has come."""
        assert self._keepalive is not None
        if self._size > QUEUED:
            self._keepalive.wait()  # it may have come: we do not read while the application is behind
        else:
            self._close(INTERNAL_ERROR, "keepalive ping timeout")

    def _wake(self) -> None:
        if self._arrived is not None:
            self._arrived.set()
            self._arrived = None

    def _finish(self, code: int, reason: str) -> None:
        """No message comes any more."""
        if self._keepalive is not None:
            self._keepalive.stop()
            self._keepalive = None
        if self._ended is None:
            self._ended = {"type": "websocket.disconnect", "code": code, "reason": reason}
        self._wake()
        self.resume()


def _headers(message: Message) -> Headers:
    """ASGI wants pairs, of whatever kind."""
    return [(name, value) for name, value in message.get("headers", ())]


class Keepalive:
    """Pings a client of an ordinary route, as uvicorn's ``ws_ping_interval`` and ``ws_ping_timeout`` want it."""

    __slots__ = ("_connection", "_interval", "_overdue", "_payload", "_timeout", "_timer")

    def __init__(self, connection: RawConnection, interval: float, timeout: float, overdue: Callable[[], None]) -> None:
        self._connection = connection
        self._interval = interval
        self._timeout = timeout
        self._overdue = overdue
        self._payload: bytes | None = None
        self._timer: TimerHandle | None = None

    def start(self) -> None:
        self._after(self._interval, self._ping)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def hear(self, pong: bytes) -> None:
        if pong == self._payload:
            self._payload = None
            self._after(self._interval, self._ping)

    def _ping(self) -> None:
        self._payload = os.urandom(4)  # so that the pong of an earlier ping is known
        self._connection.write(frame(PING, self._payload))
        if self._timeout:
            self.wait()
        else:
            self._after(self._interval, self._ping)

    def wait(self) -> None:
        """Give the pong its time, perhaps once more."""
        self._after(self._timeout, self._overdue)

    def _after(self, delay: float, call: Callable[[], None]) -> None:
        self.stop()
        self._timer = asyncio.get_running_loop().call_later(delay, call)
