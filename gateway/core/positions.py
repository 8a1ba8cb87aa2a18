"""Watches that no subscriber has silently fallen behind its channel's stream."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

from gateway.batches import batches
from gateway.brokers.base import Claim, StreamOptions
from gateway.core.audience import LocalChannel
from gateway.core.hub import Hub
from gateway.errors import BrokerUnavailable
from gateway.messages import Position

log = logging.getLogger(__name__)

IN_FLIGHT = 0.5
"""Seconds that a publication may be on its way before its absence is a loss."""
JOINING = 5.0
"""Seconds between two looks at subscriptions that were being made when the broker was away."""
LONGEST = 1200.0
"""Seconds after which a channel is looked at again, however long it has been quiet."""
SELDOM = 8
"""Rounds between two in which channels long quiet are looked at: so that there are many of each partition at a time."""
BATCH = 4096
"""Positions asked for together: many, since the broker batches them by partition."""
STRIDE = 256
"""Channels gone through before the rest of the node has its turn."""

_Item = TypeVar("_Item")
Watched = tuple[LocalChannel, Position]


class Streams(Protocol):
    """The part of a broker that the watch uses."""

    async def verify(self, claims: Sequence[Claim]) -> list[bool]: ...


class PositionWatch:
    """Compares where subscribers stand with where the broker's streams end.

    Each channel that has been quiet for ``delay`` seconds is checked once for all its subscribers on this node, and
    from then on after twice as long each time, until something is published; all channels are, when the broker
    connection has been away.
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
        self._gap = asyncio.create_task(self._logged(self._check_after_gap))

    async def _check_after_gap(self) -> None:
        channels = list(self._hub.channels.values())
        # a subscriber in the making may have read its position before the gap, and come in after this check
        joining = {channel: frozenset(channel.joining) for channel in channels if channel.joining}
        await self._check(channels)
        while joining:
            await self._pause(JOINING)
            still = {channel: those for channel, those in joining.items() if those & channel.joining}
            await self._check(list(joining))
            joining = still

    async def _run(self) -> None:
        rounds = 0
        while True:
            await self._pause(self._delay / 4)
            rounds += 1
            await self._logged(partial(self._check_due, seldom=rounds % SELDOM == 0))

    async def _check_due(self, *, seldom: bool) -> None:
        now = self._clock()
        channels = _unhurried(list(self._hub.channels.values()))
        await self._check([channel async for channel in channels if self._due(channel, now, seldom)])

    def _due(self, channel: LocalChannel, now: float, seldom: bool) -> bool:
        if channel.seen_at > channel.checked_at:
            return abs(now - channel.seen_at) > self._delay  # absolutely, since the clock may be set back
        return (seldom or channel.interval <= self._delay) and abs(now - channel.checked_at) > channel.interval

    async def _logged(self, check: Callable[[], Awaitable[None]]) -> None:
        try:
            await check()
        except Exception:  # a watch that dies leaves everybody unwatched
            log.exception("a check of positions failed")

    async def _check(self, channels: Sequence[LocalChannel]) -> None:
        watched: list[Watched] = []
        async for channel in _unhurried(channels):
            self._checked(channel)
            watched += [(channel, position) for position in channel.positions()]
        suspects = [each async for each in self._mismatched(watched)]
        if suspects:
            await self._pause(IN_FLIGHT)
            async for channel, position in self._mismatched(suspects):
                self._lose(channel, position)

    def _checked(self, channel: LocalChannel) -> None:
        """Note the look at a channel, and when the next is due: ever later without news, and not for all at once."""
        quiet = channel.interval and channel.seen_at <= channel.checked_at
        later = min(2 * channel.interval, LONGEST) * random.uniform(0.8, 1.0) if quiet else 0.0  # noqa: S311
        channel.interval = max(self._delay, later)
        channel.checked_at = self._clock()

    async def _mismatched(self, watched: Sequence[Watched]) -> AsyncIterator[Watched]:
        """Those who do not stand where their stream ends. What fails harms nobody but those it concerns."""
        for some in batches(watched, BATCH):
            claims: list[Claim] = []
            asked: list[Watched] = []
            async for channel, position in _unhurried(some):
                if position in channel.positions():  # somebody stands there still
                    try:
                        claims.append(self._claim(channel, position))
                        asked.append((channel, position))
                    except Exception:
                        log.exception("%s: its position cannot be checked", channel.name)
            for each, good in zip(asked, await self._verify(claims), strict=True):
                if not good:
                    yield each

    async def _verify(self, claims: list[Claim]) -> list[bool]:
        try:
            if claims:
                return await self._streams.verify(claims)
        except BrokerUnavailable:
            log.debug("positions are checked when the broker has come back")
        except Exception:
            log.exception("a check of positions failed")
        return [True] * len(claims)

    def _claim(self, channel: LocalChannel, position: Position) -> Claim:
        stream = self._options(channel.name)
        # what the epoch lasts must do until the next look, and leave time for an outage
        channel.interval = max(self._delay, min(channel.interval, stream.history_meta_ttl / 4))
        return Claim(channel.name, position, stream, hold=2 * (channel.interval + self._delay))

    def _lose(self, channel: LocalChannel, position: Position) -> None:
        lost = [key for key in channel.audiences if key.positioned and (key.behind or channel.position) == position]
        if lost:
            log.info("%s: subscribers at offset %d have missed something", channel.name, position.offset)
            self._hub.lose(channel, lost)


async def _unhurried(items: Sequence[_Item]) -> AsyncIterator[_Item]:
    """The items, with turns for the rest of the node between them."""
    for some in batches(items, STRIDE):
        for item in some:
            yield item
        await asyncio.sleep(0)
