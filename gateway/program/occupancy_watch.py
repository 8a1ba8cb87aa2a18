"""What this node hears, turned into what the whole cluster hears."""

from collections.abc import Awaitable, Callable

from gateway.core.tasks import Tasks
from gateway.occupancy.base import Occupancy, OccupancyEvents

Told = Callable[[str], Awaitable[None]]
"""Returns once a channel's events have been dealt with."""


class OccupancyWatch:
    """Watches a node's feeds, and tells the events of channels that are ``tracked``; others cost nothing.

    A node does not leave a channel before what it has ``told`` of it is dealt with. So no node can tell that it is
    vacated while another is still busy with its being occupied.
    """

    def __init__(
        self, occupancy: Occupancy, tracked: Callable[[str], bool], events: OccupancyEvents, told: Told
    ) -> None:
        self._occupancy = occupancy
        self._tracked = tracked
        self._events = events
        self._told = told
        self._heard: set[str] = set()
        self._changing: set[str] = set()
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
            self._heard.add(channel)
            self._change(channel)

    def on_ceased(self, channel: str) -> None:
        if self._open and self._tracked(channel):
            self._heard.discard(channel)
            self._change(channel)

    def _change(self, channel: str) -> None:
        if channel not in self._changing:
            self._changing.add(channel)
            self._work.spawn(self._catch_up(channel, entered=channel not in self._heard))

    async def _catch_up(self, channel: str, *, entered: bool) -> None:
        """Enter and leave, one after the other, until the channel is entered if it is heard."""
        try:
            while entered != (channel in self._heard):
                if not entered:
                    entered = True
                    if await self._occupancy.enter(channel):
                        self._events.on_occupied(channel)
                    continue
                await self._told(channel)
                if channel not in self._heard:
                    entered = False
                    if await self._occupancy.leave(channel):
                        self._events.on_vacated(channel)
        finally:
            self._changing.discard(channel)
