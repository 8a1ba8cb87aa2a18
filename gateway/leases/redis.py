"""Leases of many nodes, in Redis.

The key ``l`` of a channel holds the fence of whoever has its lease, and expires with it. It lies beside the
channel's stream, so that a publish can compare the two as one act. The key ``n`` is the number given last.
"""

from pathlib import Path

from gateway.leases.base import KEEP, TTL, Lease, Released, Taken
from gateway.redis.resp import milliseconds
from gateway.redis.script import Script
from gateway.redis.shard import Shard
from gateway.skipped import UNREADABLE, Skipped

_LUA = Path(__file__).parent / "lua"
_ACQUIRE = Script(_LUA / "acquire.lua")
_RENEW = Script(_LUA / "renew.lua")
_RELEASE = Script(_LUA / "release.lua")
_FINISH = Script(_LUA / "finish.lua")


class RedisLeases:
    """Keeps leases over a ``Shard``, which is the caller's to start and to close."""

    def __init__(self, shard: Shard, ttl: float = TTL) -> None:
        self.ttl = ttl
        self.on_release: list[Released] = []
        self._shard = shard
        self._keys = shard.keys
        self._news = shard.keys.shared("released")
        self._skipped = Skipped("lease")
        shard.load(_ACQUIRE, _RENEW, _RELEASE, _FINISH)

    async def start(self) -> None:
        await self._shard.listen(self._news, self._heard)

    async def close(self) -> None:
        await self._shard.unsubscribe(self._news)

    async def acquire(self, name: str, owner: str, anew: bool = False) -> Lease | Taken:
        keys = [self._keys.of(b"l", name), self._keys.of(b"n", name)]
        answer = await self._shard.run(_ACQUIRE, keys, [owner, milliseconds(self.ttl), milliseconds(KEEP), int(anew)])
        return Taken(max(0, answer) / 1000) if isinstance(answer, int) else Lease(name, int(answer), owner)

    async def renew(self, lease: Lease) -> bool:
        return bool(await self._shard.run(_RENEW, [self._key(lease)], [lease.fence, milliseconds(self.ttl)]))

    async def release(self, lease: Lease) -> None:
        if await self._shard.run(_RELEASE, [self._key(lease)], [lease.fence]):
            await self._shard.publish(self._news, lease.name)

    async def finish(self, lease: Lease) -> None:
        await self._shard.run(_FINISH, [self._key(lease)], [lease.fence, milliseconds(KEEP)])

    def _key(self, lease: Lease) -> bytes:
        return self._keys.of(b"l", lease.name)

    def _heard(self, name: bytes) -> None:
        try:
            channel = name.decode()
        except UNREADABLE as error:
            self._skipped.add(error)
            return
        for released in self.on_release:
            released(channel)
