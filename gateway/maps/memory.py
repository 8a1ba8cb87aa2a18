"""The map store of a single node: maps live in this process and end with it."""

import asyncio
import time
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import islice
from typing import Generic, TypeVar

from msgspec.structs import replace

from gateway.brokers.base import Claim, HistoryFilter, new_epoch, outgoing
from gateway.brokers.base import PublishOptions as Published
from gateway.maps.base import (
    FOR_EVER,
    NO_EXTRAS,
    MapOptions,
    MapPage,
    MapReceipt,
    MapWrite,
    OptionsOf,
    Reason,
    check_write,
    kept,
    removal,
    too_many_keys,
)
from gateway.messages import Position, Publication

FAIR = 1000
"""What is overdue that one sweep looks at before others have their turn."""

_Item = TypeVar("_Item", bound=Hashable)


class _Due(Generic[_Item]):
    """What waits for a moment, each once: what is put off meanwhile waits again when its first one has come."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, _Item]] = []
        self._waiting: set[_Item] = set()

    def add(self, moment: float, item: _Item) -> None:
        if moment < FOR_EVER and item not in self._waiting:
            self._waiting.add(item)
            heappush(self._heap, (moment, item))

    def take(self, now: float) -> Iterator[_Item]:
        while self._heap and self._heap[0][0] <= now:
            _, item = heappop(self._heap)
            self._waiting.discard(item)
            yield item


class _Entry:
    """What a key has: ``version`` is that of the last publication which had one."""

    __slots__ = ("deadline", "publication", "version", "version_epoch")

    def __init__(self, publication: Publication) -> None:
        self.publication = publication
        self.deadline = FOR_EVER
        self.version = 0
        self.version_epoch = ""

    def holds(self, write: MapWrite) -> bool:
        """Whether it has the version of a write, or a later one."""
        return 0 < write.version <= self.version and write.version_epoch in ("", self.version_epoch)


class _Map:
    """One channel's entries, their names in order, the latest changes, and the position that outlives these."""

    __slots__ = ("entries", "epoch", "expires", "names", "offset", "stream", "stream_expires")

    def __init__(self, epoch: str, expires: float) -> None:
        self.entries: dict[str, _Entry] = {}
        self.names: list[str] = []
        self.stream: deque[Publication] = deque()
        self.stream_expires = 0.0
        self.epoch = epoch
        self.offset = 0
        self.expires = expires

    @property
    def position(self) -> Position:
        return Position(self.offset, self.epoch)

    def judge(self, key: str, write: MapWrite, *, removes: bool) -> Reason:
        """Why a write is not to change anything."""
        entry = self.entries.get(key)
        if entry is not None and entry.holds(write):
            return "version"
        if write.key_mode == "if_new" and entry is not None:
            return "key_exists"
        if write.key_mode == "if_exists" and entry is None:
            return "key_not_found"
        if write.expected is not None:
            at = None if entry is None else Position(entry.publication.offset, self.epoch)
            if at != write.expected:
                return "position_mismatch"
        return "key_not_found" if removes and entry is None else ""

    def set(self, publication: Publication, write: MapWrite) -> _Entry:
        key = publication.key
        entry = self.entries.get(key)
        if entry is None:
            entry = self.entries[key] = _Entry(publication)
            insort(self.names, key)
        entry.publication = publication
        if write.version:
            entry.version, entry.version_epoch = write.version, write.version_epoch
        return entry

    def drop(self, key: str) -> Publication:
        del self.names[bisect_right(self.names, key) - 1]
        return self.entries.pop(key).publication

    def append(self, publication: Publication, options: MapOptions, now: float) -> None:
        if self.stream_expires <= now:
            self.stream.clear()
        self.stream_expires = now + options.history_ttl
        self.stream.append(publication)
        while len(self.stream) > options.history_size:
            self.stream.popleft()

    def page(self, limit: int, cursor: str) -> tuple[list[Publication], str]:
        if not limit:
            return [], ""
        first = bisect_right(self.names, cursor) if cursor else 0
        names = self.names[first : first + limit]
        more = first + len(names) < len(self.names)
        return [self.entries[name].publication for name in names], names[-1] if more else ""


