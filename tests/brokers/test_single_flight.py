"""Equal questions of one tick: who shares an answer, and who must not."""

import asyncio
from collections.abc import Awaitable

import pytest

from gateway.brokers.single_flight import SingleFlight
from gateway.core.tasks import begin
from gateway.errors import BrokerUnavailable
from tests.waiting import settle, until


class Oracle:
    """Answers when the test says so; each answer tells which of its questions it is to."""

    def __init__(self) -> None:
        self.flights: SingleFlight[str, int] = SingleFlight()
        self.put: list[asyncio.Future[int]] = []

    def ask(self, count: int = 1, key: str = "k") -> list[asyncio.Task[int]]:
        return [asyncio.create_task(self.flights.ask(key, self._put)) for _ in range(count)]

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
    assert len(oracle.put) == 2
    oracle.put[0].set_result(0)
    assert await early == 0
    assert not late.done()
    oracle.put[1].set_result(1)
    assert await late == 1


async def test_who_asks_while_the_first_is_about_to_put_it_joins_or_asks_anew(oracle: Oracle) -> None:
    """Whatever the turns of the event loop: nobody's answer is to a question put before he asked."""
    asked: list[asyncio.Task[int]] = []
    before: list[int] = []
    for _ in range(10):
        before.append(len(oracle.put))
        asked += oracle.ask()
        await asyncio.sleep(0)
    await settle()
    for number, answer in enumerate(oracle.put):
        answer.set_result(number)
    answers = await asyncio.gather(*asked)
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

    first = asyncio.create_task(oracle.flights.ask("k", put))
    await until(lambda: oracle.put)
    [rest] = late
    assert rest is not None
    second = asyncio.ensure_future(rest)
    await until(lambda: len(oracle.put) == 2)
    for number, answer in enumerate(oracle.put):
        answer.set_result(number)
    await second
    assert (await first, answers) == (0, [1])


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

    asked = [asyncio.create_task(oracle.flights.ask("k", refuse)) for _ in range(3)]
    await settle()
    assert all(task.done() for task in asked)
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [BrokerUnavailable] * 3
    assert put == [0]
