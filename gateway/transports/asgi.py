"""A client behind the ``send`` of any ASGI server.

A frame is written by starting the server's ``send`` coroutine on the spot. It nearly always ends at once, for
servers only append to the socket's buffer; then the fan-out has cost neither a task nor a queue. Where it
waits, because the client reads slowly, a task carries on and later frames line up behind it, up to a limit.
"""

import asyncio
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable
from types import CoroutineType
from typing import Any

from starlette.types import Message, Send

from gateway.core.audience import Write
from gateway.core.tasks import begin
from gateway.core.wheel import Timer, Wheel
from gateway.errors import Disconnect, DisconnectCode
from gateway.session import Session
from gateway.transports.raw import CLOSE_TIMEOUT
from gateway.transports.slow_consumer import SlowConsumer, WriteLimits


class AsgiTransport(ABC):
    """One client, as the session sees it. Subclasses say what ASGI calls a frame, and a farewell.

    It is made in the task of the application call, which is cancelled when the client does not let it end.
    """

    __slots__ = (
        "_backlog",
        "_closing",
        "_last",
        "_limits",
        "_pump",
        "_send",
        "_sending",
        "_size",
        "_slow",
        "_task",
        "_timer",
        "_wheel",
        "_writable",
        "session",
    )

    def __init__(self, send: Send, wheel: Wheel, limits: WriteLimits) -> None:
        _tell_sniffio()
        self.session: Session | None = None
        self._send = send
        self._wheel = wheel
        self._limits = limits
        self._task = asyncio.current_task()
        self._pump: asyncio.Task[None] | None = None
        self._backlog: deque[tuple[Message, int]] = deque()
        """Messages, and the bytes that each counts for."""
        self._size = 0
        self._sending = 0
        """Bytes of the message that the server is sending."""
        self._last = 0
        """Length of the frame before: servers take it at once, and have the next one wait until it is gone."""
        self._writable = True
        self._closing = False
        self._slow: SlowConsumer | None = None
        self._timer: Timer | None = None
        """The end of closing."""

    @abstractmethod
    def message(self, frame: Any) -> Message:
        """What carries a frame to the client."""

    @abstractmethod
    def size(self, frame: Any) -> int:
        """A frame's bytes."""

    @abstractmethod
    def farewell(self, reason: Disconnect) -> Message:
        """What tells the client the reason, and ends the connection."""

    def send(self, frame: Any) -> None:
        # the fan-out's inner loop: what can be spared here is spared
        if not self._writable:
            return
        message = self.message(frame)
        if self._pump is None:
            writing = self._send(message)
            if type(writing) is CoroutineType:
                try:
                    rest = begin(writing)
                except Exception:  # the server says in its own way that the client has gone
                    self._fail()
                    return
                if rest is None:
                    self._last = len(frame)
                    return
                writing = rest
            self._sending = self.size(frame)
            self._slow = SlowConsumer(self, self._wheel, self._limits)
            self._pump = asyncio.get_running_loop().create_task(self._drain(writing))
        else:
            size = self.size(frame)
            self._backlog.append((message, size))
            self._size += size
            if self._slow is not None:
                self._slow.wrote(size)

    @property
    def write(self) -> Write:
        return self.send

    def behind(self) -> bool:
        return self._slow is not None

    async def drained(self) -> None:
        if self._slow is not None:
            await self._slow.over()

    def close(self, reason: Disconnect) -> None:
        self._writable = False
        if self._closing:
            return
        self._closing = True
        self._bound_closing()
        self._backlog.append((self.farewell(reason), 0))
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(self._drain())

    def closed(self) -> None:
        """The connection is over: nothing more is written."""
        self._writable = False
        self._task = None
        self._end_watch()
        if self._pump is not None:
            self._pump.cancel()

    async def _drain(self, begun: Awaitable[None] | None = None) -> None:
        try:
            if begun is not None:
                await begun
            while self._backlog:
                self._last = self._sending
                message, self._sending = self._backlog.popleft()
                self._size -= self._sending
                await self._send(message)
        except Exception:
            self._fail()
        except asyncio.CancelledError:
            if self._task is not None:  # not by us: what the server waited for has been cancelled
                self._fail()
            raise
        finally:
            self._pump = None
            self._last, self._sending = self._sending, 0
            if not self._closing:
                self._end_watch()

    # — slow clients —

    def waiting(self) -> int:
        return self._size + self._sending

    unread = waiting  # the server tells no more

    def slow(self) -> bool:
        return self._pump is not None

    def step(self) -> int:
        return max(self._sending, self._last)

    def catch_up(self) -> None:
        self._slow = None

    def give_up(self) -> None:
        """What waits for the client is dropped, and it is told so if it still reads."""
        self._writable = False
        self._backlog.clear()
        self._size = 0
        if self.session is not None:
            self.session.reject(Disconnect(DisconnectCode.SLOW))

    # — the end —

    def _fail(self) -> None:
        """Nothing can be written any more; the server may not notice that the connection is over."""
        self._writable = False
        if not self._closing:
            self._closing = True
            self._bound_closing()
        if self.session is not None:
            # soon, for the fan-out that is writing just now must not be changed under its hands
            reason = Disconnect(DisconnectCode.WRITE_ERROR)
            asyncio.get_running_loop().call_soon(self.session.disconnect, reason)

    def _abort(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _bound_closing(self) -> None:
        self._end_watch()
        self._timer = self._wheel.after(CLOSE_TIMEOUT, self._abort)

    def _end_watch(self) -> None:
        """End the deadline that runs."""
        if self._slow is not None:
            self._slow.end()
            self._slow = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _tell_sniffio() -> None:
    """Say that this thread is asyncio's, to anyio, which asks sniffio where that is installed.

    By itself that knows so only within a task, and a frame is not always sent in one.
    """
    known = getattr(sys.modules.get("sniffio"), "thread_local", None)
    if known is not None:
        known.name = "asyncio"
