"""A backend of `broadcaster` that does as it is told."""

import asyncio
from typing import Any

from broadcaster import BroadcastBackend, Event


class FakeBackend(BroadcastBackend):
    """Serves one line. ``deaf``: it publishes, and nothing arrives. ``stuck``: publishing never returns."""

    def __init__(self) -> None:
        self.deaf = self.stuck = False
        self.publishing: BaseException | None = None
        self.disconnecting: BaseException | None = None
        self.connecting: BaseException | None = None
        self.connects = 0
        self.published = self.longest = 0
        self._queue: asyncio.Queue[Event | BaseException] = asyncio.Queue()

    async def connect(self) -> None:
        self.connects += 1
        if self.connecting is not None:
            raise self.connecting
        self._queue = asyncio.Queue()

    async def disconnect(self) -> None:
        if self.disconnecting is not None:
            raise self.disconnecting

    async def subscribe(self, group: str) -> None:
        pass

    async def unsubscribe(self, group: str) -> None:
        pass

    async def publish(self, channel: str, message: Any) -> None:
        await asyncio.sleep(0)
        if self.publishing is not None:
            raise self.publishing
        if self.stuck:
            await asyncio.Event().wait()
        self.published += 1
        self.longest = max(self.longest, len(message))
        if not self.deaf:
            self._queue.put_nowait(Event(channel, message))

    async def next_published(self) -> Event:
        found = await self._queue.get()
        if isinstance(found, BaseException):
            raise found
        return found

    def fail_listening(self, error: BaseException) -> None:
        self._queue.put_nowait(error)
