"""Entries that nodes keep under channels in Redis, and that are removed when their node dies.

Each entry names its owner: a node in one of its incarnations, which holds a lease, a key that runs out in seconds
unless renewed. Whose lease has run out is dead; later, one node of all removes what it has left. What makes an entry
notes its channel in the owner's index, which lies in the same partition, as one act; owners are in a registry before
they own anything. So whatever there is can be found.

What Redis has not answered is written again when it does. An owner whose lease was lost, or that finds another server
than before, takes up a new name and brings its entries over; the former name is kept alive until they are.
"""

import asyncio
import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any, Generic, Protocol, TypedDict, TypeVar

from gateway.batches import batches
from gateway.errors import BrokerUnavailable
from gateway.redis.resp import milliseconds
from gateway.redis.script import Script
from gateway.redis.shard import Shard

logger = logging.getLogger(__name__)

BATCH = 200
"""Entries written in one go: a few ms of Redis' time at most."""

SWEEP_BATCH = 20
"""Channels swept in one go, each of which may take as long as a hundred entries."""

KEEP = 24 * 3600.0
"""Seconds that keys outlive a cluster which died as a whole."""

CLAIM = 5.0
"""Seconds for which a sweeper may go without a sign of life, until others no longer wait for it."""

_IDENTITY = Script(Path(__file__).parent / "lua" / "identity.lua")

_Entry = TypeVar("_Entry")

Names = tuple[str, ...]
"""What a node owns entries under: its present name, then former ones under which some may still lie."""


class EntryStore(Protocol[_Entry]):
    """Whose entries are owned: presence, occupancy. It knows what is true, and how to write it."""

    def entries(self) -> Collection[_Entry]:
        """All that this node owns, and what it has not yet been able to remove."""

    def channels(self) -> Collection[str]:
        """Those under which there are any."""

    def keys(self, channel: str, owner: str) -> list[bytes]:
        """What is kept for a channel, besides the index."""

    async def write(self, entry: _Entry, names: Names) -> Any:
        """Have Redis hold what is true of an entry, index and all, by one script that may be run again.

        Nothing is awaited before the command, so that commands come in the order in which things came true.
        """

    async def rewrite(self, entry: _Entry, names: Names) -> None:
        """Write an entry whose state in Redis is not known, and tell what nobody could be told at its time."""

    async def sweep(self, channel: str, owner: str) -> None:
        """Remove what a dead owner has left under a channel."""

    def restored(self, swept: bool) -> None:
        """All entries have been brought over from former names, which another node may have ``swept``."""


class Intervals(TypedDict, total=False):
    """Seconds. ``lease`` and ``sweep_interval`` add up to the time after which a killed node's entries are gone."""

    lease: float
    """When others can see that a node is dead."""
    renew_interval: float
    sweep_interval: float


