"""Several processes that load one gateway together."""

import multiprocessing.connection
import os
import signal
import socket
from typing import Any

import pytest

from gateway.bench import limits, processes
from gateway.bench.load import Load
from gateway.bench.plan import LoadError, Plan
from gateway.bench.processes import processes_for, run
from gateway.bench.report import Report, merge
from tests.bench.test_load import TOKENS, plan
from tests.integration.servers import GatewayServer


@pytest.fixture(autouse=True)
def _nobody_is_left() -> Any:
    yield
    assert not multiprocessing.active_children()


def test_one_process_runs_here(gateway: GatewayServer) -> None:
    report = run(plan(gateway.port, tokens=TOKENS))
    assert report.connected == 6
    assert report.deliveries > 6


def test_nobody_connects() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    report = run(plan(port))
    assert (report.connected, report.seconds, report.errors) == (0, 0, {"connection refused": 6})


def test_few_channels_are_loaded_by_all_together(gateway: GatewayServer) -> None:
    steps: list[tuple[str, float, float]] = []
    report = run(plan(gateway.port, tokens=TOKENS), 2, lambda *step: steps.append(step))
    assert report.errors == {}
    assert report.connected == report.asked == 6
    assert report.messages > 4
    assert report.deliveries == pytest.approx(6 * report.messages, rel=0.3, abs=30)
    assert sum(report.latency.counts.values()) == pytest.approx(report.deliveries, rel=0.3, abs=30)
    assert {name: whole for name, _, whole in steps}["measuring"] == 0.3


@pytest.mark.parametrize("changes", [{"inflight": 4}, {"rate": 100.0}, {"publishers": "each"}])
def test_many_channels_are_dealt_out(gateway: GatewayServer, changes: dict[str, Any]) -> None:
    report = run(plan(gateway.port, tokens=TOKENS, channels=3, **changes), 2)
    assert report.errors == {}
    assert report.connected == 6
    assert report.messages > 4
    assert report.deliveries == pytest.approx(2 * report.messages, rel=0.3, abs=10)


def test_what_a_process_cannot_do_is_told() -> None:
    with pytest.raises(LoadError, match="no-such-host"):
        run(Plan(host="no-such-host.invalid"), 2)


def test_a_process_that_ends_is_noticed(gateway: GatewayServer) -> None:
    def end_one(what: str, _done: float, _whole: float) -> None:
        if what == "measuring":
            os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)

    with pytest.raises(LoadError, match="before its time"):
        run(plan(gateway.port, tokens=TOKENS, seconds=60.0), 2, end_one)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("stage", ["connecting", "measuring"])
def test_an_interrupt_brings_what_there_is(gateway: GatewayServer, count: int, stage: str) -> None:
    interrupts: list[str] = []

    def interrupt(what: str, _done: float, _whole: float) -> None:
        if what == stage and not interrupts:
            interrupts.append(what)
            raise KeyboardInterrupt

    report = run(plan(gateway.port, tokens=TOKENS, seconds=60.0, connections=300), count, interrupt)
    assert report.interrupted
    assert report.seconds < 30
    assert (report.seconds > 0) == (stage == "measuring")


def test_an_interrupt_before_anything_began(gateway: GatewayServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is heard while the processes are still starting."""
    waits = iter([KeyboardInterrupt])
    wait = multiprocessing.connection.wait

    def interrupted(connections: Any) -> Any:
        for error in waits:
            raise error
        return wait(connections)

    monkeypatch.setattr(processes, "wait", interrupted)
    report = run(plan(gateway.port, tokens=TOKENS), 2)
    assert report.interrupted
    assert report.connected == 0


def test_a_second_interrupt_ends_it_at_once(gateway: GatewayServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_connections: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(processes, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(plan(gateway.port, tokens=TOKENS), 2)


def test_a_process_that_does_not_end_is_killed(gateway: GatewayServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_END", 0.0)
    assert run(plan(gateway.port, tokens=TOKENS), 2).connected == 6


def test_connections_decide_how_many_processes_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (20_000, 20_000))
    room = limits.room()
    assert processes_for(Plan(connections=room)) == 1
    assert processes_for(Plan(connections=room + 1)) == 2
    assert processes_for(Plan(connections=room), 4) == 4
    assert processes_for(Plan(connections=3), 4) == 3


def test_lost_messages_are_forgotten_by_those_who_do_not_publish(
    gateway: GatewayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each later message would count as complete too late."""
    monkeypatch.setattr("gateway.bench.load.STALLED", 0.6)
    passed: list[tuple[int, int]] = []
    options = {"tokens": TOKENS, "publishers": "none", "seconds": 0.5}
    load = Load(plan(gateway.port, **options), passed=lambda *message: passed.append(message))
    try:
        load.connect()
        reader, members = load._reader, load._members[0]
        load.measure(0.1)
        for fd in members[1:]:
            reader.got[fd] += 1  # the first has missed something
        load.measure(1.0)
        assert [reader.got[fd] for fd in members] == [0] * len(members)
        load.passed(0)
        assert not [message for message in passed if message[1]]
    finally:
        load.close()


def test_reports_are_merged() -> None:
    one = Report(asked=3, connected=2, connect_seconds=1.0, seconds=2.0, deliveries=10, errors={"a": 1}, busy=0.5)
    two = Report(asked=3, connected=3, connect_seconds=2.5, seconds=2.2, deliveries=11, errors={"a": 1, "b": 9})
    two.latency.add(100)
    both = merge([one, two])
    assert (both.asked, both.connected, both.connect_seconds) == (6, 5, 2.5)
    assert both.deliveries_per_second == pytest.approx(10)
    assert both.errors == {"b": 9, "a": 2}
    assert both.busy == 0.5
    assert both.latency.maximum == 0.0001
    assert merge([]) == Report()
    assert (Report().connects_per_second, Report().messages_per_second) == (0, 0)
