"""A session on a raw connection: frames reach it, and leave it, with nothing in between.

There is no task and no queue for a connection. A frame's commands are carried out on the spot as far as they
go without waiting; only for the rest is a task made, and frames that come meanwhile wait their turn.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable
from typing import ClassVar

from gateway.core.wheel import Wheel
from gateway.errors import Disconnect, DisconnectCode
from gateway.session import FAIR, tell
from gateway.session.life import CONNECTED
from gateway.transports.base import UNAUTHENTICATED, Acceptor, is_unauthenticated
from gateway.transports.direct_writing import DirectWriting
from gateway.transports.frames import TOO_BIG
from gateway.transports.raw import MESSAGE_COST, QUEUED, RawConnection
from gateway.transports.slow_consumer import WriteLimits

SHORTLY = 5
"""Turns of the event loop in which a handler decides that waits for nothing. To read otherwise costs more than it."""

log = logging.getLogger(__name__)


class DirectTransport(DirectWriting):
    """Satisfies `session.Transport` and `raw.Receiver`. Set ``session`` before it is attached."""

    __slots__ = ("_acceptor", "_largest", "_pump", "_queued", "_waiting")

    name: ClassVar[str] = "websocket"

    _connection: RawConnection

    def __init__(
        self, connection: RawConnection, acceptor: Acceptor, wheel: Wheel, limits: WriteLimits, largest: int
    ) -> None:
        super().__init__(connection, wheel, limits)
        self._acceptor = acceptor
        self._largest = largest if largest > UNAUTHENTICATED else 0
        """Bytes of a message, as soon as the client is let in; 0 if that makes no difference, or has been seen to."""
        self._pump: asyncio.Task[None] | None = None
        """Carries out what could not be on the spot."""
        self._waiting: deque[bytes] | None = None
        """Frames behind the one that is being carried out."""
        self._queued = 0
        """What they count for, in bytes."""

    def close(self, reason: Disconnect) -> None:
        self._shut()
        self._connection.close(reason.code, reason.reason)

    # — for the connection —

    def take(self, messages: list[tuple[int, bytes]]) -> None:
        if self._pump is not None or self._slow is not None or len(messages) > FAIR:
            self._queue(messages)
            return
        for count, (_, payload) in enumerate(messages, 1):
            try:
                rest = self.session.take(payload)
            except (Exception, asyncio.CancelledError) as error:
                self._break(error)
                return
            if rest is not None:
                self._queue(messages[count:], rest)
                return
        if self._largest and self.session.state is CONNECTED:
            self._raise_limit()

    def hear_pong(self, _payload: bytes) -> None:
        if self.session.wire.pings_apart and self.session.awaits_pong is not None:
            self.session.pong()

    def drain(self) -> None:
        self.session.disconnect(Disconnect(DisconnectCode.SHUTDOWN))

    def breach(self, code: int, reason: str) -> None:
        if not self.session.closed:
            tell(self.session, Disconnect(code, reason))

    def lose(self, code: int, reason: str) -> None:
        self._shut()
        self._acceptor.close(self.session, code, reason)

    # — frames that must wait —

    def _queue(self, messages: list[tuple[int, bytes]], begun: Awaitable[None] | None = None) -> None:
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(self._carry_on(begun))
            if is_unauthenticated(self.session):
                self._sip(SHORTLY)
        if not messages:
            return
        self._sip(0)
        if self._waiting is None:
            self._waiting = deque()
        for _, payload in messages:
            self._waiting.append(payload)
            self._queued += len(payload) + MESSAGE_COST
        if self._queued > QUEUED:
            self._connection.hold()
            if self._queued > 2 * QUEUED and is_unauthenticated(self.session):  # it all came in one read
                self._waiting.clear()
                self.session.reject(Disconnect(TOO_BIG, "too much before connect was answered"))

    def _sip(self, turns: int) -> None:
        """Read little of a client that is not let in, if it is not after so many turns of the event loop.

        Not nothing at all: that the client goes meanwhile must be seen.
        """
        if self._pump is None or not is_unauthenticated(self.session):
            return
        if turns:
            asyncio.get_running_loop().call_soon(self._sip, turns - 1)
        else:
            self._connection.sip()

    def _raise_limit(self) -> None:
        self._connection.limit(self._largest)
        self._largest = 0

    async def _carry_on(self, begun: Awaitable[None] | None) -> None:
        """The rest of a frame's commands, then the frames that have come since."""
        try:
            if begun is not None:
                await begun
            count = 0
            while waiting := self._waiting:
                if self._slow is not None:  # the answers to more commands would only pile up
                    await self._slow.over()
                payload = waiting.popleft()
                self._queued -= len(payload) + MESSAGE_COST
                await self.session.receive(payload)
                count += 1
                if count % FAIR == 0:
                    await asyncio.sleep(0)
        except (Exception, asyncio.CancelledError) as error:
            self._break(error)
        finally:
            self._waiting = self._pump = None
            self._queued = 0
            if self._largest and self.session.state is CONNECTED:
                self._raise_limit()
            self._connection.go_on()

    def _break(self, error: BaseException) -> None:
        """A failure that no command answers for: a defect of ours, unless what was waited for is cancelled."""
        if isinstance(error, Exception):
            log.error("%s: a frame failed", str(self.session), exc_info=error)
        self.session.disconnect(Disconnect(DisconnectCode.INTERNAL))
