"""The broker of many nodes: pub/sub and streams of a Redis server.

A node hears its own publications through Redis too, like those of all others.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from gateway.brokers import envelope
from gateway.brokers.base import (
    IDEMPOTENCY_TTL,
    BrokerEvents,
    BrokerHealth,
    HistoryFilter,
    PublishOptions,
    StreamOptions,
    new_epoch,
)
from gateway.messages import ClientInfo, Join, Position, Publication
from gateway.packing import pack
from gateway.resp import Argument
from gateway.shards import Script, Shard

_LUA = Path(__file__).parent / "lua"
_PUBLISH = Script(_LUA / "publish.lua")
_PUBLISH_ONCE = Script(_LUA / "publish_once.lua")
_HISTORY = Script(_LUA / "history.lua")
_VERIFY = Script(_LUA / "verify.lua")


class RedisBroker:
    """Carries publications over a started ``Shard``, which stays the caller's to close."""

    def __init__(self, shard: Shard, clock: Callable[[], float] = time.time) -> None:
        self._shard = shard
        shard.load(_PUBLISH, _PUBLISH_ONCE, _HISTORY, _VERIFY)
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

    async def publish(
        self, channel: str, publication: Publication, stream: StreamOptions, options: PublishOptions
    ) -> Position:
        data = self._encode(publication)
        if stream.keeps_history and not options.skip_history:
            return await self._append(channel, data, stream, options)
        message = envelope.WITHOUT_OFFSET + data
        if not options.idempotency_key:
            await self._publish(channel, message)
            return Position()
        keys = [self._keys.result(channel, options.idempotency_key), self._keys.of(b"c", channel)]
        return _position(await self._shard.run(_PUBLISH_ONCE, keys, [message, _ms(IDEMPOTENCY_TTL)]))

    async def publish_join(self, channel: str, info: ClientInfo) -> None:
        await self._publish(channel, envelope.JOIN + pack(info))

    async def publish_leave(self, channel: str, info: ClientInfo) -> None:
        await self._publish(channel, envelope.LEAVE + pack(info))

    async def history(
        self, channel: str, which: HistoryFilter, stream: StreamOptions
    ) -> tuple[list[Publication], Position]:
        keys = [self._keys.of(b"m", channel), self._keys.of(b"s", channel)]
        since: Argument = "" if which.since is None else which.since.offset
        args: list[Argument] = [which.limit, since, int(which.reverse), new_epoch(), _ms(stream.history_meta_ttl)]
        offset, epoch, entries = await self._shard.run(_HISTORY, keys, args)
        publications = [
            envelope.decode_publication(fields[1], int(entry.partition(b"-")[0])) for entry, fields in entries
        ]
        return publications, Position(int(offset), epoch.decode())

    async def verify(self, channel: str, position: Position, stream: StreamOptions) -> bool:
        keys = [self._keys.of(b"m", channel), self._keys.of(b"s", channel)]
        args: list[Argument] = [position.offset, position.epoch, new_epoch(), _ms(stream.history_meta_ttl)]
        return bool(await self._shard.run(_VERIFY, keys, args))

    async def remove_history(self, channel: str) -> None:
        await self._shard.execute("DEL", self._keys.of(b"s", channel))

    async def publish_control(self, data: bytes, node: str = "") -> None:
        words = ("control", node) if node else ("control",)
        await self._shard.execute("PUBLISH", self._keys.shared(*words), data)

    def health(self) -> BrokerHealth:
        shard = self._shard
        return BrokerHealth(shard.connected, shard.deaf, shard.lag, shard.reconnects)

    def _encode(self, publication: Publication) -> bytes:
        """Position stays out of the stored bytes: Redis decides it."""
        sent = publication.time or int(self._clock() * 1000)
        return pack(replace(publication, offset=0, epoch="", time=sent))

    async def _append(self, channel: str, data: bytes, stream: StreamOptions, options: PublishOptions) -> Position:
        keys = [self._keys.of(kind, channel) for kind in (b"m", b"s", b"c")]
        if options.idempotency_key:
            keys.append(self._keys.result(channel, options.idempotency_key))
        args: list[Argument] = [
            data,
            new_epoch(),
            stream.history_size,
            _ms(stream.history_ttl),
            _ms(stream.history_meta_ttl),
            options.version,
            options.version_epoch,
            _ms(IDEMPOTENCY_TTL),
        ]
        return _position(await self._shard.run(_PUBLISH, keys, args))

    async def _publish(self, channel: str, message: bytes) -> None:
        await self._shard.execute("PUBLISH", self._keys.of(b"c", channel), message)

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


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _position(answer: bytes) -> Position:
    offset, _, epoch = answer.decode().partition(":")
    return Position(int(offset), epoch)
