"""What nodes are told that may have it wrong who is there."""

from collections.abc import Callable

import pytest

from gateway.core.doubts import AGAIN, AT_ONCE, MOST, NOTICE, SOON, Doubts
from gateway.core.tasks import Tasks
from gateway.errors import BrokerUnavailable
from tests.core.test_feeds import Timeline


class World:
    """Satisfies the part of `Cluster` that is used."""

    def __init__(self) -> None:
        self.time = Timeline()
        self.listeners: dict[str, Callable[[str], None]] = {}
        self.looked: list[tuple[str, str]] = []
        self.notices = 0
        self.away = False
        look = lambda channel, client: self.looked.append((channel, client))  # noqa: E731
        self.doubts = Doubts(self, look, self.time.wheel, Tasks().spawn)  # type: ignore[arg-type]

    async def notify(self, kind: str, argument: str) -> None:
        assert kind == NOTICE
        if self.away:
            raise BrokerUnavailable
        self.notices += 1
        self.listeners[kind](argument)


@pytest.fixture
async def world() -> World:
    return World()


async def test_what_comes_together_is_told_together(world: World) -> None:
    world.doubts.add("a", "1.1")
    world.doubts.add("a", "1.1")
    world.doubts.add("b", "1.1")
    world.doubts.add("b", "2.2")
    world.doubts.add("c")
    assert world.looked == []
    await world.time.pass_(SOON)
    assert world.looked == [("a", "1.1"), ("b", ""), ("c", "")]
    assert world.notices == 1
    await world.time.pass_(10 * AGAIN)
    assert world.notices == 1


async def test_many_are_told_by_and_by(world: World) -> None:
    for number in range(AT_ONCE + 1):
        world.doubts.add(str(number))
    await world.time.pass_(SOON)
    assert len(world.looked) == AT_ONCE
    await world.time.pass_(SOON)
    assert len(world.looked) == AT_ONCE + 1


async def test_what_cannot_be_told_is_told_when_that_is_possible_again(world: World) -> None:
    world.away = True
    world.doubts.add("a", "1.1")
    world.doubts.add("b", "1.1")
    await world.time.pass_(SOON)
    world.doubts.add("a", "2.2")
    await world.time.pass_(AGAIN)
    world.away = False
    await world.time.pass_(AGAIN - 0.5)
    assert world.looked == []
    await world.time.pass_(0.5)
    assert sorted(world.looked) == [("a", ""), ("b", "1.1")]


async def test_no_more_are_kept_than_that(world: World) -> None:
    world.away = True
    for number in range(MOST + 10):
        world.doubts.add(str(number))
    assert len(world.doubts._untold) == MOST


async def test_what_cannot_be_read_is_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.listeners[NOTICE]("[1]")
    assert world.looked == []
    assert "cannot be read" in caplog.text
