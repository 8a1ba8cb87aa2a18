"""Second looks: what goes by news is compared with the truth now and then, for news can be lost.

Each channel has its own time, so that they are spread, and few are looked at at once.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from gateway.core.tasks import Spawn
from gateway.core.wheel import Timer, Wheel
from gateway.errors import BrokerUnavailable

FIRST = 25.0
"""Seconds until the first look, and between two where something was wrong; where all is well, ever more."""

LONGEST = 200.0

AGAIN = 5.0
"""Seconds until what was found wrong is looked at again: news may have been on its way."""

AT_ONCE = 16

log = logging.getLogger(__name__)


class _Look:
    __slots__ = ("interval", "timer")

    def __init__(self) -> None:
        self.interval = FIRST
        self.timer: Timer | None = None


class SecondLooks:
    """Looks at channels from ``begin`` to ``end``. ``look`` answers whether all is well."""

    def __init__(self, look: Callable[[str], Awaitable[bool]], wheel: Wheel, spawn: Spawn) -> None:
        self._look = look
        self._wheel = wheel
        self._spawn = spawn
        self._looks: dict[str, _Look] = {}
        self._due: dict[str, _Look] = {}
        self._looking = False

    def begin(self, channel: str) -> None:
        look = self._looks[channel] = _Look()
        self._later(channel, look, FIRST)

    def end(self, channel: str) -> None:
        look = self._looks.pop(channel, None)
        if look is not None and look.timer is not None:
            look.timer.cancel()

    def _later(self, channel: str, look: _Look, delay: float) -> None:
        spread = delay * random.uniform(0.8, 1.2)  # noqa: S311  spreads, hides nothing
        look.timer = self._wheel.after(spread, lambda: self._is_due(channel, look))

    def _is_due(self, channel: str, look: _Look) -> None:
        self._due[channel] = look
        if not self._looking:
            self._looking = True
            self._spawn(self._run())

    async def _run(self) -> None:
        try:
            while self._due:
                some = [self._due.popitem() for _ in range(min(AT_ONCE, len(self._due)))]
                await asyncio.gather(*(self._look_at(*each) for each in some))
        finally:
            self._looking = False

    async def _look_at(self, channel: str, look: _Look) -> None:
        good = True
        try:
            if self._looks.get(channel) is look:
                good = await self._look(channel)
        except BrokerUnavailable:
            log.debug("%s: looked at later, when that is possible again", channel)
        except Exception:
            log.exception("%s: a second look failed", channel)
        if self._looks.get(channel) is look:
            look.interval = min(2 * look.interval, LONGEST) if good else FIRST
            self._later(channel, look, look.interval if good else AGAIN)
