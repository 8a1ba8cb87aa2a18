"""The session: one connection's life, and what the gateway says to it. ``life.LIFE`` says what may follow what."""

import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context
from dataclasses import dataclass, field

from gateway.auth.tokens import TokenVerifier
from gateway.channels import Channel
from gateway.core.cluster import (
    ControlCommand,
    DisconnectUser,
    RefreshUser,
    SendMessage,
    SubscribeUser,
    UnsubscribeUser,
)
from gateway.core.node import Node
from gateway.core.wheel import Timer
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode
from gateway.limits.limiter import Spender
from gateway.messages import Payload, Publication, Push, Refresh, Result
from gateway.protocols.base import Wire
from gateway.recurring import Named
from gateway.session import server_side
from gateway.session.application import NO_APPLICATION, Admission, Application, NoApplication
from gateway.session.base import NOWHERE, Handshake, Transport, new_id, replace_expiry
from gateway.session.holding import Holding
from gateway.session.lanes import Lanes
from gateway.session.life import CLOSED, CONNECTED, CONNECTING, GONE, LIFE, State
from gateway.session.pipeline import Pipeline
from gateway.session.rejections import TOO_MANY, tell, tell_of_token
from gateway.session.subscription import Subscription

YEAR = 365 * 86400
FOR_EVER = False, 0

log = logging.getLogger(__name__)
access = logging.getLogger("gateway.access")


