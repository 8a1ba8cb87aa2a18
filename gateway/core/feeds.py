"""Feeds: which channels this node hears from the broker, namely those somebody here subscribes to."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from types import CoroutineType
from typing import Protocol

from gateway.core.tasks import Tasks, begin
from gateway.core.wheel import Wheel
from gateway.errors import BrokerUnavailable, another

log = logging.getLogger(__name__)

LINGER = 1.0
"""Seconds for which a channel is still heard after its last subscriber left: reloads of a page come back."""


class Source(Protocol):
    """The part of a broker that feeds use."""

    def subscribe(self, channel: str) -> Awaitable[None]: ...

    def unsubscribe(self, channel: str) -> Awaitable[None]: ...


class FeedWatcher(Protocol):
    """Is told what this node hears for subscribers. The calls return at once; those for one channel take turns."""

    def on_heard(self, channel: str) -> None:
        """Somebody here subscribes, and the broker has confirmed."""

    def on_ceased(self, channel: str) -> None:
        """Nobody here does any more, and has not for a while."""


class _Feed:
    __slots__ = ("holders", "subscribers", "told", "waiting")

    def __init__(self) -> None:
        self.holders = 0
        self.subscribers = 0
        """Those of the holders that watchers are told of."""
        self.told = False
        """Whether they have been."""
        self.waiting: list[asyncio.Future[None]] | None = []
        """Those who wait for it to be heard: one who is cancelled disturbs nobody else. None once it is."""


class Feeds:
    """Opens a channel's feed for its first holder, closes it a while after its last."""

    def __init__(self, source: Source, wheel: Wheel, linger: float = LINGER) -> None:
        self._source = source
        self._wheel = wheel
        self._linger = linger
        self.watchers: list[FeedWatcher] = []
        self._feeds: dict[str, _Feed] = {}
        self._lingering: deque[tuple[float, str, _Feed]] = deque()
        """Those that nobody holds or subscribes to, unless somebody has come since, and until when: by one timer."""
        self._closing = Tasks()

    async def hold(self, channel: str, *, quietly: bool = False) -> None:
        """Returns once the broker has confirmed; each call needs one ``release`` of its kind.

        ``quietly`` is for who wants to hear of a channel and is not in it: watchers are not told.
        Raises ``BrokerUnavailable``, and then holds nothing.
        """
        feed = self._feeds.get(channel)
        if feed is None:
            feed = self._feeds[channel] = _Feed()
            self._open(channel, feed)
        feed.holders += 1
        feed.subscribers += not quietly
        if feed.waiting is None:
            self._announce(channel, feed)
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        feed.waiting.append(waiter)
        try:
            await waiter
        except BaseException:
            if self._feeds.get(channel) is feed:
                self._let_go(channel, feed, quietly)
            raise
        finally:
            del waiter  # it keeps a failure, whose traceback keeps this frame

    def release(self, channel: str, *, quietly: bool = False) -> None:
        feed = self._feeds.get(channel)
        if feed is not None:
            self._let_go(channel, feed, quietly)

    def _open(self, channel: str, feed: _Feed) -> None:
        """Subscribe. Raises what the broker does at once, and then there is no such feed."""
        try:
            opening = self._source.subscribe(channel)
            rest = begin(opening) if isinstance(opening, CoroutineType) else opening
        except BaseException:
            del self._feeds[channel]
            raise
        if rest is None:
            self._heard(channel, feed)
            return
        asyncio.ensure_future(rest).add_done_callback(partial(self._opened, channel, feed))

    def _opened(self, channel: str, feed: _Feed, opening: "asyncio.Future[None]") -> None:
        # a failure that they are told keeps, by its traceback, a frame that keeps the feed
        waiting, feed.waiting = feed.waiting or (), []
        if self._feeds.get(channel) is not feed:
            return
        error = asyncio.CancelledError() if opening.cancelled() else opening.exception()
        if error is not None:
            del self._feeds[channel]
        else:
            self._heard(channel, feed)
        answer(waiting, error)

    def _heard(self, channel: str, feed: _Feed) -> None:
        feed.waiting = None
        self._announce(channel, feed)

    def _announce(self, channel: str, feed: _Feed) -> None:
        if feed.subscribers and not feed.told:
            feed.told = True
            self._tell(lambda watcher: watcher.on_heard(channel))

    def _retract(self, channel: str, feed: _Feed) -> None:
        if feed.told:
            feed.told = False
            self._tell(lambda watcher: watcher.on_ceased(channel))

    def _let_go(self, channel: str, feed: _Feed, quietly: bool) -> None:
        feed.holders -= 1
        feed.subscribers -= not quietly
        if not feed.holders or not (quietly or feed.subscribers):
            if not self._lingering:
                self._wheel.after(self._linger, self._close_due)
            self._lingering.append((self._wheel.clock() + self._linger, channel, feed))

    def _close_due(self) -> None:
        """Have done with those that have lingered long enough, and look again when the next one has."""
        now, lingering = self._wheel.clock(), self._lingering
        try:
            while lingering and lingering[0][0] <= now:
                _, channel, feed = lingering.popleft()
                if self._feeds.get(channel) is not feed or feed.subscribers:
                    continue
                if feed.holders:
                    self._retract(channel, feed)
                else:
                    self._close(channel, feed)
        finally:  # one that fails is not to keep the others open for ever
            if lingering:
                self._wheel.after(lingering[0][0] - now, self._close_due)

    def _close(self, channel: str, feed: _Feed) -> None:
        del self._feeds[channel]
        self._retract(channel, feed)
        leaving = self._source.unsubscribe(channel)  # before somebody else may subscribe
        if isinstance(leaving, asyncio.Future):
            leaving.add_done_callback(partial(_left, channel))
        else:
            self._closing.begin(_leave(channel, leaving))

    def _tell(self, what: Callable[[FeedWatcher], None]) -> None:
        for watcher in self.watchers:
            try:
                what(watcher)
            except Exception:  # let through, it would cost the other watchers, and the end of the feed
                log.exception("a watcher of feeds failed")


def answer(waiting: Iterable["asyncio.Future[None]"], error: BaseException | None) -> None:
    """Tell those who wait that it is done, or why not; each gets an exception of his own."""
    for waiter in waiting:
        if waiter.done():
            continue
        if error is None:
            waiter.set_result(None)
        elif isinstance(error, asyncio.CancelledError):
            waiter.cancel()
        else:
            waiter.set_exception(another(error))


async def _leave(channel: str, leaving: Awaitable[None]) -> None:
    try:
        await leaving
    except BrokerUnavailable:
        log.debug("could not leave %s: the broker is away, and has forgotten it anyway", channel)


def _left(channel: str, leaving: "asyncio.Future[None]") -> None:
    if not leaving.cancelled() and (error := leaving.exception()) is not None:
        log.log(
            logging.DEBUG if isinstance(error, BrokerUnavailable) else logging.ERROR, "leaving %s: %s", channel, error
        )
