"""What every transport's endpoint does before a session begins."""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from math import ceil
from sys import intern
from typing import Any, TypeVar

from starlette.types import Scope

from gateway import files
from gateway.auth.tokens import TokenVerifier
from gateway.core.node import Node
from gateway.errors import Disconnect, DisconnectCode
from gateway.health import Condition
from gateway.limits.addresses import Peer, Proxies
from gateway.metrics import SlowClient
from gateway.protocols.base import Wire
from gateway.recurring import Address
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
from gateway.transports.admission import Admission, Asking, Refusal, Scoped
from gateway.transports.emulation import Emulation
from gateway.transports.handshake import UpgradeRequest
from gateway.transports.slow_consumer import write_limits

log = logging.getLogger(__name__)

NOTHING_KNOWN = Handshake()

S = TypeVar("S", bound=Session)

UNAUTHENTICATED = 65536
"""Most bytes of a message of a client that has not been let in, and about what the server keeps for such a client at
all, whatever client.message_size_limit says. A token fits in the 8 KiB of an HTTP header, so a connect command does.
"""

PEER = "gateway.peer"
"""Where in a scope it is noted who the client is."""

FORWARDED_FOR = b"x-forwarded-for"

LONGEST_AGENT = 256
"""Characters of a User-Agent that are kept."""

DRAIN_PAUSE = 0.1
"""Seconds between two batches of a drain, on average."""


