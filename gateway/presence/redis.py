"""Presence of many nodes in Redis, by node lease.

The members of one owner in a channel are a hash ``e``: client id → user and payloads. The hash ``h`` of a channel is
their summary: under the empty field the owners who have any, under ``:user`` how many members that user is, on all
nodes. Readers leave out owners without a lease, so that a dead node costs nobody anything before it is swept; and a
sweep reads only what it removes.
"""

import asyncio
import logging
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from sys import maxsize
from typing import Any

from msgspec import Struct

from gateway.errors import BrokerUnavailable, Error, ErrorCode
from gateway.messages import ClientInfo, Payload, pack, unpacker
from gateway.presence.base import Changed, cursor_number, ignore
from gateway.redis.owned import INTERVALS, KEEP, Intervals, Names, OwnedEntries
from gateway.redis.resp import Argument, milliseconds
from gateway.redis.script import Script
from gateway.redis.shard import Shard
from gateway.skipped import UNREADABLE, Skipped

logger = logging.getLogger(__name__)

PAGE = 500
"""Members read in one go, and so the time that Redis and the event loop are kept: a millisecond or so."""

SWEPT = 100
"""Members removed by one script."""

_LUA = Path(__file__).parent / "lua"
_WRITE = Script(_LUA / "summary.lua", _LUA / "write.lua")
_SWEEP = Script(_LUA / "summary.lua", _LUA / "sweep.lua")

Member = tuple[str, str]
"""Channel and client."""


class _Payloads(Struct, array_like=True):
    """What follows the user in a member's value, in this order; a newer release may have more behind it."""

    conn_info: Payload | None = None
    chan_info: Payload | None = None


_payloads = unpacker(_Payloads)


