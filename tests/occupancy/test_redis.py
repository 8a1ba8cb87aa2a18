"""Occupancy in Redis when nodes die, leases are lost and Redis goes away."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.errors import BrokerUnavailable
from gateway.occupancy.redis import RedisOccupancy
from gateway.redis import owned as module
from gateway.redis.owned import Intervals
from tests.occupancy.recorder import Recorder
from tests.redis.owners import certain, doubt, freeze, keys
from tests.redis_fixtures import started_shard
from tests.redis_server import RedisServer
from tests.waiting import until


@asynccontextmanager
async def node(
    server: RedisServer, name: str, recorder: Recorder, *, lease: float = 0.5, sweep: float = 0.1
) -> AsyncIterator[RedisOccupancy]:
    async with started_shard(server.url, io_timeout=0.5) as shard:
        occupancy = RedisOccupancy(shard, Intervals(lease, lease / 5, sweep))
        await occupancy.start(name, recorder)
        try:
            yield occupancy
        finally:
            await occupancy.close()


async def die(occupancy: RedisOccupancy) -> None:
    """End a node's part as kill -9 would: nothing is given back, and ``close`` finds nothing."""
    await freeze(occupancy)
    occupancy._states.clear()
    occupancy._owned._names = ()


async def entered(server: RedisServer, channel: str, *nodes: RedisOccupancy) -> None:
    """Wait until exactly these nodes are in a channel, each under its present name, and none is about to start over."""

    def settled() -> bool:
        with server.client() as client:
            owners = client.smembers(nodes[0]._keys.of(b"o", channel))
        calm = all(certain(each) and each._shard.connected for each in nodes)
        return calm and owners == {each._owned.owner.encode() for each in nodes}

    await until(settled)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


async def test_what_a_dead_node_was_last_in_is_vacated_once(server: RedisServer, recorder: Recorder) -> None:
    async with (
        node(server, "n1", recorder) as one,
        node(server, "n2", recorder) as two,
        node(server, "n3", recorder) as three,
    ):
        for number in range(10):
            assert await three.enter(f"room{number}")
        assert not await one.enter("room3")
        await die(three)
        await until(lambda: keys(server, "*n3*") == [b"gateway:occupancy:swept:n3.1"])
        assert sorted(recorder.events) == sorted(f"-room{number}" for number in range(10) if number != 3)
        assert await two.enter("room1")
        assert await one.leave("room3")


async def test_one_who_comes_before_the_dead_are_swept_is_not_first(server: RedisServer, recorder: Recorder) -> None:
    async with node(server, "n1", recorder, sweep=60) as one, node(server, "n2", recorder) as two:
        await two.enter("room")
        await die(two)
        assert not await one.enter("room")  # nobody has been told that it was vacated
        await until(lambda: keys(server, "*lease:n2.1") == [])
        await one._owned._sweep_dead()
        assert recorder.events == []
        assert await one.leave("room")


async def test_starting_over_is_no_event(server: RedisServer, recorder: Recorder) -> None:
    async with node(server, "n1", recorder) as one, node(server, "n2", recorder) as two:
        await one.enter("room")
        one._owned._server = b"another"
        doubt(one)
        await until(lambda: one._owned.owner == "n1.2" and certain(one))
        await until(lambda: keys(server, "*n1.1*") == [])
        assert not await two.enter("room")
        assert not await one.leave("room")
        assert recorder.events == []


async def test_a_lost_lease_brings_everything_back_and_tells(server: RedisServer, recorder: Recorder) -> None:
    async with node(server, "n1", recorder) as one, node(server, "n2", recorder) as two:
        await one.enter("room")
        await two.enter("room")
        with server.client() as client:
            client.flushall()
        # Redis knew nothing any more, so the first to come back is told that it is the first.
        await until(lambda: recorder.events == ["+room"])
        await entered(server, "room", one, two)
        assert not await one.leave("room")
        assert await two.leave("room")
        assert recorder.events == ["+room"]


