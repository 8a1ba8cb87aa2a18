"""A connection that is made again whenever it breaks."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from gateway.redis.connection import RedisConnection, unavailable
from gateway.redis.resp import LASTING, Argument, CommandRefused

logger = logging.getLogger(__name__)

MIN_BACKOFF = 0.05
MAX_BACKOFF = 2.0

_Connection = TypeVar("_Connection", bound=RedisConnection)


class Link(Generic[_Connection]):
    """A connection that is made again whenever it breaks, for as long as ``run`` runs."""

    def __init__(
        self, name: Callable[[], str], open_: Callable[[], Awaitable[_Connection]], changed: Callable[[], None]
    ) -> None:
        self._name = name
        self._open = open_
        self._changed = changed
        self._problem = ""
        self._refused = ""
        self._connection: _Connection | None = None
        self.attempted = asyncio.Event()
        self.connects = 0

    @property
    def connected(self) -> bool:
        return self._connection is not None and not self._connection.closed.done()

    @property
    def connection(self) -> _Connection | None:
        return self._connection

    @property
    def refusal(self) -> str:
        """What the server refuses and is likely to refuse again: to let us in, or a command. Empty if nothing."""
        return self._refused if self._connection is None else self._connection.refusal

    def execute(self, *command: Argument, replies: int = 1) -> asyncio.Future[Any]:
        """Send a command; the answer is ``BrokerUnavailable`` if the connection is away."""
        return unavailable() if self._connection is None else self._connection.execute(*command, replies=replies)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            started = loop.time()
            try:
                self._connection = await self._open()
                self._restored()
                self._lost(await asyncio.shield(self._connection.closed))
            except CommandRefused as exc:
                self._lost(exc.detail, exc.redis_code if exc.redis_code in LASTING else "")
            except Exception as exc:  # a supervisor that dies leaves the node deaf for ever
                self._lost(str(exc) or repr(exc))
            finally:
                if self._connection is not None:
                    await self._connection.close("closed")
                self._connection = None
            # One that dies young, say of READONLY, counts as a failure to connect.
            failures = 0 if loop.time() - started > MAX_BACKOFF else failures + 1
            await asyncio.sleep(random.uniform(0.5, 1.0) * min(MAX_BACKOFF, MIN_BACKOFF * 2**failures))  # noqa: S311

    def _restored(self) -> None:
        logger.log(logging.WARNING if self._problem else logging.INFO, "Redis %s: connected", self._name())
        self._problem = self._refused = ""
        self.connects += 1
        self.attempted.set()
        self._changed()

    def _lost(self, problem: str, refused: str = "") -> None:
        if problem != self._problem:
            logger.warning("Redis %s: %s; trying again until it works", self._name(), problem)
        self._problem, self._refused = problem, refused
        self.attempted.set()
