"""Work of a client that nothing else of it waits for: publishes, until the broker has accepted them.

They are handed to the broker in the order in which they came, and the client's next command need not wait for
the answer. So publishes of one moment leave in one write to the broker, whoever sent them.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Coroutine
from typing import Any

from gateway.core.tasks import begin

UNDER_WAY = 64
"""Publishes of one client that the broker has not answered yet; beyond that its next command waits."""

log = logging.getLogger(__name__)


class Pipeline:
    """Knows how many are under way. What has to be waited for it waits for in order, by one task while there is any."""

    __slots__ = ("_count", "_room", "_task", "_waiting")

    def __init__(self) -> None:
        self._count = 0
        self._waiting: deque[Awaitable[None]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._room: asyncio.Event | None = None
        """What those wait for that found too much under way: several, since lanes add side by side."""

    async def add(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin the work, which sees to its own failures. Returns at once, unless too much is under way."""
        rest = begin(work)
        if rest is None:
            return
        self._waiting.append(rest)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._finish())
        if self.begun():
            await self.room()

    def begun(self) -> bool:
        """One more is under way, of which ``ended`` is to tell. Answers whether that is too much: see ``room``."""
        self._count += 1
        return self._count >= UNDER_WAY

    def ended(self) -> None:
        self._count -= 1
        if self._room is not None and self._count <= UNDER_WAY // 2:
            self._room.set()
            self._room = None

    async def room(self) -> None:
        """Wait until there is room for more."""
        if self._room is None:
            self._room = asyncio.Event()
        await self._room.wait()

    async def _finish(self) -> None:
        waiting = self._waiting
        while waiting:
            try:
                await waiting[0]
            except Exception:
                log.exception("work of a client failed")
            waiting.popleft()
            self.ended()
        self._task = None
