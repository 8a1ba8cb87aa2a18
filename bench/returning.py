"""A node is killed, and its clients come to another at once: how long it takes, what it costs, and who notices."""

import json
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from typing import Any

from msgspec import structs

from bench.injection import Appends
from bench.measures import COST, Run, Values, connected, tokens
from bench.servers import Failed
from gateway.bench.load import Load
from gateway.bench.plan import Plan
from gateway.bench.report import Report

CLIENTS = 15_000
"""Within the 20,000 files that a process may have open."""
AT_ONCE = 2_000
"""Of them on their way: more than a server has room for until it accepts them would measure how TCP tries again."""
LISTENERS, RATE = 100, 50.0
"""Live, at the node that stays: subscribers of one channel, and messages a second."""

LAST, READY = "s from the kill to the last recovery", "connections/s"
BEFORE, MEANWHILE, LONGEST = "live p99 before (ms)", "live p99 meanwhile (ms)", "longest (ms)"

_CONNECT = b'{"id":1,"connect":{"token":"{token}"}}\n'
_RECOVER = b'{"id":2,"subscribe":{"channel":"{channel}","recover":true,"offset":%d,"epoch":"%b"}}'
_EVER = 3600.0


def returning(run: Run) -> Values:
    """Each client has a channel of its own with history; a third of them miss one message, a third two."""
    plan = structs.replace(
        run.plan(CLIENTS, CLIENTS),
        publishers="none",
        tokens=tokens(run.count(CLIENTS)),
        sources=2,
        connect_concurrency=AT_ONCE,
        connect_timeout=30.0,
    )
    others = structs.replace(run.plan(LISTENERS, rate=RATE), prefix="live", tokens=plan.tokens[:1])
    with (
        live(others) as since,
        run.system.server(run.core, run.redises.url) as node,
        closing(Appends(run.redises, [plan.channel(number) for number in range(plan.channels)])) as appends,
    ):
        there: dict[int, bytes] = {}
        with connected(run, Load(structs.replace(plan, port=node.port), confirmed=there.__setitem__)) as load:
            hellos = tuple(hello(there[number]) for number in range(plan.connections))
            for number in range(plan.channels):
                for data in missed(number):
                    appends.publish(number, json.dumps(data).encode())
            since()
            used, began = run.server.cpu(), time.monotonic()
            load.wait(lambda: time.monotonic() > began + run.seconds)
            before, share = since(), (run.server.cpu() - used) / (time.monotonic() - began)
            killed = time.monotonic()
            node.kill()
        appends.finish()
        here: dict[int, bytes] = {}
        used, began = run.server.cpu(), time.monotonic()
        with connected(run, Load(structs.replace(plan, hellos=hellos), confirmed=here.__setitem__)):
            used, ended = run.server.cpu() - used, time.monotonic()
            meanwhile = since()
    for number, reply in here.items():
        check(reply, missed(number))
    return {
        LAST: ended - killed,
        READY: plan.connections / (ended - began),
        COST: 1e6 * (used - share * (ended - began)) / plan.connections,
        BEFORE: 1000 * before.latency.percentile(0.99),
        MEANWHILE: 1000 * meanwhile.latency.percentile(0.99),
        LONGEST: 1000 * meanwhile.latency.maximum,
    }


def missed(number: int) -> Sequence[Mapping[str, int]]:
    """What is published into a client's channel while it is away."""
    return [{"client": number, "message": each} for each in range(number % 3)]


def hello(reply: bytes) -> tuple[bytes, ...]:
    """What a client says that comes back, given what it was told as it subscribed."""
    told = subscribed(reply)
    return (_CONNECT + _RECOVER % (told.get("offset", 0), told["epoch"].encode()),)


def check(reply: bytes, expected: Sequence[Mapping[str, int]]) -> None:
    """Raise `Failed` unless a client that has come back has got what it missed, and nothing else."""
    told = subscribed(reply)
    if not told.get("recovered") or [each["data"] for each in told.get("publications", ())] != expected:
        raise Failed(f"a client that has missed {expected} was told {told}")


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
