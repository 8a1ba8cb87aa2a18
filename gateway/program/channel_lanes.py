"""Events of channels, told one after another for each channel."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from gateway.core.tasks import Spawn

log = logging.getLogger(__name__)

_Event = TypeVar("_Event")


class ChannelLanes(Generic[_Event]):
    """Calls ``call`` with channel and event; a channel's next event waits until that has returned.

    Of those that wait only the newest counts: what has changed and changed back meanwhile is no news.
    """

    def __init__(self, call: Callable[[str, _Event], Awaitable[None]], spawn: Spawn) -> None:
        self._call = call
        self._spawn = spawn
        self._newest: dict[str, _Event] = {}  # of the channels of which something is being told
        self._idle: dict[str, asyncio.Future[None]] = {}

    def tell(self, channel: str, event: _Event) -> None:
        busy = channel in self._newest
        self._newest[channel] = event
        if not busy:
            self._spawn(self._run(channel, event))

    async def idle(self, channel: str) -> None:
        """Wait until nothing of a channel is being told. At most one waits for a channel."""
        if channel in self._newest:
            self._idle[channel] = asyncio.get_running_loop().create_future()
            await self._idle[channel]

    async def _run(self, channel: str, event: _Event) -> None:
        try:
            while True:
                try:
                    await self._call(channel, event)
                except Exception:  # the events after it are to be told all the same
                    log.exception("telling of an event of %s failed", channel)
                if self._newest[channel] == event:
                    return
                event = self._newest[channel]
        finally:
            del self._newest[channel]
            if (waiting := self._idle.pop(channel, None)) is not None and not waiting.done():
                waiting.set_result(None)
