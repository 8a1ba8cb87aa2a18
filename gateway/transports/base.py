"""What every transport's endpoint does before a session begins."""

import asyncio
import random
from collections.abc import Iterable
from fnmatch import fnmatchcase
from math import ceil

from starlette.types import Scope

from gateway.auth.tokens import TokenVerifier
from gateway.errors import Disconnect, DisconnectCode
from gateway.node import Node
from gateway.protocols.base import Wire
from gateway.session import Handshake, Session, Transport

FORBIDDEN, UNAVAILABLE = 403, 503

NOTHING_KNOWN = Handshake()

DRAIN_PAUSE = 0.1
"""Seconds between two batches of a drain, on average."""


class Entrance:
    """Decides who may open a connection, and opens sessions. One for all transports of a node."""

    def __init__(self, node: Node, tokens: TokenVerifier) -> None:
        self.sessions: set[Session] = set()
        """Every open connection, also those that have not said connect."""
        self._node = node
        self._tokens = tokens
        client = node.settings.client
        self._origins = tuple(pattern.lower() for pattern in client.allowed_origins)
        self._limit = client.connection_limit
        self._user_header = client.user_id_http_header.lower().encode("latin-1")

    def refuse(self, scope: Scope) -> int:
        """The HTTP status of a refusal, 0 for a client that may come in."""
        origin = header(scope, b"origin")
        if origin is not None and not self._known(origin.decode("latin-1").lower()):
            return FORBIDDEN
        if self._node.draining or 0 < self._limit <= len(self.sessions):
            return UNAVAILABLE
        return 0

    def open(self, wire: Wire, transport: Transport, scope: Scope) -> Session:
        user = header(scope, self._user_header) if self._user_header else None
        handshake = NOTHING_KNOWN
        if user:
            handshake = Handshake({self._user_header.decode("latin-1"): user.decode("latin-1")})
        session = Session(self._node, self._tokens, wire, transport, handshake)
        self.sessions.add(session)
        return session

    def close(self, session: Session) -> None:
        """The session's transport is closed."""
        self.sessions.discard(session)
        # not awaited here: a server that cancels its application must not keep the session from leaving
        self._node.spawn(session.end())

    async def drain(self) -> None:
        """Ask every client to come back elsewhere, some at a time, and let nobody in.

        All at once they would all return at once, to the nodes that are left.
        """
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

    def _known(self, origin: str) -> bool:
        return any(fnmatchcase(origin, pattern) for pattern in self._origins)


def header(scope: Scope, name: bytes) -> bytes | None:
    """A request header's value; ASGI names are lower case."""
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return next((value for key, value in headers if key == name), None)
