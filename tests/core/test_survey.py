"""Channels of many nodes, a page at a time, in order, each counted once per subscriber."""

import asyncio
import random
from bisect import bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import survey
from gateway.core.survey import PAGE_BYTES, WALK_TTL, WALKS, Merge, Page, Question, Roll
from gateway.core.wheel import Wheel
from tests.core.test_wheel import Clock

Counts = dict[str, int]


def one(_name: str) -> int:
    return 1


# — the node that is asked —


def ask(pattern: str = "", after: str = "", limit: int = 0, survey: str = "") -> Question:
    return Question("id", "uid", "channels", pattern, after, limit, survey)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def wheel(clock: Clock) -> Wheel:
    return Wheel(clock)


async def test_the_next_names_in_order_and_no_more(monkeypatch: pytest.MonkeyPatch, wheel: Wheel) -> None:
    monkeypatch.setattr(survey, "_CHUNK", 3)
    roll = Roll("hcfaebdg", one, wheel)
    assert await roll.page(ask()) == Page(dict.fromkeys("abcdefgh", 1))
    assert await roll.page(ask(limit=3)) == Page(dict.fromkeys("abc", 1), more=True)
    assert await roll.page(ask(after="c", limit=3)) == Page(dict.fromkeys("def", 1), more=True)
    assert await roll.page(ask(after="e", limit=3)) == Page(dict.fromkeys("fgh", 1))
    assert await roll.page(ask(after="h", limit=3)) == Page({})
    assert await roll.page(ask("[bdz]")) == Page(dict.fromkeys("bd", 1))


async def test_names_without_subscribers_take_no_room(wheel: Wheel) -> None:
    counts = {"a": 0, "b": 2, "c": 0, "d": 3, "e": 0}
    assert await Roll(counts, counts.__getitem__, wheel).page(ask(limit=2)) == Page({"b": 2, "d": 3})


async def test_a_page_is_bounded_in_names_and_in_bytes(wheel: Wheel) -> None:
    short = [f"{number:06}" for number in range(10_000)]
    page = await Roll(short, one, wheel).page(ask(limit=1_000_000))
    assert (len(page.counts), page.more) == (survey.PAGE_NAMES, True)
    long = [f"{number:06}{'ü' * 100}" for number in range(1_000)]
    page = await Roll(long, one, wheel).page(ask())
    assert page.more
    assert PAGE_BYTES - 300 < sum(len(name.encode()) + 12 for name in page.counts) <= PAGE_BYTES
    huge = ["x" * 100_000, "y"]
    assert list((await Roll(huge, one, wheel).page(ask())).counts) == huge[:1]


async def test_names_are_put_in_order_once_for_each_survey(wheel: Wheel, clock: Clock) -> None:
    names = list("hcfaebdg")
    roll = Roll(names, one, wheel)
    await roll.page(ask(limit=2, survey="s"))
    names.append("cc")
    assert list((await roll.page(ask(after="b", limit=2, survey="other"))).counts) == ["c", "cc"]
    assert list((await roll.page(ask(after="b", limit=2, survey="s"))).counts) == ["c", "d"]
    # an answer that was lost is given again
    assert list((await roll.page(ask(after="b", limit=2, survey="s"))).counts) == ["c", "cc"]
    clock.now += WALK_TTL - 1
    wheel.turn()
    await roll.page(ask(after="cc", limit=2, survey="s"))
    clock.now += WALK_TTL - 1
    wheel.turn()
    assert list(roll._walks) == ["s"]
    assert not (await roll.page(ask(after="e", survey="s"))).more
    assert roll._walks == {}
    assert not any(wheel._slots.values())


async def test_names_are_not_kept_for_those_who_ask_no_more(wheel: Wheel, clock: Clock) -> None:
    roll = Roll("abc", one, wheel)
    for number in range(WALKS + 2):
        await roll.page(ask(limit=1, survey=str(number)))
    assert list(roll._walks) == [str(number) for number in range(2, WALKS + 2)]
    clock.now += WALK_TTL + 1
    wheel.turn()
    assert roll._walks == {}
    assert list((await roll.page(ask(after="a", limit=1, survey="9"))).counts) == ["b"]


