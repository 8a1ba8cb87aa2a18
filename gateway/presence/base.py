"""Presence: who is subscribed to a channel, on all nodes."""

from collections.abc import Callable
from typing import Protocol

from gateway.messages import ClientInfo

Swept = Callable[[str, ClientInfo], None]
"""Called with channel and member when the member of a dead node has been removed by this node."""


class PresenceStore(Protocol):
    """One implementation per backend. Every method may raise ``BrokerUnavailable``, within five seconds."""

    async def start(self, node: str, swept: Swept) -> None:
        """Take up the node's lease. Returns even when the backend cannot be reached yet."""

    async def close(self) -> None:
        """Give the lease back and remove this node's members."""

    async def add(self, channel: str, info: ClientInfo) -> None:
        """Add or replace the member ``info.client``. It stays until removed or its node's lease runs out."""

    async def remove(self, channel: str, client: str) -> None: ...

    async def members(self, channel: str) -> dict[str, ClientInfo]:
        """All members on living nodes, by client id."""

    async def stats(self, channel: str) -> tuple[int, int]:
        """Number of clients and of distinct users."""
