"""Presence without a store: each node knows its own members, and the others ask it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import blake2b
from heapq import nsmallest

from msgspec import DecodeError, Struct

from gateway.broadcast.peers import Peers
from gateway.errors import BrokerUnavailable, Error, ErrorCode
from gateway.messages import ClientInfo, pack, unpacker
from gateway.presence.base import Changed, Members, ignore

MEMBERS, STATS = "presence", "presence stats"
"""Kinds of questions."""

PAGE, PAGE_BYTES = 1_000, 60_000
"""What one node tells in one message at most: it passes by the line that carries the publications."""

MOST = 50_000
"""Members read at once: beyond, they are read in pages."""

WITHIN = 4.5
"""Seconds that reading may take altogether."""

MOST_USERS = 2_000
"""Users of a channel on one node that are told apart from those of other nodes."""

_DIGEST = 8


class Read(Struct, array_like=True):
    """Asks for a channel's next members behind a client id, at most so many."""

    channel: str
    after: str = ""
    limit: int = PAGE


class Part(Struct, array_like=True):
    """Members of one node, in the order of their client ids, and whether it has more behind them."""

    members: list[ClientInfo]
    more: bool = False


class Stats(Struct, array_like=True):
    """Clients and users of one node; ``digests`` of the users, one behind the other, if they are not too many."""

    clients: int
    users: int
    digests: bytes = b""


_read_question = unpacker(Read).decode
_read_part = unpacker(Part).decode
_read_stats = unpacker(Stats).decode


class SurveyPresence:
    """A node that dies takes its members with it: they are there no more, and nobody tells that they have left.

    Nothing is told to ``swept`` or ``returned``.
    """

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._channels: dict[str, dict[str, ClientInfo]] = {}
        peers.asked[MEMBERS] = self._answer_members
        peers.asked[STATS] = self._answer_stats

    async def start(self, node: str, swept: Changed, returned: Changed = ignore) -> None:
        pass

    async def close(self) -> None:
        self._channels.clear()

    async def add(self, channel: str, info: ClientInfo) -> None:
        self._channels.setdefault(channel, {})[info.client] = info

    async def remove(self, channel: str, client: str) -> None:
        members = self._channels.get(channel, {})
        members.pop(client, None)
        if not members:
            self._channels.pop(channel, None)

    async def members(self, channel: str, at_most: int = 0) -> Members[ClientInfo]:
        """All members of the nodes that answer, `Members.missing` says how many do not."""
        found, silent, after = Members[ClientInfo](), set[str](), ""
        async with _in_time():
            while True:
                page, more = await self._next(channel, after, PAGE, silent)
                found.update(page)
                if len(found) > (at_most or MOST):
                    raise Error(ErrorCode.LIMIT_EXCEEDED)
                if not more:
                    found.missing = len(silent)
                    return found
                after = next(reversed(page))

    async def page(self, channel: str, limit: int, cursor: str = "") -> tuple[dict[str, ClientInfo], str]:
        """In the order of client ids; the cursor names the last one."""
        after, silent = _read_cursor(cursor) if cursor else "", set[str]()
        async with _in_time():
            page, more = await self._next(channel, after, min(limit, PAGE), silent)
        page.missing = len(silent)
        return page, _cursor(next(reversed(page))) if more else ""

    async def stats(self, channel: str) -> tuple[int, int]:
        """Clients and distinct users; beyond 2,000 users on a node, its users count apart from those of others."""
        async with _in_time():
            answers = await self._peers.ask(STATS, pack(Read(channel)))
        clients, apart, digests = 0, 0, set[bytes]()
        for each in map(_read_stats, answers.of.values()):
            clients += each.clients
            if each.digests:
                digests.update(each.digests[at : at + _DIGEST] for at in range(0, len(each.digests), _DIGEST))
            else:
                apart += each.users
        return clients, apart + len(digests)

    async def _next(self, channel: str, after: str, limit: int, silent: set[str]) -> tuple[Members[ClientInfo], bool]:
        """The next members of all but the ``silent``, to which who does not answer is added; and if there are more."""
        answers = await self._peers.ask(MEMBERS, pack(Read(channel, after, limit)), silent)
        silent |= answers.missing
        parts = [_read_part(answer) for answer in answers.of.values()]
        # behind the first end of a node's part that is not its last, others' may be followed by that one's
        ends = [part.members[-1].client for part in parts if part.more and part.members]
        end = min(ends, default=None)
        found = sorted(
            ((info.client, info) for part in parts for info in part.members if end is None or info.client <= end),
            key=lambda member: member[0],
        )
        more = end is not None or len(found) > limit
        return Members(found[:limit]), more

    def _answer_members(self, data: bytes) -> bytes:
        try:
            asked = _read_question(data)
        except DecodeError:
            return pack(Part([]))
        members = self._channels.get(asked.channel, {})
        clients = members if not asked.after else (client for client in members if client > asked.after)
        limit = max(1, min(asked.limit, PAGE))
        infos = [members[client] for client in nsmallest(limit + 1, clients)]
        part, size = Part([]), 0
        for info in infos[:limit]:
            size += len(pack(info))
            if part.members and size > PAGE_BYTES:
                break
            part.members.append(info)
        part.more = len(part.members) < len(infos)
        return pack(part)

    def _answer_stats(self, data: bytes) -> bytes:
        try:
            members = self._channels.get(_read_question(data).channel, {})
        except DecodeError:
            return pack(Stats(0, 0))
        users = {info.user for info in members.values()}
        digests = b"".join(map(_digest, users)) if len(users) <= MOST_USERS else b""
        return pack(Stats(len(members), len(users), digests))


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(WITHIN):
            yield
    except TimeoutError:
        raise BrokerUnavailable from None


def _digest(user: str) -> bytes:
    return blake2b(user.encode(errors="replace"), digest_size=_DIGEST).digest()


def _cursor(client: str) -> str:
    return "c" + client.encode().hex()


def _read_cursor(cursor: str) -> str:
    try:
        if not cursor.startswith("c"):
            raise ValueError(cursor)
        return bytes.fromhex(cursor[1:]).decode()
    except ValueError:
        text = "bad request: cursor must be one that a page was answered with"
        raise Error(ErrorCode.BAD_REQUEST, text) from None
