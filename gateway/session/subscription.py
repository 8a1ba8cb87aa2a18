"""One subscription's life, whoever makes it: the client, the server, or the program.

``LIFE`` says what may follow what. It begins with its object, which takes the channel's place in the session at once.
``admit`` says what it is granted; ``open`` hears the channel and reads its stream, holding live publications back;
``result`` joins the two; when the client has been told, ``start`` begins live delivery. Nothing waits between the last
three, so nothing can slip in between. ``end`` ends it in any state: at once nothing more is delivered, and what it had
is cleared away by whoever is at work on it, else right there.

Source: Centrifuge protocol, "Race between live and stored", "Position control while subscribed".
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from enum import Enum
from typing import Any, Protocol

from gateway.auth.permissions import Features
from gateway.channels import Channel
from gateway.core.audience import Connection
from gateway.core.node import Node
from gateway.core.recovery import Recovery, merge
from gateway.core.wheel import Timer
from gateway.errors import BrokerUnavailable, Disconnect, DisconnectCode, Error, ErrorCode, UnsubscribeCode
from gateway.messages import ClientInfo, Payload, Position, Publication, Push, SubscribeResult, Unsubscribe
from gateway.session.application import Admitted, NoApplication, route_of
from gateway.session.base import replace_expiry
from gateway.session.recovering import fill, look_up


class SubscriptionState(Enum):
    """Where a subscription stands in its life."""

    DECIDING = "it is being decided whether there is to be one"
    ADMITTED = "granted, and not begun yet"
    OPENING = "its channel is being heard, its stream read"
    READY = "open, and the client is not told yet"
    LIVE = "the client has been told, and gets what is published"
    ENDING = "nothing is delivered any more; what it had is being cleared away"
    ENDED = "nothing is left of it"

    __hash__ = object.__hash__


LIFE: dict[SubscriptionState, frozenset[SubscriptionState]] = {
    SubscriptionState.DECIDING: frozenset((SubscriptionState.ADMITTED, SubscriptionState.ENDING)),
    SubscriptionState.ADMITTED: frozenset((SubscriptionState.OPENING, SubscriptionState.ENDING)),
    SubscriptionState.OPENING: frozenset((SubscriptionState.READY, SubscriptionState.ENDING)),
    SubscriptionState.READY: frozenset((SubscriptionState.LIVE, SubscriptionState.ENDING)),
    SubscriptionState.LIVE: frozenset((SubscriptionState.ENDING,)),
    SubscriptionState.ENDING: frozenset((SubscriptionState.ENDED,)),
    SubscriptionState.ENDED: frozenset(),
}
"""What a state may lead to."""

OVER = frozenset((SubscriptionState.ENDING, SubscriptionState.ENDED))
UNBEGUN = frozenset((SubscriptionState.DECIDING, SubscriptionState.ADMITTED))  # the channel has nothing of it
AT_WORK = frozenset((SubscriptionState.DECIDING, SubscriptionState.OPENING))
"""Somebody is at work on it, and clears it away if it is ended meanwhile."""

log = logging.getLogger(__name__)

Farewell = Callable[[Any, Channel], Coroutine[Any, Any, None]]


class SubscriptionEnded(Error):  # noqa: N818  it is no fault
    """It has been ended by somebody else while it was being made."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.PERMISSION_DENIED)


class Owner(Connection, Protocol):
    """What a subscription needs of its session."""

    node: Node
    info: Payload | None
    application: Any
    context: Context | None
    subscriptions: "dict[str, Subscription]"
    """Those that are not over, by channel."""
    ending: "set[Subscription] | None"
    """Those of which something is being cleared away."""

    @property
    def closed(self) -> bool: ...

    def push(self, channel: str, push: Push) -> None: ...

    def ttl(self, expire_at: int) -> int: ...

    def lose_position(self, subscription: "Subscription") -> None:
        """A publication was missed. The hub has let go of the subscriber already."""

    def conclude(self, channel: str, work: Coroutine[Any, Any, None]) -> None:
        """Run work of the program before what the client wants in the channel."""


