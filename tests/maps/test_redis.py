"""What Redis alone can do to maps: lose a part of one."""

import math
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from gateway.maps.base import MapOptions
from gateway.maps.redis import _OVERDUE, RedisMaps
from gateway.messages import Payload, Publication
from gateway.redis.resp import Argument
from gateway.redis.script import Script
from tests.redis_fixtures import redis_url, started_shard
from tests.redis_server import RedisServer
from tests.waiting import until

PERSISTENT = MapOptions(mode="persistent", history_size=100, history_ttl=60.0, history_meta_ttl=math.inf)
EPHEMERAL = MapOptions(mode="ephemeral", key_ttl=60.0)
BRIEF = MapOptions(mode="ephemeral", key_ttl=0.05)


@pytest.fixture
async def maps(shared_server: RedisServer) -> AsyncIterator[RedisMaps]:
    with redis_url("redis", shared_server) as url:
        async with started_shard(url) as shard:
            yield RedisMaps(shard)


async def put(maps: RedisMaps, key: str, options: MapOptions = PERSISTENT) -> tuple[int, str]:
    receipt = await maps.publish("m", Publication(Payload(b"1"), key=key), options)
    return receipt.offset, receipt.epoch


def key_of(server: RedisServer, kind: str) -> bytes:
    with server.client() as client:
        [found] = client.keys(f"*:{kind}:m")
    name: bytes = found
    return name


@pytest.mark.parametrize("kind", ["km", "kv", "kn"])
async def test_a_map_that_has_lost_a_part_begins_anew(maps: RedisMaps, shared_server: RedisServer, kind: str) -> None:
    await put(maps, "a")
    _, epoch = await put(maps, "b")
    with shared_server.client() as client:
        client.delete(key_of(shared_server, kind))
    page = await maps.read_state("m", PERSISTENT, 100)
    assert (page.entries, page.position.offset) == ([], 0)
    assert page.position.epoch != epoch
    assert await put(maps, "c") == (1, page.position.epoch)


async def test_a_stream_alone_that_is_lost_costs_no_entries(maps: RedisMaps, shared_server: RedisServer) -> None:
    _, epoch = await put(maps, "a")
    with shared_server.client() as client:
        client.delete(key_of(shared_server, "ks"))
    assert await put(maps, "b") == (2, epoch)
    assert len((await maps.read_state("m", PERSISTENT, 100)).entries) == 2


async def test_a_key_that_is_renewed_while_it_is_being_removed_stays(
    maps: RedisMaps, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = maps._shard.run
    renewed: list[bool] = []

    async def run_and_renew(script: Script, keys: Sequence[Argument], args: Sequence[Argument]) -> Any:
        answer = await run(script, keys, args)
        if script is _OVERDUE and answer:
            await put(maps, "a", EPHEMERAL)
            renewed.append(True)
        return answer

    monkeypatch.setattr(maps._shard, "run", run_and_renew)
    await put(maps, "a", BRIEF)

    async def swept() -> bool:
        await maps.sweep(lambda _channel: BRIEF)
        return bool(renewed)

    await until(swept)
    assert await maps.count("m") == 1


@pytest.mark.parametrize("kind", ["kv", "kn"])
async def test_an_ephemeral_map_has_all_of_a_key_or_nothing(
    maps: RedisMaps, shared_server: RedisServer, kind: str
) -> None:
    await put(maps, "a", EPHEMERAL)
    with shared_server.client() as client:
        client.delete(key_of(shared_server, kind))
    await put(maps, "b", EPHEMERAL)
    assert [each.key for each in (await maps.read_state("m", EPHEMERAL, 100)).entries] == ["b"]
    assert await maps.count("m") == 1


async def test_a_persistent_map_never_ends_and_what_ends_leaves_nothing(
    maps: RedisMaps, shared_server: RedisServer
) -> None:
    await maps.read_state("m", PERSISTENT, 1)  # whose epoch would end
    await put(maps, "a")
    await maps.read_state("m", PERSISTENT, 1)
    with shared_server.client() as client:
        kept = {name: client.ttl(name) for name in client.keys("*:m") if b":ks:" not in name}
        assert set(kept.values()) == {-1}
        client.flushall()
        await put(maps, "a", EPHEMERAL)
        await maps.remove("m", "a", EPHEMERAL)
        await maps.sweep(lambda _channel: EPHEMERAL)
        assert client.keys("*:k[mskvnd]:*") == []
