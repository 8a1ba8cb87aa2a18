"""What every transport's endpoint does before a session begins."""

import asyncio
import random
from collections.abc import Iterable
from fnmatch import fnmatchcase

from starlette.types import Scope

from gateway.auth.tokens import TokenVerifier
from gateway.errors import Disconnect, DisconnectCode
from gateway.node import Node
from gateway.protocols.base import Wire
from gateway.session import Handshake, Session, Transport

FORBIDDEN, UNAVAILABLE = 403, 503

DRAIN_BATCH = 200
"""Connections closed in one go; in between, the event loop serves what these closings cause."""


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
        headers = {self._user_header.decode("latin-1"): user.decode("latin-1")} if user else {}
        session = Session(self._node, self._tokens, wire, transport, Handshake(headers))
        self.sessions.add(session)
        return session

    def close(self, session: Session) -> None:
        """The session's transport is closed."""
        self.sessions.discard(session)
        # not awaited here: a server that cancels its application must not keep the session from leaving
        self._node.spawn(session.end())

    async def drain(self) -> None:
        """Ask every client to come back elsewhere, and let nobody in."""
        self._node.draining = True
        sessions = list(self.sessions)
        random.shuffle(sessions)
        for count, session in enumerate(sessions, 1):
            session.disconnect(Disconnect(DisconnectCode.SHUTDOWN))
            if count % DRAIN_BATCH == 0:
                await asyncio.sleep(0)

    def _known(self, origin: str) -> bool:
        return any(fnmatchcase(origin, pattern) for pattern in self._origins)


def header(scope: Scope, name: bytes) -> bytes | None:
    """A request header's value; ASGI names are lower case."""
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return next((value for key, value in headers if key == name), None)
