"""Watches that no subscriber has silently fallen behind its channel's stream."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Protocol

from gateway.brokers.base import StreamOptions
from gateway.core.audience import LocalChannel
from gateway.core.hub import Hub
from gateway.errors import BrokerUnavailable
from gateway.messages import Position

log = logging.getLogger(__name__)

IN_FLIGHT = 0.5
"""Seconds that a publication may be on its way before its absence is a loss."""
MAKING = 5.0
"""Seconds that making a subscription takes at most, while the broker answers."""
SPREAD = 2.0
"""Seconds over which many losses are spread, against a storm of resubscriptions."""
BATCH = 256
"""Channels looked at together, in one write to the broker."""


class Streams(Protocol):
    """The part of a broker that the watch uses."""

    async def verify(self, channel: str, position: Position, stream: StreamOptions) -> bool: ...


class PositionWatch:
    """Compares where subscribers stand with where the broker's streams end.

    Each channel that has been quiet for ``delay`` seconds is checked once for all its subscribers on this node;
    all channels are, when the broker connection has been away.
    """

    def __init__(
        self,
        hub: Hub,
        streams: Streams,
        options: Callable[[str], StreamOptions],
        *,
        delay: float,
        clock: Callable[[], float],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._hub = hub
        self._streams = streams
        self._options = options
        self._delay = delay
        self._clock = clock
        self._pause = pause
        self._gap: asyncio.Task[None] | None = None
        self._rounds: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._rounds = asyncio.create_task(self._run())

    async def stop(self) -> None:
        tasks = [task for task in (self._rounds, self._gap) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def check_all(self) -> None:
        """The broker connection was away: look at every channel, now."""
        if self._gap is not None:
            self._gap.cancel()
        self._gap = asyncio.create_task(self._logged(self._check_after_gap()))

    async def _check_after_gap(self) -> None:
        channels = list(self._hub.channels.values())
        # a subscriber in the making may have read its position before the gap, and come in after this check
        making = [channel for channel in channels if channel.joining]
        await self._check(channels)
        if making:
            await self._pause(MAKING)
            await self._check(making)

    async def _run(self) -> None:
        while True:
            await self._pause(self._delay / 4)
            quiet = self._clock() - self._delay
            await self._logged(
                self._check([channel for channel in self._hub.channels.values() if channel.seen_at < quiet])
            )

    async def _logged(self, check: Coroutine[Any, Any, None]) -> None:
        try:
            await check
        except Exception:  # a watch that dies leaves everybody unwatched
            log.exception("a check of positions failed")

    async def _check(self, channels: list[LocalChannel]) -> None:
        for channel in channels:
            channel.seen_at = self._clock()
        watched = [(channel, position) for channel in channels for position in channel.positions()]
        suspects = [each async for each in self._mismatched(watched)]
        if not suspects:
            return
        await self._pause(IN_FLIGHT)
        done = 0
        async for channel, position in self._mismatched(suspects):
            self._lose(channel, position)
            done += 1
            if done % BATCH == 0:
                await self._pause(min(1.0, SPREAD * BATCH / len(suspects)))

    async def _mismatched(
        self, watched: list[tuple[LocalChannel, Position]]
    ) -> AsyncIterator[tuple[LocalChannel, Position]]:
        for start in range(0, len(watched), BATCH):
            batch = watched[start : start + BATCH]
            holds = await asyncio.gather(*(self._holds(*each) for each in batch))
            for each, good in zip(batch, holds, strict=True):
                if not good:
                    yield each

    async def _holds(self, channel: LocalChannel, position: Position) -> bool:
        """Whether nobody stands at ``position`` any more, or it is where the stream ends, or nobody knows."""
        if position not in channel.positions():
            return True
        try:
            return await self._streams.verify(channel.name, position, self._options(channel.name))
        except BrokerUnavailable:
            return True  # the return of the broker starts another check

    def _lose(self, channel: LocalChannel, position: Position) -> None:
        lost = [key for key in channel.audiences if key.positioned and (key.behind or channel.position) == position]
        if lost:
            log.info("%s: subscribers at offset %d have missed something", channel.name, position.offset)
            self._hub.lose(channel, lost)