@dataclass(slots=True, eq=False, repr=False)
class Session:
    """One connection. Its transport calls ``end`` once it is closed."""

    node: Node
    tokens: TokenVerifier
    wire: Wire
    transport: Transport
    handshake: Handshake
    application: "Application[Session] | NoApplication" = NO_APPLICATION
    context: Context | None = None
    """Context variables of the request that opened the connection, for what the program does about it."""
    address: str = ""
    """Where the client comes from, as far as that is known."""
    user_agent: str = ""
    """What it calls itself, where operators may ask."""
    client: str = field(default_factory=new_id)
    session_id: str = ""
    """Names the connection as ``client`` does, but is told to nobody else."""
    spender: Spender = field(default_factory=Spender)
    """The connection as rate limits see it."""
    state: State = State.NEW
    since: float = 0.0
    """When the client was let in (Unix seconds); from then on the program is to hear of its end."""
    token: str = ""
    """What the client has connected with, or refreshed it by since, where there is a program to see it."""
    user: str = ""
    info: Payload | None = None
    meta: Payload | None = None
    """What is known of the connection and not told to its client, for backends that are asked about it."""
    headers: Mapping[str, str] | None = None
    """What its connect command has called headers, of those that the application wants: not to be trusted."""
    expire_at: int = 0
    """When the credentials end (Unix seconds); 0 is never."""
    refreshable: bool = True
    """Whether a new token of the client can move that."""
    expiry: Timer | None = None
    granted: frozenset[str] = frozenset()
    """Server-side channels that the token names."""
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    ending: frozenset[Holding] = frozenset()
    outbox: list[bytes] | None = None
    lanes: Lanes | None = None
    """Commands that the program is deciding; made by the first of them."""
    pipeline: Pipeline | None = None
    """Publishes that the broker has not answered yet; made by the first of them."""
    deferred: tuple[ControlCommand, ...] = ()
    """Commands that came while the client was connecting: nothing is pushed before the reply."""
    awaits_pong: float | None = None
    """When the ping was sent that the client has not answered, by the wheel's clock."""
    round_trip: float | None = None
    """Seconds from the last ping to its pong."""
    heartbeat: Timer = field(init=False)
    """One deadline at a time: for the client's connect, for ours to decide it, for pings and pongs."""
    reason: Disconnect | None = None

    def __post_init__(self) -> None:
        if self.wire.protocol.unidirectional or self.wire.emulated:
            self.session_id = new_id()
        self.heartbeat = self.node.wheel.after(self.node.client.stale_close_delay, self._stale)

    # — what is told of it —

    def __str__(self) -> str:
        """Its name in logs, a `Named`: handlers may keep what they are given, so that no line is given a session."""
        known = {"client": self.client, "user": self.user, "address": self.address}
        user = f" user {self.user!r:.100}" if self.user else ""
        text = f"client {self.client}{user} {self.address}".rstrip()
        return Named(text, {name: value for name, value in known.items() if value})

    # — what the client is told —

    def answer(self, command_id: int, result: Result) -> None:
        self.node.hub.post(self, self.wire.protocol.encode_result(command_id, result))

    def fail(self, command_id: int, error: Exception) -> None:
        """Answer with an error, or with the end where there are no replies.

        What is none of the catalogue's is a defect, and the client learns nothing of it.
        """
        if not isinstance(error, Error):
            log.error("%s: command %d failed", str(self), command_id, exc_info=error)
            error = Error(ErrorCode.INTERNAL)
        tell_of_token(self, error)
        self.node.metrics.errors[error.code] += 1
        try:
            reply = self.wire.protocol.encode_error(command_id, error)
        except Disconnect as reason:
            self.reject(reason)
            return
        self.node.hub.post(self, reply)
        if error.code != ErrorCode.INTERNAL and not self.node.limiter.bears(self.spender):
            self.reject(Disconnect(DisconnectCode.NOT_AVAILABLE, TOO_MANY))

    def push(self, channel: str, push: Push) -> None:
        self.node.hub.post(self, self.wire.protocol.encode_push(channel, push))

    def reroute(self) -> None:
        """The transport writes in another way from now on."""
        self.node.hub.reroute(self.subscriptions.values())

    # — life —

    @property
    def closed(self) -> bool:
        return self.state in GONE

    def to(self, state: State) -> bool:
        """Go on in its life; False if that cannot be, as when it has been closed meanwhile."""
        if state not in LIFE[self.state]:
            return False
        self.state = state
        return True

    def connected(self) -> None:
        """The connect command has succeeded: pings begin, and the cluster's commands take effect."""
        self.to(CONNECTED)
        deferred, self.deferred = self.deferred, ()
        for command in deferred:
            self.control(command)
        if self.node.settings.log.access:
            access.info("%s: connected", str(self))
        client = self.node.client
        if not client.ping_interval or self.state is not CONNECTED:
            self.heartbeat.cancel()
        elif self.heartbeat.callback == self._stale and client.stale_close_delay <= client.ping_interval / 2:
            self.heartbeat.callback = self._begin_pings  # of those that come, many go before: spares them a timer
        else:
            self.watch(client.ping_interval * (0.5 + 0.5 * random.random()), self._ping)  # noqa: S311

    def reject(self, reason: Disconnect) -> None:
        """Close the connection of a client that breaks a rule or goes over a limit: logged, and counted by its kind."""
        if self.state not in GONE:
            tell(self, reason)
        self.disconnect(reason)

    def disconnect(self, reason: Disconnect) -> None:
        """Close the connection, with what was answered before."""
        if not self.to(CLOSED):
            return
        # not the one that was raised: its frames know this session, which would keep itself alive
        self.reason = farewell = Disconnect(reason.code)
        farewell.reason = reason.reason
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s: disconnected, %s", str(self), farewell)
        if reason.code != DisconnectCode.SLOW:
            self.node.hub.flush()
        self.transport.close(self.outwardly(farewell))
        # not when the transport has closed: a client that does not read may take its time
        self.node.spawn(self.end(), self.context)

    def outwardly(self, reason: Disconnect) -> Disconnect:
        """The reason in the codes that its client knows."""
        return reason

    async def end(self, closed: Disconnect | None = None) -> None:
        """Leave every channel. The transport calls this when it is closed; a second call does nothing.

        The application is told when all that it did for the client has ended.
        """
        if self.leave(closed) and self.application is not NO_APPLICATION:
            await self.left()
            if self.lanes is not None:
                await self.lanes.finished()
            if self.since and self.application.disconnect is not None:
                await self.application.disconnect(self)

    def leave(self, closed: Disconnect | None = None) -> bool:
        """The part of ``end`` that waits for nothing; False if that has been done before.

        ``closed`` is what the client has said, or its network, if the session has not closed it before.
        """
        self.to(CLOSED)
        if not self.to(State.ENDED):
            return False
        # clients may say anything, which is not to name what is counted
        counted = DisconnectCode.CONNECTION_CLOSED if self.reason is None else self.reason.code
        self.node.metrics.disconnects[counted] += 1
        self.reason = self.reason or closed or Disconnect(DisconnectCode.CONNECTION_CLOSED)
        if self.since and self.node.settings.log.access:
            seconds = self.node.clock() - self.since
            text = "%s: ended after %.1f s with %d %r"
            access.info(text, str(self), seconds, self.reason.code, self.reason.reason)
        self.heartbeat.cancel()
        if self.expiry is not None:
            self.expiry.cancel()
        if self.lanes is not None:
            self.lanes.close()
        self.node.hub.close(self)
        for subscription in list(self.subscriptions.values()):
            subscription.end()
        self.transport = NOWHERE
        return True

    async def left(self) -> None:
        """Wait until nothing is left of the subscriptions that have ended."""
        while self.ending:
            await next(iter(self.ending)).over()

    # — for its subscriptions —

    def channel(self, name: str) -> Channel:
        """The channel that a command of the client names; what the server has subscribed it to it may always name.

        Raises ``Error`` for a name that is no channel's, or that clients may not use.
        """
        channels = self.node.channels  # which know the options of now, not those of when it was subscribed
        return channels.resolve(name) if name in self.subscriptions else channels.resolve_for_client(name)

    def lasts(self, expire_at: int) -> tuple[bool, int]:
        """Whether what ends then (0 is never) ends at all, and the seconds until then: at least one, at most a year."""
        return (True, min(max(1, int(expire_at - self.node.clock())), YEAR)) if expire_at else FOR_EVER

    def in_turn(self) -> Lanes:
        """The lanes of what the program decides."""
        if self.lanes is None:
            self.lanes = Lanes(self.node.spawn, self.context)
        return self.lanes

    # — from the cluster —

    def control(self, command: ControlCommand) -> None:
        """A command of the server API, perhaps from another node. They take effect in the order in which they come."""
        if command.client not in ("", self.client) or command.session not in ("", self.session_id):
            return
        match command:
            case DisconnectUser():
                if self.client not in command.whitelist and not self._supersedes(command):
                    self.disconnect(Disconnect(command.code, command.reason))
            case _ if self.state in (State.NEW, CONNECTING):
                self.deferred = (*self.deferred, command)
            case _ if self.state is not CONNECTED:
                pass
            case UnsubscribeUser():
                server_side.unsubscribe(self, command)
            case SubscribeUser():
                self.node.begin(server_side.subscribe(self, command))
            case SendMessage():
                self._message(command)
            case RefreshUser():
                self._refresh(command)

    def supersede(self) -> None:
        """End the user's older connections, on all nodes, where a user may have one alone."""
        client = self.node.client.subscribe_to_user_personal_channel
        if not (client.enabled and client.single_connection and self.user):
            return
        limit = DisconnectCode.CONNECTION_LIMIT
        mine = self.since, self.client
        older = DisconnectUser(user=self.user, code=limit, reason=limit.reason, before=mine)
        self.node.begin(self.node.tell_all(older))

    def _supersedes(self, command: DisconnectUser) -> bool:
        """Whether the command is an older connection's, which is to end instead."""
        if command.before is None or (self.since, self.client) < command.before:
            return False
        if self.state is CONNECTED and (self.since, self.client) > command.before:
            self.supersede()
        return True

    def _message(self, command: SendMessage) -> None:
        """What the program sends to this client alone."""
        try:
            message = self.wire.protocol.encode_push("", Publication(command.data, binary=command.binary))
        except Disconnect:
            log.warning("%s: a message of bytes was not sent, it speaks JSON or text; send either", str(self))
        else:
            self.node.hub.post_in_turn(self, message)

    def _refresh(self, command: RefreshUser) -> None:
        """The server API moves the expiry."""
        if command.expired or (command.expire_at and command.expire_at <= self.node.clock()):
            self.disconnect(Disconnect(DisconnectCode.EXPIRED))
            return
        self.expire(command.expire_at)
        if command.info is not None:
            self.info = command.info
        self.push("", Refresh(*self.lasts(command.expire_at)))

    # — deadlines —

    def watch(self, seconds: float, passed: Callable[[], None]) -> None:
        """Set the deadline, in place of the one before."""
        self.heartbeat.cancel()
        self.heartbeat = self.node.wheel.after(seconds, passed)

    def expire(self, expire_at: int) -> None:
        """Set or replace the moment at which the connection ends, unless it is refreshed before."""
        self.expire_at = expire_at
        grace = self.node.client.expired_close_delay if self.refreshable else 0.0
        self.expiry = replace_expiry(self.node, self.expiry, expire_at, grace, self._expired)

    def pong(self) -> None:
        """The client has answered a ping."""
        if self.awaits_pong is None:
            self.reject(Disconnect(DisconnectCode.BAD_REQUEST))
        else:
            self.round_trip = self.node.wheel.clock() - self.awaits_pong
            self.node.metrics.ping_round_trip.observe(self.round_trip)
        self.awaits_pong = None

    def _begin_pings(self) -> None:
        """The client would have been stale by now: its first ping comes when it is due."""
        client = self.node.client
        first = client.ping_interval * (0.5 + 0.5 * random.random())  # noqa: S311
        self.watch(first - client.stale_close_delay, self._ping)

    def _stale(self) -> None:
        self.reject(Disconnect(DisconnectCode.STALE))

    def keep(self, renewed: Admission) -> None:
        """What is new of the client, beside its end."""
        if renewed.info is not None:
            self.info = renewed.info
        if renewed.meta is not None:
            self.meta = renewed.meta

    def _expired(self) -> None:
        if (renew := self.application.renew) is not None and self.state is CONNECTED:
            self.node.spawn(self._renew(renew), self.context)
        else:
            self.disconnect(Disconnect(DisconnectCode.EXPIRED))

    async def _renew(self, renew: Callable[["Session"], Awaitable[Admission | None]]) -> None:
        """Go on if the application says so: to the end, if it does not know when that is."""
        expire_at = self.expire_at
        try:
            renewed = await renew(self)
        except Disconnect as reason:
            self.disconnect(reason)
            return
        if self.closed or self.expire_at != expire_at:
            return  # the server has moved it meanwhile
        if renewed is None or renewed.expire_at <= self.node.clock():
            self.disconnect(Disconnect(DisconnectCode.EXPIRED))
            return
        self.keep(renewed)
        self.expire(renewed.expire_at)

    def _ping(self) -> None:
        client = self.node.client
        if not client.ping_interval:  # turned off meanwhile
            return
        self.transport.send(self.wire.ping)
        if client.pong_timeout and not self.wire.protocol.unidirectional:
            self.awaits_pong = self.node.wheel.clock()
            self.heartbeat = self.node.wheel.after(client.pong_timeout, self._check_pong)
        else:
            self.heartbeat = self.node.wheel.after(client.ping_interval, self._ping)

    def _check_pong(self) -> None:
        client = self.node.client
        if self.awaits_pong is None:
            self.heartbeat = self.node.wheel.after(client.ping_interval - client.pong_timeout, self._ping)
        elif self.transport.behind():
            self.heartbeat = self.node.wheel.after(client.pong_timeout, self._await_ping)
        else:
            self.reject(Disconnect(DisconnectCode.NO_PONG))

    def _await_ping(self) -> None:
        """The ping had not reached the client, which has its time for the pong from then on."""
        then = self._await_ping if self.transport.behind() else self._check_pong
        self.heartbeat = self.node.wheel.after(self.node.client.pong_timeout, then)
