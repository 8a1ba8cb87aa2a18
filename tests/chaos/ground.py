"""Where a fault happens: Redis, three nodes on it, HAProxy before them, and everybody who uses them."""

import asyncio
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self, TypeVar

from redis import Redis

from gateway.config.settings import ShutdownSettings
from tests.chaos.child import Child
from tests.chaos.clock import Clock
from tests.chaos.crowd import Crowd
from tests.chaos.delay import DelayLine
from tests.chaos.namespace import Namespace
from tests.chaos.nodes import ChaosNode
from tests.chaos.probe import Probe
from tests.chaos.publishers import Door, Publishers
from tests.chaos.size import Size
from tests.integration.servers import Balancer, caddy, haproxy, nginx
from tests.integration.tokens import API_KEY, SECRET
from tests.redis_server import RedisServer
from tests.redis_topologies import ClusterTopology, SentinelTopology
from tests.waiting import until

T = TypeVar("T")

NODES = 3
COMING = 180.0
"""Seconds that all have to come for the first time."""
BALANCERS = {"nginx": nginx, "caddy": caddy}
"""By stage; before the others stands HAProxy."""
THROUGH = {"haproxy", "nginx", "caddy"}
"""Stages on which observers and publishers, too, know the balancer alone: nobody may notice that nodes come and go."""
HISTORY = {"history_size": 1000, "history_ttl": "600s", "force_recovery": True, "allow_subscribe_for_client": True}
ROOM = {"name": "room", "presence": True, "join_leave": True, "force_push_join_leave": True, **HISTORY}
REDIS = (
    *("--appendonly", "yes", "--enable-debug-command", "yes", "--protected-mode", "no"),
    *("--client-output-buffer-limit", "pubsub", "256mb", "64mb", "30"),
)
"""As docs/redis.md wants it, and with what the faults need."""


