"""Occupancy of many nodes in Redis, by node lease.

The key ``o`` of a channel is the set of those that hear it: nodes, each in one of its incarnations. Whoever makes
the set, or empties it, is told so by the script that did. A dead node's part is taken out by the sweeper.
"""

import asyncio
import logging
from collections.abc import Collection
from pathlib import Path

from gateway.errors import BrokerUnavailable
from gateway.occupancy.base import OccupancyEvents
from gateway.redis.batches import batches
from gateway.redis.owned import KEEP, OwnedEntries, milliseconds
from gateway.redis.resp import Argument
from gateway.redis.script import Script
from gateway.redis.shard import Shard

logger = logging.getLogger(__name__)

BATCH = 500
"""Channels left in one go when a node closes."""

_LUA = Path(__file__).parent / "lua"
_ENTER = Script(_LUA / "enter.lua")
_LEAVE = Script(_LUA / "leave.lua")


class RedisOccupancy(OwnedEntries[str]):
    """Keeps occupancy over a ``Shard``, which is the caller's to start and to close.

    For ``lease`` and the intervals see ``OwnedEntries``. What Redis did not answer is made good when it is back.
    """

    def __init__(
        self, shard: Shard, *, lease: float = 10.0, renew_interval: float = 3.0, sweep_interval: float = 5.0
    ) -> None:
        super().__init__(shard, "occupancy", lease=lease, renew_interval=renew_interval, sweep_interval=sweep_interval)
        shard.load(_ENTER, _LEAVE)
        self._events: OccupancyEvents | None = None
        self._entered: dict[str, bool] = {}  # whether it has been answered
        self._leaving: set[str] = set()  # and not been answered

    async def start(self, node: str, events: OccupancyEvents) -> None:
        self._events = events
        await self._begin(node)

    async def close(self) -> None:
        await self._end()
        for batch in batches(list(self._entered), BATCH):
            for channel, last in zip(batch, await asyncio.gather(*map(self.leave, batch)), strict=True):
                if last:
                    self._told.on_vacated(channel)
        try:
            if self._owner and not self._leaving:  # else the sweeper has something to look for
                await self._abandon(self._owner)
        except BrokerUnavailable:
            logger.warning("Redis is away: the occupancy of this node ends with its lease")

    async def enter(self, channel: str) -> bool:
        self._leaving.discard(channel)
        self._entered[channel] = False
        try:
            # As many steps as in `leave`: the commands of both reach Redis in the order of the calls.
            _, first = await asyncio.gather(self._all(self._noting([channel])), self._run_enter(channel))
        except BrokerUnavailable:
            self._sure = False
            return False
        return bool(first)

    async def leave(self, channel: str) -> bool:
        if self._entered.pop(channel, None) is None:
            return False
        forgetting = [("SREM", self._index(self._owner), channel)]
        try:
            # In this order: what still is among the owners is in the index, too.
            last, _ = await asyncio.gather(self._run_leave(channel, self._owner), self._all(forgetting))
        except BrokerUnavailable:
            self._sure = False
            self._leaving.add(channel)
            return False
        return bool(last)

    async def _run_enter(self, channel: str, former: str = "") -> bool:
        untold = not self._entered.get(channel)
        args: list[Argument] = [self._owner, former, milliseconds(KEEP), int(untold)]
        first = bool(await self._shard.run(_ENTER, [self._key(channel)], args))
        if channel in self._entered:
            self._entered[channel] = True
        return first

    async def _run_leave(self, channel: str, owner: str, untold: bool = False) -> bool:
        return bool(await self._shard.run(_LEAVE, [self._key(channel)], [owner, int(untold)]))

    # — as owned entries —

    def _channels(self) -> Collection[str]:
        return self._entered

    def _key(self, channel: str) -> bytes:
        return self._keys.of(b"o", channel)

    def _entries(self) -> list[str]:
        return [*self._entered, *self._leaving]

    async def _restore(self, entries: list[str], former: str) -> None:
        if entered := [channel for channel in entries if channel in self._entered]:
            await self._all(self._noting(entered))
        await asyncio.gather(*(self._restore_one(channel, former) for channel in entries))

    async def _restore_one(self, channel: str, former: str) -> None:
        # Nothing is awaited between the look and the command: what changes meanwhile comes after it.
        if channel in self._entered:
            if await self._run_enter(channel, former):
                self._told.on_occupied(channel)
        elif channel in self._leaving:
            last = await self._run_leave(channel, former, untold=True)
            self._leaving.discard(channel)
            if last:
                self._told.on_vacated(channel)

    async def _sweep_channel(self, owner: str, channel: str) -> None:
        if await self._run_leave(channel, owner):
            self._told.on_vacated(channel)

    @property
    def _told(self) -> OccupancyEvents:
        assert self._events is not None, "start() comes first"
        return self._events
