"""Waiting for conditions with a deadline: the only place of the tests that sleeps, but for the schedule of a fuzz."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TypeVar, overload

T = TypeVar("T")

_PAUSE = 0.01
"""Seconds between two looks at a condition."""

_TURNS = 50
"""Turns of the event loop: more than anything takes that waits for nothing outside."""


@overload
async def until(condition: Callable[[], Awaitable[T]], deadline: float = 10.0, what: str = "") -> T: ...
@overload
async def until(condition: Callable[[], T], deadline: float = 10.0, what: str = "") -> T: ...


async def until(condition: Callable[[], T | Awaitable[T]], deadline: float = 10.0, what: str = "") -> T:
    """Wait until ``condition`` is true and return its value; it may be a coroutine function."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        result = await value if isawaitable(value) else value
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(_late(condition, deadline, what, result))
        await asyncio.sleep(_PAUSE)


def until_blocking(condition: Callable[[], T | None], deadline: float = 10.0, what: str = "") -> T:
    """The same without an event loop, for fixtures that outlive one test."""
    end = time.monotonic() + deadline
    while not (result := condition()):
        if time.monotonic() > end:
            raise AssertionError(_late(condition, deadline, what, result))
        time.sleep(_PAUSE)
    return result


async def settle() -> None:
    """Let everything run that can run now: before a look at what must not have happened."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)


def _late(condition: Callable[[], object], deadline: float, what: str, result: object) -> str:
    return f"not within {deadline:g} s: {what or condition} (last {result!r})"
