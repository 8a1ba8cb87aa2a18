"""Presence of many nodes in PostgreSQL, by node lease: a row for each member, which names its owner.

Readers leave out owners without a lease, so that a dead node costs nobody anything before it is swept.
"""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gateway.batches import batches
from gateway.errors import BrokerUnavailable, Error, ErrorCode
from gateway.messages import ClientInfo, Payload, pack, unpacker
from gateway.postgres.batch import Batch
from gateway.postgres.database import Database, within
from gateway.postgres.failures import text
from gateway.postgres.owners import INTERVALS, Intervals, Owners
from gateway.postgres.statements import Script
from gateway.presence.base import Changed, cursor_number, ignore
from gateway.skipped import UNREADABLE, Skipped

logger = logging.getLogger(__name__)

PAGE = 500
"""Members read, written or removed by one statement."""

HIGHEST = 2**63 - 1

_SCRIPT = Script(Path(__file__).parent / "sql" / "presence.sql")

Member = tuple[str, str]
"""Channel and client."""

_payloads = unpacker(tuple[Payload | None, Payload | None])


class PostgresPresence:
    """Keeps presence over a ``Database``, to be made before that is started; it stays the caller's to close.

    A dead node's members become invisible with its lease.
    """

    def __init__(self, database: Database, intervals: Intervals = INTERVALS) -> None:
        self._database = database
        database.install(_SCRIPT)
        self._owners = Owners(database, "presence", self, intervals)
        self._writes: Batch[Member, bool] = Batch(self._write_all, PAGE)
        self._skipped = Skipped("presence")
        self._swept: Changed = ignore
        self._returned: Changed = ignore
        self._members: dict[Member, ClientInfo] = {}
        self._doubtful: set[Member] = set()
        self._leaving: dict[Member, ClientInfo] = {}  # who has left, of which the server may not know
        self._owed: dict[Member, ClientInfo] = {}  # who has left, which nobody has been told yet
        self._away: dict[Member, ClientInfo] = {}  # whom others have swept, and we shall say are here

    async def start(self, node: str, swept: Changed, returned: Changed = ignore) -> None:
        self._swept, self._returned = swept, returned
        await self._owners.start(node)

    async def close(self) -> None:
        await self._owners.close()
        members = list(self._members)
        self._members.clear()
        try:
            for some in batches(members, PAGE):
                await asyncio.gather(*(self._writes.ask(member) for member in some))
            await self._owners.end()
        except BrokerUnavailable:
            logger.warning("PostgreSQL is away: the presence of this node ends with its lease")

    async def add(self, channel: str, info: ClientInfo) -> None:
        """Add a member. One that is not there yet stays out if this fails or is cancelled."""
        for word in (channel, info.client, info.user):
            text(word)
        member = (channel, info.client)
        known, left = self._members.get(member), self._leaving.pop(member, None) or self._owed.pop(member, None)
        self._members[member] = info
        try:
            await self._writes.ask(member)
        except BaseException:
            if known is None:
                self._members.pop(member, None)
            if left is not None:
                self._leaving[member] = left
            self._doubtful.add(member)
            raise

    async def remove(self, channel: str, client: str) -> None:
        member = (text(channel), text(client))
        known = self._members.pop(member, None)
        told = self._away.pop(member, None) is not None
        try:
            await self._writes.ask(member)
        except BaseException:
            if known is not None and not told:
                self._leaving[member] = known
            self._doubtful.add(member)
            raise
        if told:  # by whoever has swept it
            raise BrokerUnavailable

    async def members(self, channel: str, at_most: int = 0) -> dict[str, ClientInfo]:
        if at_most and (await self.stats(channel))[0] > at_most:
            raise Error(ErrorCode.LIMIT_EXCEEDED)
        found: dict[str, ClientInfo] = {}
        cursor, more = "", True
        while more:
            page, cursor = await self.page(channel, PAGE, cursor)
            found |= page
            more = bool(cursor)
        return found

    async def page(self, channel: str, limit: int, cursor: str = "") -> tuple[dict[str, ClientInfo], str]:
        """The cursor is the number of the member read last."""
        read = min(cursor_number(cursor or "0"), HIGHEST)
        statement = (
            "SELECT number, client, user_id, payloads FROM gateway_present"
            " WHERE channel = $1 AND number > $2 ORDER BY number LIMIT $3"
        )
        rows = await within(self._database.fetch(statement, text(channel), read, limit + 1))
        page = rows[:limit]
        return {info.client: info for info in self._decode(page)}, str(page[-1][0]) if len(rows) > limit else ""

    async def stats(self, channel: str) -> tuple[int, int]:
        statement = "SELECT count(*), count(DISTINCT user_id) FROM gateway_present WHERE channel = $1"
        [(clients, users)] = await within(self._database.fetch(statement, text(channel)))
        return clients, users

    # — as owned entries —

    async def _write_all(self, members: list[Member], _patience: str) -> Sequence[bool]:
        """Have the server hold what is true of these; answers which of those that are gone were there."""
        distinct = list(dict.fromkeys(members))
        found: set[Member] = set()

        async def write(owner: str) -> object:
            infos = [self._members.get(member) for member in distinct]
            [(places,)] = await self._database.fetch(
                "SELECT gateway_write_members($1, $2, $3, $4, $5)",
                owner,
                [channel for channel, _ in distinct],
                [client for _, client in distinct],
                ["" if info is None else info.user for info in infos],
                [None if info is None else pack((info.conn_info, info.chan_info)) for info in infos],
            )
            if places is not None:
                found.update(distinct[place - 1] for place in places)
            return places

        await self._owners.write(write)
        self._doubtful.difference_update(distinct)
        return [member in found for member in members]

    async def repair(self) -> None:
        for some in batches(list(self._doubtful), PAGE):
            await asyncio.gather(*(self._writes.ask(member) for member in some))
            for member in some:
                if (left := self._leaving.pop(member, None)) is not None:
                    self._owed[member] = left
        if self._owed and self._owners.steady:  # other nodes can hear of it, too
            owed, self._owed = self._owed, {}
            for (channel, _), info in owed.items():
                self._swept(channel, info)

    def moved(self, swept: bool) -> None:
        self._doubtful |= self._members.keys()
        if swept:
            self._away |= self._members
            for member in self._leaving:  # whose leave has been told
                self._doubtful.add(member)
            self._leaving.clear()

    async def sweep(self, owner: str) -> bool:
        statement = (
            "DELETE FROM gateway_members WHERE owner = $1 AND (channel, client) IN"
            " (SELECT channel, client FROM gateway_members WHERE owner = $1 LIMIT $2)"
            " RETURNING number, client, user_id, payloads, channel"
        )
        rows = await within(self._database.fetch(statement, owner, PAGE))
        for row in rows:
            for info in self._decode([row]):
                self._swept(row["channel"], info)
        return bool(rows)

    def _decode(self, rows: Iterable[Any]) -> Iterator[ClientInfo]:
        """Members, if this release can read them; one that cannot be read is nobody's, and is swept with its owner."""
        for row in rows:
            try:
                yield ClientInfo(row["user_id"], row["client"], *_payloads.decode(row["payloads"]))
            except UNREADABLE as error:
                self._skipped.add(error)

    def returned(self) -> None:
        away, self._away = self._away, {}
        for (channel, _), info in away.items():
            self._returned(channel, info)
