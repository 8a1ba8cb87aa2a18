"""Latencies as counts in buckets that grow by a few percent: cheap to keep, to merge and to send."""

from collections.abc import Iterator
from math import exp2, log2

import msgspec

PER_DOUBLING = 32
"""Buckets for each doubling of the time: a percentile is right to about 1 %."""


class Latency(msgspec.Struct):
    """How long deliveries took. Times go in as microseconds and come out as seconds."""

    counts: dict[int, int] = {}
    longest: int = 0

    def add(self, micros: int, weight: int = 1) -> None:
        """Count a time; one of a sample stands for ``weight`` of them."""
        bucket = round(log2(micros) * PER_DOUBLING) if micros > 0 else 0
        self.counts[bucket] = self.counts.get(bucket, 0) + weight
        self.longest = max(self.longest, micros)

    def merge(self, other: "Latency") -> None:
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.longest = max(self.longest, other.longest)

    @property
    def maximum(self) -> float:
        return self.longest / 1e6

    def percentile(self, share: float) -> float:
        """The time within which this share of deliveries came; 0 if nothing was counted."""
        left = share * sum(self.counts.values())
        for bucket, count in sorted(self.counts.items()):
            left -= count
            if left <= 0:
                return min(exp2(bucket / PER_DOUBLING) / 1e6, self.maximum)
        return self.maximum

    def histogram(self) -> Iterator[tuple[float, int]]:
        """Upper bounds, each twice the one before, and how many deliveries took no longer; gaps are zeros."""
        doublings: dict[int, int] = {}
        for bucket, count in self.counts.items():
            doubling = -(-bucket // PER_DOUBLING)
            doublings[doubling] = doublings.get(doubling, 0) + count
        if doublings:
            for doubling in range(min(doublings), max(doublings) + 1):
                yield exp2(doubling) / 1e6, doublings.get(doubling, 0)
