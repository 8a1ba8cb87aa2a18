"""Presence on a single node: members live in this process."""

from gateway.messages import ClientInfo
from gateway.presence.base import Swept


class MemoryPresence:
    """Nobody dies but the whole process, so there is nothing to lease or sweep."""

    def __init__(self) -> None:
        self._channels: dict[str, dict[str, ClientInfo]] = {}

    async def start(self, node: str, swept: Swept) -> None:
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

    async def members(self, channel: str) -> dict[str, ClientInfo]:
        return dict(self._channels.get(channel, {}))

    async def stats(self, channel: str) -> tuple[int, int]:
        members = self._channels.get(channel, {}).values()
        return len(members), len({info.user for info in members})
