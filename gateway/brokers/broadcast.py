"""The broker of many nodes over any backend of the library `broadcaster`: at most once, and nothing is kept.

A node hears its own publications through the backend too, like those of all others.
"""

import time
from collections.abc import Callable, Sequence

from msgspec import DecodeError

from gateway.batches import batches
from gateway.broadcast.peers import Peers
from gateway.brokers import envelope
from gateway.brokers.base import (
    BrokerEvents,
    BrokerHealth,
    Claim,
    HistoryFilter,
    Posted,
    PublishOptions,
    StreamOptions,
    outgoing,
)
from gateway.errors import BrokerUnavailable, Error, ErrorCode
from gateway.messages import ClientInfo, Position, Publication, Receipt, pack, unpacker

CHANNEL, CONTROL = "m", "c"
"""Kinds of messages: to a channel's subscribers; to all nodes, or to that of the name."""

HEARING = "hearing"
"""Kind of the question which of some channels a node hears."""

UNKNOWN = -1
"""How many nodes took a publication: no backend tells."""

AT_ONCE = 1000
"""Channels asked about in one message."""

NO_HISTORY = 'not available: engine.type = "broadcaster" keeps no history; "redis" and "memory" do'
NO_RESULTS = (
    'not available: engine.type = "broadcaster" does not remember idempotency keys, so that a repeat would be '
    'published twice; leave the key out, or let engine.type = "redis" join the nodes'
)

_names = unpacker(list[str]).decode
_numbers = unpacker(list[int]).decode


class BroadcastBroker:
    """Carries publications over the started ``Line`` of the peers, which stays the caller's to close."""

    def __init__(self, peers: Peers, clock: Callable[[], float] = time.time) -> None:
        self._line = peers.line
        self._peers = peers
        self._clock = clock
        self._reader = envelope.Reader()
        self._node = ""
        self._channels: set[str] = set()
        self._events: BrokerEvents | None = None
        peers.asked[HEARING] = self._hearing

    async def start(self, node: str, events: BrokerEvents) -> None:
        self._node, self._events = node, events
        self._line.on_reconnect.append(events.on_gap)
        for name in ("", node):
            self._line.handlers[CONTROL, name] = events.on_control

    async def close(self) -> None:
        if self._events is None:
            return
        self._line.on_reconnect.remove(self._events.on_gap)
        self._events = None
        for name in ("", self._node):
            self._line.handlers.pop((CONTROL, name), None)
        for channel in self._channels:
            self._line.handlers.pop((CHANNEL, channel), None)
        self._channels.clear()

    async def subscribe(self, channel: str) -> None:
        """Everything is heard, from the time when the line is there: nothing has to be confirmed."""
        events = self._events
        assert events is not None, "start() comes first"
        if not self._line.connected:
            raise BrokerUnavailable
        self._channels.add(channel)
        self._line.handlers[CHANNEL, channel] = lambda data: self._reader.deliver(events, channel, data)

    async def unsubscribe(self, channel: str) -> None:
        self._channels.discard(channel)
        self._line.handlers.pop((CHANNEL, channel), None)

    async def hearers(self, channels: Sequence[str]) -> list[int]:
        """Asked of all nodes; those that do not answer in time are not counted."""
        counts: list[int] = []
        for some in batches(channels, AT_ONCE):
            answers = await self._peers.ask(HEARING, pack(list(some)))
            heard = [0] * len(some)
            for answer in answers.of.values():
                for index in _numbers(answer):
                    heard[index] += 1
            counts += heard
        return counts

    async def publish(
        self, channel: str, publication: Publication, stream: StreamOptions, options: PublishOptions
    ) -> Receipt:
        if options.idempotency_key:
            raise Error(ErrorCode.NOT_AVAILABLE, NO_RESULTS)
        assert not options.fence, "who needs a lease has been refused at the start"
        data = pack(outgoing(publication, stream, options, self._clock()))
        await self._line.publish(CHANNEL, channel, envelope.WITHOUT_OFFSET + data)
        return Receipt(nodes=UNKNOWN)

    def post(self, channel: str, publication: Publication, stream: StreamOptions) -> Posted:
        return False

    async def echo(self) -> None:
        await self._line.echo()

    async def publish_join(self, channel: str, info: ClientInfo) -> None:
        await self._line.publish(CHANNEL, channel, envelope.JOIN + pack(info))

    async def publish_leave(self, channel: str, info: ClientInfo) -> None:
        await self._line.publish(CHANNEL, channel, envelope.LEAVE + pack(info))

    async def history(
        self, channel: str, which: HistoryFilter, stream: StreamOptions
    ) -> tuple[list[Publication], Position]:
        raise Error(ErrorCode.NOT_AVAILABLE, NO_HISTORY)

    async def verify(self, claims: Sequence[Claim]) -> list[bool]:
        return [True] * len(claims)  # there are no streams, and so no positions

    async def remove_history(self, channel: str) -> None:
        raise Error(ErrorCode.NOT_AVAILABLE, NO_HISTORY)

    async def publish_control(self, data: bytes, node: str = "") -> None:
        await self._line.publish(CONTROL, node, data)

    def health(self) -> BrokerHealth:
        line = self._line
        return BrokerHealth(line.connected, line.deaf, line.lag, line.reconnects, line.refusal)

    def _hearing(self, data: bytes) -> bytes:
        try:
            names = _names(data)
        except DecodeError:
            names = []
        return pack([index for index, name in enumerate(names) if name in self._channels])
