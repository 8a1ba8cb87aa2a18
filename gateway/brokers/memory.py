"""The broker of a single node: streams live in this process and end with it."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import islice
from math import inf
from typing import TypeVar
from zlib import crc32

from msgspec.structs import replace

from gateway.brokers.base import (
    NO_EXTRAS,
    BrokerEvents,
    BrokerHealth,
    Claim,
    Fenced,
    HistoryFilter,
    Posted,
    PublishOptions,
    StreamOptions,
    new_epoch,
    outgoing,
)
from gateway.messages import ClientInfo, Position, Publication, Receipt

_Key = TypeVar("_Key")

SWEPT_PER_PUBLISH = 8
"""How many due entries one publish looks at: more than it adds, so that in the end all expired ones go."""


class _Stream:
    """The publications of a channel, and the top offset and epoch that outlive them."""

    __slots__ = ("epoch", "expires", "meta_expires", "offset", "publications", "version", "version_epoch", "watched")

    def __init__(self, epoch: str) -> None:
        self.publications: deque[Publication] = deque()
        self.expires = 0.0
        self.meta_expires = 0.0
        self.watched = False  # has an entry among those that wait for their expiry
        self.reset(epoch)

    def reset(self, epoch: str = "") -> None:
        self.publications.clear()
        self.epoch = epoch or new_epoch()
        self.offset = 0
        self.version = 0
        self.version_epoch = ""

    @property
    def position(self) -> Position:
        return Position(self.offset, self.epoch)

    def holds_version(self, options: PublishOptions) -> bool:
        same_epoch = options.version_epoch in ("", self.version_epoch)
        return options.version > 0 and same_epoch and self.version >= options.version

    def append(self, publication: Publication, size: int, options: PublishOptions) -> None:
        """Store what leaves for the nodes, which is the next one."""
        self.offset = publication.offset
        self.version, self.version_epoch = options.version, options.version_epoch
        self.publications.append(publication)
        while len(self.publications) > size:
            self.publications.popleft()

    def select(self, which: HistoryFilter) -> Iterable[Publication]:
        since = which.since
        if not which.reverse:
            return self.publications if since is None else (p for p in self.publications if p.offset > since.offset)
        if since is None:
            return reversed(self.publications)
        if since.offset > self.offset:
            return ()
        return (p for p in reversed(self.publications) if p.offset < since.offset)


class MemoryBroker:
    """Delivers at once, within ``publish``, to the node that it was started with.

    ``holds`` tells whether a channel's lease is held by the one with this fence.
    """

    def __init__(
        self, clock: Callable[[], float] = time.time, holds: Callable[[str, str], bool] = lambda _channel, _fence: True
    ) -> None:
        self._clock = clock
        self._holds = holds
        self._node = ""
        self._events: BrokerEvents | None = None
        self._channels: set[str] = set()
        self._streams: dict[str, _Stream] = {}
        self._seed = random.getrandbits(32)
        self._promised: dict[str, str] = {}
        self._watched: set[str] = set()
        self._results: dict[tuple[str, str], tuple[float, Receipt]] = {}
        self._meta_expiries: list[tuple[float, str]] = []
        self._expiries: list[tuple[float, str]] = []
        self._result_expiries: list[tuple[float, tuple[str, str]]] = []
        self._earliest = inf
        """When the first of these is due."""

    async def start(self, node: str, events: BrokerEvents) -> None:
        self._node = node
        self._events = events

    async def close(self) -> None:
        self._events = None
        self._channels.clear()

    async def subscribe(self, channel: str) -> None:
        self._channels.add(channel)

    async def unsubscribe(self, channel: str) -> None:
        self._channels.discard(channel)
        self._promised.pop(channel, None)

    async def hearers(self, channels: Sequence[str]) -> list[int]:
        return [int(channel in self._channels) for channel in channels]

    async def publish(
        self, channel: str, publication: Publication, stream: StreamOptions, options: PublishOptions
    ) -> Receipt:
        if options.fence and not self._holds(channel, options.fence):
            raise Fenced
        now = self._clock()
        if self._earliest <= now:
            self._sweep(now)
        if not options.idempotency_key:
            return self._publish(channel, publication, stream, options, now)
        key = (channel, options.idempotency_key)
        expires, receipt = self._results.get(key, (0.0, None))
        if receipt is None or expires <= now:
            receipt = self._publish(channel, publication, stream, options, now)
            expires = now + options.idempotency_ttl
            self._results[key] = (expires, receipt)
            self._expect(self._result_expiries, expires, key)
        return receipt

    def post(self, channel: str, publication: Publication, stream: StreamOptions) -> Posted:
        now = self._clock()
        if self._earliest <= now:
            self._sweep(now)
        self._publish(channel, publication, stream, NO_EXTRAS, now)
        return True

    async def echo(self) -> None:
        await asyncio.sleep(0)  # it has been: but what others publish in this turn may go along

    async def publish_join(self, channel: str, info: ClientInfo) -> None:
        if self._events is not None and channel in self._channels:
            self._events.on_join(channel, info)

    async def publish_leave(self, channel: str, info: ClientInfo) -> None:
        if self._events is not None and channel in self._channels:
            self._events.on_leave(channel, info)

    async def history(
        self, channel: str, which: HistoryFilter, stream: StreamOptions
    ) -> tuple[list[Publication], Position]:
        found = self._find(channel, stream, self._clock())
        if found is None:
            return [], Position(0, self._next_epoch(channel))
        limit = None if which.limit < 0 else which.limit
        return [_as_stored(each) for each in islice(found.select(which), limit)], found.position

    async def verify(self, claims: Sequence[Claim]) -> list[bool]:
        return [self._at_top(claim) for claim in claims]

    def _at_top(self, claim: Claim) -> bool:
        channel, position = claim.channel, claim.position
        found = self._find(channel, claim.stream, self._clock())
        if found is not None and found.epoch == position.epoch and position.offset > found.offset:
            found.reset()
        top = found.position if found is not None else Position(0, self._next_epoch(channel))
        return position.epoch in ("", top.epoch) and position.offset == top.offset

    async def remove_history(self, channel: str) -> None:
        if found := self._streams.get(channel):
            found.publications.clear()

    async def publish_control(self, data: bytes, node: str = "") -> None:
        if self._events is not None and node in ("", self._node):
            self._events.on_control(data)

    def health(self) -> BrokerHealth:
        return BrokerHealth()

    def _publish(
        self, channel: str, publication: Publication, stream: StreamOptions, options: PublishOptions, now: float
    ) -> Receipt:
        offset, epoch = 0, ""
        if stream.keeps_history and not options.skip_history:
            found = self._find(channel, stream, now) or self._begin(channel, stream, now)
            if options.version and found.holds_version(options):
                return Receipt(found.offset, found.epoch)
            offset, epoch = found.offset + 1, found.epoch
            publication = outgoing(publication, stream, options, now, offset, epoch)
            found.append(publication, stream.history_size, options)
            found.expires = now + stream.history_ttl
            if not found.watched:
                found.watched = True
                self._expect(self._expiries, found.expires, channel)
        else:
            publication = outgoing(publication, stream, options, now)
        return Receipt(offset, epoch, int(self.deliver(channel, publication)))

    def deliver(self, channel: str, publication: Publication) -> bool:
        """Tell the node, if it hears the channel; answers whether it does."""
        if self._events is None or channel not in self._channels:
            return False
        self._events.on_publication(channel, publication)
        return True

    def _begin(self, channel: str, options: StreamOptions, now: float) -> _Stream:
        """A stream for a channel that has none."""
        begun = self._streams[channel] = _Stream(self._next_epoch(channel))
        begun.meta_expires = now + options.history_meta_ttl
        if channel not in self._watched:
            self._watched.add(channel)
            self._expect(self._meta_expiries, begun.meta_expires, channel)
        return begun

    def _find(self, channel: str, options: StreamOptions, now: float) -> _Stream | None:
        """The channel's stream, which lasts longer for being used."""
        found = self._streams.get(channel)
        if found is None:
            return None
        if found.meta_expires <= now:
            self._end(channel)
            return None
        if found.expires <= now:
            found.publications.clear()
        found.meta_expires = now + options.history_meta_ttl
        return found

    def _next_epoch(self, channel: str) -> str:
        """The epoch of a channel's next stream, for which nothing need be kept until somebody publishes."""
        return self._promised.get(channel) or f"{crc32(channel.encode(), self._seed):08x}"

    def _end(self, channel: str) -> None:
        """Forget a stream. What follows in its channel has another epoch, and those promised to others hold."""
        ended = self._streams.pop(channel)
        self._promised.pop(channel, None)
        if ended.epoch == self._next_epoch(channel):
            for other in self._channels - self._streams.keys() - {channel}:
                self._promised[other] = self._next_epoch(other)
            self._seed = random.getrandbits(32)

    def _expect(self, expiries: list[tuple[float, _Key]], when: float, key: _Key) -> None:
        """Have an entry looked at when it is due."""
        heappush(expiries, (when, key))
        self._earliest = min(self._earliest, when)

    def _sweep(self, now: float) -> None:
        """Forget a few expired streams and results. An entry whose expiry has moved waits again."""
        for channel in _due(self._expiries, now):
            found = self._streams.get(channel)
            if found is None:
                continue
            found.watched = found.expires > now
            if found.watched:
                heappush(self._expiries, (found.expires, channel))
            else:
                found.publications.clear()
        for channel in _due(self._meta_expiries, now):
            found = self._streams.get(channel)
            if found is not None and found.meta_expires > now:
                heappush(self._meta_expiries, (found.meta_expires, channel))
                continue
            self._watched.discard(channel)
            if found is not None:
                self._end(channel)
        for key in _due(self._result_expiries, now):
            if key in self._results and self._results[key][0] <= now:
                del self._results[key]
        heaps = self._expiries, self._meta_expiries, self._result_expiries
        self._earliest = min((heap[0][0] for heap in heaps if heap), default=inf)


def _as_stored(publication: Publication) -> Publication:
    """Without what only live ones have: far fewer are read than are published."""
    return replace(publication, epoch="", time=0, exclude=None, patchable=False)


def _due(expiries: list[tuple[float, _Key]], now: float) -> Iterator[_Key]:
    """Take the entries that are due, at most ``SWEPT_PER_PUBLISH``."""
    for _ in range(SWEPT_PER_PUBLISH):
        if not expiries or expiries[0][0] > now:
            return
        yield heappop(expiries)[1]
