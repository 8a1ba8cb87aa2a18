"""Publishes that the broker has not answered yet do not hold up their client, up to a number."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.session.pipeline import UNDER_WAY, Pipeline
from tests.waiting import until


class Work:
    """Work that waits for the test."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.done: list[int] = []
        self._answers: dict[int, asyncio.Future[None]] = {}

    async def __call__(self, number: int) -> None:
        self.begun.append(number)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._answers[number]
        self.done.append(number)

    def answer(self, number: int) -> None:
        self._answers[number].set_result(None)

    def refuse(self, number: int) -> None:
        self._answers[number].set_exception(RuntimeError("defect"))


async def added(pipeline: Pipeline, work: Callable[[int], Awaitable[None]], *numbers: int) -> None:
    for number in numbers:
        await pipeline.add(work(number))  # type: ignore[arg-type]  # a coroutine, as Work's are


async def test_work_is_begun_at_once_and_finished_in_order() -> None:
    pipeline, work = Pipeline(), Work()
    await added(pipeline, work, 1, 2, 3)
    assert work.begun == [1, 2, 3]
    for number in (2, 3, 1):  # whatever order the answers have
        work.answer(number)
    await until(lambda: len(work.done) == 3)
    assert work.done == [1, 2, 3]
    await added(pipeline, work, 4)
    work.answer(4)
    await until(lambda: work.done == [1, 2, 3, 4])


async def test_work_that_waits_for_nothing_needs_no_task() -> None:
    pipeline, done = Pipeline(), []

    async def work() -> None:
        done.append(len(asyncio.all_tasks()))

    before = len(asyncio.all_tasks())
    await pipeline.add(work())
    assert done == [before]


async def test_a_defect_in_one_leaves_the_others(caplog: pytest.LogCaptureFixture) -> None:
    pipeline, work = Pipeline(), Work()
    await added(pipeline, work, 1, 2)
    work.refuse(1)
    work.answer(2)
    await until(lambda: work.done == [2])
    assert "work of a client failed" in caplog.text


async def test_too_much_under_way_waits_for_half_of_it() -> None:
    pipeline, work = Pipeline(), Work()
    adding = asyncio.create_task(added(pipeline, work, *range(UNDER_WAY + 1)))
    await until(lambda: len(work.begun) == UNDER_WAY)
    for number in range(UNDER_WAY // 2 - 1):
        work.answer(number)
    await until(lambda: len(work.done) == UNDER_WAY // 2 - 1)
    assert not adding.done()
    assert len(work.begun) == UNDER_WAY
    work.answer(UNDER_WAY // 2 - 1)
    await adding
    assert work.begun[-1] == UNDER_WAY
    for number in range(UNDER_WAY // 2, UNDER_WAY + 1):
        work.answer(number)
    await until(lambda: len(work.done) == UNDER_WAY + 1)
    assert work.done == sorted(work.done)


async def test_one_who_gives_up_waiting_disturbs_nothing() -> None:
    pipeline, work = Pipeline(), Work()
    adding = asyncio.create_task(added(pipeline, work, *range(UNDER_WAY)))
    await until(lambda: len(work.begun) == UNDER_WAY)
    adding.cancel()
    await asyncio.wait([adding])
    for number in range(UNDER_WAY):
        work.answer(number)
    await until(lambda: len(work.done) == UNDER_WAY)
    await added(pipeline, work, UNDER_WAY)
    work.answer(UNDER_WAY)
    await until(lambda: len(work.done) == UNDER_WAY + 1)