class Ground:
    """Use as an async context manager: when it is entered all clients are there, and publications go."""

    def __init__(self, stage: str, size: Size, directory: Path, seed: int) -> None:
        self.stage = stage
        self.size = size
        self.directory = directory
        self.nodes: list[ChaosNode] = []
        self.dice = random.Random(seed)
        self.lines: list[DelayLine] = []
        self.namespace: Namespace | None = None
        self.clock: Clock | None = None
        self.sentinel: SentinelTopology | None = None
        self.cluster: ClusterTopology | None = None
        self._seed = seed
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._build()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def blocking(self, work: Callable[[], T]) -> T:
        """Do what blocks, in a thread: this event loop carries publishers and lines."""
        return await asyncio.to_thread(work)

    # — how it is built —

    async def _build(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.stage == "namespace":
            self.namespace = self._stack.enter_context(Namespace())
        url = await self._redis()
        self.nodes = await self._nodes(url)
        self._stack.push_async_callback(self._close_nodes)
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            await node.started()
        balancer = await self._balancer()
        addresses = [(node.host, node.port) for node in self.nodes]
        door = balancer.host, balancer.port
        observed = [door] * NODES if self.stage in THROUGH else addresses
        self.crowd = Child(Crowd, self.size, door, observed, self._seed)
        self._stack.push_async_callback(self.crowd.close)
        self.probe = Child(Probe, [(node.name, (node.host, node.port)) for node in self.nodes])
        self._stack.push_async_callback(self.probe.close)
        await until(self._all_there, COMING, "all clients have come")
        doors = [Door(balancer)] if self.stage in THROUGH else self.nodes
        self.publishers = Publishers(self.size, doors, self.dice)
        self.publishers.start()
        self._stack.push_async_callback(self.publishers.stop)

    async def _close_nodes(self) -> None:
        await asyncio.gather(*(node.close() for node in self.nodes))

    async def _all_there(self) -> bool:
        missing, _ = await self.crowd.ask("unsettled")
        return not missing

    async def _redis(self) -> str:
        """Start it; gives its address."""
        if self.stage == "sentinel":
            self.sentinel = SentinelTopology(*REDIS)
            return await self._enter(self.sentinel)
        if self.stage == "cluster":
            self.cluster = ClusterTopology(*REDIS)
            return await self._enter(self.cluster)
        listen = ("--bind", "127.0.0.1", self.namespace.redis_host) if self.namespace else ()
        self.redis = RedisServer(*REDIS, *listen)
        return await self._enter(self.redis)

    async def _enter(self, server: Any) -> str:
        await asyncio.to_thread(server.__enter__)
        self._stack.push_async_callback(asyncio.to_thread, server.__exit__, None, None, None)
        url: str = server.url
        return url

    async def _nodes(self, url: str) -> list[ChaosNode]:
        if self.stage == "workers":
            flags = ("--workers", str(NODES))
            return [ChaosNode("workers", self.directory, self._settings(url), flags=flags)]
        nodes = []
        for number in range(NODES):
            address = url
            traits: dict[str, Any] = {}
            if self.stage == "line":
                line = await self._stack.enter_async_context(DelayLine(self.redis.port))
                self.lines.append(line)
                address = line.url
            if self.namespace and number == NODES - 1:
                address = f"redis://{self.namespace.redis_host}:{self.redis.port}"
                traits = {"host": self.namespace.host, "prefix": self.namespace.prefix}
            if self.stage == "clock" and number == NODES - 1:
                self.clock = Clock(self.directory / "clock")
                traits = self.clock.environment
            nodes.append(ChaosNode(f"node{number}", self.directory, self._settings(address), **traits))
        return nodes

    def _settings(self, address: str) -> dict[str, Any]:
        return {
            "client": {
                "token": {"hmac_secret_key": SECRET},
                "ping_interval": "10s",
                "pong_timeout": "8s",
                "channel_position_check_delay": "10s",
            },
            "http_api": {"key": API_KEY},
            "channel": {"namespaces": [{"name": "feed", **HISTORY}, ROOM]},
            "engine": {"type": "redis", "redis": {"address": address}},
            "shutdown": {"grace": ShutdownSettings().grace},
        }

    async def _balancer(self) -> Balancer:
        balancer = BALANCERS.get(self.stage, haproxy)(self.directory, self.nodes)
        await asyncio.to_thread(balancer.__enter__)
        self._stack.push_async_callback(asyncio.to_thread, balancer.__exit__, None, None, None)
        await until(lambda: balancer.answers("/health/ready"), 20.0, "the balancer sees a node")
        return balancer

    async def busiest(self) -> ChaosNode:
        """The node with the most clients."""
        counts = [(await node.metrics())["connections"] for node in self.nodes]
        return self.nodes[counts.index(max(counts))]

    # — what is seen of Redis —

    async def keys(self) -> Counter[str]:
        """How many keys there are of each kind, but for results of publishes, which end by themselves."""
        return await self.blocking(self._count_keys)

    async def names(self, kind: str) -> list[str]:
        """The keys of a kind, and for how many milliseconds they last."""
        return await self.blocking(lambda: [name for found, name in self._scan(ttl=True) if found == kind])

    def _count_keys(self) -> Counter[str]:
        kinds = Counter(kind for kind, _ in self._scan())
        del kinds["i"]
        return kinds

    def _scan(self, *, ttl: bool = False) -> Iterator[tuple[str, str]]:
        """Kind and name of every key."""
        for client in self._servers():
            with client:
                for key in client.scan_iter(count=1000):
                    kind = re.sub(rb"^gateway:(?:\{p\d+\}:)?(\w+).*$", rb"\1", key).decode()
                    yield kind, f"{key.decode()} {client.pttl(key) if ttl and kind != 'i' else ''}"

    def _servers(self) -> list[Redis]:
        if self.sentinel:
            return [self.sentinel.client()]
        if self.cluster:
            return [each.client() for each in dict.fromkeys(self.cluster.primaries())]
        return [self.redis.client()]
