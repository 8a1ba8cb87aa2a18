"""What came of it."""

from collections import Counter
from collections.abc import Iterable

import msgspec

from gateway.bench.latency import Latency


class Report(msgspec.Struct, kw_only=True):
    """Counts of one process, or of several merged. Times are in seconds."""

    asked: int = 0
    """Connections that were to be opened."""
    connected: int = 0
    """Connections that were subscribed."""
    connect_seconds: float = 0.0
    seconds: float = 0.0
    """How long was measured, without the warm-up."""
    deliveries: int = 0
    messages: int = 0
    """Messages published."""
    out_of_order: int = 0
    """Messages that one connection, which was watched, got after a later one."""
    errors: dict[str, int] = {}
    latency: Latency = msgspec.field(default_factory=Latency)
    busy: float = 0.0
    """Share of a core that the load generator took: near 1, it may be what limits."""
    interrupted: bool = False

    @property
    def connects_per_second(self) -> float:
        return self.connected / self.connect_seconds if self.connect_seconds else 0.0

    @property
    def deliveries_per_second(self) -> float:
        return self.deliveries / self.seconds if self.seconds else 0.0

    @property
    def messages_per_second(self) -> float:
        return self.messages / self.seconds if self.seconds else 0.0


def merge(reports: Iterable[Report]) -> Report:
    """One report of processes that ran side by side."""
    merged = Report()
    errors: Counter[str] = Counter()
    spans = []
    for report in reports:
        merged.asked += report.asked
        merged.connected += report.connected
        merged.connect_seconds = max(merged.connect_seconds, report.connect_seconds)
        merged.deliveries += report.deliveries
        merged.messages += report.messages
        merged.out_of_order += report.out_of_order
        merged.latency.merge(report.latency)
        merged.busy = max(merged.busy, report.busy)
        merged.interrupted |= report.interrupted
        errors.update(report.errors)
        spans.append(report.seconds)
    merged.seconds = sum(spans) / len(spans) if spans else 0.0
    merged.errors = dict(errors.most_common())
    return merged
