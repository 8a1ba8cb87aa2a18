"""A group behind Sentinel as a shard: wherever its master is."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from gateway.config.settings import RedisSettings
from gateway.errors import BrokerUnavailable
from gateway.redis.opening import open_shards
from gateway.redis.sentinel import SentinelShard
from tests.redis_topologies import SentinelTopology
from tests.waiting import until


@pytest.fixture
def topology() -> Iterator[SentinelTopology]:
    with SentinelTopology() as topology:
        yield topology


@asynccontextmanager
async def opened(address: str, **options: Any) -> AsyncIterator[SentinelShard]:
    [shard] = open_shards(RedisSettings(address=address, probe_interval=0.2, **options))
    assert isinstance(shard, SentinelShard)
    await shard.start()
    try:
        yield shard
    finally:
        await shard.close()


def at_master(shard: SentinelShard, topology: SentinelTopology) -> bool:
    return shard.connected and shard.endpoint.port == topology.master().port


async def says(shard: SentinelShard, word: bytes) -> bool:
    try:
        await shard.publish(b"news", word)
    except BrokerUnavailable:
        return False
    return True


async def test_it_follows_its_master(topology: SentinelTopology, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order and after a death, told by the sentinels, not found at the next question."""
    monkeypatch.setattr("gateway.redis.sentinel.ASK", 600.0)
    heard: list[bytes] = []
    gaps: list[int] = []
    async with opened(topology.url) as shard:
        assert shard.connected
        assert shard.endpoint.port == topology.master().port
        shard.on_reconnect.append(lambda: gaps.append(1))
        await shard.subscribe(b"news", heard.append)
        for change in (topology.failover, topology.kill_primary):
            await asyncio.to_thread(change)
            await until(partial(at_master, shard, topology), 20)
            assert gaps
            heard.clear()
            assert await says(shard, b"hello")
            await until(lambda: heard == [b"hello"])


async def test_a_switch_that_nobody_told_of_is_found(
    topology: SentinelTopology, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.redis.sentinel.ASK", 0.2)
    async with opened(topology.url) as shard:
        monkeypatch.setattr(shard, "_switched", lambda news: None)
        former = topology.master()
        former.pause()  # its connections stay
        try:
            await asyncio.to_thread(topology.wait_for_another, former)
            await until(partial(at_master, shard, topology), 20)
        finally:
            former.resume()
        assert await says(shard, b"hello")


async def test_a_server_that_is_not_the_master_is_left(topology: SentinelTopology) -> None:
    """What the sentinels say may be old: ROLE counts."""
    async with opened(topology.url) as shard:
        group = shard._group
        replica = topology.replicas()[0]

        async def locate() -> Any:
            return type(group.master)(port=replica.port)

        shard._locate = locate  # type: ignore[method-assign]
        shard._drop_both("cut by the test")
        await until(lambda: "which is a slave" in shard._commands.problem)
        assert not shard.connected
        del shard._locate
        await until(lambda: shard.connected)


async def test_passwords_of_its_own() -> None:
    with SentinelTopology(password="secret", sentinel_password="other") as guarded:
        async with opened(guarded.url) as shard:
            assert await says(shard, b"hello")


async def test_a_name_that_nobody_knows(shared_group: SentinelTopology) -> None:
    async with opened(shared_group.url, sentinel_master_name="") as known:
        assert known.connected
    async with opened(shared_group.url.replace(shared_group.master_name, "nobody")) as shard:
        assert not shard.connected
        assert "knows a master nobody; is sentinel_master_name right?" in shard._commands.problem
        with pytest.raises(BrokerUnavailable):
            await shard.execute("GET", b"k")


async def test_one_sentinel_is_enough(topology: SentinelTopology) -> None:
    for sentinel in topology.sentinels[1:]:
        sentinel.kill()
    async with opened(topology.url) as shard:
        assert await says(shard, b"hello")


async def test_nobody_is_there() -> None:
    async with opened("redis+sentinel://127.0.0.1:1?sentinel_master_name=m") as shard:
        assert not shard.connected
        assert "no sentinel of 127.0.0.1:1 answers" in shard._commands.problem
