"""One map store of several: each channel is kept by one of them."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from gateway.brokers.base import Claim, HistoryFilter
from gateway.jump import jump
from gateway.maps.base import NO_EXTRAS, MapOptions, MapPage, MapReceipt, MapStore, MapWrite, OptionsOf
from gateway.messages import Position, Publication


class ShardedMaps:
    """Keeps to ``MapStore`` over several, in the order of the brokers that hand on their changes."""

    def __init__(self, stores: Sequence[MapStore]) -> None:
        self._stores = stores

    def _of(self, channel: str) -> MapStore:
        return self._stores[jump(channel, len(self._stores))]

    async def publish(
        self, channel: str, publication: Publication, options: MapOptions, write: MapWrite = NO_EXTRAS
    ) -> MapReceipt:
        return await self._of(channel).publish(channel, publication, options, write)

    async def remove(self, channel: str, key: str, options: MapOptions, write: MapWrite = NO_EXTRAS) -> MapReceipt:
        return await self._of(channel).remove(channel, key, options, write)

    async def read_state(self, channel: str, options: MapOptions, limit: int, cursor: str = "") -> MapPage:
        return await self._of(channel).read_state(channel, options, limit, cursor)

    async def read_key(self, channel: str, options: MapOptions, key: str) -> MapPage:
        return await self._of(channel).read_key(channel, options, key)

    async def read_stream(
        self, channel: str, options: MapOptions, which: HistoryFilter
    ) -> tuple[list[Publication], Position]:
        return await self._of(channel).read_stream(channel, options, which)

    async def verify(self, claims: Sequence[Claim]) -> list[bool]:
        verdicts = [True] * len(claims)
        shares: defaultdict[MapStore, list[int]] = defaultdict(list)
        for number, claim in enumerate(claims):
            shares[self._of(claim.channel)].append(number)

        async def ask(store: MapStore, numbers: list[int]) -> None:
            for number, good in zip(numbers, await store.verify([claims[at] for at in numbers]), strict=True):
                verdicts[number] = good

        await asyncio.gather(*(ask(*share) for share in shares.items()))
        return verdicts

    async def count(self, channel: str) -> int:
        return await self._of(channel).count(channel)

    async def clear(self, channel: str) -> None:
        await self._of(channel).clear(channel)

    async def sweep(self, options_of: OptionsOf) -> None:
        """All of them, also where one is away; raises its failure then."""
        failures = await asyncio.gather(*(each.sweep(options_of) for each in self._stores), return_exceptions=True)
        for failure in failures:
            if failure is not None:
                raise failure
