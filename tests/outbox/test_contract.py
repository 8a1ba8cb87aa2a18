"""What every outbox does, seen from two nodes."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest

from gateway.outbox.base import Outbox, OutboxFull, Rules
from gateway.outbox.memory import Kept, MemoryOutbox
from gateway.outbox.redis import RedisOutbox
from gateway.outbox.sharded import ShardedOutbox
from gateway.program.engine import one_of
from gateway.redis.shard import Shard
from tests.outbox.nodes import drain, due, place, said
from tests.redis_fixtures import REDISES, opened_shards, started_shard
from tests.redis_server import RedisServer
from tests.waiting import until

Nodes = tuple[Outbox, Outbox]

KEY = "k3y0example"


async def opened(request: pytest.FixtureRequest, rules: Rules) -> AsyncIterator[Nodes]:
    """Each implementation, on two nodes."""
    if request.param == "memory":
        shared: dict[str, Kept] = {}
        memory = MemoryOutbox(rules, apps=shared), MemoryOutbox(rules, apps=shared)
        for name, each in zip(("n1", "n2"), memory, strict=True):
            await each.start(name)
        yield memory
        for each in memory:
            await each.close()
        return
    async with opened_shards(request.param, request, 2) as shards:
        redis = _over(shards[0], rules), _over(shards[1], rules)
        for name, node in zip(("n1", "n2"), redis, strict=True):
            await node.start(name)
        yield redis
        for node in redis:
            await node.close()


def _over(shards: list[Shard], rules: Rules) -> Outbox:
    parts: list[Outbox] = [RedisOutbox(shard, rules) for shard in shards]
    return one_of(ShardedOutbox, parts)


KINDS = ["memory", *REDISES]


@pytest.fixture(params=KINDS)
async def nodes(request: pytest.FixtureRequest) -> AsyncIterator[Nodes]:
    """Those that tell of departures at once."""
    async for each in opened(request, Rules(delay=0, dead_letters=3, most=5)):
        yield each


@pytest.fixture(params=KINDS)
async def patient(request: pytest.FixtureRequest) -> AsyncIterator[Nodes]:
    """Those that wait for who comes back, longer than a test takes."""
    async for each in opened(request, Rules(delay=600)):
        yield each


async def test_one_event_for_the_first_who_comes_and_the_last_who_goes(nodes: Nodes) -> None:
    one, two = nodes
    await one.enter(place("news"), KEY)
    await two.enter(place("news"), KEY)
    await two.enter(place("news"), KEY)
    await one.leave(place("news"))
    await one.leave(place("news"))
    assert said(await due(one)) == ["+news"]
    await two.leave(place("news"))
    assert said(await drain(one)) == ["+news", "-news"]
    assert await due(two) == []


async def test_calls_are_served_in_order(nodes: Nodes) -> None:
    one, two = nodes
    here = place("news")
    await asyncio.gather(one.enter(here, KEY), one.leave(here), one.enter(here, KEY))
    assert said(await drain(two)) == ["+news", "-news", "+news"]
    await one.close()
    assert said(await drain(two)) == ["-news"]
    await two.enter(here, KEY)
    assert said(await due(two)) == ["+news"]


async def test_members_are_places_of_their_own(nodes: Nodes) -> None:
    one, two = nodes
    await one.enter(place("presence-a"), KEY)
    await one.enter(place("presence-a", "17"), KEY)
    await two.enter(place("presence-a", "17"), KEY)
    await two.enter(place("presence-a", "23"), KEY)
    await one.leave(place("presence-a", "17"))
    assert said(await drain(two)) == ["+presence-a", "+presence-a/17", "+presence-a/23"]
    await two.leave(place("presence-a", "17"))
    [gone] = await drain(two)
    assert json.loads(gone.body) == {"name": "member_removed", "channel": "presence-a", "user_id": "17"}


async def test_of_many_at_once_one_is_first_and_one_is_last(patient: Nodes) -> None:
    names = [f"room{number}" for number in range(20)]
    await asyncio.gather(*(node.enter(place(name), KEY) for name in names for node in patient))
    assert sorted(said(await drain(patient[0]))) == sorted(f"+{name}" for name in names)


async def test_who_comes_back_in_time_has_not_been_away(patient: Nodes) -> None:
    one, two = patient
    await one.enter(place("news"), KEY)
    assert said(await drain(one)) == ["+news"]
    for _ in range(2):
        await one.leave(place("news"))
        await two.enter(place("news"), KEY)
        await one.enter(place("news"), KEY)
        await two.leave(place("news"))
    assert await due(one) == []
    await one.leave(place("news"))
    waiting = await one.pending()
    assert waiting == ["9001"]
    assert await due(one) == []  # not yet


async def test_events_are_in_order_and_their_names_grow(nodes: Nodes) -> None:
    one, two = nodes
    for number in range(5):
        await (one, two)[number % 2].add("9001", KEY, b'{"name":"client_event","channel":"private-%d"}' % number)
    events = await due(two)
    assert said(events) == [f"client_event private-{number}" for number in range(5)]
    ids = [int(event.id) for event in events]
    assert ids == sorted(set(ids))
    assert abs(events[0].time - time.time()) < 60
    assert said(await due(two, limit=2)) == ["client_event private-0", "client_event private-1"]


async def test_apps_are_apart_and_found_by_a_key(nodes: Nodes) -> None:
    one, two = nodes
    await one.enter(place("news", app="1"), "a")
    await two.enter(place("news", app="2"), "b")
    assert sorted(await one.pending()) == ["1", "2"]
    assert [(await one.waiting(app, 9)).key for app in ("1", "2")] == ["a", "b"]
    await drain(one, "1")
    await one.waiting("1", 9)
    assert await two.pending() == ["2"]


async def test_what_is_sorted_is_told_to_each_target_for_itself(nodes: Nodes) -> None:
    one, two = nodes
    await one.enter(place("a"), KEY)
    await one.enter(place("b"), KEY)
    events = await due(one)
    assert await one.sort("9001", [(events[0], ["x", "y"]), (events[1], ["y"])]) == 0
    assert await two.sort("9001", [(events[0], ["x", "y"]), (events[1], ["y"])]) == 0  # has been done
    waiting = await two.waiting("9001", 9)
    assert not waiting.due
    assert waiting.targets == {"x", "y"}
    assert said(await two.of("9001", "y", 9)) == ["+a", "+b"]
    assert said(await two.of("9001", "y", 1)) == ["+a"]
    await two.settle("9001", "y", events[:1])
    await one.settle("9001", "y", events[:1])
    assert said(await one.of("9001", "y", 9)) == ["+b"]
    await two.settle("9001", "x", events)
    assert (await two.waiting("9001", 9)).targets == {"y"}
    assert await two.pending() == ["9001"]
    await two.settle("9001", "y", events)
    await one.sort("9001", [(event, ["x"]) for event in events])  # by one who is late
    await one.put_aside("9001", "y", events)
    await two.waiting("9001", 9)
    assert await one.pending() == []
    assert await one.dead_letters("9001") == []


async def test_an_event_that_nobody_wants_is_gone(nodes: Nodes) -> None:
    one, _ = nodes
    await one.enter(place("a"), KEY)
    await one.sort("9001", [(event, []) for event in await due(one)])
    waiting = await one.waiting("9001", 9)
    assert not waiting.due
    assert not waiting.targets


async def test_dead_letters_are_kept_and_few(nodes: Nodes) -> None:
    one, two = nodes
    for number in range(5):
        await one.enter(place(f"room{number}"), KEY)
    events = await due(one)
    await one.sort("9001", [(event, ["x"]) for event in events])
    await one.put_aside("9001", "x", events)
    await two.put_aside("9001", "x", events)
    assert said(await two.dead_letters("9001")) == ["+room4", "+room3", "+room2"]
    assert await one.of("9001", "x", 9) == []
    await one.waiting("9001", 9)
    assert await one.pending() == []


async def test_an_app_that_has_too_many_loses_what_comes(nodes: Nodes) -> None:
    one, two = nodes
    lost: list[tuple[str, int]] = []
    one.lost = lambda app, number: lost.append((app, number))
    for number in range(6):
        await one.enter(place(f"room{number}"), KEY)
    with pytest.raises(OutboxFull):
        await one.add("9001", KEY, b"{}")
    with pytest.raises(OutboxFull):
        await one.count("9001", KEY, "room", 1, 0)
    assert lost == [("9001", 1)] * 3
    await two.enter(place("room", app="2"), KEY)  # another app is not held up
    events = await due(one)
    assert await one.sort("9001", [(event, ["x"]) for event in events]) == 0
    await one.add("9001", KEY, b"{}")
    assert await one.sort("9001", [(event, ["x", "y"]) for event in await due(one)]) == 1
    assert len(await one.of("9001", "x", 9)) == 5
    assert len(await one.of("9001", "y", 9)) == 1


async def test_an_app_has_so_much_room_and_no_more(nodes: Nodes) -> None:
    one, two = nodes
    for node in nodes:
        node.rules = Rules(delay=0, dead_letters=3, most=100, room=300)
    large = b'{"name":"client_event","channel":"a","data":"%b"}' % (b"x" * 60)
    for number in (1, 2):  # what has been told makes place again, and what was put aside
        await one.add("9001", KEY, large)
        await two.add("9001", KEY, large)
        with pytest.raises(OutboxFull):
            await one.add("9001", KEY, large)
        assert await one.sort("9001", [(event, ["x"]) for event in await due(one)]) == 0
        await one.add("9001", KEY, large)
        assert await two.sort("9001", [(event, ["x", "y"]) for event in await due(one)]) == 1
        told = await one.of("9001", "x", 9)
        assert len(told) == 2
        await one.settle("9001", "x", told[:number])
        await one.put_aside("9001", "x", told[number:])
        await two.settle("9001", "y", await one.of("9001", "y", 9))


async def test_what_is_taken_back_makes_place_again(patient: Nodes) -> None:
    one, two = patient
    for node in patient:
        node.rules = Rules(delay=600, room=150)
    await one.enter(place("a"), KEY)
    for _ in range(5):
        await one.leave(place("a"))
        await two.enter(place("a"), KEY)
        await two.leave(place("a"))
        await one.enter(place("a"), KEY)
    assert said(await drain(one)) == ["+a"]
    await one.leave(place("a"))
    await two.add("9001", KEY, b"{}")


async def test_of_large_events_a_few_are_handled_at_a_time(server: RedisServer) -> None:
    async with started_shard(server.url) as shard:
        one = RedisOutbox(shard)
        await one.start("n1")
        for _ in range(200):
            await one.add("9001", KEY, b"x" * 20_000)
        assert len(await due(one)) == 50
        for _ in range(200):
            await one.add("9002", KEY, b"x")
        assert [len(await due(one, "9002", limit)) for limit in (1, 50, 51, 199, 1000)] == [1, 50, 51, 199, 200]
        await one.close()


async def test_once_is_once_until_there_is_something_else(nodes: Nodes) -> None:
    one, two = nodes
    for node, value in ((one, "epoch:1"), (two, "epoch:1"), (one, "epoch:1"), (two, "epoch:2"), (one, "epoch:2")):
        await node.add("9001", KEY, b'{"name":"cache_miss","channel":"cache-a"}', ("cache_miss cache-a", value))
    await one.add("9001", KEY, b'{"name":"cache_miss","channel":"cache-b"}', ("cache_miss cache-b", "epoch:1"))
    assert said(await due(one)) == ["cache_miss cache-a", "cache_miss cache-a", "cache_miss cache-b"]


async def test_a_number_is_told_once_by_all_nodes(nodes: Nodes) -> None:
    one, two = nodes
    for number in (1, 2):
        for node in (one, two):
            await node.count("9001", KEY, "room", number, 0)
    assert said(await due(one)) == ["subscription_count room 1", "subscription_count room 2"]


async def test_of_numbers_within_the_gap_the_newest_is_told(nodes: Nodes) -> None:
    one, two = nodes
    await one.count("9001", KEY, "room", 200, 0.3)
    for number in (201, 202, 203):
        await two.count("9001", KEY, "room", number, 0.3)
    assert said(await due(one)) == ["subscription_count room 200"]

    async def both() -> bool:
        return len(await due(one)) == 2

    await until(both)
    assert said(await due(one)) == ["subscription_count room 200", "subscription_count room 203"]


async def test_a_node_that_closes_leaves_everything(nodes: Nodes) -> None:
    one, two = nodes
    for name in ("a", "b"):
        await one.enter(place(name), KEY)
    await two.enter(place("b"), KEY)
    await one.close()
    assert said(await drain(two)) == ["+a", "+b", "-a"]
