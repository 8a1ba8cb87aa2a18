"""Which rosters a node keeps: read once for all who ask, right while they are held, and forgotten afterwards."""

import asyncio
import gc
import logging

import pytest

from gateway.core.feeds import LINGER, Feeds
from gateway.core.hub import Hub
from gateway.core.roster import Roster
from gateway.core.rosters import PATIENCE, SETTLE, Rosters
from gateway.core.tasks import Tasks
from gateway.errors import BrokerUnavailable
from gateway.messages import ClientInfo
from gateway.metrics import Metrics
from gateway.presence.base import Members
from gateway.presence.memory import MemoryPresence
from tests.core.test_feeds import Source, Timeline
from tests.core.test_roster import ROOM, added, enter, member, removed, told
from tests.leftovers import without_collector
from tests.waiting import settle, until

NOOR, IVO = member("17", "a"), member("23", "b")


class Presence(MemoryPresence):
    """In memory; a read is answered, or fails, when the test lets it, with who was there when it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.looks = 0
        self.goes = asyncio.Event()
        self.goes.set()
        self.failing = False
        self.missing = 0

    async def members(self, channel: str, at_most: int = 0) -> dict[str, ClientInfo]:
        self.reads += 1
        found = Members(await super().members(channel, at_most))
        found.missing = self.missing
        await self.goes.wait()
        if self.failing:
            raise BrokerUnavailable
        return found

    async def stats(self, channel: str) -> tuple[int, int]:
        self.looks += 1
        return await super().stats(channel)


class World:
    """What rosters need, and what they do."""

    def __init__(self) -> None:
        self.hub = Hub(Metrics())
        self.source = Source()
        self.presence = Presence()
        self.time = Timeline()
        self.work = Tasks()
        self.feeds = Feeds(self.source, self.time.wheel)
        self.rosters = Rosters(self.hub, self.feeds, self.presence, self.time.wheel, self.work.spawn)

    async def holding(self, count: int = 1) -> list[asyncio.Task[Roster]]:
        tasks = [asyncio.create_task(self.rosters.hold(ROOM)) for _ in range(count)]
        await settle()
        return tasks

    async def hold(self) -> Roster:
        if ROOM not in self.source.answers:
            self.source.confirm(ROOM)
        return await self.rosters.hold(ROOM)


@pytest.fixture
async def world() -> World:
    return World()


async def test_all_who_ask_share_one_read_after_the_feed_is_heard(world: World) -> None:
    await world.presence.add(ROOM, NOOR)
    askers = await world.holding(3)
    assert (world.source.calls, world.presence.reads) == ([f"+{ROOM}"], 0)
    world.source.confirm(ROOM)
    rosters = await asyncio.gather(*askers)
    assert world.presence.reads == 1
    assert len({id(each) for each in rosters}) == 1
    assert rosters[0].has("17")
    assert await world.rosters.hold(ROOM) is rosters[0]
    assert world.presence.reads == 1


async def test_what_is_told_while_it_is_read_is_newer(world: World) -> None:
    await world.presence.add(ROOM, NOOR)
    world.presence.goes.clear()
    world.source.confirm(ROOM)
    [asker] = await world.holding()
    world.rosters.on_leave(ROOM, NOOR)
    world.rosters.on_join(ROOM, IVO)
    world.presence.goes.set()
    assert [*(await asker).members()] == ["23"]


@pytest.mark.parametrize("where", ["feed", "presence"])
async def test_a_failure_is_everybodys_and_nothing_is_held(world: World, where: str) -> None:
    world.presence.failing = where == "presence"
    askers = await world.holding(3)
    if where == "feed":
        world.source.fail(ROOM)
    else:
        world.source.confirm(ROOM)
    results = await asyncio.gather(*askers, return_exceptions=True)
    assert [type(each) for each in results] == 3 * [BrokerUnavailable]
    assert len({id(each) for each in results}) == 3
    assert not world.rosters._held
    world.presence.failing = False
    await world.hold()
    world.rosters.release(ROOM)
    await world.time.pass_(2 * LINGER)
    await world.time.pass_(2 * LINGER)
    assert world.source.calls[-1] == f"-{ROOM}"


async def test_one_who_is_cancelled_disturbs_nobody(world: World) -> None:
    first, second = await world.holding(2)
    first.cancel()
    await settle()
    world.source.confirm(ROOM)
    assert (await second).count == 0
    assert first.cancelled()
    world.rosters.release(ROOM)
    await world.time.pass_(2 * LINGER)
    assert not world.rosters._held


async def test_one_that_nobody_waits_for_any_more_is_forgotten(world: World) -> None:
    [asker] = await world.holding()
    asker.cancel()
    await settle()
    world.source.confirm(ROOM)
    await settle()
    assert world.presence.reads == 1
    await world.time.pass_(2 * LINGER)
    assert not world.rosters._held
    await world.time.pass_(2 * LINGER)
    assert world.source.calls == [f"+{ROOM}", f"-{ROOM}"]


async def test_one_that_is_being_read_is_not_forgotten_before(world: World) -> None:
    [first] = await world.holding()
    first.cancel()
    await settle()
    await world.time.pass_(2 * LINGER)
    [second] = await world.holding()
    world.source.confirm(ROOM)
    roster = await second
    await world.time.pass_(2 * LINGER)
    assert await world.rosters.hold(ROOM) is roster
    assert world.source.calls == [f"+{ROOM}"]


async def test_it_lingers_for_those_who_come_back(world: World) -> None:
    roster = await world.hold()
    world.rosters.release(ROOM)
    await world.time.pass_(LINGER / 2)
    world.rosters.on_join(ROOM, NOOR)
    assert await world.hold() is roster
    assert roster.has("17")
    await world.time.pass_(3 * LINGER)
    assert await world.hold() is roster
    for _ in range(2):
        world.rosters.release(ROOM)
    await world.time.pass_(2 * LINGER)
    assert await world.hold() is not roster
    assert world.presence.reads == 2


async def test_what_is_of_no_roster_is_nothing(world: World) -> None:
    world.rosters.on_join(ROOM, NOOR)
    world.rosters.on_leave(ROOM, NOOR)
    world.rosters.release(ROOM)
    world.rosters.on_gap()
    await world.time.pass_(2 * SETTLE)
    assert world.presence.reads == 0


async def test_after_gaps_it_is_read_once_and_what_is_different_is_told(world: World) -> None:
    await world.presence.add(ROOM, NOOR)
    await world.hold()
    watcher = enter(world.hub, "1.1")
    await world.presence.remove(ROOM, NOOR.client)
    await world.presence.add(ROOM, IVO)
    world.rosters.on_gap()
    await world.time.pass_(SETTLE / 2)
    world.rosters.on_gap()
    assert await told(watcher) == []
    await world.time.pass_(SETTLE)
    assert await told(watcher) == [added("23"), removed("17")]
    await world.time.pass_(PATIENCE)
    assert world.presence.reads == 2


async def test_a_gap_during_a_read_takes_another(world: World) -> None:
    await world.hold()
    world.presence.goes.clear()
    world.rosters.on_gap()
    await world.time.pass_(2 * SETTLE)
    assert world.presence.reads == 2
    world.rosters.on_gap()
    await world.time.pass_(2 * SETTLE)
    assert world.presence.reads == 2
    world.presence.goes.set()
    await settle()
    await world.time.pass_(2 * SETTLE)
    assert world.presence.reads == 3
    await world.time.pass_(PATIENCE)
    assert world.presence.reads == 3


async def test_a_gap_during_the_first_read_takes_another(world: World) -> None:
    world.presence.goes.clear()
    world.source.confirm(ROOM)
    [asker] = await world.holding()
    world.rosters.on_gap()
    await world.time.pass_(2 * SETTLE)
    assert world.presence.reads == 1
    world.presence.goes.set()
    await asker
    await world.time.pass_(4 * SETTLE)
    assert world.presence.reads == 2


async def test_a_read_that_fails_is_tried_again_ever_later_and_at_once_after_a_gap(world: World) -> None:
    roster = await world.hold()
    await world.presence.add(ROOM, NOOR)
    world.presence.failing = True
    world.rosters.on_gap()
    attempts: list[int] = []
    for second in range(70):
        await world.time.pass_(1.0)
        if world.presence.reads > 1 + len(attempts):
            attempts.append(second + 1)
    assert attempts[:4] == [2, 6, 14, 30]
    assert len(attempts) == 5
    world.presence.failing = False
    world.rosters.on_gap()
    await world.time.pass_(SETTLE)
    assert roster.has("17")
    await world.time.pass_(2 * PATIENCE)
    assert world.presence.reads == 7


async def test_a_failure_that_is_a_fault_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def members(channel: str, at_most: int = 0) -> dict[str, ClientInfo]:
        raise RuntimeError("broken")

    await world.hold()
    world.presence.members = members  # type: ignore[method-assign]
    world.rosters.on_gap()
    await world.time.pass_(SETTLE)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "broken" in caplog.text


async def test_one_of_which_a_node_has_not_told_is_read_again(world: World) -> None:
    await world.presence.add(ROOM, NOOR)
    world.presence.missing = 1
    roster = await world.hold()
    assert roster.has("17")
    await world.presence.remove(ROOM, NOOR.client)
    await world.presence.add(ROOM, IVO)
    await world.time.pass_(SETTLE)
    assert [*roster.members()] == ["17", "23"]
    world.presence.missing = 0
    await world.time.pass_(2 * SETTLE)
    assert [*roster.members()] == ["23"]
    await world.time.pass_(PATIENCE)
    assert world.presence.reads == 3


async def test_one_that_is_released_before_it_is_read_again_is_not(world: World) -> None:
    await world.hold()
    world.rosters.on_gap()
    world.rosters.release(ROOM)
    await world.time.pass_(LINGER)
    await world.time.pass_(SETTLE)
    assert world.presence.reads == 1


async def looked_at(world: World, seconds: int) -> None:
    for _ in range(seconds):
        await world.time.pass_(1.0)


async def test_what_nobody_told_is_found_out(world: World) -> None:
    await world.presence.add(ROOM, NOOR)
    await world.hold()
    watcher = enter(world.hub, "1.1")
    await world.presence.remove(ROOM, NOOR.client)
    await looked_at(world, 40)
    assert await told(watcher) == [removed("17")]
    assert world.presence.reads == 2
    await looked_at(world, 300)
    assert world.presence.reads == 2


async def test_what_is_on_its_way_is_no_reason_to_read(world: World) -> None:
    await world.hold()
    await world.presence.add(ROOM, NOOR)
    while not world.presence.looks:
        await world.time.pass_(1.0)
    world.rosters.on_join(ROOM, NOOR)
    await looked_at(world, 300)
    assert world.presence.looks > 2
    assert world.presence.reads == 1


async def test_one_that_is_let_go_is_not_looked_at(world: World) -> None:
    await world.hold()
    world.rosters.release(ROOM)
    await looked_at(world, 3)
    await world.presence.add(ROOM, NOOR)
    await looked_at(world, 300)
    assert world.presence.reads == 1


@pytest.mark.parametrize(("client", "reads"), [("", 2), (NOOR.client, 2), (IVO.client, 1)])
async def test_a_doubt_that_concerns_it_has_it_read(world: World, client: str, reads: int) -> None:
    await world.presence.add(ROOM, NOOR)
    roster = await world.hold()
    await world.presence.remove(ROOM, NOOR.client)
    world.rosters.doubt(ROOM, client)
    world.rosters.doubt("another", client)
    await world.time.pass_(SETTLE)
    assert world.presence.reads == reads
    assert roster.has("17") == (reads == 1)


@pytest.mark.parametrize("first", [True, False])
async def test_a_doubt_about_what_is_being_read_takes_another_read(world: World, first: bool) -> None:
    if not first:
        await world.hold()
    await world.presence.add(ROOM, NOOR)
    world.presence.goes.clear()
    if first:
        world.source.confirm(ROOM)
    asker, *_ = await world.holding()
    if not first:
        world.rosters.on_gap()
        await world.time.pass_(SETTLE)
    await world.presence.remove(ROOM, NOOR.client)
    world.rosters.doubt(ROOM, NOOR.client)
    world.presence.goes.set()
    roster = await asker
    await settle()
    assert roster.has("17")
    for _ in range(2):
        await world.time.pass_(2 * SETTLE)
    assert not roster.has("17")


async def test_the_end_of_the_node_is_no_answer(world: World) -> None:
    [asker] = await world.holding()
    await world.work.finish(within=0)
    with pytest.raises(asyncio.CancelledError):
        await asker


@pytest.mark.parametrize("fails", [False, True])
async def test_nothing_is_left(world: World, fails: bool) -> None:
    """Neither of one that was held nor of one that could not be."""
    world.presence.failing = fails
    with without_collector():
        before = sum(isinstance(each, Roster) for each in gc.get_objects())
        for _ in range(5):
            if ROOM not in world.source.answers:
                world.source.confirm(ROOM)
            try:
                roster = await world.rosters.hold(ROOM)
            except BrokerUnavailable:
                pass
            else:
                roster.came(NOOR)
                roster.left(NOOR)
                del roster
                world.rosters.release(ROOM)
            await world.time.pass_(2 * LINGER)
        await until(lambda: not world.work.running)
        assert sum(isinstance(each, Roster) for each in gc.get_objects()) == before
    assert not world.rosters._held
