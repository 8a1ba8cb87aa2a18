"""Occupancy of many nodes in Redis, by node lease.

The key ``o`` of a channel is the set of those that hear it: nodes, each in one of its incarnations. Whoever makes
the set, or empties it, is told so by the script that did. A dead node's part is taken out by the sweeper.
"""

from collections.abc import Collection
from enum import Enum
from pathlib import Path

from gateway.errors import BrokerUnavailable
from gateway.occupancy.base import OccupancyEvents
from gateway.redis.owned import INTERVALS, KEEP, Intervals, Names, OwnedEntries
from gateway.redis.resp import Argument, milliseconds
from gateway.redis.script import Script
from gateway.redis.shard import Shard

_WRITE = Script(Path(__file__).parent / "lua" / "write.lua")


class _State(Enum):
    """A channel's, on this node; one that is not heard has none."""

    ENTERING = "heard, and nobody has been told"
    ENTERED = "heard, and told if it was the first"
    LEAVING = "not heard any more, and nobody has been told"


class RedisOccupancy:
    """Keeps occupancy over a ``Shard``, which is the caller's to start and to close.

    What Redis did not answer is made good when it is back.
    """

    def __init__(self, shard: Shard, intervals: Intervals = INTERVALS) -> None:
        self._shard = shard
        self._keys = shard.keys
        self._owned: OwnedEntries[str] = OwnedEntries(shard, "occupancy", b"y", self, intervals)
        self._events: OccupancyEvents | None = None
        self._states: dict[str, _State] = {}
        shard.load(_WRITE)

    async def start(self, node: str, events: OccupancyEvents) -> None:
        self._events = events
        await self._owned.start(node)

    async def close(self) -> None:
        channels = list(self._states)
        self._states = {channel: state for channel, state in self._states.items() if state is _State.LEAVING}
        await self._owned.close(channels)

    async def enter(self, channel: str) -> bool:
        # nobody has been told of a departure that was not answered
        left = self._states.get(channel) is _State.LEAVING
        self._states[channel] = _State.ENTERED if left else _State.ENTERING
        try:
            return await self._owned.write(channel) is True
        except BrokerUnavailable:
            return False

    async def leave(self, channel: str) -> bool:
        if self._states.get(channel, _State.LEAVING) is _State.LEAVING:
            return False
        del self._states[channel]
        try:
            return await self._owned.write(channel) is False
        except BaseException as error:
            self._states.setdefault(channel, _State.LEAVING)
            if isinstance(error, BrokerUnavailable):
                return False
            raise

    # — as owned entries —

    def entries(self) -> Collection[str]:
        return self._states

    def keys(self, entry: str, owner: str) -> list[bytes]:
        return [self._keys.of(b"o", entry), self._owned.index(entry, owner)]

    async def write(self, entry: str, names: Names) -> bool | None:
        """True if the channel is occupied by this, False if it is vacated by it, None if neither."""
        state = self._states.get(entry)
        heard, told = state in (_State.ENTERING, _State.ENTERED), state in (None, _State.ENTERED)
        changed = await self._write(entry, names, heard=heard, told=told)
        match self._states.get(entry):
            case _State.ENTERING if heard:
                self._states[entry] = _State.ENTERED
            case _State.LEAVING if not heard:
                del self._states[entry]
        return heard if changed else None

    async def rewrite(self, entry: str, names: Names) -> None:
        self._tell(entry, await self.write(entry, names))

    async def sweep(self, channel: str, owner: str) -> None:
        if await self._write(channel, (owner,), heard=False, told=True):
            self._tell(channel, False)

    def restored(self, swept: bool) -> None:
        """Whoever came back to a vacant channel was told so."""

    def renewed(self) -> None:
        """What changed is told as it is written."""

    def _tell(self, channel: str, occupied: bool | None) -> None:
        assert self._events is not None, "start() comes first"
        if occupied:
            self._events.on_occupied(channel)
        elif occupied is False:
            self._events.on_vacated(channel)

    async def _write(self, channel: str, names: Names, *, heard: bool, told: bool) -> bool:
        keys = [self._keys.of(b"o", channel), *(self._owned.index(channel, name) for name in names)]
        args: list[Argument] = [channel, milliseconds(KEEP), int(heard), int(not told), *names]
        return bool(await self._shard.run(_WRITE, keys, args))
