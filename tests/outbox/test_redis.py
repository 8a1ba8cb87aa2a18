"""The outbox in Redis when nodes die, leases are lost and Redis goes away."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.errors import BrokerUnavailable
from gateway.outbox.base import Event, Outbox, Rules
from gateway.outbox.redis import RedisOutbox
from gateway.redis.owned import Intervals
from tests.outbox.nodes import drain, due, place, said
from tests.redis.owners import certain, doubt, freeze, keys
from tests.redis_fixtures import started_shard
from tests.redis_server import RedisServer
from tests.waiting import until

KEY = "k3y0example"


@asynccontextmanager
async def node(
    server: RedisServer, name: str, *, lease: float = 0.5, sweep: float = 0.1, delay: float = 0.0
) -> AsyncIterator[RedisOutbox]:
    async with started_shard(server.url, io_timeout=0.5) as shard:
        outbox = RedisOutbox(shard, Rules(delay=delay), Intervals(lease, lease / 5, sweep))
        await outbox.start(name)
        try:
            yield outbox
        finally:
            await outbox.close()


async def die(outbox: RedisOutbox) -> None:
    """End a node's part as kill -9 would: nothing is given back, and ``close`` finds nothing."""
    await freeze(outbox)
    outbox._there.clear()
    outbox._owned._names = ()


async def until_said(outbox: Outbox, *expected: str) -> None:
    async def told() -> bool:
        return len(await due(outbox)) >= len(expected)

    await until(told)
    assert said(await due(outbox)) == [*expected]


async def settled(server: RedisServer, *nodes: RedisOutbox) -> None:
    await until(lambda: all(certain(each) and each._shard.connected for each in nodes))


async def test_what_a_dead_node_was_last_in_is_vacated_once(server: RedisServer) -> None:
    async with node(server, "n1") as one, node(server, "n2") as two, node(server, "n3") as three:
        for number in range(10):
            await three.enter(place(f"presence-{number}", "17"), KEY)
        await one.enter(place("presence-3", "17"), KEY)
        assert len(await drain(one)) == 10
        await die(three)
        await until(lambda: keys(server, "*n3*") == [b"gateway:outbox:swept:n3.1"])
        assert sorted(said(await drain(two))) == sorted(f"-presence-{number}/17" for number in range(10) if number != 3)
        await one.leave(place("presence-3", "17"))
        assert said(await drain(two)) == ["-presence-3/17"]


async def test_what_a_dead_node_has_kept_is_told_by_another(server: RedisServer) -> None:
    async with node(server, "n1") as one:
        async with node(server, "n2", lease=60) as two:
            await two.enter(place("a"), KEY)
            await two.add("9001", KEY, b'{"name":"client_event","channel":"a"}')
            await die(two)
        assert (await one.waiting("9001", 9)).key == KEY
        assert said(await due(one)) == ["+a", "client_event a"]


async def test_who_comes_before_the_dead_are_swept_changes_nothing(server: RedisServer) -> None:
    async with node(server, "n1", sweep=60) as one, node(server, "n2", sweep=60) as two:
        await two.enter(place("room"), KEY)
        await die(two)
        await one.enter(place("room"), KEY)
        await until(lambda: keys(server, "*lease:n2.1") == [])
        await one._owned._sweep_dead()
        assert said(await due(one)) == ["+room"]


async def test_who_comes_in_time_after_a_node_has_died_takes_its_departure_back(server: RedisServer) -> None:
    async with node(server, "n1", delay=600) as one, node(server, "n2") as two:
        two.rules = Rules(delay=600)
        await two.enter(place("room"), KEY)
        await drain(one)
        await die(two)
        await until(lambda: keys(server, "*n2*") == [b"gateway:outbox:swept:n2.1"])
        assert keys(server, "*:wh:*") != []
        await one.enter(place("room"), KEY)
        assert keys(server, "*:wh:*") == keys(server, "*:wq:*") == []


async def test_starting_over_is_no_event(server: RedisServer) -> None:
    async with node(server, "n1") as one, node(server, "n2") as two:
        await one.enter(place("room"), KEY)
        one._owned._server = b"another"
        doubt(one)
        await until(lambda: one._owned.owner == "n1.2" and certain(one))
        await until(lambda: keys(server, "*n1.1*") == [])
        await two.enter(place("room"), KEY)
        await one.leave(place("room"))
        assert said(await due(one)) == ["+room"]


