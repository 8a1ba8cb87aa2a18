"""Publications with history through one broker: PostgreSQL beside Redis, and what each server's processor does for it.

    python -m bench.engines [--publications 40000] [--at-once 64 512] [--channels 100]

The servers run on this machine, PostgreSQL as it is delivered (fsync and all). One process publishes, and hears all it
has published.
"""

import argparse
import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.brokers.base import Broker, PublishOptions, StreamOptions
from gateway.brokers.postgres import PostgresBroker
from gateway.brokers.redis import RedisBroker
from gateway.config.settings import PostgresSettings, RedisSettings
from gateway.messages import ClientInfo, Payload, Publication
from gateway.postgres.database import Database
from gateway.redis.opening import open_shards
from tests.postgres_server import PostgresServer
from tests.redis_server import RedisServer

KEPT = StreamOptions(history_size=100, history_ttl=300.0)
PLAIN = StreamOptions()
DATA = Payload(b'{"text":"' + b"x" * 88 + b'"}')

Cpu = Callable[[], float]


class Hearer:
    """Counts what arrives."""

    def __init__(self) -> None:
        self.heard = 0

    def on_publication(self, channel: str, publication: Publication) -> None:
        self.heard += 1

    def on_join(self, channel: str, info: ClientInfo) -> None: ...

    def on_leave(self, channel: str, info: ClientInfo) -> None: ...

    def on_control(self, data: bytes) -> None: ...

    def on_gap(self) -> None: ...


@asynccontextmanager
async def redis(hearer: Hearer) -> AsyncIterator[tuple[Broker, Cpu]]:
    with RedisServer() as server:
        [shard] = open_shards(RedisSettings(address=server.url))
        broker = RedisBroker(shard)
        await shard.start()
        await broker.start("n1", hearer)
        yield broker, lambda: processor_time([server_pid(server)])
        await broker.close()
        await shard.close()


@asynccontextmanager
async def postgres(hearer: Hearer) -> AsyncIterator[tuple[Broker, Cpu]]:
    with PostgresServer("fsync=on", "full_page_writes=on") as server:
        database = Database(PostgresSettings(dsn=server.url))
        broker = PostgresBroker(database)
        await database.start()
        await broker.start("n1", hearer)
        yield broker, lambda: processor_time(postgres_pids(server))
        await broker.close()
        await database.close()


def server_pid(server: RedisServer | PostgresServer) -> int:
    assert server._process is not None
    return server._process.pid


def postgres_pids(server: PostgresServer) -> list[int]:
    """The server and all that it has started. (What a connection that has ended has used is not counted.)"""
    pid = server_pid(server)
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def processor_time(pids: list[int]) -> float:
    """Seconds of processor that these have used."""
    ticks = 0
    for pid in pids:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(words[11]) + int(words[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def measure(broker: Broker, hearer: Hearer, cpu: Cpu, stream: StreamOptions, plan: argparse.Namespace) -> str:
    """Publish with so many waiting at a time; publications a second, and the server's processor for each."""
    results = []
    for at_once in plan.at_once:
        left = iter(range(plan.publications))
        hearer.heard = 0

        async def publish() -> None:
            for number in left:  # noqa: B023  shared by all of this round
                publication = Publication(DATA)
                await broker.publish(f"room:{number % plan.channels}", publication, stream, PublishOptions())

        began, used = time.perf_counter(), cpu()
        await asyncio.gather(*(publish() for _ in range(at_once)))
        await broker.echo()
        lasted, used = time.perf_counter() - began, cpu() - used
        assert hearer.heard == plan.publications, hearer.heard
        rate = plan.publications / lasted
        each = used / plan.publications * 1e6
        results.append(f"{at_once:5} at once: {rate:8,.0f}/s, {each:6.1f} µs of the server's processor each")
    return "\n".join(results)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--publications", type=int, default=40_000)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 64, 512])
    parser.add_argument("--channels", type=int, default=100)
    plan = parser.parse_args()
    for name, engine in (("redis", redis), ("postgres", postgres)):
        hearer = Hearer()
        async with engine(hearer) as (broker, cpu):
            for number in range(plan.channels):
                await broker.subscribe(f"room:{number}")
            for kind, stream in (("with history", KEPT), ("without", PLAIN)):
                print(f"{name}, {kind}\n{await measure(broker, hearer, cpu, stream, plan)}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
