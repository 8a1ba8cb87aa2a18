"""Ways to measure a running system. Each returns its figures under the names that the table shows."""

import http.client
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from secrets import token_hex

import msgspec
from msgspec import structs

from bench.injection import Appends, Injection
from bench.redises import Redises
from bench.servers import Failed, Server
from bench.systems import SECRET, System
from bench.triggers import Triggers
from gateway.auth.tokens import sign_connection
from gateway.bench.load import Load
from gateway.bench.plan import Plan
from gateway.bench.report import Report

Values = Mapping[str, float]
"""Figures by name."""

DELIVERIES, MESSAGES, ACCEPTS = "deliveries/s", "messages/s", "accepts/s"
COST = "µs of the server"
MEMORY, HELD = "KB per connection", "connections"
P50, P99 = "p50 (ms)", "p99 (ms)"
CPU = "% of a core"
DISORDER = "out of order, one client"
OF_A_CORE, REDIS_COST, BUSIEST = "publications/s, a core for each Redis", "Redis, µs each", "busiest Redis, %"
SERVER, LOAD = "server busy, %", "load busy, %"
THROUGHPUT, GROWTH, CLOSED = "throughput, % of before", "growth (MB)", "closed with 3008"

CONNECTIONS = 5_000
"""Connections that accepts are counted over: a second of the fastest server."""
STORM = 1_000
"""Connections that come at once."""
IDLE = 15_000
"""Connections held idle, within the 20,000 files that a process may have open."""
PINGS = 25.0
"""Seconds between two pings of a connection: a shorter look might see none."""
RATE = 0.1
"""Share of the limit's maximum at which latency is measured."""
SLOW = 3008
"""Code with which a client is closed that does not read."""

_SETTLED = 0.002
"""Share by which memory may still grow, in `_LOOK` seconds, once everything has come to rest."""
_LOOK = 0.5
_REST = 10.0
"""Seconds within which memory, or the server, must come to rest."""
_PAUSE = 0.1
_IDLE_SHARE = 0.03
"""Share of a core that a server takes at most which has nothing to do."""


class Run(msgspec.Struct):
    """One system at work, and how long and how large to measure it."""

    system: System
    server: Server
    redises: Redises
    seconds: float
    share: float
    """Part of the connections that a full run has."""
    beside: Values
    """What the base reached just before; empty for the base itself."""
    core: int
    """Of the server, and of any other that is started beside it."""

    def plan(self, connections: int, channels: int = 1, *, inflight: int = 2, rate: float = 0.0) -> Plan:
        return Plan(
            port=self.server.port,
            dialect=self.system.dialect,
            connections=self.count(connections),
            channels=self.count(channels),
            inflight=inflight,
            rate=rate,
            warmup=self.seconds / 5,
            latency=bool(rate),
        )

    def count(self, number: int) -> int:
        return max(1, int(number * self.share))


@contextmanager
def connected(run: Run, load: Load) -> Iterator[Load]:
    """The load with all its connections open. Raises `Failed` when some are missing."""
    try:
        load.connect()
        missing = load.plan.connections - sum(load.subscribers)
        if missing:
            raise Failed(f"{run.system.name}: {missing} connections failed: {dict(load.errors)}\n{run.server.log}")
        yield load
    finally:
        load.close()


def figures(run: Run, load: Load, seconds: float) -> tuple[Report, Values]:
    """Measure, and say beside it how busy either side was. Raises `Failed` if the report is of no use."""
    used, began = run.server.cpu(), time.monotonic()
    report = load.measure(seconds)
    used, took = run.server.cpu() - used, time.monotonic() - began
    run.server.check()
    if report.interrupted:
        raise KeyboardInterrupt
    if report.errors:
        raise Failed(f"{run.system.name}: {report.errors}\n{run.server.log}")
    return report, {SERVER: 100 * used / took, LOAD: 100 * report.busy}


