"""A timing wheel: one timer for all deadlines of a process."""

import asyncio
import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

TICK = 0.1
"""Seconds between turns: deadlines here are human ones, a tenth of a second is exact enough."""


class Timer:
    """One deadline on the wheel."""

    __slots__ = ("_due", "_slots", "callback")

    def __init__(self, callback: Callable[[], None], due: int, slots: "Slots") -> None:
        self.callback: Callable[[], None] | None = callback
        self._due = due
        self._slots = slots

    def cancel(self) -> None:
        """Take it off the wheel: a deadline may lie a year ahead, and there may be many."""
        self.callback = None
        slot = self._slots.get(self._due)
        if slot is not None:
            slot.pop(self, None)
            if not slot:
                del self._slots[self._due]


Slots = dict[int, dict[Timer, None]]


class Wheel:
    """Calls back after a delay, never early and at most one tick late.

    Ten thousand connections cost ten thousand list entries and one event-loop timer. Call ``start`` inside a
    running loop; tests call ``turn`` with a clock of their own instead.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, tick: float = TICK) -> None:
        self.clock = clock
        self._tick = tick
        self._milliseconds = round(tick * 1000)
        self._slots: Slots = {}
        self._turned = self._slot(clock())
        self._handle: asyncio.TimerHandle | None = None
        self._due = 0.0
        self.late: Callable[[float], None] | None = None
        """Told with each turn by how many seconds it came too late, as everything did that the event loop had to do."""

    def after(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` once, ``delay`` seconds from now."""
        due = -self._slot(-self.clock() - delay)  # rounded up
        if due <= self._turned:
            due = self._turned + 1
        timer = Timer(callback, due, self._slots)
        slot = self._slots.get(due)
        if slot is None:
            slot = self._slots[due] = {}
        slot[timer] = None
        return timer

    def turn(self) -> None:
        """Run everything that is due."""
        now = self._slot(self.clock())
        while self._turned < now:
            self._turned += 1
            for timer in self._slots.pop(self._turned, ()):
                callback, timer.callback = timer.callback, None  # who keeps the timer is not kept by it
                if callback is not None:
                    try:
                        callback()
                    except Exception:
                        log.exception("a deadline's callback failed")

    def _slot(self, at: float) -> int:
        """The slot in which a moment lies, by whole milliseconds: a float's last bit must not cost a tick."""
        return round(at * 1000) // self._milliseconds

    def start(self) -> None:
        self._due = self.clock() + self._tick
        self._handle = asyncio.get_running_loop().call_later(self._tick, self._run)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _run(self) -> None:
        if self.late is not None:
            self.late(max(0.0, self.clock() - self._due))
        self.start()
        self.turn()
