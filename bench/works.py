"""What is measured: each work with its systems, the base of its ratios, and what the gateway has to reach."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec

from bench import measures
from bench.deliveries import deliveries
from bench.measures import Run, Values
from bench.resubscribe import resubscribe
from bench.returning import returning


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of a gateway, or its ratio to another system's, that has to be reached or not exceeded."""

    value: str
    of: str = ""
    """The system it is divided by; without, the figure itself counts."""
    system: str = "gateway"
    least: float | None = None
    most: float | None = None


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """One comparison. The first value that ``measure`` returns is the one that is compared."""

    name: str
    title: str
    measure: Callable[[Run], Values]
    systems: tuple[str, ...]
    """In the order of the table; the base comes first."""
    turns: int = 1
    """How often it is measured on one server. Of several times the first, which finds nothing warm, is not counted."""
    based: bool = True
    """Whether the first system is measured beside each of the others, and ratios to it are shown."""
    bars: tuple[Bar, ...] = ()

    @property
    def base(self) -> str:
        return self.systems[0] if self.based else ""


_PEERS = ("tutorial", "tutorial-redis", "broadcaster", "channels", "python-socketio", "socket.io", "ws")
_PUSHERS = ("pusher", "soketi", "ws-pusher")
"""Clients of the Pusher protocol, and a backend that posts the events."""
_GATEWAYS = ("gateway", "gateway-redis")
_SUBSCRIBED = ("history", "history-redis", "program-redis", "program-token")
"""Each connection with a channel of its own with history."""
_FAN_OUT = ("limit", "gateway", "gateway-protobuf", "gateway-redis")
_D = measures.DELIVERIES

WORKS: Sequence[Work] = (
    Work(
        name="fanout-2",
        title="One channel, 1,000 subscribers, 2 messages in flight",
        measure=measures.fan_out,
        systems=(*_FAN_OUT, *_PEERS, *_PUSHERS),
        bars=(Bar(value=_D, of="limit", least=1.0), Bar(value=_D, of="tutorial", least=4.0)),
    ),
    Work(
        name="fanout-32",
        title="One channel, 1,000 subscribers, 32 messages in flight",
        measure=partial(measures.fan_out, inflight=32),
        systems=(*_FAN_OUT, *_PEERS, *_PUSHERS),
        bars=(Bar(value=_D, of="limit", least=6.0), Bar(value=_D, of="tutorial", least=25.0)),
    ),
    Work(
        name="fanout-10k",
        title="One channel, 10,000 subscribers, 2 messages in flight",
        measure=partial(measures.fan_out, subscribers=10_000),
        systems=("limit", *_GATEWAYS),
        bars=(Bar(value=_D, of="limit", least=0.8),),
    ),
    Work(
        name="forms-2",
        title="A delivery in each form beside plain JSON, one channel, 1,000 subscribers, 2 messages in flight",
        measure=deliveries,
        systems=_GATEWAYS,
        based=False,
    ),
    Work(
        name="forms-32",
        title="A delivery in each form beside plain JSON, one channel, 1,000 subscribers, 32 messages in flight",
        measure=partial(deliveries, inflight=32),
        systems=_GATEWAYS,
        based=False,
    ),
    Work(
        name="channels",
        title="1,000 channels with a subscriber each, published through Redis; the limit: one channel, 2 in flight",
        measure=measures.many_channels,
        systems=("limit", "gateway-redis"),
        bars=(Bar(system="gateway-redis", value=_D, of="limit", least=0.24),),
    ),
    Work(
        name="publishers",
        title="1,000 publishing clients, each into a channel of its own with history",
        measure=measures.publishing,
        systems=("gateway-history-memory", "gateway-history"),
        based=False,
    ),
    Work(
        name="shards",
        title="1,000 channels with history and a subscriber each, through one and several servers of Redis on one core",
        measure=measures.stored,
        systems=("redis-1", "redis-2", "redis-4", "cluster-3"),
        bars=(
            Bar(system="redis-2", value=measures.OF_A_CORE, of="redis-1", least=1.7),
            Bar(system="redis-4", value=measures.OF_A_CORE, of="redis-1", least=2.8),
            Bar(system="cluster-3", value=measures.OF_A_CORE, of="redis-1", least=2.2),
        ),
    ),
    Work(
        name="resubscribe",
        title="A Redis is restarted that keeps 100,000 channels of a node; live: 200 messages a second",
        measure=resubscribe,
        systems=("channels-1", "channels-2", "channels-cluster"),
        based=False,
    ),
    Work(
        name="two-nodes",
        title="Two gateways on one core, 1,000 subscribers of one channel in all, 32 messages in flight in Redis",
        measure=partial(measures.injected, channels=1, inflight=32),
        systems=("gateway-redis", "gateway-two"),
        bars=(Bar(system="gateway-two", value=_D, of="gateway-redis", least=0.7),),
    ),
    Work(
        name="accepts",
        title="Connections per second: the upgrade, then connect and subscribe where there is such a thing",
        measure=measures.accepts,
        systems=("tutorial", *_GATEWAYS, *_PEERS[1:], "limit"),
        bars=(Bar(value=measures.ACCEPTS, of="tutorial", least=3.0),),
    ),
    Work(
        name="storms",
        title="What it costs the server to let a client in and subscribe it, when a thousand come at once",
        measure=measures.storm,
        turns=5,
        systems=("tutorial", "ws", *_GATEWAYS, "token", "token-redis", *_SUBSCRIBED),
        based=False,
    ),
    Work(
        name="return",
        title="A node is killed, and its 15,000 clients come to another at once and get what they have missed",
        measure=returning,
        systems=("history-redis",),
        based=False,
    ),
    Work(
        name="memory",
        title="Memory of 15,000 idle connections, all in one channel, or each in one of its own with history",
        measure=measures.memory,
        systems=(*_GATEWAYS, *_SUBSCRIBED, *_PEERS),
        based=False,
        bars=(
            Bar(value=measures.MEMORY, most=10.0),
            *(Bar(system=system, value=measures.MEMORY, most=6.0) for system in _SUBSCRIBED),
        ),
    ),
    Work(
        name="latency",
        title="Latency at a tenth of the limit's maximum, one channel, 1,000 subscribers",
        measure=measures.latency,
        systems=("limit", *_GATEWAYS, "tutorial"),
        bars=(Bar(value=measures.P99, of="limit", most=2.0),),
    ),
    Work(
        name="slow",
        title="One client of 1,000 stops to read, 32 messages in flight",
        measure=measures.slow,
        systems=("gateway",),
        based=False,
        bars=(
            Bar(value=measures.THROUGHPUT, least=95.0),
            Bar(value=measures.GROWTH, most=2.0),
            Bar(value=measures.CLOSED, least=1.0),
        ),
    ),
    Work(
        name="idle",
        title="15,000 idle connections, pinged every 25 s",
        measure=measures.idle,
        systems=("gateway",),
        based=False,
        bars=(Bar(value=measures.CPU, most=2.5),),
    ),
)

BY_NAME: Mapping[str, Work] = {work.name: work for work in WORKS}
