"""Rolling restarts: SIGHUP, workers that die or hang, and nobody who connects meanwhile is turned away."""

import asyncio
import errno
import os
import signal
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from gateway.serve.systemd import VARIABLE, notify
from tests.serve.processes import BASE, Process, gone
from tests.waiting import until

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)

Start = Callable[..., Process]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "gateway.yaml", name="old")


def write(file: Path, *, name: str, workers: int = 2, **http_server: Any) -> Path:
    server = {"port": 0, "workers": workers, **http_server}
    file.write_text(yaml.safe_dump({**BASE, "node": {"name": name}, "http_server": server}))
    return file


class Load:
    """Clients that open one handshake after the other, as fast as they can, and some that stay."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.results: Counter[str] = Counter()
        """How handshakes ended: the status line, or the failure."""
        self.asked: Counter[int] = Counter()
        """Close codes by which those that stay were asked to leave."""
        self.at: dict[int, int] = {}
        """Of each that stays, the process id of its worker."""
        self._running = True
        self._tasks = [asyncio.create_task(self._knock()) for _ in range(4)]
        self._tasks += [asyncio.create_task(self._stay(number)) for number in range(20)]

    async def stop(self) -> None:
        self._running = False
        for task in self._tasks[4:]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _knock(self) -> None:
        while self._running:
            self.results[await self._handshake()] += 1

    async def _handshake(self) -> str:
        try:
            async with asyncio.timeout(20):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(UPGRADE)
                head = await reader.readuntil(b"\r\n\r\n")
        except (OSError, EOFError, TimeoutError) as error:
            return repr(error)
        # Reset, so that the port is free again at once.
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.close()
        return head.split(b"\r\n")[0].decode()

    async def _stay(self, number: int) -> None:
        while True:
            try:
                client = await connect(f"ws://127.0.0.1:{self.port}/", proxy=None)
            except (OSError, WebSocketException) as error:
                self.results[repr(error)] += 1
                continue
            self.at[number] = pid_of(client)
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            self.asked[closed.value.rcvd.code] += 1
            del self.at[number]


def pid_of(client: ClientConnection) -> int:
    assert client.response is not None
    return int(client.response.headers["x-pid"])


async def test_a_rolling_restart_refuses_nobody(start: Start, file: Path) -> None:
    process = start(file=file).ready()
    old = process.workers(2)
    load = Load(process.port)
    await until(lambda: len(load.at) == 20 and load.results)
    write(file, name="new")
    process.hang_up()
    await until(lambda: "the rolling restart is done" in process.log, deadline=60)
    await until(lambda: len(load.at) == 20)
    new = set(load.at.values())
    await load.stop()
    assert set(load.results) == {"HTTP/1.1 101 Switching Protocols"}, load.results
    assert load.asked == {3001: 20}
    assert len(new) == 2
    assert all(gone(pid) for pid in old)
    async with connect(f"ws://127.0.0.1:{process.port}/", proxy=None) as client:
        assert client.response is not None
        assert client.response.headers["x-name"] == "new"
    assert process.stop() == 0
    assert "died" not in process.log


async def test_a_handshake_that_has_begun_is_finished(start: Start, file: Path) -> None:
    process = start(file=file).ready()
    old = process.workers(2)
    begun = [await asyncio.open_connection("127.0.0.1", process.port) for _ in range(20)]
    for _, writer in begun:
        writer.write(UPGRADE[:20])
    process.hang_up()
    await until(lambda: "old ones drain" in process.log, deadline=60)
    for reader, writer in begun:
        writer.write(UPGRADE[20:])
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101")
        assert int(head.split(b"x-pid: ")[1].split()[0]) in old
    for reader, writer in begun:
        assert (await reader.readexactly(4))[2:] == (3001).to_bytes(2), "a close frame"
        writer.close()
    await until(lambda: "the rolling restart is done" in process.log, deadline=60)


def test_wrong_settings_are_told_and_change_nothing(start: Start, file: Path) -> None:
    process = start(file=file).ready()
    pids = process.workers(2)
    write(file, name="new", forwarded_allow_ip="10.0.0.1")
    process.hang_up()
    process.logged("those of before hold on")
    assert 'http_server.forwarded_allow_ip = "10.0.0.1"' in process.log
    assert 'forwarded_allow_ips: "127.0.0.1"' in process.log
    write(file, name="new", address="127.0.0.2", port=1)
    process.hang_up()
    process.logged("the rolling restart is done")
    assert "http_server.address stays 127.0.0.1 until" in process.log
    assert "http_server.port stays 0 until" in process.log
    assert not pids & process.workers(2)


@pytest.mark.parametrize("name", ["broken", "slow to start"])
def test_a_new_worker_that_does_not_come_up_changes_nothing(start: Start, file: Path, name: str) -> None:
    process = start(name, file=file).ready()
    pids = process.workers(2)
    write(file, name=name)
    process.hang_up()
    process.logged("the rolling restart is given up")
    assert process.workers(2) == pids
    write(file, name="new")
    process.hang_up()
    process.logged("the rolling restart is done")
    assert not pids & process.workers(2)


def test_a_signal_during_a_restart_counts_once_more(start: Start, file: Path) -> None:
    process = start(file=file).ready()
    process.hang_up()
    process.logged("rolling restart: 2 workers start")
    write(file, name="new", workers=3)
    process.hang_up()
    process.hang_up()
    process.logged("the rolling restart is done", times=2)
    assert "rolling restart: 3 workers start" in process.log
    assert process.stop() == 0
    assert process.log.count("rolling restart:") == 2


@pytest.mark.parametrize("moment", ["rolling restart: 2 workers start", "drain is stuck"])
def test_a_stop_during_a_restart_stops_all(start: Start, file: Path, moment: str) -> None:
    write(file, name="stuck")
    process = start(file=file).ready()
    pids = process.workers(2)
    write(file, name="new")
    process.hang_up()
    process.logged(moment)
    assert process.stop() == 0
    assert all(gone(pid) for pid in pids)
    assert process.log.count("does not stop and is killed") == 2
    assert process.log.count("lifespan ended") == process.log.count(" stopped\n") - 1, "of the new, and the supervisor"


async def test_the_number_of_workers_changes(start: Start, file: Path) -> None:
    process = start(file=file).ready()
    client = await connect(f"ws://127.0.0.1:{process.port}/", proxy=None)
    write(file, name="three", workers=3)
    process.hang_up()
    process.logged("the rolling restart is done")
    with pytest.raises(ConnectionClosed) as closed:
        await client.recv()
    assert closed.value.rcvd is not None, "killed, for it could not obey"
    assert closed.value.rcvd.code == 3001
    pids = process.workers(3)
    write(file, name="one", workers=1)
    process.hang_up()
    process.logged("the rolling restart is done", times=2)
    assert all(gone(pid) for pid in pids)
    clients = [await connect(f"ws://127.0.0.1:{process.port}/", proxy=None) for _ in range(30)]
    assert len({pid_of(client) for client in clients}) == 1, "it accepts on all three sockets"
    for client in clients:
        await client.close()


# — who asks —


def test_one_process_reads_its_settings_and_goes_on(start: Start, file: Path) -> None:
    write(file, name="old", workers=1)
    process = start(file=file).ready()
    pid = process.pid()
    process.hang_up()
    process.logged("channel_limit is 128")
    assert process.pid() == pid


@pytest.mark.parametrize("workers", [1, 2])
def test_who_closes_the_terminal_ends_the_server(start: Start, workers: int) -> None:
    ours, theirs = os.openpty()
    process = start(workers=workers, terminal=theirs).ready()
    os.close(theirs)
    process.hang_up()  # from elsewhere
    process.logged("SIGHUP changes nothing here" if workers == 1 else "the rolling restart is done")
    os.close(ours)
    assert process.stop(signal.SIGHUP) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_systemd_is_told(start: Start, tmp_path: Path, workers: int) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        process = start(workers=workers, NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert systemd.recv(100) == b"READY=1"
        if workers > 1:
            process.hang_up()
            assert systemd.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert systemd.recv(100) == b"READY=1"
        assert process.stop() == 0
        assert systemd.recv(100) == b"STOPPING=1"
        systemd.setblocking(False)
        with pytest.raises(BlockingIOError):
            systemd.recv(100)


def test_without_systemd_nobody_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("", "@no such abstract address", str(tmp_path / "nobody")):
        monkeypatch.setenv(VARIABLE, name)
        notify("READY=1")


def test_without_a_socket_to_spare_systemd_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setenv(VARIABLE, "/run/notify")
    monkeypatch.setattr(socket, "socket", none_left)
    notify("READY=1")
