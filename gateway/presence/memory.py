"""Presence on a single node: members live in this process."""

from collections import Counter
from itertools import islice

from gateway.errors import Error, ErrorCode
from gateway.messages import ClientInfo
from gateway.presence.base import Changed, cursor_number, ignore


class _Channel:
    """Members by client id, numbered in the order in which they were added."""

    def __init__(self) -> None:
        self.members: dict[str, tuple[int, ClientInfo]] = {}
        self.users: Counter[str] = Counter()
        self._added = 0

    def add(self, info: ClientInfo) -> None:
        self.remove(info.client)
        self._added += 1
        self.members[info.client] = (self._added, info)
        self.users[info.user] += 1

    def remove(self, client: str) -> None:
        if (found := self.members.pop(client, None)) is not None:
            user = found[1].user
            self.users[user] -= 1
            if not self.users[user]:
                del self.users[user]


_EMPTY = _Channel()


class MemoryPresence:
    """Nobody dies but the whole process, so there is nothing to lease or sweep."""

    def __init__(self) -> None:
        self._channels: dict[str, _Channel] = {}

    async def start(self, node: str, swept: Changed, returned: Changed = ignore) -> None:
        pass

    async def close(self) -> None:
        self._channels.clear()

    async def add(self, channel: str, info: ClientInfo) -> None:
        self._channels.setdefault(channel, _Channel()).add(info)

    async def remove(self, channel: str, client: str) -> None:
        found = self._of(channel)
        found.remove(client)
        if not found.members:
            self._channels.pop(channel, None)

    async def members(self, channel: str, at_most: int = 0) -> dict[str, ClientInfo]:
        members = self._of(channel).members
        if at_most and len(members) > at_most:
            raise Error(ErrorCode.LIMIT_EXCEEDED)
        return {client: info for client, (_, info) in members.items()}

    async def page(self, channel: str, limit: int, cursor: str = "") -> tuple[dict[str, ClientInfo], str]:
        """The cursor is the number of the member read last."""
        read = cursor_number(cursor or "0")
        following = (member for member in self._of(channel).members.values() if member[0] > read)
        page = list(islice(following, limit))
        more = next(following, None) is not None
        return {info.client: info for _, info in page}, str(page[-1][0]) if page and more else ""

    async def stats(self, channel: str) -> tuple[int, int]:
        found = self._of(channel)
        return len(found.members), len(found.users)

    def _of(self, channel: str) -> _Channel:
        return self._channels.get(channel, _EMPTY)
