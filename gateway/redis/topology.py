"""Which servers of a Redis Cluster own which slots, and where they say that something lies elsewhere."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from gateway.redis.keys import SLOTS
from gateway.redis.resp import CommandRefused

Address = tuple[str, int]
"""Host and port."""


class Topology(NamedTuple):
    """As one server of a cluster sees it."""

    epoch: int
    """Of the cluster's configuration: a server that is cut off stays behind."""
    owners: list[Address | None]
    """By slot; None for one that nobody serves."""

    @property
    def primaries(self) -> list[Address]:
        """In the order of their first slots."""
        return list(dict.fromkeys(owner for owner in self.owners if owner is not None))


def read_topology(info: bytes, slots: Sequence[Any], asked: Address) -> Topology:
    """Read what CLUSTER INFO and CLUSTER SLOTS answer at ``asked``, which may not know its own name."""
    told = dict(line.split(":", 1) for line in info.decode().split() if ":" in line)
    owners: list[Address | None] = [None] * SLOTS
    for first, last, primary, *_ in slots:
        owner = _address(primary[0] or b"", primary[1], asked)
        owners[first : last + 1] = [owner] * (last + 1 - first)
    return Topology(int(told.get("cluster_current_epoch", 0)), owners)


class Redirection(NamedTuple):
    """A server's answer that a key lies elsewhere (Redis Cluster specification, MOVED and ASK)."""

    address: Address
    asking: bool
    """For this command alone: the slot is on its way there."""


def read_redirection(refused: CommandRefused, asked: Address) -> Redirection | None:
    if refused.redis_code not in ("MOVED", "ASK"):
        return None
    host, _, port = refused.detail.split()[2].rpartition(":")
    return Redirection(_address(host.encode(), int(port), asked), refused.redis_code == "ASK")


def _address(host: bytes, port: int, asked: Address) -> Address:
    return (asked[0] if host in (b"", b"?") else host.decode().strip("[]")), int(port)
