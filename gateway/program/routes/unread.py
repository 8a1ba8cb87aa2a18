"""Streams that nobody reads any more, on any node: they are stopped."""

from typing import Protocol

from gateway.core.node import Node
from gateway.errors import BrokerUnavailable

INTERVAL = 1.0
"""Seconds between two looks at who reads: all streams of a node are one question to the broker."""


class Stoppable(Protocol):
    """The part of a stream that is used here."""

    channel: str

    def stop(self) -> None: ...


class UnreadStreams:
    """Looks now and then whether anybody subscribes to the streams of this node, and stops those left alone.

    A channel is read on each node that hears it: the node's own hub knows its subscribers, the broker the others. One
    that cannot tell counts as if somebody read.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._limits: dict[Stoppable, float] = {}
        self._alone: dict[Stoppable, float] = {}
        """Seconds for which nobody has read."""
        self._looking = False

    def watch(self, stream: Stoppable, seconds: float) -> None:
        """Stop the stream when nobody has read it for so many seconds, from now on."""
        self._limits[stream] = seconds
        self._alone[stream] = 0.0
        if not self._looking:
            self._looking = True
            self._look_later()

    def forget(self, stream: Stoppable) -> None:
        self._limits.pop(stream, None)
        self._alone.pop(stream, None)

    def _look_later(self) -> None:
        self._node.wheel.after(INTERVAL, lambda: self._node.spawn(self._look()))

    async def _look(self) -> None:
        unread = await self._unread()
        for stream, limit in list(self._limits.items()):
            alone = self._alone[stream] = self._alone[stream] + INTERVAL if stream in unread else 0.0
            if alone >= limit:
                stream.stop()
        self._looking = bool(self._limits)
        if self._looking:
            self._look_later()

    async def _unread(self) -> set[Stoppable]:
        candidates = [stream for stream in self._limits if not self._node.hub.subscribers(stream.channel)]
        if not candidates:
            return set()
        try:
            counts = await self._node.broker.hearers([stream.channel for stream in candidates])
        except BrokerUnavailable:
            return set()
        return {stream for stream, count in zip(candidates, counts, strict=True) if not count}
