"""For every ordered pair of events: the second is given at every tick of the first.

Whatever happens in between, what a client was told fits the state; joins and leaves, and what the program is told,
come in pairs; commands of the server hold in their order; and nothing is left of a client that has gone.
"""

import asyncio
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from tests.sweep import events
from tests.sweep.checks import believed, check_gone, check_joins, check_program, check_state
from tests.sweep.events import API, CONNECTS, EVENTS, GIVES, TAKES, Event
from tests.sweep.world import ROOM, Page, World

OUTAGES = (events.broker_away, events.broker_silent)
NEWCOMER = (*CONNECTS, events.subscribe, *GIVES, events.api_give_and_take)
"""First events of a client that is not in the room yet."""


class Pair:
    """Two events, and what is right about them."""

    def __init__(self, first: Event, second: Event, **world: bool) -> None:
        self.first, self.second = first, second
        self._world = world
        self.faults: dict[int, list[str]] = {}
        """What was wrong, by the tick at which the second event came."""

    async def sweep(self) -> None:
        """Give the second event at each tick. After a fault the next begins in a world of its own."""
        ticks = count()
        over = False
        while not over:
            world = World(**self._world)
            async with world.running():
                for tick in ticks:
                    faults, over = await self._trial(world, tick)
                    if faults:
                        self.faults[tick] = faults
                    if faults or over:
                        break
            if world.left and tick not in self.faults:
                self.faults[tick] = world.left

    async def _trial(self, world: World, tick: int) -> tuple[list[str], bool]:
        """What was wrong, and whether the first event was over before the second came."""
        alice = await prepared(world, self.first)
        self.first(world, alice)
        over = not await world.ticks(tick)
        admitted = alice.admitted
        self.second(world, alice)
        world.publish(tick)
        await world.quiet()
        world.publish("last")
        await world.quiet()
        faults = [*check_state(world, alice), *self._verdict(alice, tick, admitted)]
        alice.end()
        await world.quiet()
        if events.broker_away not in (self.first, self.second):  # joins and leaves are sent once, and may be lost
            faults += check_joins(world, alice)
        faults += check_program(world, alice, given=self.first in API or self.second in API)
        await world.pass_time(2)  # channels are heard a little longer
        faults += check_gone(world, alice)
        return faults, over

    def _verdict(self, alice: Page, tick: int, admitted: bool) -> Iterator[str]:
        """The last command of the server decides, if nothing but another of them came after it."""
        first, second = self.first, self.second
        if alice.gone or not admitted or first in OUTAGES or second in OUTAGES:
            return
        if second in TAKES and not (first is events.subscribe and tick == 0):
            expected = False
        elif second in GIVES:
            expected = True
        elif second is events.api_refresh and first in (*TAKES, *GIVES):
            expected = first in GIVES
        else:
            return
        if (ROOM in believed(alice)) is not expected:
            yield f"the last command of the server does not hold: the client is {'not ' * expected}in the room"


async def prepared(world: World, first: Event) -> Page:
    """A client to whom the event can happen."""
    alice = world.page()
    if first not in CONNECTS:
        events.connect_bare(world, alice)
    if first not in NEWCOMER:
        events.subscribe(world, alice)
    await world.quiet()
    alice.read()
    return alice


def name(value: Any) -> str:
    return getattr(value, "__name__", str(value))


@pytest.mark.parametrize(
    "world",
    [
        {"observed": False, "program": False},
        {"observed": True, "program": False},
        {"observed": True, "program": True},
    ],
    ids=["alone", "observed", "program"],
)
@pytest.mark.parametrize("second", EVENTS, ids=name)
@pytest.mark.parametrize("first", EVENTS, ids=name)
async def test_a_pair_at_every_tick(first: Event, second: Event, world: dict[str, bool]) -> None:
    pair = Pair(first, second, **world)
    async with asyncio.timeout(30):
        await pair.sweep()
    assert not pair.faults, _listed(pair.faults)


@pytest.mark.parametrize("first", EVENTS, ids=name)
async def test_the_process_stops_at_every_tick(first: Event) -> None:
    """The program still hears of each life whole."""
    found: dict[int, list[str]] = {}
    over = False
    ticks = count()
    while not over:
        tick = next(ticks)
        world = World(observed=False, program=True)
        async with world.running():
            alice = await prepared(world, first)
            first(world, alice)
            over = not await world.ticks(tick)
            await world.gateway.running.acceptor.drain()
        faults = [*check_program(world, alice, given=first in API), *world.failures.texts]
        if faults:
            found[tick] = faults
    assert not found, _listed(found)


def _listed(faults: dict[int, list[str]]) -> str:
    return "\n".join(f"tick {tick}: {'; '.join(found)}" for tick, found in faults.items())
