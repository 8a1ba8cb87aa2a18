"""One subscription's life, whoever makes it: the client, the server, or the program.

`gateway.session.life` says what may follow what. It begins with its object, which takes the channel's place in the
session at once.
``admit`` says what it is granted; ``open`` hears the channel and reads its stream, holding live publications back;
``result`` joins the two (``loading`` a map takes the steps in which the client asks for it); when the client has been
told, ``start`` begins live delivery. Nothing waits between the last three, so nothing can slip in between. ``end`` ends
it in any state: at once nothing more is delivered, and what it had is cleared away by whoever is at work on it, else
right there.

Source: Centrifuge protocol, "Race between live and stored", "Position control while subscribed".
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from msgspec.structs import replace

from gateway.auth.permissions import Features, granted_features
from gateway.channels import Channel
from gateway.config.settings import ChannelOptions
from gateway.core.audience import Connection
from gateway.core.cluster import SubscribeUser
from gateway.core.node import Node
from gateway.core.polls import Poll
from gateway.core.recovery import Recovery, merge
from gateway.core.tags import TagsFilter
from gateway.core.wheel import Timer
from gateway.errors import BrokerUnavailable, Disconnect, DisconnectCode, ErrorCode, UnsubscribeCode
from gateway.messages import (
    ClientInfo,
    Payload,
    Position,
    Publication,
    Push,
    SubscribeRequest,
    SubscribeResult,
    Unsubscribe,
    is_opaque,
)
from gateway.session.application import NO_APPLICATION, Admitted, route_of
from gateway.session.base import replace_expiry
from gateway.session.lanes import Lanes
from gateway.session.life import (
    ADMITTED,
    AT_WORK,
    ENDED,
    ENDING,
    GONE,
    LIVE,
    LOADING,
    OPENING,
    OVER,
    READY,
    SUBSCRIPTION_LIFE,
    UNBEGUN,
    State,
    SubscriptionEnded,
    SubscriptionState,
)
from gateway.session.loading import Loading
from gateway.session.recovering import is_empty, look_up, say_recovered
from gateway.session.rejections import check_filter
from gateway.session.tokens import check_moment

NOTHING = SubscribeRequest()
"""Asks for no feature and for no recovery."""

log = logging.getLogger(__name__)


class Owner(Connection, Protocol):
    """What a subscription needs of its session."""

    node: Node
    state: State
    info: Payload | None
    application: Any
    context: Context | None
    subscriptions: "dict[str, Subscription]"
    """Those that are not over, by channel."""
    ending: "frozenset[Subscription]"
    """Those of which something is being cleared away."""

    def push(self, channel: str, push: Push) -> None: ...

    def lasts(self, expire_at: int) -> tuple[bool, int]: ...

    def in_turn(self) -> Lanes: ...


@dataclass(slots=True, eq=False, repr=False)
class Subscription:
    """What the session knows of one channel, whose place it takes there; to the hub, a subscriber.

    Raises ``SubscriptionEnded`` if the session is closed.
    """

    connection: Owner
    resolved: Channel
    since: Position | None = None
    """Where a returning client says that it stood."""
    server_side: bool = False
    state: SubscriptionState = SubscriptionState.DECIDING
    channel: str = field(init=False)
    options: ChannelOptions = field(init=False)
    """The channel's, with what was granted changed in them."""
    joins: bool = False
    positioned: bool = False
    recoverable: bool = False
    tags: TagsFilter | None = None
    """Which publications the client wants; None is all."""
    delta: bool = False
    """Whether it has negotiated patches."""
    compact: bool = False
    """Whether the client takes a number in place of the channel's name."""
    number: int = 0
    """Which it has been given; 0 is none."""
    info: ClientInfo = field(init=False)
    data: Payload | None = None
    expire_at: int = 0
    """Unix seconds; 0 is never."""
    refreshable: bool = True
    """Whether a new token of the client can move that."""
    expiry: Timer | None = None
    found: Recovery | None = None
    """What was read of the stream, for ``result``."""
    held: list[Publication] | None = None
    asked: bool = False
    """Whether the program itself let it in, and is to hear of its end."""
    heard: bool = False
    """Whether it has a part in the channel's feed."""
    started: bool = False
    """Whether it has been live: then all hear of its end."""
    instead: SubscribeUser | None = None
    """What the server has ordered meanwhile, for if it fails."""
    loading: Loading | None = None
    """How far its client has come with a map."""
    poll: Poll | None = None
    """Where it tracks keys."""
    filling: asyncio.Task[Payload | None] | None = None
    """The program's code that is asked what an empty cache begins with."""
    _over: asyncio.Event | None = None

    def __post_init__(self) -> None:
        if self.connection.state in GONE:
            raise SubscriptionEnded
        self.channel, self.options = self.resolved.name, self.resolved.options
        self.connection.subscriptions[self.channel] = self

    # — the way in —

    async def ask(self, decision: Awaitable[Admitted]) -> Admitted:
        """What the program grants, which hears of its end from then on. A refusal leaves nothing.

        Raises ``SubscriptionEnded`` if it has been meanwhile, ``Error`` (109) if what is granted is over already.
        """
        try:
            admitted = await decision
            # where the server has been quicker, it will hear of the end of that one
            self.connection.subscriptions.get(self.channel, self).asked = True
            self._check()
            # granted, it would be subscribed to again at once, and again
            check_moment(self.connection.node, admitted.expire_at, ErrorCode.TOKEN_EXPIRED)
        except BaseException:
            await self._abandon()
            raise
        return admitted

    def grant(self, admitted: Admitted, request: SubscribeRequest = NOTHING) -> Self:
        """Grant it what the options force, and what they let it have of what was asked for."""
        session = self.connection
        if not admitted.on_request:
            request = NOTHING
        self.options = options = admitted.grant.override.apply(self.options)
        insecure = session.node.client.insecure
        self.admit(admitted, granted_features(options, session.user, request, insecure=insecure))
        return self

    def admit(self, admitted: Admitted, features: Features) -> None:
        """Say what it is granted. Raises ``Disconnect`` (inappropriate protocol) for data it cannot read."""
        session, grant = self.connection, admitted.grant
        if grant.data is not None and is_opaque(grant.data) and not session.wire.protocol.binary:
            raise Disconnect(DisconnectCode.INAPPROPRIATE_PROTOCOL)
        self.joins = features.join_leave
        self.positioned = features.positioned
        self.recoverable = features.recoverable
        self.info = ClientInfo(session.user, session.client, session.info, grant.info)
        self.data = grant.data
        self.expire_at = admitted.expire_at
        self.refreshable = admitted.refreshable and self._renewal() is None
        if features.positioned:
            self.held = []
            cached = self.options.auto_cache_recover or grant.cache_recover
            if cached and self.since is None and self.recovers_newest:
                self.since = Position()  # as of somebody who has seen nothing
        self._to(ADMITTED)

    def choose(self, tags: TagsFilter | None, delta: str) -> None:
        """Say which publications the client wants, and in which form. With a filter there are no patches."""
        self.tags, self.delta = tags, tags is None and delta in self.options.allowed_delta_types

    async def open(self) -> None:
        """Hear the channel, appear in its presence, read its stream. A failure leaves nothing.

        Raises ``SubscriptionEnded`` if it has been meanwhile.
        """
        node = self.connection.node
        self._to(OPENING)  # who has ended it before has cleared it away
        try:
            await self.hear()
            if self.loading is not None:
                self.found = await self.loading.look_up(node, self.resolved)
                self._check()
            elif self.positioned:
                if self.options.force_recovery_mode == "cache":
                    await self._fill()
                self.found = await look_up(
                    node, self.resolved, self.options, self.since, recoverable=self.recoverable, tags=self.tags
                )
            self._to(READY)
        except BaseException:
            await self._abandon()
            raise

    async def hear(self) -> None:
        """Hear the channel, unless it does already, and appear in its presence. A failure leaves what there is."""
        if self.heard:
            return
        node = self.connection.node
        for each in self.connection.ending:
            if each.channel == self.channel:
                await each.over()  # else what is cleared away of that one would be this one's
        await node.feeds.hold(self.channel)
        self.heard = True
        self._check()
        if self.tags is not None:  # others may have come with filters of theirs meanwhile
            check_filter(node, self.connection, self.channel, self.tags, self.options.tags_filter_limit)
        node.hub.join(self)
        if self.options.presence:
            await node.presence_store.add(self.channel, self.info)
            self._check()

    async def load(self, loading: Loading) -> None:
        """Let the client load the map, in its own time. What has no stream is heard meanwhile.

        Raises ``SubscriptionEnded`` if it has been meanwhile.
        """
        self.loading = loading
        if self.positioned:
            self._to(LOADING)
            return
        self._to(OPENING)
        try:
            self.held = []
            await self.hear()
            timeout = loading.settings.catch_up_timeout
            self.connection.node.wheel.after(timeout + 1.0, self._stop_holding)
            self._to(LOADING)
        except BaseException:
            await self._abandon()
            raise

    def _stop_holding(self) -> None:
        """Nothing is kept for a client that does not go on to load: it is too late for that."""
        if self.state is LOADING:
            assert self.loading is not None
            self.connection.node.hub.leave(self)
            self.held = None
            self.loading.given_up = True

    def check(self) -> None:
        """To be called after every await: it may have been ended meanwhile."""
        self._check()

    def result(self) -> SubscribeResult:
        """What the client is told. Raises ``Disconnect`` when a publication is missing.

        From then on ``found`` has the position from which live delivery goes on.
        """
        result = SubscribeResult(data=self.data)
        if self.expire_at and self.refreshable:
            result.expires, result.ttl = self.connection.lasts(self.expire_at)
        if self.compact and self.options.allow_channel_compaction:
            result.id = self.number = self.connection.node.hub.number(self.channel)
        found, since = self.found, self.since
        result.delta, result.was_recovering = self.delta, since is not None
        if found is None:
            return result
        self.found = recovered = merge(
            found,
            self.held or (),
            recovering=since is not None or found.replayed,
            newest_only=self.recovers_newest and not self.delta,
            tags=self.tags,
        )
        self.held = None
        result.positioned, result.recoverable = True, self.recoverable
        say_recovered(result, recovered, since, self.connection.node.metrics, server_side=self.server_side)
        if self.delta:
            result.publications = self.connection.node.hub.patches.chain(result.publications)
        return result

    def start(self) -> None:
        """The client has been told: deliver, and tell the channel of a join."""
        self._to(LIVE)
        node = self.connection.node
        try:
            self._enter()
        except LookupError:  # too late for an error: the client has its answer
            log.exception("%s: %s is subscribed to anew, for nobody heard it", str(self.connection), self.channel)
            self.lose_position()
            return
        self.started = True
        if self.expire_at:
            self.expire(self.expire_at)
        if self.options.shows_in_maps:
            node.map_presence.came(self.channel, self.options, self.info)
        if self.options.join_leave:
            node.begin(node.announce_join(self.channel, self.info))

    # — while it lasts —

    @property
    def recovers_newest(self) -> bool:
        """Whether it recovers the newest publication alone, for the channel is a cell and not a log."""
        return self.recoverable and self.options.force_recovery_mode == "cache"

    @property
    def live(self) -> bool:
        return self.state is LIVE

    @property
    def batch_delay(self) -> float:
        return self.options.batch_delay

    def expire(self, expire_at: int) -> None:
        """Set or replace the moment at which it ends, unless it is refreshed before."""
        self.expire_at = expire_at
        node = self.connection.node
        grace = node.client.expired_sub_close_delay if self.refreshable else 0.0
        self.expiry = replace_expiry(node, self.expiry, expire_at, grace, self._expired)

    def lose_position(self) -> None:
        self.connection.node.metrics.lost_positions += 1
        self.make_anew(UnsubscribeCode.INSUFFICIENT_STATE, DisconnectCode.INSUFFICIENT_STATE)

    def _renewal(self) -> Callable[[Any, Channel], Awaitable[Admitted | None]] | None:
        """What renews it without its client."""
        route = route_of(self.resolved)
        return route.renew if route else None

    def _expired(self) -> None:
        if (renew := self._renewal()) is not None and self.live:
            self.connection.node.spawn(self._renew(renew), self.connection.context)
        else:
            self.make_anew(UnsubscribeCode.EXPIRED, DisconnectCode.SUBSCRIPTION_EXPIRED)

    async def _renew(self, renew: Callable[[Any, Channel], Awaitable[Admitted | None]]) -> None:
        """Go on if the application says so."""
        node, expire_at = self.connection.node, self.expire_at
        try:
            renewed = await renew(self.connection, self.resolved)
        except Disconnect as reason:
            self.connection.disconnect(reason)
            return
        if not self.live or self.expire_at != expire_at:
            return  # it has been ended meanwhile, or moved
        if renewed is None or 0 < renewed.expire_at <= node.clock():
            self.make_anew(UnsubscribeCode.EXPIRED, DisconnectCode.SUBSCRIPTION_EXPIRED)
            return
        self.show(renewed.grant.info)
        self.expire(renewed.expire_at)

    def show(self, info: Payload | None) -> None:
        """Appear with other info from now on; None leaves it as it is."""
        if info is not None:
            # another object: publications and presence of before keep what they were made with
            self.info = replace(self.info, chan_info=info)
        if self.options.presence:
            self.connection.node.begin(self.connection.node.show(self.resolved.name, self.info))

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
        self.state = ENDING
        del session.subscriptions[self.channel]
        if self.expiry is not None:
            self.expiry.cancel()
        if self.started and self.options.shows_in_maps:
            node.map_presence.left(self.channel, self.options, self.info)
        node.hub.leave(self)
        if self.poll is not None:
            self.poll.leave(self)
        if push is not None and session.state not in GONE:
            session.push(self.channel, push)
        if before in AT_WORK or self.options.presence or self.options.join_leave:
            if before not in UNBEGUN:
                session.ending |= {self}
            if before not in AT_WORK:
                # begins now: what is to be cleared away leaves together, whoever ends at this moment
                node.begin(self._clear())
        else:
            if self.heard:
                node.feeds.release(self.channel)
            self._cleared()
        if before not in AT_WORK and self._farewell() is not None:
            session.in_turn().insert(self.channel, self._tell())

    async def over(self) -> None:
        """Wait until nothing is left of one that is ended; the program may not have heard of it yet."""
        if self.state is not ENDED:
            if self._over is None:
                self._over = asyncio.Event()
            await self._over.wait()

    async def _abandon(self) -> None:
        """End it from where it is at work. If that is a failure, what the server has ordered meanwhile is done."""
        instead = self.instead if self.state not in OVER else None
        self.end()
        if instead is not None:
            self.connection.control(instead)
        await self._clear()
        await self._tell()

    async def _clear(self) -> None:
        """Take back what the channel, and others in it, have of it."""
        node, announced = self.connection.node, self.started and self.options.join_leave
        try:
            if self.heard:
                node.feeds.release(self.channel)
                if self.options.presence:
                    try:
                        await node.presence_store.remove(self.channel, self.connection.client)
                    except BrokerUnavailable:  # the store makes it good, and then the channel is told
                        announced &= not self.resolved.options.join_leave
            if announced:
                await node.announce_leave(self.channel, self.info)
        finally:
            self._cleared()

    def _cleared(self) -> None:
        """Nothing is left of it."""
        self.state = ENDED
        if self in self.connection.ending:
            self.connection.ending -= {self}
        if self._over is not None:
            self._over.set()

    def _farewell(self) -> Callable[[Any, Channel], Awaitable[None]] | None:
        """What the program does when a subscription ends that it has let in, or that has been one."""
        if not (self.asked or self.started) or self.connection.application is NO_APPLICATION:
            return None  # the code of plain sockets decides by itself
        route = route_of(self.resolved)
        return route.unsubscribe if route else None

    async def _tell(self) -> None:
        await self.over()
        try:
            if (farewell := self._farewell()) is not None:
                await farewell(self.connection, self.resolved)
        except Exception:  # it must not take the place of what the client is to be told
            log.exception("%s: telling of the end in %s failed", str(self.connection), self.channel)

    # — inside —

    def _enter(self) -> None:
        hub, found, self.found = self.connection.node.hub, self.found, None
        if self.loading is not None:
            hub.enter(self, None if found is None else found.position, self.loading.had(found))
            self.loading = None
        elif found is None:
            hub.enter(self, None)
        else:
            hub.enter(self, found.position, found.publications[-1] if found.publications else None)

    def _to(self, state: SubscriptionState) -> None:
        """Go on in its life. Raises ``SubscriptionEnded`` if it is over, or its session."""
        if state not in SUBSCRIPTION_LIFE[self.state] or self.connection.state in GONE:
            raise SubscriptionEnded
        self.state = state

    def _check(self) -> None:
        """To be called after every await: it may have been ended meanwhile."""
        if self.state in OVER or self.connection.state in GONE:
            # where the server wanted to be quicker, and could not, nobody has refused it
            raise SubscriptionEnded(ErrorCode.INTERNAL if self.instead else ErrorCode.PERMISSION_DENIED)

    async def _fill(self) -> None:
        """Have the program fill an empty cache: in a task, for connect may have none, and in the client's context."""
        session, node, route = self.connection, self.connection.node, route_of(self.resolved)
        if route is None or route.cache_empty is None or not await is_empty(node, self.resolved):
            return
        context = None if session.context is None else session.context.copy()
        asked = route.cache_empty(session, self.resolved)
        self.filling = asyncio.get_running_loop().create_task(asked, context=context)
        try:
            data = await self.filling
        finally:
            self.filling = None
        # what has been published meanwhile is newer, and others may have asked at the same time
        if data is not None and await is_empty(node, self.resolved):
            await node.publish(self.resolved, Publication(data))
        self._check()
