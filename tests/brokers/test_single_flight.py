"""Equal questions of many: who shares an answer, and who must not."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

import pytest

from gateway.brokers.single_flight import SingleFlight
from gateway.core.tasks import begin
from gateway.errors import BrokerUnavailable
from gateway.metrics import Reads
from tests.waiting import settle, until

_T = TypeVar("_T")


class Oracle:
    """Answers when the test says so; each answer tells which of its questions it is to."""

    def __init__(self, pause: float = 0.0) -> None:
        self.flights: SingleFlight[str, int] = SingleFlight(pause)
        self.put: list[asyncio.Future[int]] = []

    def ask(self, count: int = 1, key: str = "k") -> list[asyncio.Future[int]]:
        return [self.flights.ask(key, self._put) for _ in range(count)]

    async def answered(self, asked: Sequence[asyncio.Future[_T]]) -> list[_T]:
        """What they are told when each question is answered with its number, as soon as it is put."""
        while not all(task.done() for task in asked):
            await asyncio.sleep(0)
            for number, answer in enumerate(self.put):
                if not answer.done():
                    answer.set_result(number)
        return [task.result() for task in asked]

    async def _put(self) -> int:
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.put.append(answer)
        return await answer


@pytest.fixture
async def oracle() -> Oracle:
    return Oracle()


async def test_equal_questions_of_a_tick_are_put_once(oracle: Oracle) -> None:
    asked, other = oracle.ask(100), oracle.ask(2, "other")
    await settle()
    assert len(oracle.put) == 2
    for number, answer in enumerate(oracle.put):
        answer.set_result(number)
    assert await asyncio.gather(*asked) == [0] * 100
    assert await asyncio.gather(*other) == [1] * 2


async def test_nobody_joins_a_question_that_has_been_put(oracle: Oracle) -> None:
    [early] = oracle.ask()
    await settle()
    [late] = oracle.ask()
    await settle()
    oracle.put[0].set_result(0)
    assert await early == 0
    await settle()
    assert not late.done()
    oracle.put[1].set_result(1)
    assert await late == 1


async def test_who_asks_while_the_first_is_about_to_put_it_joins_or_asks_anew(oracle: Oracle) -> None:
    """Whatever the turns of the event loop: nobody's answer is to a question put before he asked."""
    asked: list[asyncio.Future[int]] = []
    before: list[int] = []
    for _ in range(10):
        before.append(len(oracle.put))
        asked += oracle.ask()
        await asyncio.sleep(0)
    answers = await oracle.answered(asked)
    assert all(answer >= put for answer, put in zip(answers, before, strict=True))


async def test_nobody_joins_a_question_that_was_put_in_the_same_turn(oracle: Oracle) -> None:
    """It may have left already: a pipeline that was due to be written is written amid a turn."""
    late: list[Awaitable[None] | None] = []
    answers: list[int] = []

    async def ask_late() -> None:
        answers.append(await oracle.flights.ask("k", oracle._put))

    async def put() -> int:
        late.append(begin(ask_late()))  # on the spot, as a client's frame is dealt with
        return await oracle._put()

    first = oracle.flights.ask("k", put)
    await until(lambda: oracle.put)
    [rest] = late
    assert rest is not None
    second: asyncio.Future[None] = asyncio.ensure_future(rest)
    assert await oracle.answered([first]) == [0]
    await oracle.answered([second])
    assert answers == [1]


async def test_those_who_come_while_it_is_under_way_share_the_next(oracle: Oracle) -> None:
    """Over however many ticks they come."""
    asked = oracle.ask()
    await settle()
    for _ in range(100):
        asked += oracle.ask(3)
        await asyncio.sleep(0)
    assert len(oracle.put) == 1
    assert await oracle.answered(asked) == [0] + [1] * 300
    assert len(oracle.put) == 2
    assert await oracle.answered(oracle.ask()) == [2], "nothing is left of it"


async def test_where_many_come_it_is_put_only_after_a_pause() -> None:
    oracle = Oracle(pause=3600)
    [first] = oracle.ask()
    await settle()
    asked = oracle.ask(2)
    await settle()
    oracle.put[0].set_result(0)
    assert await first == 0
    asked += oracle.ask(2)
    await settle()
    assert len(oracle.put) == 1
    waiting: list[asyncio.Future[Any]] = [*asked, *oracle.flights._flights.running]
    for task in waiting:
        task.cancel()
    await settle()
    assert all(task.cancelled() for task in asked)


async def test_one_after_the_other_nobody_waits_for_a_pause() -> None:
    oracle = Oracle(pause=3600)
    for number in range(3):
        assert await oracle.answered(oracle.ask(2)) == [number] * 2


async def test_the_end_of_the_event_loop_leaves_nobody_waiting(oracle: Oracle) -> None:
    asked = oracle.ask()
    await settle()
    asked += oracle.ask(2)
    await settle()
    oracle.put[0].set_result(0)
    await until(lambda: len(oracle.put) == 2)
    asked += oracle.ask(2)
    await settle()
    for task in oracle.flights._flights.running:
        task.cancel()
    await settle()
    assert [task.cancelled() for task in asked] == [False] + [True] * 4


async def test_those_who_wait_for_the_next_are_not_told_that_the_one_before_failed(oracle: Oracle) -> None:
    [early] = oracle.ask()
    await settle()
    late = oracle.ask(2)
    await settle()
    oracle.put[0].set_exception(BrokerUnavailable())
    with pytest.raises(BrokerUnavailable):
        await early
    await until(lambda: len(oracle.put) == 2)
    oracle.put[1].set_result(1)
    assert await asyncio.gather(*late) == [1, 1]


@pytest.mark.parametrize("turns", [1, 2, 3])
async def test_the_first_who_is_cancelled_disturbs_nobody(oracle: Oracle, turns: int) -> None:
    first, *others = oracle.ask(3)
    for _ in range(turns):
        await asyncio.sleep(0)
    first.cancel()
    await settle()
    assert first.cancelled()
    oracle.put[-1].set_result(7)
    assert await asyncio.gather(*others) == [7, 7]


async def test_another_who_is_cancelled_disturbs_nobody(oracle: Oracle) -> None:
    first, second, third = oracle.ask(3)
    await settle()
    second.cancel()
    await settle()
    oracle.put[0].set_result(7)
    assert [await first, await third] == [7, 7]
    assert second.cancelled()


async def test_a_failure_is_everybodys_and_each_has_its_own(oracle: Oracle) -> None:
    asked = oracle.ask(3)
    await settle()
    oracle.put[0].set_exception(BrokerUnavailable())
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [BrokerUnavailable] * 3
    assert len({id(outcome) for outcome in outcomes}) == 3


async def test_an_answer_on_the_spot_leaves_nobody_waiting(oracle: Oracle) -> None:
    """As while the broker is away."""
    put: list[int] = []

    async def refuse() -> int:
        put.append(len(put))
        raise BrokerUnavailable

    asked = [oracle.flights.ask("k", refuse) for _ in range(3)]
    await settle()
    assert all(task.done() for task in asked)
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [BrokerUnavailable] * 3
    assert put == [0]


async def test_who_shares_is_counted(oracle: Oracle) -> None:
    first = oracle.ask(10)
    await settle()
    later = oracle.ask(5)
    assert await oracle.answered([*first, *later]) == [0] * 10 + [1] * 5
    assert oracle.flights.reads == Reads(put=2, shared=13)
