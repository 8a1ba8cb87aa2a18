"""Surveys: the channels of all nodes and their subscribers, asked for a page at a time and merged by name."""

import asyncio
import fnmatch
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from heapq import merge

from msgspec import Struct

from gateway.batches import batches
from gateway.core.wheel import Timer, Wheel

MOST = 100_000
"""Channels of one answer: a few megabytes, made without holding up the event loop."""

PAGE_NAMES, PAGE_BYTES = 2_000, 60_000
"""What one node tells in one message at most: it passes by the connection that carries the publications."""

_ENTRY = 12
"""Bytes of a name's length and its count in a message."""

_CHUNK = 2_000
"""Names looked at, or merged, before others have their turn: a few milliseconds."""

WALKS, WALK_TTL = 8, 10.0
"""Surveys for which a node keeps its names in order, and for how many seconds since they last asked."""


class Question(Struct, tag="question"):
    """Asks a node for what it has next behind a name, as a part of a survey; it answers to the node that asked."""

    id: str
    uid: str
    kind: str
    argument: str = ""
    after: str = ""
    limit: int = 0
    survey: str = ""


class Page(Struct):
    """A node's next channels, in the order of their names, and whether it has more behind the last."""

    counts: dict[str, int]
    more: bool = False
    body: bytes = b""
    """What it tells to any other question."""


class ChannelCounts(dict[str, int]):
    """Channels in the order of their names, and how many subscribe to each.

    ``cursor`` is where the next page begins, empty if this is the last. ``missing`` are the names of nodes that have
    not answered: what they have is not counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cursor = ""
        self.missing: list[str] = []

    @property
    def partial(self) -> bool:
        return bool(self.missing)


# — the node that is asked —


class Roll:
    """A node's channels, told a page at a time to whoever asks.

    They are put in order once for each survey, for there may be a million; and a few at a time, so that nobody waits.
    """

    def __init__(self, names: Iterable[str], count: Callable[[str], int], wheel: Wheel) -> None:
        self._names = names
        self._count = count
        self._wheel = wheel
        self._walks: dict[str, tuple[_Walk, Timer]] = {}

    async def page(self, question: Question) -> Page:
        """The next names that match the pattern and count, at most ``limit`` and one message full."""
        walk = self._take(question.survey)
        if walk is None or walk.last != question.after:
            walk = _Walk(await _in_order(list(self._names), question.argument, question.after), question.after)
        page = await walk.take(min(question.limit or PAGE_NAMES, PAGE_NAMES), self._count)
        if page.more and question.survey:
            self._keep(question.survey, walk)
        return page

    def _keep(self, survey: str, walk: "_Walk") -> None:
        if len(self._walks) >= WALKS:
            self._take(next(iter(self._walks)))
        self._walks[survey] = walk, self._wheel.after(WALK_TTL, lambda: self._forget(survey))

    def _forget(self, survey: str) -> None:
        del self._walks[survey]

    def _take(self, survey: str) -> "_Walk | None":
        walk, timer = self._walks.pop(survey, (None, None))
        if timer is not None:
            timer.cancel()
        return walk


class _Walk:
    """Names in order, told up to the ``last``."""

    def __init__(self, names: Iterator[str], last: str) -> None:
        self.last = last
        self._names = names
        self._next = next(names, None)

    async def take(self, most: int, count: Callable[[str], int]) -> Page:
        told: dict[str, int] = {}
        size = seen = 0
        while (name := self._next) is not None:
            if number := count(name):
                size += len(name.encode()) + _ENTRY
                if told and (len(told) == most or size > PAGE_BYTES):
                    return Page(told, more=True)
                told[name] = number
                self.last = name
            self._next = next(self._names, None)
            seen += 1
            if seen % _CHUNK == 0:
                await asyncio.sleep(0)
        return Page(told)


async def _in_order(names: Sequence[str], pattern: str, after: str) -> Iterator[str]:
    parts: list[list[str]] = []
    for some in batches(names, _CHUNK):
        behind = [name for name in some if name > after]
        parts.append(sorted(fnmatch.filter(behind, pattern) if pattern else behind))
        await asyncio.sleep(0)
    return merge(*parts)


# — the node that asks —

Ask = Callable[[str, str], Awaitable[Page | None]]
"""Asks a node for its page behind a name. None is one that does not answer."""


class Merge:
    """One list of what several nodes tell, each page by page, with the counts of equal names added up."""

    def __init__(self, ask: Ask, nodes: Iterable[str], after: str) -> None:
        self._ask = ask
        self._sources = [_Source(node, after) for node in nodes]
        self.missing: list[str] = []

    async def take(self, limit: int) -> ChannelCounts:
        """The first names, at most ``limit``, with the last of them as cursor if there are more."""
        found = ChannelCounts()
        name = ""
        while True:
            await self._read([source for source in self._sources if source.more and not source.left])
            sources = [source for source in self._sources if source.left]
            if sources and len(found) < limit:
                some = _add_up(sources, limit - len(found))
                found.update(some)
                name = some[-1][0]
            else:
                found.cursor = name if sources else ""
                return found
            await asyncio.sleep(0)

    async def _read(self, sources: Sequence["_Source"]) -> None:
        """Have these nodes tell more."""
        asked = (self._ask(source.node, source.last) for source in sources)
        pages = await asyncio.gather(*asked, return_exceptions=True)
        for source, page in zip(sources, pages, strict=True):
            if isinstance(page, BaseException):
                raise page
            if page is None:
                self.missing.append(source.node)
            source.turn_to(page or Page({}))


class _Source:
    """What one node tells: a page, what is ``left`` of it, and whether there is ``more`` behind its ``last`` name."""

    def __init__(self, node: str, after: str) -> None:
        self.node = node
        self.last = after
        self.more = True
        self.left: list[tuple[str, int]] = []
        """What has not been read of the page, backwards."""

    def turn_to(self, page: Page) -> None:
        # a node of the release before tells everything each time, in no order
        self.left = sorted((entry for entry in page.counts.items() if entry[0] > self.last), reverse=True)
        self.more = page.more and bool(self.left)
        if self.left:
            self.last = self.left[0][0]

    def ahead(self, count: int) -> str:
        """The name that is so many ahead, or the last on the page."""
        return self.left[-min(count, len(self.left))][0]

    def take(self, end: str) -> Iterator[tuple[str, int]]:
        """What is left up to this name."""
        while self.left and self.left[-1][0] <= end:
            yield self.left.pop()


def _add_up(sources: Sequence[_Source], most: int) -> list[tuple[str, int]]:
    """The next names of all in order, at most so many, with their counts added up."""
    count = max(1, min(most, _CHUNK) // len(sources))
    end = min(source.ahead(count) for source in sources)  # up to here, everything is at hand
    totals: dict[str, int] = {}
    for source in sources:
        for name, number in source.take(end):
            totals[name] = totals.get(name, 0) + number
    return sorted(totals.items())
