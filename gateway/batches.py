"""Many things, some at a time."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

_Item = TypeVar("_Item")


def batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """``itertools.batched``, which Python 3.11 has not."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
