"""Many things, some at a time."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


def batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """``itertools.batched``, which Python 3.11 has not."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


async def in_turns(items: Iterable[_Item], size: int, make: Callable[[_Item], _Made]) -> list[_Made]:
    """What is made of each; others have their turn after every ``size``."""
    made: list[_Made] = []
    for batch in batches(items, size):
        made += map(make, batch)
        if len(batch) == size:
            await asyncio.sleep(0)
    return made
