"""Redis for the tests of brokers and presence stores: real servers and fakeredis."""

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from fakeredis import TcpFakeServer

import gateway
from gateway.config.settings import RedisSettings
from gateway.redis.server import Server
from tests.redis_server import RedisServer


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


async def teach_scripts(shard: Server) -> None:
    """Load our scripts. fakeredis hangs up after each error reply, so that NOSCRIPT must not come about."""
    for path in Path(gateway.__file__).parent.glob("*/lua/*.lua"):
        await shard.execute("SCRIPT", "LOAD", path.read_bytes())


@asynccontextmanager
async def started_shard(
    address: str, *, prefix: str = "gateway", io_timeout: float = 4.0, probe_interval: float = 5.0
) -> AsyncIterator[Server]:
    shard = Server(RedisSettings(address=address, prefix=prefix, io_timeout=io_timeout, probe_interval=probe_interval))
    await shard.start()
    try:
        yield shard
    finally:
        await shard.close()
