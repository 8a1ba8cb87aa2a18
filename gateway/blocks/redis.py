"""The block list of many nodes, in Redis: a sorted set of users by when their blocks end, by its clock.

Whoever changes it tells all nodes in the same script. A node reads all of it when it starts, and again whenever it may
have missed something; nobody asks Redis for each client that connects.
"""

import asyncio
import logging
import time
from pathlib import Path

from gateway.blocks.base import FOR_EVER, MOST, BlockEvents, list_full
from gateway.brokers.calls import Call
from gateway.errors import BrokerUnavailable
from gateway.recurring import Recurring
from gateway.redis.keys import Keys
from gateway.redis.resp import milliseconds
from gateway.redis.script import Script
from gateway.redis.shard import ServerNames, Shard
from gateway.skipped import UNREADABLE, Skipped

_LUA = Path(__file__).parent / "lua"
_BLOCK = Script(_LUA / "block.lua")
_UNBLOCK = Script(_LUA / "unblock.lua")
_NOW = Script(_LUA / "now.lua")

PAGE = 1000
"""Users read at a time: more would hold up everybody else."""

RETRY = 1.0
"""Seconds until a node that could not read the list tries again."""

log = logging.getLogger(__name__)


def block_call(keys: Keys, user: str, seconds: float) -> Call:
    """What `check_blocked` reads the answer of."""
    name = keys.shared("blocks")
    return Call(_BLOCK, [name], [user, "" if seconds == FOR_EVER else milliseconds(seconds), MOST, name])


def unblock_call(keys: Keys, user: str) -> Call:
    name = keys.shared("blocks")
    return Call(_UNBLOCK, [name], [user, name])


def check_blocked(answer: int) -> None:
    """Raises the error of a list that is full."""
    if not answer:
        raise list_full()


class RedisBlocks:
    """Keeps the list over a ``Shard``, to be made before that is started; it stays the caller's to close."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._name = shard.keys.shared("blocks")
        self._events: BlockEvents | None = None
        self._stale = asyncio.Event()
        self._telling = Recurring(log, time.monotonic)
        self._servers = ServerNames(shard)
        self._news: dict[str, float] | None = None
        """What is told while the list is being read: it is newer than that."""
        self._task: asyncio.Task[None] | None = None
        self._skipped = Skipped("block")
        shard.load(_BLOCK, _UNBLOCK, _NOW)

    async def start(self, events: BlockEvents) -> None:
        self._events = events
        self._shard.on_reconnect.append(self.reload)
        await self._try_to_read(events)
        self._task = asyncio.create_task(self._keep_up(events))

    async def close(self) -> None:
        if self._task is not None:
            self._shard.on_reconnect.remove(self.reload)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            await self._shard.unsubscribe(self._name)

    def reload(self) -> None:
        self._stale.set()

    async def block(self, user: str, seconds: float) -> None:
        check_blocked(await self._run(block_call(self._shard.keys, user, seconds)))

    async def unblock(self, user: str) -> None:
        await self._run(unblock_call(self._shard.keys, user))

    async def _run(self, call: Call) -> int:
        assert call.script is not None
        answer: int = await self._shard.run(call.script, call.keys, call.args)
        return answer

    # — the node's copy —

    async def _keep_up(self, events: BlockEvents) -> None:
        while True:
            await self._stale.wait()
            self._stale.clear()
            if not await self._try_to_read(events):
                await asyncio.sleep(RETRY)

    async def _try_to_read(self, events: BlockEvents) -> bool:
        try:
            await self._read(events)
        except BrokerUnavailable:
            text = "the block list cannot be read until Redis %s answers; who was blocked lately may come in here"
            self._telling.happened("blocks", text, self._servers)
        except Exception:  # whoever keeps up must not stop
            log.exception("the block list could not be read")
        else:
            self._telling.over("blocks", "the block list has been read: Redis %s answers", self._servers)
            return True
        finally:
            self._news = None
        self._stale.set()
        return False

    async def _read(self, events: BlockEvents) -> None:
        """Tell of the whole list. Nothing is missed behind it: changes are heard before it is read."""
        await self._shard.subscribe(self._name, self._hear)
        self._news = {}
        seconds, microseconds = await self._shard.run(_NOW, [self._name], [])
        now = int(seconds) + int(microseconds) / 1e6
        users: dict[str, float] = {}
        cursor: bytes | int = 0
        while True:
            cursor, found = await self._shard.execute("ZSCAN", self._name, cursor, "COUNT", PAGE)
            users |= {
                user.decode(): float(until) / 1000 - now for user, until in zip(found[::2], found[1::2], strict=True)
            }
            if int(cursor) == 0:
                break
        users |= self._news
        events.on_list({user: left for user, left in users.items() if left > 0})

    def _hear(self, news: bytes) -> None:
        lasts, _, name = news.partition(b":")
        try:
            user, seconds = name.decode(), int(lasts) / 1000 if lasts else FOR_EVER
        except UNREADABLE as error:
            self._skipped.add(error)
            self.reload()  # the list tells what has changed
            return
        if self._news is not None:
            self._news[user] = seconds
        assert self._events is not None, "start() comes first"
        if seconds:
            self._events.on_block(user, seconds)
        else:
            self._events.on_unblock(user)
