"""What is asked together, and what becomes of those who wait."""

import asyncio
from collections.abc import Sequence

import asyncpg
import pytest

from gateway.errors import BrokerUnavailable
from gateway.postgres import batch as module
from gateway.postgres.batch import HURRY, PATIENCE, Batch
from tests.waiting import settle


class Server:
    """Answers in capitals, when it is let."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.held: set[str] = set()
        self.released = asyncio.Event()

    async def send(self, items: list[str], patience: str) -> Sequence[str]:
        self.asked.append((" ".join(items), patience))
        await self.open.wait()
        if patience == HURRY and self.held.intersection(item[0] for item in items):
            raise asyncpg.LockNotAvailableError
        if self.held.intersection(item[0] for item in items):
            await self.released.wait()
        return [item.upper() for item in items]


@pytest.fixture
def server() -> Server:
    return Server()


async def test_what_is_asked_in_a_tick_leaves_together_and_the_rest_behind_it(server: Server) -> None:
    batch: Batch[str, str] = Batch(server.send, 10)
    server.open.clear()
    first = [batch.ask("a"), batch.ask("b")]
    await settle()
    later = [batch.ask(word) for word in "cde"]
    await settle()
    assert server.asked == [("a b", PATIENCE)]
    server.open.set()
    assert await asyncio.gather(*first, *later) == list("ABCDE")
    assert server.asked == [("a b", PATIENCE), ("c d e", PATIENCE)]


async def test_no_more_than_so_many_leave_together(server: Server) -> None:
    batch: Batch[str, str] = Batch(server.send, 2)
    assert await asyncio.gather(*(batch.ask(word) for word in "abcde")) == list("ABCDE")
    assert [words for words, _ in server.asked] == ["a b", "c d", "e"]


async def test_who_has_left_is_not_sent(server: Server) -> None:
    batch: Batch[str, str] = Batch(server.send, 10)
    server.open.clear()
    first = batch.ask("a")
    await settle()
    batch.ask("b").cancel()
    last = batch.ask("c")
    server.open.set()
    assert list(await asyncio.gather(first, last)) == ["A", "C"]
    assert [words for words, _ in server.asked] == ["a", "c"]


async def test_a_row_that_is_held_holds_up_those_alone_who_want_it(server: Server) -> None:
    batch: Batch[str, str] = Batch(server.send, 10, key=lambda item: item[0])
    server.held.add("x")
    held = [batch.ask("x1"), batch.ask("x2")]
    free = [batch.ask("a1"), batch.ask("b1")]
    assert await asyncio.gather(*free) == ["A1", "B1"]
    held.append(batch.ask("x3"))
    assert await batch.ask("a2") == "A2"
    assert not any(each.done() for each in held)
    server.held.clear()
    server.released.set()
    assert await asyncio.gather(*held) == ["X1", "X2", "X3"]
    assert [words for words, patience in server.asked if words[0] == "x" and patience == PATIENCE] == ["x1 x2", "x3"]
    assert await batch.ask("x4") == "X4"
    assert server.asked[-1] == ("x4", HURRY)  # as before


async def test_what_waits_already_goes_behind_those_of_its_row_that_are_held(server: Server) -> None:
    batch: Batch[str, str] = Batch(server.send, 10, key=lambda item: item[0])
    server.held.add("x")
    server.open.clear()
    first = batch.ask("x1")
    await settle()
    second, other = batch.ask("x2"), batch.ask("a1")  # while the first is under way
    server.open.set()
    assert await other == "A1"
    server.held.clear()
    server.released.set()
    assert list(await asyncio.gather(first, second)) == ["X1", "X2"]
    assert [words for words, patience in server.asked if patience == HURRY] == ["x1", "a1"]


async def test_silence_is_given_up_in_time_by_all_who_wait(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT", 0.05)
    batch: Batch[str, str] = Batch(server.send, 1)
    server.open.clear()
    answers = await asyncio.gather(*(batch.ask(word) for word in "abc"), return_exceptions=True)
    assert [isinstance(answer, BrokerUnavailable) for answer in answers] == [True] * 3
    server.open.set()
    assert await batch.ask("d") == "D"


async def test_what_waits_is_bounded_in_bytes(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 10)
    batch: Batch[str, str] = Batch(server.send, 10, size=len)
    server.open.clear()
    under_way = batch.ask("aaaaaaaaa")
    await settle()
    waits = batch.ask("bbbbbbbbb")
    with pytest.raises(BrokerUnavailable):
        await batch.ask("cc")
    server.open.set()
    assert list(await asyncio.gather(under_way, waits)) == ["AAAAAAAAA", "BBBBBBBBB"]
    assert await batch.ask("ddddddddd") == "DDDDDDDDD"


async def test_a_failure_is_everybodys_and_not_of_those_behind(
    caplog: pytest.LogCaptureFixture, server: Server
) -> None:
    fails = True

    async def send(items: list[str], patience: str) -> Sequence[str]:
        if fails:
            raise ZeroDivisionError
        return await server.send(items, patience)

    batch: Batch[str, str] = Batch(send, 10)
    answers = await asyncio.gather(batch.ask("a"), batch.ask("b"), return_exceptions=True)
    assert [isinstance(answer, ZeroDivisionError) for answer in answers] == [True] * 2
    assert "a statement failed" in caplog.text
    fails = False
    assert await batch.ask("c") == "C"


async def test_closed_while_somebody_waits(server: Server) -> None:
    batch: Batch[str, str] = Batch(server.send, 10)
    server.open.clear()
    waiting = batch.ask("a")
    await settle()
    await batch.close()
    with pytest.raises(BrokerUnavailable):
        await waiting
