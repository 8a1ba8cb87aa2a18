"""Work that nobody waits for: kept, logged, ended."""

import asyncio
import gc
from asyncio import current_task
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context, ContextVar
from typing import Any
from weakref import ref

import pytest

from gateway.core import tasks
from gateway.core.tasks import Tasks, begin


async def test_failures_are_told(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()

    async def fails() -> None:
        raise ZeroDivisionError

    tasks.spawn(fails())
    await tasks.finish(within=5)
    assert "ZeroDivisionError" in caplog.text
    assert not tasks.running


async def test_what_is_stuck_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()
    ended = asyncio.Event()

    async def is_stuck() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    tasks.spawn(is_stuck())
    await tasks.finish(within=0)
    await ended.wait()
    assert not caplog.records


async def test_work_has_the_context_that_is_given_even_an_empty_one() -> None:
    user: ContextVar[str] = ContextVar("user", default="nobody")
    user.set("who made it")
    tasks, seen = Tasks(), []
    user.set("who calls")

    async def work() -> None:
        seen.append(user.get())

    tasks.spawn(work())
    tasks.spawn(work(), Context())
    await tasks.finish(within=60)
    assert seen == ["who made it", "nobody"]


async def test_what_work_begins_is_waited_for_as_well() -> None:
    tasks = Tasks()
    done = []

    async def last() -> None:
        await asyncio.get_running_loop().run_in_executor(None, int)
        done.append("last")

    async def first() -> None:
        tasks.spawn(last())

    tasks.spawn(first())
    await tasks.finish(within=60)
    assert done == ["last"]


# — begun on the spot —


class Work:
    """Waits for the futures it is given, and writes down what came of it."""

    def __init__(self, *waits_for: "asyncio.Future[Any]") -> None:
        self.waits_for = waits_for
        self.steps: list[Any] = []

    async def __call__(self) -> None:
        self.steps.append("begun")
        for future in self.waits_for:
            try:
                self.steps.append(await future)
            except (ValueError, asyncio.CancelledError) as error:
                self.steps.append(type(error))
        self.steps.append("done")


def future() -> "asyncio.Future[Any]":
    return asyncio.get_running_loop().create_future()


async def test_what_need_not_wait_is_done_at_once() -> None:
    work = Work()
    assert begin(work()) is None
    assert work.steps == ["begun", "done"]


async def test_a_failure_before_the_first_wait_is_the_callers() -> None:
    async def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        begin(fails())


@pytest.mark.parametrize("early", [False, True])
async def test_the_rest_is_awaited_from_where_it_waits(early: bool) -> None:
    first, second = future(), future()
    work = Work(first, second)
    rest = begin(work())
    assert rest is not None
    assert work.steps == ["begun"]
    if early:
        first.set_result(1)  # before anybody awaits the rest
    task = asyncio.ensure_future(rest)
    await asyncio.sleep(0)
    if not early:
        first.set_result(1)
    second.set_exception(ValueError())
    await task
    assert work.steps == ["begun", 1, ValueError, "done"]


async def test_a_wait_of_no_length_is_one_too() -> None:
    async def yields() -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    rest = begin(yields())
    assert rest is not None
    await rest


async def test_a_failure_of_the_rest_is_for_who_awaits_it() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    rest = begin(fails())
    assert rest is not None
    with pytest.raises(ZeroDivisionError):
        await rest


async def test_who_awaits_the_rest_can_cancel_it() -> None:
    work = Work(future(), future())
    rest = begin(work())
    assert rest is not None
    task = asyncio.ensure_future(rest)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert work.steps == ["begun", asyncio.CancelledError]
    work.waits_for[1].set_result(2)
    await task
    assert work.steps == ["begun", asyncio.CancelledError, 2, "done"]


async def test_what_it_waits_for_may_be_cancelled() -> None:
    work = Work(future())
    rest = begin(work())
    assert rest is not None
    work.waits_for[0].cancel()
    await rest
    assert work.steps == ["begun", asyncio.CancelledError, "done"]


@pytest.mark.parametrize("among_results", [False, True])
async def test_a_failure_keeps_nothing_that_was_waited_for(among_results: bool) -> None:
    """Its traceback keeps the frames it has passed: in none of them may be the future that keeps the failure."""
    waited_for = [future()]
    kept = ref(waited_for[0])

    async def fails() -> None:
        raise (await waited_for.pop())[0]

    def fail(waiting: "asyncio.Future[Any]") -> None:
        if among_results:
            waiting.set_result([ZeroDivisionError()])
        else:
            waiting.set_exception(ZeroDivisionError())

    asyncio.get_running_loop().call_soon(fail, waited_for[0])
    gc.disable()
    try:
        with suppress(ZeroDivisionError):
            rest = begin(fails())
            assert rest is not None
            await rest
        await asyncio.sleep(0)  # the event loop has it as long as the step lasts in which it brought it
        assert kept() is None
    finally:
        gc.enable()


async def asks() -> None:
    asyncio.current_task()


async def times_out_at_once() -> None:
    async with asyncio.timeout(1):
        await asyncio.sleep(0)


async def groups() -> None:
    async with asyncio.TaskGroup():
        pass


async def asks_by_name() -> None:
    """The function itself, as a library may have imported it: answers None, which no timeout takes."""
    assert current_task() is None
    raise RuntimeError


@pytest.mark.parametrize("work", [asks, times_out_at_once, groups, asks_by_name])
async def test_who_asks_for_its_task_too_early_fails_loudly(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with pytest.raises(RuntimeError):
        begin(work())
    assert asyncio.current_task() is current_task() is not None
    assert begin(Work()()) is None


async def test_other_threads_are_left_alone() -> None:
    """They have loops of their own, and tasks in them."""

    async def waits_for_a_thread() -> None:
        with ThreadPoolExecutor() as threads:
            assert threads.submit(asyncio.run, asks_later()).result() is None

    async def asks_later() -> None:
        assert asyncio.current_task() is not None

    assert begin(waits_for_a_thread()) is None


async def test_who_begins_another_fails_no_more_than_that_one() -> None:
    async def begins() -> None:
        assert begin(Work()()) is None
        asyncio.current_task()

    with pytest.raises(RuntimeError, match="before it has waited"):
        begin(begins())
    asyncio.get_running_loop().call_soon(lambda: begin(Work()()))  # where there is no task at all
    await asyncio.sleep(0)
    assert asyncio.current_task() is not None


async def test_outside_of_debug_mode_nothing_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "debug", False)
    assert begin(asks()) is None


async def test_once_awaited_it_has_a_task() -> None:
    async def times_out() -> None:
        await asyncio.sleep(0)
        async with asyncio.timeout(0):
            await future()

    rest = begin(times_out())
    assert rest is not None
    with pytest.raises(TimeoutError):
        await rest
