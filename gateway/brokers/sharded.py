"""One broker of several: each channel is kept by one of them, and what is for nodes goes by all."""

import asyncio
import secrets
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Awaitable, Sequence

from msgspec.structs import replace

from gateway.brokers.base import (
    Broker,
    BrokerEvents,
    BrokerHealth,
    Claim,
    HistoryFilter,
    Posted,
    PublishOptions,
    StreamOptions,
)
from gateway.errors import BrokerUnavailable
from gateway.jump import jump
from gateway.messages import ClientInfo, Position, Publication, Receipt
from gateway.metrics import Reads

STAMP = 8
"""Bytes before a message for nodes, by which those are told apart that arrive by several brokers."""

REMEMBERED = 8192
"""Stamps. A copy that comes by a slow broker comes within seconds."""


def stamped(data: bytes) -> bytes:
    """A message for nodes, to be sent by each broker."""
    return secrets.token_bytes(STAMP) + data


class ShardedBroker:
    """Keeps to ``Broker`` over several, which must be the same, in the same order, on all nodes."""

    def __init__(self, brokers: Sequence[Broker]) -> None:
        self._brokers = brokers
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._events: BrokerEvents | None = None

    def _of(self, channel: str) -> Broker:
        return self._brokers[jump(channel, len(self._brokers))]

    async def start(self, node: str, events: BrokerEvents) -> None:
        self._events = events
        await asyncio.gather(*(broker.start(node, self) for broker in self._brokers))

    async def close(self) -> None:
        await asyncio.gather(*(broker.close() for broker in self._brokers))
        self._events = None

    def subscribe(self, channel: str) -> Awaitable[None]:
        return self._of(channel).subscribe(channel)

    def unsubscribe(self, channel: str) -> Awaitable[None]:
        return self._of(channel).unsubscribe(channel)

    async def hearers(self, channels: Sequence[str]) -> list[int]:
        counts = [0] * len(channels)
        for broker, numbers in self._shares(channels).items():
            found = await broker.hearers([channels[number] for number in numbers])
            for number, count in zip(numbers, found, strict=True):
                counts[number] = count
        return counts

    async def publish(
        self, channel: str, publication: Publication, stream: StreamOptions, options: PublishOptions
    ) -> Receipt:
        return await self._of(channel).publish(channel, publication, stream, options)

    def post(self, channel: str, publication: Publication, stream: StreamOptions) -> Posted:
        return self._of(channel).post(channel, publication, stream)

    async def echo(self) -> None:
        await asyncio.gather(*(broker.echo() for broker in self._brokers))

    async def publish_join(self, channel: str, info: ClientInfo) -> None:
        await self._of(channel).publish_join(channel, info)

    async def publish_leave(self, channel: str, info: ClientInfo) -> None:
        await self._of(channel).publish_leave(channel, info)

    def history(
        self, channel: str, which: HistoryFilter, stream: StreamOptions
    ) -> Awaitable[tuple[list[Publication], Position]]:
        return self._of(channel).history(channel, which, stream)

    async def verify(self, claims: Sequence[Claim]) -> list[bool]:
        """Those of a broker that is away cannot be told; the others are."""
        verdicts = [True] * len(claims)

        async def ask(broker: Broker, numbers: list[int]) -> None:
            for number, good in zip(numbers, await broker.verify([claims[at] for at in numbers]), strict=True):
                verdicts[number] = good

        shares = self._shares([claim.channel for claim in claims])
        answers = await asyncio.gather(*(ask(*share) for share in shares.items()), return_exceptions=True)
        failures = [answer for answer in answers if answer is not None]
        for failure in failures:
            if not isinstance(failure, BrokerUnavailable) or len(failures) == len(shares):
                raise failure
        return verdicts

    async def remove_history(self, channel: str) -> None:
        await self._of(channel).remove_history(channel)

    async def publish_control(self, data: bytes, node: str = "") -> None:
        """By all of them, of which one is enough."""
        message = stamped(data)
        sending = (broker.publish_control(message, node) for broker in self._brokers)
        failures = [each for each in await asyncio.gather(*sending, return_exceptions=True) if each is not None]
        if len(failures) == len(self._brokers):
            raise failures[0]

    def health(self) -> BrokerHealth:
        """As good as the worst of them."""
        each = [broker.health() for broker in self._brokers]
        return BrokerHealth(
            all(health.connected for health in each),
            any(health.deaf for health in each),
            max(health.lag for health in each),
            sum(health.reconnects for health in each),
            next((health.refusal for health in each if health.refusal), ""),
            tuple(
                replace(server, shard=str(number)) for number, health in enumerate(each) for server in health.servers
            ),
            sum((Counter(health.refused) for health in each), Counter()),
            sum((health.reads for health in each), Reads()),
        )

    def _shares(self, channels: Sequence[str]) -> dict[Broker, list[int]]:
        """Which channels, by number, each broker has."""
        shares: defaultdict[Broker, list[int]] = defaultdict(list)
        for number, channel in enumerate(channels):
            shares[self._of(channel)].append(number)
        return shares

    # — from the brokers —

    def on_publication(self, channel: str, publication: Publication) -> None:
        self._told().on_publication(channel, publication)

    def on_join(self, channel: str, info: ClientInfo) -> None:
        self._told().on_join(channel, info)

    def on_leave(self, channel: str, info: ClientInfo) -> None:
        self._told().on_leave(channel, info)

    def on_control(self, data: bytes) -> None:
        stamp = data[:STAMP]
        if stamp not in self._seen:
            self._seen[stamp] = None
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
            self._told().on_control(data[STAMP:])

    def on_gap(self) -> None:
        self._told().on_gap()

    def _told(self) -> BrokerEvents:
        assert self._events is not None, "start() comes first"
        return self._events
