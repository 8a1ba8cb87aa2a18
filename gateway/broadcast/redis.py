"""Redis as `broadcaster` drives it, but heard."""

import asyncio
from typing import Any

from broadcaster._backends.redis import RedisBackend
from broadcaster._base import Event


class Redis(RedisBackend):
    """`broadcaster` begins to listen before it has subscribed, finds that there is nothing to hear, and ends."""

    async def connect(self) -> None:
        await super().connect()
        assert self._listener is not None, "it has just been made"
        self._listener.add_done_callback(self._ended)

    async def subscribe(self, channel: str) -> None:
        await self._pubsub.subscribe(channel)
        self._ready.set()

    async def next_published(self) -> Event:
        """The next event. Raises ``ConnectionError`` once nothing is listened to: `broadcaster` would wait for ever."""
        event: Event | None = await super().next_published()
        if event is None:
            raise ConnectionError("Redis is heard no more")
        return event

    def _ended(self, listener: "asyncio.Task[None]") -> None:
        if not listener.cancelled():
            listener.exception()  # taken note of
        queue: asyncio.Queue[Any] = self._queue
        queue.put_nowait(None)
