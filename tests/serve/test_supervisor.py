"""Workers that die or hang are replaced, and those who wait for them are served."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.config.settings import HTTPAPISettings, Settings
from gateway.serve.listening import Listeners
from gateway.serve.process import Process
from gateway.serve.supervisor import Slot, Supervisor
from tests.serve.processes import Process as Server
from tests.serve.processes import make_app, make_settings
from tests.waiting import settle, until

REQUEST = b"GET / HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n"

Start = Callable[..., Server]


class Waiting:
    """Requests that have been sent, to either worker, and not been answered yet."""

    def __init__(self, port: int, count: int) -> None:
        self._sockets = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(count)]
        for sock in self._sockets:
            sock.sendall(REQUEST)

    def answers(self) -> list[bytes]:
        found = []
        for sock in self._sockets:
            with sock:
                found.append(sock.recv(15))
        return found


def test_who_waits_for_a_killed_worker_is_served(start: Start) -> None:
    process = start(workers=2).ready()
    victim = process.workers(2).pop()
    os.kill(victim, signal.SIGSTOP)  # so that it accepts nobody
    waiting = Waiting(process.port, 40)
    os.kill(victim, signal.SIGKILL)
    assert waiting.answers() == [b"HTTP/1.1 200 OK"] * 40
    process.logged(f"worker {victim} died (signal SIGKILL)")


def test_a_worker_that_hangs_is_replaced(start: Start) -> None:
    process = start(workers=2).ready()
    before = process.workers(2)
    with socket.create_connection(("127.0.0.1", process.port)) as sock:
        sock.sendall(REQUEST.replace(b"/", b"/block", 1))
        process.logged("died (signal SIGABRT)")
    waiting = Waiting(process.port, 40)
    after = process.workers(2)
    assert waiting.answers() == [b"HTTP/1.1 200 OK"] * 40
    (victim,) = before - after
    assert f"worker {victim} hangs, silent for 3 s" in process.log
    assert "time.sleep" in process.log or "in __call__" in process.log, "where it hung"


def test_a_worker_that_is_frozen_is_replaced(start: Start) -> None:
    process = start(workers=2).ready()
    victim = process.workers(2).pop()
    os.kill(victim, signal.SIGSTOP)
    waiting = Waiting(process.port, 40)
    process.logged(f"worker {victim} died (signal SIGKILL)")
    assert waiting.answers() == [b"HTTP/1.1 200 OK"] * 40
    assert victim not in process.workers(2)


# — who hangs —


@pytest.fixture
async def supervisor() -> Any:
    with Listeners(make_settings().http_server) as listeners:
        yield Supervisor(make_settings(), make_app, listeners)


class Child:
    """Stands for a process that answers when the test wants it to."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.signals: list[signal.Signals] = []
        self.orders: list[object] = []
        stub = SimpleNamespace(pid=1, silence=0, signal=self.signals.append, order=self.orders.append)
        self.process = cast(Any, stub)
        self.slot = Slot(make_settings(), trial=False)
        self.slot.process, self.slot.ready = self.process, True
        supervisor._slots.append(self.slot)


async def test_silence_is_counted_in_looks_and_ended_by_an_answer(supervisor: Supervisor) -> None:
    child = Child(supervisor)
    for _ in range(3):
        for _ in range(supervisor.patience - 1):
            supervisor._look()  # nobody looks while all stands still, however long
        child.process.silence = 0
    assert len(child.orders) == 3 * (supervisor.patience - 1), "each look asks"
    assert not child.signals
    for _ in range(supervisor.patience + 1):
        supervisor._look()
    assert child.signals == [signal.SIGABRT, signal.SIGKILL]


async def test_who_starts_or_drains_is_left_alone(supervisor: Supervisor) -> None:
    starting, draining, idle = Child(supervisor), Child(supervisor), Child(supervisor)
    starting.slot.ready = False
    draining.slot.leave()
    idle.slot.process = None
    for _ in range(2 * supervisor.patience):
        supervisor._look()
    assert not starting.signals + draining.signals + idle.signals


async def test_who_is_added_while_all_stop_starts_nothing(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a worker of a rolling restart, which goes on for a moment after SIGTERM."""
    started: list[object] = []
    monkeypatch.setattr(Process, "start", lambda *args: started.append(args))
    supervisor._stop()
    slot = supervisor._open(make_settings(), trial=True)
    await slot.keeper
    assert not await slot.came
    assert not started


# — settings that are handed on —


async def test_who_comes_up_meanwhile_gets_the_settings_too(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    came, ended, orders = asyncio.Event(), asyncio.Event(), list[object]()

    class Coming:
        pid, silence, forbidden = 1, 0, ""

        async def came_within(self, _: float) -> bool:
            return await came.wait()

        async def wait(self) -> int:
            await ended.wait()
            return 0

        def order(self, order: object) -> None:
            orders.append(order)

        def signal(self, _: signal.Signals) -> None:
            ended.set()

    async def start(*_: object) -> Coming:
        return Coming()

    monkeypatch.setattr(Process, "start", start)
    supervisor._slots = [slot := supervisor._open(make_settings())]
    await settle()
    settings = make_settings().model_copy(update={"http_api": HTTPAPISettings(key="new")})
    assert supervisor._hand_on(settings)
    assert not orders, "it could not take any yet"
    came.set()
    assert (await until(lambda: orders))[0] == supervisor._of_worker(settings)
    supervisor._stop()
    await slot.keeper


async def test_workers_know_which_of_them_share_a_port(supervisor: Supervisor) -> None:
    first, later = (supervisor._of_worker(make_settings(name)).node for name in ("one", "two"))
    other = Supervisor(make_settings(), make_app, supervisor._listeners)
    assert first.group == later.group != other._of_worker(make_settings()).node.group != ""
    named = Settings.model_validate({"node": {"group": "of the program's own"}})
    assert supervisor._of_worker(named).node.group == "of the program's own"


@pytest.mark.parametrize("name", ["", "other"])
async def test_what_workers_cannot_take_over_is_not_handed_on(supervisor: Supervisor, name: str) -> None:
    child = Child(supervisor)
    assert not supervisor._hand_on(make_settings(name))
    assert not child.orders
