"""Servers as processes of their own: one, and a supervisor with workers."""

import asyncio
import json
import logging
import os
import resource
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gateway import files
from gateway.config.settings import EngineSettings, HTTPServerSettings, Settings
from gateway.errors import SettingsError
from gateway.serve.listening import Listener, Listeners, ServeError, announce, bind, reachable
from gateway.serve.server import Server, sides_of
from gateway.serve.serving import file_warnings, raise_file_limit, serve
from gateway.serve.supervisor import Slot, Supervisor
from tests.serve.processes import BASE, Process, gone, make_app, make_settings
from tests.waiting import until, until_blocking

# — one process —


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_then_ends_without_error(start: Callable[..., Process], number: signal.Signals) -> None:
    process = start().ready()
    with connect(f"ws://127.0.0.1:{process.port}/connection/websocket?token=secret", proxy=None) as client:
        assert process.stop(number) == 0
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=5)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (3001, "shutdown")
    assert "lifespan ended" in process.log
    assert "secret" not in process.log


def test_a_second_signal_ends_at_once(start: Callable[..., Process]) -> None:
    process = start("stuck").ready()
    process.popen.terminate()
    process.logged("drain is stuck")
    assert process.stop() == 0
    assert "Traceback" not in process.log


@pytest.mark.parametrize("workers", [1, 2])
def test_who_is_told_to_stop_serves_on_for_a_while_and_is_not_ready(
    start: Callable[..., Process], tmp_path: Path, workers: int
) -> None:
    process = start(workers=workers, file=with_grace(tmp_path, workers)).ready()
    process.popen.terminate()
    process.logged("not ready any more", times=workers)
    response = httpx.get(f"http://127.0.0.1:{process.port}/kept")
    assert response.status_code == 503
    assert response.headers["connection"] == "close", "its next request is for another node"
    with connect(f"ws://127.0.0.1:{process.port}/connection/websocket", proxy=None):
        assert process.stop() == 0, "a second signal ends that"
    assert "Traceback" not in process.log


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_waits_for_no_balancer(start: Callable[..., Process], tmp_path: Path, workers: int) -> None:
    process = start(workers=workers, file=with_grace(tmp_path, workers)).ready()
    with connect(f"ws://127.0.0.1:{process.port}/connection/websocket", proxy=None) as client:
        assert process.stop(signal.SIGINT) == 0
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=5)
    assert "not ready any more" not in process.log


def with_grace(directory: Path, workers: int) -> Path:
    """A settings file with more of it than any test has time."""
    file = directory / "gateway.json"
    server = {"port": 0, "workers": workers}
    file.write_text(json.dumps({**BASE, "http_server": server, "shutdown": {"grace": 600, "drain_time": 0}}))
    return file


def test_a_drain_that_fails_does_not_stop_the_stopping(start: Callable[..., Process]) -> None:
    process = start("bad drain").ready()
    assert process.stop() == 0
    assert "the drain failed" in process.log
    assert "lifespan ended" in process.log


@pytest.mark.parametrize(
    ("name", "text"), [("broken", "error: the application did not start"), ("bad settings", "error: node.name is bad")]
)
def test_an_application_that_does_not_start_is_an_error(start: Callable[..., Process], name: str, text: str) -> None:
    process = start(name)
    assert process.popen.wait(20) == 1
    assert text in process.log


def test_the_start_tells_addresses_and_dangers(start: Callable[..., Process]) -> None:
    process = start().ready()
    assert f"ws://127.0.0.1:{process.port}/connection/websocket" in process.log
    assert "INSECURE" in process.log


# — workers —


def test_every_worker_serves_and_a_signal_ends_all(start: Callable[..., Process]) -> None:
    process = start(workers=2).ready()
    pids = process.workers(2)
    with connect(f"ws://127.0.0.1:{process.port}/connection/websocket", proxy=None) as client:
        assert process.stop() == 0
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=5)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 3001
    assert all(gone(pid) for pid in pids)
    assert process.log.count("ready on") == 1
    assert process.log.count("lifespan ended") == 2


