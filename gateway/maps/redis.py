"""The map store of many nodes, in Redis. Each act is one script, on keys of one partition.

``km`` meta data, ``ks`` stream, ``kv`` entries, ``kn`` their names in order, ``kd`` their deadlines, ``kr`` versions;
``ki``, one for each partition, which channels have a deadline when. A deadline is by the clock of Redis.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec.msgpack import encode

from gateway.batches import batches
from gateway.brokers import envelope
from gateway.brokers.base import Claim, HistoryFilter, PublishOptions, new_epoch, outgoing
from gateway.brokers.calls import LINEAGE
from gateway.brokers.redis_history import read_top
from gateway.errors import BrokerUnavailable
from gateway.maps.base import (
    FOR_EVER,
    NO_EXTRAS,
    MapOptions,
    MapPage,
    MapReceipt,
    MapWrite,
    OptionsOf,
    check_write,
    removal,
    too_many_keys,
)
from gateway.messages import Position, Publication, pack
from gateway.redis.resp import Argument, milliseconds
from gateway.redis.script import Script
from gateway.redis.shard import Shard

_LUA = Path(__file__).parent / "lua"
_WRITE = Script(*LINEAGE, _LUA / "map.lua", _LUA / "write.lua", identified=True)
_READ_STATE = Script(*LINEAGE, _LUA / "map.lua", _LUA / "read_state.lua", identified=True)
_READ_STREAM = Script(*LINEAGE, _LUA / "map.lua", _LUA / "read_stream.lua", identified=True)
_DUE = Script(_LUA / "due.lua")
_OVERDUE = Script(_LUA / "overdue.lua")

_KINDS = (b"km", b"ks", b"kv", b"kn", b"kd", b"kr")
_INDEX = b"ki", "due"

SWEPT = 100
"""Channels of a partition, and keys of one, that are looked at at a time."""

AT_ONCE = 64
"""Claims that are looked at at a time."""

log = logging.getLogger(__name__)


class RedisMaps:
    """Keeps maps over a ``Shard``, to be made before that is started; it stays the caller's to close.

    The broker over the same shard hands on what is published here.
    """

    def __init__(self, shard: Shard, clock: Callable[[], float] = time.time) -> None:
        self._shard = shard
        self._keys = shard.keys
        self._clock = clock
        self._reader = envelope.Reader()
        shard.load(_WRITE, _READ_STATE, _READ_STREAM, _DUE, _OVERDUE)

    def _names(self, channel: str) -> list[Argument]:
        return [self._keys.of(kind, channel) for kind in _KINDS]

    def _index(self, channel: str) -> bytes:
        kind, name = _INDEX
        return self._keys.index(kind, channel, name)

    async def publish(
        self, channel: str, publication: Publication, options: MapOptions, write: MapWrite = NO_EXTRAS
    ) -> MapReceipt:
        return await self._write("set", channel, publication, options, write)

    async def remove(self, channel: str, key: str, options: MapOptions, write: MapWrite = NO_EXTRAS) -> MapReceipt:
        return await self._write("remove", channel, removal(key, 0), options, write)

    async def _write(
        self,
        op: str,
        channel: str,
        publication: Publication,
        options: MapOptions,
        write: MapWrite,
        due: bytes = b"",
    ) -> MapReceipt:
        check_write(options, publication.key, write)
        extras = PublishOptions(version=write.version, delta=write.delta or None)
        told = outgoing(publication, options, extras, self._clock())  # the position is for Redis to decide
        names = [*self._names(channel), self._index(channel)]
        if write.idempotency_key:
            names.append(self._keys.result(channel, write.idempotency_key))
        expected: tuple[Argument, Argument] = ("", "")
        if write.expected is not None:
            expected = (write.expected.offset, write.expected.epoch)
        args: list[Argument] = [
            op,
            publication.key,
            pack(told),
            encode(publication.tags) if publication.tags else b"",
            new_epoch(),
            options.history_size if options.streams else 0,
            milliseconds(options.history_ttl),
            _map_ttl(options),
            milliseconds(options.unpublished_ttl),
            milliseconds(options.key_ttl) if options.key_ttl else 0,
            write.version,
            write.version_epoch,
            write.key_mode,
            *expected,
            int(told.patchable),
            int(write.renews),
            milliseconds(write.idempotency_ttl),
            self._keys.of(b"c", channel),
            channel,
            options.key_limit,
            due,
        ]
        reason, offset, epoch, *current = await self._shard.run(_WRITE, names, args)
        if reason == b"full":
            raise too_many_keys()
        found = self._entry(*current[0]) if current and current[0] else None
        return MapReceipt(int(offset), epoch.decode(), reason.decode(), found)

    async def read_state(self, channel: str, options: MapOptions, limit: int, cursor: str = "") -> MapPage:
        return await self._read_state(channel, options, limit, cursor, "")

    async def read_key(self, channel: str, options: MapOptions, key: str) -> MapPage:
        return await self._read_state(channel, options, 1, "", key)

    async def _read_state(self, channel: str, options: MapOptions, limit: int, cursor: str, key: str) -> MapPage:
        args: list[Argument] = [
            limit,
            cursor,
            key,
            new_epoch(),
            int(options.streams),
            _map_ttl(options),
            milliseconds(options.unpublished_ttl),
        ]
        answer = await self._shard.run(_READ_STATE, self._names(channel), args)
        offset, epoch, former, cursor_, *rest = answer
        entries = [self._entry(at, data) for at, data in zip(rest[::2], rest[1::2], strict=True)]
        top = read_top(int(offset), epoch.decode(), former)
        return MapPage([each for each in entries if each is not None], top, cursor_.decode())

    async def read_stream(
        self, channel: str, options: MapOptions, which: HistoryFilter
    ) -> tuple[list[Publication], Position]:
        if not options.streams:
            return [], Position()
        offset, epoch, former, entries = await self._read_stream(channel, options, which)
        changes = [self._change(entry, fields) for entry, fields in entries]
        return [each for each in changes if each is not None], read_top(int(offset), epoch.decode(), former)

    def _read_stream(self, channel: str, options: MapOptions, which: HistoryFilter, hold: float = 0.0) -> Any:
        since: Argument = "" if which.since is None else which.since.offset
        args: list[Argument] = [
            which.limit,
            since,
            int(which.reverse),
            new_epoch(),
            _map_ttl(options),
            milliseconds(max(options.unpublished_ttl, 2 * hold)),
        ]
        return self._shard.run(_READ_STREAM, self._names(channel), args)

    async def verify(self, claims: Sequence[Claim]) -> list[bool]:
        verdicts: list[bool] = []
        for some in batches(claims, AT_ONCE):
            verdicts += await asyncio.gather(*map(self._is_top, some))
        return verdicts

    async def _is_top(self, claim: Claim) -> bool:
        assert isinstance(claim.stream, MapOptions)
        try:
            offset, epoch, *_ = await self._read_stream(claim.channel, claim.stream, HistoryFilter(), claim.hold)
        except BrokerUnavailable:
            return True  # nobody knows
        return claim.position.epoch in ("", epoch.decode()) and claim.position.offset == int(offset)

    async def count(self, channel: str) -> int:
        found: int = await self._shard.execute("ZCARD", self._keys.of(b"kn", channel))
        return found

    async def clear(self, channel: str) -> None:
        await self._shard.execute("DEL", *self._names(channel))
        await self._shard.execute("ZREM", self._index(channel), channel)

    async def sweep(self, options_of: OptionsOf) -> None:
        kind, name = _INDEX
        indexes = self._keys.indexes(kind, name)
        found = await asyncio.gather(*(self._shard.run(_DUE, [index], [SWEPT]) for index in indexes))
        for channels in found:
            for channel in channels:
                await self._sweep(channel.decode(), options_of)

    async def _sweep(self, channel: str, options_of: OptionsOf) -> None:
        """The overdue keys of one map, and then its place in the index."""
        options = options_of(channel)
        if options is None:
            return  # a node that knows it will see to it
        names: list[Argument] = [self._keys.of(b"kd", channel), self._index(channel)]
        while found := await self._shard.run(_OVERDUE, names, [channel, SWEPT]):
            for key, due in zip(found[::2], found[1::2], strict=True):
                await self._write("expire", channel, removal(key.decode(), 0), options, NO_EXTRAS, due)

    def _entry(self, offset: bytes, data: bytes) -> Publication | None:
        return self._reader.kept(data, int(offset))

    def _change(self, entry: bytes, fields: Sequence[bytes]) -> Publication | None:
        found = self._reader.kept(fields[1], int(entry.partition(b"-")[0]))
        return envelope.tagged(found, fields[3]) if found is not None and len(fields) > 3 else found


def _map_ttl(options: MapOptions) -> int:
    """How long the parts of a map last after its last use (ms); 0 is for ever.

    An ephemeral one is gone with its last key: should that not be removed in time, by itself.
    """
    if not options.streams:
        return milliseconds(2 * options.key_ttl + 60)
    return 0 if options.history_meta_ttl == FOR_EVER else milliseconds(options.history_meta_ttl)
