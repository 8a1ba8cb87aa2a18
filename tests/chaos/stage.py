"""The nodes, who uses them, and what happens to them."""

import asyncio
import os
import random
import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tests.chaos.client import Client
from tests.chaos.faults import Faults
from tests.chaos.line import Line
from tests.chaos.model import Model
from tests.chaos.pace import pace
from tests.integration.servers import GatewayServer
from tests.integration.tokens import API_KEY, SECRET
from tests.redis_server import RedisServer
from tests.waiting import until

SECONDS = float(os.environ.get("CHAOS_SECONDS", "30"))
"""For how long there are faults."""
CHANNELS = ("room:1", "room:2", "room:3")
CLIENTS = 30
PUBLISHERS = 2
"""For each channel."""
CALM = 0
"""The node that nothing happens to: the observer sits there, and what it hears counts."""
REST = 60.0
"""Seconds within which everything is as if nothing had happened: leases run out, sweeps go round."""
PATIENCE = 6.0
"""Seconds that a publisher waits for an answer before it tries again elsewhere."""

NAMESPACE = {
    "name": "room",
    "presence": True,
    "join_leave": True,
    "force_push_join_leave": True,
    "history_size": 5000,
    "history_ttl": "600s",
    "force_recovery": True,
    "allow_subscribe_for_client": True,
}


