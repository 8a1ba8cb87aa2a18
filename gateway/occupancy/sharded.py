"""One occupancy of several: each channel is kept by one of them."""

import asyncio
from collections.abc import Sequence

from gateway.jump import jump
from gateway.occupancy.base import Occupancy, OccupancyEvents


class ShardedOccupancy:
    """Keeps to ``Occupancy`` over several, which must be the same, in the same order, on all nodes."""

    def __init__(self, parts: Sequence[Occupancy]) -> None:
        self._parts = parts

    def _of(self, channel: str) -> Occupancy:
        return self._parts[jump(channel, len(self._parts))]

    async def start(self, node: str, events: OccupancyEvents) -> None:
        await asyncio.gather(*(part.start(node, events) for part in self._parts))

    async def close(self) -> None:
        await asyncio.gather(*(part.close() for part in self._parts))

    async def enter(self, channel: str) -> bool:
        return await self._of(channel).enter(channel)

    async def leave(self, channel: str) -> bool:
        return await self._of(channel).leave(channel)
