"""Publications that a route takes itself, in place of the client whose channels they come from."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from msgspec import Struct
from msgspec.json import decode

from gateway.core.audience import Write
from gateway.errors import Disconnect
from gateway.messages import ClientInfo, Payload
from gateway.protocols.objects import Delivery
from gateway.session import Transport


class ChannelMessage(Struct, frozen=True):
    """A publication, and where it stands in its channel's stream."""

    channel: str
    """Empty for what was sent to this connection alone, by `Gateway.send`."""
    payload: Payload
    """Its bytes: JSON, unless it is ``binary``. ``send`` takes it as it is."""
    offset: int
    """0 in a channel without history."""
    epoch: str
    recovered: bool
    """Whether it was published before the subscription: missed, or replayed."""
    tags: dict[str, str]
    info: ClientInfo | None
    """Who has published it, if that was a client."""
    binary: bool = False

    @property
    def data(self) -> Any:
        """What its JSON says; ``bytes`` of a binary one."""
        return bytes(self.payload) if self.binary else decode(self.payload or b"null")


class Inbox:
    """What waits for the route: no more than ``limit`` bytes.

    Satisfies `Transport`, in front of the client's own.
    """

    def __init__(self, transport: Transport, limit: int, overflow: Callable[[], None]) -> None:
        self._transport = transport
        self._limit = limit
        self._overflow = overflow
        self._waiting: deque[Delivery] = deque()
        self._size = 0
        self._more = asyncio.Event()

    def take(self) -> ChannelMessage | None:
        if not self._waiting:
            return None
        delivery = self._waiting.popleft()
        self._size -= len(delivery)
        each = delivery.publication
        return ChannelMessage(
            delivery.channel,
            each.data,
            each.offset,
            each.epoch,
            delivery.recovered,
            each.tags or {},
            each.info,
            each.binary,
        )

    async def wait(self) -> None:
        """Return when there is something to look at."""
        await self._more.wait()
        self._more.clear()

    def wake(self) -> None:
        self._more.set()

    # — for the hub, and the session —

    def send(self, frame: Any) -> None:
        self._waiting += frame
        self._size += sum(map(len, frame))
        self._more.set()
        if self._size > self._limit:
            # soon, for the fan-out that is writing just now must not be changed under its hands
            asyncio.get_running_loop().call_soon(self._overflow)

    @property
    def write(self) -> Write:
        return self.send

    def behind(self) -> bool:
        return self._transport.behind()

    async def drained(self) -> None:
        await self._transport.drained()

    @property
    def name(self) -> str:
        return self._transport.name

    def waiting(self) -> int:
        return self._size + self._transport.waiting()

    def close(self, reason: Disconnect) -> None:
        self._transport.close(reason)
        self._more.set()
