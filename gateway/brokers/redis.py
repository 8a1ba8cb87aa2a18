"""The broker of many nodes: pub/sub and streams of a Redis server.

A node hears its own publications through Redis too, like those of all others.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from gateway.brokers import envelope
from gateway.brokers.base import (
    BrokerEvents,
    BrokerHealth,
    Fenced,
    HistoryFilter,
    PublishOptions,
    StreamOptions,
    new_epoch,
)
from gateway.brokers.calls import (
    LUA,
    PUBLISH,
    PUBLISH_ONCE,
    Call,
    control_call,
    message_call,
    milliseconds,
    publish_call,
    read_position,
)
from gateway.brokers.fence import FENCED_SCRIPTS, behind_fence
from gateway.messages import ClientInfo, Join, Position, Publication, pack
from gateway.redis.batches import batches
from gateway.redis.resp import Argument
from gateway.redis.script import Script
from gateway.redis.shard import CHANNELS_PER_COMMAND, Shard

_HISTORY = Script(LUA / "history.lua")
_VERIFY = Script(LUA / "verify.lua")


class RedisBroker:
    """Carries publications over a started ``Shard``, which stays the caller's to close."""

    def __init__(self, shard: Shard, clock: Callable[[], float] = time.time) -> None:
        self._shard = shard
        shard.load(PUBLISH, PUBLISH_ONCE, _HISTORY, _VERIFY, *FENCED_SCRIPTS)
        self._keys = shard.keys
        self._clock = clock
        self._reader = envelope.Reader()
        self._subscribed: set[bytes] = set()
        self._events: BrokerEvents | None = None

    async def start(self, node: str, events: BrokerEvents) -> None:
        self._events = events
        self._shard.on_reconnect.append(events.on_gap)
        for name in (self._keys.shared("control"), self._keys.shared("control", node)):
            self._subscribed.add(name)
            await self._shard.listen(name, events.on_control)

    async def close(self) -> None:
        if self._events is not None:
            self._shard.on_reconnect.remove(self._events.on_gap)
            self._events = None
        await self._shard.forget(self._subscribed)
        self._subscribed.clear()

    async def subscribe(self, channel: str) -> None:
        assert self._events is not None, "start() comes first"
        name = self._keys.of(b"c", channel)
        await self._shard.subscribe(name, partial(self._receive, self._events, channel))
        self._subscribed.add(name)

    async def unsubscribe(self, channel: str) -> None:
        name = self._keys.of(b"c", channel)
        self._subscribed.discard(name)
        await self._shard.unsubscribe(name)

    async def hearers(self, channels: Sequence[str]) -> list[int]:
        counts: list[int] = []
        for some in batches(channels, CHANNELS_PER_COMMAND):
            answer = await self._shard.execute("PUBSUB", "NUMSUB", *(self._keys.of(b"c", name) for name in some))
            counts += answer[1::2]  # after the name of each
        return counts

    async def publish(
        self, channel: str, publication: Publication, stream: StreamOptions, options: PublishOptions
    ) -> Position:
        call = publish_call(self._keys, channel, publication, stream, options, self._clock())
        if options.fence:
            call = behind_fence(self._keys, channel, call, options.fence)
        answer = await self._run(call)
        if answer is None:
            raise Fenced
        return read_position(answer)

    async def publish_join(self, channel: str, info: ClientInfo) -> None:
        await self._run(message_call(self._keys, channel, envelope.JOIN + pack(info)))

    async def publish_leave(self, channel: str, info: ClientInfo) -> None:
        await self._run(message_call(self._keys, channel, envelope.LEAVE + pack(info)))

    async def history(
        self, channel: str, which: HistoryFilter, stream: StreamOptions
    ) -> tuple[list[Publication], Position]:
        keys = [self._keys.of(b"m", channel), self._keys.of(b"s", channel)]
        since: Argument = "" if which.since is None else which.since.offset
        args: list[Argument] = [
            which.limit,
            since,
            int(which.reverse),
            new_epoch(),
            milliseconds(stream.history_meta_ttl),
        ]
        offset, epoch, entries = await self._shard.run(_HISTORY, keys, args)
        publications = [
            envelope.decode_publication(fields[1], int(entry.partition(b"-")[0])) for entry, fields in entries
        ]
        return publications, Position(int(offset), epoch.decode())

    async def verify(self, channel: str, position: Position, stream: StreamOptions) -> bool:
        keys = [self._keys.of(b"m", channel), self._keys.of(b"s", channel)]
        args: list[Argument] = [position.offset, position.epoch, new_epoch(), milliseconds(stream.history_meta_ttl)]
        return bool(await self._shard.run(_VERIFY, keys, args))

    async def remove_history(self, channel: str) -> None:
        await self._shard.execute("DEL", self._keys.of(b"s", channel))

    async def publish_control(self, data: bytes, node: str = "") -> None:
        await self._run(control_call(self._keys, data, node))

    def health(self) -> BrokerHealth:
        shard = self._shard
        return BrokerHealth(shard.connected, shard.deaf, shard.lag, shard.reconnects)

    def _run(self, call: Call) -> Awaitable[Any]:
        if call.script is None:
            return self._shard.execute("PUBLISH", *call.keys, *call.args)
        return self._shard.run(call.script, call.keys, call.args)

    def _receive(self, events: BrokerEvents, channel: str, message: bytes) -> None:
        match self._reader.read(message):
            case Publication() as publication:
                events.on_publication(channel, publication)
            case Join(info):
                events.on_join(channel, info)
            case None:
                return
            case leave:
                events.on_leave(channel, leave.info)
