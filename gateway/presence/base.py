"""Presence: who is subscribed to a channel, on all nodes."""

import re
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from gateway.errors import Error, ErrorCode
from gateway.messages import ClientInfo

_Info = TypeVar("_Info")


class Members(dict[str, _Info]):
    """Members by client id.

    Those of ``missing`` nodes are left out, which live and have not answered in time: only where nodes are asked.
    """

    missing: int = 0

    @property
    def partial(self) -> bool:
        return self.missing > 0

    def copy(self) -> "Members[_Info]":
        return Members.of(self, self)

    @classmethod
    def of(cls, members: Mapping[str, _Info], found: Mapping[str, object]) -> "Members[_Info]":
        """The same members, or what is made of them, as partial as they were found."""
        made = cls(members)
        made.missing = getattr(found, "missing", 0)
        return made


Changed = Callable[[str, ClientInfo], None]
"""Called with channel and member, when others have to be told of what no client did."""


def ignore(_channel: str, _info: ClientInfo) -> None:
    """Nobody is to be told."""


def cursor_number(text: str) -> int:
    """The number in a cursor. Raises ``Error`` 107 for what no page was answered with."""
    if not re.fullmatch("[0-9]{1,20}", text) or int(text) >= 2**64:
        raise Error(ErrorCode.BAD_REQUEST, "bad request: cursor must be one that a page was answered with")
    return int(text)


class PresenceStore(Protocol):
    """One implementation per backend. Every method may raise ``BrokerUnavailable``, within five seconds."""

    async def start(self, node: str, swept: Changed, returned: Changed = ignore) -> None:
        """Take up the node's lease. Returns even when the backend cannot be reached yet.

        ``swept`` is called when this node has removed a member of a dead node, or late one of its own; ``returned``
        when a member of this node is there again that another had swept, having taken this node for dead.
        """

    async def close(self) -> None:
        """Give the lease back and remove this node's members."""

    async def add(self, channel: str, info: ClientInfo) -> None:
        """Add or replace the member ``info.client``. It stays until removed or its node's lease runs out."""

    async def remove(self, channel: str, client: str) -> None:
        """Remove a member. If this fails it is made good, and ``swept`` called then."""

    async def members(self, channel: str, at_most: int = 0) -> dict[str, ClientInfo]:
        """All members on living nodes, by client id. Raises ``Error`` 106 if there are more than ``at_most``, if given.

        Who comes or goes while many are read may be among them or not.
        """

    async def page(self, channel: str, limit: int, cursor: str = "") -> tuple[dict[str, ClientInfo], str]:
        """About ``limit`` members, and the cursor of the next page, empty after the last.

        Who is there all the time is in one of the pages at least. Raises ``Error`` 107 for a strange cursor.
        """

    async def stats(self, channel: str) -> tuple[int, int]:
        """Number of clients and of distinct users, counted without reading the members.

        Users who were on a dead node alone are counted until it is swept, but never more users than clients.
        """