class Acceptor:
    """Decides who may open a connection, and opens sessions. One for all transports of a node."""

    def __init__(
        self,
        node: Node,
        tokens: TokenVerifier,
        application: Application[Session] | NoApplication = NO_APPLICATION,
        keep: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
        *,
        same_origin: bool = False,
    ) -> None:
        """``keep`` says what of a handshake's scope the application may want to see as long as the session lives."""
        self.sessions: set[Session] = set()
        """Every open connection, also those that have not said connect."""
        self._node = node
        self.wheel = node.wheel
        self.emulation = Emulation(node)
        """Those of them that are commanded by requests of their own."""
        self._tokens = tokens
        self._application = application
        self._keep = keep
        client = node.settings.client
        self.refusals = node.refusals
        self._hinted = False
        """Whether it was said that there seems to be a proxy that nobody has named."""
        self._admission = Admission(
            client, node.metrics, node.wheel.clock, node.limiter, same_origin=same_origin, refusals=node.refusals
        )
        self._drain: asyncio.Future[None] | None = None
        self.reload()

    def reload(self) -> None:
        """Go by the node's settings of now: for who comes from now on."""
        settings = self._node.settings
        self._proxies = Proxies(settings.http_server.forwarded_allow_ips)
        self._admission.reload(settings.client)
        self._node.limiter.configure(settings.client)
        self._user_header = settings.client.user_id_http_header.lower().encode("latin-1")
        self.write_limits = write_limits(settings, self.slow)
        """What a client that reads slowly is allowed."""

    def forbid(self, scope: Scope) -> Refusal | None:
        """How a page of an origin that may not connect is refused."""
        return self._admission.forbid(Scoped(scope), self.address(scope))

    def forbids(self, peer: Peer, asking: Asking, patterns: Sequence[str], named: str) -> bool:
        """Whether it is a page of an origin that may not connect: one of none of these, if any are given."""
        return self._admission.forbid(asking, peer.address, patterns, named) is not None

    def address(self, scope: Scope) -> Address:
        """Where a client is, behind the proxies that are trusted."""
        return self.peer(scope).address

    def peer(self, scope: Scope) -> Peer:
        """Who a client is, behind the proxies that are trusted. It is asked for several times of each."""
        found: Peer | None = scope.get(PEER)
        if found is None:
            found = scope[PEER] = self._proxies.peer(self._proxies.client(scope))
        return found

    def peer_of(self, request: UpgradeRequest) -> Peer:
        """The same of a request that our own server has read."""
        if request.client is not None:
            found = self._proxies.peer(request.client[0])
            if not (found.trusted and FORWARDED_FOR in request.names):
                return found
        return self._proxies.peer(self._proxies.client(request.scope))

    def locate(self, session: Session, scope: Scope) -> None:
        """Have a session know where its client is, for the log and for limits, and what it is, for operators."""
        self._locate(session, self.peer(scope), Scoped(scope))

    def _locate(self, session: Session, peer: Peer, asking: Asking) -> None:
        session.address, session.spender.network = peer.address, peer.network
        if self._node.settings.admin.enabled and (agent := asking.header(b"user-agent")):
            session.user_agent = intern(agent[:LONGEST_AGENT].decode("latin-1"))  # many clients have the same

    def refuse(self, scope: Scope, *, check_origin: bool = True) -> Refusal | None:
        """How a client is refused; None for one that may come in. Asked once for each connection, as it begins."""
        return self.turn_back(self.peer(scope), Scoped(scope), check_origin=check_origin)

    def turn_back(self, peer: Peer, asking: Asking, *, check_origin: bool = True) -> Refusal | None:
        """The same, of a client that is known."""
        if check_origin and b"origin" in asking.names:
            refusal = self._admission.forbid(asking, peer.address)
            if refusal is not None:
                return refusal
        if FORWARDED_FOR in asking.names and not (self._hinted or peer.network.public):
            self._hint(peer, asking)
        return self._admission.refuse(len(self.sessions), draining=self._node.draining, address=peer.address)

    def _hint(self, peer: Peer, asking: Asking) -> None:
        """Say once that there seems to be a proxy that nobody has named."""
        if self._proxies.ignores(asking.scope):
            self._hinted = True
            log.warning(
                "%s sends X-Forwarded-For and is not believed: if it is a proxy of yours, name it in "
                "http_server.forwarded_allow_ips, for all its clients count as one address until then",
                peer.address,
            )

    def reject_subprotocols(self, peer: Peer, offered: Sequence[str], spoken: Sequence[str]) -> Refusal:
        """How a client is refused that may come in, and offers nothing that is spoken here."""
        return self._admission.reject_subprotocols(offered, spoken, peer.address)

    @property
    def slow(self) -> set[SlowClient]:
        """Where clients are noted that are slow just now."""
        return self._node.metrics.slow

    def may_search(self, scope: Scope) -> bool:
        """Whether other nodes may be asked for a client's session; `missed` is to be told if one has none."""
        return self._node.limiter.may_search(self.peer(scope).network)

    def missed(self, scope: Scope) -> None:
        self._node.limiter.missed(self.peer(scope).network)

    def repel(self, scope: Scope) -> Refusal | None:
        """Whether one that might come in before can no longer, and how it is refused then."""
        return self._admission.repel(len(self.sessions), draining=self._node.draining, address=self.address(scope))

    def open(self, wire: Wire, transport: Transport, scope: Scope) -> ClientSession:
        return self.let_in(wire, transport, self.peer(scope), Scoped(scope))

    def let_in(self, wire: Wire, transport: Transport, peer: Peer, asking: Asking) -> ClientSession:
        """Open the session of a client that is known."""
        session = self.let_in_as(ClientSession, wire, transport, peer, asking)
        if wire.emulated:
            self.emulation.open(session)
        return session

    def let_in_as(self, make: Callable[..., S], wire: Wire, transport: Transport, peer: Peer, asking: Asking) -> S:
        """The same of one that is not commanded as ours are: ``make`` takes what a `Session` begins with."""
        user = asking.header(self._user_header) if self._user_header else None
        handshake, context = NOTHING_KNOWN, None
        if user:
            handshake = Handshake({self._user_header.decode("latin-1"): _text(user)})
        if self._keep is not None:
            handshake = Handshake(handshake.headers, self._keep(asking.scope))
            context = copy_context()
        session = make(self._node, self._tokens, wire, transport, handshake, self._application, context)
        self._locate(session, peer, asking)
        self.add(session)
        return session

    def add(self, session: Session) -> None:
        """Count an open connection; ``remove`` counts it no more."""
        self._node.metrics.opened_connections[session.transport.name] += 1
        self._node.limiter.enter(session.spender.network)
        self.sessions.add(session)

    def remove(self, session: Session) -> None:
        if session in self.sessions:
            self.sessions.remove(session)
            self._node.limiter.leave(session.spender.network)

    def close(self, session: Session, code: int = DisconnectCode.CONNECTION_CLOSED, reason: str | None = None) -> None:
        """The session's transport is closed: so says the client, or its network, unless the session has closed it."""
        self.remove(session)
        if session.wire.emulated:
            self.emulation.close(session)
        closed = Disconnect(code)
        closed.reason = closed.reason if reason is None else reason
        if session.application is NO_APPLICATION:
            try:
                session.leave(closed)
            except Exception:  # a defect, which is not to keep the connection from closing
                log.exception("%s: has not left all channels", str(session))
        else:
            # not awaited here: a server that cancels its application must not keep the session from leaving; and not at
            # once: what has come just before, which the program decides, has a task, and begins before this one
            self._node.spawn(session.end(closed), session.context)

    def condition(self) -> Condition | None:
        """For the health check: whether nobody more may come in, by this port if others share it."""
        limit = self._node.settings.client.connection_limit
        if 0 < limit <= len(self.sessions):
            why = f"client.connection_limit = {limit} is reached"
        elif files.scarce():
            why = f"{files.limit()} files may be open, and nearly are"
        else:
            return None
        if room := sum(not each.full for each in self._node.cluster.siblings()):
            return Condition("full", f"{why}; {room} others that share the port have room")
        return Condition("full", why, "full")

    async def drain(self) -> None:
        """Ask every client to come back elsewhere, some at a time, and let nobody in.

        All at once they would all return at once, to the nodes that are left. Who calls meanwhile waits for the same.
        """
        if self._drain is None or self._drain.done():
            self._drain = asyncio.ensure_future(self._send_away())
        await self._drain

    async def _send_away(self) -> None:
        self._node.draining = True
        await self._disconnect_all(DisconnectCode.SHUTDOWN, self._node.settings.shutdown.drain_time)

    async def move(self, within: float) -> None:
        """Ask those who are here, some at a time, to come back, and to go elsewhere if the balancer says so."""
        await self._disconnect_all(DisconnectCode.FORCE_RECONNECT, within)

    async def _disconnect_all(self, code: DisconnectCode, within: float) -> None:
        """At shutdown.drain_rate, or faster so as to be done in time. Who comes meanwhile stays."""
        sessions = list(self.sessions)
        random.shuffle(sessions)
        began, count = self._node.wheel.clock(), len(sessions)
        left = min(within, count / self._node.settings.shutdown.drain_rate)
        log.info("draining: %d clients are sent elsewhere within %.0f s", count, left)
        while sessions:
            pause = DRAIN_PAUSE * random.uniform(0.5, 1.5)  # noqa: S311  spreads, hides nothing
            some = ceil(len(sessions) * min(1.0, pause / left)) if left > 0 else len(sessions)
            for session in sessions[:some]:
                session.disconnect(Disconnect(code))
            del sessions[:some]
            left -= pause
            if sessions:
                await asyncio.sleep(pause)
                sessions = [session for session in sessions if session in self.sessions]
        seconds = self._node.wheel.clock() - began
        log.info("drained: %d clients in %.1f s, %d of them are still to answer", count, seconds, len(self.sessions))


def is_unauthenticated(session: Session) -> bool:
    """Whether the client has not been let in yet."""
    return session.state in (State.NEW, State.CONNECTING)


def _text(value: bytes) -> str:
    """A header's value: UTF-8, as proxies write it today, or Latin-1, as of old (RFC 9110, section 5.5)."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
