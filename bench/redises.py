"""Redis as systems are given it: one server, several as shards, or a Cluster; all of them share a core."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import NamedTuple

from redis import Redis

from bench.servers import START, Failed, Server, free_port, redis_server
from gateway.config.settings import RedisSettings
from gateway.jump import jump
from gateway.redis.keys import SLOTS, Keys, slot

KEYS = Keys(RedisSettings().prefix)
"""As a node without settings has them."""


class Layout(NamedTuple):
    """How many servers there are, and whether they are a Cluster, which is then of primaries alone."""

    servers: int = 1
    cluster: bool = False

    def place(self, channel: str) -> int:
        """The number of the server that keeps a channel."""
        if self.cluster:
            return owner(slot(KEYS.of(b"c", channel)), self.servers)
        return jump(channel, self.servers)

    @contextmanager
    def running(self, core: int) -> Iterator["Redises"]:
        with ExitStack() as stack:
            servers = [stack.enter_context(self._server(stack, core)) for _ in range(self.servers)]
            if self.cluster:
                _form([server.port for server, _ in servers], [bus for _, bus in servers])
            yield Redises(self, [server for server, _ in servers])

    @contextmanager
    def _server(self, stack: ExitStack, core: int) -> Iterator[tuple[Server, int]]:
        """A server with a directory of its own, and the port of its bus."""
        directory, bus = stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-bench-")), free_port()
        words = ("--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-require-full-coverage", "no")
        with redis_server(core, directory, *(words if self.cluster else ())) as server:
            yield server, bus


class Redises(NamedTuple):
    """Servers at work."""

    layout: Layout
    servers: Sequence[Server]

    @property
    def url(self) -> str:
        """Their address as the gateway's settings take it."""
        hosts = [f"127.0.0.1:{server.port}" for server in self.servers]
        if self.layout.cluster:
            return f"redis+cluster://{hosts[0]}?{'&'.join(f'addr={host}' for host in hosts[1:])}"
        return ",".join(f"redis://{host}" for host in hosts)

    def cpu(self) -> list[float]:
        """Processor seconds that each has used, by its own account."""
        return [processor_time(server.port) for server in self.servers]


def processor_time(port: int) -> float:
    with closing(Redis(port=port)) as redis:
        told = redis.info("cpu")
    return float(told["used_cpu_user"]) + float(told["used_cpu_sys"])


def held(port: int) -> bytes:
    """Which history of data a server holds, as nodes know it of each connection."""
    with closing(Redis(port=port)) as redis:
        return str(redis.info("replication")["master_replid"])[:16].encode()


def owner(place: int, servers: int) -> int:
    """Who of so many owns a slot when all slots are dealt out in equal ranges."""
    return ((place + 1) * servers - 1) // SLOTS


def _form(ports: Sequence[int], buses: Sequence[int]) -> None:
    """Make one Cluster of servers that know nothing of each other. Raises `Failed`."""
    with ExitStack() as stack:
        servers = [stack.enter_context(closing(Redis(port=port))) for port in ports]
        for number, each in enumerate(servers):
            each.response_callbacks.clear()  # answers as they are, in every version of redis-py
            first, after = (SLOTS * edge // len(servers) for edge in (number, number + 1))
            _ask(each, "CLUSTER", "ADDSLOTSRANGE", first, after - 1)
            _ask(each, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for each in servers[1:]:
            _ask(each, "CLUSTER", "MEET", "127.0.0.1", ports[0], buses[0])
        until = time.monotonic() + START
        while not all(_whole(each, len(servers)) for each in servers):
            if time.monotonic() > until:
                raise Failed(f"the servers have not formed a Cluster after {START:g} s")
            time.sleep(0.05)


def _ask(server: Redis, *words: str | int) -> bytes:
    answer: bytes = server.execute_command(*words)  # type: ignore[no-untyped-call]
    return answer


def _whole(server: Redis, servers: int) -> bool:
    """Whether it knows all of them, and that every slot is served."""
    about = _ask(server, "CLUSTER", "INFO").decode().split()
    return {"cluster_state:ok", f"cluster_known_nodes:{servers}", f"cluster_slots_ok:{SLOTS}"} <= set(about)
