"""What is spent of limits on a single node: it lives in this process."""

import time
from collections.abc import Callable

from gateway.limits.base import Budget, Outcome, Rate, Window, outcome

_Spent = tuple[int, int]
"""Until when it counts, and, in a window, how much. Means nothing any more once that moment is there."""

ROOM = 1024
"""Keys to hold before looking for idle ones: small beside any process, and seldom reached."""


class MemoryLimits:
    """Forgets idle keys whenever it holds twice as many as were in use the last time it looked."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.failures = 0  # this store never fails
        self._clock = clock
        self._spent: dict[tuple[type[Budget], str, str], _Spent] = {}
        self._room = ROOM

    def __len__(self) -> int:
        return len(self._spent)

    async def take(self, name: str, key: str, budget: Budget, cost: int) -> Outcome:
        now = int(self._clock() * 1_000_000)
        entry = (type(budget), name, key)
        spent = self._spent.get(entry, (0, 0))
        result, after = (
            _rate(spent, budget, cost, now) if isinstance(budget, Rate) else _window(spent, budget, cost, now)
        )
        if result.allowed:
            self._spent[entry] = after
            self._make_room(now)
        return result

    def _make_room(self, now: int) -> None:
        if len(self._spent) > self._room:
            self._spent = {entry: spent for entry, spent in self._spent.items() if spent[0] > now}
            self._room = max(ROOM, 2 * len(self._spent))


def _rate(spent: _Spent, rate: Rate, cost: int, now: int) -> tuple[Outcome, _Spent]:
    """Same as ``lua/rate.lua``."""
    bucket = rate.interval * rate.burst
    full = min(max(spent[0], now), now + bucket)
    after = full + cost * rate.interval
    wait = after - now - bucket
    if wait > 0:
        return outcome(False, wait, (bucket - (full - now)) // rate.interval, full - now), spent
    return outcome(True, 0, (bucket - (after - now)) // rate.interval, after - now), (after, 0)


def _window(spent: _Spent, window: Window, cost: int, now: int) -> tuple[Outcome, _Spent]:
    """Same as ``lua/window.lua``."""
    left = window.period - now % window.period
    used = spent[1] if spent[0] == now + left else 0
    if used + cost > window.limit:
        return outcome(False, left, max(0, window.limit - used), left), spent
    return outcome(True, 0, window.limit - used - cost, left), (now + left, used + cost)
