"""Entries that nodes keep under channels in Redis, and that are removed when their node dies.

Each entry names its owner: a node in one of its incarnations, which holds a lease, a key that runs out in seconds
unless renewed. Whose lease has run out is dead; later, one node of all removes what it has left. An owner whose
lease was lost, or that does not know what became of a command, starts over under a new name with all its entries,
and leaves the old name to be swept.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from math import ceil
from typing import Any, Generic, TypeVar

from gateway.errors import BrokerUnavailable
from gateway.redis.batches import batches
from gateway.redis.shard import Shard

logger = logging.getLogger(__name__)

BATCH = 500
"""Entries or commands handled in one go: a few ms of Redis' time at most."""

KEEP = 24 * 3600.0
"""Seconds that keys outlive a cluster which died as a whole."""

Command = tuple[Any, ...]
_Entry = TypeVar("_Entry")


class OwnedEntries(ABC, Generic[_Entry]):
    """What one node owns, its lease, and its part in sweeping the dead.

    ``family`` begins the names of keys. ``lease`` and ``sweep_interval`` (seconds) add up to the time after which
    a killed node's entries are gone; ``lease`` alone is when others can see that it is dead.
    """

    def __init__(
        self,
        shard: Shard,
        family: str,
        *,
        lease: float = 10.0,
        renew_interval: float = 3.0,
        sweep_interval: float = 5.0,
    ) -> None:
        self._shard = shard
        self._keys = shard.keys
        self._family = family
        self._lease = lease
        self._renew_interval = renew_interval
        self._sweep_interval = sweep_interval
        self._node = ""
        self._incarnation = 0
        self._owner = ""
        self._sure = False  # what Redis holds for this owner is what we think
        self._touching: Iterator[str] = iter(())
        self._renew_now = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    # — what each kind of entries is —

    @abstractmethod
    def _channels(self) -> Collection[str]:
        """Those under which this node has entries."""

    @abstractmethod
    def _key(self, channel: str) -> bytes:
        """Where the channel's entries lie."""

    @abstractmethod
    def _entries(self) -> Sequence[_Entry]:
        """All that this node owns."""

    @abstractmethod
    async def _restore(self, entries: list[_Entry], former: str) -> None:
        """Add those that are still owned under the owner's present name; ``former`` was the one before."""

    @abstractmethod
    async def _sweep_channel(self, owner: str, channel: str) -> None:
        """Remove what a dead owner has left under a channel."""

    # — the lease —

    async def _begin(self, node: str) -> None:
        """Take up the lease, and keep it. Returns even when Redis cannot be reached yet."""
        self._node = node
        self._shard.on_reconnect.append(self._doubt)
        await self._renew_quietly()
        self._tasks = [asyncio.create_task(self._keep_lease()), asyncio.create_task(self._keep_sweeping())]

    async def _end(self) -> None:
        """Keep the lease no longer; it is still held."""
        if self._tasks:
            self._shard.on_reconnect.remove(self._doubt)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

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

    def _doubt(self) -> None:
        """The connection was away: Redis may have come back with an older state."""
        self._sure = False
        self._renew_now.set()

    async def _renew(self) -> None:
        # PEXPIRE, since a Redis that is out of memory refuses SET
        lease = self._lease_key(self._owner)
        held = bool(self._owner) and await self._shard.execute("PEXPIRE", lease, milliseconds(self._lease))
        if held and self._sure:
            await self._touch_some()
            return
        owner = self._next_owner()
        await self._shard.execute("SET", self._lease_key(owner), 1, "PX", milliseconds(self._lease))
        former, self._owner = self._owner, owner
        self._sure = True  # until a command fails from here on
        await self._restore_all(former)
        if former:
            logger.warning("%s lease lost or in doubt: all entries of this node were added again", self._family)
            await self._all([("DEL", self._lease_key(former))])

    def _next_owner(self) -> str:
        self._incarnation += 1
        return f"{self._node}.{self._incarnation}"

    async def _restore_all(self, former: str) -> None:
        nodes = self._keys.shared(self._family)
        lease = ("SET", self._lease_key(self._owner), 1, "PX", milliseconds(self._lease))
        try:
            await self._all([("SADD", nodes, self._owner), ("PEXPIRE", nodes, milliseconds(KEEP))])
            for batch in batches(self._entries(), BATCH):
                await asyncio.gather(self._shard.execute(*lease), self._restore(batch, former))
        except BrokerUnavailable:
            self._sure = False
            raise

    async def _touch_some(self) -> None:
        """Re-arm the expiry of keys: of the owner's each time, of all channels within a quarter of it."""
        share = ceil(len(self._channels()) * self._renew_interval / (KEEP / 4))
        channels = list(islice(self._touching, share))
        if len(channels) < share:
            self._touching = iter(list(self._channels()))
        keys = [self._keys.shared(self._family), self._index(self._owner), *map(self._key, channels)]
        await self._all(("PEXPIRE", key, milliseconds(KEEP)) for key in keys)

    async def _abandon(self, owner: str) -> None:
        await self._all(
            [
                ("DEL", self._index(owner), self._lease_key(owner)),
                ("SREM", self._keys.shared(self._family), owner),
            ]
        )

    async def _living(self, owners: set[str]) -> set[str]:
        """Those of the owners who hold a lease; we do ourselves."""
        others = list(owners - {self._owner})
        leases = await self._all(("EXISTS", self._lease_key(owner)) for owner in others)
        return {owner for owner, alive in zip(others, leases, strict=True) if alive} | {self._owner}

    # — the dead —

    async def _keep_sweeping(self) -> None:
        turns = self._keys.shared(self._family, "sweeper")
        while True:
            await asyncio.sleep(self._sweep_interval)
            try:
                # A little shorter than the interval, so that a lone node wins every time.
                turn = milliseconds(self._sweep_interval * 0.8)
                if await self._shard.execute("SET", turns, self._node, "NX", "PX", turn):
                    await self._sweep()
            except BrokerUnavailable:
                logger.debug("the dead are swept when Redis is back")
            except Exception:  # the next turn, or another node, may fare better
                logger.exception("sweeping failed")

    async def _sweep(self) -> None:
        nodes = self._keys.shared(self._family)
        owners = {owner.decode() for owner in await self._shard.execute("SMEMBERS", nodes)}
        for owner in owners - await self._living(owners):
            index = self._index(owner)
            while channels := await self._shard.execute("SRANDMEMBER", index, BATCH):
                for channel in channels:
                    await self._sweep_channel(owner, channel.decode())
                await self._shard.execute("SREM", index, *channels)
            await self._abandon(owner)

    # — Redis —

    def _lease_key(self, owner: str) -> bytes:
        return self._keys.shared(self._family, "lease", owner)

    def _index(self, owner: str) -> bytes:
        """Where the channels are noted under which an owner has entries."""
        return self._keys.shared(self._family, "channels", owner)

    def _noting(self, channels: Iterable[str]) -> Iterator[Command]:
        """Commands that note channels in the present owner's index."""
        index = self._index(self._owner)
        yield "SADD", index, *channels
        yield "PEXPIRE", index, milliseconds(KEEP)

    async def _all(self, commands: Iterable[Command]) -> list[Any]:
        return await asyncio.gather(*[self._shard.execute(*command) for command in commands])


def milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))