async def test_a_node_that_was_swept_while_it_lived_is_in_again(server: RedisServer) -> None:
    async with node(server, "n1") as one, node(server, "n2") as two:
        await two.enter(place("room"), KEY)
        await freeze(two)
        await until_said(one, "+room", "-room")
        await two._owned.start("n2")
        await until_said(one, "+room", "-room", "+room")


async def test_what_changed_while_redis_was_away_is_told_when_it_is_back() -> None:
    with RedisServer("--appendonly", "yes", "--appendfsync", "always") as own:
        async with node(own, "n1") as one, node(own, "n2") as two:
            await one.enter(place("left"), KEY)
            await one.enter(place("shared"), KEY)
            await two.enter(place("shared"), KEY)
            own.stop()
            await one.enter(place("new"), KEY)
            await one.enter(place("brief"), KEY)
            await one.leave(place("brief"))
            await one.leave(place("left"))
            await one.leave(place("shared"))
            with pytest.raises(BrokerUnavailable):
                await one.add("9001", KEY, b"{}")
            own.start()
            await settled(own, one, two)
            events = said(await due(two))
            assert events[:2] == ["+left", "+shared"]
            assert sorted(events[2:]) == ["+new", "-left"]


async def test_who_has_left_does_not_stay_in_an_older_state_of_redis() -> None:
    with RedisServer() as own:
        async with node(own, "n1") as one, node(own, "n2") as two:
            await one.enter(place("left"), KEY)
            await one.enter(place("stays"), KEY)
            with own.client() as client:
                client.save()
            await one.enter(place("new"), KEY)
            await one.leave(place("left"))
            before = await drain(two)
            assert said(before) == ["+left", "+stays", "+new", "-left"]
            own.kill()
            own.start()
            await until(lambda: one._owned.owner == "n1.2" and two._owned.owner == "n2.2")
            await settled(own, one, two)
            await until_said(two, "+left", "+stays", "+new", "-left")
            after = await drain(two)
            assert [event.id for event in after[:2]] == [event.id for event in before[:2]]
            await one.leave(place("stays"))
            assert said(await drain(two)) == ["-stays"]


async def test_an_answer_that_is_lost_costs_no_event_and_makes_no_second(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node(server, "n1", lease=60) as one:
        run = one._shard.run

        async def unanswered(*call: Any) -> None:
            await run(*call)
            raise BrokerUnavailable

        with monkeypatch.context() as patch:
            patch.setattr(one._shard, "run", unanswered)
            await one.enter(place("a"), KEY)
            await one.leave(place("a"))
        one._owned._renew_now.set()
        await settled(server, one)
        await until(lambda: not one._there)
        assert said(await due(one)) == ["+a", "-a"]


async def test_ids_grow_though_redis_has_lost_everything(server: RedisServer) -> None:
    async with node(server, "n1", lease=60) as one:
        await one.add("9001", KEY, b"{}")
        [before] = await due(one)
        with server.client() as client:
            client.flushall()
        await one.add("9001", KEY, b"{}")
        [after] = await due(one)
        assert int(after.id) > int(before.id)


async def test_the_clock_of_another_server_does_not_go_back(server: RedisServer) -> None:
    async with node(server, "n1", lease=60) as one:
        ahead = 4_000_000_000_000_000
        with server.client() as client:
            client.hset(one._keys.of(b"wm", "9001"), "last", ahead)
        await one.add("9001", KEY, b"{}")
        await one.add("9001", KEY, b"{}")
        assert [int(event.id) for event in await due(one)] == [ahead + 1, ahead + 2]


async def test_who_sweeps_need_not_know_the_app(server: RedisServer) -> None:
    async with node(server, "n1") as one, node(server, "n2") as two:
        await two.enter(place("room"), KEY)
        await die(two)
        await until_said(one, "+room", "-room")
        assert (await one.waiting("9001", 9)).key == KEY


async def test_nothing_stays_of_what_has_been_told(server: RedisServer) -> None:
    async with node(server, "n1", delay=0.02) as one:
        await one.enter(place("presence-a", "17"), KEY)
        await one.leave(place("presence-a", "17"))
        told: list[Event] = []

        async def both() -> bool:
            told.extend(await drain(one))
            return len(told) == 2

        await until(both)
        await one.waiting("9001", 9)
        left = [key for key in keys(server, "*") if b":wm:" not in key and b":outbox" not in key]
        assert left == []
        with server.client() as client:
            assert all(client.pttl(key) > 0 for key in keys(server, "*"))
