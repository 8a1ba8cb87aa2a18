"""Asking the servers of a Redis Cluster who owns what."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from gateway.config.settings import RedisSettings
from gateway.errors import BrokerUnavailable
from gateway.redis.connection import RedisConnection, connect
from gateway.redis.endpoint import Endpoint
from gateway.redis.resp import CommandRefused
from gateway.redis.topology import Address, Topology, read_topology


class Views:
    """What servers answer. ``unfit`` says why one cannot be used, empty if none is known."""

    def __init__(self, settings: RedisSettings) -> None:
        self.unfit = ""
        self._settings = settings

    async def gather(self, asking: Iterable[Awaitable[Topology]]) -> list[Topology]:
        answers = await asyncio.gather(*asking, return_exceptions=True)
        for failure in answers:
            if isinstance(failure, BaseException) and not isinstance(failure, (OSError, BrokerUnavailable)):
                raise failure
        return [answer for answer in answers if isinstance(answer, Topology)]

    async def ask(self, endpoint: Endpoint) -> Topology:
        """Over a connection of its own."""
        make = partial(RedisConnection, self._settings.io_timeout)
        name = f"{self._settings.prefix}-topology"
        connection = await connect(endpoint, make, name, self._settings.connect_timeout)
        try:
            with suppress(CommandRefused):
                if await connection.execute("COMMAND", "INFO", "SSUBSCRIBE") == [None]:
                    self.unfit = (
                        f"the Redis Cluster at {endpoint.host}:{endpoint.port} is older than Redis 7.0 and has no "
                        "sharded pub/sub; update it, or list independent servers as shards, for example "
                        'engine.redis.address = ["redis://a:6379", "redis://b:6379"]'
                    )
                    raise BrokerUnavailable
            return await self.view(connection.execute, (endpoint.host, endpoint.port))
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
