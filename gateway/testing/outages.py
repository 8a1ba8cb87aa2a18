"""Nodes that lose the broker, and what else lies there: presence, leases, limits."""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

from gateway.blocks.base import BlockEvents, BlockStore
from gateway.brokers.base import Broker, BrokerEvents, BrokerHealth
from gateway.errors import BrokerUnavailable
from gateway.messages import ClientInfo, Publication


class Link:
    """One node's connection to the broker."""

    def __init__(self) -> None:
        self.down = False
        """Calls fail, and nothing is delivered."""
        self.deaf = False
        """Calls succeed, but nothing is delivered."""
        self.on_return: list[Callable[[], None]] = []
        self.excluding: set[tuple[str, int]] = set()
        """Publications that are not for everybody here, by channel and offset."""

    @property
    def hears(self) -> bool:
        return not (self.down or self.deaf)

    def restore(self) -> None:
        heard, self.down, self.deaf = self.hears, False, False
        if not heard:
            for call in self.on_return:
                call()


class BrokerSwitch:
    """``kit.broker``: takes the broker away from all nodes of a kit, or from one, and gives it back."""

    def __init__(self, links: Sequence[Link]) -> None:
        self._links = links

    def kill(self, node: int | None = None) -> None:
        """From now on calls raise ``BrokerUnavailable``, and nothing is delivered."""
        for link in self._chosen(node):
            link.down = True

    def deafen(self, node: int | None = None) -> None:
        """From now on publications are accepted and stored as ever, but not delivered."""
        for link in self._chosen(node):
            link.deaf = True

    def restore(self, node: int | None = None) -> None:
        """The broker is back. Nodes look whether their positioned subscribers have missed something."""
        for link in self._chosen(node):
            link.restore()

    def _chosen(self, node: int | None) -> Sequence[Link]:
        return self._links if node is None else [self._links[node]]


class Linked:
    """Something of the engine, whose calls fail while the link is down."""

    def __init__(self, inner: Any, link: Link) -> None:
        self._inner = inner
        self._link = link

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not iscoroutinefunction(found) or name in ("start", "close"):
            return found

        @wraps(found)
        async def call(*args: Any, **options: Any) -> Any:
            if self._link.down:
                raise BrokerUnavailable
            return await found(*args, **options)

        return call


class LinkedBroker(Linked):
    """A broker behind a link, which delivers only while the node hears."""

    _inner: Broker

    async def start(self, node: str, events: BrokerEvents) -> None:
        self._link.on_return.append(events.on_gap)
        await self._inner.start(node, _Ear(events, self._link))

    def health(self) -> BrokerHealth:
        if self._link.hears:
            return self._inner.health()
        return BrokerHealth(connected=not self._link.down, deaf=True)


class LinkedBlocks(Linked):
    """A block list behind a link: a node reads it again when it hears again."""

    _inner: BlockStore

    async def start(self, events: BlockEvents) -> None:
        self._link.on_return.append(self._inner.reload)
        await self._inner.start(_BlockEar(events, self._link))


class _BlockEar:
    """What a node hears of blocks while it hears. Satisfies `BlockEvents`."""

    def __init__(self, events: BlockEvents, link: Link) -> None:
        self._events = events
        self._link = link

    def on_list(self, users: Mapping[str, float]) -> None:
        if self._link.hears:
            self._events.on_list(users)

    def on_block(self, user: str, seconds: float) -> None:
        if self._link.hears:
            self._events.on_block(user, seconds)

    def on_unblock(self, user: str) -> None:
        if self._link.hears:
            self._events.on_unblock(user)


class _Ear:
    """A node's events while it hears. Satisfies `BrokerEvents`."""

    def __init__(self, events: BrokerEvents, link: Link) -> None:
        self._events = events
        self._link = link

    def on_publication(self, channel: str, publication: Publication) -> None:
        if publication.exclude:
            self._link.excluding.add((channel, publication.offset))
        if self._link.hears:
            self._events.on_publication(channel, publication)

    def on_join(self, channel: str, info: ClientInfo) -> None:
        if self._link.hears:
            self._events.on_join(channel, info)

    def on_leave(self, channel: str, info: ClientInfo) -> None:
        if self._link.hears:
            self._events.on_leave(channel, info)

    def on_control(self, data: bytes) -> None:
        if self._link.hears:
            self._events.on_control(data)

    def on_gap(self) -> None:
        self._events.on_gap()
