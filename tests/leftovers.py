"""What is left of connections that are over, while no garbage collector comes by."""

import gc
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import CoroutineType
from typing import Any

from tests.waiting import until

MANY = 12
"""Connections that come and go between two counts: what each leaves is told from what is made once."""


@contextmanager
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    logging.disable()  # for pytest keeps what is logged
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        gc.enable()


async def assert_freed(come_and_go: Callable[[], Awaitable[object]], only: str = "") -> None:
    """Nothing is left of ``MANY`` connections that come and go with each call.

    Objects are counted by type, all of them; or those of modules that begin with ``only``, where the server is not ours
    and keeps its own.
    """
    await come_and_go()  # what is made once, and kept
    with without_collector():
        _census(only)  # counting, too, makes things at first
        await come_and_go()
        before = _census(only)
        await come_and_go()
        left: list[Counter[str]] = []

        def gone() -> bool:
            left[:] = [_census(only) - before]
            return all(count < MANY for count in left[0].values())

        try:
            await until(gone)
        except AssertionError:
            kinds = {kind: count for kind, count in left[0].items() if count >= MANY}
            raise AssertionError(f"left of {MANY} connections: {kinds}\n{_explained(kinds)}") from None


def _census(only: str) -> Counter[str]:
    """By type first, which no Python runs for: there are hundreds of thousands, of other tests too."""
    objects = gc.get_objects()
    types = Counter(map(type, objects))
    types.pop(CoroutineType, None)
    kinds = Counter(_kind(each) for each in objects if type(each) is CoroutineType)
    for each, count in types.items():
        kinds[f"{each.__module__}.{each.__qualname__}"] += count
    return Counter({kind: count for kind, count in kinds.items() if kind.startswith(only)})


def _kind(each: Any) -> str:
    if isinstance(each, CoroutineType):
        return f"coroutine {each.__qualname__}"
    return f"{type(each).__module__}.{type(each).__qualname__}"


def _explained(kinds: dict[str, int]) -> str:
    """The cycle of each kind that is unreachable, one for each: whom to blame."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        garbage = list(gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    lines = []
    for kind in kinds:
        found = next((each for each in garbage if _kind(each) == kind), None)
        if found is None:
            lines.append(f"{kind}: somebody keeps it")
        elif cycle := _cycle(found, {id(each) for each in garbage}):
            lines.append(" -> ".join(map(_kind, cycle)))
    return "\n".join(lines)


def _cycle(start: Any, within: set[int]) -> list[Any]:
    """The shortest way from an object back to itself, over others of the garbage."""
    ways, seen = [[start]], {id(start)}
    while ways:
        way = ways.pop(0)
        for each in gc.get_referents(way[-1]):
            if each is start:
                return [*way, start]
            if id(each) in within and id(each) not in seen:
                seen.add(id(each))
                ways.append([*way, each])
    return []
