"""Watchlists: which of the users that a client names are online, and that it is itself.

A user is online while a connection is signed in as it, which is a member of the user's inbox channel as long.

Source: Pusher Channels protocol, "Watchlist events".
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from functools import partial

from gateway.core.node import Node
from gateway.core.roster import Roster
from gateway.core.wheel import Timer
from gateway.errors import BrokerUnavailable, Error
from gateway.messages import ClientInfo

MOST = 100
"""Users of a watchlist; those behind are left out."""

ONLINE, OFFLINE = "online", "offline"

AGAIN = 2.0
"""Seconds until another attempt, at least, where the broker or the presence store is away; three times that at most."""

log = logging.getLogger(__name__)


class Attendance:
    """A connection that is signed in, as a member of its user's inbox."""

    __slots__ = ("_ended", "_inbox", "_info", "_node")

    def __init__(self, node: Node, inbox: str, info: ClientInfo) -> None:
        self._node = node
        self._inbox = inbox
        self._info = info
        self._ended = False
        self._try()

    def _try(self) -> None:
        if not self._ended:
            self._node.begin(self._begin())

    async def _begin(self) -> None:
        try:
            await self._node.presence_store.add(self._inbox, self._info)
        except BrokerUnavailable:
            log.debug("%s is shown as online when the presence store is back", self._info.client)
            self._node.wheel.after(_again(), self._try)
            return
        if self._ended:
            await self._end()
        else:
            await self._node.announce_join(self._inbox, self._info)

    def end(self) -> None:
        self._ended = True
        self._node.begin(self._end())

    async def _end(self) -> None:
        try:
            await self._node.presence_store.remove(self._inbox, self._info.client)
        except BrokerUnavailable:  # the store makes it good, and then the channel is told
            return
        await self._node.announce_leave(self._inbox, self._info)


class Watchlist:
    """The users that one client watches. ``tell`` is given what has changed."""

    __slots__ = ("_closed", "_grace", "_inbox", "_node", "_online", "_sought", "_tell", "_timers", "_watched")

    def __init__(
        self,
        node: Node,
        inbox: Callable[[str], str],
        tell: Callable[[dict[str, list[str]]], None],
        grace: float,
    ) -> None:
        """``inbox`` says which channel is a user's; ``grace`` is for how long one that has gone may come back."""
        self._node = node
        self._inbox = inbox
        self._tell = tell
        self._grace = grace
        self._watched: dict[str, tuple[Roster, Callable[[str, bool], None]]] = {}
        self._sought: set[str] = set()
        """Those who are about to be watched: the client may have signed in twice."""
        self._online: set[str] = set()
        """Those of whom the client has been told so."""
        self._timers: dict[str, Timer] = {}
        self._closed = False

    async def watch(self, users: Sequence[str]) -> None:
        """Tell how these are now, and whatever changes from then on. Those of whom nobody can tell come later."""
        added = [user for user in dict.fromkeys(users) if user not in self._watched and user not in self._sought]
        self._sought.update(added)
        try:
            reached = await asyncio.gather(*map(self._add, added))
        finally:
            self._sought.difference_update(added)
        if self._closed:
            return
        if missing := [user for user, good in zip(added, reached, strict=True) if not good]:
            self._node.wheel.after(_again(), lambda: self._watch_again(missing))
        there = [user for user in added if user in self._watched]
        online = [user for user in there if self._is_there(user) and user not in self._online]
        self._online.update(online)
        if there:
            self._tell({ONLINE: online, OFFLINE: [user for user in there if user not in self._online]})

    def close(self) -> None:
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        watched, self._watched = self._watched, {}
        for user, (roster, listener) in watched.items():
            roster.listeners.remove(listener)
            self._node.rosters.release(self._inbox(user))

    def _watch_again(self, users: Sequence[str]) -> None:
        if not self._closed:
            self._node.spawn(self.watch(users))

    async def _add(self, user: str) -> bool:
        """Watch one more. Answers whether that could be decided."""
        channel = self._inbox(user)
        try:
            roster = await self._node.rosters.hold(channel)
        except BrokerUnavailable:
            log.debug("user %r is watched when the broker is back", user)
            return False
        except Error as error:
            log.warning("user %r is not watched: %s", user, error)
            return True
        if self._closed:
            self._node.rosters.release(channel)
            return True
        listener = partial(self._changed, user)
        roster.listeners.append(listener)
        self._watched[user] = roster, listener
        return True

    def _changed(self, watched: str, user: str, present: bool) -> None:
        if user != watched:  # others may be subscribed there, who are not this user
            return
        if timer := self._timers.pop(user, None):
            timer.cancel()
        if not present:
            self._timers[user] = self._node.wheel.after(self._grace, partial(self._gone, user))
        elif user not in self._online:
            self._online.add(user)
            self._tell({ONLINE: [user]})

    def _gone(self, user: str) -> None:
        self._timers.pop(user, None)
        if user in self._online and not self._is_there(user):
            self._online.discard(user)
            self._tell({OFFLINE: [user]})

    def _is_there(self, user: str) -> bool:
        roster, _ = self._watched[user]
        return roster.has(user)


def _again() -> float:
    return AGAIN * random.uniform(1, 3)  # noqa: S311  spreads, hides nothing
