"""One node's share of ten million users, measured: ``bench/ten_million`` runs ``examples/ten_million.py``."""

import argparse
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from os import sched_setaffinity
from pathlib import Path

import msgspec
from hiredis import pack_command
from redis import Redis

from bench.__main__ import say
from bench.environment import Missing, machine
from bench.injection import Commands
from bench.measures import DELIVERIES, P50, P99, SERVER, Run, Values, connected, figures
from bench.redises import KEYS, Layout, Redises
from bench.report import grid, number
from bench.servers import Failed, cores
from bench.systems import GATEWAY, System
from gateway.auth.tokens import sign_connection
from gateway.bench.dialect import Dialect
from gateway.bench.limits import make_room
from gateway.bench.load import Load
from gateway.bench.plan import LoadError, Plan
from gateway.brokers.base import PublishOptions, StreamOptions
from gateway.brokers.calls import PUBLISH, publish_call
from gateway.messages import Payload, Publication
from gateway.redis.pubsub import CLASSIC, SHARDED

USERS = 15_000
"""Of ten million, on each of 667 nodes."""
RATES = 150.0, 1_500.0, 5_000.0
"""Notifications a second for these: when all ten million get 100,000, and more than that."""
NEWS = "news:all"
INBOX = StreamOptions(10, 600.0, 720 * 3600.0)
"""What is kept of notifications, as the example has it."""
NOTHING_KEPT = StreamOptions(0, 0.0, 0.0)
IDLE = 40.0
"""Seconds within which every client is pinged, and a third of the inboxes are compared with Redis."""
SECRET = "the clients of this measurement are none"

DIALECT = Dialect(
    path="/connection/websocket",
    hello=(b'{"id":1,"connect":{"token":"{token}"}}\n{"id":2,"subscribe":{"channel":"' + NEWS.encode() + b'"}}',),
    ready=b'"id":2,"subscribe"',
    ping=b"{}",
    pong=b"{}",
)
"""The inbox comes with the token."""

READY, COST, REDIS_COST = "connections ready/s", "node, µs per connection", "Redis, µs per connection"
NODE, REDIS = "node, % of a core", "Redis, % of a core"
MEMORY, REDIS_MEMORY = "KB of the node per connection", "KB of Redis per connection"
_REST = 2.0
"""Seconds after which a node has done with new connections."""


class Options(msgspec.Struct, kw_only=True):
    """What to put on the node."""

    users: int
    rates: Sequence[float]
    """Notifications a second, one after the other."""
    seconds: float
    idle: float
    """Seconds for which it is looked at while nothing is sent."""
    redis: Layout = Layout()
    """What the node is joined by."""


class Notifications:
    """Publishes for a `Load` as a backend does, straight into Redis: so many to one user each, then one to all."""

    def __init__(self, redises: Redises, inboxes: Sequence[str], between: int) -> None:
        self._place = redises.layout.place
        self._servers = [Commands(server.port) for server in redises.servers]
        self._script = PUBLISH.sharded if redises.layout.cluster else PUBLISH
        self._plain = (SHARDED if redises.layout.cluster else CLASSIC).publish
        self._inboxes = inboxes
        self._between = between
        self._published = 0
        for server in redises.servers:
            with closing(Redis(port=server.port)) as redis:
                redis.script_load(self._script.text.decode())

    def publish(self, user: int, data: bytes) -> None:
        self._published += 1
        if self._published % self._between == 0:
            self._add(NEWS, data, NOTHING_KEPT)
        self._add(self._inboxes[user], data, INBOX)

    def _add(self, channel: str, data: bytes, kept: StreamOptions) -> None:
        call = publish_call(KEYS, channel, Publication(data=Payload(data)), kept, PublishOptions(), now=time.time())
        stored = self._script.by_digest(call.keys, call.args)
        words = stored if call.script else (self._plain, *call.keys, *call.args)
        packed = pack_command(words)  # type: ignore[arg-type]  # typed as if it took one word alone
        self._servers[self._place(channel)].pending.append(packed)

    def flush(self) -> None:
        for server in self._servers:
            server.flush()

    def close(self) -> None:
        for server in self._servers:
            server.close()


