"""What virtual nodes share in place of Redis: one memory engine, seen by each as its own."""

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from gateway.blocks.memory import MemoryBlocks
from gateway.brokers.base import Broker, BrokerEvents, Posted, PublishOptions, StreamOptions
from gateway.config.settings import EngineSettings, Settings
from gateway.messages import ClientInfo, Publication, Receipt
from gateway.occupancy.memory import MemoryOccupancy
from gateway.outbox.memory import Kept, MemoryOutbox
from gateway.presence.base import PresenceStore
from gateway.program.engine import Engine


class Exchange:
    """One memory engine, and the nodes that it joins. Satisfies `BrokerEvents`: it passes on to all of them."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._settings = settings.model_copy(update={"engine": EngineSettings(type="memory")})
        self._clock = clock
        self.engine = Engine(self._settings, clock)
        self.nodes: dict[str, ExchangeBroker] = {}
        self.occupied: dict[str, set[str]] = {}
        self._blocks = MemoryBlocks(clock)
        self._outboxes: dict[str, Kept] = {}

    def member(self) -> Engine:
        """The engine of one more node."""
        engine = Engine(self._settings, self._clock)
        engine.broker = ExchangeBroker(self, self.engine.broker)
        engine.presence = _Shared(self.engine.presence)
        engine.leases, engine.limits = self.engine.leases, self.engine.limits
        engine.maps = self.engine.maps
        engine.occupancy = MemoryOccupancy(self.occupied)
        engine.blocks = MemoryBlocks(self._clock, self._blocks)
        if engine.outbox is not None:
            engine.outbox = MemoryOutbox(clock=self._clock, apps=self._outboxes)
        return engine

    async def enter(self, node: str, broker: "ExchangeBroker") -> None:
        if not self.nodes:
            await self.engine.broker.start("", self)
        self.nodes[node] = broker

    def on_publication(self, channel: str, publication: Publication) -> None:
        for node in self.hearing(channel):
            node.events.on_publication(channel, publication)

    def on_join(self, channel: str, info: ClientInfo) -> None:
        for node in self.hearing(channel):
            node.events.on_join(channel, info)

    def on_leave(self, channel: str, info: ClientInfo) -> None:
        for node in self.hearing(channel):
            node.events.on_leave(channel, info)

    def on_control(self, data: bytes) -> None:
        for node in list(self.nodes.values()):
            node.events.on_control(data)

    def on_gap(self) -> None:
        """Memory has none."""

    def hearing(self, channel: str) -> "list[ExchangeBroker]":
        return [node for node in self.nodes.values() if channel in node.channels]


class ExchangeBroker:
    """The broker of one node."""

    events: BrokerEvents

    def __init__(self, exchange: Exchange, inner: Broker) -> None:
        self.channels: set[str] = set()
        self._exchange = exchange
        self._inner = inner
        self._node = ""
        # what has to do with the streams alone is the same for all nodes
        self.publish_join, self.publish_leave = inner.publish_join, inner.publish_leave
        self.history, self.verify, self.remove_history = inner.history, inner.verify, inner.remove_history
        self.health, self.echo = inner.health, inner.echo

    async def start(self, node: str, events: BrokerEvents) -> None:
        self._node, self.events = node, events
        await self._exchange.enter(node, self)

    async def close(self) -> None:
        self._exchange.nodes.pop(self._node, None)

    async def subscribe(self, channel: str) -> None:
        self.channels.add(channel)
        await self._inner.subscribe(channel)  # which hears of every channel that any node hears

    async def unsubscribe(self, channel: str) -> None:
        self.channels.discard(channel)

    async def publish(
        self, channel: str, publication: Publication, stream: StreamOptions, options: PublishOptions
    ) -> Receipt:
        receipt = await self._inner.publish(channel, publication, stream, options)
        return replace(receipt, nodes=len(self._exchange.hearing(channel))) if receipt.nodes else receipt

    def post(self, channel: str, publication: Publication, stream: StreamOptions) -> Posted:
        return self._inner.post(channel, publication, stream)

    async def hearers(self, channels: Sequence[str]) -> list[int]:
        return [len(self._exchange.hearing(channel)) for channel in channels]

    async def publish_control(self, data: bytes, node: str = "") -> None:
        if not node:
            await self._inner.publish_control(data)
        elif (found := self._exchange.nodes.get(node)) is not None:
            found.events.on_control(data)


class _Shared:
    """A presence store that stays when one of its nodes stops."""

    def __init__(self, inner: PresenceStore) -> None:
        self.add, self.remove = inner.add, inner.remove
        self.members, self.page, self.stats = inner.members, inner.page, inner.stats
        self.start = inner.start

    async def close(self) -> None:
        """The others go on."""
