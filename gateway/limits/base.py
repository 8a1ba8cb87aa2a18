"""Budgets, and the stores that keep what has been spent of them. Times are whole microseconds inside.

A rate is a bucket of ``burst`` tokens that refills steadily; it is kept as the moment at which the bucket is full
again (the generic cell rate algorithm, ITU-T I.371). A window allows ``limit`` in each span of ``period``, counted
from the Unix epoch: windows of a day begin at midnight UTC.
"""

import re
from math import ceil
from typing import Protocol

from msgspec import Struct

from gateway.config.durations import parse_duration

LONGEST = 366 * 86_400_000_000
"""A year: the longest period, and the longest time a bucket may take to fill. Keeps Lua's 53-bit numbers exact."""

_SPEC = re.compile(r"([1-9]\d{0,11})/(second|minute|hour|day|.*\D)")
_PERIODS = {"second": "1s", "minute": "1m", "hour": "1h", "day": "1d"}


class Rate(Struct, frozen=True):
    """``burst`` at once, then one in each ``interval``."""

    interval: int
    burst: int

    @property
    def most(self) -> int:
        """The highest cost that can ever be granted."""
        return self.burst


class Window(Struct, frozen=True):
    """``limit`` in each span of ``period``."""

    limit: int
    period: int

    @property
    def most(self) -> int:
        """The highest cost that can ever be granted."""
        return self.limit


Budget = Rate | Window


class Outcome(Struct, frozen=True):
    """What became of a take, and what is left after it. Times in seconds."""

    allowed: bool
    retry_after: float
    """When the same may be tried again; 0 if it was allowed."""
    remaining: int
    reset: float
    """When all of the budget is there again."""


def outcome(allowed: bool, wait: int, remaining: int, reset: int) -> Outcome:
    """An ``Outcome`` from a store's microseconds."""
    return Outcome(allowed, wait / 1e6, remaining, reset / 1e6)


class LimitStore(Protocol):
    """One implementation per backend. What is spent under one ``name`` is apart from what is under another."""

    @property
    def failures(self) -> int:
        """Takes that raised ``BrokerUnavailable``, so far."""

    async def take(self, name: str, key: str, budget: Budget, cost: int) -> Outcome:
        """Spend ``cost`` of what ``key`` has, or nothing if that is not there. May raise ``BrokerUnavailable``."""


def parse_rate(spec: str, burst: int | None = None) -> Rate:
    """Read ``"10/second"``; the bucket holds as many unless ``burst`` says otherwise. Raises ``ValueError``.

    So it does for rates above 20 000 a second that are far from one token in a whole number of microseconds.
    """
    window = parse_window(spec)
    interval = max(1, round(window.period / window.limit))
    if abs(interval * window.limit - window.period) * 100 > window.period:
        raise ValueError(
            f"{spec!r} cannot be kept within a hundredth, since tokens come in whole microseconds;"
            f' write for example "{1_000_000 // interval}/second"'
        )
    rate = Rate(interval, window.limit if burst is None else burst)
    if rate.burst < 1 or rate.interval * rate.burst > LONGEST:
        raise ValueError(
            f"burst={burst!r} must be at least 1, and be there again within a year,"
            ' for example RateLimit("10/second", burst=20)'
        )
    return rate


def parse_window(spec: str) -> Window:
    """Read ``"1000/day"`` or ``"5/10s"``. Raises ``ValueError``."""
    try:
        matched = _SPEC.fullmatch(spec.strip())
        if matched is None:
            raise ValueError("must be a number, a slash and a period")
        period = ceil(parse_duration(_PERIODS.get(matched[2], matched[2])) * 1_000_000)
        if not 0 < period <= LONGEST:
            raise ValueError("the period must be longer than nothing, and a year at most")
    except ValueError as error:
        raise ValueError(
            f'{spec!r} is no limit ({error}); write for example "10/second", "1000/day" or "5/10s"'
        ) from None
    return Window(int(matched[1]), period)