class OwnedEntries(Generic[_Entry]):
    """Keeps what one node owns in Redis true, its lease, and its part in sweeping the dead.

    ``family`` begins the names of keys, ``kind`` those of indexes. The rest are `Intervals`.
    """

    def __init__(
        self,
        shard: Shard,
        family: str,
        kind: bytes,
        store: EntryStore[_Entry],
        *,
        lease: float = 10.0,
        renew_interval: float = 3.0,
        sweep_interval: float = 5.0,
    ) -> None:
        self._shard = shard
        self._keys = shard.keys
        self._family = family
        self._kind = kind
        self._store = store
        self._lease = lease
        self._renew_interval = renew_interval
        self._sweep_interval = sweep_interval
        self._node = ""
        self._incarnation = 0
        self._names: Names = ()
        self._held_until = 0.0  # by our own clock, the lease is ours for certain
        self._server = b""
        self._reconnected = True
        self._doubtful: set[_Entry] = set()
        self._swept = False  # another node has removed something under a former name
        self._checking = asyncio.Lock()
        self._touching: Iterator[str] = iter(())
        self._renew_now = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        shard.load(_IDENTITY)

    @property
    def owner(self) -> str:
        """The present name, empty before the first lease."""
        return self._names[0] if self._names else ""

    @property
    def certain(self) -> bool:
        """Whether Redis holds for this owner what is true, as far as is known."""
        return asyncio.get_running_loop().time() < self._held_until and not (self._doubtful or self.moving)

    @property
    def moving(self) -> bool:
        """Whether entries are being brought over from former names."""
        return len(self._names) > 1

    async def start(self, node: str) -> None:
        """Take up the lease, and keep it. Returns even when Redis cannot be reached yet."""
        self._node = node[:12]  # it is in many keys, and unique enough
        self._shard.on_reconnect.append(self._doubt)
        await self._renew_quietly()
        self._tasks = [asyncio.create_task(self._keep_lease()), asyncio.create_task(self._keep_sweeping())]

    async def close(self, entries: Iterable[_Entry]) -> None:
        """Write these for the last time, which are nobody's by now, and give the lease back."""
        if self._tasks:
            self._shard.on_reconnect.remove(self._doubt)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if not self._names:
            return
        self._doubtful.update(entries)
        try:
            await self._confirm()
            await self._rewrite_doubtful()
            await self._forget(self._names[0])
        except BrokerUnavailable:
            logger.warning("Redis is away: the %s of this node ends with its lease", self._family)
        self._node, self._names = "", ()

    async def write(self, entry: _Entry) -> Any:
        """Have Redis hold what is true of an entry; answers what the store's ``write`` does.

        When this fails, or is cancelled, it is made good as soon as can be.
        """
        if not self._node:
            raise BrokerUnavailable
        try:
            while asyncio.get_running_loop().time() >= self._held_until:
                await self._confirm()
            return await self._store.write(entry, self._names)
        except BaseException:
            self._doubtful.add(entry)
            raise

    def index(self, channel: str, owner: str) -> bytes:
        """Where a channel is noted under which the owner has entries."""
        return self._keys.index(self._kind, channel, owner)

    async def living(self, owners: Iterable[str]) -> set[str]:
        """Those of the owners who hold a lease; we do ourselves."""
        others = [owner for owner in owners if owner not in self._names]
        leases = await self.all(("EXISTS", self._lease_key(owner)) for owner in others)
        return {owner for owner, alive in zip(others, leases, strict=True) if alive} | set(self._names)

    async def all(self, commands: Iterable[Sequence[Any]]) -> list[Any]:
        """Answers to commands that leave together."""
        return await asyncio.gather(*[self._shard.execute(*command) for command in commands])

    # — the lease —

    def _doubt(self) -> None:
        """The connection was away: the server may be another one, or have come back with an older state."""
        self._reconnected = True
        self._held_until = 0.0
        self._renew_now.set()

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
            logger.exception("the %s lease could not be renewed", self._family)

    async def _renew(self) -> None:
        await self._confirm(anew=True)
        await self._rewrite_doubtful()
        await self._leave_former_names()
        await self._touch_some()

    async def _confirm(self, anew: bool = False) -> None:
        """Make sure of the lease, and of the server. Many may wait for one answer."""
        async with self._checking:
            sent = asyncio.get_running_loop().time()
            if not anew and sent < self._held_until:
                return
            reconnected, self._reconnected = self._reconnected, False
            try:
                held, server = await asyncio.gather(self._extend(), self._identify(reconnected))
                if not held or (reconnected and not (server and server == self._server)):
                    await self._take_new_name()
                    await self._extend()
            except BaseException:
                self._reconnected |= reconnected
                raise
            self._server = server
            self._hold_from(sent)

    async def _extend(self) -> bool:
        """Renew the lease; whether it was still there. Former names live on until nothing is left under them."""
        if not self._names:
            return False
        duration = milliseconds(self._lease)
        # PEXPIRE, since a Redis that is out of memory refuses SET
        held, *_ = await asyncio.gather(
            self._shard.execute("PEXPIRE", self._lease_key(self._names[0]), duration),
            *(self._shard.execute("SET", self._lease_key(name), 1, "PX", duration) for name in self._names[1:]),
            return_exceptions=True,
        )
        if isinstance(held, BaseException):
            raise held
        return bool(held)

    async def _identify(self, reconnected: bool) -> bytes:
        """Which server it is, empty if that cannot be known; it is asked only after it may have changed."""
        return bytes(await self._shard.run(_IDENTITY, [], [])) if reconnected else self._server

    def _hold_from(self, sent: float) -> None:
        if not self._reconnected:
            self._held_until = sent + self._lease

    async def _take_new_name(self) -> None:
        self._incarnation += 1
        name = f"{self._node}.{self._incarnation}"
        registry = self._keys.shared(self._family)
        await self.all(
            [
                ("SADD", registry, name, *self._names),
                ("PEXPIRE", registry, milliseconds(KEEP)),
                ("SET", self._lease_key(name), 1, "PX", milliseconds(self._lease)),
            ]
        )
        self._names = (name, *self._names)
        self._doubtful.update(self._store.entries())

    async def _rewrite_doubtful(self) -> None:
        loop = asyncio.get_running_loop()
        for batch in batches(list(self._doubtful), BATCH):
            sent = loop.time()
            self._doubtful.difference_update(batch)
            try:
                writes = [self._store.rewrite(entry, self._names) for entry in batch]
                held, *_ = await asyncio.gather(self._extend(), *writes)
            except BaseException:
                self._doubtful.update(batch)
                raise
            if not held:
                self._renew_now.set()
                raise BrokerUnavailable
            self._hold_from(sent)

    async def _leave_former_names(self) -> None:
        """Have done with former names, once everything has been brought over."""
        if not self.moving or self._doubtful:
            return
        for name in self._names[1:]:
            claimed, swept = await self.all([("EXISTS", self._claim(name)), ("EXISTS", self._mark(name))])
            if claimed:  # whoever sweeps it is still telling whom it has removed
                return
            self._swept |= bool(swept)
            await self._sweep(name)  # what left while Redis was away
            await self._forget(name)
            self._names = tuple(each for each in self._names if each != name)
        logger.warning("%s lease lost, or another server: all entries of this node were added again", self._family)
        swept, self._swept = self._swept, False
        self._store.restored(swept)

    async def _touch_some(self) -> None:
        """Re-arm the expiry of keys: of the registry each time, of all channels within a quarter of it."""
        share = ceil(len(self._store.channels()) * self._renew_interval / (KEEP / 4))
        channels = list(islice(self._touching, share))
        if len(channels) < share:
            self._touching = iter(list(self._store.channels()))
        keys = [self._keys.shared(self._family)]
        for channel in channels:
            keys += [self.index(channel, self.owner), *self._store.keys(channel, self.owner)]
        await self.all(("PEXPIRE", key, milliseconds(KEEP)) for key in keys)

    # — the dead —

    async def _keep_sweeping(self) -> None:
        turns = self._keys.shared(self._family, "sweeper")
        while True:
            await asyncio.sleep(self._sweep_interval)
            try:
                # A little shorter than the interval, so that a lone node wins every time.
                turn = milliseconds(self._sweep_interval * 0.8)
                if await self._shard.execute("SET", turns, self._node, "NX", "PX", turn):
                    await self._sweep_dead()
            except BrokerUnavailable:
                logger.debug("the dead are swept when Redis is back")
            except Exception:  # the next turn, or another node, may fare better
                logger.exception("sweeping failed")

    async def _sweep_dead(self) -> None:
        owners = {owner.decode() for owner in await self._shard.execute("SMEMBERS", self._keys.shared(self._family))}
        for owner in owners - await self.living(owners):
            claim = self._claim(owner)
            if not await self._shard.execute("SET", claim, self._node, "NX", "PX", milliseconds(CLAIM)):
                continue
            # before anything is removed, so that an owner who comes back learns of it
            first = await self._shard.execute("SET", self._mark(owner), 1, "NX", "PX", milliseconds(KEEP))
            if not await self._sweep(owner, dead=True) and not first:
                await self._forget(owner)  # in a later turn: a command may have been under way for long
            await self._shard.execute("DEL", claim)

    async def _sweep(self, owner: str, dead: bool = False) -> bool:
        """Remove what an owner has left, unless one that was ``dead`` lives again. Whether there was anything."""
        indexes = self._keys.indexes(self._kind, owner)
        sizes = await self.all(("SCARD", index) for index in indexes)
        filled = [index for index, size in zip(indexes, sizes, strict=True) if size]
        for index in filled:
            while channels := await self._shard.execute("SRANDMEMBER", index, SWEEP_BATCH):
                looks = [("EXISTS", self._lease_key(owner)), ("PEXPIRE", self._claim(owner), milliseconds(CLAIM))]
                if dead and (await self.all(looks))[0]:
                    return True
                await asyncio.gather(*(self._store.sweep(channel.decode(), owner) for channel in channels))
        return bool(filled)

    async def _forget(self, owner: str) -> None:
        await self.all([("SREM", self._keys.shared(self._family), owner), ("DEL", self._lease_key(owner))])

    # — keys —

    def _lease_key(self, owner: str) -> bytes:
        return self._keys.shared(self._family, "lease", owner)

    def _claim(self, owner: str) -> bytes:
        """Held by the node that sweeps an owner, as long as it has something to tell."""
        return self._keys.shared(self._family, "sweeping", owner)

    def _mark(self, owner: str) -> bytes:
        """Says that an owner has been swept."""
        return self._keys.shared(self._family, "swept", owner)
