"""Metrics in Prometheus' formats; the only importer of prometheus_client, which a start need not wait for."""

from collections.abc import Iterable, Iterator

from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from gateway.web.exposition import Family


def render(families: Iterable[Family], accept: str = "") -> tuple[bytes, str]:
    """The body, and its content type: OpenMetrics for who accepts it, else the text format.

    Families of one name are joined: they come from several processes.
    """
    encode, content_type = choose_encoder(accept)
    return encode(_Joined(families)), content_type


class _Joined(Collector):
    """What prometheus_client reads metrics from."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        joined: dict[str, Metric] = {}
        for family in families_of_one_kind(self._families):
            metric = joined.get(family.name)
            if metric is None:
                metric = joined[family.name] = Metric(family.name, family.help, family.kind)
            metric.samples += [Sample(name, labels, value) for name, labels, value in family.samples]
        yield from joined.values()


def families_of_one_kind(families: Iterable[Family]) -> Iterator[Family]:
    """Without those that another release has made something else: a metric has one kind."""
    kinds: dict[str, str] = {}
    for family in families:
        if kinds.setdefault(family.name, family.kind) == family.kind:
            yield family