class Measuring:
    """Opens all connections for each rate anew: every time is a storm, as after the loss of a node."""

    def __init__(self, options: Options) -> None:
        self.storms: list[Values] = []
        self.rest: Values = {}
        self.shares: dict[float, Values] = {}
        self._options = options
        self._node_core, self._load_core = cores()
        self._tokens = tuple(sign_connection(SECRET, str(user)) for user in range(options.users))

    def run(self) -> None:
        """Raises `Failed` and `LoadError`."""
        make_room(self._options.users)  # for the node as well, which inherits it
        sched_setaffinity(0, {self._load_core})
        with self._running() as run:
            with connected(run, Load(self._plan(run, rate=1.0, users=1))):
                pass  # what only the first one costs is not counted
            for rate in self._options.rates:
                self._measure(run, run.redises, rate)

    @contextmanager
    def _running(self) -> Iterator[Run]:
        with (
            self._options.redis.running(self._load_core) as redises,
            example(redises.url).server(self._node_core, redises.url) as node,
        ):
            yield Run(example(redises.url), node, redises, self._options.seconds, 1.0, {}, self._node_core)

    def _plan(self, run: Run, rate: float, users: int) -> Plan:
        return Plan(
            port=run.server.port,
            dialect=DIALECT,
            tokens=self._tokens,
            prefix="inbox:#",
            connections=users,
            channels=users,
            rate=rate,
            warmup=self._options.seconds / 5,
            sources=2,
            connect_timeout=30.0,
        )

    def _measure(self, run: Run, redis: Redises, rate: float) -> None:
        plan = self._plan(run, rate, self._options.users)
        notifications = Notifications(
            redis, [plan.channel(user) for user in range(plan.channels)], between=max(1, round(rate))
        )
        before, kept = run.server.memory(), stored(redis)
        load = Load(plan, notifications.publish, notifications.flush)
        used, served, began = run.server.cpu(), sum(redis.cpu()), time.monotonic()
        with closing(notifications), connected(run, load):
            took = time.monotonic() - began
            storm = {
                READY: plan.connections / took,
                COST: 1e6 * (run.server.cpu() - used) / plan.connections,
                REDIS_COST: 1e6 * (sum(redis.cpu()) - served) / plan.connections,
            }
            self.storms.append(self._said("connected", storm))
            if not self.rest:
                rest(load, _REST)
                memory = {
                    MEMORY: (run.server.memory() - before) / plan.connections / 1024,
                    REDIS_MEMORY: (stored(redis) - kept) / plan.connections / 1024,
                }
                self.rest = self._said("at rest", {**memory, **self._idle(run, redis, load)})
            self.shares[rate] = self._said(f"{rate:g} notifications/s", self._share(run, redis, load))

    def _idle(self, run: Run, redis: Redises, load: Load) -> Values:
        used, served = run.server.cpu(), sum(redis.cpu())
        rest(load, self._options.idle)
        parts = (run.server.cpu() - used, sum(redis.cpu()) - served)
        return {name: 100 * part / self._options.idle for name, part in zip((NODE, REDIS), parts, strict=True)}

    def _share(self, run: Run, redis: Redises, load: Load) -> Values:
        served, began = sum(redis.cpu()), time.monotonic()
        report, busy = figures(run, load, self._options.seconds)
        share = 100 * (sum(redis.cpu()) - served) / (time.monotonic() - began)
        latency = {name: 1000 * report.latency.percentile(part) for name, part in ((P50, 0.5), (P99, 0.99))}
        return {DELIVERIES: report.deliveries_per_second, NODE: busy[SERVER], REDIS: share, **latency}

    def _said(self, what: str, values: Values) -> Values:
        say(f"{what}: " + ", ".join(f"{name} {number(value)}" for name, value in values.items()))
        return values


