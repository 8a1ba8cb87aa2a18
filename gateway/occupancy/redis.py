"""Occupancy of many nodes in Redis, by node lease.

The key ``o`` of a channel is the set of those that hear it: nodes, each in one of its incarnations. Whoever makes
the set, or empties it, is told so by the script that did. A dead node's part is taken out by the sweeper.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Unpack

from gateway.errors import BrokerUnavailable
from gateway.occupancy.base import OccupancyEvents
from gateway.redis.owned import KEEP, Intervals, Names, OwnedEntries
from gateway.redis.resp import Argument, milliseconds
from gateway.redis.script import Script
from gateway.redis.shard import Shard

_LUA = Path(__file__).parent / "lua"
_ENTER = Script(_LUA / "enter.lua")
_LEAVE = Script(_LUA / "leave.lua")


class RedisOccupancy:
    """Keeps occupancy over a ``Shard``, which is the caller's to start and to close.

    For the intervals see `owned.Intervals`. What Redis did not answer is made good when it is back.
    """

    def __init__(self, shard: Shard, **intervals: Unpack[Intervals]) -> None:
        self._shard = shard
        self._keys = shard.keys
        self._owned: OwnedEntries[str] = OwnedEntries(shard, "occupancy", b"y", self, **intervals)
        self._events: OccupancyEvents | None = None
        self._entered: dict[str, bool] = {}  # whether it has been answered
        self._leaving: set[str] = set()  # and not been answered
        shard.load(_ENTER, _LEAVE)

    async def start(self, node: str, events: OccupancyEvents) -> None:
        self._events = events
        await self._owned.start(node)

    async def close(self) -> None:
        entered = list(self._entered)
        self._entered.clear()
        await self._owned.close(entered)

    async def enter(self, channel: str) -> bool:
        # nobody has been told of a departure that was not answered
        self._entered[channel] = channel in self._leaving
        self._leaving.discard(channel)
        try:
            return await self._owned.write(channel) is True
        except BrokerUnavailable:
            return False

    async def leave(self, channel: str) -> bool:
        if self._entered.pop(channel, None) is None:
            return False
        try:
            return await self._owned.write(channel) is False
        except BaseException as error:
            if channel not in self._entered:
                self._leaving.add(channel)
            if isinstance(error, BrokerUnavailable):
                return False
            raise

    # — as owned entries —

    def entries(self) -> list[str]:
        return [*self._entered, *self._leaving]

    def channels(self) -> Collection[str]:
        return self._entered

    def keys(self, channel: str, owner: str) -> list[bytes]:
        return [self._keys.of(b"o", channel)]

    async def write(self, entry: str, names: Names) -> bool | None:
        """True if the channel is occupied by this, False if it is vacated by it, None if neither."""
        if entry not in self._entered:
            untold = entry in self._leaving
            vacated = await self._run(_LEAVE, entry, [int(untold)], names)
            self._leaving.discard(entry)
            return False if vacated else None
        untold = not self._entered[entry]
        occupied = await self._run(_ENTER, entry, [int(untold), milliseconds(KEEP)], names)
        if entry in self._entered:
            self._entered[entry] = True
        return True if occupied else None

    async def rewrite(self, entry: str, names: Names) -> None:
        self._tell(entry, await self.write(entry, names))

    async def sweep(self, channel: str, owner: str) -> None:
        if await self._run(_LEAVE, channel, [0], (owner,)):
            self._tell(channel, False)

    def restored(self, swept: bool) -> None:
        """Whoever came back to a vacant channel was told so."""

    def _tell(self, channel: str, occupied: bool | None) -> None:
        assert self._events is not None, "start() comes first"
        if occupied:
            self._events.on_occupied(channel)
        elif occupied is False:
            self._events.on_vacated(channel)

    async def _run(self, script: Script, channel: str, args: list[Argument], names: Names) -> bool:
        keys = [self._keys.of(b"o", channel), *(self._owned.index(channel, name) for name in names)]
        return bool(await self._shard.run(script, keys, [channel, *args, *names]))
