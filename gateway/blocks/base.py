"""The block list: which users may not connect, and for how long. Every node has a copy, and hears of each change."""

from collections.abc import Mapping
from datetime import timedelta
from math import inf
from typing import Protocol

from gateway.errors import Error, ErrorCode

MOST = 100_000
"""Users on the list. Each node keeps them all, some 15 MB, and reads them when it starts, in a second or two."""

FOR_EVER = inf

CENTURY = 100 * 366 * 86400.0


class BlockEvents(Protocol):
    """Is told what the list holds. Plain calls that return at once and raise nothing; times in seconds from now."""

    def on_list(self, users: Mapping[str, float]) -> None:
        """All of it, in place of what was told before."""

    def on_block(self, user: str, seconds: float) -> None: ...

    def on_unblock(self, user: str) -> None: ...


class BlockStore(Protocol):
    """One implementation per backend. What asks the backend may raise ``BrokerUnavailable``."""

    async def start(self, events: BlockEvents) -> None:
        """Tell of the list, and from then on of what changes, on whichever node.

        Returns even when the backend cannot be reached yet: the list is told as soon as it can.
        """

    async def close(self) -> None: ...

    def reload(self) -> None:
        """Something may have been missed: tell of the whole list again, soon."""

    async def block(self, user: str, seconds: float) -> None:
        """Put a user on the list, in place of what it says of it. Raises `list_full`'s error."""

    async def unblock(self, user: str) -> None:
        """Take a user off the list; nothing happens if it is not there."""


def block_seconds(lasts: float | timedelta | None) -> float:
    """How long a block lasts that a program gives so. Raises ``ValueError``."""
    if lasts is None:
        return FOR_EVER
    seconds = lasts.total_seconds() if isinstance(lasts, timedelta) else lasts
    if not seconds > 0:
        raise ValueError(f"for_ = {lasts} must be positive: seconds, as for_=600, a timedelta, or None for no end")
    return seconds if seconds < CENTURY else FOR_EVER


def list_full() -> Error:
    advice = "unblock others, or have on_connect refuse whom you keep out for good"
    return Error(ErrorCode.LIMIT_EXCEEDED, f"limit exceeded: {MOST:,} users are blocked, which is all; {advice}")
