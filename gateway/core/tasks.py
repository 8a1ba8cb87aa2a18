"""Work that nobody waits for."""

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from contextvars import Context, copy_context
from types import coroutine
from typing import Any, TypeVar

from gateway.batches import batches

Spawn = Callable[[Coroutine[Any, Any, None]], None]
"""Runs work that nobody waits for."""

CHUNK = 500
"""Items of one call worked on together: more would hold up everybody else."""

log = logging.getLogger(__name__)


class Tasks:
    """Keeps tasks until they are done, and logs those that fail."""

    def __init__(self) -> None:
        self.running: set[asyncio.Task[None]] = set()
        self._context = copy_context()

    def spawn(self, work: Coroutine[Any, Any, None], context: Context | None = None) -> None:
        """Run the work, with the context variables of ``context``, or those there were when this was made.

        Not those of the caller: he may act for one client, and the work be about another.
        """
        within = self._context if context is None else context  # an empty one is false
        task = asyncio.get_running_loop().create_task(work, context=within.copy())
        self.running.add(task)  # the event loop itself keeps no strong reference
        task.add_done_callback(self._done)

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Run the work on the spot up to where it first waits, the rest as ``spawn`` does."""
        try:
            rest = begin(work)
        except Exception:
            log.exception("background work failed")
        else:
            if rest is not None:
                self.spawn(_finished(rest))

    async def finish(self, within: float) -> None:
        """Wait for what runs, and what that begins, ``within`` seconds at most; the rest is cancelled."""
        loop = asyncio.get_running_loop()
        end = loop.time() + within
        while self.running:
            await asyncio.wait(self.running, timeout=max(0.0, end - loop.time()))
            if loop.time() >= end:
                break
        for task in self.running:
            task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background work failed", exc_info=error)


def being_cancelled() -> bool:
    """Whether the task that asks has been told to end, even if what it runs takes no notice."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def begin(work: Coroutine[Any, Any, None]) -> Awaitable[None] | None:
    """Run a coroutine on the spot up to where it first waits; answers the rest of it, None if that was all.

    Spares a task where there is hardly ever something to wait for. The coroutine must not ask for its task
    (``asyncio.timeout`` does) before it has waited; in debug mode that raises ``RuntimeError``.
    """
    try:
        waits_for = _send_without_task(work) if debug else work.send(None)
    except StopIteration:
        return None
    return _rest(work, waits_for)


debug = False
"""Whether ``begin`` checks what it asks of coroutines."""

_current_task = asyncio.current_task


class _Step(threading.local):
    taskless = False
    """Whether this thread is carrying out the first step of a coroutine that was begun on the spot."""


_step = _Step()


def check_begin() -> None:
    """Turn debug mode on. It is on from the start where asyncio's is (``python -X dev``)."""
    global debug
    debug = True
    asyncio.current_task = asyncio.tasks.current_task = _task_if_any


def _send_without_task(work: Coroutine[Any, Any, None]) -> Any:
    """Take the first step, and have whoever asks for the current task fail rather than get that of who calls."""
    loop = asyncio.get_running_loop()
    task, outer = _current_task(loop), _step.taskless
    _step.taskless = True
    if task is not None:
        asyncio.tasks._leave_task(loop, task)  # for libraries that have imported the function by its name
    try:
        return work.send(None)
    finally:
        _step.taskless = outer
        if task is not None:
            asyncio.tasks._enter_task(loop, task)


def _task_if_any(loop: asyncio.AbstractEventLoop | None = None) -> asyncio.Task[Any] | None:
    if _step.taskless:
        raise RuntimeError(
            "a coroutine that was begun on the spot asks for its task (as asyncio.timeout does) before it has waited: "
            "it has none yet, and would get its caller's; let it run in a task of its own"
        )
    return _current_task(loop)


if sys.flags.dev_mode or os.environ.get("PYTHONASYNCIODEBUG"):
    check_begin()


@coroutine
def _rest(work: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    """Carry on with a coroutine that has been started by hand, from the future that it waits for."""
    while True:
        try:
            yield waits_for
            break
        except BaseException as error:
            waits_for = None  # with a failure in it, or among its results, it would keep itself by its traceback
            try:
                waits_for = work.throw(error)
            except StopIteration:
                return
    waits_for = None
    yield from work


async def _finished(rest: Awaitable[None]) -> None:
    await rest


_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


async def at_once(work: Callable[[_Item], Awaitable[_Answer]], items: Sequence[_Item]) -> list[_Answer]:
    """Answers for all items, in order, worked on together in chunks."""
    answers: list[_Answer] = []
    for some in batches(items, CHUNK):
        answers += await asyncio.gather(*map(work, some))
    return answers
