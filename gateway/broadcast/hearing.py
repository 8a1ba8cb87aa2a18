"""Hearing oneself: what this node has sent comes back to it, in the order in which it was sent."""

import asyncio
import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from gateway.broadcast.outbox import settle

PATIENCE = 1.0
"""Seconds that somebody waits for an echo: far longer than one takes, and bearable where none comes."""

logger = logging.getLogger(__name__)


class Hearing:
    """Numbers of batches: ``sent`` is the last that was made, ``heard`` the last that has come back."""

    def __init__(self) -> None:
        self.sent = 0
        self.heard = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._silent = False

    def next(self) -> int:
        """The number of another batch."""
        self.sent += 1
        return self.sent

    def came(self, number: int) -> None:
        """A batch has come back."""
        self.heard = max(self.heard, number)
        self._silent = False
        while self._waiting and self._waiting[0][0] <= number:
            settle(self._waiting.popleft()[1])

    def give_up(self) -> None:
        """What has not come back will not."""
        self.came(self.sent)

    async def echo(self) -> None:
        """Return when what has been sent before has come back. Never fails, and does not wait for long."""
        if not self._silent and not await self.until(self.sent, PATIENCE):
            self._silent = True
            logger.warning("nothing published here has come back for %g s; nobody waits for it", PATIENCE)

    async def until(self, number: int, timeout: float) -> bool:  # noqa: ASYNC109  it answers, and raises nothing
        """Whether the batch of this number, or a later one, comes back in time. So it does if nothing will."""
        if self.heard >= number:
            return True
        with self._wait_for(number) as heard:
            await asyncio.wait([heard], timeout=timeout)
            return heard.done()

    @contextmanager
    def _wait_for(self, number: int) -> "Iterator[asyncio.Future[None]]":
        heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((number, heard))
        try:
            yield heard
        finally:
            with suppress(ValueError):
                self._waiting.remove((number, heard))