def test_a_killed_worker_is_replaced(start: Callable[..., Process]) -> None:
    process = start(workers=2).ready()
    before = process.workers(2)
    victim = before.pop()
    os.kill(victim, signal.SIGKILL)
    process.logged(f"worker {victim} died (signal SIGKILL)")
    after = process.workers(2)
    assert victim not in after
    assert before < after
    assert process.stop(signal.SIGINT) == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [("broken", "did not start"), ("crash", "(exit code 7)")],
)
def test_workers_that_never_come_up_end_the_supervisor(start: Callable[..., Process], name: str, text: str) -> None:
    process = start(name, workers=2)
    assert process.popen.wait(60) == 1
    assert text in process.log
    assert "error: workers do not come up" in process.log


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("name", ["bad settings", "bad address"])
def test_settings_that_forbid_the_start_are_told_once(start: Callable[..., Process], name: str, workers: int) -> None:
    process = start(name, workers=workers)
    assert process.popen.wait(60) == 1
    lines = [line for line in process.log.splitlines() if "INSECURE" not in line and "INFO" not in line]
    assert lines == [f"error: node.name is {name}"], "no traceback, no word of workers that do not come up"


def test_a_worker_that_does_not_stop_is_killed(start: Callable[..., Process]) -> None:
    process = start("stuck", workers=2).ready()
    pids = process.workers(2)
    assert process.stop() == 0
    assert process.log.count("does not stop and is killed") == 2
    assert all(gone(pid) for pid in pids)


def test_workers_do_not_outlive_a_killed_supervisor(start: Callable[..., Process]) -> None:
    process = start(workers=2).ready()
    pids = process.workers(2)
    process.stop(signal.SIGKILL)
    until_blocking(lambda: all(gone(pid) for pid in pids), deadline=20)


# — the parts —


def test_workers_need_a_shared_engine() -> None:
    settings = make_settings(workers=2).model_copy(update={"engine": EngineSettings()})
    with pytest.raises(SettingsError, match=r'workers = 2 .* engine\.type = "redis"'):
        serve(settings, make_app)


@contextmanager
def listening(*, shared: bool) -> Iterator[int]:
    with bind("127.0.0.1", 0, shared=shared) as sock:
        sock.listen()
        yield sock.getsockname()[1]


@pytest.mark.parametrize("theirs", [True, False])
@pytest.mark.parametrize("ours", [True, False])
def test_a_port_in_use_is_told(theirs: bool, ours: bool) -> None:
    with listening(shared=theirs) as port, pytest.raises(ServeError, match=rf"127\.0\.0\.1:{port}: Address already"):
        bind("127.0.0.1", port, shared=ours)


def test_an_address_that_does_not_exist_is_told() -> None:
    with pytest.raises(ServeError, match="cannot listen on no such host:8000"):
        bind("no such host", 8000)


def test_an_address_may_stand_in_brackets_as_in_a_url() -> None:
    with bind("[::1]", 0) as sock:
        assert sock.getsockname()[0] == "::1"


def test_accepted_connections_give_up_dead_peers() -> None:
    with bind("127.0.0.1", 0) as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000


@pytest.mark.parametrize(
    ("address", "place"),
    [("127.0.0.1", "127.0.0.1:80"), ("0.0.0.0", "127.0.0.1:80"), ("", "127.0.0.1:80"), ("::", "[::1]:80")],
)
def test_the_place_told_can_be_reached(address: str, place: str) -> None:
    assert reachable(address, 80) == place


