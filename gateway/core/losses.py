"""Losses: subscribers that have lost their position, told so few at a time that their return is no storm."""

import logging
from collections.abc import Iterable
from itertools import islice
from math import ceil
from typing import Protocol

from gateway.core.wheel import Wheel
from gateway.messages import Position

log = logging.getLogger(__name__)

PORTION = 250
"""Subscribers told at once: some milliseconds of work. Those who come back at once share one read of the history."""
PAUSE = 0.25
"""Seconds between two portions: a thousand subscribers come back in a second, about as many as a node can take."""
LONGEST = 30.0
"""Seconds within which all are told: where that is too little time, portions are larger."""


class Loser(Protocol):
    """A subscriber, of whose position or versions nothing is left."""

    @property
    def channel(self) -> str: ...

    def lose_position(self, before: Position | None) -> None:
        """Nobody writes to it any more: it is to begin anew. It stood at ``before``, where that is known."""


class Losses:
    """Tells subscribers of their losses, in portions. Nobody writes to them meanwhile: they have been let go."""

    def __init__(self, wheel: Wheel) -> None:
        self._wheel = wheel
        self._waiting: dict[Loser, Position | None] = {}
        self._portion = self._left = PORTION
        self._resting = False

    def add(self, subscribers: Iterable[Loser], before: Position | None = None) -> None:
        """Have these told, who stood at ``before``; the first of them at once."""
        self._waiting.update(dict.fromkeys(subscribers, before))
        self._portion = max(PORTION, ceil(len(self._waiting) * PAUSE / LONGEST))
        self._tell()

    def discard(self, subscriber: Loser) -> None:
        """It ends by itself, and need not be told any more."""
        self._waiting.pop(subscriber, None)

    def _tell(self) -> None:
        for subscriber in list(islice(self._waiting, self._left)):
            if subscriber in self._waiting:  # another's loss may have ended it
                self._left -= 1
                tell(subscriber, self._waiting.pop(subscriber))
        if self._left < self._portion and not self._resting:
            self._resting = True
            self._wheel.after(PAUSE, self._go_on)

    def _go_on(self) -> None:
        self._resting = False
        self._left = self._portion
        self._tell()


def tell(subscriber: Loser, before: Position | None) -> None:
    try:
        subscriber.lose_position(before)
    except Exception:  # one subscriber's trouble is not to be everybody's
        log.exception("%s: a subscriber could not be told that it has missed something", subscriber.channel)
