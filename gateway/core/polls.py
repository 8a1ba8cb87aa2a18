"""Channels whose values a backend is polled for: the keys that are tracked on this node, and who tracks them.

Source: Centrifuge protocol, "Shared poll".
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, Protocol

from msgspec import Struct, field

from gateway.config.settings.polls import PollOptions
from gateway.core.audience import Connection
from gateway.errors import Disconnect, Error
from gateway.messages import Payload, Publication
from gateway.protocols.base import Wire

log = logging.getLogger(__name__)

SWEEP = 5.0
"""Seconds between two looks at whose signatures have ended."""


class Value(Struct):
    """What the backend has for a key; no data is no news."""

    key: str
    data: Payload | None = None
    version: int = 0
    removed: bool = False


Fetch = Callable[[str, str, list[tuple[str, int]]], Awaitable[tuple[Sequence[Value], str]]]
"""Asks a proxy for a channel's keys, each with the version that is known. Answers values and their epoch.

Raises ``Error`` or ``Disconnect`` if the backend has not answered, which is told elsewhere.
"""


class Watcher(Protocol):
    """A subscription that tracks keys."""

    @property
    def connection(self) -> Connection: ...

    def lose_position(self) -> None:
        """What it knows is of another epoch."""


class Item(Struct):
    """A key that somebody tracks."""

    key: str
    version: int
    expire_at: int


class _Watch(Struct):
    version: int
    expire_at: int


class _Key(Struct):
    version: int = 0
    data: int | None = None
    """The hash of its data."""
    again: bool = False
    """Whether somebody has to be told it though it is not new."""
    watches: dict[Watcher, _Watch] = field(default_factory=dict)


class Poll:
    """One channel on this node."""

    def __init__(self, polls: "Polls", name: str, options: PollOptions) -> None:
        self._polls = polls
        self._name = name
        self._options = options
        self._versioned = options.mode == "versioned"
        self._keys: dict[str, _Key] = {}
        self._members: dict[Watcher, set[str]] = {}
        self._at_once: set[str] = set()
        """Keys that are being asked for out of turn: whoever wants them too waits for the same answer."""
        self._count = 0
        self._runs = False
        self._swept_at = polls.clock()
        self.epoch = "" if self._versioned else secrets.token_hex(4)

    # — who tracks what —

    def join(self, watcher: Watcher) -> None:
        self._members[watcher] = set()

    def leave(self, watcher: Watcher) -> None:
        self.untrack(watcher, list(self._members.get(watcher, ())))
        self._members.pop(watcher, None)
        self._polls.drop_unused(self._name, self)

    def would_track(self, watcher: Watcher, keys: Iterable[str], not_any_more: Iterable[str]) -> int:
        """How many keys it would track with these and without those."""
        return len((self._members[watcher] | {*keys}) - {*not_any_more})

    def track(self, watcher: Watcher, items: Iterable[Item]) -> None:
        """Have it told of these keys, from the versions on that it has."""
        mine, wanted = self._members[watcher], []
        for item in items:
            key = self._keys.get(item.key)
            if key is None:
                key = self._keys[item.key] = _Key()
                if not item.version:
                    wanted.append(item.key)
            elif not item.version or item.version < key.version:
                key.again = True
                if key.version:
                    wanted.append(item.key)
            key.watches[watcher] = _Watch(item.version, item.expire_at)
            mine.add(item.key)
        for chunk in self._chunks([each for each in dict.fromkeys(wanted) if each not in self._at_once]):
            self._at_once.update(chunk)
            self._polls.spawn(self._fetch_at_once(chunk))
        if self._keys and not self._runs:
            self._runs = True
            self._polls.spawn(self._run())

    def untrack(self, watcher: Watcher, keys: Iterable[str]) -> None:
        mine = self._members.get(watcher, set())
        for each in keys:
            mine.discard(each)
            if (key := self._keys.get(each)) is not None:
                key.watches.pop(watcher, None)
                if not key.watches:
                    del self._keys[each]

    @property
    def unused(self) -> bool:
        return not self._members and not self._runs

    # — polling —

    async def _run(self) -> None:
        """Ask for every key once in an interval, until there is none."""
        try:
            await asyncio.sleep(self._options.interval)
            while True:
                self._sweep()
                if not self._keys:
                    await asyncio.sleep(self._options.linger)
                    if not self._keys:
                        return
                chunks = list(self._chunks(sorted(self._keys)))
                calls = []
                for chunk in chunks:
                    calls.append(self._polls.spawn(self._fetch(chunk)))
                    await asyncio.sleep(self._options.interval / len(chunks))
                await asyncio.wait(calls)
        finally:
            self._runs = False
            self._polls.drop_unused(self._name, self)

    def _chunks(self, keys: list[str]) -> Iterator[list[str]]:
        size = self._options.batch
        return (keys[at : at + size] for at in range(0, len(keys), size))

    async def _fetch_at_once(self, names: list[str]) -> None:
        try:
            await self._fetch(names)
        finally:
            self._at_once.difference_update(names)

    async def _fetch(self, names: Iterable[str]) -> None:
        there = [(name, self._keys[name]) for name in names if name in self._keys]
        asked = [(name, each.version if self._versioned and not each.again else 0) for name, each in there]
        if not asked:
            return
        try:
            async with self._polls.turns:
                values, epoch = await self._polls.fetch(self._options.proxy_name, self._name, asked)
        except (Error, Disconnect):
            return  # the next cycle asks again
        except Exception:
            log.exception("channel %s: its values could not be asked for", self._name)
            return
        if self._versioned and epoch and epoch != self.epoch:
            before, self.epoch = self.epoch, epoch
            if before:
                self._begin_anew()
                return
        for value in values:
            self._apply(value)

    def _begin_anew(self) -> None:
        """Versions are of another epoch: everybody subscribes again, and tracks from the beginning."""
        for key in self._keys.values():
            key.version, key.data = 0, None
        for watcher in list(self._members):
            watcher.lose_position()

    def _sweep(self) -> None:
        """Let go of keys whose signature has ended a while ago."""
        now = self._polls.clock()
        if now - self._swept_at < min(SWEEP, self._options.grace):
            return
        self._swept_at = now
        for name, key in list(self._keys.items()):
            for watcher, watch in list(key.watches.items()):
                if watch.expire_at and watch.expire_at + self._options.grace < now:
                    self.untrack(watcher, (name,))

    # — what has come —

    def _apply(self, value: Value) -> None:
        key = self._keys.get(value.key)
        if key is None:
            return
        if value.removed:
            self._deliver(key, Publication(Payload(b""), key=value.key, removed=True))
            for watcher in list(key.watches):
                self.untrack(watcher, (value.key,))
        elif value.data is not None and (version := self._version(key, value, value.data)):
            key.version, key.again = max(version, key.version), False
            self._deliver(key, Publication(value.data, key=value.key, version=version))

    def _version(self, key: _Key, value: Value, data: Payload) -> int:
        """The version of a value that is to be told; 0 if it is not."""
        if self._versioned:
            return value.version if value.version > key.version or key.again else 0
        found = hash(data)
        if found == key.data:
            return key.version if key.again else 0
        key.data = found
        self._count += 1
        return self._count

    def _deliver(self, key: _Key, publication: Publication) -> None:
        """Tell those whose version is older; encoded once for each wire."""
        encoded: dict[Wire, bytes] = {}
        for watcher, watch in key.watches.items():
            if not publication.removed:
                if watch.version >= publication.version:
                    continue
                watch.version = publication.version
            wire = watcher.connection.wire
            message = encoded.get(wire)
            if message is None:
                message = encoded[wire] = wire.protocol.encode_push(self._name, publication)
            self._polls.post(watcher.connection, message)


class Polls:
    """Those of this node, by channel."""

    def __init__(
        self,
        post: Callable[[Any, bytes], None],
        clock: Callable[[], float],
        concurrency: int,
    ) -> None:
        self.post = post
        self.clock = clock
        self.turns = asyncio.Semaphore(concurrency or 64)
        self._tasks: set[asyncio.Task[None]] = set()
        self._of: dict[str, Poll] = {}
        self.fetch: Fetch = _nobody

    def open(self, name: str, options: PollOptions) -> Poll:
        """That of a channel. Whoever joins it is to leave it."""
        poll = self._of.get(name)
        if poll is None:
            poll = self._of[name] = Poll(self, name, options)
        return poll

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def stop(self) -> None:
        """Ask nobody any more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def drop_unused(self, name: str, poll: Poll) -> None:
        if poll.unused and self._of.get(name) is poll:
            del self._of[name]


async def _nobody(_proxy: str, _channel: str, _keys: list[tuple[str, int]]) -> tuple[Sequence[Value], str]:
    return (), ""
