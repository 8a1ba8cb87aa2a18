"""What is spent of limits on all nodes, in Redis and by its clock: one script for each take."""

import logging
import time
from pathlib import Path

from gateway.errors import BrokerUnavailable
from gateway.limits.base import Budget, Outcome, Rate, outcome
from gateway.recurring import Recurring
from gateway.redis.resp import CommandRefused
from gateway.redis.script import Script
from gateway.redis.shard import ServerNames, Shard

logger = logging.getLogger(__name__)

_LUA = Path(__file__).parent / "lua"
_RATE = Script(_LUA / "rate.lua")
_WINDOW = Script(_LUA / "window.lua")


class RedisLimits:
    """Keeps limits over a ``Shard``, to be made before that is started; it stays the caller's to close.

    A key lasts until its budget is whole again. Its kind is ``r`` for a rate and ``q`` for a window.
    """

    def __init__(self, shard: Shard) -> None:
        self.failures = 0
        self._shard = shard
        self._telling = Recurring(logger, time.monotonic)
        self._servers = ServerNames(shard)
        shard.load(_RATE, _WINDOW)

    async def take(self, name: str, key: str, budget: Budget, cost: int) -> Outcome:
        # The length keeps name "a:b" with key "c" apart from name "a" with key "b:c".
        entry = f"{len(name)}:{name}:{key}"
        try:
            if isinstance(budget, Rate):
                answer = await self._run(_RATE, b"r", entry, budget.interval, budget.burst, cost)
            else:
                answer = await self._run(_WINDOW, b"q", entry, budget.limit, budget.period, cost)
        except BrokerUnavailable as error:
            self._failed(error)
            raise
        self._telling.over("limits", "rate limits and quotas: Redis %s answers again", self._servers)
        allowed, wait, remaining, reset = answer
        return outcome(bool(allowed), wait, remaining, reset)

    async def _run(self, script: Script, kind: bytes, entry: str, *args: int) -> list[int]:
        answer: list[int] = await self._shard.run(script, [self._shard.keys.of(kind, entry)], args)
        return answer

    def _failed(self, error: BrokerUnavailable) -> None:
        """Count, and warn."""
        self.failures += 1
        detail = error.detail if isinstance(error, CommandRefused) else error.message
        text = "rate limits and quotas cannot be checked until Redis %s answers: %s"
        self._telling.happened("limits", text, self._servers, detail)