async def test_what_could_not_be_told_is_told_when_redis_is_back(recorder: Recorder) -> None:
    with RedisServer("--appendonly", "yes", "--appendfsync", "always") as own:
        async with node(own, "n1", recorder) as one, node(own, "n2", recorder) as two:
            assert await one.enter("left")
            assert await one.enter("shared")
            assert not await two.enter("shared")
            own.stop()
            assert not await one.enter("new")
            assert not await one.leave("left")
            assert not await one.leave("shared")
            own.start()
            await until(lambda: sorted(recorder.events) == ["+new", "-left"])
            await entered(own, "shared", two)
            assert await two.leave("shared")
            await entered(own, "new", one)
            assert await one.leave("new")
        assert sorted(recorder.events) == ["+new", "-left"]


async def test_unanswered_changes_are_told_though_redis_made_them(
    server: RedisServer, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node(server, "n1", recorder, lease=60) as one, node(server, "n2", recorder, lease=60) as two:
        assert await one.enter("left")
        run = one._shard.run

        async def unanswered(*call: Any) -> None:
            await run(*call)
            raise BrokerUnavailable

        with monkeypatch.context() as patch:
            patch.setattr(one._shard, "run", unanswered)
            assert not await one.enter("new")
            assert not await one.leave("left")
        assert not await two.enter("new")
        assert await two.leave("new") is False
        assert recorder.events == []
        one._owned._renew_now.set()
        await until(lambda: sorted(recorder.events) == ["+new", "-left"])
        await entered(server, "new", one)
        assert await one.leave("new")


async def test_who_comes_before_an_unanswered_enter_is_made_good_takes_nothing_away(
    server: RedisServer, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node(server, "n1", recorder, lease=60) as one, node(server, "n2", recorder, lease=60) as two:
        run = one._shard.run

        async def unanswered(*call: Any) -> None:
            await run(*call)
            raise BrokerUnavailable

        with monkeypatch.context() as patch:
            patch.setattr(one._shard, "run", unanswered)
            assert not await one.enter("room")
        assert not await two.enter("room")
        one._owned._renew_now.set()
        await until(lambda: recorder.events == ["+room"])
        await entered(server, "room", one, two)
        assert not await one.leave("room")
        assert await two.leave("room")


async def test_starting_over_that_fails_is_begun_again(
    server: RedisServer, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node(server, "n1", recorder) as one, node(server, "n2", recorder) as two:
        assert await one.enter("room")
        failures = 0

        async def away(*_call: object, **_how: bool) -> None:
            nonlocal failures
            failures += 1
            raise BrokerUnavailable

        with monkeypatch.context() as patch:
            patch.setattr(one, "_write", away)
            one._owned._server = b"another"
            doubt(one)
            await until(lambda: failures > 1)
        await entered(server, "room", one)
        assert one._owned.owner == "n1.2"
        assert not await two.enter("room")
        assert await two.leave("room") is False
        assert await one.leave("room")
        assert recorder.events == []


async def test_an_unanswered_leave_is_overtaken_by_entering_again(recorder: Recorder) -> None:
    with RedisServer() as own:
        async with node(own, "n1", recorder) as one:
            assert await one.enter("room")
            own.kill()
            assert not await one.leave("room")
            assert not await one.enter("room")
            own.start()
            await until(lambda: recorder.events == ["+room"])
            await entered(own, "room", one)
            assert await one.leave("room")


async def test_closing_without_redis_leaves_it_to_the_sweeper(server: RedisServer, recorder: Recorder) -> None:
    with RedisServer("--appendonly", "yes", "--appendfsync", "always") as own:
        async with node(own, "n1", recorder) as one:
            async with node(own, "n2", recorder) as two:
                await two.enter("room")
                own.stop()
            own.start()
            await until(lambda: recorder.events == ["-room"])
            assert await one.enter("room")
            own.kill()


async def test_closing_with_nothing_entered_and_redis_away(recorder: Recorder) -> None:
    with RedisServer() as own:
        async with node(own, "n1", recorder):
            own.kill()
    assert recorder.events == []


async def test_many_are_left_in_batches(
    server: RedisServer, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 3)
    async with node(server, "n1", recorder) as one:
        for number in range(10):
            await one.enter(f"room{number}")
        with server.client() as client:
            assert {key: client.ttl(key) for key in client.keys("*") if client.ttl(key) < 0} == {}
    assert sorted(recorder.events) == [f"-room{number}" for number in range(10)]
    assert keys(server, "*room*") == keys(server, "*n1*") == []
