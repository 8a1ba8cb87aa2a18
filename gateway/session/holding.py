"""What somebody has in a channel, as long as it lasts, and how it is given back.

``end`` ends it in any state: at once nothing more is delivered, and what it had is cleared away by whoever is at work
on it, else right there.

Source: Centrifuge protocol, "Subscription expiry and sub_refresh", "Position control while subscribed".
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Protocol

from msgspec.structs import replace

from gateway.channels import Channel
from gateway.config.settings import ChannelOptions
from gateway.core.audience import Connection
from gateway.core.cluster import SubscribeUser
from gateway.core.node import Node
from gateway.core.polls import Poll
from gateway.core.recovery import Recovery
from gateway.core.tags import TagsFilter
from gateway.core.wheel import Timer
from gateway.errors import BrokerUnavailable, Disconnect, DisconnectCode, ErrorCode, UnsubscribeCode
from gateway.messages import ClientInfo, Payload, Position, Publication, Push, Unsubscribe
from gateway.session.application import NO_APPLICATION, Admitted, route_of
from gateway.session.base import replace_expiry
from gateway.session.lanes import Lanes
from gateway.session.life import (
    AT_WORK,
    ENDED,
    ENDING,
    GONE,
    LIVE,
    OVER,
    SUBSCRIPTION_LIFE,
    UNBEGUN,
    State,
    SubscriptionEnded,
    SubscriptionState,
)
from gateway.session.loading import Loading

log = logging.getLogger(__name__)


class Owner(Connection, Protocol):
    """What a subscription needs of its session."""

    node: Node
    state: State
    info: Payload | None
    application: Any
    context: Context | None
    subscriptions: dict[str, Any]
    """Those that are not over, by channel."""
    ending: "frozenset[Holding]"
    """Those of which something is being cleared away."""

    def push(self, channel: str, push: Push) -> None: ...

    def lasts(self, expire_at: int) -> tuple[bool, int]: ...

    def in_turn(self) -> Lanes: ...


@dataclass(slots=True, eq=False, repr=False)
class Holding:
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

    # — while it lasts —

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

    def lose_position(self, _before: Position | None) -> None:
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
                    else:
                        if not announced:  # others may have read that it is there, all the same
                            node.doubt(self.channel, self.connection.client)
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

    # — where it stands —

    def _to(self, state: SubscriptionState) -> None:
        """Go on in its life. Raises ``SubscriptionEnded`` if it is over, or its session."""
        if state not in SUBSCRIPTION_LIFE[self.state] or self.connection.state in GONE:
            raise SubscriptionEnded
        self.state = state

    def check(self) -> None:
        """To be called after every await: it may have been ended meanwhile."""
        if self.state in OVER or self.connection.state in GONE:
            # where the server wanted to be quicker, and could not, nobody has refused it
            raise SubscriptionEnded(ErrorCode.INTERNAL if self.instead else ErrorCode.PERMISSION_DENIED)
