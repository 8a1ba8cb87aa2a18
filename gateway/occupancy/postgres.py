"""Occupancy of many nodes in PostgreSQL, by node lease: a row for each node that hears a channel.

Whoever comes first, or goes last, is told so by the transaction in which that is true. A dead node's part is taken out
by the sweeper.
"""

import asyncio
from enum import Enum
from pathlib import Path

from gateway.errors import BrokerUnavailable
from gateway.occupancy.base import OccupancyEvents
from gateway.postgres.database import Database, within
from gateway.postgres.failures import text
from gateway.postgres.owners import INTERVALS, Intervals, Owners
from gateway.postgres.statements import Script

_SCRIPT = Script(Path(__file__).parent / "sql" / "occupancy.sql")

SWEPT = 100
"""Channels of a dead node looked at in one go."""


class _State(Enum):
    """A channel's, on this node; one that is not heard has none."""

    ENTERING = "heard, and nobody has been told"
    ENTERED = "heard, and told if it was the first"
    LEAVING = "not heard any more, and nobody has been told"


class PostgresOccupancy:
    """Keeps occupancy over a ``Database``, to be made before that is started; it stays the caller's to close.

    What the server did not answer is made good when it is back.
    """

    def __init__(self, database: Database, intervals: Intervals = INTERVALS) -> None:
        self._database = database
        database.install(_SCRIPT)
        self._owners = Owners(database, "occupancy", self, intervals)
        self._node = ""
        self._events: OccupancyEvents | None = None
        self._states: dict[str, _State] = {}
        self._doubtful: set[str] = set()
        self._turns: dict[str, asyncio.Future[None]] = {}

    async def start(self, node: str, events: OccupancyEvents) -> None:
        self._events = events
        self._node = node[:12]
        await self._owners.start(node)

    async def close(self) -> None:
        await self._owners.close()
        channels = list(self._states)
        self._states = {channel: state for channel, state in self._states.items() if state is _State.LEAVING}
        try:
            for channel in channels:
                await self._rewrite(channel)
            await self._owners.end()
        except BrokerUnavailable:
            return  # it ends with the lease

    async def enter(self, channel: str) -> bool:
        # nobody has been told of a departure that was not answered
        left = self._states.get(text(channel)) is _State.LEAVING
        self._states[channel] = _State.ENTERED if left else _State.ENTERING
        try:
            return await self._write(channel) is True
        except BrokerUnavailable:
            return False

    async def leave(self, channel: str) -> bool:
        if self._states.get(channel, _State.LEAVING) is _State.LEAVING:
            return False
        del self._states[channel]
        try:
            return await self._write(channel) is False
        except BaseException as error:
            self._states.setdefault(channel, _State.LEAVING)
            if isinstance(error, BrokerUnavailable):
                return False
            raise

    async def _write(self, channel: str) -> bool | None:
        """True if the channel is occupied by this, False if it is vacated by it, None if neither.

        Writes for one channel are carried out in the order in which they were asked for, and say what was true then.
        """
        state = self._states.get(channel)
        heard, untold = state in (_State.ENTERING, _State.ENTERED), state in (_State.ENTERING, _State.LEAVING)
        before, turn = self._turns.get(channel), asyncio.get_running_loop().create_future()
        self._turns[channel] = turn
        try:
            if before is not None:
                await asyncio.shield(before)
            changed = await self._occupy(channel, heard, untold)
        except BaseException:
            self._doubtful.add(channel)
            raise
        finally:
            turn.set_result(None)
            if self._turns.get(channel) is turn:
                del self._turns[channel]
        match self._states.get(channel):
            case _State.ENTERING if heard:
                self._states[channel] = _State.ENTERED
            case _State.LEAVING if not heard:
                del self._states[channel]
        return heard if changed else None

    async def _occupy(self, channel: str, heard: bool, untold: bool) -> bool:
        answer: list[bool | None] = []

        async def write(owner: str) -> object:
            statement = "SELECT gateway_occupy($1, $2, $3, $4, $5)"
            [(changed,)] = await within(self._database.fetch(statement, self._node, owner, channel, heard, untold))
            answer.append(changed)
            return changed

        await self._owners.write(write)
        return bool(answer[-1])

    async def _rewrite(self, channel: str) -> None:
        self._tell(channel, await self._write(channel))

    # — as owned entries —

    async def repair(self) -> None:
        for channel in list(self._doubtful):
            self._doubtful.discard(channel)
            await self._rewrite(channel)

    def moved(self, swept: bool) -> None:
        self._doubtful |= self._states.keys()

    async def sweep(self, owner: str) -> bool:
        statement = "SELECT channel FROM gateway_occupants WHERE owner = $1 LIMIT $2"
        rows = await within(self._database.fetch(statement, owner, SWEPT))
        for (channel,) in rows:
            [(vacant,)] = await within(self._database.fetch("SELECT gateway_vacate($1, $2)", owner, channel))
            if vacant:
                self._tell(channel, False)
        return bool(rows)

    def returned(self) -> None:
        """Whoever came back to a vacant channel was told so."""

    def _tell(self, channel: str, occupied: bool | None) -> None:
        assert self._events is not None, "start() comes first"
        if occupied:
            self._events.on_occupied(channel)
        elif occupied is False:
            self._events.on_vacated(channel)
