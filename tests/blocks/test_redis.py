"""The block list in Redis when nodes and Redis come and go."""

import asyncio
from typing import Any

import pytest

from gateway.blocks import redis as module
from gateway.blocks.redis import RedisBlocks
from gateway.errors import BrokerUnavailable
from gateway.redis.server import Server
from tests.blocks.recorder import Recorder
from tests.redis_fixtures import started_shard
from tests.redis_server import RedisServer
from tests.waiting import until

HOUR = 3600.0


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY", 0.02)


def ttl(server: RedisServer) -> int:
    """Milliseconds that the list lasts; -1 without end, -2 if there is none."""
    with server.client() as client:
        found: int = client.pttl("gateway:blocks")
        return found


async def test_the_list_outlives_its_nodes_and_lasts_as_long_as_the_last_block(server: RedisServer) -> None:
    async with started_shard(server.url) as shard:
        blocks = RedisBlocks(shard)
        await blocks.block("ann", HOUR)
        assert HOUR * 990 < ttl(server) <= HOUR * 1000
        await blocks.block("bob", float("inf"))
        assert ttl(server) == -1
        await blocks.block("bob", 2 * HOUR)
        assert HOUR * 1990 < ttl(server) <= HOUR * 2000
        await blocks.unblock("bob")
        await blocks.block("ann", 0.01)
        await until(lambda: ttl(server) == -2)


async def test_a_long_list_is_read_in_pages(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with server.client() as client:
        client.zadd("gateway:blocks", {f"user {number}": float("inf") for number in range(3000)})
    async with started_shard(server.url) as shard:
        asked: list[Any] = []
        execute = shard.execute

        def counting(*command: Any) -> asyncio.Future[Any]:
            asked.append(command[0])
            return execute(*command)

        monkeypatch.setattr(shard, "execute", counting)
        recorder = Recorder()
        blocks = RedisBlocks(shard)
        await blocks.start(recorder)
        assert len(recorder.users) == 3000
        assert asked.count("ZSCAN") > 2
        await blocks.close()


async def test_what_is_heard_while_the_list_is_read_is_newer(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with started_shard(server.url) as one, started_shard(server.url) as two:
        blocks, other, recorder = RedisBlocks(one), RedisBlocks(two), Recorder()
        await other.block("ann", HOUR)
        execute = one.execute

        async def late(*command: Any) -> Any:
            answer = await execute(*command)
            if command[0] == "ZSCAN":
                await other.unblock("ann")
                await other.block("bob", HOUR)
                await until(lambda: "+bob" in recorder.events)
            return answer

        monkeypatch.setattr(one, "execute", late)
        await blocks.start(recorder)
        assert recorder.events == ["-ann", "+bob", "list"]
        assert recorder.shown == {"bob": 1}
        await blocks.close()


async def test_who_was_cut_off_asks_what_is_true(server: RedisServer) -> None:
    async with started_shard(server.url) as one, started_shard(server.url) as two:
        blocks, other, recorder = RedisBlocks(one), RedisBlocks(two), Recorder()
        await blocks.start(recorder)
        await blocks.block("ann", HOUR)
        await until(lambda: recorder.shown == {"ann": 1})
        assert one._subscriber.connection is not None
        one._subscriber.connection.drop("cut off")
        await other.unblock("ann")
        await other.block("bob", HOUR)
        await until(lambda: recorder.shown == {"bob": 1})
        await other.block("eve", HOUR)
        await until(lambda: recorder.shown == {"bob": 1, "eve": 1})
        await blocks.close()


async def test_a_node_may_start_before_redis(caplog: pytest.LogCaptureFixture) -> None:
    with RedisServer() as own:
        own.stop()
        async with started_shard(own.url) as shard:
            blocks, recorder = RedisBlocks(shard), Recorder()
            await blocks.start(recorder)
            assert recorder.events == []
            with pytest.raises(BrokerUnavailable):
                await blocks.block("ann", HOUR)
            assert recorder.users == {}
            own.start()
            with own.client() as client:
                client.zadd("gateway:blocks", {"bob": float("inf")})
            await until(lambda: recorder.shown == {"bob": "ever"})
            assert caplog.text.count("the block list cannot be read until Redis") == 1
            await until(lambda: connected(shard))
            await blocks.block("ann", HOUR)
            await until(lambda: recorder.shown == {"bob": "ever", "ann": 1})
            await blocks.close()


async def test_what_goes_wrong_is_tried_again(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    with server.client() as client:
        client.set("gateway:blocks", "not a list")
    async with started_shard(server.url) as shard:
        blocks, recorder = RedisBlocks(shard), Recorder()
        await blocks.start(recorder)
        assert recorder.events == []
        with server.client() as client:
            client.delete("gateway:blocks")
        await until(lambda: recorder.events == ["list"])
        await blocks.close()


def connected(shard: Server) -> bool:
    return shard.connected
