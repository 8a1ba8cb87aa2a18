"""The block list of many nodes, in PostgreSQL and by its clock.

Whoever changes it tells all nodes in the same transaction. A node reads all of it when it starts, and again whenever it
may have missed something; nobody asks PostgreSQL for each client that connects.
"""

import asyncio
import logging
import time
from pathlib import Path

from gateway.blocks.base import FOR_EVER, MOST, BlockEvents, list_full
from gateway.errors import BrokerUnavailable
from gateway.postgres.database import Database, seconds, within
from gateway.postgres.failures import text
from gateway.postgres.statements import Script
from gateway.recurring import Recurring
from gateway.skipped import UNREADABLE, Skipped

_SCRIPT = Script(Path(__file__).parent / "sql" / "blocks.sql")
_NEWS = "nblocks"

RETRY = 1.0
"""Seconds until a node that could not read the list tries again."""

log = logging.getLogger(__name__)


class PostgresBlocks:
    """Keeps the list over a ``Database``, to be made before that is started; it stays the caller's to close."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.install(_SCRIPT)
        self._skipped = Skipped("block")
        self._events: BlockEvents | None = None
        self._stale = asyncio.Event()
        self._telling = Recurring(log, time.monotonic)
        self._news: dict[str, float] | None = None
        """What is told while the list is being read: it is newer than that."""
        self._task: asyncio.Task[None] | None = None

    async def start(self, events: BlockEvents) -> None:
        self._events = events
        self._database.on_reconnect.append(self.reload)
        self._database.listen(_NEWS, self._hear)
        await self._try_to_read(events)
        self._task = asyncio.create_task(self._keep_up(events))

    async def close(self) -> None:
        if self._task is not None:
            self._database.on_reconnect.remove(self.reload)
            self._database.forget(_NEWS)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def reload(self) -> None:
        self._stale.set()

    async def block(self, user: str, seconds_: float) -> None:
        lasts = None if seconds_ == FOR_EVER else seconds(seconds_)
        [(done,)] = await within(self._database.fetch("SELECT gateway_block($1, $2, $3)", text(user), lasts, MOST))
        if not done:
            raise list_full()

    async def unblock(self, user: str) -> None:
        await within(self._database.fetch("SELECT gateway_unblock($1)", text(user)))

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
            text = "the block list cannot be read until PostgreSQL answers; who was blocked lately may come in here"
            self._telling.happened("blocks", text)
        except Exception:  # whoever keeps up must not stop
            log.exception("the block list could not be read")
        else:
            self._telling.over("blocks", "the block list has been read: PostgreSQL answers")
            return True
        finally:
            self._news = None
        self._stale.set()
        return False

    async def _read(self, events: BlockEvents) -> None:
        """Tell of the whole list. Nothing is missed behind it: changes are heard before it is read."""
        if not self._database.connected:
            raise BrokerUnavailable
        self._news = {}
        statement = (
            "SELECT user_id, CASE WHEN until < 'infinity'"
            " THEN extract(epoch FROM until - clock_timestamp())::float8 END FROM gateway_blocks"
        )
        rows = await within(self._database.fetch(statement))
        users = {user: FOR_EVER if left is None else left for user, left in rows} | self._news
        events.on_list({user: left for user, left in users.items() if left > 0})

    def _hear(self, news: bytes) -> None:
        lasts, _, name = news.partition(b":")
        try:
            user, left = name.decode(), float(lasts) if lasts else FOR_EVER
        except UNREADABLE as error:
            self._skipped.add(error)
            self.reload()  # the list tells what has changed
            return
        if self._news is not None:
            self._news[user] = left
        assert self._events is not None, "start() comes first"
        if left:
            self._events.on_block(user, left)
        else:
            self._events.on_unblock(user)
