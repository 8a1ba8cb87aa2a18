"""When a client reads too slowly: one policy for all transports.

It measures silence, not age: a client on a bad line may take minutes for what it is sent, as long as it takes some of
it in every ``websocket.write_timeout``. What waits for it in this process is bounded in bytes all the same.
"""

import asyncio
from math import ceil
from typing import Protocol

from msgspec import Struct, field

from gateway.config.settings import Settings
from gateway.core.wheel import Timer, Wheel
from gateway.metrics import SlowClient

LOOKS = 10
"""How often a client is looked at within the timeout: it is cut off a tenth of it too late, at most."""


class WriteLimits(Struct, frozen=True):
    """What a client that reads slowly is allowed."""

    size: int
    """Bytes that may wait for it, beyond what made it slow: that may be one large reply."""
    timeout: float
    """Seconds for which it may take nothing of them."""
    slow: set[SlowClient] = field(default_factory=set)
    """Where those are noted that are slow just now."""


def write_limits(settings: Settings, slow: set[SlowClient]) -> WriteLimits:
    return WriteLimits(settings.client.queue_max_size, settings.websocket.write_timeout, slow)


class Writing(Protocol):
    """What is written to one client, as a transport knows it."""

    def waiting(self) -> int:
        """Bytes that wait in this process."""

    def unread(self) -> int:
        """Those, and what the kernel still has, where it tells; less what was written without a word to us."""

    def slow(self) -> bool:
        """Whether the client is slow still."""

    def step(self) -> int:
        """Bytes of which the transport sees no more than that all of them are gone."""

    def catch_up(self) -> None:
        """The client is found to be slow no longer."""

    def give_up(self) -> None:
        """It has been slow for too long, or too much waits."""


class SlowConsumer:
    """Watches a client from when it is slow until it is so no longer: as long as this object is kept, that is."""

    __slots__ = (
        "_bound",
        "_ended",
        "_judging",
        "_limits",
        "_silent",
        "_taken",
        "_timer",
        "_wheel",
        "_writing",
        "_written",
    )

    def __init__(self, writing: Writing, wheel: Wheel, limits: WriteLimits) -> None:
        self._writing = writing
        self._wheel = wheel
        self._limits = limits
        self._bound = limits.size + writing.waiting()
        self._ended: asyncio.Event | None = None
        """Made by whoever waits for it."""
        self._written = 0
        """Bytes, from here on."""
        self._taken = -writing.unread()
        """How many of them, and of those before, the client had taken at the last look."""
        self._silent = 0
        """Looks at which nothing had been taken."""
        self._judging = False
        self._timer: Timer | None = wheel.after(limits.timeout / LOOKS, self._look)
        limits.slow.add(self)

    def waiting(self) -> int:
        """Bytes that wait in this process."""
        return self._writing.waiting()

    def wrote(self, size: int) -> None:
        """More has been written."""
        self._written += size
        if not self._judging and self._writing.waiting() > self._bound:
            # soon, for the fan-out that is writing just now must not be changed under its hands
            self._judging = True
            asyncio.get_running_loop().call_soon(self._judge)

    async def over(self) -> None:
        """Wait until the client is slow no longer, or is gone."""
        if self._timer is not None:
            self._ended = self._ended or asyncio.Event()
            await self._ended.wait()

    def end(self) -> None:
        """Watch no longer."""
        self._limits.slow.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._ended is not None:
            self._ended.set()

    def _judge(self) -> None:
        self._judging = False
        if self._timer is not None and self._writing.waiting() > self._bound:
            self.end()
            self._writing.give_up()

    def _look(self) -> None:
        writing, limits = self._writing, self._limits
        if not writing.slow():
            self.end()
            writing.catch_up()
            return
        before, self._taken = self._taken, self._written - writing.unread()
        self._silent = 0 if self._taken > before else self._silent + 1
        self._bound = min(self._bound, limits.size + writing.waiting())
        if self._silent >= LOOKS * max(1, ceil(writing.step() / limits.size)):
            self.end()
            writing.give_up()
        else:
            self._timer = self._wheel.after(limits.timeout / LOOKS, self._look)
