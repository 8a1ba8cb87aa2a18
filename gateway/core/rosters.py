"""Rosters: those channels of which this node knows who is there, namely where somebody here wants to.

Each is read once from presence when the broker is heard, and goes by joins and leaves from then on. These name
connections, so that it does not matter how those of several nodes are mixed, and that all nodes agree in the end.
"""

import asyncio
import logging
from collections.abc import Iterable

from gateway.batches import batches
from gateway.core.counts import Counts
from gateway.core.feeds import LINGER, Feeds, answer
from gateway.core.hub import Hub
from gateway.core.roster import Roster
from gateway.core.second_looks import SecondLooks
from gateway.core.tasks import Spawn
from gateway.core.wheel import Timer, Wheel
from gateway.errors import BrokerUnavailable
from gateway.messages import ClientInfo
from gateway.presence.base import PresenceStore

SETTLE = 2.0
"""Seconds from a gap to the reading of what it has hidden: backends may have been emptied, and fill up again."""

PATIENCE = 30.0
"""Seconds at most between two attempts, where reading has failed."""

AT_ONCE = 32
"""Rosters that are read anew at a time."""

log = logging.getLogger(__name__)


class _Held:
    """A roster, and who holds it."""

    __slots__ = ("closing", "holders", "roster", "suspect", "waiting")

    def __init__(self, roster: Roster) -> None:
        self.roster = roster
        self.holders = 0
        self.suspect = False
        """Whether it was another than presence, when that was looked at last."""
        self.waiting: list[asyncio.Future[None]] | None = []
        """Those who wait for it to be read: one who is cancelled disturbs nobody else. None once it is."""
        self.closing: Timer | None = None


