"""Leases in Redis: its keys, and what happens when it goes away."""

import pytest

from gateway.errors import BrokerUnavailable
from gateway.leases.base import Lease
from gateway.leases.redis import RedisLeases
from gateway.redis.keys import Keys
from tests.redis_fixtures import started_shard
from tests.redis_server import RedisServer
from tests.waiting import until


async def take(leases: RedisLeases, anew: bool = False) -> Lease:
    lease = await leases.acquire("room", "n1", anew)
    assert isinstance(lease, Lease)
    return lease


async def test_the_lease_lies_beside_the_channels_stream_and_expires(server: RedisServer) -> None:
    async with started_shard(server.url) as shard:
        leases = RedisLeases(shard)
        lease = await take(leases)
        keys = Keys("gateway")
        with server.client() as client:
            assert client.get(keys.of(b"l", "room").decode()) == lease.fence.encode()
            assert set(client.keys("*")) == {keys.of(b"l", "room"), keys.of(b"n", "room")}
            await leases.finish(lease)
            assert all(client.ttl(key) > 0 for key in client.keys("*"))
            client.expire(keys.of(b"l", "room").decode(), 5)
            await leases.acquire("room", "n2")  # somebody asks: it stays finished
            assert client.ttl(keys.of(b"l", "room").decode()) > 5


async def test_numbers_grow_though_redis_has_lost_them(server: RedisServer) -> None:
    async with started_shard(server.url) as shard:
        leases = RedisLeases(shard)
        lost = await take(leases)
        with server.client() as client:
            client.flushall()
            assert (await take(leases)).number > lost.number
            client.set(shard.keys.of(b"n", "room").decode(), 2**52)  # Redis' clock has gone back
            client.delete(shard.keys.of(b"l", "room").decode())
        assert (await take(leases)).number == 2**52 + 1


async def test_redis_away_and_back() -> None:
    with RedisServer() as own:
        async with started_shard(own.url, io_timeout=0.5) as shard:
            leases = RedisLeases(shard)
            told: list[str] = []
            leases.on_release.append(told.append)
            await leases.start()
            lease = await take(leases)
            own.kill()
            for ask in (leases.renew, leases.release, leases.finish):
                with pytest.raises(BrokerUnavailable):
                    await ask(lease)
            with pytest.raises(BrokerUnavailable):
                await leases.acquire("room", "n1")
            own.start()
            await until(lambda: shard.connected)
            assert not await leases.renew(lease)
            await leases.release(await take(leases))
            await until(lambda: told == ["room"])
            await leases.close()
