"""Channels whose values a backend is polled for: the keys that are tracked on this node, and who tracks them.

Source: Centrifuge protocol, "Shared poll".
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from itertools import islice
from typing import Any

from msgspec import Struct, field

from gateway.config.settings.polls import PollOptions
from gateway.core.losses import Losses
from gateway.core.patches import Patches, whole
from gateway.core.poll_values import Forms, Key, Value, Watch, Watcher
from gateway.errors import Disconnect, Error
from gateway.messages import Payload, Publication
from gateway.metrics import Metrics

log = logging.getLogger(__name__)

SWEEP = 5.0
"""Seconds between two looks at whose signatures have ended."""

ANSWERED = 64 * 1024
"""Bytes of kept values that the answer to one who tracks has room for; the backend is asked for the others."""

Fetch = Callable[[str, str, list[tuple[str, int]]], Awaitable[tuple[Sequence[Value], str]]]
"""Asks a proxy for a channel's keys, each with the version that is known. Answers values and their epoch.

Raises ``Error`` or ``Disconnect`` if the backend has not answered, which is told elsewhere.
"""


class Item(Struct):
    """A key that somebody tracks."""

    key: str
    version: int
    expire_at: int


class _Member(Struct):
    """Somebody who has subscribed."""

    keys: set[str] = field(default_factory=set)
    ends: int = 0
    """When the first of the signatures ends; 0 is never."""


class Poll:
    """One channel on this node."""

    def __init__(self, polls: "Polls", name: str, options: PollOptions) -> None:
        self._polls = polls
        self._name = name
        self.options = options
        """Of the latest who has come: a reload changes all but the mode."""
        self._versioned = options.mode == "versioned"
        self._keys: dict[str, Key] = {}
        self._members: dict[Watcher, _Member] = {}
        self._wanted: dict[str, None] = {}
        """Keys that are to be asked for out of turn."""
        self._asking = 0
        """Those who wait for their turn to ask for some of them."""
        self._at_once: set[str] = set()
        """Keys that are being asked for out of turn: whoever wants them too waits for the same answer."""
        self._count = 0
        self._runs = False
        self._swept_at = polls.clock()
        self.epoch = "" if self._versioned else secrets.token_hex(4)

    # — who tracks what —

    def join(self, watcher: Watcher) -> None:
        self._members[watcher] = _Member()

    def leave(self, watcher: Watcher) -> None:
        if (member := self._members.get(watcher)) is not None:
            self.untrack(watcher, list(member.keys))
            del self._members[watcher]
        self._polls.drop_unused(self._name, self)

    def would_track(self, watcher: Watcher, keys: Iterable[str], not_any_more: Iterable[str]) -> int:
        """How many keys it would track with these and without those."""
        return len((self._members[watcher].keys | {*keys}) - {*not_any_more})

    def track(self, watcher: Watcher, items: Iterable[Item]) -> list[Publication]:
        """Have it told of these keys, from the versions on that it has. Answers what is kept of them, and newer."""
        member, room = self._members[watcher], ANSWERED
        answered: list[Publication] = []
        for item in items:
            watch = Watch(item.version, item.expire_at)
            key = self._keys.get(item.key)
            if key is None:
                key = self._keys[item.key] = Key(item.key)
                if not item.version:
                    self._want(item.key)
            elif not item.version or item.version < key.version:
                kept = key.newer_than(item.version)
                if kept is not None and len(kept.data) <= room:
                    room -= len(kept.data)
                    watch.version, watch.ready = kept.version, True
                    answered.append(whole(kept) if watcher.delta else kept)
                else:
                    key.again = True
                    if key.version:
                        self._want(item.key)
            key.watches[watcher] = watch
            member.keys.add(item.key)
            if item.expire_at:
                member.ends = min(member.ends or item.expire_at, item.expire_at)
        if self._keys and not self._runs:
            self._runs = True
            self._polls.spawn(self._run())
        return answered

    def untrack(self, watcher: Watcher, keys: Iterable[str]) -> None:
        member = self._members.get(watcher)
        for each in keys:
            if member is not None:
                member.keys.discard(each)
            if (key := self._keys.get(each)) is not None:
                key.watches.pop(watcher, None)
                if not key.watches:
                    del self._keys[each]

    @property
    def unused(self) -> bool:
        return not self._members and not self._runs

    def _sweep(self) -> None:
        """Let go of keys whose signature has ended a while ago."""
        now, grace = self._polls.clock(), self.options.grace
        if now - self._swept_at < min(SWEEP, grace):
            return
        self._swept_at = now
        for watcher, member in self._members.items():
            if member.ends and member.ends + grace < now:
                ends = {name: self._keys[name].watches[watcher].expire_at for name in member.keys}
                self.untrack(watcher, [name for name, end in ends.items() if end and end + grace < now])
                member.ends = min((end for end in ends.values() if end + grace >= now), default=0)

    # — polling —

    async def _run(self) -> None:
        """Ask for every key once in an interval, until there is none."""
        try:
            await asyncio.sleep(self.options.interval)
            while True:
                self._sweep()
                if not self._keys:
                    await asyncio.sleep(self.options.linger)
                    if not self._keys:
                        return
                await self._cycle()
        finally:
            self._runs = False
            self._polls.drop_unused(self._name, self)

    async def _cycle(self) -> None:
        self._keys = dict(sorted(self._keys.items()))  # who is sorted already is soon sorted again
        due = []
        for name, key in self._keys.items():
            if key.again or not key.published:
                due.append(name)
            key.published = False
        size = self.options.batch
        chunks = [due[at : at + size] for at in range(0, len(due), size)]
        calls = []
        for chunk in chunks or [[]]:
            calls.append(self._polls.spawn(self._fetch(chunk)))
            await asyncio.sleep(self.options.interval / max(len(chunks), 1))
        await asyncio.wait(calls)

    def _want(self, name: str) -> None:
        """Ask for a key out of turn, unless that is under way."""
        if name not in self._at_once:
            self._wanted[name] = None
            if self._asking * self.options.batch < len(self._wanted):
                self._asking += 1
                self._polls.spawn(self._fetch_at_once())

    async def _fetch_at_once(self) -> None:
        """Ask for keys that somebody wants by now: those who have come in the same tick, or wait, ask together."""
        async with self._polls.turns:
            self._asking -= 1
            names = list(islice(self._wanted, self.options.batch))
            for name in names:
                del self._wanted[name]
            self._at_once.update(names)
            try:
                await self._ask(names)
            finally:
                self._at_once.difference_update(names)

    async def _fetch(self, names: Iterable[str]) -> None:
        async with self._polls.turns:
            await self._ask(names)

    async def _ask(self, names: Iterable[str]) -> None:
        there = [self._keys[name] for name in names if name in self._keys]
        asked = [(key.name, key.version if self._versioned and not key.again else 0) for key in there]
        if not asked:
            return
        before = self.epoch
        try:
            values, epoch = await self._polls.fetch(self.options.proxy_name, self._name, asked)
        except (Error, Disconnect):
            return  # the next cycle asks again
        except Exception:
            log.exception("channel %s: its values could not be asked for", self._name)
            return
        if self.epoch not in (before, epoch) and (before or epoch):
            return  # what was asked before this epoch is answered for another one
        self._sweep()
        if not self._begins_anew(epoch):
            for value in values:
                self._apply(value)

    def _begins_anew(self, epoch: str) -> bool:
        """Whether versions are of another epoch: then nothing is tracked, and everybody subscribes again, by and by."""
        if not self._versioned or epoch in ("", self.epoch):
            return False
        before, self.epoch = self.epoch, epoch
        if not before:
            return False
        self._keys.clear()
        self._at_once.clear()
        self._members = {watcher: _Member() for watcher in self._members}
        self._polls.losses.add(list(self._members))
        return True

    # — what has come —

    def publish(self, publication: Publication) -> None:
        """The server API has told what a key has."""
        if not (self._versioned and self.options.publish_enabled):
            return  # the settings of another node differ
        self._sweep()
        if self._begins_anew(publication.epoch):
            return
        key = self._keys.get(publication.key)
        if key is not None and publication.version > key.version:
            key.published = True
            self._apply(Value(key.name, publication.data, publication.version, binary=publication.binary))

    def _apply(self, value: Value) -> None:
        key = self._keys.get(value.key)
        if key is None:
            return
        if value.removed:
            self._deliver(key, self._forms(Publication(Payload(b""), key=key.name, removed=True)))
            for watcher in list(key.watches):
                self.untrack(watcher, (key.name,))
        elif value.data is not None and (version := self._version(key, value, value.data)):
            before = key.version
            base = key.take(version, value, value.data, keep=self.options.keep_latest_data)
            publication = Publication(value.data, key=key.name, version=version, binary=value.binary)
            self._deliver(key, self._forms(publication, before, base))

    def _version(self, key: Key, value: Value, data: Payload) -> int:
        """The version of a value that is to be told; 0 if it is not."""
        if self._versioned:
            return value.version if value.version > key.version or key.again else 0
        if hash(data) == key.digest:
            return key.version if key.again else 0
        self._count += 1
        return self._count

    def _forms(self, publication: Publication, before: int = 0, base: Payload | None = None) -> Forms:
        return Forms(self._name, publication, self._polls.patches, before, base)

    def _deliver(self, key: Key, forms: Forms) -> None:
        """Tell those whose version is older."""
        publication = forms.publication
        for watcher, watch in list(key.watches.items()):  # whoever is too slow for it leaves meanwhile
            if not publication.removed and watch.version >= publication.version:
                continue
            try:
                message = forms.encoded(watcher, watch)
            except Disconnect as reason:
                watcher.connection.disconnect(reason)
                continue
            self._polls.post(watcher.connection, message)
            self._polls.metrics.deliveries += 1
            watch.version, watch.ready = publication.version, True


class Polls:
    """Those of this node, by channel."""

    def __init__(
        self,
        post: Callable[[Any, bytes], None],
        losses: Losses,
        clock: Callable[[], float],
        concurrency: int,
        patches: Patches,
        metrics: Metrics,
    ) -> None:
        self.post = post
        self.losses = losses
        self.clock = clock
        self.patches = patches
        self.metrics = metrics
        self.turns = asyncio.Semaphore(concurrency or 64)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False
        self._of: dict[str, Poll] = {}
        self.fetch: Fetch = _nobody

    def open(self, name: str, options: PollOptions) -> Poll:
        """That of a channel, which goes by these options from now on. Whoever joins it is to leave it."""
        poll = self._of.get(name)
        if poll is None:
            poll = self._of[name] = Poll(self, name, options)
        poll.options = options
        return poll

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run work beside all other; after ``stop`` it ends before its first step."""
        task = asyncio.get_running_loop().create_task(work)
        if self._stopped:
            task.cancel()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def stop(self) -> None:
        """Ask nobody any more, whoever tracks what from now on."""
        self._stopped = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def drop_unused(self, name: str, poll: Poll) -> None:
        if poll.unused and self._of.get(name) is poll:
            del self._of[name]


async def _nobody(_proxy: str, _channel: str, _keys: list[tuple[str, int]]) -> tuple[Sequence[Value], str]:
    return (), ""
