"""Redis for the tests of brokers and presence stores: real servers and fakeredis."""

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from fakeredis import TcpFakeServer

import gateway
from gateway.config.settings import RedisSettings
from gateway.redis.address import read_addresses
from gateway.redis.endpoint import Endpoint
from gateway.redis.opening import open_shards
from gateway.redis.server import Server
from gateway.redis.shard import Shard
from tests.redis_rights import narrowed
from tests.redis_server import RedisServer
from tests.redis_topologies import ClusterTopology, SentinelTopology


@contextmanager
def fake_redis() -> Iterator[str]:
    """Serve fakeredis over TCP; gives its URL."""
    server = TcpFakeServer(("127.0.0.1", 0))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"redis://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def redis_url(kind: str, server: RedisServer) -> Iterator[str]:
    """The URL of ``server``, emptied, or of a new fakeredis."""
    if kind == "fakeredis":
        with fake_redis() as url:
            yield url
    else:
        with server.client() as client:
            client.flushall()
        yield server.url


def one_server(address: str = "redis://127.0.0.1:6379", **options: Any) -> Server:
    """The shard at the address of one server, not started."""
    settings = RedisSettings(address=address, **options)
    [endpoint] = read_addresses(settings)
    assert isinstance(endpoint, Endpoint)
    return Server(settings, endpoint)


def refusal_of(shard: Shard) -> str:
    """The kind of what it refuses; empty if nothing."""
    return next((server.refusal for server in shard.health() if server.refusal), "")


REDISES = ["redis", "fakeredis", "shards", "sentinel", "cluster"]
"""What a contract's test of Redis is run over."""


@contextmanager
def redis_address(kind: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a Redis of a kind, which is empty; real ones are used with the documented rights alone."""
    with ExitStack() as stack:
        if kind == "cluster":
            cluster: ClusterTopology = request.getfixturevalue("shared_cluster")
            yield stack.enter_context(narrowed(_emptied(cluster), cluster.servers))
        elif kind == "sentinel":
            group: SentinelTopology = request.getfixturevalue("shared_group")
            yield stack.enter_context(narrowed(_emptied(group), group.servers, group.sentinels))
        elif kind == "fakeredis":
            yield stack.enter_context(fake_redis())
        else:
            names = ["shared_server", "second_server"] if kind == "shards" else ["shared_server"]
            servers: list[RedisServer] = [request.getfixturevalue(name) for name in names]
            urls = [stack.enter_context(redis_url(kind, server)) for server in servers]
            narrow = [narrowed(url, [server]) for url, server in zip(urls, servers, strict=True)]
            yield ",".join(map(stack.enter_context, narrow))


@asynccontextmanager
async def opened_shards(kind: str, request: pytest.FixtureRequest, count: int = 1) -> AsyncIterator[list[list[Shard]]]:
    """Connections of so many nodes to the same Redis of a kind, which is empty: several where it is several."""
    async with AsyncExitStack() as stack:
        address = stack.enter_context(redis_address(kind, request))
        nodes = [open_shards(RedisSettings(address=address)) for _ in range(count)]
        for shard in chain(*nodes):
            await shard.start()
            stack.push_async_callback(shard.close)
        if kind == "fakeredis":
            await teach_scripts(nodes[0][0])
        yield nodes


def _emptied(topology: ClusterTopology | SentinelTopology) -> str:
    """Its address."""
    for server in topology.servers:
        server.command("FLUSHALL")
    return topology.url


async def teach_scripts(shard: Shard) -> None:
    """Load our scripts. fakeredis hangs up after each error reply, so that NOSCRIPT must not come about."""
    for path in Path(gateway.__file__).parent.glob("*/lua/*.lua"):
        await shard.execute("SCRIPT", "LOAD", path.read_bytes())


@asynccontextmanager
async def started_shard(
    address: str, *, prefix: str = "gateway", io_timeout: float = 4.0, probe_interval: float = 5.0
) -> AsyncIterator[Server]:
    shard = one_server(address, prefix=prefix, io_timeout=io_timeout, probe_interval=probe_interval)
    await shard.start()
    try:
        yield shard
    finally:
        await shard.close()
