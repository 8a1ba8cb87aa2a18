"""What to do: how many clients, on how many channels, publishing how; and what must be fixed before it starts."""

from math import ceil
from typing import Literal

import msgspec

from gateway.bench.dialect import CENTRIFUGE, Dialect

PER_SOURCE = 20_000
"""Connections from one loopback address: Linux gives out some 28,000 ports to each."""


class LoadError(Exception):
    """The plan cannot be carried out. The text is for people and says what to change."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the load generator. Times are in seconds."""

    host: str = "127.0.0.1"
    port: int = 8000
    secure: bool = False
    """Whether to speak TLS (wss)."""
    verify: bool = True
    """Whether the certificate has to be a good one."""
    dialect: Dialect = CENTRIFUGE
    tokens: tuple[str, ...] = ()
    """Connections take these in turn; none: without a token."""

    hellos: tuple[tuple[bytes, ...], ...] = ()
    """Connections say these in turn; none: what the dialect says."""

    connections: int = 1000
    channels: int = 1
    """Connection ``i`` subscribes to channel ``i % channels``."""
    prefix: str = "bench"
    """Channels are called so, with their number."""
    first_channel: int = 0
    """Number of the first channel: processes share out channels, too."""

    publishers: Literal["one", "each", "none"] = "one"
    """Who publishes to a channel: its first connection, all of its connections in turn, or nobody."""
    inflight: int = 2
    """Closed loop: as many messages are under way, in all channels together."""
    rate: float = 0.0
    """Open loop: messages per second, evenly spaced; 0 is a closed loop."""
    size: int = 100
    """Bytes of each message."""

    seconds: float = 10.0
    warmup: float = 1.0
    sources: int = 0
    """Loopback addresses to connect from; 0 takes as many as are needed."""
    connect_concurrency: int = 100
    """Connections on their way at a time."""
    connect_timeout: float = 10.0
    """How long nothing may come of them before the rest is given up."""
    latency: bool = True

    def channel(self, number: int) -> str:
        """Name of this process's channel ``number``."""
        return f"{self.prefix}{self.first_channel + number}"

    def hello(self, connection: int) -> tuple[bytes, ...]:
        return self.hellos[connection % len(self.hellos)] if self.hellos else self.dialect.hello

    def token(self, connection: int) -> str:
        return self.tokens[connection % len(self.tokens)] if self.tokens else ""


def shares(plan: Plan, processes: int) -> list[Plan]:
    """Split a plan among processes. Each gets channels of its own; if these are too few, all get all of them.

    In the second case the first process publishes, and the closed loop has to hear of the others' deliveries.
    """
    plan = msgspec.structs.replace(plan, sources=plan.sources or ceil(plan.connections / PER_SOURCE))
    if processes == 1:
        return [plan]
    if plan.channels < processes:
        parts = _parts(plan.connections, processes)
        others = msgspec.structs.replace(plan, publishers="none")
        return [msgspec.structs.replace(others if n else plan, connections=part) for n, part in enumerate(parts)]
    each, more = divmod(plan.connections, plan.channels)
    found, first = [], 0
    inflight = _parts(plan.inflight, processes)
    for number, channels in enumerate(_parts(plan.channels, processes)):
        share = msgspec.structs.replace(
            plan,
            channels=channels,
            first_channel=plan.first_channel + first,
            connections=each * channels + min(max(more - first, 0), channels),
            inflight=max(1, inflight[number]),
            rate=plan.rate * channels / plan.channels,
        )
        found.append(share)
        first += channels
    return found


def _parts(whole: int, count: int) -> list[int]:
    """Parts as equal as may be, the larger ones first."""
    each, more = divmod(whole, count)
    return [each + (number < more) for number in range(count)]
