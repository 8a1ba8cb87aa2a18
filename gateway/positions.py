"""Watches that no subscriber has silently fallen behind its channel's stream."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.brokers.base import StreamOptions
from gateway.errors import BrokerUnavailable
from gateway.hub import Hub, LocalChannel
from gateway.messages import Position

log = logging.getLogger(__name__)

IN_FLIGHT = 0.5
"""Seconds that a publication may be on its way before its absence is a loss."""
SPREAD = 2.0
"""Seconds over which the checks after a broker's return are spread, against a storm of resubscriptions."""
CONCURRENCY = 64
"""Checks under way at once."""


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
        self._slots = asyncio.Semaphore(CONCURRENCY)
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
        """The broker connection was away: look at every channel, soon."""
        if self._gap is not None:
            self._gap.cancel()
        self._gap = asyncio.create_task(self._check(list(self._hub.channels.values()), spread=SPREAD))

    async def _run(self) -> None:
        while True:
            await self._pause(self._delay / 4)
            quiet = self._clock() - self._delay
            await self._check([channel for channel in self._hub.channels.values() if channel.seen_at < quiet])

    async def _check(self, channels: list[LocalChannel], spread: float = 0.0) -> None:
        watched = [(channel, position) for channel in channels for position in channel.positions()]
        await asyncio.gather(*(self._check_one(channel, position, spread) for channel, position in watched))

    async def _check_one(self, channel: LocalChannel, position: Position, spread: float) -> None:
        if spread:
            await self._pause(random.uniform(0, spread))  # noqa: S311  only to spread load
        async with self._slots:
            channel.seen_at = self._clock()
            if await self._holds(channel, position):
                return
            await self._pause(IN_FLIGHT)
            if await self._holds(channel, position):
                return
        lost = [key for key in channel.audiences if key.positioned and (key.behind or channel.position) == position]
        if lost:
            log.info("%s: subscribers at offset %d have missed something", channel.name, position.offset)
            self._hub.lose(channel, lost)

    async def _holds(self, channel: LocalChannel, position: Position) -> bool:
        """Whether nobody stands at ``position`` any more, or it is where the stream ends, or nobody knows."""
        if position not in channel.positions():
            return True
        try:
            return await self._streams.verify(channel.name, position, self._options(channel.name))
        except BrokerUnavailable:
            return True  # the return of the broker starts another check
