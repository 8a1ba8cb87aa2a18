"""How much Redis a service takes: the formulas of docs/scale.md, and a count that they are held against."""

from collections import Counter
from collections.abc import Iterator, Sequence
from math import sqrt
from random import Random
from typing import NamedTuple

import msgspec

from bench.constants import Constants
from bench.redises import Layout, owner
from gateway.core.cluster import HEARTBEAT
from gateway.jump import jump
from gateway.redis.keys import TAGS, slot

USERS_OF_A_NODE = 15_000
"""As bench/ten_million puts them on one."""
HALF = 0.5
"""Of its core that a server is planned to be busy: the rest is for storms."""
UPKEEP = 2_000.0
"""Microseconds of Redis a second for a node of that size: leases, probes, positions (docs/ten_million.md)."""
MOST_SERVERS = 1_000
"""More than that would not help: what each of them has to do is too much."""


class Crowd(NamedTuple):
    """Channels that are alike."""

    name: str
    channels: int
    subscribers: int
    """Of each."""
    rate: float
    """Publications a second, to all of them together."""
    kept: bool


def service(users: int) -> list[Crowd]:
    """Users with an inbox each, in rooms of twenty, and announcements to everybody."""
    return [
        Crowd("inbox:#", users, 1, users / 100, kept=True),
        Crowd("room:", users // 20, 20, users / 200, kept=True),
        Crowd("news:", 1, users, 1.0, kept=False),
    ]


# — the formulas —


def interested(subscribers: int, nodes: int) -> float:
    """How many nodes have one of a channel's subscribers, who are anywhere."""
    return nodes * (1 - (1 - 1 / nodes) ** subscribers)


def deliveries(crowds: Sequence[Crowd], nodes: int) -> float:
    """What Redis hands to nodes in a second."""
    return sum(crowd.rate * interested(crowd.subscribers, nodes) for crowd in crowds)


def signs_of_life(nodes: int) -> float:
    """Deliveries a second by which all nodes tell all."""
    return nodes**2 / HEARTBEAT


def share(layout: Layout) -> float:
    """The part of all channels that the busiest server has. A Cluster deals out partitions, which are whole."""
    if not layout.cluster:
        return 1 / layout.servers
    return max(Counter(owner(slot(tag), layout.servers) for tag in TAGS).values()) / len(TAGS)


def by_chance(part: float, crowds: Sequence[Crowd]) -> float:
    """By how much a server may exceed its part of publications, which is one of twenty times more."""
    rates = [(crowd.rate / crowd.channels, crowd.channels) for crowd in crowds]
    alike = sum(rate * channels for rate, channels in rates) ** 2 / sum(r**2 * channels for r, channels in rates)
    return 2 * sqrt((1 / part - 1) / alike)


def moved(servers: int) -> float:
    """The part of channels that goes to one server more."""
    return 1 / (servers + 1)


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What a service takes of Redis."""

    layout: Layout
    busy: float
    """Part of its core that the busiest server is busy."""
    cores: float
    """Of all servers."""
    signs: float
    """Part of a core that signs of life take at a server that carries them."""
    connections: int
    """To each server."""
    memory: float
    """Bytes of each server, without what it needs for itself."""
    again: float
    """Seconds of a server that is restarted until all its channels are subscribed again."""


def need(crowds: Sequence[Crowd], nodes: int, layout: Layout, costs: Constants) -> Need:
    """With every publication coming by itself, which is the dearest way."""
    kept = sum(crowd.rate for crowd in crowds if crowd.kept)
    plain = sum(crowd.rate for crowd in crowds if not crowd.kept)
    work = kept * costs.append_alone + plain * costs.publish_alone
    work += deliveries(crowds, nodes) * costs.delivery_alone + nodes * UPKEEP
    signs = signs_of_life(nodes) * costs.delivery_alone
    part = share(layout)
    hearing = [(crowd, interested(crowd.subscribers, nodes)) for crowd in crowds]
    subscribed = sum(c.channels * (costs.subscription_bytes + (e - 1) * costs.further_bytes) for c, e in hearing)
    streams = sum(crowd.channels for crowd in crowds if crowd.kept) * costs.stream_bytes
    return Need(
        layout=layout,
        busy=(work * part + signs) / 1e6,
        cores=(work + signs * (1 if layout.cluster else layout.servers)) / 1e6,
        signs=signs / 1e6,
        connections=2 * nodes,
        memory=(subscribed + streams) * part,
        again=sum(c.channels * e for c, e in hearing) * part * costs.subscribe / 1e6,
    )


def least(crowds: Sequence[Crowd], nodes: int, costs: Constants, *, cluster: bool) -> Need | None:
    """With as few servers as keep the busiest at half of its core; None where no number of them does."""
    for servers in range(3 if cluster else 2, MOST_SERVERS):
        found = need(crowds, nodes, Layout(servers, cluster), costs)
        if found.busy <= HALF:
            return found
        if found.signs > HALF:
            break
    return None


# — the count —


class Comparison(NamedTuple):
    """What a formula says, and what there is when everybody has been put somewhere."""

    what: str
    formula: float
    counted: float
    bound: bool = False
    """Whether the formula says how much it may be at most, rather than how much it is."""

    @property
    def off(self) -> float:
        return self.counted / self.formula - 1

    @property
    def fits(self) -> bool:
        """To a few per cent."""
        return self.off <= 0 if self.bound else abs(self.off) < 0.03


class Count:
    """Channels at their servers, and their subscribers on nodes at random."""

    def __init__(self, crowds: Sequence[Crowd], nodes: int, random: Random) -> None:
        self._crowds = crowds
        self._nodes = nodes
        self._hosts = [
            [len({random.randrange(nodes) for _ in range(crowd.subscribers)}) for _ in range(crowd.channels)]
            for crowd in crowds
        ]
        """How many nodes hear of each channel."""

    def compare(self, layouts: Sequence[Layout]) -> Iterator[Comparison]:
        for crowd, hosts in zip(self._crowds, self._hosts, strict=True):
            what = f"nodes that hear of one of {crowd.channels:,} channels with {crowd.subscribers:,} subscribers"
            yield Comparison(what, interested(crowd.subscribers, self._nodes), sum(hosts) / len(hosts))
        yield Comparison("deliveries of Redis a second", deliveries(self._crowds, self._nodes), self._deliveries())
        for layout in layouts:
            yield from self._shares(layout)

    def _deliveries(self) -> float:
        each = zip(self._crowds, self._hosts, strict=True)
        return sum(crowd.rate / crowd.channels * sum(hosts) for crowd, hosts in each)

    def _shares(self, layout: Layout) -> Iterator[Comparison]:
        """Of publications with history; and of channels that move to one shard more."""
        kept = [crowd for crowd in self._crowds if crowd.kept]
        load = [0.0] * layout.servers
        moving = channels = 0
        for crowd in kept:
            for name in names(crowd):
                place = layout.place(name)
                load[place] += crowd.rate / crowd.channels
                if not layout.cluster:
                    moving += jump(name, layout.servers + 1) != place
                    channels += 1
        kind = f"{'Cluster' if layout.cluster else 'shards'} of {layout.servers}"
        part = share(layout)
        most = max(load) / sum(load)
        yield Comparison(f"{kind}: busiest server's part of publications, %", 100 * part, 100 * most)
        yield Comparison(f"{kind}: the same, at most", 100 * part * (1 + by_chance(part, kept)), 100 * most, bound=True)
        if channels:
            yield Comparison(
                f"{kind}: channels that move to one more, %", 100 * moved(layout.servers), 100 * moving / channels
            )


def names(crowd: Crowd) -> Iterator[str]:
    return (f"{crowd.name}{number}" for number in range(crowd.channels))
