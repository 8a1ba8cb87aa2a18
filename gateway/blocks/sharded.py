"""A block list that is kept by several stores: each user by one of them."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from gateway.blocks.base import BlockEvents, BlockStore
from gateway.jump import jump


class ShardedBlocks:
    """Keeps to ``BlockStore`` over several, which must be the same, in the same order, on all nodes."""

    def __init__(self, stores: Sequence[BlockStore], clock: Callable[[], float] = time.monotonic) -> None:
        self._stores = stores
        self._clock = clock

    def _of(self, user: str) -> BlockStore:
        return self._stores[jump(user, len(self._stores))]

    async def start(self, events: BlockEvents) -> None:
        parts = _Parts(events, self._clock)
        await asyncio.gather(*(store.start(_Part(parts, number)) for number, store in enumerate(self._stores)))
        parts.started = True
        if parts.told:
            parts.tell()

    async def close(self) -> None:
        await asyncio.gather(*(store.close() for store in self._stores))

    def reload(self) -> None:
        for store in self._stores:
            store.reload()

    async def block(self, user: str, seconds: float) -> None:
        await self._of(user).block(user, seconds)

    async def unblock(self, user: str) -> None:
        await self._of(user).unblock(user)


class _Parts:
    """What each store has told last of its whole list, with the moments at which blocks end."""

    def __init__(self, events: BlockEvents, clock: Callable[[], float]) -> None:
        self.events = events
        self.clock = clock
        self.until: dict[int, dict[str, float]] = {}
        self.started = False
        """Before, what the stores tell is told together."""
        self.told = False

    def tell(self) -> None:
        self.told = True
        if not self.started:
            return
        now = self.clock()
        left = {user: until - now for part in self.until.values() for user, until in part.items()}
        self.events.on_list({user: seconds for user, seconds in left.items() if seconds > 0})


class _Part:
    """Hears one store."""

    def __init__(self, parts: _Parts, number: int) -> None:
        self._parts = parts
        self._until = parts.until.setdefault(number, {})

    def on_list(self, users: Mapping[str, float]) -> None:
        now = self._parts.clock()
        self._until.clear()
        self._until.update((user, now + seconds) for user, seconds in users.items())
        self._parts.tell()

    def on_block(self, user: str, seconds: float) -> None:
        self._until[user] = self._parts.clock() + seconds
        self._parts.events.on_block(user, seconds)

    def on_unblock(self, user: str) -> None:
        self._until.pop(user, None)
        self._parts.events.on_unblock(user)
