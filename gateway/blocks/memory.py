"""The block list of one process."""

import time
from collections.abc import Callable

from gateway.blocks.base import MOST, BlockEvents, list_full


class MemoryBlocks:
    """Ends with the process. Nodes that share a list are given the ``other``."""

    def __init__(self, clock: Callable[[], float] = time.time, other: "MemoryBlocks | None" = None) -> None:
        self._clock = clock
        self._until: dict[str, float] = {} if other is None else other._until
        self._nodes: list[BlockEvents] = [] if other is None else other._nodes
        self._events: BlockEvents | None = None

    async def start(self, events: BlockEvents) -> None:
        self._events = events
        self._nodes.append(events)
        self.reload()

    async def close(self) -> None:
        if self._events is not None:
            self._nodes.remove(self._events)
            self._events = None

    def reload(self) -> None:
        self._forget()
        if self._events is not None:
            now = self._clock()
            self._events.on_list({user: until - now for user, until in self._until.items()})

    async def block(self, user: str, seconds: float) -> None:
        if len(self._until) >= MOST and user not in self._until:
            self._forget()
            if len(self._until) >= MOST:
                raise list_full()
        self._until[user] = self._clock() + seconds
        for events in self._nodes:
            events.on_block(user, seconds)

    async def unblock(self, user: str) -> None:
        self._until.pop(user, None)
        for events in self._nodes:
            events.on_unblock(user)

    def _forget(self) -> None:
        now = self._clock()
        for user in [user for user, until in self._until.items() if until <= now]:
            del self._until[user]
