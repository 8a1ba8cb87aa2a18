"""A WebSocket of the application, called as a server would call it: ASGI without a network.

Source: ASGI specification 3.0, "WebSocket", spec version 2.4, with the extension "WebSocket Denial Response".
"""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import unquote, urlencode

from starlette.types import ASGIApp, Message, Scope
from starlette.websockets import WebSocketDisconnect

from gateway.testing.outcomes import Disconnected, Rejected

HOST = "testserver"

NORMAL, LOST, FAILED = 1000, 1006, 1011

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UpgradeRequest:
    """The HTTP request that opens a WebSocket."""

    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: Mapping[str, str] = field(default_factory=dict)
    subprotocols: tuple[str, ...] = ()

    def scope(self) -> Scope:
        path, _, query = self.path.partition("?")
        headers = {"host": HOST, **{name.lower(): value for name, value in self.headers.items()}}
        if self.cookies:
            headers["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": "&".join(part for part in (query, urlencode(self.query)) if part).encode(),
            "root_path": "",
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
            "client": ("127.0.0.1", 50000),
            "server": (HOST, 80),
            "subprotocols": list(self.subprotocols),
            "extensions": {"websocket.http.response": {}},
        }


class Hearer(Protocol):
    """Who is at the other end. The calls return at once and raise nothing."""

    def hear(self, content: str | bytes) -> None:
        """A frame has come."""

    def look(self) -> None:
        """Something has changed: accepted, closed, failed."""


class ClientGone(OSError):  # noqa: N818  a state
    """What a server raises in ``send`` when the client has gone."""


class Call:
    """One call of the application, from ``websocket.connect`` to its return."""

    def __init__(self, app: ASGIApp, handshake: UpgradeRequest, hearer: Hearer) -> None:
        self.accepted = False
        self.subprotocol: str | None = None
        self.end: Disconnected | None = None
        """How it has ended, as the client sees it."""
        self.failure: Exception | None = None
        """What the application has raised."""
        self.idle = asyncio.Event()
        """Set while the application has done with all that the client has sent."""
        self._hearer = hearer
        self._inbound: deque[Message] = deque([{"type": "websocket.connect"}])
        self._arrived = asyncio.Event()
        self._reading = asyncio.Event()
        self._reading.set()
        self._gone = False
        self._silent = False
        self._denial: Rejected | None = None
        self.idle.set()
        self._task = asyncio.get_running_loop().create_task(self._run(app, handshake.scope()))

    @property
    def returned(self) -> bool:
        return self._task.done()

    # — the client's side —

    def send(self, content: str | bytes) -> None:
        kind = "text" if isinstance(content, str) else "bytes"
        self._deliver({"type": "websocket.receive", kind: content})

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """The client ends it; ``1006`` is an end without goodbye."""
        if not self._gone:
            self._gone = True
            self._reading.set()
            self._deliver({"type": "websocket.disconnect", "code": code, "reason": reason})
            self._finish(Disconnected(code, reason))

    def vanish(self) -> None:
        """The client is not there any more, and nobody knows: what is sent to it gets lost."""
        self._silent = True
        self._finish(Disconnected(LOST))

    def hold(self) -> None:
        """Read nothing: what is sent waits, and who sends with it."""
        self._reading.clear()

    def read(self) -> None:
        self._reading.set()

    async def over(self, within: float) -> None:
        """Wait until the application has returned; it is cancelled if it does not."""
        await asyncio.wait({self._task}, timeout=within)
        if not self._task.done():
            log.warning("the application does not return though its client has gone: it is cancelled")
            self._task.cancel()
            await asyncio.wait({self._task})

    def _deliver(self, message: Message) -> None:
        if not self._task.done():
            self._inbound.append(message)
            if message["type"] == "websocket.receive":
                self.idle.clear()
            self._arrived.set()

    # — the application's side —

    async def _run(self, app: ASGIApp, scope: Scope) -> None:
        code = LOST
        try:
            await app(scope, self._receive, self._send)
            code = NORMAL if self._reading.is_set() else LOST
        except (WebSocketDisconnect, ClientGone):
            pass
        except Exception as error:
            self.failure = error
            code = FAILED
        finally:
            self._finish(Disconnected(code) if self.accepted else Rejected(500, code))
            self._gone = True
            self.idle.set()
            self._hearer.look()

    async def _receive(self) -> Message:
        while not self._inbound:
            self.idle.set()
            self._arrived.clear()
            await self._arrived.wait()
        message = self._inbound[0]
        if message["type"] != "websocket.disconnect":  # which is received again and again
            self._inbound.popleft()
        return message

    async def _send(self, message: Message) -> None:
        await self._reading.wait()
        if self._silent:
            return
        if self._gone:
            raise ClientGone
        match message["type"]:
            case "websocket.accept":
                self.accepted, self.subprotocol = True, message.get("subprotocol")
                self._hearer.look()
            case "websocket.send":
                text = message.get("text")
                self._hearer.hear(message["bytes"] if text is None else text)
            case "websocket.close":
                self._closed(message.get("code", NORMAL), message.get("reason") or "")
            case "websocket.http.response.start":
                self._denial = Rejected(message["status"])
            case "websocket.http.response.body" if self._denial is not None:
                self._denial.body += message.get("body", b"")
                if not message.get("more_body", False):
                    self._finish(self._denial)

    def _closed(self, code: int, reason: str) -> None:
        self._gone = True
        self._deliver({"type": "websocket.disconnect", "code": code, "reason": reason})
        self._finish(Disconnected(code, reason) if self.accepted else Rejected(403, code, reason))

    def _finish(self, end: Disconnected) -> None:
        if self.end is None:
            self.end = end
            self._hearer.look()


async def all_idle(calls: list[Call], within: float) -> list[Call]:
    """Wait until the application has done with what their clients have sent; those with which it has not."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within):
            for call in calls:
                await call.idle.wait()
    return [call for call in calls if not call.idle.is_set()]
