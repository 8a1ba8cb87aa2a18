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
    """Waits for the answers in their order, by one task while there are any."""

    __slots__ = ("_room", "_task", "_waiting")

    def __init__(self) -> None:
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
        if len(self._waiting) >= UNDER_WAY:
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
            if self._room is not None and len(waiting) <= UNDER_WAY // 2:
                self._room.set()
                self._room = None
        self._task = None
