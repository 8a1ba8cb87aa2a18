"""What the admin page costs a node: ``bench/admin`` asks for its connections again and again, in several ways.

Each is asked one after the other for some seconds. By how much the event loop was late meanwhile the node says itself.
"""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from os import sched_setaffinity
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import uvloop
from msgspec import Struct

from bench.__main__ import say
from bench.environment import HERE, Missing, machine
from bench.report import grid
from bench.servers import Failed, Server, cores, free_port
from bench.turnover import CHANNELS, Turnover

CONNECTIONS, SECONDS = 5_000, 3.0
PAGE = 200

QUESTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "connections, the first page": ("connections", {"limit": PAGE}),
    "connections, a page behind the middle": ("connections", {"limit": PAGE, "cursor": "8"}),
    "connections of a channel": ("connections", {"limit": PAGE, "channel": "room1"}),
    "connections of an address": ("connections", {"limit": PAGE, "address": "127.0.0.1"}),
    "connections of a network": ("connections", {"limit": PAGE, "address": "127.0.0.0/8"}),
    "connections of a network that has none": ("connections", {"limit": PAGE, "address": "10.0.0.0/8"}),
    "nodes": ("nodes", {}),
}


class Cost(Struct):
    """Of one question."""

    question: str
    calls: int
    times: list[float]
    """Seconds that each took."""
    cpu: float
    """Processor seconds of the node, in all."""
    looks: list[int]
    """How late the loop was when it was looked at, as its histogram has it."""

    def row(self, bounds: Sequence[float]) -> list[str]:
        late = [bound for bound, count in zip((*bounds, float("inf")), self.looks, strict=True) if count]
        if not self.times:
            return [self.question, "", "", "", "", f"{late[-1] * 1000:g}" if late else ""]
        return [
            self.question,
            str(self.calls),
            f"{median(self.times) * 1000:.1f}",
            f"{max(self.times) * 1000:.1f}",
            f"{self.cpu / self.calls * 1000:.1f}",
            f"{late[-1] * 1000:g}" if late else "",
        ]


class Operator:
    """Who asks."""

    def __init__(self, server: Server, http: httpx.AsyncClient) -> None:
        self._server = server
        self._http = http

    async def ask(self, method: str, **body: Any) -> Any:
        answer = await self._http.post(f"/admin/api/{method}", json=body)
        if "result" not in answer.json():
            raise Failed(f"{method} is answered with {answer.status_code}: {answer.text:.200}")
        return answer.json()["result"]

    async def lag(self) -> dict[str, list[Any]]:
        [node] = (await self.ask("nodes"))["nodes"]
        found: dict[str, list[Any]] = node["loop_lag"]
        return found

    async def cost(self, question: str, seconds: float) -> Cost:
        """Ask for so long; nothing, where there is no such question."""
        method, body = QUESTIONS.get(question, ("", {}))
        before, cpu, end = (await self.lag())["counts"], self._server.cpu(), time.monotonic() + seconds
        times = []
        while (now := time.monotonic()) < end:
            if method:
                await self.ask(method, **body)
                times.append(time.monotonic() - now)
            else:
                await asyncio.sleep(seconds)
        used, after = self._server.cpu() - cpu, (await self.lag())["counts"]
        looks = [new - old for old, new in zip(before, after, strict=True)]
        return Cost(question, len(times), times, used, looks)


async def measure(server: Server, connections: int, seconds: float) -> tuple[list[Cost], list[float]]:
    """What each question costs with so many connections, after what nothing costs; the bounds of the looks."""
    await Turnover(server).open(connections)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=60) as http:
        operator = Operator(server, http)
        [node] = (await operator.ask("nodes"))["nodes"]
        if node["connections"] != connections:
            raise Failed(f"the node has {node['connections']} connections, not {connections}")
        costs = [await operator.cost(question, seconds) for question in ("nothing is asked", *QUESTIONS)]
        return costs, (await operator.lag())["bounds"]


def page(costs: Sequence[Cost], bounds: Sequence[float], about: str) -> str:
    head = ["asked one after the other", "times", "median, ms", "longest, ms", "processor, ms", "loop late, ms at most"]
    return f"{about}\n\n{grid(head, [cost.row(bounds) for cost in costs], left=1)}\n"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/admin", description="Looks through a node's connections as the admin page does."
    )
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help=f"default: {CONNECTIONS}")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"for each question; default: {SECONDS:g}")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the table goes; default: standard output")
    return parser.parse_args(arguments)


def main() -> int:
    """Exit code: 0, or 1 when it could not be measured, or 130 when it was interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    given = parse(sys.argv[1:])
    core, ours = cores()
    port = free_port()
    command = [sys.executable, "-m", "gateway", "serve", "--port", str(port), "--config", str(HERE / "gateway.toml")]
    opened = {"GATEWAY_ADMIN__ENABLED": "true", "GATEWAY_ADMIN__INSECURE": "true"}
    try:
        sched_setaffinity(0, {ours})
        with Server("gateway", command, core, port, "ready", **opened) as server:
            costs, bounds = uvloop.run(measure(server, given.connections, given.seconds))
    except KeyboardInterrupt:
        say("interrupted; nothing is written")
        return 130
    except (Failed, Missing) as failure:
        say(f"bench/admin: {failure}")
        return 1
    text = page(
        costs,
        bounds,
        f"Measured by `bench/admin` on {time.strftime('%Y-%m-%d')}: {machine()}. The node on one core, who asks on "
        f"another; {given.connections:,} connections in {CHANNELS} channels, pages of {PAGE}, {given.seconds:g} s for "
        "each row.",
    )
    if given.output is None:
        print(text, end="")
    else:
        given.output.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
