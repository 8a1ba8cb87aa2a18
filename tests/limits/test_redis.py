"""Limits in Redis: what is stored, for how long, and what holds while Redis is away."""

import logging

import pytest

from gateway.errors import BrokerUnavailable
from gateway.limits.base import Rate, Window
from gateway.limits.redis import RedisLimits
from tests.redis_fixtures import one_server, redis_url, started_shard
from tests.redis_server import RedisServer
from tests.waiting import until

HOUR = 3_600_000_000


async def test_two_nodes_share_a_budget(shared_server: RedisServer) -> None:
    with redis_url("redis", shared_server) as url:
        async with started_shard(url) as one, started_shard(url) as other:
            assert (await RedisLimits(one).take("l", "ann", Rate(HOUR, 3), 2)).remaining == 1
            assert (await RedisLimits(other).take("l", "ann", Rate(HOUR, 3), 1)).remaining == 0


async def test_keys_carry_a_hash_tag_and_expire(shared_server: RedisServer) -> None:
    with redis_url("redis", shared_server) as url, shared_server.client() as client:
        async with started_shard(url, prefix="mine") as shard:
            limits = RedisLimits(shard)
            await limits.take("5/10s", "ann", Rate(HOUR, 3), 2)
            await limits.take("9/hour", "ann", Window(9, HOUR), 1)
        rate, window = shard.keys.of(b"r", "5:5/10s:ann"), shard.keys.of(b"q", "6:9/hour:ann")
        assert rate.startswith(b"mine:{p")
        assert set(client.keys()) == {rate, window}
        assert 7_100_000 < client.pttl(rate) <= 7_200_000
        assert 0 < client.pttl(window) <= 3_600_000


async def test_a_refusal_does_not_write(shared_server: RedisServer) -> None:
    with redis_url("redis", shared_server) as url, shared_server.client() as client:
        async with started_shard(url) as shard:
            limits = RedisLimits(shard)
            for budget in (Rate(HOUR, 3), Window(3, HOUR * 24 * 300)):
                assert not (await limits.take("l", "ann", budget, 4)).allowed
        assert client.dbsize() == 0


async def test_scripts_are_known_from_the_start(shared_server: RedisServer) -> None:
    with redis_url("redis", shared_server) as url, shared_server.client() as client:
        client.script_flush()
        shard = one_server(url)
        limits = RedisLimits(shard)
        await shard.start()
        try:
            client.config_resetstat()
            await limits.take("l", "ann", Rate(HOUR, 3), 1)
            await limits.take("l", "ann", Window(3, HOUR), 1)
            assert "cmdstat_eval" not in client.info("commandstats")
        finally:
            await shard.close()


async def test_an_outage_is_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "gateway.limits")
    with RedisServer() as server:
        async with started_shard(server.url) as shard:
            limits = RedisLimits(shard)

            async def works() -> bool:
                try:
                    return (await limits.take("l", "ann", Rate(HOUR, 1000), 1)).allowed
                except BrokerUnavailable:
                    return False

            async def fails() -> bool:
                return not await works()

            def warnings() -> int:
                return len([record for record in caplog.records if record.name == "gateway.limits.redis"])

            assert await works()
            server.kill()
            await until(fails)
            assert await fails()
            assert limits.failures == 2
            assert warnings() == 1

            server.start()
            await until(works)
            server.kill()
            await until(fails)
            assert warnings() == 2


async def test_what_redis_says_is_logged_but_not_told(caplog: pytest.LogCaptureFixture) -> None:
    with RedisServer("--maxmemory", "1", "--maxmemory-policy", "noeviction") as server:
        async with started_shard(server.url) as shard:
            with pytest.raises(BrokerUnavailable, match="try again"):
                await RedisLimits(shard).take("l", "ann", Rate(HOUR, 1), 1)
    assert "OOM" in caplog.text
