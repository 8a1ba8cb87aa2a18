"""A session on a raw connection: frames reach it, and leave it, with nothing in between.

There is no task and no queue for a connection. A frame's commands are carried out on the spot as far as they
go without waiting; only for the rest is a task made, and frames that come meanwhile wait their turn.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Iterable

from gateway.core.audience import Write
from gateway.core.tasks import begin
from gateway.core.wheel import Timer, Wheel
from gateway.errors import Disconnect, DisconnectCode
from gateway.session import FAIR, ClientSession
from gateway.transports.base import Acceptor
from gateway.transports.raw import RawConnection

QUEUED = 64
"""Frames that wait for the one under way before no more are read."""

log = logging.getLogger(__name__)


class DirectTransport:
    """Satisfies both `session.Transport` and `raw.Receiver`. Set ``session`` before it is attached."""

    __slots__ = (
        "_acceptor",
        "_bound",
        "_connection",
        "_judging",
        "_limit",
        "_open",
        "_patience",
        "_pump",
        "_slow",
        "_timer",
        "_waiting",
        "_wheel",
        "session",
        "write",
    )

    session: ClientSession

    def __init__(
        self, connection: RawConnection, acceptor: Acceptor, wheel: Wheel, limit: int, patience: float
    ) -> None:
        self._connection = connection
        self.write: Write = connection.write
        """The socket's own, as long as there is nothing to look after."""
        self._acceptor = acceptor
        self._wheel = wheel
        self._limit = limit
        """Bytes that may wait for a client that reads slowly, beyond what made it slow: that may be one large reply."""
        self._bound = limit
        self._patience = patience
        """Seconds for which it may be slow."""
        self._open = True
        self._slow = False
        self._judging = False
        self._timer: Timer | None = None
        self._pump: asyncio.Task[None] | None = None
        self._waiting: deque[bytes] | None = None
        """Frames behind the one that is being carried out; None while there is none."""

    # — for the session —

    def send(self, frame: bytes) -> None:
        if self._open:
            self._connection.write(frame)
            if self._slow and not self._judging and self._connection.waiting() > self._bound:
                # soon, for the fan-out that is writing just now must not be changed under its hands
                self._judging = True
                asyncio.get_running_loop().call_soon(self._judge)

    def close(self, reason: Disconnect) -> None:
        self._shut()
        self._connection.close(reason.code, reason.reason)

    # — for the connection —

    def take(self, messages: list[tuple[int, bytes]]) -> None:
        if self._waiting is not None or len(messages) > FAIR:
            self._queue(payload for _, payload in messages)
            return
        for count, (_, payload) in enumerate(messages, 1):
            try:
                rest = begin(self.session.receive(payload))
            except (Exception, asyncio.CancelledError) as error:
                self._break(error)
                return
            if rest is not None:
                self._queue((payload for _, payload in messages[count:]), rest)
                return

    def pause(self) -> None:
        if self._open and not self._slow:
            self._slow = True
            self._bound = self._limit + self._connection.waiting()
            self._timer = self._wheel.after(self._patience, self._give_up)
            self._route(self.send)

    def resume(self) -> None:
        if self._slow:
            self._slow = False
            assert self._timer is not None
            self._timer.cancel()
            self._timer = None
            self._route(self._connection.write)

    def drain(self) -> None:
        self.session.disconnect(Disconnect(DisconnectCode.SHUTDOWN))

    def lose(self, code: int, reason: str) -> None:
        self._shut()
        self._acceptor.close(self.session)

    def _shut(self) -> None:
        """Write nothing more."""
        self.resume()
        self._open = False
        self._route(self.send)

    def _route(self, write: Write) -> None:
        self.write = write
        self.session.reroute()

    # — slow clients —

    def _judge(self) -> None:
        self._judging = False
        if self._open and self._connection.waiting() > self._bound:
            self._give_up()

    def _give_up(self) -> None:
        self.session.disconnect(Disconnect(DisconnectCode.SLOW))

    # — frames that must wait —

    def _queue(self, payloads: Iterable[bytes], begun: Awaitable[None] | None = None) -> None:
        if self._waiting is None:
            self._waiting = deque()
            self._pump = asyncio.get_running_loop().create_task(self._carry_on(begun))
        self._waiting.extend(payloads)
        if len(self._waiting) > QUEUED:
            self._connection.hold()

    async def _carry_on(self, begun: Awaitable[None] | None) -> None:
        """The rest of a frame's commands, then the frames that have come since."""
        waiting = self._waiting
        assert waiting is not None
        try:
            if begun is not None:
                await begun
            count = 0
            while waiting:
                await self.session.receive(waiting.popleft())
                count += 1
                if count % FAIR == 0:
                    await asyncio.sleep(0)
        except (Exception, asyncio.CancelledError) as error:
            self._break(error)
        finally:
            self._waiting = self._pump = None
            self._connection.go_on()

    def _break(self, error: BaseException) -> None:
        """A failure that no command answers for: a defect of ours, unless what was waited for is cancelled."""
        if isinstance(error, Exception):
            log.error("client %s: a frame failed", self.session.client, exc_info=error)
        self.session.disconnect(Disconnect(DisconnectCode.INTERNAL))