def test_the_announcement_has_the_prefix(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with bind("127.0.0.1", 0) as sock:
        announce(Settings(http_server=HTTPServerSettings(root_path="/rt")), [Listener(sock)])
    assert "/rt and ws://" in caplog.text
    assert "/rt/connection/websocket" in caplog.text


def test_the_file_limit_is_raised() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
        raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("limit", "asked", "warns"),
    [
        (1024, 0, "enough for 896 connections of a process (10,000 are usual)"),
        (1024, 897, "enough for 896 connections of a process (client.connection_limit = 897)"),
        (1024, 896, ""),
        (10_127, 0, "Allow 10128: LimitNOFILE="),
        (10_128, 0, ""),
        (10, 0, "enough for 0 connections"),
        (0, 50_000, ""),
    ],
)
def test_too_few_files_are_told_at_the_start(
    monkeypatch: pytest.MonkeyPatch, limit: int, asked: int, warns: str
) -> None:
    monkeypatch.setattr(files, "limit", lambda: limit)
    warnings = list(file_warnings(Settings.model_validate({"client": {"connection_limit": asked}})))
    assert [warns in warning for warning in warnings] == ([True] if warns else [])


async def test_a_signal_while_starting_announces_nothing() -> None:
    ready: list[bool] = []
    settings = make_settings()
    with Listeners(settings.http_server) as listeners:
        sides = sides_of(settings, make_app(settings), listeners.all)
        server = Server(sides, listeners.all, None, lambda: ready.append(True))
        server.handle_exit(signal.SIGTERM, None)
        await server.serve()
    assert not ready


class Last:
    """A server in this event loop that is about to listen no more."""

    def __init__(self, listener: socket.socket) -> None:
        settings = make_settings()
        app = make_app(settings)
        self.started = asyncio.Event()
        self.listener = listener
        listeners = [Listener(listener)]
        self.server = Server(sides_of(settings, app, listeners), listeners, None, self.started.set)
        self.task = asyncio.create_task(self.server.serve())


@pytest.fixture
async def last() -> AsyncIterator[Last]:
    with bind("127.0.0.1", 0) as sock:
        last = Last(sock)
        await last.started.wait()
        yield last
        last.server.should_exit = True
        await last.task


async def test_who_has_connected_before_the_end_is_answered(last: Last, monkeypatch: pytest.MonkeyPatch) -> None:
    address = last.listener.getsockname()
    with socket.create_connection(address) as asks, socket.create_connection(address) as silent:
        monkeypatch.setattr("gateway.serve.server.FIRST_HEAD", 600)
        ending = asyncio.create_task(last.server._end_listening(last.server._listeners))
        await until(lambda: len(last.server.server_state.connections) == 2)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        assert not ending.done()
        asks.sendall(b"GET / HTTP/1.1\r\n\r\n")
        silent.close()
        await ending
        assert (await asyncio.get_running_loop().sock_recv(asks, 12)) == b"HTTP/1.1 200"


@pytest.mark.parametrize(("patience", "hurry"), [(0.05, False), (600, True)])
async def test_who_has_connected_and_says_nothing_is_not_waited_for(
    last: Last, monkeypatch: pytest.MonkeyPatch, patience: float, hurry: bool
) -> None:
    monkeypatch.setattr("gateway.serve.server.FIRST_HEAD", patience)
    with socket.create_connection(last.listener.getsockname()):
        last.server.force_exit = hurry
        await last.server._end_listening(last.server._listeners)
        assert len(last.server.server_state.connections) == 1


async def test_a_second_death_in_a_row_waits_longer() -> None:
    with Listeners(make_settings().http_server) as listeners:
        supervisor = Supervisor(make_settings(), make_app, listeners)
        supervisor.backoff = 0.1
        slot = Slot(make_settings(), trial=False)
        began = time.monotonic()
        await supervisor._pause(slot, 1, "exit code 0", 2)
        assert time.monotonic() - began >= 0.1
        pause = asyncio.create_task(supervisor._pause(slot, 1, "exit code 0", 30))
        await until(lambda: not pause.done())
        slot.stop()
        await pause


@pytest.mark.parametrize("address", ["a..b", "x" * 300, "\udcff"])
def test_an_address_that_cannot_be_one_is_told(address: str) -> None:
    with pytest.raises(ServeError, match="cannot listen"):
        bind(address, 0)