class MemoryMaps:
    """Hands changes to ``deliver`` at once, within the write: so their order is that of their offsets."""

    def __init__(self, deliver: Callable[[str, Publication], object], clock: Callable[[], float] = time.time) -> None:
        self._deliver = deliver
        self._clock = clock
        self._maps: dict[str, _Map] = {}
        self._results: dict[tuple[str, str], tuple[float, Position]] = {}
        self._deadlines: _Due[tuple[str, str]] = _Due()
        self._expiries: _Due[str] = _Due()
        self._result_expiries: _Due[tuple[str, str]] = _Due()

    async def publish(
        self, channel: str, publication: Publication, options: MapOptions, write: MapWrite = NO_EXTRAS
    ) -> MapReceipt:
        check_write(options, publication.key, write)
        now = self._clock()
        return self._known(channel, write, now) or self._write(channel, publication, options, write, now)

    async def remove(self, channel: str, key: str, options: MapOptions, write: MapWrite = NO_EXTRAS) -> MapReceipt:
        check_write(options, key, write)
        now = self._clock()
        gone = removal(key, int(now * 1000))
        return self._known(channel, write, now) or self._write(channel, gone, options, write, now)

    async def read_state(self, channel: str, options: MapOptions, limit: int, cursor: str = "") -> MapPage:
        found = self._find(channel, options)
        entries, cursor = found.page(limit, cursor)
        return MapPage([replace(each) for each in entries], found.position, cursor)

    async def read_key(self, channel: str, options: MapOptions, key: str) -> MapPage:
        found = self._find(channel, options)
        entry = found.entries.get(key)
        return MapPage([] if entry is None else [replace(entry.publication)], found.position)

    async def read_stream(
        self, channel: str, options: MapOptions, which: HistoryFilter
    ) -> tuple[list[Publication], Position]:
        found = self._find(channel, options)
        if found.stream_expires <= self._clock():
            found.stream.clear()
        since, limit = which.since, None if which.limit < 0 else which.limit
        stream = reversed(found.stream) if which.reverse else iter(found.stream)
        if since is not None:
            beyond = which.reverse and since.offset > found.offset
            part = (each for each in stream if (each.offset < since.offset) is which.reverse)
            stream = iter(()) if beyond else (each for each in part if each.offset != since.offset)
        return [replace(each) for each in islice(stream, limit)], found.position

    async def verify(self, claims: Sequence[Claim]) -> list[bool]:
        verdicts: list[bool] = []
        for claim in claims:
            assert isinstance(claim.stream, MapOptions)
            top = self._find(claim.channel, claim.stream, claim.hold).position
            verdicts.append(claim.position.epoch in ("", top.epoch) and claim.position.offset == top.offset)
        return verdicts

    async def count(self, channel: str) -> int:
        found = self._maps.get(channel)
        return 0 if found is None else len(found.entries)

    async def clear(self, channel: str) -> None:
        self._maps.pop(channel, None)

    async def sweep(self, options_of: OptionsOf) -> None:
        now = self._clock()
        for number, (channel, key) in enumerate(self._deadlines.take(now), 1):
            self._end(channel, key, options_of(channel), now)
            if number % FAIR == 0:
                await asyncio.sleep(0)
        for channel in self._expiries.take(now):
            if (found := self._maps.get(channel)) is not None:
                if found.expires <= now:
                    del self._maps[channel]
                else:
                    self._expiries.add(found.expires, channel)
        for result in self._result_expiries.take(now):
            expires, _ = self._results[result]
            if expires <= now:
                del self._results[result]
            else:
                self._result_expiries.add(expires, result)

    # — inside: nothing waits between a change and its delivery —

    def _end(self, channel: str, key: str, options: MapOptions | None, now: float) -> None:
        found = self._maps.get(channel)
        entry = None if found is None else found.entries.get(key)
        if entry is None or options is None:
            return
        if entry.deadline > now:
            self._deadlines.add(entry.deadline, (channel, key))
        else:
            self._write(channel, removal(key, int(now * 1000)), options, NO_EXTRAS, now)

    def _known(self, channel: str, write: MapWrite, now: float) -> MapReceipt | None:
        """What a write with the same idempotency key was answered."""
        expires, position = self._results.get((channel, write.idempotency_key), (0.0, Position()))
        return MapReceipt(position.offset, position.epoch, "idempotency") if expires > now else None

    def _write(
        self, channel: str, publication: Publication, options: MapOptions, write: MapWrite, now: float
    ) -> MapReceipt:
        key, found = publication.key, self._find(channel, options)
        before = found.entries.get(key)
        if reason := found.judge(key, write, removes=publication.removed):
            current = before.publication if before and reason == "position_mismatch" else None
            if before and write.renews and reason == "key_exists":
                self._renew(channel, found, before, options, now)
            self._let_go(channel, found, options)
            return MapReceipt(*_pair(found), reason, current)
        if before is None and 0 < options.key_limit <= len(found.entries):
            raise too_many_keys()
        previous = None if before is None else before.publication
        found.offset += options.streams
        extras = Published(version=write.version, delta=write.delta or None)
        told = outgoing(publication, options, extras, now, found.offset, found.epoch)
        if told.removed:
            told.tags = found.drop(key).tags
        else:
            entry = found.set(kept(told, found.offset), write)
            self._renew(channel, found, entry, options, now)
        if options.streams:
            found.append(kept(told, found.offset), options, now)
            found.expires = now + options.history_meta_ttl
            self._expiries.add(found.expires, channel)
            patchable = told.patchable and previous is not None and not told.removed
            told.previous = previous.data if patchable and previous is not None else None
        self._let_go(channel, found, options)
        if write.idempotency_key:
            self._results[channel, write.idempotency_key] = now + write.idempotency_ttl, found.position
            self._result_expiries.add(now + write.idempotency_ttl, (channel, write.idempotency_key))
        self._deliver(channel, told)
        return MapReceipt(*_pair(found))

    def _renew(self, channel: str, found: _Map, entry: _Entry, options: MapOptions, now: float) -> None:
        if options.key_ttl:
            entry.deadline = now + options.key_ttl
            self._deadlines.add(entry.deadline, (channel, entry.publication.key))
        if options.streams:
            found.expires = max(found.expires, now + options.history_meta_ttl)

    def _find(self, channel: str, options: MapOptions, hold: float = 0.0) -> _Map:
        """The channel's map, which lasts longer for being used; one that has not been written to lasts for a while."""
        now = self._clock()
        found = self._maps.get(channel)
        if found is not None and found.expires <= now:
            found = None
        if found is None:
            lasts = now + options.unpublished_ttl
            found = _Map(new_epoch(), lasts) if options.streams else _Map("", FOR_EVER)
            self._maps[channel] = found
        if options.streams:
            life = options.history_meta_ttl if found.offset else max(options.unpublished_ttl, 2 * hold)
            found.expires = max(found.expires, now + life)
            self._expiries.add(found.expires, channel)
        self._let_go(channel, found, options)
        return found

    def _let_go(self, channel: str, found: _Map, options: MapOptions) -> None:
        """Keep nothing of an ephemeral map that has no keys; with the first write it is put back."""
        if not options.streams:
            if not found.entries:
                self._maps.pop(channel, None)
            else:
                self._maps[channel] = found


def _pair(found: _Map) -> tuple[int, str]:
    return found.offset, found.epoch
