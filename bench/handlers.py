"""What a program's handlers cost: subscribing through them, and the fan-out beside them.

    python bench/handlers.py [--redis-url URL]

One server (this file's ``app``, on uvicorn with the gateway's protocol class), one client. The server's processor
time is what is compared, in alternating rounds of one run, so that the load's own speed does not matter. Figures are
medians over the rounds; server and load have a processor core each.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import websockets
from fastapi import Depends, FastAPI, Header
from websockets.asyncio.client import ClientConnection

from gateway import Client, Gateway

SUBSCRIPTIONS = 100
"""Channels that are subscribed to, and left, in one round."""
ROUNDS = 200
MEMBERS, MESSAGES = 100, 2_000
"""Subscribers of one channel, and publications to it in one round of fan-out."""
FANOUT_ROUNDS = 16

# — the program —

gateway = Gateway()
app = FastAPI(lifespan=gateway.lifespan)
app.include_router(gateway.router)


async def user(client: Client) -> str:
    return client.user


async def agent(user_agent: Annotated[str, Header()] = "") -> str:
    return user_agent


@gateway.on_connect
async def connect() -> str:
    return "ann"


without = gateway.channel("without:{name}", allow_subscribe_for_client=True)
one = gateway.channel("one:{name}")
two = gateway.channel("two:{name}")


@one.on_subscribe
async def enter(name: str) -> None: ...


@two.on_subscribe
async def join(name: str, user: Annotated[str, Depends(user)], agent: Annotated[str, Depends(agent)]) -> None: ...


@gateway.rpc("burst")
async def burst(data: dict[str, str]) -> None:
    for number in range(MESSAGES):
        await gateway.publish(data["channel"], {"number": number, "text": "some ninety bytes of what is said" * 2})


# — the load —


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def processor_time(pid: int) -> float:
    """Seconds that all threads of a process have run."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in threads) / 1e9


class Talk:
    """A client that asks several things at once."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0

    async def ask(self, *requests: dict[str, Any]) -> None:
        """Returns when all are answered."""
        waiting = set()
        for request in requests:
            self._number += 1
            waiting.add(self._number)
            await self._socket.send(json.dumps({"id": self._number, **request}))
        while waiting:
            for line in str(await self._socket.recv()).splitlines():
                reply = json.loads(line)
                if not reply:
                    await self._socket.send("{}")
                assert "error" not in reply, reply
                waiting.discard(reply.get("id"))


async def subscribe(talk: Talk, pid: int, kind: str) -> float:
    channels = [f"{kind}:{number}" for number in range(SUBSCRIPTIONS)]
    before = processor_time(pid)
    await talk.ask(*({"subscribe": {"channel": channel}} for channel in channels))
    spent = processor_time(pid) - before
    await talk.ask(*({"unsubscribe": {"channel": channel}} for channel in channels))
    return spent / SUBSCRIPTIONS


async def fan_out(talk: Talk, pid: int, url: str, kind: str) -> float:
    channel = f"{kind}:everybody"

    async def listen(socket: ClientConnection) -> None:
        seen = 0
        while seen < MESSAGES:
            seen += str(await socket.recv()).count('"pub"')

    async with asyncio.TaskGroup() as members:
        ready = []
        for _ in range(MEMBERS):
            socket = await websockets.connect(url, compression=None)
            await Talk(socket).ask({"connect": {}}, {"subscribe": {"channel": channel}})
            ready.append(socket)
        for socket in ready:
            members.create_task(listen(socket))
        before = processor_time(pid)
        await talk.ask({"rpc": {"method": "burst", "data": {"channel": channel}}})
    spent = processor_time(pid) - before
    for socket in ready:
        await socket.close()
    return spent / MEMBERS / MESSAGES


Work = Callable[[str], Coroutine[Any, Any, float]]


async def compare(rounds: int, kinds: list[str], work: Work, unit: str) -> None:
    spent: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(rounds + 1):
        turn = number % len(kinds)
        for kind in kinds[turn:] + kinds[:turn]:  # each is the first as often: that place costs of its own
            spent[kind].append(await work(kind))
    first = spent[kinds[0]][1:]  # the first round warms up
    for kind in kinds:
        ratio = median(mine / other for mine, other in zip(spent[kind][1:], first, strict=True))
        print(f"  {kind:10} {median(spent[kind]) * 1e6:8.2f} µs of the server a {unit}, x {ratio:.2f}")


async def measure(url: str, pid: int) -> None:
    async with websockets.connect(url, compression=None) as socket:
        talk = Talk(socket)
        await talk.ask({"connect": {}})
        print("subscribing: without handler, with a handler, with a handler of two dependencies")
        await compare(ROUNDS, ["without", "one", "two"], lambda kind: subscribe(talk, pid, kind), "subscribe")
        print("fan-out, of a channel without handlers and of one with")
        await compare(FANOUT_ROUNDS, ["without", "two"], lambda kind: fan_out(talk, pid, url, kind), "delivery")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis-url", default="")
    redis_url = parser.parse_args().redis_url
    port = free_port()
    environment = {**os.environ, **({"GATEWAY_REDIS_URL": redis_url} if redis_url else {})}
    protocol = "gateway.transports.uvicorn_websocket:WebSocketProtocol"
    command = [sys.executable, "-m", "uvicorn", "bench.handlers:app", "--port", str(port), "--ws", protocol]
    server = subprocess.Popen([*command, "--log-level", "warning"], env=environment)
    usable = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(server.pid, {usable[0]})
    os.sched_setaffinity(0, {usable[-1]})
    try:
        asyncio.run(_when_ready(port, server.pid))
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


async def _when_ready(port: int, pid: int) -> None:
    while True:
        try:
            (await asyncio.open_connection("127.0.0.1", port))[1].close()
            break
        except OSError:
            await asyncio.sleep(0.1)
    await measure(f"ws://127.0.0.1:{port}/connection/websocket", pid)


if __name__ == "__main__":
    main()
