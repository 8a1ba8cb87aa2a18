"""Figures of all rounds, and what follows from them: medians, ratios, bars."""

from collections.abc import Iterator, Sequence
from itertools import chain
from statistics import median
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from bench.measures import Values
from bench.works import Bar, Work


class Sample(NamedTuple):
    """What a system reached in one round, and beside it what the base did just before (nothing for the base itself)."""

    round: int
    values: Values
    beside: Values = MappingProxyType({})
    theirs: Values = MappingProxyType({})
    """What the same of another checkout did side by side with it, if one is compared."""


class Verdict(NamedTuple):
    """How a bar was taken."""

    bar: Bar
    reached: float
    passed: bool


class Result(msgspec.Struct):
    """One work, as far as it was measured."""

    work: Work
    samples: dict[str, list[Sample]] = {}

    def add(self, system: str, sample: Sample) -> None:
        self.samples.setdefault(system, []).append(sample)

    @property
    def columns(self) -> list[str]:
        """Names of the values, those of all systems together; the compared one is first."""
        names: dict[str, None] = {}
        for sample in chain.from_iterable(self.samples.values()):
            names.update(dict.fromkeys(sample.values))
        return list(names)

    def median(self, system: str, value: str) -> float | None:
        return _median(sample.values[value] for sample in self.samples.get(system, ()) if value in sample.values)

    def ratio(self, system: str, other: str, value: str) -> float | None:
        """The median of what each round gave: what was measured side by side is compared, not what was hours apart."""
        if other == self.work.base:
            pairs = [(sample.values, sample.beside) for sample in self.samples.get(system, ())]
        else:
            others = {sample.round: sample.values for sample in self.samples.get(other, ())}
            pairs = [(s.values, others[s.round]) for s in self.samples.get(system, ()) if s.round in others]
        return _median(ours[value] / theirs[value] for ours, theirs in pairs if theirs.get(value))

    def against(self, system: str, value: str) -> tuple[float, float] | None:
        """What another checkout reached, and ours divided by it: medians of all rounds."""
        pairs = [(each.values, each.theirs) for each in self.samples[system] if each.theirs.get(value)]
        if not pairs:
            return None
        return median(them[value] for _, them in pairs), median(us[value] / them[value] for us, them in pairs)

    def verdicts(self) -> Iterator[Verdict]:
        for bar in self.work.bars:
            reached = self.ratio(bar.system, bar.of, bar.value) if bar.of else self.median(bar.system, bar.value)
            if reached is not None:
                enough = bar.least is None or reached >= bar.least
                yield Verdict(bar, reached, enough and (bar.most is None or reached <= bar.most))


def medians(turns: Sequence[Values]) -> Values:
    """Of each figure that was measured in all of them."""
    return {key: median(values[key] for values in turns) for key in turns[0] if all(key in values for values in turns)}


def _median(values: Iterator[float]) -> float | None:
    found = list(values)
    return median(found) if found else None
