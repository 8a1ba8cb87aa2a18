"""The session: one connection's life. Which command may come when stands in one table, ``COMMANDS``."""

import asyncio
import logging
import os
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import Context
from typing import Any

from gateway.auth.tokens import TokenVerifier
from gateway.core.cluster import ControlCommand, DisconnectUser, RefreshUser, SubscribeUser, UnsubscribeUser
from gateway.core.node import Node
from gateway.core.wheel import Timer
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode
from gateway.messages import (
    Command,
    ConnectRequest,
    HistoryRequest,
    Payload,
    Pong,
    PresenceRequest,
    PresenceStatsRequest,
    PublishRequest,
    Push,
    RefreshRequest,
    Result,
    RPCRequest,
    SendRequest,
    SubRefreshRequest,
    SubscribeRequest,
    UnsubscribeRequest,
)
from gateway.protocols.base import Wire
from gateway.session import asking, connecting, making, server_side, subscribing
from gateway.session.application import Application, NoApplication, is_decided
from gateway.session.base import Handshake, State, Transport
from gateway.session.lanes import Lanes
from gateway.session.pipeline import Pipeline
from gateway.session.subscription import Subscription

FAIR = 32
"""Commands of one client carried out in a row, before others have their turn."""

YEAR = 365 * 86400

NO_APPLICATION = NoApplication()

log = logging.getLogger(__name__)


