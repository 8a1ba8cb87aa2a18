"""What every occupancy does, seen from two nodes."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.occupancy.base import Occupancy
from gateway.occupancy.memory import MemoryOccupancy
from gateway.occupancy.postgres import PostgresOccupancy
from gateway.occupancy.redis import RedisOccupancy
from gateway.occupancy.sharded import ShardedOccupancy
from gateway.postgres.database import Database
from gateway.program.engine import one_of
from tests.engines import STORES
from tests.occupancy.recorder import Recorder
from tests.postgres_fixtures import postgres_settings, running
from tests.redis_fixtures import opened_shards

Nodes = tuple[Occupancy, Occupancy]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(params=STORES)
async def nodes(request: pytest.FixtureRequest, recorder: Recorder) -> AsyncIterator[Nodes]:
    """Each implementation, on two nodes that tell the same recorder."""
    if request.param == "memory":
        shared: dict[str, set[str]] = {}
        memory = MemoryOccupancy(shared), MemoryOccupancy(shared)
        for name, each in zip(("n1", "n2"), memory, strict=True):
            await each.start(name, recorder)
        yield memory
        for each in memory:
            await each.close()
        assert shared == {}
        return
    if request.param == "postgres":
        settings = postgres_settings(request.getfixturevalue("postgres_server"))
        databases = Database(settings), Database(settings)
        both = PostgresOccupancy(databases[0]), PostgresOccupancy(databases[1])
        async with running(databases[0]), running(databases[1]):
            for name, own in zip(("n1", "n2"), both, strict=True):
                await own.start(name, recorder)
            yield both
            for own in both:
                await own.close()
        return
    async with opened_shards(request.param, request, 2) as shards:
        one, two = (one_of(ShardedOccupancy, [RedisOccupancy(shard) for shard in each]) for each in shards)
        redis: Nodes = (one, two)
        for name, node in zip(("n1", "n2"), redis, strict=True):
            await node.start(name, recorder)
        yield redis
        for node in redis:
            await node.close()


async def test_first_and_last_are_told_apart(nodes: Nodes, recorder: Recorder) -> None:
    one, two = nodes
    assert await one.enter("room")
    assert not await two.enter("room")
    assert await two.enter("other")
    assert not await one.leave("room")
    assert await two.leave("room")
    assert await one.enter("room")
    assert recorder.events == []  # the answers told it all


async def test_of_many_at_once_one_is_first_and_one_is_last(nodes: Nodes) -> None:
    names = [f"room{number}" for number in range(20)]
    for method in ("enter", "leave"):
        answers = await asyncio.gather(*(getattr(node, method)(name) for name in names for node in nodes))
        assert [sum(answers[index : index + 2]) for index in range(0, 40, 2)] == [1] * 20


async def test_calls_are_served_in_order(nodes: Nodes) -> None:
    one, two = nodes
    answers = await asyncio.gather(one.enter("room"), one.leave("room"), one.enter("room"), one.leave("room"))
    assert all(answers)
    assert await two.enter("room")


async def test_leaving_what_was_not_entered_is_no_change(nodes: Nodes) -> None:
    one, two = nodes
    assert not await one.leave("room")
    await two.enter("room")
    assert not await one.leave("room")
    assert await two.leave("room")
    assert not await two.leave("room")


async def test_a_node_that_closes_leaves_everything(nodes: Nodes, recorder: Recorder) -> None:
    one, two = nodes
    for name in ("a", "b", "c"):
        await one.enter(name)
    await two.enter("b")
    await one.close()
    assert sorted(recorder.events) == ["-a", "-c"]
    assert await two.leave("b")
    assert await two.enter("a")
