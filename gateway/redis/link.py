"""A connection that is made again whenever it breaks."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from gateway.errors import SettingsError
from gateway.recurring import Recurring
from gateway.redis.connection import RedisConnection, unavailable
from gateway.redis.refusals import Refusals
from gateway.redis.resp import Argument, CommandRefused

logger = logging.getLogger(__name__)

MIN_BACKOFF = 0.05
MAX_BACKOFF = 2.0

_Connection = TypeVar("_Connection", bound=RedisConnection)


class Link(Generic[_Connection]):
    """A connection that is made again whenever it breaks, for as long as ``run`` runs."""

    def __init__(
        self,
        name: Callable[[], str],
        open_: Callable[[], Awaitable[_Connection]],
        changed: Callable[[], None],
        refusals: Refusals,
    ) -> None:
        """``refusals`` of the server have been told to the log already."""
        self._name = name
        self._open = open_
        self._changed = changed
        self._refusals = refusals
        self.problem = ""
        """Why there is no connection; empty if there is one."""
        self._telling = Recurring(logger, time.monotonic)
        self._quiet = False
        self.connection: _Connection | None = None
        self.attempted = asyncio.Event()
        self.connects = 0

    @property
    def connected(self) -> bool:
        return self.connection is not None and not self.connection.closed.done()

    def execute(self, *command: Argument, replies: int = 1) -> asyncio.Future[Any]:
        """Send a command; the answer is ``BrokerUnavailable`` if the connection is away."""
        return unavailable() if self.connection is None else self.connection.execute(*command, replies=replies)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            started = loop.time()
            try:
                self.connection = await self._open()
                self._restored()
                self._lost(await asyncio.shield(self.connection.closed))
            except CommandRefused as exc:
                self._lost(exc.detail)
            except SettingsError as exc:  # told by whoever starts it, if it is the first thing that is found
                self._lost(str(exc), quiet=not self.attempted.is_set())
            except Exception as exc:  # a supervisor that dies leaves the node deaf for ever
                self._lost(str(exc) or repr(exc))
            finally:
                if self.connection is not None:
                    await self.connection.close("closed")
                self.connection = None
            # One that dies young, say of READONLY, counts as a failure to connect.
            failures = 0 if loop.time() - started > MAX_BACKOFF else failures + 1
            await asyncio.sleep(random.uniform(0.5, 1.0) * min(MAX_BACKOFF, MIN_BACKOFF * 2**failures))  # noqa: S311

    def _restored(self) -> None:
        known = self._telling.over("away", "Redis %s: connected", self._name())
        if not (known or self._quiet):
            logger.info("Redis %s: connected", self._name())
        self.problem = ""
        self.connects += 1
        self.attempted.set()
        self._changed()

    def _lost(self, problem: str, *, quiet: bool = False) -> None:
        """Tell why, unless that is the server's refusal that the log has."""
        self.problem = problem
        self._quiet = quiet or self._refusals.tells(CommandRefused(problem).redis_code)
        if not self._quiet:
            text = "Redis %s: %s; trying again until it works"
            self._telling.happened("away", text, self._name(), problem, reason=problem)
        self.attempted.set()
