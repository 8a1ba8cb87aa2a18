"""What every transport's endpoint does before a session begins."""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from contextvars import copy_context
from fnmatch import fnmatchcase
from math import ceil
from typing import Any

from starlette.types import Scope

from gateway.auth.tokens import TokenVerifier
from gateway.core.node import Node
from gateway.errors import Disconnect, DisconnectCode
from gateway.protocols.base import Wire
from gateway.session import (
    NO_APPLICATION,
    Application,
    ClientSession,
    Handshake,
    NoApplication,
    Session,
    State,
    Transport,
)

FORBIDDEN, UNAVAILABLE = 403, 503

NOTHING_KNOWN = Handshake()

UNAUTHENTICATED = 65536
"""Most bytes of a message of a client that has not been let in, and about what the server keeps for such a client at
all, whatever client.message_size_limit says. A token fits in the 8 KiB of an HTTP header, so a connect command does.
"""

DRAIN_PAUSE = 0.1
"""Seconds between two batches of a drain, on average."""


class Acceptor:
    """Decides who may open a connection, and opens sessions. One for all transports of a node."""

    def __init__(
        self,
        node: Node,
        tokens: TokenVerifier,
        application: Application[Session] | NoApplication = NO_APPLICATION,
        keep: Callable[[Scope], Mapping[str, Any]] | None = None,
        *,
        same_origin: bool = False,
    ) -> None:
        """``keep`` says what of a handshake's scope the application may want to see as long as the session lives."""
        self.sessions: set[Session] = set()
        """Every open connection, also those that have not said connect."""
        self._node = node
        self._tokens = tokens
        self._application = application
        self._keep = keep
        self._same_origin = same_origin
        """Whether pages of the server's own origin may connect without being listed."""
        client = node.settings.client
        self._origins = tuple(pattern.lower() for pattern in client.allowed_origins)
        self._limit = client.connection_limit
        self._drain: asyncio.Future[None] | None = None
        self._user_header = client.user_id_http_header.lower().encode("latin-1")

    def refuse(self, scope: Scope) -> int:
        """The HTTP status of a refusal, 0 for a client that may come in."""
        origin = header(scope, b"origin")
        if origin is not None and not self._admits(origin.decode("latin-1").lower(), scope):
            return FORBIDDEN
        if self._node.draining or 0 < self._limit <= len(self.sessions):
            return UNAVAILABLE
        return 0

    def open(self, wire: Wire, transport: Transport, scope: Scope) -> ClientSession:
        user = header(scope, self._user_header) if self._user_header else None
        handshake, context = NOTHING_KNOWN, None
        if user:
            handshake = Handshake({self._user_header.decode("latin-1"): _text(user)})
        if self._keep is not None:
            handshake = Handshake(handshake.headers, self._keep(scope))
            context = copy_context()
        session = ClientSession(self._node, self._tokens, wire, transport, handshake, self._application, context)
        self.sessions.add(session)
        return session

    def close(self, session: Session) -> None:
        """The session's transport is closed."""
        self.sessions.discard(session)
        # not awaited here: a server that cancels its application must not keep the session from leaving
        if session.application is NO_APPLICATION:
            self._node.begin(session.end())
        else:
            self._node.spawn(session.end(), session.context)

    async def drain(self) -> None:
        """Ask every client to come back elsewhere, some at a time, and let nobody in.

        All at once they would all return at once, to the nodes that are left. Who calls meanwhile waits for the same.
        """
        if self._drain is None or self._drain.done():
            self._drain = asyncio.ensure_future(self._send_away())
        await self._drain

    async def _send_away(self) -> None:
        self._node.draining = True
        sessions = list(self.sessions)
        random.shuffle(sessions)
        options = self._node.settings.shutdown
        left = min(options.drain_time, len(sessions) / options.drain_rate)
        while sessions:
            pause = DRAIN_PAUSE * random.uniform(0.5, 1.5)  # noqa: S311  spreads, hides nothing
            count = ceil(len(sessions) * min(1.0, pause / left)) if left > 0 else len(sessions)
            for session in sessions[:count]:
                session.disconnect(Disconnect(DisconnectCode.SHUTDOWN))
            del sessions[:count]
            left -= pause
            if sessions:
                await asyncio.sleep(pause)
                sessions = [session for session in sessions if session in self.sessions]

    def _admits(self, origin: str, scope: Scope) -> bool:
        host = (header(scope, b"host") or b"").decode("latin-1").lower()
        if self._same_origin and origin.partition("://")[2] == host != "":
            return True
        return any(fnmatchcase(origin, pattern) for pattern in self._origins)


def is_unauthenticated(session: Session) -> bool:
    """Whether the client has not been let in yet."""
    return session.state in (State.NEW, State.CONNECTING)


def header(scope: Scope, name: bytes) -> bytes | None:
    """A request header's value; ASGI names are lower case."""
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return next((value for key, value in headers if key == name), None)


def _text(value: bytes) -> str:
    """A header's value: UTF-8, as proxies write it today, or Latin-1, as of old (RFC 9110, section 5.5)."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
