"""One presence store of several: each channel is kept by one of them, and each node has a lease at all."""

import asyncio
from collections.abc import Sequence

from gateway.jump import jump
from gateway.messages import ClientInfo
from gateway.presence.base import Changed, PresenceStore, ignore


class ShardedPresence:
    """Keeps to ``PresenceStore`` over several, which must be the same, in the same order, on all nodes."""

    def __init__(self, stores: Sequence[PresenceStore]) -> None:
        self._stores = stores

    def _of(self, channel: str) -> PresenceStore:
        return self._stores[jump(channel, len(self._stores))]

    async def start(self, node: str, swept: Changed, returned: Changed = ignore) -> None:
        await asyncio.gather(*(store.start(node, swept, returned) for store in self._stores))

    async def close(self) -> None:
        await asyncio.gather(*(store.close() for store in self._stores))

    async def add(self, channel: str, info: ClientInfo) -> None:
        await self._of(channel).add(channel, info)

    async def remove(self, channel: str, client: str) -> None:
        await self._of(channel).remove(channel, client)

    async def members(self, channel: str, at_most: int = 0) -> dict[str, ClientInfo]:
        return await self._of(channel).members(channel, at_most)

    async def page(self, channel: str, limit: int, cursor: str = "") -> tuple[dict[str, ClientInfo], str]:
        return await self._of(channel).page(channel, limit, cursor)

    async def stats(self, channel: str) -> tuple[int, int]:
        return await self._of(channel).stats(channel)
