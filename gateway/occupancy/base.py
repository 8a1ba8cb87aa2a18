"""Occupancy: which nodes hear a channel, and so when the first subscriber anywhere has come and the last has gone."""

from typing import Protocol


class OccupancyEvents(Protocol):
    """Is told when a channel's state has changed. The calls return at once and raise nothing."""

    def on_occupied(self, channel: str) -> None:
        """The first subscriber anywhere has come, to this node."""

    def on_vacated(self, channel: str) -> None:
        """The last subscriber anywhere has gone, from this node or with a node that has died."""


class Occupancy(Protocol):
    """One implementation per backend.

    Each change is told once, on one node: as the answer of ``enter`` or ``leave``, or to the ``events`` if it was
    found out later. When nodes die or the backend goes away meanwhile it may be told late, and twice; and not at all
    that a channel was occupied, if the node that came first dies or leaves before the backend's answer has reached it.
    Calls for one channel are served in the order in which they were made.
    """

    async def start(self, node: str, events: OccupancyEvents) -> None:
        """Take up the node's lease. Returns even when the backend cannot be reached yet."""

    async def close(self) -> None:
        """Leave all channels, and tell the events which of them are vacant now."""

    async def enter(self, channel: str) -> bool:
        """This node hears the channel from now on. Whether no node did before; False if that cannot be told yet."""

    async def leave(self, channel: str) -> bool:
        """This node hears it no more. Whether no node does; False if that cannot be told yet."""
