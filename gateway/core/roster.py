"""A roster: who is in a channel, by user and not by connection, as one node knows it.

A user is there from the arrival of the first of his connections to the end of the last, wherever they are; who has no
name counts as a user of his own. What connections of this node do is known here at once, and here alone: what the
broker says of them comes late, and what other nodes take them for, having lost sight of this one, is not so.

Source: Pusher Channels protocol, "Presence".
"""

import logging
from collections.abc import Callable, Mapping

from msgspec import Struct

from gateway.core.hub import Hub
from gateway.core.members_text import MembersText
from gateway.messages import ClientInfo, Exclusion, MemberAdded, MemberRemoved, Payload, is_opaque

ECHO = 60.0
"""Seconds within which the broker has told, or never will, what a connection of this node has done."""

Listener = Callable[[str, bool], None]
"""Told of a user, and whether he is there now."""

log = logging.getLogger(__name__)


class _Member(Struct, gc=False):
    """A user who is there, as others were told of him."""

    info: Payload | None
    number: int
    """In the text of all members."""
    connections: int = 1


class Roster:
    """The users in one channel. It is only to be asked, and told of what is local, while it is held."""

    __slots__ = (
        "_clients",
        "_clock",
        "_gone",
        "_here",
        "_hub",
        "_listed",
        "_live",
        "_members",
        "_news",
        "_text",
        "channel",
        "listeners",
    )

    def __init__(self, channel: str, hub: Hub, clock: Callable[[], float]) -> None:
        self.channel = channel
        self.listeners: list[Listener] = []
        self._hub = hub
        self._clock = clock
        self._members: dict[str, _Member] = {}
        self._clients: dict[str, str] = {}
        """The user of each connection."""
        self._here: set[str] = set()
        """Connections of this node."""
        self._gone: dict[str, float] = {}
        """Those that were, and when they went: what is told of them by now is old."""
        self._news: set[str] | None = None
        """Connections of which something was told while the members are being read."""
        self._live = False
        self._listed: dict[str, Payload | None] | None = None
        """The members as they are, for who asks next."""
        self._text = MembersText()

    def members(self) -> Mapping[str, Payload | None]:
        """What each user is known by, in the order in which they came: the info of his first connection.

        It stays as it is, and is the same for all who ask before something changes.
        """
        if self._listed is None:
            self._listed = {user: member.info for user, member in self._members.items()}
        return self._listed

    @property
    def count(self) -> int:
        return len(self._members)

    @property
    def connections(self) -> int:
        return len(self._clients)

    def has(self, user: str) -> bool:
        return user in self._members

    def may_have(self, client: str) -> bool:
        """Whether it takes this connection to be there, or is being read, and may find it there."""
        return self._news is not None or client in self._clients

    def snapshot(self) -> bytes:
        """What a client is told who comes: ids, hash and count, as a JSON string that holds JSON."""
        return bytes(self._text)

    # — connections of this node —

    def came(self, info: ClientInfo) -> None:
        """A connection of this node is about to be live: the others are told, if it is the first of its user."""
        self._gone.pop(info.client, None)
        self._here.add(info.client)
        self._add(info)

    def left(self, info: ClientInfo) -> None:
        """It is so no longer, or will not be: it may have been read in presence meanwhile."""
        self._here.discard(info.client)
        now = self._clock()
        while self._gone and now - next(iter(self._gone.values())) > ECHO:
            del self._gone[next(iter(self._gone))]
        self._gone.pop(info.client, None)  # the oldest stands first
        self._gone[info.client] = now
        self._remove(info.client)

    # — what the broker tells, and presence —

    def joined(self, info: ClientInfo) -> None:
        if not self._is_ours(info.client):
            self._note(info.client)
            self._add(info)

    def parted(self, info: ClientInfo) -> None:
        if not self._is_ours(info.client):
            self._note(info.client)
            self._remove(info.client)

    def begin_read(self) -> None:
        """The members are being read: what is told from now on is newer."""
        self._news = set()

    def end_read(self, found: Mapping[str, ClientInfo] | None, *, whole: bool = True) -> None:
        """They have been read; None if not. Without ``whole`` some are missing.

        Those who wait for the first read learn from it who is there; after that all are told of what is different.
        """
        news, self._news = self._news or set(), None
        if found is None:
            return
        for client, info in found.items():
            if client not in news and not self._is_ours(client):
                self._add(info)
        # after those who have come: a user may have another connection now, and was there all the time
        there = found.keys() | news | self._here
        for client in [each for each in self._clients if each not in there] if whole else ():
            self._remove(client)
        self._live = True

    # — inside —

    def _is_ours(self, client: str) -> bool:
        return client in self._here or client in self._gone

    def _note(self, client: str) -> None:
        if self._news is not None:
            self._news.add(client)

    def _add(self, info: ClientInfo) -> None:
        client, user = info.client, info.user or info.client
        before = self._clients.get(client)
        if before == user:
            return
        if before is not None:
            self._remove(client)
        self._clients[client] = user
        member = self._members.get(user)
        if member is not None:
            member.connections += 1
            return
        shown = _shown(info)
        self._members[user] = _Member(shown, self._text.add(user, shown))
        self._changed(user, client, MemberAdded(user, shown))

    def _remove(self, client: str) -> None:
        user = self._clients.pop(client, None)
        if user is None:
            return
        member = self._members[user]
        member.connections -= 1
        if not member.connections:
            del self._members[user]
            self._text.remove(member.number)
            self._changed(user, client, MemberRemoved(user))

    def _changed(self, user: str, client: str, push: MemberAdded | MemberRemoved) -> None:
        self._listed = None
        if not self._live:
            return
        self._hub.announce(self.channel, push, Exclusion(clients=(client,)))
        for listener in self.listeners.copy():
            try:
                listener(user, isinstance(push, MemberAdded))
            except Exception:  # let through, it would cost the others, and whoever has told
                log.exception("a listener of a roster failed")


def changes(
    before: Mapping[str, Payload | None], now: Mapping[str, Payload | None]
) -> list[MemberAdded | MemberRemoved]:
    """What somebody is to be told who knows of the former members. Who is known by something else comes anew."""
    gone = [user for user, info in before.items() if user not in now or now[user] != info]
    come = [(user, info) for user, info in now.items() if user not in before or before[user] != info]
    return [*map(MemberRemoved, gone), *(MemberAdded(user, info) for user, info in come)]


def _shown(info: ClientInfo) -> Payload | None:
    """What a user is known by: what a subscription has is nearer than what the connection has itself."""
    shown = info.chan_info if info.chan_info is not None else info.conn_info
    return None if is_opaque(shown) else shown