class Subscription:
    """What the session knows of one channel; to the hub, a subscriber."""

    __slots__ = (
        "_over",
        "_program",
        "asked",
        "channel",
        "connection",
        "data",
        "expire_at",
        "expiry",
        "found",
        "held",
        "info",
        "joins",
        "options",
        "positioned",
        "recoverable",
        "refreshable",
        "resolved",
        "server_side",
        "since",
        "state",
    )

    def __init__(
        self, session: Owner, channel: Channel, since: Position | None = None, *, server_side: bool = False
    ) -> None:
        """Take the channel's place in the session. Raises ``SubscriptionEnded`` if that is closed."""
        if session.closed:
            raise SubscriptionEnded
        self.connection = session
        self.resolved = channel
        self.channel = channel.name
        self.state = SubscriptionState.DECIDING
        self.since = since
        """Where a returning client says that it stood."""
        self.server_side = server_side
        self.asked = False
        """Whether the program itself let it in, and is to hear of its end."""
        self.joins = self.positioned = self.recoverable = False
        self.options = channel.options
        self.expire_at = 0
        self.expiry: Timer | None = None
        self.found: Recovery | None = None
        """What was read of the stream, for ``result``."""
        self.held: list[Publication] | None = None
        self._over: asyncio.Event | None = None
        self._program: asyncio.Task[Payload | None] | None = None
        """Its code that is asked what an empty cache begins with."""
        session.subscriptions[self.channel] = self

    # — the way in —

    async def ask(self, decision: Awaitable[Admitted]) -> Admitted:
        """What the program grants, which hears of its end from then on. A refusal leaves nothing.

        Raises ``SubscriptionEnded`` if it has been meanwhile.
        """
        try:
            admitted = await decision
            self.asked = True
            self._check()
        except BaseException:
            await self._abandon(heard=False)
            raise
        return admitted

    def admit(self, admitted: Admitted, features: Features) -> None:
        """Say what it is granted."""
        session, grant = self.connection, admitted.grant
        self.options = grant.override.apply(self.resolved.options)
        """The namespace's options, with what the token changes in them."""
        self.joins = features.join_leave
        self.positioned = features.positioned
        self.recoverable = features.recoverable
        self.info = ClientInfo(session.user, session.client, session.info, grant.info)
        self.data = grant.data
        self.expire_at = admitted.expire_at
        """Unix seconds; 0 is never."""
        self.refreshable = admitted.refreshable
        """Whether a new token of the client can move the expiry."""
        if features.positioned:
            self.held = []
        else:
            self.since = None
        self._to(SubscriptionState.ADMITTED)

    async def open(self) -> None:
        """Hear the channel, appear in its presence, read its stream. A failure leaves nothing.

        Raises ``SubscriptionEnded`` if it has been meanwhile.
        """
        session, node = self.connection, self.connection.node
        self._to(SubscriptionState.OPENING)
        heard = False
        try:
            if session.ending:
                for each in [each for each in session.ending if each.channel == self.channel]:
                    if each._program is not None and each._program is asyncio.current_task():
                        raise SubscriptionEnded  # it would wait for itself
                    await each.over()  # else what is cleared away of that one would be this one's
            await node.feeds.hold(self.channel)
            heard = True
            self._check()
            node.hub.join(self)
            if self.options.presence:
                await node.presence_store.add(self.channel, self.info)
                self._check()
            if self.positioned:
                if self.options.force_recovery_mode == "cache":
                    await self._fill()
                self.found = await look_up(node, self.resolved, self.options, self.since, recoverable=self.recoverable)
            self._to(SubscriptionState.READY)
        except BaseException:
            await self._abandon(heard=heard)
            raise

    def result(self) -> SubscribeResult:
        """What the client is told. Raises ``Disconnect`` when a publication is missing.

        From then on ``found`` has the position from which live delivery goes on.
        """
        expires = bool(self.expire_at) and self.refreshable
        result = SubscribeResult(
            expires=expires, ttl=self.connection.ttl(self.expire_at) if expires else 0, data=self.data
        )
        found, since = self.found, self.since
        if found is None:
            return result
        self.found = recovered = merge(
            found,
            self.held or (),
            recovering=since is not None or found.replayed,
            newest_only=self.recoverable and self.options.force_recovery_mode == "cache",
        )
        self.held = None
        result.positioned = True
        result.recoverable = self.recoverable
        result.epoch = recovered.position.epoch
        result.offset = recovered.position.offset
        if since is not None:
            result.was_recovering = True
            result.recovered = recovered.recovered and not found.replayed
            self.connection.node.metrics.recoveries[result.recovered] += 1
            if result.recovered:
                result.publications = recovered.publications
                result.offset = since.offset  # each recovered publication moves the client on from there
        if found.replayed and recovered.publications:
            result.publications = recovered.publications
            result.offset = recovered.publications[0].offset - 1
            # the JavaScript SDK looks at those of a server-side subscription only then
            result.recovered = self.server_side
        return result

    def start(self) -> None:
        """The client has been told: deliver, and tell the channel of a join."""
        self._to(SubscriptionState.LIVE)
        node, found, self.found = self.connection.node, self.found, None
        node.hub.enter(self, found.position if found else None)
        if self.expire_at:
            self.expire(self.expire_at)
        if self.options.join_leave:
            node.begin(node.announce_join(self.channel, self.info))

    # — while it lasts —

    @property
    def live(self) -> bool:
        return self.state is SubscriptionState.LIVE

    @property
    def batch_delay(self) -> float:
        return self.options.batch_delay

    def expire(self, expire_at: int) -> None:
        """Set or replace the moment at which it ends, unless it is refreshed before."""
        self.expire_at = expire_at
        node = self.connection.node
        grace = node.settings.client.expired_sub_close_delay if self.refreshable else 0.0
        self.expiry = replace_expiry(node, self.expiry, expire_at, grace, self._expired)

    def lose_position(self) -> None:
        self.connection.lose_position(self)

    def _expired(self) -> None:
        self.make_anew(UnsubscribeCode.EXPIRED, DisconnectCode.SUBSCRIPTION_EXPIRED)

    def make_anew(self, code: UnsubscribeCode, reconnect: DisconnectCode) -> None:
        """Have the client subscribe again; what the server subscribed takes a new connection."""
        if self.server_side:
            self.connection.disconnect(Disconnect(reconnect))
        else:
            self.end(Unsubscribe(code, code.reason))

    # — the way out —

    def end(self, push: Unsubscribe | None = None) -> None:
        """End it, wherever it stands, and tell the client if ``push`` is given. No publication follows the push."""
        before = self.state
        if before in OVER:
            return
        session, node = self.connection, self.connection.node
        self.state = SubscriptionState.ENDING
        del session.subscriptions[self.channel]
        if self.expiry is not None:
            self.expiry.cancel()
        node.hub.leave(self)
        if push is not None and not session.closed:
            session.push(self.channel, push)
        if before not in UNBEGUN:
            if session.ending is None:
                session.ending = set()
            session.ending.add(self)
        if before not in AT_WORK:
            was_live = before is SubscriptionState.LIVE
            # begins now: what is to be cleared away leaves together, whoever ends at this moment
            node.begin(self._clear(heard=was_live or before is SubscriptionState.READY, was_live=was_live))
            if (farewell := self._farewell(was_live)) is not None:
                session.conclude(self.channel, self._tell(farewell))

    async def over(self) -> None:
        """Wait until nothing is left of one that is ended; the program may not have heard of it yet."""
        if self.state is not SubscriptionState.ENDED:
            if self._over is None:
                self._over = asyncio.Event()
            await self._over.wait()

    async def _abandon(self, *, heard: bool) -> None:
        """End it from where it is at work."""
        self.end()
        await self._clear(heard=heard, was_live=False)
        if (farewell := self._farewell(was_live=False)) is not None:
            await self._tell(farewell)

    async def _clear(self, *, heard: bool, was_live: bool) -> None:
        """Take back what the channel, and others in it, have of it."""
        node, announced = self.connection.node, was_live and self.options.join_leave
        try:
            if heard:
                node.feeds.release(self.channel)
                if self.options.presence:
                    try:
                        await node.presence_store.remove(self.channel, self.connection.client)
                    except BrokerUnavailable:  # the store makes it good, and then the channel is told
                        announced &= not self.resolved.options.join_leave
            if announced:
                await node.announce_leave(self.channel, self.info)
        finally:
            self.state = SubscriptionState.ENDED
            if self.connection.ending is not None:
                self.connection.ending.discard(self)
            if self._over is not None:
                self._over.set()

    def _farewell(self, was_live: bool) -> Farewell | None:
        """What the program does when a subscription ends that it has let in, or that has been one."""
        if not (self.asked or was_live) or isinstance(self.connection.application, NoApplication):
            return None  # the code of plain sockets decides by itself
        route = route_of(self.resolved)
        return route.unsubscribe if route else None

    async def _tell(self, farewell: Farewell) -> None:
        await self.over()
        try:
            await farewell(self.connection, self.resolved)
        except Exception:  # it must not take the place of what the client is to be told
            log.exception("client %s: telling of the end in %s failed", self.connection.client, self.channel)

    # — inside —

    def _to(self, state: SubscriptionState) -> None:
        """Go on in its life. Raises ``SubscriptionEnded`` if it is over, or its session."""
        if state not in LIFE[self.state] or self.connection.closed:
            raise SubscriptionEnded
        self.state = state

    def _check(self) -> None:
        """To be called after every await: it may have been ended meanwhile."""
        if self.state in OVER or self.connection.closed:
            raise SubscriptionEnded

    async def _fill(self) -> None:
        """Have the program fill an empty cache: in a task, for connect may have none, and in the client's context."""
        route, session = route_of(self.resolved), self.connection
        if route is None or (begin_with := route.cache_empty) is None:
            return

        async def ask() -> Payload | None:
            context = None if session.context is None else session.context.copy()
            asking = begin_with(session, self.resolved)
            self._program = asyncio.get_running_loop().create_task(asking, context=context)
            try:
                return await self._program
            finally:
                self._program = None

        await fill(session.node, self.resolved, ask)
        self._check()
