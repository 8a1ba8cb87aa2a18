"""The connection that hears what all nodes say, made again whenever it breaks."""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from struct import error as StructError  # noqa: N812  an exception, in spite of its name
from typing import Any

from gateway.errors import BrokerUnavailable
from gateway.postgres.failures import FAILURES, LASTING, StatementRefused, describe
from gateway.postgres.records import Record, read_records
from gateway.recurring import Recurring

MIN_BACKOFF = 0.05
MAX_BACKOFF = 2.0

MOST_HELD = 64 * 1024 * 1024
"""Bytes that may arrive while a long message is fetched; beyond, the connection is given up, and a gap told of."""

Handler = Callable[[bytes], None]
"""Takes a message. Plain and quick; what it raises is logged."""

logger = logging.getLogger(__name__)


class Listener:
    """Hands messages to the handlers of their topics, in the order in which they were committed.

    ``open_`` connects; ``fetch`` answers long messages by their numbers. ``restored`` is called when messages may have
    been missed and no further ones will be.
    """

    def __init__(
        self,
        open_: Callable[[Callable[..., None], Callable[..., None]], Awaitable[Any]],
        fetch: Callable[[Sequence[int]], Awaitable[dict[int, bytes]]],
        restored: Callable[[], None],
    ) -> None:
        self.handlers: dict[str, Handler] = {}
        self.attempted = asyncio.Event()
        self.connects = 0
        self.refusal = ""
        self._open = open_
        self._fetch = fetch
        self._restored = restored
        self._telling = Recurring(logger, time.monotonic)
        self._connection: Any = None
        self._lost = asyncio.Event()
        self._held: deque[str] = deque()
        self._held_bytes = 0
        self._fetching: asyncio.Task[None] | None = None

    @property
    def connection(self) -> Any:
        """The one that hears, None while there is none."""
        return self._connection

    def drop(self, reason: str) -> None:
        """Give the connection up: another one is made."""
        if self._connection is not None:
            logger.warning("PostgreSQL: the connection that listens is given up: %s", reason)
            self._connection.terminate()
            self._lost.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            started = loop.time()
            self._lost.clear()
            try:
                self._connection = await self._open(self._hear, lambda *_: self._lost.set())
                self._connected()
                await self._lost.wait()
                self._failed("connection lost")
            except StatementRefused as error:
                self._failed(error.detail, error.kind)
            except BrokerUnavailable as error:
                self._failed(describe(error.__cause__ or error))
            except FAILURES as error:
                self._failed(describe(error), type(error).__name__.removesuffix("Error") * isinstance(error, LASTING))
            except Exception as error:  # a supervisor that dies leaves the node deaf for ever
                self._failed(repr(error))
            finally:
                self._forget()
            # One that dies young counts as a failure to connect.
            failures = 0 if loop.time() - started > MAX_BACKOFF else failures + 1
            await asyncio.sleep(random.uniform(0.5, 1.0) * min(MAX_BACKOFF, MIN_BACKOFF * 2**failures))  # noqa: S311

    def _connected(self) -> None:
        if not self._telling.over("away", "PostgreSQL: connected"):
            logger.info("PostgreSQL: connected")
        self.refusal = ""
        self.connects += 1
        self.attempted.set()
        if self.connects > 1:
            self._restored()

    def _failed(self, problem: str, refusal: str = "") -> None:
        self._telling.happened("away", "PostgreSQL: %s; trying again until it works", problem, reason=problem)
        self.refusal = refusal
        self.attempted.set()

    def _forget(self) -> None:
        if self._connection is not None and not self._connection.is_closed():
            self._connection.terminate()
        self._connection = None
        self._held.clear()
        self._held_bytes = 0
        if self._fetching is not None:
            self._fetching.cancel()
            self._fetching = None

    # — messages —

    def _hear(self, connection: Any, _pid: int, _channel: str, payload: str) -> None:
        if self._fetching is None:
            self._take(payload)
            return
        self._held.append(payload)
        self._held_bytes += len(payload)
        if self._held_bytes > MOST_HELD:
            self.drop("too much has arrived while a long message was fetched")

    def _take(self, payload: str) -> None:
        """Deliver a notification, up to the first long message that somebody here wants."""
        try:
            records = [record for record in read_records(payload) if record[0] in self.handlers]
        except (ValueError, StructError):
            logger.warning("PostgreSQL: a notification that is none of the gateway's was ignored")
            return
        numbers = [message for _, message in records if isinstance(message, int)]
        if numbers:
            self._fetching = asyncio.get_running_loop().create_task(self._deliver_fetched(records, numbers))
        else:
            self._deliver(records, {})

    async def _deliver_fetched(self, records: list[Record], numbers: list[int]) -> None:
        try:
            self._deliver(records, await self._fetch(numbers))
        except BrokerUnavailable:
            self._fetching = None
            self.drop("a long message could not be fetched")
            return
        self._fetching = None
        while self._held and self._fetching is None:
            payload = self._held.popleft()
            self._held_bytes -= len(payload)
            self._take(payload)

    def _deliver(self, records: Sequence[Record], fetched: dict[int, bytes]) -> None:
        for topic, message in records:
            handler = self.handlers.get(topic)
            if isinstance(message, int):
                if message not in fetched:
                    logger.warning("PostgreSQL: a long message had gone before it could be fetched")
                    continue
                message = fetched[message]
            if handler is None:
                continue
            try:
                handler(message)
            except Exception:
                logger.exception("a message could not be handled")
