"""The session of a client that gives commands. Which may come when stands in one table, ``COMMANDS``."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from gateway.core.tasks import begin
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode
from gateway.limits.limiter import BYTES, Layers
from gateway.messages import (
    Command,
    ConnectRequest,
    HistoryRequest,
    Pong,
    PresenceRequest,
    PresenceStatsRequest,
    PublishRequest,
    RefreshRequest,
    RPCRequest,
    SendRequest,
    SubRefreshRequest,
    SubscribeRequest,
    UnsubscribeRequest,
)
from gateway.session import asking, connecting, refreshing, subscribing
from gateway.session.application import NO_APPLICATION, decides_connect, route_of
from gateway.session.life import CONNECTED, GONE, State
from gateway.session.session import Session
from gateway.session.tokens import lacks_key

FAIR = 32
"""Commands of one client carried out in a row, before others have their turn."""

log = logging.getLogger(__name__)


class ClientSession(Session):
    """Its transport calls ``receive`` for each frame, or ``take``, one at a time."""

    __slots__ = ()

    async def receive(self, frame: bytes) -> None:
        """Carry out the commands of one frame, in order."""
        if (rest := self.take(frame)) is not None:
            await rest

    def take(self, frame: bytes) -> Awaitable[None] | None:
        """Carry out the commands of one frame as far as that goes without waiting.

        Answers the rest, which is to be awaited before the next frame; None if that was all.
        """
        if self.state in GONE:
            return None
        node, protocol, connected = self.node, self.wire.protocol, self.state is CONNECTED
        node.metrics.bytes_in += len(frame)
        if connected and frame == protocol.pong:
            self.pong()
            return None
        limits = node.limiter.of_commands(self.spender.network)
        over = limits is not None and not node.limiter.allows(limits, self.spender, self.user, BYTES, len(frame))
        try:
            commands = protocol.decode(frame, admitted=connected)
            if self.application is not NO_APPLICATION or self.tokens.fetches_keys or (limits and limits.shared):
                return begin(self._carry_on(commands, 0, None, limits, over))
            for count, command in enumerate(commands, 1):
                rest = None
                if limits is None or self._is_within(command, limits, over):
                    rest = self._carry_out_at_once(command)
                if rest is not None or (count < len(commands) and self._must_wait(command, count)):
                    return self._carry_on(commands, count, rest, limits, over)
                if self.state in GONE:
                    break
        except Disconnect as reason:
            self.reject(reason)
        return None

    async def _carry_on(
        self,
        commands: Sequence[Command],
        count: int,
        rest: Awaitable[None] | None,
        limits: Layers | None = None,
        over: bool = False,
    ) -> None:
        """Go on with commands of which so many have been begun, after the ``rest`` of the last."""
        at_once = self.application is NO_APPLICATION and not self.tokens.fetches_keys
        carry_out = self._carry_out if at_once else self._dispatch
        try:
            if rest is not None:
                try:
                    await rest
                except Exception as error:
                    if not self._fail(commands[count - 1], error):
                        raise
            while count < len(commands) and self.state not in GONE:
                if count and self._must_wait(commands[count - 1], count):
                    await asyncio.sleep(0)
                    await self.transport.drained()
                command, count = commands[count], count + 1
                if limits is None or (
                    self._is_within(command, limits, over)
                    and (not limits.shared or await self._is_within_all(command, limits))
                ):
                    await carry_out(command)
        except Disconnect as reason:
            self.reject(reason)

    def _must_wait(self, command: Command, count: int) -> bool:
        """Whether others have their turn before the next command.

        Also after a reply too large to wait for others; a publish may have none yet, and need not wait.
        """
        return count % FAIR == 0 or (self.outbox is None and not isinstance(command.request, PublishRequest))

    def _is_within(self, command: Command, limits: Layers, over: bool) -> bool:
        """Whether a command is within this node's rates; if not, it is answered so.

        ``over``: its frame has been too much. Of connects it is the handshake, or whoever learns their user, that
        counts.
        """
        kind = type(command.request)
        if over:
            allowed = kind is UnsubscribeRequest
        else:
            allowed = kind is ConnectRequest or self.node.limiter.allows(limits, self.spender, self.user, kind)
        if not allowed:
            self.fail(command.id, Error(ErrorCode.TOO_MANY_REQUESTS))
        return allowed

    async def _is_within_all(self, command: Command, limits: Layers) -> bool:
        """The same for the rates that hold for all nodes together."""
        kind = type(command.request)
        allowed = kind is ConnectRequest or await self.node.limiter.shared(limits, self.user, kind)
        if not allowed and not self.closed:
            self.fail(command.id, Error(ErrorCode.TOO_MANY_REQUESTS))
        return allowed

    async def _dispatch(self, command: Command) -> None:
        """Carry the command out here, or in a task of its own if the program decides it, or its key is fetched."""
        waits = lacks_key(self.tokens, command.request) or _is_decided(self, command.request)
        if waits or (self.lanes is not None and self.lanes.busy(command.request)):
            lanes = self.in_turn()
            await lanes.add(command.request, self._carry_out_apart(command))
            if isinstance(command.request, ConnectRequest):  # nothing may overtake it
                await lanes.finished()
                self.lanes = self.handshake.seen = None  # of those who are connected, many ask for nothing more
        else:
            await self._carry_out(command)

    async def _carry_out_apart(self, command: Command) -> None:
        try:
            if not self.closed:
                await self._carry_out(command)
        except Disconnect as reason:
            self.reject(reason)
        except Exception:  # not even the failure could be answered
            log.exception("%s: command %d failed", str(self), command.id)
            self.disconnect(Disconnect(DisconnectCode.INTERNAL))

    async def _carry_out(self, command: Command) -> None:
        try:
            if (rest := self._handle(command)) is not None:
                await rest
        except Exception as error:
            if not self._fail(command, error):
                raise

    def _carry_out_at_once(self, command: Command) -> Awaitable[None] | None:
        """Carry it out as far as that goes without waiting; answers the rest, which may fail."""
        try:
            work = self._handle(command)
            return None if work is None else begin(work)
        except Exception as error:
            if not self._fail(command, error):
                raise
        return None

    def _handle(self, command: Command) -> Coroutine[Any, Any, None] | None:
        """Have the handler of the command begin; answers what it has to wait for."""
        kind = type(command.request)
        handler = COMMANDS[self.state].get(kind)
        if handler is None:
            raise Disconnect(DisconnectCode.BAD_REQUEST)
        self.node.metrics.commands[kind.__name__] += 1
        return handler(self, command.id, command.request)

    def _fail(self, command: Command, error: Exception) -> bool:
        """Answer a command that has failed; False if that is to be the end of the connection."""
        if self.node.witness is not None:
            self.node.witness.failed(self, command.request, error)
        if isinstance(error, Disconnect):
            return False
        self.fail(command.id, error)
        return True


def _is_decided(session: Session, request: Any) -> bool:
    """Whether code of the program may run for the request."""
    if session.application is NO_APPLICATION:
        return False
    match request:
        case ConnectRequest():
            return decides_connect(session.application, request)
        case RefreshRequest():
            return session.application.refresh is not None
        case RPCRequest():
            return session.application.rpc is not None
        case _ if type(request) in _EVENTS:
            try:
                route = route_of(session.channel(request.channel))
            except Error:  # there is no such channel, as the command's own code will answer
                return False
            return route is not None and any(getattr(route, event) for event in _EVENTS[type(request)])
    return False


_EVENTS: dict[type[Any], tuple[str, ...]] = {
    SubscribeRequest: ("subscribe", "cache_empty"),
    SubRefreshRequest: ("refresh",),
    PublishRequest: ("publish", "map_publish", "map_remove"),
    PresenceRequest: ("presence",),
    PresenceStatsRequest: ("presence",),
    HistoryRequest: ("history",),
}


def _pong(session: Session, _id: int, _request: Pong) -> None:
    """A pong among other commands."""
    session.pong()


Handler = Callable[[Session, int, Any], Coroutine[Any, Any, None] | None]
"""Answers the command through the session: at once, or by a coroutine."""

COMMANDS: dict[State, dict[type[Any], Handler]] = {
    State.NEW: {ConnectRequest: connecting.connect},
    State.CONNECTING: {},
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
        RefreshRequest: refreshing.refresh,
        Pong: _pong,
    },
    State.REFUSED: {},
    State.CLOSED: {},
    State.ENDED: {},
}
