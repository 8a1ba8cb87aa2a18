"""Presence of many nodes in Redis, by node lease.

A member is a field of its channel's hash: client id → owner, newline, msgpack of its ``ClientInfo``. The owner
is a node in one of its incarnations, and holds a lease: a key that runs out in seconds unless renewed. Readers
leave out members whose owner has no lease, so that a dead node costs nobody anything; later, one node of all
removes them. An owner whose lease was lost, or that does not know what became of a command, starts over under
a new name with all its members, and leaves the old name to be swept.
"""

import asyncio
import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import groupby, islice
from math import ceil
from operator import itemgetter
from pathlib import Path
from typing import Any

from msgspec import DecodeError

from gateway.errors import BrokerUnavailable
from gateway.messages import ClientInfo
from gateway.packing import pack, unpacker
from gateway.presence.base import Swept
from gateway.shards import Script, Shard, batches

logger = logging.getLogger(__name__)

BATCH = 500
"""Fields or commands handled in one go: a few ms of Redis' time at most."""

KEEP = 24 * 3600.0
"""Seconds that keys outlive a cluster which died as a whole."""

_infos = unpacker(ClientInfo)
_SWEEP = Script(Path(__file__).parent / "lua" / "sweep.lua")


class RedisPresence:
    """Keeps presence over a started ``Shard``, which stays the caller's to close.

    ``lease`` and ``sweep_interval`` (seconds) add up to the time after which a killed node's members have
    left; ``lease`` alone is when they become invisible.
    """

    def __init__(
        self, shard: Shard, *, lease: float = 10.0, renew_interval: float = 3.0, sweep_interval: float = 5.0
    ) -> None:
        self._shard = shard
        self._keys = shard.keys
        self._lease = lease
        self._renew_interval = renew_interval
        self._sweep_interval = sweep_interval
        self._node = ""
        self._incarnation = 0
        self._owner = ""
        self._sure = False  # what Redis holds for this owner is what we think
        self._members: dict[str, dict[str, ClientInfo]] = {}
        self._touching: Iterator[str] = iter(())
        self._renew_now = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, node: str, swept: Swept) -> None:
        self._node = node
        self._shard.on_reconnect.append(self._doubt)
        await self._renew_quietly()
        self._tasks = [asyncio.create_task(self._keep_lease()), asyncio.create_task(self._keep_sweeping(swept))]

    async def close(self) -> None:
        if self._tasks:
            self._shard.on_reconnect.remove(self._doubt)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        pairs = self._pairs()
        self._members.clear()
        try:
            for batch in batches(pairs, BATCH):
                await self._all([("HDEL", self._keys.of(b"h", channel), client) for channel, client in batch])
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
        commands: list[tuple[Any, ...]] = [("HDEL", self._keys.of(b"h", channel), client)]
        if last:
            commands.append(("SREM", self._index(self._owner), channel))
        try:
            await self._all(commands)
        except BrokerUnavailable:
            self._sure = False
            raise

    async def members(self, channel: str) -> dict[str, ClientInfo]:
        stored = await self._shard.execute("HGETALL", self._keys.of(b"h", channel))
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

    # — the lease —

    async def _keep_lease(self) -> None:
        while True:
            # Not wait_for, which on Python 3.11 can lose a cancellation.
            with suppress(TimeoutError):
                async with asyncio.timeout(self._renew_interval):
                    await self._renew_now.wait()
            self._renew_now.clear()
            await self._renew_quietly()

    async def _renew_quietly(self) -> None:
        try:
            await self._renew()
        except BrokerUnavailable:
            logger.debug("the lease is renewed when Redis is back")
        except Exception:  # a node that stops renewing is swept
            logger.exception("the presence lease could not be renewed")

    def _doubt(self) -> None:
        """The connection was away: Redis may have come back with an older state."""
        self._sure = False
        self._renew_now.set()

    async def _renew(self) -> None:
        # PEXPIRE, since a Redis that is out of memory refuses SET
        lease = self._lease_key(self._owner)
        held = bool(self._owner) and await self._shard.execute("PEXPIRE", lease, _ms(self._lease))
        if held and self._sure:
            await self._touch_some()
            return
        owner = self._next_owner()
        await self._shard.execute("SET", self._lease_key(owner), 1, "PX", _ms(self._lease))
        former, self._owner = self._owner, owner
        self._sure = True  # until a command fails from here on
        await self._enter()
        if former:
            logger.warning("presence lease lost or in doubt: all members of this node were added again")
            await self._all([("DEL", self._lease_key(former))])

    def _next_owner(self) -> str:
        self._incarnation += 1
        return f"{self._node}.{self._incarnation}"

    async def _enter(self) -> None:
        """Add all members under the present owner's name."""
        nodes = self._keys.shared("presence")
        lease = ("SET", self._lease_key(self._owner), 1, "PX", _ms(self._lease))
        try:
            await self._all([("SADD", nodes, self._owner), ("PEXPIRE", nodes, _ms(KEEP))])
            for batch in batches(self._pairs(), BATCH):
                commands: list[tuple[Any, ...]] = [lease]
                for channel, pairs in groupby(batch, itemgetter(0)):
                    present = self._members.get(channel, {})
                    # Who has left meanwhile stays out: commands reach Redis in the order in which they are made.
                    if infos := [present[client] for _, client in pairs if client in present]:
                        commands += self._adding(channel, infos, True)
                await self._all(commands)
        except BrokerUnavailable:
            self._sure = False
            raise

    def _pairs(self) -> list[tuple[str, str]]:
        return [(channel, client) for channel, clients in self._members.items() for client in clients]

    async def _touch_some(self) -> None:
        """Re-arm the expiry of keys: of the owner's each time, of all channels within a quarter of it."""
        share = ceil(len(self._members) * self._renew_interval / (KEEP / 4))
        channels = list(islice(self._touching, share))
        if len(channels) < share:
            self._touching = iter(list(self._members))
        keys = [self._keys.shared("presence"), self._index(self._owner)]
        keys += [self._keys.of(b"h", channel) for channel in channels]
        await self._all(("PEXPIRE", key, _ms(KEEP)) for key in keys)

    async def _abandon(self, owner: str) -> None:
        await self._all(
            [
                ("DEL", self._index(owner), self._lease_key(owner)),
                ("SREM", self._keys.shared("presence"), owner),
            ]
        )

    # — the dead —

    async def _keep_sweeping(self, swept: Swept) -> None:
        while True:
            await asyncio.sleep(self._sweep_interval)
            try:
                # A little shorter than the interval, so that a lone node wins every time.
                turn = _ms(self._sweep_interval * 0.8)
                if await self._shard.execute("SET", self._keys.shared("sweeper"), self._node, "NX", "PX", turn):
                    await self._sweep(swept)
            except BrokerUnavailable:
                logger.debug("the dead are swept when Redis is back")
            except Exception:  # the next turn, or another node, may fare better
                logger.exception("sweeping failed")

    async def _sweep(self, swept: Swept) -> None:
        owners = {owner.decode() for owner in await self._shard.execute("SMEMBERS", self._keys.shared("presence"))}
        for owner in owners - await self._living(owners):
            index = self._index(owner)
            while channels := await self._shard.execute("SRANDMEMBER", index, BATCH):
                for channel in channels:
                    await self._sweep_channel(owner, channel.decode(), swept)
                await self._shard.execute("SREM", index, *channels)
            await self._abandon(owner)

    async def _sweep_channel(self, owner: str, channel: str, swept: Swept) -> None:
        key = self._keys.of(b"h", channel)
        cursor: Any = b"0"
        while True:
            cursor, page = await self._shard.execute("HSCAN", key, cursor, "COUNT", BATCH)
            pairs = zip(page[::2], page[1::2], strict=True)
            clients = [client for client, value in pairs if _split(value)[0] == owner]
            for batch in batches(clients, BATCH):
                for value in await self._shard.run(_SWEEP, [key], [owner, *batch]):
                    if (info := _read(_split(value)[1])) is not None:
                        swept(channel, info)
            if int(cursor) == 0:
                return

    # — Redis —

    def _lease_key(self, owner: str) -> bytes:
        return self._keys.shared("presence", "lease", owner)

    def _index(self, owner: str) -> bytes:
        return self._keys.shared("presence", "channels", owner)

    def _adding(self, channel: str, infos: list[ClientInfo], first: bool) -> Iterator[tuple[Any, ...]]:
        """Commands that add members under the present owner's name."""
        key = self._keys.of(b"h", channel)
        for info in infos:
            yield "HSET", key, info.client, b"%b\n%b" % (self._owner.encode(), pack(info))
        if first:
            yield "PEXPIRE", key, _ms(KEEP)
            yield "SADD", self._index(self._owner), channel
            yield "PEXPIRE", self._index(self._owner), _ms(KEEP)

    async def _living(self, owners: set[str]) -> set[str]:
        """Those of the owners who hold a lease; we do ourselves."""
        others = list(owners - {self._owner})
        leases = await self._all(("EXISTS", self._lease_key(owner)) for owner in others)
        return {owner for owner, alive in zip(others, leases, strict=True) if alive} | {self._owner}

    async def _all(self, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        return await asyncio.gather(*[self._shard.execute(*command) for command in commands])


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


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))
