"""What every transport's endpoint does before a session begins."""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from contextvars import copy_context
from math import ceil
from typing import Any

from starlette.types import Scope

from gateway.auth.tokens import TokenVerifier
from gateway.config.settings import Settings
from gateway.core.node import Node
from gateway.errors import Disconnect, DisconnectCode
from gateway.limits.addresses import Network, Proxies, network_of
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
from gateway.transports.admission import Admission, Refusal, header

NOTHING_KNOWN = Handshake()

log = logging.getLogger(__name__)

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
        client = node.settings.client
        self._hinted = False
        """Whether it was said that there seems to be a proxy that nobody has named."""
        self._admission = Admission(client, node.metrics, node.wheel.clock, node.limiter, same_origin=same_origin)
        self.configure(node.settings)
        self._drain: asyncio.Future[None] | None = None
        self._user_header = client.user_id_http_header.lower().encode("latin-1")

    def configure(self, settings: Settings) -> None:
        """Let in by these settings from now on, and hold those who are here to their rates."""
        self._proxies = Proxies(settings.http_server.forwarded_allow_ips)
        self._admission.configure(settings.client)
        self._node.limiter.configure(settings.client)

    def forbid(self, scope: Scope) -> Refusal | None:
        """How a page of an origin that may not connect is refused."""
        return self._admission.forbid(scope)

    def network(self, scope: Scope) -> Network:
        """Where a client is, as limits see it: behind the proxies that are trusted."""
        return network_of(self._proxies.client(scope))

    def refuse(self, scope: Scope, *, check_origin: bool = True) -> Refusal | None:
        """How a client is refused; None for one that may come in. Asked once for each connection, as it begins."""
        if check_origin and (refusal := self.forbid(scope)):
            return refusal
        network, draining = self.network(scope), self._node.draining
        if not (network.public or self._hinted) and self._proxies.ignores(scope):
            self._hinted = True
            log.warning(
                "%s sends X-Forwarded-For and is not believed: if it is a proxy of yours, name it in "
                "http_server.forwarded_allow_ips, for all its clients count as one address until then",
                network.name,
            )
        return self._admission.refuse(len(self.sessions), draining=draining, network=network)

    def repel(self) -> Refusal | None:
        """Whether one that might come in before can no longer, and how it is refused then."""
        return self._admission.repel(len(self.sessions), draining=self._node.draining)

    def open(self, wire: Wire, transport: Transport, scope: Scope) -> ClientSession:
        user = header(scope, self._user_header) if self._user_header else None
        handshake, context = NOTHING_KNOWN, None
        if user:
            handshake = Handshake({self._user_header.decode("latin-1"): _text(user)})
        if self._keep is not None:
            handshake = Handshake(handshake.headers, self._keep(scope))
            context = copy_context()
        session = ClientSession(self._node, self._tokens, wire, transport, handshake, self._application, context)
        session.spender.network = self.network(scope)
        self.add(session)
        return session

    def add(self, session: Session) -> None:
        """Count an open connection; ``remove`` counts it no more."""
        self._node.limiter.enter(session.spender.network)
        self.sessions.add(session)

    def remove(self, session: Session) -> None:
        if session in self.sessions:
            self.sessions.remove(session)
            self._node.limiter.leave(session.spender.network)

    def close(self, session: Session, code: int = DisconnectCode.CONNECTION_CLOSED, reason: str | None = None) -> None:
        """The session's transport is closed: so says the client, or its network, unless the session has closed it."""
        self.remove(session)
        closed = Disconnect(code)
        closed.reason = closed.reason if reason is None else reason
        # not awaited here: a server that cancels its application must not keep the session from leaving
        if session.application is NO_APPLICATION:
            self._node.begin(session.end(closed))
        else:
            self._node.spawn(session.end(closed), session.context)

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


def is_unauthenticated(session: Session) -> bool:
    """Whether the client has not been let in yet."""
    return session.state in (State.NEW, State.CONNECTING)


def _text(value: bytes) -> str:
    """A header's value: UTF-8, as proxies write it today, or Latin-1, as of old (RFC 9110, section 5.5)."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
