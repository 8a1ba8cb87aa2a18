"""All the pages, in one process; and the observers, one at each node, which hear of joins and leaves."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Sequence

from tests.chaos.joins import Joins
from tests.chaos.pace import pace
from tests.chaos.page import Page, Subscription
from tests.chaos.record import SHOWN, Accepted, Record
from tests.chaos.size import Size
from tests.integration.tokens import connection_token

Address = tuple[str, int]
LOOK = 0.05
"""Seconds between looks at who is to connect; each page is looked at once a second."""
PORTIONS = 20
ARRIVALS = 300
"""Pages that come for the first time in a second."""


class Crowd:
    """A worker for ``Child``."""

    def __init__(self, size: Size, balancer: Address, nodes: Sequence[Address], seed: int) -> None:
        dice = random.Random(seed)
        self.record = Record()
        self._at: dict[Page, Address] = {}
        for number in range(size.clients):
            user = f"user{number}"
            page = Page(user, connection_token(user), size.of(number), self.record, dice)
            page.due = asyncio.get_running_loop().time() + number / ARRIVALS
            self._at[page] = balancer
        self.observers = []
        for number, node in enumerate(nodes):
            joins = Joins(f"observer{number}")
            page = Page(joins.who, connection_token(joins.who), size.rooms, self.record, dice)
            page.heard_join, page.heard_start = joins.hear, joins.start
            self._at[page] = node
            self.observers.append(joins)
        self._pages = list(self._at)
        self._slow: list[Page] = []
        self._before: list[tuple[str, Subscription, int]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        turn = 0
        while True:
            now = loop.time()
            for page in self._pages[turn % PORTIONS :: PORTIONS]:
                page.look(now)
            for page in [*self._pages, *self._slow]:
                if page.due is not None and page.due <= now:
                    task = asyncio.create_task(page.connect(*self._at[page]))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
            turn += 1
            await pace(LOOK)

    # — what is asked of it —

    def unsettled(self) -> tuple[int, list[str]]:
        """How many have not all their subscriptions, and who, for example."""
        found = [page.user for page in self._pages if not page.settled]
        return len(found), found[:SHOWN]

    def present(self) -> dict[str, set[str]]:
        """Client ids by room."""
        rooms: defaultdict[str, set[str]] = defaultdict(set)
        for page in self._pages:
            for each in page.subscriptions.values():
                if each.room and each.live:
                    rooms[each.channel].add(page.client)
        return dict(rooms)

    def behind(self, tops: dict[str, tuple[str, int]]) -> tuple[int, list[str]]:
        """Who does not stand at these positions or beyond."""
        found = [
            f"{page.user} stands at {each.offset} of {each.epoch} in {channel}, {top[1]} of {top[0]} was accepted"
            for page in self._pages
            for channel, each in page.subscriptions.items()
            if (top := tops.get(channel)) and (each.epoch != top[0] or each.offset < top[1])
        ]
        return len(found), found[:SHOWN]

    def mark(self) -> None:
        """From now on ``untold`` is asked about those who have got anything, and so have something to lose."""
        self._before = [
            (page.user, each, each.told)
            for page in self._pages
            for each in page.subscriptions.values()
            if each.epoch is not None and each.number
        ]

    def untold(self) -> tuple[int, list[str]]:
        """Who has not been told since the last mark that it did not recover."""
        found = [f"{user} in {each.channel}" for user, each, told in self._before if each.told == told]
        return len(found), found[:SHOWN]

    def wrong(self) -> list[str]:
        """What was wrong with what was heard since this was last asked."""
        found, self.record.wrong = self.record.wrong, []
        return found

    def counts(self) -> dict[str, int]:
        """What was counted since this was last asked."""
        found = dict(self.record.counts)
        self.record.counts.clear()
        return found

    def check(self, accepted: list[Accepted]) -> tuple[list[str], int]:
        return self.record.check(accepted)

    def mistaken(self, lost: bool) -> list[str]:
        """Who was last heard to do what is not so; where messages may be ``lost``, only those shown as gone count."""
        members = self.record.members
        found = [text for each in self.observers for text in each.shown_as_gone(members)]
        return found + [text for each in self.observers if not lost for text in each.shown_as_there(members)]

    def joins(self, lapsed: bool, lost: bool) -> list[str]:
        """What was wrong with joins and leaves since this was last asked.

        A node that was taken for dead (``lapsed``) has its members leave and come again. Where messages may be
        ``lost``, as joins and leaves are with a connection to Redis, two of a kind may come in a row.
        """
        found = self.mistaken(True)
        for each in self.observers:
            twice, each.twice = each.twice, []
            found += [] if lost or lapsed else twice
            found += [] if lapsed else each.left_too_often(self.record.members)
        return found

    def forget(self) -> None:
        """Members whose connections have ended are of no more interest; observers go on with what they know."""
        present = {page.client for page in self._pages}
        for key in [key for key, member in self.record.members.items() if not member.live and key[0] not in present]:
            del self.record.members[key]

    def churn(self, number: int) -> None:
        """Have so many pages lose their connections."""
        for page in random.sample(self._pages[: -len(self.observers)], number):
            page.lose()

    def slow(self, number: int, channel: str, address: Address) -> None:
        """Have so many more come to a channel, who read nothing from then on."""
        dice, now = random.Random(number), asyncio.get_running_loop().time()
        for index in range(number):
            user = f"slow{index}"
            page = Page(user, connection_token(user), [channel], Record(), dice)
            page.stuck, page.due = True, now
            self._at[page] = address
            self._slow.append(page)

    def slow_settled(self) -> int:
        return sum(page.settled for page in self._slow)

    def slow_leave(self) -> None:
        for page in self._slow:
            page.leave()
            del self._at[page]
        self._slow.clear()
