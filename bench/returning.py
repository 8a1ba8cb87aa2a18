"""A node is killed, and its clients come to another at once: how long it takes, what it costs, and who notices."""

import http.client
import json
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from typing import Any

from msgspec import structs

from bench.measures import COST, SERVER, Run, Values, clients, connected
from bench.servers import Failed
from gateway.batches import batches
from gateway.bench.load import Load
from gateway.bench.plan import Plan
from gateway.bench.report import Report

CLIENTS = 15_000
"""Within the 20,000 files that a process may have open."""
AT_ONCE = 2_000
"""Of them on their way: more than a server has room for until it accepts them would measure how TCP tries again."""
LISTENERS, RATE = 100, 50.0
"""Live, at the node that stays: subscribers of one channel, and messages a second."""

OF_A_BATCH = 500

LAST, READY = "s from the kill to the last recovery", "connections/s"
BEFORE, MEANWHILE, LONGEST = "live p99 before (ms)", "live p99 meanwhile (ms)", "live, longest (ms)"

_CONNECT = b'{"id":1,"connect":{"token":"{token}"}}\n'
_RECOVER = b'{"id":2,"subscribe":{"channel":"{channel}","recover":true,"offset":%d,"epoch":"%b"}}'
_EVER = 3600.0


def returning(run: Run) -> Values:
    """Each client has a channel of its own with history, and a third of them miss a message."""
    plan = structs.replace(clients(run, CLIENTS), sources=2, connect_concurrency=AT_ONCE)
    others = structs.replace(run.plan(LISTENERS, rate=RATE), prefix="live", tokens=plan.tokens[:1])
    with live(others) as since, run.system.server(run.core, run.redises.url) as node:
        there: dict[int, bytes] = {}
        with connected(run, Load(structs.replace(plan, port=node.port), confirmed=there.__setitem__)) as load:
            hellos = tuple(hello(there[number]) for number in range(plan.connections))
            since()
            used, began = run.server.cpu(), time.monotonic()
            load.wait(lambda: time.monotonic() > began + run.seconds)
            before, share = since(), (run.server.cpu() - used) / (time.monotonic() - began)
            killed = time.monotonic()
            node.kill()
        publish(run, ((plan.channel(number), data) for number in range(plan.channels) for data in missed(number)))
        here: dict[int, bytes] = {}
        used, began = run.server.cpu(), time.monotonic()
        with connected(run, Load(structs.replace(plan, hellos=hellos), confirmed=here.__setitem__)):
            used, ended = run.server.cpu() - used, time.monotonic()
            meanwhile = since()
        took = ended - began
    check(run, here)
    return {
        LAST: ended - killed,
        READY: plan.connections / took,
        COST: 1e6 * (used - share * took) / plan.connections,  # without what the live traffic takes
        SERVER: 100 * used / took,
        BEFORE: 1000 * before.latency.percentile(0.99),
        MEANWHILE: 1000 * meanwhile.latency.percentile(0.99),
        LONGEST: 1000 * meanwhile.latency.maximum,
    }


def missed(number: int) -> Sequence[Mapping[str, int]]:
    """What is published into a client's channel while it is away."""
    return [] if number % 3 else [{"client": number}]


def publish(run: Run, messages: Iterable[tuple[str, Mapping[str, int]]]) -> None:
    """As a backend does it: so it can be done to another checkout, too. Raises `Failed`."""
    commands = ({"publish": {"channel": channel, "data": data}} for channel, data in messages)
    with closing(http.client.HTTPConnection("127.0.0.1", run.server.port, timeout=30.0)) as connection:
        for some in batches(commands, OF_A_BATCH):
            connection.request("POST", "/api/batch", json.dumps({"parallel": True, "commands": some}))
            answer = connection.getresponse().read()
            if answer.count(b'"publish"') != len(some):
                raise Failed(f"{run.system.name} does not publish: {answer.decode()}")


def hello(reply: bytes) -> tuple[bytes, ...]:
    """What a client says that comes back, given what it was told as it subscribed."""
    told = subscribed(reply)
    return (_CONNECT + _RECOVER % (told.get("offset", 0), told["epoch"].encode()),)


def check(run: Run, replies: Mapping[int, bytes]) -> None:
    """Raise `Failed` unless each client that has come back was given what it missed, and nothing else."""
    for number, reply in replies.items():
        if (given := recovered(reply)) != missed(number):
            raise Failed(f"{run.system.name}: a client that has missed {missed(number)} was given {given}")


def recovered(reply: bytes) -> Sequence[Mapping[str, int]] | None:
    """What a client has got that has come back; None if it was told that there is more."""
    told = subscribed(reply)
    return [each["data"] for each in told.get("publications", ())] if told.get("recovered") else None


def subscribed(reply: bytes) -> dict[str, Any]:
    """The result of a subscription, of which the rest of a frame, and perhaps others, are given."""
    result: dict[str, Any] = json.JSONDecoder().raw_decode(reply.decode(errors="replace").removeprefix(":"))[0]
    return result


@contextmanager
def live(plan: Plan) -> Iterator[Callable[[], Report]]:
    """Has a process of its own carry out a plan, and tells how that went since it was last asked."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_go_on, args=(plan, theirs), daemon=True)
    process.start()
    theirs.close()

    def since() -> Report:
        try:
            ours.send(None)
            report: Report = ours.recv()
        except (EOFError, OSError) as error:
            raise Failed("the live traffic has ended before its time") from error
        if report.errors:
            raise Failed(f"live traffic: {report.errors}")
        return report

    try:
        since()
        yield since
    finally:
        ours.close()
        process.kill()
        process.join()


def _go_on(plan: Plan, director: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process ends this one

    def look(_what: str, _done: float, _whole: float) -> None:
        if director.poll():
            raise KeyboardInterrupt  # ends what is measured, but not who measures

    load = Load(plan)
    load.connect()
    while True:
        report = load.measure(_EVER, look)
        director.recv()
        director.send(report)