def delivered(run: Run, load: Load, seconds: float) -> Values:
    report, busy = figures(run, load, seconds)
    if not report.deliveries:
        raise Failed(f"{run.system.name} delivers nothing\n{run.server.log}")
    disorder = {DISORDER: float(report.out_of_order)} if report.out_of_order else {}
    return {DELIVERIES: report.deliveries_per_second, **busy, **disorder}


def fan_out(run: Run, subscribers: int = 1000, inflight: int = 2) -> Values:
    """One channel, many subscribers."""
    plan = run.plan(subscribers, inflight=inflight)
    with ExitStack() as stack:
        triggers = Triggers(run.server.port, [plan.channel(0)], inflight) if run.system.triggered else None
        publish = stack.enter_context(closing(triggers)).publish if triggers else None
        return delivered(run, stack.enter_context(connected(run, Load(plan, publish))), run.seconds)


def injected(run: Run, subscribers: int = 1000, channels: int = 1000, inflight: int = 1000) -> Values:
    """Published straight into Redis, as by some other node."""
    plan = run.plan(subscribers, channels, inflight=inflight)
    injection = Injection(run.redises.servers[0].port, [plan.channel(number) for number in range(plan.channels)])
    with closing(injection), connected(run, Load(plan, injection.publish, injection.flush)) as load:
        return delivered(run, load, run.seconds)


def many_channels(run: Run) -> Values:
    """A thousand channels with a subscriber each; of the limit, its fan-out.

    What publishes and reads is about as busy as the server: its time for a delivery tells what it can do.
    """
    if run.system.name == "limit":
        return fan_out(run)
    values = injected(run)
    return {**values, COST: 1e4 * values[SERVER] / values[DELIVERIES]}


def publishing(run: Run) -> Values:
    """A thousand clients that publish, each into a channel of its own and one message at a time."""
    plan = structs.replace(run.plan(1000, 1000, inflight=1000), latency=True)
    with connected(run, Load(plan)) as load:
        report, busy = figures(run, load, run.seconds)
        return {MESSAGES: report.messages_per_second, **_percentiles(report), **busy}


def stored(run: Run) -> Values:
    """Published with history by some other node, through all servers of Redis; a subscriber for each channel.

    They share the load's core. What they could do with a core each follows from the time of the busiest.
    """
    plan = run.plan(1000, 1000, inflight=1000)
    injection = Appends(run.redises, [plan.channel(number) for number in range(plan.channels)])
    with closing(injection), connected(run, Load(plan, injection.publish, injection.flush)) as load:
        figures(run, load, run.seconds / 5)
        before, began = run.redises.cpu(), time.monotonic()
        report, busy = figures(run, load, run.seconds)
        took = time.monotonic() - began
    used = [(after - earlier) / took for earlier, after in zip(before, run.redises.cpu(), strict=True)]
    if not report.messages:
        raise Failed(f"{run.system.name} delivers nothing\n{run.server.log}")
    return {
        OF_A_CORE: report.messages_per_second / max(used),
        MESSAGES: report.messages_per_second,
        REDIS_COST: 1e6 * sum(used) / report.messages_per_second,
        BUSIEST: 100 * max(used) / sum(used),
        **busy,
    }


def accepts(run: Run) -> Values:
    """Connections until each is ready: upgraded, and connected and subscribed where there is such a thing."""
    load = Load(run.plan(CONNECTIONS))
    used, ours, began = run.server.cpu(), time.process_time(), time.monotonic()
    with connected(run, load):
        took = time.monotonic() - began
        busy = {SERVER: 100 * (run.server.cpu() - used) / took, LOAD: 100 * (time.process_time() - ours) / took}
        return {ACCEPTS: load.plan.connections / took, **busy}


def storm(run: Run) -> Values:
    """What it costs the server to let a client in: with a token, it subscribes to a channel of its own.

    Nothing of it is left when it returns: the next one would pay for that.
    """
    plan = structs.replace(clients(run, STORM), prefix=f"{token_hex(3)}-")
    used, began = run.server.cpu(), time.monotonic()
    with connected(run, Load(plan)):
        used, took = run.server.cpu() - used, time.monotonic() - began
    _until_idle(run)
    return {COST: 1e6 * used / plan.connections, SERVER: 100 * used / took}


