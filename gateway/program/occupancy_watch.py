"""What this node hears, turned into what the whole cluster hears."""

from collections.abc import Callable

from gateway.core.tasks import Tasks
from gateway.occupancy.base import Occupancy, OccupancyEvents


class OccupancyWatch:
    """Watches a node's feeds, and tells the events of channels that are ``tracked``; others cost nothing."""

    def __init__(self, occupancy: Occupancy, tracked: Callable[[str], bool], events: OccupancyEvents) -> None:
        self._occupancy = occupancy
        self._tracked = tracked
        self._events = events
        self._work = Tasks()
        self._open = False

    async def start(self, node: str) -> None:
        self._open = True
        await self._occupancy.start(node, self._events)

    async def close(self) -> None:
        """Leave all channels. To be called while the events can still be told."""
        self._open = False
        await self._work.finish(within=5)
        await self._occupancy.close()

    def on_heard(self, channel: str) -> None:
        if self._open and self._tracked(channel):
            self._work.spawn(self._enter(channel))

    def on_ceased(self, channel: str) -> None:
        if self._open and self._tracked(channel):
            self._work.spawn(self._leave(channel))

    async def _enter(self, channel: str) -> None:
        if await self._occupancy.enter(channel):
            self._events.on_occupied(channel)

    async def _leave(self, channel: str) -> None:
        if await self._occupancy.leave(channel):
            self._events.on_vacated(channel)
