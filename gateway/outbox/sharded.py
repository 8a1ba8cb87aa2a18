"""One outbox of several: each app is kept by one of them."""

import asyncio
from collections.abc import Sequence
from itertools import chain

from gateway.jump import jump
from gateway.outbox.base import Event, Lost, Outbox, Place, Rules, Waiting


class ShardedOutbox:
    """Keeps to ``Outbox`` over several, which must be the same, in the same order, on all nodes."""

    def __init__(self, parts: Sequence[Outbox]) -> None:
        self._parts = parts

    @property
    def lost(self) -> Lost:
        return self._parts[0].lost

    @lost.setter
    def lost(self, lost: Lost) -> None:
        for part in self._parts:
            part.lost = lost

    @property
    def rules(self) -> Rules:
        return self._parts[0].rules

    @rules.setter
    def rules(self, rules: Rules) -> None:
        for part in self._parts:
            part.rules = rules

    def _of(self, app: str) -> Outbox:
        return self._parts[jump(app, len(self._parts))]

    async def start(self, node: str) -> None:
        await asyncio.gather(*(part.start(node) for part in self._parts))

    async def close(self) -> None:
        await asyncio.gather(*(part.close() for part in self._parts))

    async def enter(self, place: Place, key: str) -> None:
        await self._of(place.app).enter(place, key)

    async def leave(self, place: Place) -> None:
        await self._of(place.app).leave(place)

    async def add(self, app: str, key: str, event: bytes, once: tuple[str, str] | None = None) -> None:
        await self._of(app).add(app, key, event, once)

    async def count(self, app: str, key: str, channel: str, number: int, gap: float) -> None:
        await self._of(app).count(app, key, channel, number, gap)

    async def pending(self) -> list[str]:
        return list(chain.from_iterable(await asyncio.gather(*(part.pending() for part in self._parts))))

    async def waiting(self, app: str, limit: int) -> Waiting:
        return await self._of(app).waiting(app, limit)

    async def sort(self, app: str, events: Sequence[tuple[Event, Sequence[str]]]) -> int:
        return await self._of(app).sort(app, events)

    async def of(self, app: str, target: str, limit: int) -> list[Event]:
        return await self._of(app).of(app, target, limit)

    async def settle(self, app: str, target: str, events: Sequence[Event]) -> None:
        await self._of(app).settle(app, target, events)

    async def put_aside(self, app: str, target: str, events: Sequence[Event]) -> None:
        await self._of(app).put_aside(app, target, events)

    async def dead_letters(self, app: str) -> list[Event]:
        return await self._of(app).dead_letters(app)
