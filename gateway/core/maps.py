"""Maps on a node: how each channel keeps its own, checks of positions in them, and the sweep of overdue keys."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from gateway.brokers.base import Claim, StreamOptions
from gateway.brokers.publish_queue import PublishQueue
from gateway.channels import Channel, Channels
from gateway.core.cluster import UnsubscribeUser
from gateway.core.hub import Hub
from gateway.core.wheel import Wheel
from gateway.errors import BrokerUnavailable, Error, ErrorCode, UnsubscribeCode
from gateway.maps.base import NO_EXTRAS, MapOptions, MapReceipt, MapStore, MapWrite
from gateway.messages import Publication

SWEEP_INTERVAL = 1.0
"""Seconds between two sweeps: so long may a key be seen after its time."""

log = logging.getLogger(__name__)


class Streams(Protocol):
    """The part of a broker that is asked about all other channels."""

    async def verify(self, claims: Sequence[Claim]) -> list[bool]: ...


class Maps:
    """The store, and what a node does about it.

    ``spawn`` runs work that nobody waits for; ``accepted`` counts what has been published.
    """

    def __init__(
        self,
        store: MapStore | None,
        hub: Hub,
        streams: Streams,
        queue: PublishQueue,
        channels: Channels,
        options: Callable[[Channel], StreamOptions],
        wheel: Wheel,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        accepted: Callable[[Channel], None],
    ) -> None:
        self._store = store
        self._hub = hub
        self._streams = streams
        self._queue = queue
        self._channels = channels
        self._options = options
        self._wheel = wheel
        self._spawn = spawn
        self._accepted = accepted
        self._used = False

    @property
    def store(self) -> MapStore:
        """Raises ``Error`` (not available) where the engine keeps none."""
        if self._store is None:
            raise Error(ErrorCode.NOT_AVAILABLE)
        return self._store

    def options(self, channel: Channel) -> MapOptions:
        """How the channel keeps its map. Raises ``Error`` (bad request) for one that is none."""
        found = self._options(channel)
        if not isinstance(found, MapOptions):
            raise Error(ErrorCode.BAD_REQUEST, "bad request: the channel is no map")
        return found

    async def publish(self, channel: Channel, publication: Publication, write: MapWrite = NO_EXTRAS) -> MapReceipt:
        """As `MapStore.publish`, in a channel that is one. While the broker is away it waits, as publications do."""
        size = len(publication.key) + len(publication.data)
        once, options = bool(write.idempotency_key), self.options(channel)
        receipt = await self._queue.run(once, size, self.store.publish, channel.name, publication, options, write)
        return self._written(channel, receipt)

    async def remove(self, channel: Channel, key: str, write: MapWrite = NO_EXTRAS) -> MapReceipt:
        """As `MapStore.remove`, in a channel that is one. It waits just so."""
        once, options = bool(write.idempotency_key), self.options(channel)
        receipt = await self._queue.run(once, len(key), self.store.remove, channel.name, key, options, write)
        return self._written(channel, receipt)

    async def show(self, channel: Channel, publication: Publication, write: MapWrite) -> None:
        """Publish, or fail at once: what a node says again by itself must not wait among what others publish."""
        self._written(channel, await self.store.publish(channel.name, publication, self.options(channel), write))

    async def hide(self, channel: Channel, key: str) -> None:
        """Remove, or fail at once."""
        self._written(channel, await self.store.remove(channel.name, key, self.options(channel)))

    def _written(self, channel: Channel, receipt: MapReceipt) -> MapReceipt:
        if not receipt.suppressed:
            self._accepted(channel)
        return receipt

    def cleared(self, channel: str) -> None:
        """A map has been cleared: have those who have loaded it do so again."""
        code = UnsubscribeCode.STATE_INVALIDATED
        for subscriber in self._hub.everybody(channel):
            client = subscriber.connection.client
            command = UnsubscribeUser(client=client, channel=channel, code=code, reason=code.reason)
            subscriber.connection.control(command)

    # — positions —

    async def verify(self, claims: Sequence[Claim]) -> list[bool]:
        """Those in maps are for the store to check, all others for the broker."""
        maps = [number for number, claim in enumerate(claims) if isinstance(claim.stream, MapOptions)]
        if not maps or self._store is None:
            return await self._streams.verify(claims)
        chosen = set(maps)
        others = [number for number in range(len(claims)) if number not in chosen]
        verdicts = [True] * len(claims)
        answers = await asyncio.gather(
            self._store.verify([claims[number] for number in maps]),
            self._streams.verify([claims[number] for number in others]),
            return_exceptions=True,
        )
        for numbers, found in zip((maps, others), answers, strict=True):
            if isinstance(found, BaseException):
                if not isinstance(found, BrokerUnavailable):
                    raise found
                continue  # nobody can tell
            for number, good in zip(numbers, found, strict=True):
                verdicts[number] = good
        return verdicts

    # — the sweep —

    def start(self) -> None:
        self.reload()
        self._wheel.after(SWEEP_INTERVAL, self._tick)

    def reload(self) -> None:
        """The options of channels may be others now."""
        self._used = any(each.is_map for each in self._channels.all_options())

    def _tick(self) -> None:
        if self._used and self._store is not None:
            self._spawn(self._sweep(self._store))
        else:
            self._wheel.after(SWEEP_INTERVAL, self._tick)

    async def _sweep(self, store: MapStore) -> None:
        try:
            await store.sweep(self._known)
        except BrokerUnavailable:
            log.debug("keys of maps are removed when the broker has come back")
        except Exception:  # who does not sweep again leaves keys for ever
            log.exception("a sweep of maps failed")
        finally:
            self._wheel.after(SWEEP_INTERVAL, self._tick)

    def _known(self, name: str) -> MapOptions | None:
        try:
            return self.options(self._channels.resolve(name))
        except Error:  # a name that only another node's settings know
            return None
