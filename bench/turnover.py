"""Connections that come and go: ``bench/turnover`` says what a node keeps of those that have gone.

The collector is told to look seldom, so that whatever a closed connection leaves in cycles stays for long. Half of the
connections end with a close frame, half are reset.
"""

import argparse
import asyncio
import base64
import json
import os
import signal
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from os import sched_setaffinity
from pathlib import Path
from typing import cast
from urllib.request import urlopen

import uvloop
from msgspec import Struct

from bench.__main__ import say
from bench.environment import Missing, machine
from bench.report import grid
from bench.servers import Failed, Server, cores, free_port

ALIVE, TURNOVERS = 3_000, 150_000
AT_ONCE = 32
"""Connections that are being replaced at a time."""
CHANNELS = 300
LOOKS = 10
"""Rows of the table, after the first."""
GROWTH = 0.03
"""Part by which memory may have grown at the end."""
MASK = b"\1\2\3\4"


class Look(Struct):
    """The server, after so many turnovers."""

    turnovers: int
    memory: int
    """Resident bytes."""
    sessions: int
    open: int

    @property
    def dead(self) -> int:
        return self.sessions - self.open


class Connection(asyncio.Protocol):
    """One subscriber, from its handshake to its end."""

    def __init__(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        self.subscribed: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self._number = number
        self._heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._transport.write(
            b"GET /connection/websocket HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n" % base64.b64encode(os.urandom(16))
        )
        subscribe = {"id": 2, "subscribe": {"channel": f"room{self._number % CHANNELS}"}}
        for command in ({"id": 1, "connect": {}}, subscribe):
            self._transport.write(_frame(0x81, json.dumps(command).encode()))

    def data_received(self, data: bytes) -> None:
        if not self.subscribed.done():
            self._heard += data
            if b'"id":2' in self._heard:
                self._heard = b""
                self.subscribed.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(None)
        if not self.subscribed.done():
            self.subscribed.set_exception(Failed(f"a connection was not taken: {self._heard!r}"))

    async def end(self) -> None:
        """By turns with a close frame, and by a reset."""
        if self._number % 2:
            self._transport.write(_frame(0x88, struct.pack("!H", 1000)))
        else:
            sock: socket.socket = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        await self.ended


class Turnover:
    """The connections that are alive, the oldest first, and those that follow."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._alive: deque[Connection] = deque()
        self._count = 0

    async def open(self, count: int) -> None:
        await self._each(count, self._open)

    async def turn_over(self, count: int) -> None:
        await self._each(count, self._replace)

    async def look(self, turnovers: int) -> Look:
        """What is there, once the server knows of every end."""
        while (found := await asyncio.to_thread(self._objects))["open"] != len(self._alive):
            self._server.check()
            await asyncio.sleep(0.1)
        return Look(turnovers, self._server.memory(), found["sessions"], found["open"])

    def _objects(self) -> dict[str, int]:
        with urlopen(f"http://127.0.0.1:{self._server.port}/objects", timeout=30) as answer:
            found: dict[str, int] = json.load(answer)
            return found

    async def _each(self, count: int, what: Callable[[], Awaitable[None]]) -> None:
        """So many times, some of them at once."""
        left = iter(range(count))

        async def work() -> None:
            for _ in left:
                await what()

        await asyncio.gather(*[work() for _ in range(AT_ONCE)])

    async def _replace(self) -> None:
        await self._alive.popleft().end()
        await self._open()

    async def _open(self) -> None:
        self._count += 1
        number = self._count
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(number), "127.0.0.1", self._server.port)
        await connection.subscribed
        self._alive.append(connection)


def _frame(first: int, payload: bytes) -> bytes:
    masked = bytes(byte ^ MASK[index % 4] for index, byte in enumerate(payload))
    return bytes((first, 0x80 | len(payload))) + MASK + masked


async def measure(server: Server, alive: int, turnovers: int) -> list[Look]:
    """The server with all its connections, then after each part of the turnovers."""
    turnover = Turnover(server)
    await turnover.open(alive)
    looks = [await turnover.look(0)]
    for part in range(1, LOOKS + 1):
        done = turnovers * part // LOOKS
        await turnover.turn_over(done - looks[-1].turnovers)
        looks.append(await turnover.look(done))
    return looks


def page(looks: Sequence[Look], about: str) -> str:
    rows = [[f"{each.turnovers:,}", f"{each.memory / 2**20:.1f}", f"{each.open:,}", f"{each.dead:,}"] for each in looks]
    return f"{about}\n\n{grid(['turnovers', 'RSS, MiB', 'sessions open', 'closed, but there'], rows, left=0)}\n"


def held(looks: Sequence[Look]) -> bool:
    """Whether nothing is left of who has gone, and memory is where it was."""
    return looks[-1].dead == 0 and looks[-1].memory <= looks[0].memory * (1 + GROWTH)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/turnover", description="Has connections come and go, and says what a node keeps of them."
    )
    parser.add_argument("--alive", type=int, default=ALIVE, help=f"connections at a time; default: {ALIVE}")
    parser.add_argument("--turnovers", type=int, default=TURNOVERS, help=f"default: {TURNOVERS}")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the table goes; default: standard output")
    given = parser.parse_args(arguments)
    if given.alive < AT_ONCE:
        parser.error(f"--alive must be at least {AT_ONCE}: so many are replaced at once")
    return given


def main() -> int:
    """Exit code: 0, or 1 when something stays or could not be measured, or 130 when it was interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    given = parse(sys.argv[1:])
    core, ours = cores()
    port = free_port()
    begun = time.monotonic()
    try:
        sched_setaffinity(0, {ours})
        command = [sys.executable, "-m", "bench.counted", str(port)]
        with Server("gateway", command, core, port, "ready") as server:
            looks = uvloop.run(measure(server, given.alive, given.turnovers))
    except KeyboardInterrupt:
        say("interrupted; nothing is written")
        return 130
    except (Failed, Missing) as failure:
        say(f"bench/turnover: {failure}")
        return 1
    text = page(
        looks,
        f"Measured by `bench/turnover` on {time.strftime('%Y-%m-%d')}: {machine()}. {given.alive:,} connections at a "
        f"time, each subscribed to a channel with presence and history; in {time.monotonic() - begun:.0f} s.",
    )
    if given.output is None:
        print(text, end="")
    else:
        given.output.write_text(text)
    return not held(looks)


if __name__ == "__main__":
    sys.exit(main())
