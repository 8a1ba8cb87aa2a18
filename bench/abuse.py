"""One address that asks for all it can beside honest clients, with limits and without: ``bench/abuse`` writes a table.

The honest ones have an address each, publish now and then to rooms of ten, and hear what the others of their room say.
The abuser is a process of its own at the lowest priority, on the core of the load, so that what it takes from the
honest it takes from their server.
"""

import argparse
import asyncio
import json
import os
import random
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from bench.__main__ import say
from bench.environment import machine
from bench.report import grid, number
from bench.servers import Failed, Server, cores, free_port

HONEST, ROOM = 300, 10
PAUSE = 3.0
"""Seconds between two publications of an honest client, on average."""
LATE = 2.0
"""Seconds for what is still on its way."""

ABUSER = "127.9.9.9"
PARALLEL = 64
"""Connections that the abuser has, or makes, at a time."""
BATCH = 100
"""Commands in one of its frames."""
BUFFER = 65536
"""Bytes that the kernel may keep of it: what counts is what the server takes."""
FAREWELL = b"too many errors"

LIMITS: dict[str, dict[str, Any]] = {
    "none": {name: {"enabled": False} for name in ("client_command", "address_command", "client_error")},
    "default": {name: {"enabled": True} for name in ("client_command", "address_command", "client_error")},
    "strict": {
        "client_command": {"enabled": True, "total": "50/second 600/minute"},
        "address_command": {"enabled": True, "total": "500/second", "connect": "50/second 300/minute"},
        "client_error": {"enabled": True, "total": "50/10s"},
    },
}
"""The default rates hold for addresses of the Internet; here for all, since there is none on this machine."""

KINDS = ("nothing", "connects", "commands")