def example(redis: str) -> System:
    """The example, as its docstring says it is run."""
    words = ("-m", "uvicorn", "examples.ten_million:app", "--port", "{port}", "--no-access-log")
    return System(
        name="ten-million",
        title="examples/ten_million.py",
        packages=("wsgateway", "uvicorn"),
        environment=GATEWAY,
        words=(*words, "--ws", "gateway.transports.uvicorn_websocket:WebSocketProtocol"),
        announces="Application startup complete",
        variables={"GATEWAY_REDIS_URL": redis, "GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY": SECRET},
    )


def stored(redises: Redises) -> int:
    """Bytes that Redis has in use."""
    found = 0
    for server in redises.servers:
        with closing(Redis(port=server.port)) as client:
            found += int(client.info("memory")["used_memory"])
    return found


def rest(load: Load, seconds: float) -> None:
    """Let the clients answer pings, and nothing else."""
    until = time.monotonic() + seconds
    load.wait(lambda: time.monotonic() > until)


# — the table —


def markdown(measuring: Measuring, about: str) -> str:
    shares: list[Values] = [{"notifications/s": rate, **values} for rate, values in measuring.shares.items()]
    tables: dict[str, list[Values]] = {
        "All connect at once": measuring.storms,
        "All are connected, and nothing is sent": [measuring.rest],
        "Notifications to one user each, and one a second to all": shares,
    }
    blocks = [about]
    for title, rows in tables.items():
        blocks += [f"### {title}", grid(list(rows[0]), [[number(value) for value in row.values()] for row in rows], 0)]
    return "\n\n".join(blocks) + "\n"


def joined(redis: Layout) -> str:
    if redis.servers == 1:
        return "Redis"
    return f"a Cluster of {redis.servers}" if redis.cluster else f"{redis.servers} servers of Redis"


def about(options: Options) -> str:
    return (
        f"Measured by `bench/ten_million` on {time.strftime('%Y-%m-%d')}: {machine()}. The node on one core, "
        f"{options.users:,} clients and {joined(options.redis)} on another; {options.seconds:g} s for each row."
    )


# — the command line —


def parse(arguments: Sequence[str]) -> tuple[Options, Path | None]:
    parser = argparse.ArgumentParser(
        prog="bench/ten_million", description="Puts one node's share of ten million users on examples/ten_million.py."
    )
    parser.add_argument("--users", type=int, default=USERS, help=f"default: {USERS}")
    parser.add_argument(
        "--rates", type=float, nargs="+", default=RATES, help="notifications a second; default: 150 1500 5000"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of one measurement")
    several = parser.add_mutually_exclusive_group()
    several.add_argument("--shards", type=int, default=1, help="servers of Redis, each with its share; default: 1")
    several.add_argument("--cluster", type=int, default=0, metavar="PRIMARIES", help="a Cluster of so many instead")
    parser.add_argument("--smoke", action="store_true", help="only show that it works, in a few seconds")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the table goes; default: standard output")
    given = parser.parse_args(arguments)
    redis = Layout(given.cluster or given.shards, cluster=bool(given.cluster))
    if min(given.shards, given.cluster or 3) < 1 or given.cluster in (1, 2):
        parser.error("there must be a server, and three primaries in a Cluster")
    if given.smoke:
        return Options(users=200, rates=[100.0], seconds=1.5, idle=0.1, redis=redis), given.output
    if given.users < 1 or given.seconds <= 0 or min(given.rates) <= 0:
        parser.error("users, rates and seconds must be more than 0")
    return Options(users=given.users, rates=given.rates, seconds=given.seconds, idle=IDLE, redis=redis), given.output


def main() -> int:
    """Exit code: 0, or 1 when something could not be measured, or 130 when it was interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options, output = parse(sys.argv[1:])
    measuring = Measuring(options)
    try:
        measuring.run()
        text = markdown(measuring, about(options))
    except KeyboardInterrupt:
        say("interrupted; nothing is written")
        return 130
    except (Failed, LoadError, Missing) as failure:
        say(f"bench/ten_million: {failure}")
        return 1
    if output is None:
        print(text, end="")
    else:
        output.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
