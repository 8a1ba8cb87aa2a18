"""The master of a group that sentinels watch over, as a shard: whoever it is.

Protocol: Redis Sentinel client specification. Sentinels are asked before each attempt to connect, every few seconds,
and when they tell of a switch; who answers must say by ROLE that it is the master.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import cycle
from typing import TypeVar

from msgspec.structs import replace

from gateway.config.settings import RedisSettings
from gateway.errors import BrokerUnavailable
from gateway.health import ServerHealth
from gateway.redis.address import SentinelGroup
from gateway.redis.connection import RedisConnection, SubscriberConnection, connect
from gateway.redis.endpoint import Endpoint
from gateway.redis.refusals import Refusals
from gateway.redis.resp import CommandRefused, Handler
from gateway.redis.server import Server

logger = logging.getLogger(__name__)

ASK = 5.0
"""Seconds between questions for the master; of a switch sentinels tell at once, if somebody listens."""

RETRY = 1.0
"""Seconds until another sentinel is listened to."""

_SWITCH = b"+switch-master"

_Connection = TypeVar("_Connection", bound=RedisConnection)


class SentinelShard(Server):
    """A ``Server`` that may become another one."""

    def __init__(self, settings: RedisSettings, group: SentinelGroup) -> None:
        super().__init__(settings, group.master)
        self._group = group
        self._sentinels = {
            each: Refusals(partial(str, f"sentinel {each}"), self._refusals.counts) for each in group.sentinels
        }
        self._look = asyncio.Event()

    async def start(self) -> None:
        await super().start()
        self._tasks += [asyncio.create_task(self._watch()), asyncio.create_task(self._listen())]

    def health(self) -> list[ServerHealth]:
        """That of the master; if nothing is wrong with it, what a sentinel refuses."""
        [health] = super().health()
        for refusals in self._sentinels.values():
            if not health.refusal:
                health = refusals.shown_in(health)
        return [health]

    @property
    def _label(self) -> str:
        return self._group.master_name

    @property
    def _place(self) -> str:
        known = self.endpoint is not self._group.master
        return f"{self._label} ({self.endpoint})" if known else self._label

    # — where it is —

    async def _locate(self) -> Endpoint:
        """Whom most of the sentinels that answer name. Raises ``OSError``."""
        answers = await asyncio.gather(*(self._ask(each) for each in self._group.sentinels), return_exceptions=True)
        named = Counter(answer for answer in answers if isinstance(answer, tuple))
        if not named:
            raise ConnectionError(self._complaint(answers))
        [((host, port), _)] = named.most_common(1)
        return replace(self._group.master, host=host, port=port)

    def _complaint(self, answers: list[tuple[str, int] | BaseException | None]) -> str:
        """Why nobody names a master."""
        name, sentinels = self._group.master_name, ", ".join(map(str, self._group.sentinels))
        if any(answer is None for answer in answers):
            return f"no sentinel of {sentinels} knows a master {name}; is sentinel_master_name right?"
        reasons = {getattr(answer, "detail", "") or str(answer) or repr(answer) for answer in answers}
        return f"no sentinel of {sentinels} answers ({'; '.join(sorted(reasons))})"

    async def _ask(self, sentinel: Endpoint) -> tuple[str, int] | None:
        """The address of the master, None if the sentinel does not know such a name."""
        make = partial(RedisConnection, self._settings.io_timeout, self._sentinels[sentinel])
        connection = await self._open(sentinel, make)
        try:
            answer = await connection.execute("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._group.master_name)
        finally:
            await connection.close("asked")
        return (answer[0].decode(), int(answer[1])) if answer else None

    async def _open(self, sentinel: Endpoint, make: Callable[[], _Connection]) -> _Connection:
        name = f"{self._settings.prefix}-sentinel"
        return await connect(sentinel, make, name, self._settings.connect_timeout)

    async def _connect(self, name: str, make: Callable[[], _Connection]) -> _Connection:
        connection = await super()._connect(name, make)
        try:
            await self._check_role(connection)
        except BaseException:
            await connection.close("no master")
            raise
        return connection

    async def _check_role(self, connection: RedisConnection) -> None:
        """Raises ``ConnectionError`` for a server that is no master."""
        with suppress(CommandRefused):  # who may not ask finds out by the first write
            role = await connection.execute("ROLE", optional=True)
            if role[0] != b"master":
                raise ConnectionError(f"the sentinels name {self.endpoint}, which is a {role[0].decode()}")

    # — whether it is still there —

    async def _watch(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(ASK):
                    await self._look.wait()
            self._look.clear()
            try:
                await self._check_master()
            except (BrokerUnavailable, OSError) as error:
                logger.debug("the master cannot be checked: %s", error)
            except Exception:  # a supervisor that dies leaves the node with a former master
                logger.exception("the master could not be checked")

    async def _check_master(self) -> None:
        """Leave a server that is not the master any more."""
        endpoint = await self._locate()
        if (endpoint.host, endpoint.port) != (self.endpoint.host, self.endpoint.port):
            self._drop_both(f"the sentinels name {endpoint} as the master")
        elif (connection := self._commands.connection) is not None:
            try:
                await self._check_role(connection)
            except ConnectionError as error:
                self._drop_both(str(error))

    async def _listen(self) -> None:
        """Hear of a switch at once, from one sentinel after the other."""
        for sentinel in cycle(self._group.sentinels):
            with suppress(BrokerUnavailable, OSError):
                refusals = self._sentinels[sentinel]
                handlers: dict[bytes, Handler] = {_SWITCH: self._switched}
                make = partial(SubscriberConnection, self._settings.io_timeout, handlers, refusals=refusals)
                connection = await self._open(sentinel, make)
                try:
                    await connection.execute("SUBSCRIBE", _SWITCH)
                    await asyncio.shield(connection.closed)
                finally:
                    await connection.close("stopping")
            await asyncio.sleep(RETRY)

    def _switched(self, news: bytes) -> None:
        if news.split(b" ")[0].decode() == self._group.master_name:
            self._look.set()
