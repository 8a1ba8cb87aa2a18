"""When channels are looked at that go by news."""

import asyncio
import itertools
import logging

import pytest

from gateway.core.second_looks import AGAIN, AT_ONCE, FIRST, LONGEST, SecondLooks
from gateway.core.tasks import Tasks
from gateway.errors import BrokerUnavailable
from tests.core.test_feeds import Timeline
from tests.waiting import settle


class World:
    def __init__(self) -> None:
        self.time = Timeline()
        self.looked: list[tuple[float, str]] = []
        self.good = True
        self.error: Exception | None = None
        self.goes = asyncio.Event()
        self.goes.set()
        self.looks = SecondLooks(self.look, self.time.wheel, Tasks().spawn)

    async def look(self, channel: str) -> bool:
        self.looked.append((self.time.clock.now, channel))
        await self.goes.wait()
        if self.error is not None:
            raise self.error
        return self.good

    async def gaps(self, seconds: int) -> list[float]:
        """Seconds between the looks of a time."""
        self.looked.clear()
        start = self.time.clock.now
        for _ in range(seconds):
            await self.time.pass_(1.0)
        at = [start, *(at for at, _ in self.looked)]
        return [after - before for before, after in itertools.pairwise(at)]


@pytest.fixture
async def world() -> World:
    return World()


def is_about(found: float, expected: float) -> bool:
    return 0.8 * expected - 1 <= found <= 1.2 * expected + 1


async def test_ever_less_while_all_is_well(world: World) -> None:
    world.looks.begin("room")
    gaps = await world.gaps(900)
    assert all(map(is_about, gaps, [FIRST, 2 * FIRST, 4 * FIRST, LONGEST, LONGEST]))
    assert len(gaps) >= 5


async def test_what_is_wrong_is_looked_at_again_soon(world: World) -> None:
    world.good = False
    world.looks.begin("room")
    gaps = await world.gaps(60)
    assert all(map(is_about, gaps, [FIRST, AGAIN, AGAIN, AGAIN]))
    assert len(gaps) >= 4


async def test_after_its_end_it_is_not_looked_at(world: World) -> None:
    world.looks.begin("room")
    world.looks.end("room")
    world.looks.end("room")
    assert await world.gaps(100) == []
    world.looks.begin("room")
    world.goes.clear()
    await world.time.pass_(2 * FIRST)
    world.looks.end("room")
    world.goes.set()
    assert await world.gaps(500) == []


async def test_few_at_once_and_not_all_at_the_same_time(world: World) -> None:
    world.goes.clear()
    for number in range(10 * AT_ONCE):
        world.looks.begin(str(number))
    await world.time.pass_(2 * FIRST)
    assert len(world.looked) == AT_ONCE
    world.goes.set()
    await settle()
    assert len({channel for _, channel in world.looked}) == len(world.looked) == 10 * AT_ONCE
    world.looked.clear()
    for _ in range(70):
        await world.time.pass_(1.0)
    assert len({at for at, _ in world.looked}) > 10


@pytest.mark.parametrize(("error", "level"), [(BrokerUnavailable(), None), (RuntimeError("broken"), logging.ERROR)])
async def test_a_look_that_fails_is_not_the_last(
    world: World, error: Exception, level: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    world.error = error
    world.looks.begin("room")
    assert len(await world.gaps(100)) == 2
    assert {record.levelno for record in caplog.records} == ({level} if level else set())
