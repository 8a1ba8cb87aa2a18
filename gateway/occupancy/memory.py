"""Occupancy within one process."""

from gateway.occupancy.base import OccupancyEvents


class MemoryOccupancy:
    """Nobody dies but the whole process. Nodes that share it are given the same ``nodes`` by channel."""

    def __init__(self, nodes: dict[str, set[str]] | None = None) -> None:
        self._nodes: dict[str, set[str]] = {} if nodes is None else nodes
        self._node = ""
        self._events: OccupancyEvents | None = None

    async def start(self, node: str, events: OccupancyEvents) -> None:
        self._node = node
        self._events = events

    async def close(self) -> None:
        for channel in [channel for channel, nodes in self._nodes.items() if self._node in nodes]:
            if await self.leave(channel) and self._events is not None:
                self._events.on_vacated(channel)

    async def enter(self, channel: str) -> bool:
        nodes = self._nodes.setdefault(channel, set())
        first = not nodes
        nodes.add(self._node)
        return first

    async def leave(self, channel: str) -> bool:
        nodes = self._nodes.get(channel, set())
        if self._node not in nodes:
            return False
        nodes.remove(self._node)
        if nodes:
            return False
        del self._nodes[channel]
        return True
