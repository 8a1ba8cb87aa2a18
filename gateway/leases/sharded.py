"""Leases that are kept by several: each name's by one of them, beside the stream of the channel of that name."""

import asyncio
from collections.abc import Sequence

from gateway.jump import jump
from gateway.leases.base import Lease, Leases, Released, Taken


class ShardedLeases:
    """Keeps to ``Leases`` over several, which must be the same, in the same order, on all nodes."""

    def __init__(self, parts: Sequence[Leases]) -> None:
        self.ttl = parts[0].ttl
        self.on_release: list[Released] = []
        self._parts = parts
        for part in parts:
            part.on_release = self.on_release

    def _of(self, name: str) -> Leases:
        return self._parts[jump(name, len(self._parts))]

    async def start(self) -> None:
        await asyncio.gather(*(part.start() for part in self._parts))

    async def close(self) -> None:
        await asyncio.gather(*(part.close() for part in self._parts))

    async def acquire(self, name: str, owner: str, anew: bool = False) -> Lease | Taken:
        return await self._of(name).acquire(name, owner, anew)

    async def renew(self, lease: Lease) -> bool:
        return await self._of(lease.name).renew(lease)

    async def release(self, lease: Lease) -> None:
        await self._of(lease.name).release(lease)

    async def finish(self, lease: Lease) -> None:
        await self._of(lease.name).finish(lease)