def clients(run: Run, connections: int) -> Plan:
    """Silent ones; as the system has it each with a token, and each with a channel of its own."""
    plan = structs.replace(run.plan(connections), publishers="none", connect_timeout=30.0)
    if run.system.own_channels:
        plan = structs.replace(plan, channels=plan.connections)
    if run.system.tokens:
        tokens = tuple(sign_connection(SECRET, f"user-{number}") for number in range(plan.connections))
        plan = structs.replace(plan, tokens=tokens)
    return plan


def _until_idle(run: Run) -> None:
    """Wait until the server has nothing to do any more."""
    until = time.monotonic() + _REST
    used = run.server.cpu()
    while True:
        time.sleep(_PAUSE)
        before, used = used, run.server.cpu()
        if used - before < _IDLE_SHARE * _PAUSE:
            return
        if time.monotonic() > until:
            raise Failed(f"{run.system.name} is still busy {_REST:g} s after its connections have closed")


def memory(run: Run) -> Values:
    """What a connection costs that is idle and subscribed."""
    before = run.server.memory()
    with connected(run, Load(clients(run, IDLE))) as load:
        grown = _at_rest(run, load) - before
        return {MEMORY: grown / load.plan.connections / 1024, HELD: load.plan.connections}


def _at_rest(run: Run, load: Load) -> int:
    """The server's memory once that grows no more."""
    until = time.monotonic() + _REST
    now = run.server.memory()
    while True:
        figures(run, load, _LOOK)  # pings are answered all the while
        last, now = now, run.server.memory()
        if now - last < _SETTLED * now or time.monotonic() > until:
            return now


def latency(run: Run) -> Values:
    """How long deliveries take at a tenth of what the limit can do at most."""
    rate = run.beside.get(MESSAGES) or RATE * fan_out(run)[DELIVERIES] / run.count(1000)
    with connected(run, Load(run.plan(1000, rate=rate))) as load:
        report, busy = figures(run, load, 2 * run.seconds)
        return {**_percentiles(report), MESSAGES: rate, **busy}


def _percentiles(report: Report) -> Values:
    return {P99: 1000 * report.latency.percentile(0.99), P50: 1000 * report.latency.percentile(0.5)}


def slow(run: Run) -> Values:
    """A client among a thousand stops to read: what the others notice, what it costs, how it ends."""
    others = run.plan(999, inflight=32)
    one = structs.replace(run.plan(1), publishers="none")
    with connected(run, Load(others)) as load:
        before = delivered(run, load, 2 * run.seconds)[DELIVERIES]
        memory = run.server.memory()
        with connected(run, Load(structs.replace(one, connections=1))), peak(run.server) as most:
            during = delivered(run, load, 6 * run.seconds)[DELIVERIES]
        return {
            THROUGHPUT: 100 * during / before,
            GROWTH: max(0, most[0] - memory) / 1e6,
            CLOSED: disconnects(run.server.port, SLOW),
        }


@contextmanager
def peak(server: Server) -> Iterator[list[int]]:
    """The most memory that it has had since, looked at twice a second."""
    most, over = [server.memory()], threading.Event()

    def look() -> None:
        while not over.wait(_LOOK):
            most[0] = max(most[0], server.memory())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def disconnects(port: int, code: int) -> int:
    """How many connections a gateway has ended with this code, as it counts them itself."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with closing(connection):
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    found = re.search(rf'^gateway_disconnects_total{{code="{code}"}} (\S+)$', text, re.MULTILINE)
    return int(float(found[1])) if found else 0


def idle(run: Run) -> Values:
    """What connections cost that say nothing and answer pings."""
    with connected(run, Load(structs.replace(run.plan(IDLE), publishers="none"))) as load:
        _at_rest(run, load)
        _, busy = figures(run, load, max(PINGS, 10 * run.seconds))
        return {CPU: busy[SERVER], HELD: load.plan.connections}
