"""The clock of a kit: stands still until a test moves it on."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from gateway.core.wheel import TICK, Wheel

_TICK = round(TICK * 1000)

ROUNDS = 25
"""Turns of the event loop in which what a deadline sets off comes to rest: a ping, its pong, a flush of the hub."""


async def breathe() -> None:
    """Let everything that can go on do so, for a while."""
    for _ in range(ROUNDS):
        await asyncio.sleep(0)


class Clock:
    """The time of all gateways of a kit, in Unix seconds: of pings, tokens, deadlines, histories and limits.

    ``asyncio.sleep`` and ``time.time`` of the program itself go on as ever; ``sleep`` is one that goes by this clock.
    """

    def __init__(self, rest: Callable[[], Awaitable[None]] = breathe) -> None:
        # a second ahead, so that a token made in the test's first second is never one from the future
        self._now = (int(time.time()) + 1) * 1000  # whole ms: sums of floats would drift
        self._rest = rest
        self.wheel = _StillWheel(self)
        """Carries the deadlines of all nodes."""

    def __call__(self) -> float:
        return self._now / 1000

    async def advance(self, seconds: float) -> None:
        """Let time pass. Each deadline on the way is met in its turn, and what it sets off is done before the next."""
        end = self._now + round(seconds * 1000)
        await self._rest()
        while (due := self.wheel.due) is not None and due <= end:
            self._now = max(self._now, due)
            self.wheel.turn()
            await self._rest()
        self._now = end
        self.wheel.turn()
        await self._rest()

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has been moved on so far: to be put in place of ``asyncio.sleep``."""
        passed = asyncio.Event()
        timer = self.wheel.after(seconds, passed.set)
        try:
            await passed.wait()
        finally:
            timer.cancel()


class _StillWheel(Wheel):
    """Turns only when the clock is moved."""

    @property
    def due(self) -> int | None:
        """When the next deadline is, in ms."""
        return min(self._slots) * _TICK if self._slots else None

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass
