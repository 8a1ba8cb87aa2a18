"""Presence of many nodes in Redis, by node lease.

A member is a field of its channel's hash: client id → owner, newline, msgpack of its ``ClientInfo``. The owner
is a node in one of its incarnations. Readers leave out members whose owner has no lease, so that a dead node
costs nobody anything before it is swept.
"""

import logging
from collections.abc import Collection, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from msgspec import DecodeError

from gateway.errors import BrokerUnavailable
from gateway.messages import ClientInfo, pack, unpacker
from gateway.presence.base import Swept
from gateway.redis.batches import batches
from gateway.redis.owned import KEEP, Command, OwnedEntries, milliseconds
from gateway.redis.script import Script
from gateway.redis.shard import Shard

logger = logging.getLogger(__name__)

BATCH = 500
"""Fields or commands handled in one go: a few ms of Redis' time at most."""

_infos = unpacker(ClientInfo)
_SWEEP = Script(Path(__file__).parent / "lua" / "sweep.lua")


class RedisPresence(OwnedEntries[tuple[str, str]]):
    """Keeps presence over a started ``Shard``, which stays the caller's to close.

    Members are known by channel and client. For ``lease`` and the intervals see ``OwnedEntries``; a dead node's
    members become invisible with its lease.
    """

    def __init__(
        self, shard: Shard, *, lease: float = 10.0, renew_interval: float = 3.0, sweep_interval: float = 5.0
    ) -> None:
        super().__init__(shard, "presence", lease=lease, renew_interval=renew_interval, sweep_interval=sweep_interval)
        self._swept: Swept = lambda _channel, _info: None
        self._members: dict[str, dict[str, ClientInfo]] = {}

    async def start(self, node: str, swept: Swept) -> None:
        self._swept = swept
        await self._begin(node)

    async def close(self) -> None:
        await self._end()
        pairs = self._entries()
        self._members.clear()
        try:
            for batch in batches(pairs, BATCH):
                await self._all([("HDEL", self._key(channel), client) for channel, client in batch])
            if self._owner:
                await self._abandon(self._owner)
        except BrokerUnavailable:
            logger.warning("Redis is away: the presence of this node ends with its lease")

    async def add(self, channel: str, info: ClientInfo) -> None:
        """Add a member. A caller that is cancelled meanwhile has to ``remove`` it."""
        members = self._members.setdefault(channel, {})
        first = not members
        known = info.client in members
        members[info.client] = info
        try:
            await self._all(self._adding(channel, [info], first))
        except BrokerUnavailable:
            self._sure = False
            if not known:
                self._drop(channel, info.client)
            raise

    async def remove(self, channel: str, client: str) -> None:
        last = self._drop(channel, client)
        commands: list[Command] = [("HDEL", self._key(channel), client)]
        if last:
            commands.append(("SREM", self._index(self._owner), channel))
        try:
            await self._all(commands)
        except BrokerUnavailable:
            self._sure = False
            raise

    async def members(self, channel: str) -> dict[str, ClientInfo]:
        stored = await self._shard.execute("HGETALL", self._key(channel))
        found = [(client.decode(), *_split(value)) for client, value in zip(stored[::2], stored[1::2], strict=True)]
        living = await self._living({owner for _, owner, _ in found})
        read = {client: _read(info) for client, owner, info in found if owner in living}
        return {client: info for client, info in read.items() if info is not None}

    async def stats(self, channel: str) -> tuple[int, int]:
        members = await self.members(channel)
        return len(members), len({info.user for info in members.values()})

    def _drop(self, channel: str, client: str) -> bool:
        """Forget a member of our own. Tells whether it was the channel's last."""
        members = self._members.get(channel, {})
        members.pop(client, None)
        if members:
            return False
        return self._members.pop(channel, None) is not None

    # — as owned entries —

    def _channels(self) -> Collection[str]:
        return self._members

    def _key(self, channel: str) -> bytes:
        return self._keys.of(b"h", channel)

    def _entries(self) -> list[tuple[str, str]]:
        return [(channel, client) for channel, clients in self._members.items() for client in clients]

    async def _restore(self, entries: list[tuple[str, str]], former: str) -> None:
        commands: list[Command] = []
        for channel, pairs in groupby(entries, itemgetter(0)):
            present = self._members.get(channel, {})
            # Who has left meanwhile stays out: commands reach Redis in the order in which they are made.
            if infos := [present[client] for _, client in pairs if client in present]:
                commands += self._adding(channel, infos, True)
        await self._all(commands)

    async def _sweep_channel(self, owner: str, channel: str) -> None:
        key = self._key(channel)
        cursor: Any = b"0"
        while True:
            cursor, page = await self._shard.execute("HSCAN", key, cursor, "COUNT", BATCH)
            pairs = zip(page[::2], page[1::2], strict=True)
            clients = [client for client, value in pairs if _split(value)[0] == owner]
            for batch in batches(clients, BATCH):
                for value in await self._shard.run(_SWEEP, [key], [owner, *batch]):
                    if (info := _read(_split(value)[1])) is not None:
                        self._swept(channel, info)
            if int(cursor) == 0:
                return

    # — Redis —

    def _adding(self, channel: str, infos: list[ClientInfo], first: bool) -> Iterator[Command]:
        """Commands that add members under the present owner's name."""
        key = self._key(channel)
        for info in infos:
            yield "HSET", key, info.client, b"%b\n%b" % (self._owner.encode(), pack(info))
        if first:
            yield "PEXPIRE", key, milliseconds(KEEP)
            yield from self._noting([channel])


def _split(stored: bytes) -> tuple[str, bytes]:
    """Owner and encoded info of a member."""
    owner, _, info = stored.partition(b"\n")
    return owner.decode(), info


def _read(info: bytes) -> ClientInfo | None:
    """A member, if this release can read it; one that cannot be read is nobody's, and is swept with its owner."""
    try:
        return _infos.decode(info)
    except DecodeError:
        logger.warning("a member in presence cannot be read")
        return None