class Rosters:
    """Keeps a channel's roster from its first holder to a while after its last."""

    def __init__(self, hub: Hub, feeds: Feeds, presence: PresenceStore, wheel: Wheel, spawn: Spawn) -> None:
        self._hub = hub
        self._feeds = feeds
        self._presence = presence
        self._wheel = wheel
        self._spawn = spawn
        self._held: dict[str, _Held] = {}
        self._stale: set[str] = set()
        """Channels of which something may have been missed."""
        self._delay = SETTLE
        self._due: Timer | None = None
        self._refreshing = False
        self._looks = SecondLooks(self._compare, wheel, spawn)
        self.counts = Counts(hub, presence, wheel, spawn)

    async def hold(self, channel: str) -> Roster:
        """The channel's roster, once it is known; the feed is held with it. Each call needs one ``release``.

        Raises ``BrokerUnavailable``, or what presence does, and then holds nothing.
        """
        held = self._held.get(channel)
        if held is None:
            held = self._held[channel] = _Held(Roster(channel, self._hub, self._wheel.clock))
            self._spawn(self._open(channel, held))
        held.holders += 1
        if held.closing is not None:
            held.closing.cancel()
            held.closing = None
        if held.waiting is not None:
            await self._wait(channel, held)
        return held.roster

    def release(self, channel: str) -> None:
        held = self._held.get(channel)
        if held is not None:
            self._let_go(channel, held)

    # — what the broker tells —

    def on_join(self, channel: str, info: ClientInfo) -> None:
        self.counts.changed(channel)
        if (held := self._held.get(channel)) is not None:
            held.roster.joined(info)

    def on_leave(self, channel: str, info: ClientInfo) -> None:
        self.counts.changed(channel)
        if (held := self._held.get(channel)) is not None:
            held.roster.parted(info)

    def on_gap(self) -> None:
        """Joins and leaves may have been missed: look, a moment later."""
        self.counts.all_changed()
        if self._due is not None and self._delay > SETTLE:  # the backend has come back
            self._due.cancel()
            self._due = None
        self._delay = SETTLE
        self._refresh_later(self._held)

    def doubt(self, channel: str, client: str) -> None:
        """Something was not told, of this connection, or of any if none is named: look, a moment later."""
        self.counts.changed(channel)
        held = self._held.get(channel)
        if held is not None and (not client or held.waiting is not None or held.roster.may_have(client)):
            self._refresh_later([channel])

    # — the first read —

    async def _wait(self, channel: str, held: _Held) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        assert held.waiting is not None
        held.waiting.append(waiter)
        try:
            await waiter
        except BaseException:
            if self._held.get(channel) is held:
                self._let_go(channel, held)
            raise
        finally:
            del waiter  # it keeps a failure, whose traceback keeps this frame

    async def _open(self, channel: str, held: _Held) -> None:
        """Hear the channel, and read who is there, for all who wait."""
        try:
            await self._feeds.hold(channel, quietly=True)
            try:
                whole = await self._read(channel, held.roster)
            except BaseException:
                self._feeds.release(channel, quietly=True)
                raise
        except Exception as error:
            self._opened(channel, held, error)
        except BaseException:
            self._opened(channel, held, asyncio.CancelledError())
            raise
        else:
            self._opened(channel, held, None)
            if not whole:
                self._refresh_later([channel])

    def _opened(self, channel: str, held: _Held, error: BaseException | None) -> None:
        # a failure that they are told keeps, by its traceback, a frame that keeps them
        waiting, held.waiting = held.waiting or [], None if error is None else []
        if error is not None:
            del self._held[channel]
        else:
            self._looks.begin(channel)
            if not held.holders:
                self._linger(channel, held)
        answer(waiting, error)

    async def _read(self, channel: str, roster: Roster) -> bool:
        """Read who is there. Answers whether that is all; nodes may be silent that have some."""
        roster.begin_read()
        found, whole = None, True
        try:
            found = await self._presence.members(channel)
            whole = not getattr(found, "missing", 0)
        finally:
            roster.end_read(found, whole=whole)
        return whole

    # — the end —

    def _let_go(self, channel: str, held: _Held) -> None:
        held.holders -= 1
        if not held.holders and held.waiting is None:
            self._linger(channel, held)

    def _linger(self, channel: str, held: _Held) -> None:
        def close() -> None:
            held.closing = None
            del self._held[channel]
            self._looks.end(channel)
            self._feeds.release(channel, quietly=True)

        held.closing = self._wheel.after(LINGER, close)

    # — what was not heard of —

    async def _compare(self, channel: str) -> bool:
        """Whether there are as many as presence has. If not twice in succession, they are read anew."""
        held = self._held[channel]
        if channel in self._stale or self._refreshing:  # it is read anyway, or may be just now
            return False
        connections, _ = await self._presence.stats(channel)
        different = connections != held.roster.connections
        if different and held.suspect:
            log.info("%s: some who have come or gone were not heard of: its members are read anew", channel)
            self._refresh_later([channel])
        held.suspect = different and not held.suspect
        return not different

    def _refresh_later(self, channels: Iterable[str]) -> None:
        self._stale.update(channels)
        if self._stale and self._due is None and not self._refreshing:
            self._due = self._wheel.after(self._delay, self._refresh_now)

    def _refresh_now(self) -> None:
        self._due, self._refreshing = None, True
        self._spawn(self._refresh())

    async def _refresh(self) -> None:
        """Read anew what is stale. What fails is read later, ever more so; what has become stale meanwhile, too."""
        stale, self._stale = self._stale, set()
        failed: list[str] = []
        try:
            for some in batches(stale, AT_ONCE):
                read = await asyncio.gather(*map(self._refresh_one, some))
                failed += [channel for channel, good in zip(some, read, strict=True) if not good]
        finally:
            self._refreshing = False
        self._delay = min(2 * self._delay, PATIENCE) if failed else SETTLE
        self._refresh_later(failed)

    async def _refresh_one(self, channel: str) -> bool:
        held = self._held.get(channel)
        if held is None:
            return True
        if held.waiting is not None:  # it is being read for the first time, perhaps since before
            return False
        try:
            return await self._read(channel, held.roster)
        except Exception as error:
            level = logging.DEBUG if isinstance(error, BrokerUnavailable) else logging.ERROR
            log.log(level, "%s: its members are read when that is possible again: %s", channel, error)
            return False
