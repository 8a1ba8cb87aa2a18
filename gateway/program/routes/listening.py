"""Listening: the program itself as a subscriber of a channel."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Generic, Self

from gateway import messages
from gateway.channels import Channel
from gateway.core.cluster import ControlCommand
from gateway.core.node import Node
from gateway.errors import Disconnect
from gateway.program.errors import find_channel
from gateway.program.typed import Publication, T, Types
from gateway.protocols.base import Wire
from gateway.protocols.objects import OBJECTS


class Listener(Generic[T]):
    """Publications of one channel, as they come: iterate over it, or ``take`` what is there.

    When the process is told to stop, nothing more comes: iteration ends after what is there already.

    To the hub it is `audience.Subscriber`, `Connection` and `Writer` in one.
    """

    joins = False
    positioned = False
    batch_delay = 0.0
    delta = False
    number = 0
    held = None
    tags = None
    user = ""
    subscriptions: Mapping[str, "Listener"] = {}
    wire: Wire = OBJECTS

    def __init__(self, channel: str, types: Types, limit: int, dropped: Counter[str]) -> None:
        self.channel = channel
        self.client = f"listener of {channel}"
        self.outbox: list[bytes] | None = None
        self.dropped = 0
        """Publications that had to go since nobody took them in time."""
        self.closed = False
        """Whether nothing more comes."""
        self._types = types
        self._counts = dropped
        self._waiting: deque[messages.Publication] = deque(maxlen=limit)
        self._more = asyncio.Event()

    def take(self) -> list[Publication[T]]:
        """All that has come since the last time. Does not wait."""
        taken = [Publication(each, self._types) for each in self._waiting]
        self._waiting.clear()
        return taken

    def close(self) -> None:
        """Hear no more. Who iterates gets what has come before, and then the end."""
        self.closed = True
        self._more.set()

    async def __aiter__(self) -> AsyncIterator[Publication[T]]:
        while True:
            while self._waiting:
                yield Publication(self._waiting.popleft(), self._types)
            if self.closed:
                return
            self._more.clear()
            await self._more.wait()

    # — for the hub —

    @property
    def connection(self) -> Self:
        return self  # kept as an attribute, it would keep itself

    transport = connection

    def send(self, frame: Any) -> None:
        if self.closed:
            return
        for delivery in frame:
            if len(self._waiting) == self._waiting.maxlen:
                self.dropped += 1
                self._counts["listener"] += 1
            self._waiting.append(delivery.publication)
        self._more.set()

    write = send

    def disconnect(self, reason: Disconnect) -> None:
        """There is no connection to close."""

    def control(self, command: ControlCommand) -> None:
        """Commands are for users."""

    def lose_position(self, _before: messages.Position | None) -> None:
        """It has none."""


class Listeners:
    """The listeners of one node."""

    def __init__(self, node: Node, types: Callable[[Channel], Types]) -> None:
        self._node = node
        self._types = types
        self._open: set[Listener[Any]] = set()
        self._closed = False

    @asynccontextmanager
    async def listen(self, channel: str, limit: int) -> AsyncIterator[Listener[Any]]:
        """Hear a channel for the length of a block."""
        self._node.check_loop()
        resolved = find_channel(self._node.channels, channel)
        listener: Listener[Any] = Listener(resolved.name, self._types(resolved), limit, self._node.metrics.dropped)
        await self._node.feeds.hold(listener.channel)
        try:
            self._node.hub.join(listener)
            self._node.hub.enter(listener, None)
            self._open.add(listener)
            if self._closed:
                listener.close()
            yield listener
        finally:
            self._open.discard(listener)
            self._node.hub.leave(listener)
            self._node.feeds.release(listener.channel)

    def close(self) -> None:
        """End all of them, and those to come: a response made of one would keep the server from stopping."""
        self._closed = True
        for listener in self._open:
            listener.close()