@pytest.mark.parametrize("number", [0, 1])
async def test_others_have_their_turn_while_a_node_looks(wheel: Wheel, number: int) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    others = asyncio.create_task(count())
    names = [f"{number:06}" for number in range(50_000)]
    page = await Roll(names, lambda _name: number, wheel).page(ask())
    assert page.more == bool(number)
    others.cancel()
    assert turns >= (2 - number) * len(names) // survey._CHUNK


# — the node that asks —


class Stores:
    """Nodes that answer in pages of ``size`` names."""

    def __init__(self, nodes: list[Counts], size: int) -> None:
        self.nodes = {str(number): counts for number, counts in enumerate(nodes)}
        self.size = size
        self.silent: set[str] = set()
        self.asked: list[tuple[str, str]] = []

    async def ask(self, node: str, after: str) -> Page | None:
        self.asked.append((node, after))
        if node in self.silent:
            return None
        counts = self.nodes[node]
        names = sorted(counts)
        begin = bisect_right(names, after)
        page = names[begin : begin + self.size]
        return Page({name: counts[name] for name in page}, more=begin + self.size < len(names))

    def merge(self, after: str = "") -> Merge:
        return Merge(self.ask, self.nodes, after)


def total(nodes: list[Counts]) -> Counts:
    found: Counts = {}
    for counts in nodes:
        for name, count in counts.items():
            found[name] = found.get(name, 0) + count
    return found


counts_of_nodes = st.lists(st.dictionaries(st.text("abc", min_size=1, max_size=4), st.integers(1, 9)), max_size=6)


@given(counts_of_nodes, st.integers(1, 4), st.integers(1, 30))
async def test_pages_make_the_whole_whatever_their_size(nodes: list[Counts], size: int, limit: int) -> None:
    stores = Stores(nodes, size)
    found: Counts = {}
    cursor = ""
    while True:
        page = await stores.merge(cursor).take(limit)
        assert list(page) == sorted(page)
        assert not page.keys() & found.keys()
        assert len(page) == limit or not page.cursor
        found.update(page)
        if not page.cursor:
            break
        assert page.cursor == list(page)[-1]
        cursor = page.cursor
    assert found == total(nodes)


async def test_a_node_is_asked_again_only_when_all_it_told_is_used() -> None:
    stores = Stores([dict.fromkeys("abcdefgh", 1), dict.fromkeys("xyz", 1)], 3)
    assert list(await stores.merge().take(100)) == list("abcdefghxyz")
    assert stores.asked == [("0", ""), ("1", ""), ("0", "c"), ("0", "f")]


async def test_a_node_that_falls_silent_is_named_and_what_it_told_before_counts() -> None:
    stores = Stores([dict.fromkeys("abcd", 1), dict.fromkeys("abcd", 1), dict.fromkeys("abcd", 1)], 2)
    stores.silent.add("2")
    merge = stores.merge()
    ask = merge._ask

    async def ask_once(node: str, after: str) -> Page | None:
        if after:
            stores.silent.add("1")
        return await ask(node, after)

    merge._ask = ask_once
    assert await merge.take(100) == {"a": 2, "b": 2, "c": 1, "d": 1}
    assert merge.missing == ["2", "1"]


async def test_a_node_of_the_release_before_tells_everything_in_no_order() -> None:
    names = [f"room{number}" for number in range(50)]
    random.shuffle(names)

    async def ask(_node: str, _after: str) -> Page:
        return Page(dict.fromkeys(names, 1))

    assert list(await Merge(ask, ["old"], "room3").take(3)) == ["room30", "room31", "room32"]


async def test_without_nodes_there_is_nothing() -> None:
    found = await Stores([], 1).merge().take(10)
    assert (found, found.cursor, found.partial) == ({}, "", False)
