"""Work that nobody waits for."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)


class Tasks:
    """Keeps tasks until they are done, and logs those that fail."""

    def __init__(self) -> None:
        self.running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.running.add(task)  # the event loop itself keeps no strong reference
        task.add_done_callback(self._done)

    async def finish(self, within: float) -> None:
        """Wait for what runs, ``within`` seconds at most; the rest is cancelled."""
        if self.running:
            _, stuck = await asyncio.wait(self.running, timeout=within)
            for task in stuck:
                task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background work failed", exc_info=error)