class RedisPresence:
    """Keeps presence over a started ``Shard``, which stays the caller's to close.

    A dead node's members become invisible with its lease.
    """

    def __init__(self, shard: Shard, intervals: Intervals = INTERVALS) -> None:
        self._shard = shard
        self._keys = shard.keys
        self._owned: OwnedEntries[Member] = OwnedEntries(shard, "presence", b"x", self, intervals)
        self._swept: Changed = ignore
        self._returned: Changed = ignore
        self._members: dict[Member, ClientInfo] = {}
        self._leaving: dict[Member, ClientInfo] = {}  # who was there, and may be in Redis still
        self._owed: dict[Member, ClientInfo] = {}  # who has left, which nobody has been told yet
        self._due = 0.0  # when they are to be told, by the loop's clock
        self._missed: set[Member] = set()  # who was not found under former names: lost by Redis, or swept and told
        self._newcomers: set[tuple[Member, str]] = set()  # with the name under which they came, while there are former
        self._skipped = Skipped("presence")
        shard.load(_WRITE, _SWEEP)

    async def start(self, node: str, swept: Changed, returned: Changed = ignore) -> None:
        self._swept, self._returned = swept, returned
        await self._owned.start(node)

    async def close(self) -> None:
        members = list(self._members)
        self._members.clear()
        await self._owned.close(members)
        self._tell_owed()

    async def add(self, channel: str, info: ClientInfo) -> None:
        """Add a member. One that is not there yet stays out if this fails or is cancelled."""
        member = (channel, info.client)
        known, left = self._members.get(member), self._leaving.pop(member, None) or self._owed.pop(member, None)
        self._members[member] = info
        try:
            await self._owned.write(member)
        except BaseException:
            if known is None:
                self._members.pop(member, None)
            if left is not None:
                self._leaving[member] = left
            raise
        if known is None and self._owned.moving:
            self._newcomers.add((member, self._owned.owner))

    async def remove(self, channel: str, client: str) -> None:
        member = (channel, client)
        known = self._members.pop(member, None)
        try:
            _, found = await self._owned.write(member)
            if known is not None and not found and self._owned.moving:
                self._missed.add(member)  # whoever has swept it, if anybody, has told
                raise BrokerUnavailable
        except BaseException:
            if known is not None:
                self._leaving[member] = known
            raise

    async def members(self, channel: str, at_most: int = 0) -> dict[str, ClientInfo]:
        owners = await self._owners(channel)
        if at_most and sum(owners.values()) > at_most:
            raise Error(ErrorCode.LIMIT_EXCEEDED)
        members, _ = await self._walk(channel, owners, maxsize)
        return members

    async def page(self, channel: str, limit: int, cursor: str = "") -> tuple[dict[str, ClientInfo], str]:
        return await self._walk(channel, await self._owners(channel), limit, *_parse(cursor))

    async def stats(self, channel: str) -> tuple[int, int]:
        clients = sum((await self._owners(channel)).values())
        fields = await self._shard.execute("HLEN", self._summary(channel)) if clients else 0
        return clients, max(0, min(clients, fields - 1))

    # — as owned entries —

    def entries(self) -> Collection[Member]:
        return self._members

    def keys(self, entry: Member, owner: str) -> list[bytes]:
        return [self._summary(entry[0]), *self._part_keys(entry[0], owner)]

    async def write(self, entry: Member, names: Names) -> tuple[bool, int]:
        """Whether the member is there now, and under which of the names it was found: 1 for the first, 0 for none."""
        channel, client = entry
        info = self._members.get(entry)
        user, value = ("", b"") if info is None else (info.user, _encode(info))
        parts = [key for name in names for key in self._part_keys(channel, name)]
        args: list[Argument] = [channel, client, user, value, milliseconds(KEEP), *names]
        found = await self._shard.run(_WRITE, [self._summary(channel), *parts], args)
        return info is not None, int(found)

    async def rewrite(self, entry: Member, names: Names) -> None:
        present, found = await self.write(entry, names)
        if names[1:] and found < (2 if present else 1):
            self._missed.add(entry)
        elif not present:
            self._owe(entry)

    async def sweep(self, channel: str, owner: str) -> None:
        keys = [self._summary(channel), *self._part_keys(channel, owner)]
        while taken := await self._shard.run(_SWEEP, keys, [channel, owner, SWEPT]):
            for info in self._decode_all(taken):
                self._swept(channel, info)
            if len(taken) < 2 * SWEPT:
                return

    def restored(self, swept: bool) -> None:
        for member in self._missed:
            info = self._members.get(member)
            if info and swept and (member, self._owned.owner) not in self._newcomers:
                self._returned(member[0], info)
            elif swept:
                self._leaving.pop(member, None)
            elif not info:
                self._owe(member)
        self._missed.clear()
        self._newcomers.clear()

    def renewed(self) -> None:
        if self._owed and self._shard.connected and asyncio.get_running_loop().time() >= self._due:
            self._tell_owed()

    def _owe(self, member: Member) -> None:
        """Tell of a leave that Redis did not take at its time, once other nodes can hear of it, too.

        That is settled with the first: a line that breaks again and again does not put it off without end.
        """
        if left := self._leaving.pop(member, None):
            self._due = self._due if self._owed else self._owned.others_back
            self._owed[member] = left

    def _tell_owed(self) -> None:
        owed, self._owed = self._owed, {}
        for (channel, _), left in owed.items():
            self._swept(channel, left)

    # — Redis —

    async def _owners(self, channel: str) -> dict[str, int]:
        """How many members each living owner has, in the order in which one node's names succeed each other."""
        named = (await self._shard.execute("HGET", self._summary(channel), "") or b"").decode().split()
        owners = sorted(set(named) - await self._owned.dead(named), key=_order)
        counts = await self._owned.all(("HLEN", self._part(channel, owner)) for owner in owners)
        return dict(zip(owners, counts, strict=True))

    async def _walk(
        self, channel: str, owners: Iterable[str], limit: int, at: str = "", within: str = "0"
    ) -> tuple[dict[str, ClientInfo], str]:
        """About ``limit`` members from a place on, and the cursor of the next."""
        found: dict[str, ClientInfo] = {}
        known = set(owners)
        following = [owner for owner in owners if _order(owner) >= _order(at)]
        while following:
            owner, *following = following
            scan = within if owner == at else "0"
            while scan:
                if len(found) >= limit:
                    return found, f"{owner}/{scan}"
                scan, named = await self._read(found, channel, owner, scan, min(limit - len(found), PAGE))
            if not named <= known:  # its members may have moved over to a new one before they were read
                known |= named
                following = [each for each in await self._owners(channel) if _order(each) > _order(owner)]
        return found, ""

    async def _read(
        self, found: dict[str, ClientInfo], channel: str, owner: str, cursor: str, count: int
    ) -> tuple[str, set[str]]:
        """Add some of an owner's members to those ``found``; answers where to go on, empty at the end, and all owners.

        The owners are asked for behind the members: the new name of any who have moved by then is among them.
        """
        page = ("HSCAN", self._part(channel, owner), cursor, "COUNT", count)
        (following, stored), named = await self._owned.all([page, ("HGET", self._summary(channel), "")])
        found.update((info.client, info) for info in self._decode_all(stored))
        return str(int(following)) if int(following) else "", set((named or b"").decode().split())

    def _decode_all(self, stored: list[Any]) -> Iterator[ClientInfo]:
        """Members, if this release can read them; one that cannot be read is nobody's, and is swept with its owner."""
        for client, value in zip(stored[::2], stored[1::2], strict=True):
            try:
                yield _decode(client, value)
            except UNREADABLE as error:
                self._skipped.add(error)

    def _part(self, channel: str, owner: str) -> bytes:
        return self._keys.owned(b"e", channel, owner)

    def _part_keys(self, channel: str, owner: str) -> tuple[bytes, bytes]:
        return self._owned.index(channel, owner), self._part(channel, owner)

    def _summary(self, channel: str) -> bytes:
        return self._keys.of(b"h", channel)


def _order(owner: str) -> tuple[int, str]:
    """A later name of a node is longer, or comes later: who moves over while they are read is not overlooked."""
    return len(owner), owner


def _parse(cursor: str) -> tuple[str, str]:
    """The owner to go on with, and where in its members."""
    owner, _, within = (cursor or "/0").rpartition("/")
    return owner, str(cursor_number(within))


def _encode(info: ClientInfo) -> bytes:
    """A member as stored: ``3:ann``, for scripts to read the user, then msgpack of the payloads if there are any."""
    user = info.user.encode()
    nothing = info.conn_info is None and info.chan_info is None
    return b"%d:%b%b" % (len(user), user, b"" if nothing else pack(_Payloads(info.conn_info, info.chan_info)))


def _decode(client: bytes, stored: bytes) -> ClientInfo:
    length, _, rest = stored.partition(b":")
    split = int(length)
    payloads = _payloads.decode(rest[split:]) if rest[split:] else _Payloads()
    return ClientInfo(rest[:split].decode(), client.decode(), payloads.conn_info, payloads.chan_info)
