"""Limits that are kept by several stores: what one key has spent by one of them."""

from collections.abc import Sequence

from gateway.jump import jump
from gateway.limits.base import Budget, LimitStore, Outcome


class ShardedLimits:
    """Keeps to ``LimitStore`` over several, which must be the same, in the same order, on all nodes."""

    def __init__(self, stores: Sequence[LimitStore]) -> None:
        self._stores = stores

    @property
    def failures(self) -> int:
        return sum(store.failures for store in self._stores)

    async def take(self, name: str, key: str, budget: Budget, cost: int) -> Outcome:
        return await self._stores[jump(key, len(self._stores))].take(name, key, budget, cost)
