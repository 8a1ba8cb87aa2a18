"""Entries that nodes keep under channels in Redis, and that are removed when their node dies.

Each entry names its owner: a node in one of its incarnations, which holds a lease, a key that runs out in seconds
unless renewed. Whose lease has run out is dead; later, one node of all removes what it has left. What makes an entry
notes its channel in the owner's index, which lies in the same partition, as one act; owners are in a registry before
they own anything. So whatever there is can be found.

What Redis has not answered is written again when it does. An owner whose lease was lost, or that finds another server
than before, takes up a new name and brings its entries over; its former names are kept alive until they are, and then
given up, to be swept like those of the dead.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice
from math import ceil
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from gateway.batches import batches
from gateway.errors import BrokerUnavailable
from gateway.redis.resp import milliseconds
from gateway.redis.shard import ServerNames, Shard

logger = logging.getLogger(__name__)

BATCH = 200
"""Entries written in one go: a few ms of Redis' time at most."""

SWEEP_BATCH = 20
"""Channels swept in one go, each of which may take as long as a hundred entries."""

KEEP = 24 * 3600.0
"""Seconds that keys outlive a cluster which died as a whole."""

CLAIM = 5.0
"""Seconds for which a sweeper may go without a sign of life, until others no longer wait for it."""

_Entry = TypeVar("_Entry")

GIVEN_UP = b"given up"
"""A mark in place of a sweeper's."""

Names = tuple[str, ...]
"""What a node owns entries under: its present name, then former ones under which some may still lie."""


class EntryStore(Protocol[_Entry]):
    """Whose entries are owned: presence, occupancy. It knows what is true, and how to write it."""

    def entries(self) -> Collection[_Entry]:
        """All that this node owns, and what it has not yet been able to remove."""

    def keys(self, entry: _Entry, owner: str) -> list[bytes]:
        """What is kept for its channel, index and all."""

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

    def renewed(self) -> None:
        """The lease is held, and nothing is in doubt: tell what has come due meanwhile."""


class Intervals(NamedTuple):
    """Seconds. ``lease`` and ``sweep`` add up to the time after which a killed node's entries are gone."""

    lease: float = 10.0
    """When others can see that a node is dead."""
    renew: float = 3.0
    sweep: float = 5.0


INTERVALS = Intervals()


