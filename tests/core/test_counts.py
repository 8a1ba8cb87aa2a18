"""Subscription counts: when they are taken, and whom they are told."""

import asyncio
import logging

import pytest

from gateway.core.counts import MANY, SELDOM, Counts
from gateway.core.hub import Hub
from gateway.core.tasks import Tasks
from gateway.core.wheel import TICK
from gateway.errors import BrokerUnavailable
from gateway.metrics import Metrics
from gateway.presence.memory import MemoryPresence
from tests.core.test_feeds import Timeline
from tests.core.test_hub import Client
from tests.core.test_roster import ROOM, enter, member, told


class Presence(MemoryPresence):
    """In memory; a count is answered, or fails, when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.goes = asyncio.Event()
        self.goes.set()
        self.error: Exception | None = None

    async def stats(self, channel: str) -> tuple[int, int]:
        self.reads += 1
        found = await super().stats(channel)
        await self.goes.wait()
        if self.error is not None:
            raise self.error
        return found


class World:
    def __init__(self) -> None:
        self.hub = Hub(Metrics())
        self.presence = Presence()
        self.time = Timeline()
        self.counts = Counts(self.hub, self.presence, self.time.wheel, Tasks().spawn)
        self.hooked: list[tuple[str, int]] = []
        self.counts.on_count = lambda channel, count: self.hooked.append((channel, count))
        self.watcher: Client

    async def join(self, first: int, count: int = 1) -> None:
        for number in range(first, first + count):
            await self.presence.add(ROOM, member("", str(number)))
            self.counts.changed(ROOM)

    async def leave(self, number: int) -> None:
        await self.presence.remove(ROOM, str(number))
        self.counts.changed(ROOM)

    async def tick(self) -> None:
        await self.time.pass_(TICK)

    async def told(self) -> list[int]:
        return [data["subscription_count"] for event, data in await told(self.watcher)]


@pytest.fixture
async def world() -> World:
    """One in which somebody is who is told the count of nobody, to begin with."""
    world = World()
    world.watcher = enter(world.hub, "1.1")
    world.counts.hold(ROOM)
    await world.tick()
    assert await world.told() == [0]
    world.hooked.clear()
    world.presence.reads = 0
    return world


async def test_what_happens_within_a_tick_is_counted_once(world: World) -> None:
    await world.join(0, 3)
    await world.leave(1)
    assert await world.told() == []
    await world.tick()
    assert await world.told() == [2]
    await world.leave(0)
    await world.tick()
    assert await world.told() == [1]
    assert world.presence.reads == 2
    assert world.hooked == [(ROOM, 2), (ROOM, 1)]
    await world.time.pass_(2 * SELDOM)
    assert world.presence.reads == 2


async def test_a_count_that_is_the_same_is_told_to_newcomers_alone(world: World) -> None:
    await world.join(0)
    await world.tick()
    await world.join(1)
    await world.leave(0)
    await world.tick()
    assert (await world.told(), world.hooked) == ([1], [(ROOM, 1)])
    world.counts.hold(ROOM)
    await world.tick()
    assert (await world.told(), world.hooked) == ([1], [(ROOM, 1)])


async def test_many_are_counted_seldom(world: World) -> None:
    await world.join(0, MANY + 1)
    await world.tick()
    assert await world.told() == [MANY + 1]
    for number in range(10):
        await world.join(1000 + number)
        await world.tick()
    assert await world.told() == []
    await world.time.pass_(SELDOM)
    assert await world.told() == [MANY + 11]
    await world.time.pass_(2 * SELDOM)
    assert world.presence.reads == 2
    await world.leave(0)  # after a while of quiet it need not wait
    await world.tick()
    assert await world.told() == [MANY + 10]


async def test_what_changes_during_a_count_takes_another(world: World) -> None:
    world.presence.goes.clear()
    await world.join(0)
    await world.tick()
    await world.join(1, 2)
    await world.tick()
    assert world.presence.reads == 1
    world.presence.goes.set()
    await world.tick()
    assert await world.told() == [1]
    await world.tick()
    assert await world.told() == [3]
    assert world.presence.reads == 2


async def test_a_count_that_fails_is_tried_again(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.presence.error = BrokerUnavailable()
    await world.join(0)
    await world.tick()
    await world.time.pass_(SELDOM - TICK)
    assert world.presence.reads == 1
    world.presence.error = RuntimeError("broken")
    await world.time.pass_(TICK)
    world.presence.error = None
    await world.time.pass_(SELDOM)
    assert await world.told() == [1]
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        f"{ROOM}: its connections are counted when that is possible again: broken"
    ]


async def test_after_a_gap_all_are_counted(world: World) -> None:
    await world.presence.add(ROOM, member("", "0"))
    world.counts.all_changed()
    await world.tick()
    assert await world.told() == [1]


async def test_what_nobody_holds_is_not_counted(world: World) -> None:
    world.counts.hold(ROOM)
    world.counts.release(ROOM)
    await world.tick()
    assert world.presence.reads == 1
    world.presence.goes.clear()
    await world.join(0)
    await world.tick()
    world.counts.release(ROOM)
    world.presence.goes.set()
    await world.join(1)
    await world.time.pass_(2 * SELDOM)
    world.counts.release(ROOM)
    assert world.presence.reads == 2
    assert (world.hooked, world.counts._counts) == ([], {})


async def test_what_nobody_told_is_found_out(world: World) -> None:
    await world.presence.add(ROOM, member("", "1"))
    for _ in range(40):
        await world.time.pass_(1.0)
    assert await world.told() == [1]
    world.counts.release(ROOM)
    await world.time.pass_(1.0)
    world.presence.reads = 0
    for _ in range(300):
        await world.time.pass_(1.0)
    assert world.presence.reads == 0


async def test_looking_at_what_is_right_tells_nothing(world: World) -> None:
    for _ in range(300):
        await world.time.pass_(1.0)
    assert await world.told() == []
    assert 1 < world.presence.reads < 6