class Stage:
    """Use as an async context manager; then ``play``, ``come_to_rest``, ``empty``, and ask the model."""

    def __init__(self, directory: Path, dice: random.Random) -> None:
        self.model = Model()
        self._directory = directory
        self._dice = dice
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._publishing = True

    async def __aenter__(self) -> Self:
        redis = self._stack.enter_context(RedisServer())
        self.lines = [await self._stack.enter_async_context(Line(redis.port)) for _ in range(3)]
        self.nodes = [self._node(number, line) for number, line in enumerate(self.lines)]
        for node in self.nodes:
            node.start()
            # in a thread, since it talks to Redis through lines that this event loop carries
            self._stack.push_async_callback(asyncio.to_thread, node.__exit__, None, None, None)
        self._http = await self._stack.enter_async_context(
            httpx.AsyncClient(headers={"X-API-Key": API_KEY}, timeout=PATIENCE)
        )
        for node in self.nodes:
            await asyncio.to_thread(node.wait)
        self.clients = self._clients()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    def _node(self, number: int, line: Line) -> GatewayServer:
        settings: dict[str, Any] = {
            "client": {
                "token": {"hmac_secret_key": SECRET},
                "ping_interval": "5s",
                "pong_timeout": "4s",
                "channel_position_check_delay": "5s",
            },
            "http_api": {"key": API_KEY},
            "channel": {"namespaces": [NAMESPACE]},
            "engine": {"type": "redis", "redis": {"address": line.url}},
        }
        return GatewayServer(f"node{number}", self._directory, settings)

    def _clients(self) -> list[Client]:
        observer = Client("observer", self.nodes[CALM : CALM + 1], self.model, self._dice)
        observer.observes = True
        clients = [observer]
        for number in range(CLIENTS):
            client = Client(f"user{number}", self.nodes, self.model, self._dice)
            one, two = self._dice.sample(CHANNELS, 2)
            client.add(one)
            client.add(two, server_side=number % 3 == 0)
            clients.append(client)
        for channel in CHANNELS:
            observer.add(channel)
        return clients

    # — the play —

    async def play(self) -> None:
        """Everybody comes, and there are faults for a while."""
        for client in self.clients:  # the observer first: it hears of all others
            self._run(client.run())
            await until(client.settled, REST)
        publishers = [self._run(self._publish(channel, n)) for channel in CHANNELS for n in range(PUBLISHERS)]
        faults = Faults(self.nodes, self.lines, CALM, self.clients[1:], self.model, self._dice, self.ask)
        await faults.go_on(SECONDS)
        self._publishing = False
        await asyncio.gather(*publishers)

    def _run(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.append(task)
        return task

    async def _publish(self, channel: str, publisher: int) -> None:
        """One publication after the other, each tried again, on any node, until it is accepted."""
        count = 0
        while self._publishing:
            count += 1
            name = f"{channel}/{publisher}/{count}"
            while not (result := await self._try_publish(channel, name)):
                self.model.counts["publishes tried again"] += 1
                await pace(self._dice.uniform(0.05, 0.5))
            self.model.accept(channel, name, result["epoch"], result["offset"])
            await pace(self._dice.uniform(0.0, 0.1))

    async def _try_publish(self, channel: str, name: str) -> Any:
        node = self._dice.choice(self.nodes)
        return await self.ask(node, "publish", channel=channel, data=name, idempotency_key=name)

    async def ask(self, node: GatewayServer, method: str, **body: Any) -> Any:
        """The result of a call to the server API, None if there is none."""
        try:
            response = await self._http.post(f"{node.api_url}/{method}", json=body)
            return response.json().get("result") if response.status_code == 200 else None
        except (httpx.TransportError, ValueError):
            return None

    # — afterwards —

    async def come_to_rest(self) -> None:
        """What must be true a while after the last fault."""
        self._rested = asyncio.get_running_loop().time() + REST
        await self._holds(lambda: not self._unsettled(), "all are subscribed again", self._unsettled)
        await self._holds(self._caught_up, "all stand at the top of their channels", self._behind)
        await self._check_presence()
        subscriptions = sum(member.live for member in self.model.members.values())
        await self._holds(lambda: self._counts(len(self.clients), subscriptions), "metrics count what there is")
        self.model.check_streams()
        self.model.check_joins(CALM)

    async def empty(self) -> None:
        """Everybody leaves."""
        self._rested = asyncio.get_running_loop().time() + REST
        for client in self.clients:
            await client.leave()
        await self._holds(lambda: self._counts(0, 0), "metrics go back to zero")
        await self._check_presence()
        for node in self.nodes:
            try:
                node.check_log()
            except AssertionError as error:
                self.model.fault(str(error)[-4000:])

    async def _holds(
        self,
        condition: Callable[[], bool | Awaitable[bool]],
        what: str,
        otherwise: Callable[[], object] = lambda: "",
    ) -> None:
        """Wait for what must come; if it does not, that is a fault, and the next is looked at."""
        left = self._rested - asyncio.get_running_loop().time()
        try:
            await until(condition, max(left, 1.0), what)
        except AssertionError:
            self.model.fault(f"never: {what}; {otherwise()}")

    def _unsettled(self) -> list[str]:
        return [client.user for client in self.clients if not client.settled()]

    async def _caught_up(self) -> bool:
        self._tops: dict[str, tuple[str, int]] = {}
        for channel in CHANNELS:
            top = await self.ask(self.nodes[CALM], "history", channel=channel)
            if top is None:
                return False
            self._tops[channel] = top["epoch"], top["offset"]
        return not self._behind()

    def _behind(self) -> list[str]:
        return [
            f"{client.user} on node {client.node} stands at {each.position} of {channel}, whose top is {top}"
            for client in self.clients
            for channel, each in client.subscriptions.items()
            if each.position != (top := self._tops.get(channel))
        ]

    async def _check_presence(self) -> None:
        """All nodes show, and count, those that are subscribed."""
        for node, channel in product(self.nodes, CHANNELS):
            present = self.model.present(channel)
            await self._holds(
                partial(self._shows, node, channel, present),
                f"presence of {channel} on {node.name} is who is subscribed",
                partial(self._difference, present),
            )

    def _difference(self, present: set[str]) -> str:
        members, stats = self._shown
        return f"missing {present - members}, left over {members - present}; {len(present)} are counted as {stats}"

    async def _shows(self, node: GatewayServer, channel: str, present: set[str]) -> bool:
        """Whether presence and its counts are these clients."""
        found = await self.ask(node, "presence", channel=channel)
        stats = await self.ask(node, "presence_stats", channel=channel)
        self._shown = set(found["presence"]) if found else set(), stats
        users = {self.model.users[client] for client in present}
        return self._shown == (present, {"num_clients": len(present), "num_users": len(users)})

    async def _counts(self, connections: int, subscriptions: int) -> bool:
        """Whether all nodes together count so many."""
        total = dict.fromkeys(("connections", "subscriptions"), 0)
        for node in self.nodes:
            text = (await self._http.get(f"{node.url}/metrics")).text
            for name, count in re.findall(r"^gateway_(connections|subscriptions)\{.*\} (\S+)$", text, re.MULTILINE):
                total[name] += int(float(count))
        return total == {"connections": connections, "subscriptions": subscriptions}