class OwnedEntries(Generic[_Entry]):
    """Keeps what one node owns in Redis true, its lease, and its part in sweeping the dead.

    ``family`` begins the names of keys, ``kind`` those of indexes.
    """

    def __init__(self, shard: Shard, family: str, kind: bytes, store: EntryStore[_Entry], intervals: Intervals) -> None:
        self._shard = shard
        self._servers = ServerNames(shard)
        self._keys = shard.keys
        self._family = family
        self._kind = kind
        self._store = store
        self._intervals = intervals
        self._lease_time = milliseconds(intervals.lease)
        self._registry = shard.keys.shared(family)
        self._node = ""
        self._incarnation = 0
        self._names: Names = ()
        self._held_until = 0.0  # by our own clock, the lease is ours for certain
        self._server = b""
        self._reconnects = -1  # of the shard, when it was known which server it is
        self.others_back = 0.0
        """When other nodes, too, have found back after an outage (the loop's time). What is told before may be lost."""
        self._doubtful: set[_Entry] = set()
        self._touching: Iterator[_Entry] = iter(())
        self._checking = asyncio.Lock()
        self._renew_now = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def owner(self) -> str:
        """The present name, empty before the first lease."""
        return self._names[0] if self._names else ""

    @property
    def held(self) -> bool:
        """Whether the lease is ours for certain, at the server we know."""
        return self._reconnects == self._shard.reconnects and asyncio.get_running_loop().time() < self._held_until

    @property
    def moving(self) -> bool:
        """Whether entries are being brought over from former names."""
        return len(self._names) > 1

    async def start(self, node: str) -> None:
        """Take up the lease, and keep it. Returns even when Redis cannot be reached yet."""
        self._node = node[:12]  # it is in many keys, and unique enough
        self._shard.on_reconnect.append(self._renew_now.set)
        await self._attempt(self._renew, "lease could not be renewed")
        self._tasks = [asyncio.create_task(self._keep_lease()), asyncio.create_task(self._keep_sweeping())]

    async def close(self, entries: Iterable[_Entry]) -> None:
        """Write these for the last time, which are nobody's by now, and give the lease back."""
        if self._tasks:
            self._shard.on_reconnect.remove(self._renew_now.set)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if not self._names:
            return
        self._doubtful.update(entries)
        try:
            await self._rewrite_doubtful()
            await self._forget(self.owner)
        except BrokerUnavailable:
            logger.warning("Redis %s is away: the %s of this node ends with its lease", self._servers, self._family)
        self._node, self._names = "", ()

    async def write(self, entry: _Entry, *, again: bool = False) -> Any:
        """Have Redis hold what is true of an entry, ``again`` if what it holds is not known.

        Answers what the store's ``write`` does. When this fails, or is cancelled, it is made good as soon as can be.
        """
        if not self._node:
            raise BrokerUnavailable
        try:
            while not self.held:
                await self._confirm()
            if not again:
                return await self._store.write(entry, self._names)
            self._doubtful.discard(entry)
            return await self._store.rewrite(entry, self._names)
        except BaseException:
            self._doubtful.add(entry)
            raise

    def index(self, channel: str, owner: str) -> bytes:
        """Where a channel is noted under which the owner has entries."""
        return self._keys.index(self._kind, channel, owner)

    async def dead(self, owners: Iterable[str]) -> set[str]:
        """Those of the owners who hold no lease; not ourselves."""
        others = [owner for owner in owners if owner not in self._names]
        leases = await self.all(("EXISTS", self._lease(owner)) for owner in others)
        return {owner for owner, lives in zip(others, leases, strict=True) if not lives}

    async def all(self, commands: Iterable[Sequence[Any]]) -> list[Any]:
        """Answers to commands that leave together."""
        return await asyncio.gather(*[self._shard.execute(*command) for command in commands])

    async def _attempt(self, work: Callable[[], Awaitable[None]], failed: str) -> None:
        """Do what is done again soon, and must be, whatever happens: a node that stops renewing is swept."""
        try:
            await work()
        except BrokerUnavailable:
            logger.debug("%s: tried again when Redis is back", self._family)
        except Exception:
            logger.exception("%s: %s", self._family, failed)

    # — the lease —

    async def _keep_lease(self) -> None:
        while True:
            # Not wait_for, which on Python 3.11 can lose a cancellation.
            with suppress(TimeoutError):
                async with asyncio.timeout(self._intervals.renew):
                    await self._renew_now.wait()
            self._renew_now.clear()
            await self._attempt(self._renew, "lease could not be renewed")

    async def _renew(self) -> None:
        await self._confirm(anew=True)
        await self._rewrite_doubtful()
        await self._give_up_former_names()
        self._store.renewed()
        await self._touch_some()

    async def _confirm(self, anew: bool = False) -> None:
        """Make sure of the lease, and of the server. Many may wait for one answer."""
        async with self._checking:
            if self.held and not anew:
                return
            sent, reconnects, server = asyncio.get_running_loop().time(), self._shard.reconnects, self._server
            # PEXPIRE, since a Redis that is out of memory refuses SET
            leases = await self.all(("PEXPIRE", self._lease(name), self._lease_time) for name in self._names)
            held = bool(leases) and all(leases)
            if reconnects != self._reconnects:
                server = await self._shard.identity()
                held = held and server == self._server != b""
                if self._names:
                    self.others_back = sent + self._intervals.lease
            if not held:
                await self._take_new_name()
            self._server, self._reconnects, self._held_until = server, reconnects, sent + self._intervals.lease

    async def _take_new_name(self) -> None:
        """Go on under another name, and revive the former ones: also those that an older state of Redis knows."""
        self._incarnation += 1
        name = f"{self._node}.{self._incarnation}"
        ours = {owner for owner in await self._registered() if owner.startswith(f"{self._node}.")}
        names = (name, *ours.union(self._names) - {name})
        leases = [("SET", self._lease(name), 1, "PX", self._lease_time) for name in names]
        await self.all([("SADD", self._registry, *names), ("PEXPIRE", self._registry, milliseconds(KEEP)), *leases])
        self._names = names
        self._doubtful.update(self._store.entries())

    async def _rewrite_doubtful(self) -> None:
        for batch in batches([*self._doubtful], BATCH):
            writes = (self.write(entry, again=True) for entry in batch)
            # To the last of them: whoever begins again is to find all in doubt that are.
            answers = await asyncio.gather(self._confirm(anew=True), *writes, return_exceptions=True)
            for failure in answers:
                if isinstance(failure, BaseException):
                    raise failure

    async def _give_up_former_names(self) -> None:
        """Have done with former names, once everything has been brought over; what has left meanwhile is swept.

        They are marked for as long as that takes, since nobody asks again whether they were swept: a sweeper's own mark
        would stay for long.
        """
        former = self._names[1:]
        if not former or self._doubtful:
            return
        claimed = any(await self.all(("EXISTS", self._claim(name)) for name in former))
        marks = await self.all(("GET", self._mark(name)) for name in former)
        if claimed or self._names[1:] != former:  # whoever sweeps one is still telling whom it has removed
            return
        self._names = self._names[:1]
        text = "Redis %s: %s lease lost, or another server: all entries of this node were added again"
        logger.warning(text, self._servers, self._family)
        self._store.restored(any(mark not in (None, GIVEN_UP) for mark in marks))
        time = milliseconds(self._intervals.lease + 2 * self._intervals.sweep)
        given_up = [("SET", self._mark(name), GIVEN_UP, "PX", time) for name in former]
        await self.all([*given_up, *(("DEL", self._lease(name)) for name in former)])

    async def _touch_some(self) -> None:
        """Re-arm the expiry of keys: of the registry each time, of those of all entries within a quarter of it."""
        entries = self._store.entries()
        share = ceil(len(entries) * self._intervals.renew / (KEEP / 4))
        some = list(islice(self._touching, share))
        if len(some) < share:
            self._touching = iter(list(entries))
        keys = chain.from_iterable(self._store.keys(entry, self.owner) for entry in some)
        await self.all(("PEXPIRE", key, milliseconds(KEEP)) for key in (self._registry, *keys))

    # — the dead —

    async def _keep_sweeping(self) -> None:
        while True:
            await asyncio.sleep(self._intervals.sweep)
            await self._attempt(self._sweep_in_turn, "sweeping failed")

    async def _sweep_in_turn(self) -> None:
        if asyncio.get_running_loop().time() < self.others_back:
            return
        # A little shorter than the interval, so that a lone node wins every time.
        if await self._take(self._key("sweeper"), self._intervals.sweep * 0.8):
            await self._sweep_dead()

    async def _sweep_dead(self) -> None:
        for owner in await self.dead(await self._registered()):
            claim = self._claim(owner)
            if await self._take(claim, CLAIM):
                await self._sweep(owner)
                await self._shard.execute("DEL", claim)

    async def _sweep(self, owner: str) -> None:
        """Remove what an owner has left, unless it lives again."""
        # before anything is removed, so that an owner who comes back learns of it
        first = await self._take(self._mark(owner), KEEP)
        indexes = self._keys.indexes(self._kind, owner)
        sizes = await self.all(("SCARD", index) for index in indexes)
        filled = [index for index, size in zip(indexes, sizes, strict=True) if size]
        for index in filled:
            while channels := await self._shard.execute("SRANDMEMBER", index, SWEEP_BATCH):
                looks = [("EXISTS", self._lease(owner)), ("PEXPIRE", self._claim(owner), milliseconds(CLAIM))]
                if (await self.all(looks))[0]:
                    return
                await asyncio.gather(*(self._store.sweep(channel.decode(), owner) for channel in channels))
        if not (filled or first):  # else in a later turn: a command may have been under way for long
            await self._forget(owner)

    async def _forget(self, owner: str) -> None:
        await self.all([("SREM", self._registry, owner), ("DEL", self._lease(owner))])

    # — Redis —

    async def _registered(self) -> set[str]:
        return {owner.decode() for owner in await self._shard.execute("SMEMBERS", self._registry)}

    async def _take(self, key: bytes, seconds: float) -> bool:
        """Have a key for some time, if nobody has it."""
        return bool(await self._shard.execute("SET", key, self._node, "NX", "PX", milliseconds(seconds)))

    def _key(self, *words: str) -> bytes:
        return self._keys.shared(self._family, *words)

    def _lease(self, owner: str) -> bytes:
        return self._key("lease", owner)

    def _claim(self, owner: str) -> bytes:
        """Held by the node that sweeps an owner, as long as it has something to tell."""
        return self._key("sweeping", owner)

    def _mark(self, owner: str) -> bytes:
        """Says who has begun to sweep an owner, or that it was given up."""
        return self._key("swept", owner)
