"""Clients that come and go at random, and one user whose three tabs stay."""

import asyncio
import random
from collections.abc import Callable, Sequence

from tests.chaos.pace import pace
from tests.chaos.webhooks.ledger import Ledger
from tests.chaos.webhooks.tab import LOST, Tab

ROOMS = ("news", "private-desk", "presence-hall", "presence-lab", "cache-rate", "private-till", "presence-attic")
USERS = tuple(f"user{number}" for number in range(6))
AWAY = 4.0
"""Seconds that one stays away at most, now and then."""

Doors = Callable[[], Sequence[tuple[int, int]]]
"""Gives the nodes that take clients just now, and their ports."""


class Visitor:
    """Comes, does this and that, leaves or is lost, and comes again, elsewhere perhaps; until told to ``rest``."""

    def __init__(self, ledger: Ledger, doors: Doors, seed: int, rooms: Sequence[str] = ROOMS) -> None:
        self._ledger = ledger
        self._doors = doors
        self._dice = random.Random(seed)
        own = [f"{kind}own{seed % 1000}" for kind in ("presence-", "private-", "")]
        self._rooms = [*rooms, *own, *own]
        self._user = USERS[seed % len(USERS)]
        self._resting = asyncio.Event()
        self.stays = self._dice.random() < 0.5
        """Whether it is somewhere while it rests."""
        self._gone = asyncio.Event()

    def rest(self) -> None:
        self._resting.set()

    def leave(self) -> None:
        self._gone.set()

    async def run(self) -> None:
        while not self._gone.is_set():
            try:
                await self._visit()
            except LOST:
                await pace(self._dice.choice([0.05, 0.05, 0.5, self._dice.uniform(0.0, AWAY)]))

    async def _visit(self) -> None:
        if self._resting.is_set() and not self.stays:
            await self._gone.wait()
            return
        doors = self._doors()
        if not doors:
            raise EOFError
        async with Tab(self._ledger, *self._dice.choice(doors)) as tab:
            await self._come(tab, self._dice.choice(self._rooms))
            for _ in range(self._dice.choice([2, 4, 8, 30])):
                if self._resting.is_set():
                    break
                await self._act(tab)
                await pace(self._dice.uniform(0.05, 0.6))
            if self._resting.is_set() and self.stays:
                await self._stay(tab)
            elif self._dice.random() < 0.3:
                await tab.abort()

    async def _act(self, tab: Tab) -> None:
        room = self._dice.choice(self._rooms)
        if room not in tab.channels:
            await self._come(tab, room)
        elif self._dice.random() < 0.3:
            await tab.unsubscribe(room)
        elif room.startswith(("private-", "presence-")):
            await tab.say(room)

    async def _come(self, tab: Tab, room: str) -> None:
        await tab.subscribe(room, self._user)

    async def _stay(self, tab: Tab) -> None:
        """Until told to leave. Raises one of ``LOST`` if the connection is."""
        ends = [asyncio.ensure_future(tab.lost()), asyncio.ensure_future(self._gone.wait())]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in ends:
                each.cancel()
        if not self._gone.is_set():
            raise EOFError


class Trio:
    """One user's three tabs, each of which stays where it is; what is lost does not come back."""

    def __init__(self, ledger: Ledger, doors: Sequence[tuple[int, int]]) -> None:
        self._tabs = [Tab(ledger, *door) for door in doors]

    async def come(self) -> None:
        for tab in self._tabs:
            await tab.__aenter__()
            await tab.subscribe("presence-hall", "trio")

    async def leave(self) -> None:
        for tab in self._tabs:
            await tab.__aexit__()


async def crowd_at(ledger: Ledger, doors: Doors, channel: str) -> None:
    """Somebody at each door subscribes to a channel at the same time, stays a moment, and goes."""

    async def come(door: tuple[int, int]) -> None:
        try:
            async with Tab(ledger, *door) as tab:
                await tab.subscribe(channel)
                await pace(0.2)
        except LOST:
            return

    await asyncio.gather(*map(come, doors()))
