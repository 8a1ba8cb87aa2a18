"""Subscription counts: how many connections a channel has, on all nodes, told to those who are there.

Source: Pusher Channels protocol, "Subscription count".
"""

import logging
from collections.abc import Callable

from gateway.core.hub import Hub
from gateway.core.second_looks import SecondLooks
from gateway.core.tasks import Spawn
from gateway.core.wheel import Wheel
from gateway.errors import BrokerUnavailable
from gateway.messages import SubscriptionCount
from gateway.presence.base import PresenceStore

MANY = 100
"""Connections above which the count is told less often."""

SELDOM = 5.0
"""Seconds between two counts then, and before another attempt where one has failed."""

log = logging.getLogger(__name__)


class _Count:
    __slots__ = ("again", "due", "holders", "newcomers", "told", "told_at")

    def __init__(self) -> None:
        self.holders = 0
        self.newcomers = False
        """Whether there are some who have been told nothing yet."""
        self.told = -1
        self.told_at = 0.0
        self.due = False
        """Whether it is about to be read, or being read."""
        self.again = False
        """Whether something has changed since that began."""


class Counts:
    """Counts those channels that somebody here holds, whenever somebody joins or leaves there."""

    def __init__(self, hub: Hub, presence: PresenceStore, wheel: Wheel, spawn: Spawn) -> None:
        self._hub = hub
        self._presence = presence
        self._wheel = wheel
        self._spawn = spawn
        self._counts: dict[str, _Count] = {}
        self._looks = SecondLooks(self._compare, wheel, spawn)
        self.on_count: Callable[[str, int], None] = lambda _channel, _count: None
        """Told of a channel's count that is another one; each node that counts the channel is."""

    def hold(self, channel: str) -> None:
        """Somebody here is to be told of the channel's count; each call needs one ``release``."""
        count = self._counts.get(channel)
        if count is None:
            count = self._counts[channel] = _Count()
            self._looks.begin(channel)
        count.holders += 1
        self.remind(channel)

    def remind(self, channel: str) -> None:
        """Tell the count even if it is what was told: somebody who is there did not hear it."""
        count = self._counts.get(channel)
        if count is not None:
            count.newcomers = True
            self._look_later(channel, count)

    def release(self, channel: str) -> None:
        count = self._counts.get(channel)
        if count is not None:
            count.holders -= 1
            if not count.holders:
                del self._counts[channel]
                self._looks.end(channel)

    def changed(self, channel: str) -> None:
        """Somebody has joined or left, here or on another node."""
        count = self._counts.get(channel)
        if count is not None:
            self._look_later(channel, count)

    def all_changed(self) -> None:
        for channel, count in self._counts.items():
            self._look_later(channel, count)

    def _look_later(self, channel: str, count: _Count, at_least: float = 0.0) -> None:
        """Count at the end of this tick, or when the next count is due where there are many."""
        if count.due:
            count.again = True
            return
        count.due = True
        wait = count.told_at + SELDOM - self._wheel.clock() if count.told > MANY else 0.0
        self._wheel.after(max(wait, at_least), lambda: self._look(channel, count))

    def _look(self, channel: str, count: _Count) -> None:
        if self._counts.get(channel) is count:
            self._spawn(self._tell(channel, count))

    async def _compare(self, channel: str) -> bool:
        """Whether the count is still what was told: nobody need have said that it is not."""
        count = self._counts[channel]
        same = count.due or (await self._presence.stats(channel))[0] == count.told
        if not same:
            self.changed(channel)
        return same

    async def _tell(self, channel: str, count: _Count) -> None:
        count.again, pause = False, 0.0
        try:
            connections, _ = await self._presence.stats(channel)
        except Exception as error:
            level = logging.DEBUG if isinstance(error, BrokerUnavailable) else logging.ERROR
            log.log(level, "%s: its connections are counted when that is possible again: %s", channel, error)
            count.again, pause = True, SELDOM
        else:
            if self._counts.get(channel) is count:
                self._told(channel, count, connections)
        count.due = False
        if count.again and self._counts.get(channel) is count:
            self._look_later(channel, count, pause)

    def _told(self, channel: str, count: _Count, connections: int) -> None:
        changed = connections != count.told
        if changed or count.newcomers:
            count.told, count.told_at, count.newcomers = connections, self._wheel.clock(), False
            self._hub.announce(channel, SubscriptionCount(connections))
        if changed:
            self.on_count(channel, connections)
