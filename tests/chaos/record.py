"""What all clients together have heard, and what was wrong with it as they heard it."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

SHOWN = 20
"""Offenders that a finding names."""


class Accepted(NamedTuple):
    """A publication that was acknowledged."""

    channel: str
    epoch: str
    offset: int
    number: int


class Membership:
    """What a client did in a room, by its own account."""

    __slots__ = ("asked", "ended", "live")

    def __init__(self) -> None:
        self.asked = 0
        self.ended = 0
        self.live = False


class Record:
    """Filled in by the pages as they go; asked by the oracle."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.members: defaultdict[tuple[str, str], Membership] = defaultdict(Membership)
        """By client id and room."""
        self._numbers: defaultdict[tuple[str, str], dict[int, int]] = defaultdict(dict)
        """By channel and epoch: what number each offset had when it was first heard."""
        self._accepted: defaultdict[tuple[str, str], dict[int, int]] = defaultdict(dict)

    def fault(self, text: str) -> None:
        self.counts["wrong"] += 1
        if len(self.wrong) < 1000:
            self.wrong.append(text)

    def hear(self, who: str, channel: str, epoch: str, offset: int, number: int) -> None:
        numbers = self._numbers[channel, epoch]
        known = numbers.setdefault(offset, number)
        if known != number:
            self.fault(f"{who}: {channel} has {number} at {offset} of {epoch}, and others heard {known} there")

    def told_again(self, channel: str, number: int, epoch: str) -> bool:
        """Whether a number that comes again had been heard under another epoch: its first stream is lost."""
        others = [numbers for (name, other), numbers in self._numbers.items() if name == channel and other != epoch]
        return any(number in numbers.values() for numbers in others)

    def check(self, accepted: Iterable[Accepted]) -> tuple[list[str], int]:
        """Accepted publications that were heard as others, or twice; and how many were heard by nobody."""
        wrong, unheard = [], 0
        for each in accepted:
            heard = self._numbers.get((each.channel, each.epoch), {}).get(each.offset)
            unheard += heard is None
            if heard not in (None, each.number):
                wrong.append(f"{each.channel}: {each.number} was accepted at {each.offset}, where {heard} was heard")
            before = self._accepted[each.channel, each.epoch].setdefault(each.offset, each.number)
            if before != each.number:
                wrong.append(f"{each.channel}: {before} and {each.number} were both accepted at {each.offset}")
        for (channel, epoch), numbers in self._numbers.items():
            if len(set(numbers.values())) != len(numbers):
                twice = [number for number, times in Counter(numbers.values()).items() if times > 1]
                wrong.append(f"{channel}: {twice[:SHOWN]} stand at two offsets of {epoch}")
        return wrong, unheard
