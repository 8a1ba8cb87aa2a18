"""What the contract suites are run over, and the table that this makes.

``python -m tests.engines`` prints the table of docs/engines.md.
"""

from collections.abc import Callable, Collection
from typing import NamedTuple

from tests.redis_fixtures import REDISES

STORES = ["memory", *REDISES, "postgres"]
"""Of leases and fences, occupancy, limits and the block list."""

PRESENCE = [*STORES, "broadcaster-memory", "broadcaster-postgres"]

NAMES = {
    "memory": "memory, one process",
    "redis": "Redis, one server",
    "fakeredis": "fakeredis, in tests",
    "sentinel": "Redis behind Sentinel",
    "shards": "two Redises as shards",
    "cluster": "a Redis Cluster of three",
    "postgres": "PostgreSQL",
    "broadcaster-memory": "broadcaster: memory, one process",
    "broadcaster-postgres": "broadcaster: PostgreSQL",
    "broadcaster-redis": "broadcaster: Redis",
    "broadcaster-kafka": "broadcaster: Kafka",
}


class Ability(NamedTuple):
    name: str
    have: Collection[str]


def abilities() -> list[Ability]:
    from tests.brokers.implementations import IMPLEMENTATIONS, Implementation

    def brokers(can: Callable[[Implementation], bool]) -> list[str]:
        return [each.name for each in IMPLEMENTATIONS if can(each)]

    return [
        Ability("publications, joins, leaves, commands", brokers(lambda _: True)),
        Ability("history, recovery, versions", brokers(lambda each: each.history)),
        Ability("idempotency keys", brokers(lambda each: each.idempotency)),
        Ability("nodes that took it are counted", brokers(lambda each: each.counts)),
        Ability("presence", {*PRESENCE, *_like("broadcaster", PRESENCE)}),
        Ability("live sources, occupancy, limits, block list", STORES),
        Ability("webhooks", ["memory", *REDISES]),
    ]


def _like(prefix: str, tested: Collection[str]) -> set[str]:
    """Presence asks the nodes by whatever joins them: what holds over one backend of broadcaster holds over all."""
    return {name for name in NAMES if name.startswith(prefix) and any(each.startswith(prefix) for each in tested)}


def table() -> str:
    columns = abilities()
    lines = [["engine", *(column.name for column in columns)], ["---"] * (len(columns) + 1)]
    for key, name in NAMES.items():
        lines.append([name, *("yes" if key in column.have else "—" for column in columns)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    print(table())
