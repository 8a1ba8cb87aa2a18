"""What every block list does, seen from two nodes."""

import time
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.blocks import base, memory, postgres, redis
from gateway.blocks.base import FOR_EVER, BlockStore, block_seconds
from gateway.blocks.memory import MemoryBlocks
from gateway.blocks.postgres import PostgresBlocks
from gateway.blocks.redis import RedisBlocks
from gateway.blocks.sharded import ShardedBlocks
from gateway.errors import Error
from gateway.postgres.database import Database
from gateway.program.engine import one_of
from tests.blocks.recorder import Recorder
from tests.engines import STORES
from tests.postgres_fixtures import postgres_settings, running
from tests.redis_fixtures import opened_shards
from tests.waiting import until

HOUR = 3600.0

Make = Callable[[], BlockStore]

SHORT = 0.001


async def block_shortly(blocks: BlockStore, user: str) -> None:
    """Block a user, and wait until that is over."""
    await blocks.block(user, SHORT)
    end = time.time() + SHORT
    await until(lambda: time.time() > end)


@pytest.fixture(params=STORES)
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Makes the list of one more node."""
    if request.param == "memory":
        shared = MemoryBlocks()
        yield lambda: MemoryBlocks(other=shared)
        return
    if request.param == "postgres":
        settings = postgres_settings(request.getfixturevalue("postgres_server"))
        databases = Database(settings), Database(settings)
        lists = [PostgresBlocks(each) for each in databases]
        async with running(databases[0]), running(databases[1]):
            yield lambda: lists.pop(0)
        return
    async with opened_shards(request.param, request, 2) as nodes:
        yield lambda: one_of(ShardedBlocks, [RedisBlocks(shard) for shard in nodes.pop(0)])


async def test_all_nodes_are_told_and_those_that_come_later(make: Make) -> None:
    one, two, first, second = make(), make(), Recorder(), Recorder()
    await one.start(first)
    assert first.events == ["list"]
    for user, seconds in (("ann", FOR_EVER), ("bob", HOUR), ("ü:1\n", 2 * HOUR), ("", HOUR)):
        await one.block(user, seconds)
    await until(lambda: len(first.events) == 5)
    expected = {"ann": "ever", "bob": 1, "ü:1\n": 2, "": 1}
    assert first.shown == expected
    await two.start(second)
    assert second.shown == expected
    await two.unblock("ann")
    await two.block("bob", 3 * HOUR)
    await until(lambda: first.events[5:] == ["-ann", "+bob"])
    assert first.shown == {"bob": 3, "ü:1\n": 2, "": 1}
    await one.close()
    await two.close()


async def test_what_has_ended_is_told_to_nobody(make: Make) -> None:
    one, two, first, second = make(), make(), Recorder(), Recorder()
    await one.start(first)
    await block_shortly(one, "ann")
    await one.block("bob", HOUR)
    await until(lambda: "+bob" in first.events)
    await two.start(second)
    assert second.shown == {"bob": 1}
    await one.close()
    await two.close()


async def test_unblocking_who_is_not_blocked_is_nothing(make: Make) -> None:
    one, first = make(), Recorder()
    await one.start(first)
    await one.unblock("nobody")
    assert first.users == {}
    await one.close()


async def test_there_is_an_end_to_it(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (base, memory, postgres, redis):
        monkeypatch.setattr(module, "MOST", 2)
    one, first = make(), Recorder()
    await one.start(first)
    await one.block("ann", HOUR)
    await block_shortly(one, "bob")
    await one.block("ann", 2 * HOUR)
    await one.block("eve", HOUR)  # in the place of bob, whose time has passed
    with pytest.raises(Error, match="106 limit exceeded: 2 users are blocked") as caught:
        await one.block("dan", HOUR)
    assert caught.value.code == 106
    await one.block("eve", 3 * HOUR)
    await one.unblock("ann")
    await one.block("dan", HOUR)
    await until(lambda: "+dan" in first.events)
    assert first.shown == {"bob": 0, "eve": 3, "dan": 1}
    await one.close()


async def test_a_node_that_has_closed_hears_no_more(make: Make) -> None:
    one, two, first, second = make(), make(), Recorder(), Recorder()
    await one.start(first)
    await two.start(second)
    await one.close()
    await one.close()
    await two.block("ann", HOUR)
    await until(lambda: second.shown == {"ann": 1})
    assert first.events == ["list"]
    await two.close()


@pytest.mark.parametrize("wrong", [0, -1, float("nan")])
def test_a_block_lasts_a_while(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"for_ = .* must be positive: seconds, as for_=600"):
        block_seconds(wrong)
    assert block_seconds(1e17) == block_seconds(None) == FOR_EVER