class Honest:
    """The honest clients, what they have published and what they have heard."""

    def __init__(self, url: str, count: int) -> None:
        self._url = url
        self._count = count
        self.published = Counter[str]()
        self.heard: list[float] = []
        """Seconds from publish to arrival."""
        self.refused = 0
        self.dropped = 0

    async def run(self, seconds: float, begin: asyncio.Event) -> None:
        async with AsyncExitStack() as stack:
            clients = [await self._open(stack, number) for number in range(self._count)]
            reading = [asyncio.create_task(self._read(client)) for client, _ in clients]
            begin.set()
            end = time.monotonic() + seconds
            await asyncio.gather(*(self._talk(client, room, end) for client, room in clients))
            await asyncio.sleep(LATE)
            for task in reading:
                task.cancel()

    async def _open(self, stack: AsyncExitStack, number: int) -> tuple[ClientConnection, str]:
        address = f"127.0.{1 + number // 250}.{1 + number % 250}"
        opening = connect(self._url, compression=None, ping_interval=None, local_addr=(address, 0), proxy=None)
        client = await stack.enter_async_context(opening)
        room = f"room{number // ROOM}"
        await client.send('{"id":1,"connect":{}}')
        await client.recv()
        await client.send(json.dumps({"id": 2, "subscribe": {"channel": room}}))
        await client.recv()
        return client, room

    async def _talk(self, client: ClientConnection, room: str, end: float) -> None:
        await asyncio.sleep(random.uniform(0, PAUSE))
        command = 3
        while time.monotonic() < end:
            data = {"id": command, "publish": {"channel": room, "data": time.monotonic()}}
            try:
                await client.send(json.dumps(data))
            except ConnectionClosed:
                return
            self.published[room] += 1
            command += 1
            await asyncio.sleep(random.uniform(0.5, 1.5) * PAUSE)

    async def _read(self, client: ClientConnection) -> None:
        try:
            async for frame in client:
                arrived = time.monotonic()
                for line in str(frame).split("\n"):
                    message = json.loads(line)
                    if "push" in message:
                        self.heard.append(arrived - message["push"]["pub"]["data"])
                    elif "error" in message:
                        self.refused += 1
                    elif not message:
                        await client.send("{}")
        except ConnectionClosed:
            self.dropped += 1

    def figures(self) -> dict[str, float]:
        due, heard = self.published.total() * ROOM, sorted(self.heard)
        return {
            "p50 (ms)": 1000 * heard[len(heard) // 2],
            "p99 (ms)": 1000 * heard[len(heard) * 99 // 100],
            "max (ms)": 1000 * heard[-1],
            "lost": due - len(heard),
            "of": due,
            "refused": self.refused,
            "cut": self.dropped,
        }


# — the abuser —


class Abuser:
    """All that one address can ask for."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.counts: Counter[str] = Counter()

    async def run(self, kind: str, seconds: float) -> None:
        end = time.monotonic() + seconds
        work = self._connect_again if kind == "connects" else self._command_again
        await asyncio.gather(*(self._until(end, work) for _ in range(PARALLEL)))

    async def _until(self, end: float, work: Any) -> None:
        while (left := end - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(left):
                    await work()
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                self.counts["failed"] += 1

    async def _handshake(self) -> tuple[bool, asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(ABUSER, 0))
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # no port is to wait
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        writer.write(
            b"GET /connection/websocket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except BaseException:
            writer.transport.abort()
            raise
        accepted = b" 101 " in head[:20]
        self.counts["accepted" if accepted else "refused"] += 1
        return accepted, reader, writer

    async def _connect_again(self) -> None:
        _, _, writer = await self._handshake()
        writer.transport.abort()

    async def _command_again(self) -> None:
        accepted, reader, writer = await self._handshake()
        try:
            if accepted:
                writer.write(_frame(b'{"id":1,"connect":{}}'))
                await asyncio.gather(self._flood(writer), self._swallow(reader))
        finally:
            writer.transport.abort()

    async def _flood(self, writer: asyncio.StreamWriter) -> None:
        lines = b"\n".join(
            b'{"id":%d,"publish":{"channel":"void","data":1}}' % number for number in range(2, BATCH + 2)
        )
        frame = _frame(lines)
        while True:
            writer.write(frame)
            await writer.drain()
            await asyncio.sleep(0)

    async def _swallow(self, reader: asyncio.StreamReader) -> None:
        while FAREWELL not in (data := await reader.read(1 << 18)) and data:
            pass
        raise ConnectionResetError  # and at once again


def _frame(payload: bytes) -> bytes:
    """A text frame of a client, masked with nothing (RFC 6455, section 5.3)."""
    size = len(payload)
    head = struct.pack("!BB", 0x81, 0x80 | size) if size < 126 else struct.pack("!BBH", 0x81, 0x80 | 126, size)
    return head + bytes(4) + payload


# — measuring —


def measure(limits: str, kind: str, count: int, seconds: float) -> dict[str, float]:
    server_core, _ = cores()
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "gateway.json"
        client = {"insecure": True, "rate_limit": LIMITS[limits]}
        settings = {"client": client, "http_server": {"port": port}, "shutdown": {"grace": 0}}
        file.write_text(json.dumps(settings))
        command = [sys.executable, "-m", "gateway", "serve", "--config", str(file)]
        with Server("gateway", command, server_core, port, "ready on") as server:
            return asyncio.run(_measure(server, kind, count, seconds))


async def _measure(server: Server, kind: str, count: int, seconds: float) -> dict[str, float]:
    honest, begin = Honest(f"ws://127.0.0.1:{server.port}/connection/websocket", count), asyncio.Event()
    talking = asyncio.create_task(honest.run(seconds, begin))
    waiting = asyncio.create_task(begin.wait())
    await asyncio.wait([talking, waiting], return_when=asyncio.FIRST_COMPLETED)
    abuser: asyncio.subprocess.Process | None = None
    if kind != "nothing" and not talking.done():
        words = ("-m", "bench.abuse", "--abuser", kind, "--port", str(server.port), "--seconds", str(seconds))
        abuser = await asyncio.create_subprocess_exec(
            "nice", "-n", "19", sys.executable, *words, stdout=subprocess.PIPE
        )
    busy, began = server.cpu(), time.monotonic()
    await talking
    used = (server.cpu() - busy) / (time.monotonic() - began)
    done: Counter[str] = Counter()
    if abuser is not None:
        output, _ = await abuser.communicate()
        done.update(json.loads(output))
    server.check()
    counts = await asyncio.to_thread(_counted, server)
    published = counts['gateway_commands_total{command="PublishRequest"}'] - honest.published.total()
    told = {
        "abuser: connects/s": (done["accepted"] + done["refused"]) / seconds,
        "let in/s": done["accepted"] / seconds,
        "commands/s": (published + counts['gateway_errors_total{code="111"}']) / seconds,
        "carried out/s": published / seconds,
        "server busy, %": 100 * used,
    }
    return honest.figures() | told


def _counted(server: Server) -> Counter[str]:
    """The server's counters by name and labels."""
    with urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
        lines = [line.rpartition(" ") for line in answer.read().decode().splitlines() if not line.startswith("#")]
    return Counter({re.sub(r'node="\w*",?|,node="\w*"', "", name): int(float(value)) for name, _, value in lines})


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench/abuse", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of one measurement")
    parser.add_argument("--honest", type=int, default=HONEST, help=f"default: {HONEST}; in rooms of {ROOM}")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the table goes; default: standard output")
    parser.add_argument("--abuser", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.abuser:
        abuser = Abuser(given.port)
        asyncio.run(abuser.run(given.abuser, given.seconds))
        print(json.dumps(abuser.counts))
        return 0
    os.sched_setaffinity(0, {cores()[1]})
    rows: list[list[str]] = []
    head: list[str] = []
    for kind in KINDS:
        for limits in LIMITS:
            try:
                figures = measure(limits, kind, given.honest, given.seconds)
            except Failed as failure:
                say(f"{kind}, limits {limits}: {failure}")
                return 1
            head = ["abuse", "limits", *figures]
            rows.append([kind, limits, *map(number, figures.values())])
            say(", ".join(f"{name} {value}" for name, value in zip(head, rows[-1], strict=True)))
    text = f"Measured by `bench/abuse`: {machine()}.\n\n{grid(head, rows, left=2)}\n"
    if given.output is None:
        print(text, end="")
    else:
        given.output.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
