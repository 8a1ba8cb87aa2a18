"""Three nodes, their Redis, their clients, and the receiver of their webhooks; and what happens to each."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tests.chaos.pace import pace
from tests.chaos.webhooks import verdict
from tests.chaos.webhooks.ledger import Ledger, Spot
from tests.chaos.webhooks.receiver import Receiver
from tests.chaos.webhooks.tab import KEY, SECRET
from tests.chaos.webhooks.visitors import Trio, Visitor, crowd_at
from tests.integration.servers import GatewayServer
from tests.integration.tokens import API_KEY
from tests.redis_server import RedisServer
from tests.waiting import until

NODES = 3
PATIENCE = 1.0
"""Seconds that a receiver has to answer."""
REST = 60.0
"""Seconds within which all has been told."""
LEASE = "webhooks of all apps"


class Scene:
    """Use as an async context manager; then ``play``, ``settle`` and ``faults``."""

    def __init__(self, directory: Path, seed: int, visitors: int = 24, delay: float = 1.0) -> None:
        """``delay`` is for how long who has gone may come back."""
        self.ledger = Ledger()
        self.counts: Counter[str] = Counter()
        self._dice = random.Random(seed)
        self._directory = directory
        self._delay = delay
        self._redis = RedisServer("--appendonly", "yes", "--appendfsync", "always")
        self._receiver = Receiver(PATIENCE, "all", "members")
        self._visitors = [Visitor(self.ledger, self.doors, 1000 * seed + number) for number in range(visitors)]
        self._tasks: list[asyncio.Task[None]] = []
        self._open: set[int] = set()
        self._misses = count()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await asyncio.to_thread(self._redis.start)
            stack.push_async_callback(asyncio.to_thread, self._redis.__exit__, None, None, None)
            await stack.enter_async_context(self._receiver)
            self.nodes = [GatewayServer(f"node{number}", self._directory, self._settings()) for number in range(NODES)]
            for node in self.nodes:
                node.start()
                stack.push_async_callback(asyncio.to_thread, node.__exit__, None, None, None)
            for number in range(NODES):
                await self._opened(number)
            self._trio = Trio(self.ledger, [self._door(0), self._door(0), self._door(1)])
            await self._trio.come()
            self._tasks = [asyncio.create_task(each.run()) for each in self._visitors]
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    def doors(self) -> list[tuple[int, int]]:
        return [self._door(number) for number in sorted(self._open)]

    # — what happens —

    async def play(self, seconds: float, *names: str) -> None:
        """Let nodes, Redis and the receiver have such faults, one after the other, for so long; each once at least."""
        faults = {fault.__name__: fault for fault in self._faults() if not names or fault.__name__ in names}
        end = asyncio.get_running_loop().time() + seconds
        left = [faults[name] for name in names] or [*faults.values()]
        weather = asyncio.create_task(self._weather())
        try:
            while left or asyncio.get_running_loop().time() < end:
                fault = left.pop(0) if left else self._dice.choice([*faults.values()])
                self.counts[fault.__name__] += 1
                await fault()
                await pace(self._dice.uniform(0.2, 2.0))
        finally:
            weather.cancel()
            await asyncio.wait([weather])

    async def settle(self) -> None:
        """Have everybody rest, and then go; what is told must come to be true each time."""
        self._receiver.calm()
        for visitor in self._visitors:
            visitor.rest()
        await self._until_told("at rest")
        for visitor in self._visitors:
            visitor.leave()
        await asyncio.gather(*self._tasks)
        await self._trio.leave()
        await self._until_told("at the end")

    def faults(self) -> list[str]:
        found = []
        for path, inbox in self._receiver.inboxes.items():
            texts = verdict.judge(inbox, self.ledger, members_only=path == "members", delay=self._delay)
            texts += verdict.needless(inbox, self.ledger)
            found += [f"{path}: {text}" for text in texts]
        return found

    def figures(self) -> str:
        lines = [", ".join(f"{number} {name}" for name, number in sorted(self.counts.items()))]
        lines.append(f"{sum(map(len, self.ledger.visits.values()))} visits, {len(self.ledger.said)} client events")
        for path, inbox in self._receiver.inboxes.items():
            told = Counter(event["name"] for event in inbox.events().values())
            by_name = ", ".join(f"{number} {name}" for name, number in sorted(told.items()))
            again = verdict.doubles(inbox)
            lines.append(f"{path}: {inbox.requests} requests, {told.total()} events ({by_name}), {again} doubles")
        return "\n".join(lines)

    # — inside —

    def _settings(self) -> dict[str, Any]:
        hooks = [
            {"url": self._receiver.url("all")},
            {
                "url": self._receiver.url("members"),
                "channel_prefix": "presence-",
                "event_types": ["member_added", "member_removed"],
            },
        ]
        app = {"id": "9001", "key": KEY, "secret": SECRET, "enable_client_messages": True, "webhooks": hooks}
        how = {"vacated_delay": self._delay, "timeout": PATIENCE, "batch_size": self._dice.choice([1, 10])}
        return {
            "pusher": {"enabled": True, "namespace": "shop", "apps": [app], "webhooks": how},
            "http_api": {"key": API_KEY},
            "channel": {"namespaces": [{"name": "shop"}]},
            "engine": {"type": "redis", "redis": {"address": self._redis.url}},
        }

    def _door(self, number: int) -> tuple[int, int]:
        return number, self.nodes[number].port

    async def _opened(self, number: int) -> None:
        await asyncio.to_thread(self.nodes[number].wait)
        self._open.add(number)

    async def _until_told(self, when: str) -> None:
        def right() -> bool:
            there = self.ledger.there()
            members = {spot for spot in there if spot.user}
            return self._told("all") == there and self._told("members") == members

        try:
            await until(right, REST)
        except AssertionError:
            there, told = self.ledger.there(), self._told("all")
            raise AssertionError(f"{when}: not told {there - told}, told falsely {told - there}") from None

    def _told(self, path: str) -> set[Spot]:
        return verdict.fold(self._receiver.inboxes[path])

    # — faults —

    def _faults(self) -> list[Callable[[], Awaitable[None]]]:
        nodes = [self.kill, self.roll, self.kill_the_sender]
        redis = [self.pause_redis, self.restart_redis, self.starve_redis, self.cut_off_redis]
        return [*nodes, *redis, self.kill_the_receiver]

    async def _weather(self) -> None:
        """The receiver's moods, and caches that are empty."""
        while True:
            self._receiver.sulk(self._dice)
            await crowd_at(self.ledger, self.doors, f"cache-{next(self._misses)}")
            await pace(self._dice.uniform(0.3, 2.0))

    async def kill(self) -> None:
        await self._kill(self._dice.choice(sorted(self._open - {1}) or [0]))

    async def _kill(self, number: int) -> None:
        self._open.discard(number)
        self.ledger.killed.append((number, time.time()))
        await asyncio.to_thread(self.nodes[number].kill)
        await pace(self._dice.choice([0.0, 1.0]))
        self.nodes[number].start()
        await self._opened(number)

    async def roll(self) -> None:
        number = self._dice.choice(sorted(self._open - {1}) or [0])
        self._open.discard(number)
        await asyncio.to_thread(self.nodes[number].terminate)
        self.nodes[number].start()
        await self._opened(number)

    async def kill_the_sender(self) -> None:
        """After something has been believed, and before the node can know."""
        sprung, number = asyncio.Event(), await self._sender()
        if number in (None, 1):
            return

        async def spring() -> None:
            self._open.discard(number)
            self.ledger.killed.append((number, time.time()))
            await asyncio.to_thread(self.nodes[number].kill)
            sprung.set()

        self._receiver.calm()
        self._receiver.trap = spring
        await sprung.wait()
        self.nodes[number].start()
        await self._opened(number)

    async def _sender(self) -> int | None:
        """The node that has the lease; None if nobody has."""
        with self._redis.client() as client:
            found = [client.get(key) for key in client.scan_iter(f"gateway:*:l:{LEASE}")]
        if not found:
            return None
        uid = found[0].decode().partition(":")[2]
        async with httpx.AsyncClient(headers={"X-API-Key": API_KEY}) as client:
            answer = await client.post(f"{self.nodes[1].url}/api/info", json={})
        names = {each["uid"]: each["name"] for each in answer.json()["result"]["nodes"]}
        return int(names[uid][-1]) if uid in names else None

    async def pause_redis(self) -> None:
        begin = time.time()
        self._redis.pause()
        await pace(self._dice.uniform(0.5, 3.0))
        self._redis.resume()
        self.ledger.outages.append((begin, time.time()))

    async def restart_redis(self) -> None:
        """As a power cut would; what it has acknowledged it has kept."""
        begin = time.time()
        await asyncio.to_thread(self._redis.kill)
        await asyncio.to_thread(self._redis.start)
        self.ledger.outages.append((begin, time.time()))

    async def starve_redis(self) -> None:
        """It takes nothing new, for want of memory."""
        begin = time.time()
        with self._redis.client() as client:
            client.config_set("maxmemory", "1mb")
            await pace(self._dice.uniform(0.5, 3.0))
            client.config_set("maxmemory", "0")
        self.ledger.outages.append((begin, time.time()))

    async def cut_off_redis(self) -> None:
        """All connections end; the scripts that it knew are forgotten."""
        begin = time.time()
        with self._redis.client() as client:
            client.script_flush()
            for kind in ("pubsub", "normal"):
                client.execute_command("CLIENT", "KILL", "TYPE", kind)
        self.ledger.outages.append((begin, time.time()))

    async def kill_the_receiver(self) -> None:
        await self._receiver.sever()
        await pace(self._dice.uniform(0.2, 3.0))
        await self._receiver.restore()
