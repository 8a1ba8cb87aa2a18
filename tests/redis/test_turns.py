"""Whose turn it is while a slot changes hands."""

import asyncio
from typing import Any

import pytest

from gateway.redis import turns as module
from gateway.redis.turns import Turns
from tests.waiting import settle, until


class Former:
    """A former owner, which answers when it is let."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[Any]] = []

    def ask(self) -> asyncio.Future[Any]:
        self.asked.append(asyncio.get_running_loop().create_future())
        return self.asked[-1]


class Line:
    """What has been sent, in order."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.sent: list[str] = []

    def come(self, name: str) -> None:
        self._wait(self.turns.take(1), name)

    def come_again(self, name: str) -> None:
        self._wait(self.turns.take_again(1), name)

    def _wait(self, turn: "asyncio.Future[None] | None", name: str) -> None:
        if turn is None:
            self.sent.append(name)
        else:
            turn.add_done_callback(lambda _: self.sent.append(name))


async def test_new_ones_wait_until_those_before_are_answered() -> None:
    turns, former = Turns(), Former()
    line = Line(turns)
    work = asyncio.create_task(turns.hold([1, 2], former.ask))
    line.come("a")
    assert turns.take(3) is None
    await settle()
    assert line.sent == []
    former.asked[0].set_result(b"PONG")
    line.come("b")
    await work
    line.come("c")
    assert line.sent == ["a", "b", "c"]


async def test_those_who_are_sent_again_go_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE", 0)
    turns, former = Turns(), Former()
    line = Line(turns)
    work = asyncio.create_task(turns.hold([1], former.ask))
    line.come("new")
    line.come_again("first")
    assert turns.pausing(1)
    line.come_again("second")
    former.asked[0].set_result(b"PONG")
    await until(lambda: len(former.asked) == 2)
    assert line.sent == ["first", "second"]
    line.come_again("first, once more")
    former.asked[1].set_result(b"PONG")
    await until(lambda: len(former.asked) == 3)
    former.asked[2].set_result(b"PONG")
    await work
    assert line.sent == ["first", "second", "first, once more", "new"]


async def test_a_former_owner_that_is_away_or_silent_holds_nobody_up_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", 0.01)
    turns, former = Turns(), Former()
    line = Line(turns)
    for answer in (ConnectionError(), None):
        work = asyncio.create_task(turns.hold([1], former.ask))
        line.come("a")
        if answer:
            former.asked[-1].set_exception(answer)
        await work
    assert line.sent == ["a", "a"]


async def test_whoever_stops_lets_everybody_go() -> None:
    turns, former = Turns(), Former()
    line = Line(turns)
    work = asyncio.create_task(turns.hold([1], former.ask))
    line.come("a")
    work.cancel()  # before it has begun
    turns.close()
    await settle()
    assert line.sent == ["a"]