def _new_id() -> str:
    """A random UUID (RFC 9562, version 4), at a third of what the standard library takes for one."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


class Session:
    """One connection. Its transport calls ``receive`` for each frame, one at a time, and ``end`` once."""

    __slots__ = (
        "admitted",
        "application",
        "awaits_pong",
        "client",
        "context",
        "deferred",
        "ended",
        "expire_at",
        "expiry",
        "granted",
        "handshake",
        "heartbeat",
        "info",
        "lanes",
        "node",
        "outbox",
        "pipeline",
        "reason",
        "refreshable",
        "session_id",
        "state",
        "subscriptions",
        "tokens",
        "transport",
        "user",
        "wire",
    )

    def __init__(
        self,
        node: Node,
        tokens: TokenVerifier,
        wire: Wire,
        transport: Transport,
        handshake: Handshake,
        application: Application = NO_APPLICATION,
        context: Context | None = None,
    ) -> None:
        self.node = node
        self.tokens = tokens
        self.wire = wire
        self.transport = transport
        self.handshake = handshake
        self.application = application
        self.context = context
        """Context variables of the request that opened the connection, for what the program does about it."""
        self.lanes: Lanes | None = None
        """Commands that the program is deciding; made by the first of them."""
        self.admitted = False
        self.client = _new_id()
        self.session_id = _new_id() if wire.protocol.unidirectional else ""
        """Names the connection as ``client`` does, but is told to nobody else."""
        self.user = ""
        self.info: Payload | None = None
        self.state = State.NEW
        self.subscriptions: dict[str, Subscription] = {}
        self.outbox: list[bytes] | None = None
        self.pipeline: Pipeline | None = None
        """Publishes that the broker has not answered yet; made by the first of them."""
        self.awaits_pong = False
        self.expire_at = 0
        """When the credentials end (Unix seconds); 0 is never."""
        self.refreshable = True
        """Whether a new token of the client can move that."""
        self.expiry: Timer | None = None
        self.granted: frozenset[str] = frozenset()
        """Server-side channels that the token names."""
        self.reason: Disconnect | None = None
        self.ended = False
        self.deferred: Sequence[ControlCommand] = ()
        """Commands that came while the client was connecting: nothing is pushed before the reply."""
        # the stale deadline first, then pings: a connection has one of the two at a time
        self.heartbeat = node.wheel.after(node.settings.client.stale_close_delay, self._stale)

    # — from the transport —

    async def receive(self, frame: bytes) -> None:
        """Carry out the commands of one frame, in order."""
        if self.state is State.CLOSED:
            return
        self.node.metrics.bytes_in += len(frame)
        if frame == self.wire.protocol.pong and self.state is State.CONNECTED:
            self._pong()
            return
        place = self._carry_out if self.application is NO_APPLICATION else self._place
        try:
            commands = self.wire.protocol.decode(frame)
            for count, command in enumerate(commands, 1):
                await place(command)
                # also after a reply too large to wait for others; a publish may have none yet, and need not wait
                large = self.outbox is None and not isinstance(command.request, PublishRequest)
                if count < len(commands) and (count % FAIR == 0 or large):
                    await asyncio.sleep(0)
                    await self.transport.drained()
                if self.closed:
                    return
        except Disconnect as reason:
            self.disconnect(reason)

    async def end(self) -> None:
        """Leave every channel. The transport calls this when it is closed; a second call does nothing."""
        if self.ended:
            return
        self.ended = True
        if self.reason is None:
            self.reason = Disconnect(DisconnectCode.CONNECTION_CLOSED)
        self.state = State.CLOSED
        self.node.metrics.disconnects[self.reason.code] += 1
        self.heartbeat.cancel()
        if self.expiry is not None:
            self.expiry.cancel()
        if self.lanes is not None:
            self.lanes.close()
        self.node.hub.close(self)
        leaving = [making.withdraw(self, subscription) for subscription in self.subscriptions.values()]
        told = []
        for outcome in await asyncio.gather(*leaving, return_exceptions=True):
            if isinstance(outcome, BaseException):
                log.error("client %s: leaving a channel failed", self.client, exc_info=outcome)
            elif outcome is not None:
                told.append(outcome)
        await asyncio.gather(*told)
        if self.admitted and self.application.disconnect is not None:
            await self.application.disconnect(self)

    # — commands —

    async def _place(self, command: Command) -> None:
        """Carry the command out here, or in a task of its own if the program decides it."""
        decided = is_decided(self, command.request)
        if isinstance(command.request, ConnectRequest) and decided:
            context = None if self.context is None else self.context.copy()
            # nothing may overtake it
            await asyncio.get_running_loop().create_task(self._carry_out(command), context=context)
        elif decided or (self.lanes is not None and self.lanes.busy(command.request)):
            await self._with_lanes().add(command.request, self._carry_out_apart(command))
        else:
            await self._carry_out(command)

    def _with_lanes(self) -> Lanes:
        if self.lanes is None:
            self.lanes = Lanes(self.node.spawn, self.context)
        return self.lanes

    def follow(self, channel: str, work: Coroutine[Any, Any, None]) -> asyncio.Future[None]:
        """Run work of the program in the order of the channel's commands; answers when it has ended."""
        return self._with_lanes().follow(channel, work)

    async def _carry_out_apart(self, command: Command) -> None:
        try:
            if not self.closed:
                await self._carry_out(command)
        except Disconnect as reason:
            self.disconnect(reason)
        except Exception:  # not even the failure could be answered
            log.exception("client %s: command %d failed", self.client, command.id)
            self.disconnect(Disconnect(DisconnectCode.INTERNAL))

    async def _carry_out(self, command: Command) -> None:
        request = command.request
        handler = COMMANDS[self.state].get(type(request))
        if handler is None:
            raise Disconnect(DisconnectCode.BAD_REQUEST)
        self.node.metrics.commands[type(request).__name__] += 1
        try:
            after = await handler(self, command.id, request)
        except Disconnect:
            raise
        except Exception as error:
            self.fail(command.id, error)
        else:
            if after is not None:
                await self._follow_up(after)

    async def _follow_up(self, after: Awaitable[None]) -> None:
        """What comes after the answer, and before the next command; its failure is nobody's answer."""
        try:
            await after
        except Exception:
            log.exception("client %s: what follows a command failed", self.client)

    def answer(self, command_id: int, result: Result) -> None:
        self.node.hub.post(self, self.wire.protocol.encode_result(command_id, result))

    def fail(self, command_id: int, error: Exception) -> None:
        """Answer with an error; what is none of the catalogue's is a defect, and the client learns nothing of it."""
        if not isinstance(error, Error):
            log.error("client %s: command %d failed", self.client, command_id, exc_info=error)
            error = Error(ErrorCode.INTERNAL)
        self.refuse(command_id, error)

    def refuse(self, command_id: int, error: Error) -> None:
        self.node.metrics.errors[error.code] += 1
        self.node.hub.post(self, self.wire.protocol.encode_error(command_id, error))

    def push(self, channel: str, push: Push) -> None:
        self.node.hub.post(self, self.wire.protocol.encode_push(channel, push))

    # — life —

    @property
    def closed(self) -> bool:
        return self.state is State.CLOSED

    def ttl(self, expire_at: int) -> int:
        """Whole seconds until then, at least one, at most a year; 0 for never."""
        return min(max(1, int(expire_at - self.node.clock())), YEAR) if expire_at else 0

    def connected(self) -> None:
        """The connect command has succeeded: pings begin."""
        self.state = State.CONNECTED
        self.heartbeat.cancel()
        deferred, self.deferred = self.deferred, ()
        for command in deferred:
            self._obey(command)
        interval = self.node.settings.client.ping_interval
        if interval:
            self.heartbeat = self.node.wheel.after(interval * random.uniform(0.5, 1), self._ping)  # noqa: S311

    def disconnect(self, reason: Disconnect) -> None:
        """Close the connection, with what was answered before."""
        if self.closed:
            return
        self.state = State.CLOSED
        self.reason = reason
        log.debug("client %s: disconnected, %s", self.client, reason)
        if reason.code != DisconnectCode.SLOW:
            self.node.hub.flush()
        self.transport.close(reason)
        # not when the transport has closed: a client that does not read may take its time
        self.node.spawn(self.end(), self.context)

    def reroute(self) -> None:
        """The transport writes in another way from now on."""
        self.node.hub.reroute(self.subscriptions.values())

    def lose_position(self, subscription: Subscription) -> None:
        """A publication was missed: a client-side subscription is made again, others need a new connection."""
        self.node.metrics.lost_positions += 1
        if not self.closed:
            making.lose_position(self, subscription)

    def control(self, command: ControlCommand) -> None:
        """A command of the server API, perhaps from another node. Returns at once."""
        if self.closed or command.client not in ("", self.client) or command.session not in ("", self.session_id):
            return
        if isinstance(command, DisconnectUser):
            if self.client not in command.whitelist:
                self.disconnect(Disconnect(command.code, command.reason))
        elif self.state is State.NEW:
            self.deferred = [*self.deferred, command]
        elif self.state is State.CONNECTED:
            self._obey(command)

    def _obey(self, command: ControlCommand) -> None:
        match command:
            case UnsubscribeUser():
                server_side.take_away(self, command)
            case SubscribeUser():
                self.node.spawn(server_side.obey(self, command))
            case RefreshUser():
                connecting.refresh_by_server(self, command)

    # — deadlines —

    def _stale(self) -> None:
        self.disconnect(Disconnect(DisconnectCode.STALE))

    def _ping(self) -> None:
        client = self.node.settings.client
        self.transport.send(self.wire.ping)
        if client.pong_timeout and not self.wire.protocol.unidirectional:
            self.awaits_pong = True
            self.heartbeat = self.node.wheel.after(client.pong_timeout, self._check_pong)
        else:
            self.heartbeat = self.node.wheel.after(client.ping_interval, self._ping)

    def _await_ping(self) -> None:
        """The ping may not have reached the client, which has its time for the pong from then on."""
        then = self._await_ping if self.transport.behind() else self._check_pong
        self.heartbeat = self.node.wheel.after(self.node.settings.client.pong_timeout, then)

    def _check_pong(self) -> None:
        if self.awaits_pong and self.transport.behind():
            self._await_ping()
            return
        client = self.node.settings.client
        if self.awaits_pong:
            self.disconnect(Disconnect(DisconnectCode.NO_PONG))
            return
        self.heartbeat = self.node.wheel.after(client.ping_interval - client.pong_timeout, self._ping)

    def _pong(self) -> None:
        if not self.awaits_pong:
            self.disconnect(Disconnect(DisconnectCode.BAD_REQUEST))
        self.awaits_pong = False


async def _pong(session: Session, _id: int, _request: Pong) -> None:
    """A pong among other commands."""
    session._pong()


Handler = Callable[[Session, int, Any], Awaitable[Awaitable[None] | None]]
"""Answers the command through the session; what it returns is awaited after that."""

COMMANDS: dict[State, dict[type[Any], Handler]] = {
    State.NEW: {ConnectRequest: connecting.connect},
    State.CONNECTED: {
        SubscribeRequest: subscribing.subscribe,
        UnsubscribeRequest: subscribing.unsubscribe,
        SubRefreshRequest: subscribing.sub_refresh,
        PublishRequest: asking.publish,
        PresenceRequest: asking.presence,
        PresenceStatsRequest: asking.presence_stats,
        HistoryRequest: asking.history,
        RPCRequest: asking.rpc,
        SendRequest: asking.send,
        RefreshRequest: connecting.refresh,
        Pong: _pong,
    },
    State.REFUSED: {},
    State.CLOSED: {},
}
