"""Asking the servers of a Redis Cluster who owns what."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from gateway.config.settings import RedisSettings
from gateway.errors import BrokerUnavailable
from gateway.recurring import Recurring
from gateway.redis.connection import RedisConnection, connect
from gateway.redis.endpoint import Endpoint
from gateway.redis.refusals import Refusals
from gateway.redis.resp import CommandRefused
from gateway.redis.topology import Address, Topology, read_topology

logger = logging.getLogger(__name__)


class Views:
    """What servers answer."""

    def __init__(self, settings: RedisSettings, seeds: Sequence[Endpoint], counts: Counter[str]) -> None:
        self.unfit = ""
        """Why one cannot be used as a cluster; empty if none is known."""
        self.problem = ""
        """Why nobody tells; empty while somebody does."""
        self.asked: dict[Address, Refusals] = {}
        """What those refuse that are asked over a connection of its own."""
        self._settings = settings
        self._names = ", ".join(map(str, seeds))
        self._telling = Recurring(logger, time.monotonic)
        self._counts = counts

    async def gather(self, asking: Iterable[Awaitable[Topology]]) -> list[Topology]:
        answers = await asyncio.gather(*asking, return_exceptions=True)
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        for failure in failures:
            if not isinstance(failure, (OSError, BrokerUnavailable)):
                raise failure
        views = [answer for answer in answers if isinstance(answer, Topology)]
        if failures and not views:
            self._complain(failures)
        elif views:
            self._telling.over("away", "Redis Cluster %s: answers", self._names)
            self.problem = self.unfit = ""
        return views

    def _complain(self, failures: Sequence[BaseException]) -> None:
        """Tell why nobody tells who owns what."""
        reasons = {getattr(failure, "detail", "") or str(failure) or repr(failure) for failure in failures}
        problem = self.unfit or "; ".join(sorted(reasons))
        told = any(refusals.present for refusals in self.asked.values())
        if not told:
            text = "Redis Cluster %s: %s; trying again until it works"
            self._telling.happened("away", text, self._names, problem, reason=problem)
        self.problem = problem

    async def ask(self, endpoint: Endpoint) -> Topology:
        """Over a connection of its own."""
        address = (endpoint.host, endpoint.port)
        refusals = self.asked.setdefault(address, Refusals(partial(str, endpoint), self._counts))
        make = partial(RedisConnection, self._settings.io_timeout, refusals)
        name = f"{self._settings.prefix}-topology"
        connection = await connect(endpoint, make, name, self._settings.connect_timeout)
        try:
            with suppress(CommandRefused):
                if await connection.execute("COMMAND", "INFO", "SSUBSCRIBE") == [None]:
                    self.unfit = (
                        f"the Redis Cluster at {endpoint} is older than Redis 7.0 and has no "
                        "sharded pub/sub; update it, or list independent servers as shards, for example "
                        'engine.redis.address = ["redis://a:6379", "redis://b:6379"]'
                    )
                    raise BrokerUnavailable
            return await self.view(connection.execute, address)
        finally:
            await connection.close("asked")

    async def view(self, execute: Callable[..., asyncio.Future[Any]], asked: Address) -> Topology:
        try:
            return read_topology(*await asyncio.gather(execute("CLUSTER", "INFO"), execute("CLUSTER", "SLOTS")), asked)
        except CommandRefused as refused:
            if "cluster support disabled" in refused.detail:
                self.unfit = (
                    f"the Redis server at {asked[0]}:{asked[1]} is no part of a cluster; write its address as "
                    f"redis://{asked[0]}:{asked[1]}"
                )
            raise
