"""What is asked in one tick leaves together, and what is asked while that is under way makes the next statement."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from gateway.errors import BrokerUnavailable, another
from gateway.postgres.failures import BUSY

WAIT = 4.5
"""Seconds after which somebody who asks is told that PostgreSQL does not answer."""

MOST_WAITING = 32 * 1024 * 1024
"""Bytes that wait to be sent; beyond, who asks is refused at once."""

HURRY, PATIENCE = "100ms", "3s"
"""How long a statement for many waits for a row that somebody holds, and one that concerns that row alone."""

logger = logging.getLogger(__name__)

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


class _Entry(Generic[_Item, _Answer]):
    __slots__ = ("answer", "item", "since", "size")

    def __init__(self, item: _Item, size: int, loop: asyncio.AbstractEventLoop) -> None:
        self.item = item
        self.size = size
        self.since = loop.time()
        self.answer: asyncio.Future[_Answer] = loop.create_future()


class Batch(Generic[_Item, _Answer]):
    """Puts together what is asked, one statement at a time, in the order in which it was asked.

    ``send`` answers all items, or raises ``BrokerUnavailable``; with a lock that somebody holds, ``BUSY``. Then each of
    the ``keys`` goes aside, to wait by itself, so that who holds one row of many stops nobody else.
    """

    def __init__(
        self,
        send: Callable[[list[_Item], str], Awaitable[Sequence[_Answer]]],
        most: int,
        *,
        key: Callable[[_Item], Any] | None = None,
        size: Callable[[_Item], int] = lambda _item: 256,
    ) -> None:
        self._send = send
        self._most = most
        self._key = key
        self._size = size
        self._waiting: deque[_Entry[_Item, _Answer]] = deque()
        self._bytes = 0
        self._task: asyncio.Task[None] | None = None
        self._aside: dict[Any, Batch[_Item, _Answer]] = {}
        self._idle: Callable[[], Any] = lambda: None

    def ask(self, item: _Item) -> "asyncio.Future[_Answer]":
        """The answer, or ``BrokerUnavailable`` in time."""
        entry: _Entry[_Item, _Answer] = _Entry(item, self._size(item), asyncio.get_running_loop())
        (self._beside(item) or self)._put(entry)
        return entry.answer

    def _beside(self, item: _Item) -> "Batch[_Item, _Answer] | None":
        """Where those of its key wait, if they do."""
        return self._aside.get(self._key(item)) if self._key is not None and self._aside else None

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = [each._task for each in (self, *self._aside.values()) if each._task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _put(self, entry: _Entry[_Item, _Answer]) -> None:
        if self._bytes + entry.size > MOST_WAITING:
            entry.answer.set_exception(BrokerUnavailable(stored="no"))
            return
        self._bytes += entry.size
        self._waiting.append(entry)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(0)  # for others to join
                entries = self._take()
                if entries:
                    await self._carry(entries)
        finally:
            self._task = None
            self._fail(list(self._waiting), BrokerUnavailable(stored="no"))
            self._waiting.clear()
            self._bytes = 0
            self._idle()

    def _take(self) -> list[_Entry[_Item, _Answer]]:
        """Those to send next; who has left is left out, and nobody overtakes those of his key that wait aside."""
        entries: list[_Entry[_Item, _Answer]] = []
        while self._waiting and len(entries) < self._most:
            entry = self._waiting.popleft()
            self._bytes -= entry.size
            if entry.answer.done():
                continue
            if aside := self._beside(entry.item):
                aside._put(entry)
            else:
                entries.append(entry)
        return entries

    async def _carry(self, entries: list[_Entry[_Item, _Answer]]) -> None:
        try:
            async with asyncio.timeout_at(entries[0].since + WAIT):
                answers = await self._send([entry.item for entry in entries], HURRY if self._key else PATIENCE)
        except BUSY:
            self._set_aside(entries)
        except TimeoutError:
            self._fail(entries, BrokerUnavailable(stored="maybe"))
        except Exception as error:
            if not isinstance(error, BrokerUnavailable):
                logger.exception("PostgreSQL: a statement failed")
            self._fail(entries, error)
        except BaseException:
            self._fail(entries, BrokerUnavailable(stored="maybe"))
            raise
        else:
            for entry, answer in zip(entries, answers, strict=True):
                if not entry.answer.done():
                    entry.answer.set_result(answer)

    def _set_aside(self, entries: list[_Entry[_Item, _Answer]]) -> None:
        if self._key is None:
            self._fail(entries, BrokerUnavailable(stored="no"))
            return
        for entry in entries:
            key = self._key(entry.item)
            aside = self._aside.get(key)
            if aside is None:
                aside = self._aside[key] = Batch(self._send, self._most, size=self._size)
                aside._idle = partial(self._aside.pop, key)
            aside._put(entry)

    def _fail(self, entries: Sequence[_Entry[_Item, _Answer]], error: Exception) -> None:
        for entry in entries:
            if not entry.answer.done():
                entry.answer.set_exception(another(error))
                entry.answer.exception()  # whoever asked may have left
