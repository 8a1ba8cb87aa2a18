"""Deliveries per second of the gateway beside those of the tutorial's ConnectionManager, in the same run.

One channel, many subscribers, a fixed number of messages in flight: the next is published when the oldest has
reached everybody. Server and load generator each have a core; systems take turns, and medians are compared::

    python bench/fanout.py --subscribers 1000 --inflight 2 --seconds 5 --rounds 3
"""

import argparse
import asyncio
import base64
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import uvloop

HERE = Path(__file__).parent
MARK = b'"seq":'
TEXT = "x" * 80


class Client(asyncio.Protocol):
    """A WebSocket client that counts messages by a mark in them, and looks at nothing else."""

    def __init__(self, path: str, hello: bytes, ready: bytes, counted: Callable[[int], None]) -> None:
        self._path, self._hello, self._ready = path, hello, ready
        self._counted = counted
        self._tail = b""
        self.open = asyncio.get_running_loop().create_future()
        self._upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        key = base64.b64encode(os.urandom(16)).decode()
        self.transport.write(
            f"GET {self._path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        if self.open.done():
            data = self._tail + data
            count = data.count(MARK)
            self._tail = data[-(len(MARK) - 1) :]
            if count:
                self._counted(count)
            return
        self._tail += data
        if not self._upgraded and b"\r\n\r\n" in self._tail:
            self._upgraded = True
            self._tail = self._tail.split(b"\r\n\r\n", 1)[1]
            if self._hello:
                self.send(self._hello)
        if self._upgraded and self._ready in self._tail:
            self._tail = b""
            self.open.set_result(None)

    def send(self, payload: bytes) -> None:
        """One text frame, masked with zeros."""
        size = len(payload)
        head = bytes((0x81, 0x80 | size)) if size < 126 else bytes((0x81, 0xFE)) + size.to_bytes(2, "big")
        self.transport.write(head + bytes(4) + payload)


class System:
    """A server to measure: how to start it and how to speak to it."""

    def __init__(self, name: str, command: list[str], path: str, hello: bytes, ready: bytes, publish: str) -> None:
        self.name, self.command, self.path = name, command, path
        self.hello, self.ready, self.publish = hello, ready, publish


def systems(port: int) -> list[System]:
    python = sys.executable
    data = '{"seq":%d,"text":"' + TEXT + '"}'
    return [
        System(
            "tutorial",
            [python, "-m", "uvicorn", "--app-dir", str(HERE), "tutorial:app", "--port", str(port), "--log-level=error"],
            "/ws",
            b"",
            b"",
            data,
        ),
        System(
            "gateway",
            [python, "-m", "gateway", "serve", "--config", str(HERE / "gateway.toml"), "--port", str(port)],
            "/connection/websocket",
            b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"bench"}}',
            b'"id":2,"subscribe"',
            '{"id":3,"publish":{"channel":"bench","data":' + data + "}}",
        ),
    ]


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used: steadier than the clock on a busy machine."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(
    system: System, port: int, pid: int, subscribers: int, inflight: int, seconds: float
) -> tuple[float, float]:
    """Deliveries per second, and per second of the server's processor, after a warm-up of a tenth of the time."""
    loop = asyncio.get_running_loop()
    total = published = 0
    clients: list[Client] = []

    def publish() -> None:
        nonlocal published
        published += 1
        clients[0].send((system.publish % published).encode())

    def counted(count: int) -> None:
        nonlocal total
        total += count
        while total >= (published - inflight + 1) * subscribers:
            publish()

    def make() -> Client:
        return Client(system.path, system.hello, system.ready, counted)

    for _ in range(subscribers):
        _, client = await loop.create_connection(make, "127.0.0.1", port)
        await asyncio.wait_for(client.open, 10)
        clients.append(client)
    for _ in range(inflight):
        publish()
    await asyncio.sleep(seconds / 10)
    before, started, used = total, time.perf_counter(), cpu_seconds(pid)
    await asyncio.sleep(seconds)
    done = total - before
    if not done:
        raise SystemExit(f"{system.name} delivers nothing")
    rate = done / (time.perf_counter() - started), done / (cpu_seconds(pid) - used)
    for client in clients:
        client.transport.abort()
    return rate


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run(make: Callable[[int], System], options: argparse.Namespace) -> tuple[float, float]:
    port = free_port()
    system = make(port)
    with tempfile.TemporaryFile() as output:
        server = subprocess.Popen(["taskset", "-c", "0", *system.command], stdout=output, stderr=output)
        try:
            until = time.monotonic() + 20
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    if time.monotonic() > until or server.poll() is not None:
                        output.seek(0)
                        raise SystemExit(f"{system.name} did not start:\n{output.read().decode()}") from None
                    time.sleep(0.1)
            return uvloop.run(measure(system, port, server.pid, options.subscribers, options.inflight, options.seconds))
        finally:
            server.kill()
            server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--inflight", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    names = [system.name for system in systems(0)]
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for index, name in enumerate(names):
            rates[name].append(run(lambda port, index=index: systems(port)[index], options))  # type: ignore[misc]
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in rates.items()}
    base = medians["tutorial"]
    print("| system | deliveries/s | x tutorial | deliveries per CPU second | x tutorial | rounds |")
    print("|---|---|---|---|---|---|")
    for name, (wall, cpu) in medians.items():
        rounds = ", ".join(f"{rate:,.0f}" for rate, _ in rates[name])
        print(f"| {name} | {wall:,.0f} | {wall / base[0]:.2f} | {cpu:,.0f} | {cpu / base[1]:.2f} | {rounds} |")


if __name__ == "__main__":
    main()
