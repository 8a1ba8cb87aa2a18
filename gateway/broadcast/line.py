"""A line between the nodes: one channel of a backend, which all of them share.

Everything goes over the one channel, and each node takes what it has to do with. A subscription per channel, as
`broadcaster` has it, would cost PostgreSQL a comparison for each of them with every notification, a round trip for each
after a lost connection, and Kafka a topic.
"""

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from msgspec import DecodeError

from gateway.broadcast.backends import Backing, choose
from gateway.broadcast.batch import VERSION, Batch, Message, decode, encode
from gateway.broadcast.hearing import Hearing
from gateway.broadcast.outbox import Outbox
from gateway.config.settings import BroadcasterSettings
from gateway.core.tasks import being_cancelled
from gateway.errors import BrokerUnavailable
from gateway.recurring import Recurring

MIN_BACKOFF = 0.05
MAX_BACKOFF = 2.0

FIRST_PROBES = 0.1
"""Seconds between the messages to ourselves that show that a new connection hears."""

LEAVING = 3.0
"""Seconds that a connection has to end in order."""

_LASTING = ("25006", "28", "3D", "42")
"""How the states of SQL begin that go on until an operator has seen to them: read-only, login, database, rights."""

Handler = Callable[[bytes], None]
"""Takes the data of a message. Returns at once."""

logger = logging.getLogger(__name__)


class Deaf(Exception):  # noqa: N818  a state
    """What we have published does not come back."""


class Line:
    """Messages to all nodes, this one too, in one order for all; lost are those of the time when a node is away.

    While it is away publishing fails at once with ``BrokerUnavailable``. When it is back everybody in
    ``on_reconnect`` is called, since messages may have been missed. Nothing counts as connected before a message has
    come back through the way that publications take, and every ``probe_interval`` another one has to.
    """

    def __init__(
        self, settings: BroadcasterSettings, make: Callable[[], Backing] | None = None, *, uid: str = ""
    ) -> None:
        """Raises `SettingsError` for a URL that names no backend, or one that is not installed."""
        self.uid = uid or secrets.token_hex(8)
        self.handlers: dict[tuple[str, str], Handler] = {}
        """Who takes messages, by their kind and name."""
        self.on_sender: Callable[[str], None] = lambda _uid: None
        """Is told who has sent what has come."""
        self.on_reconnect: list[Callable[[], None]] = []
        self.connected = self.deaf = False
        self.lag = 0.0
        self.refusal = ""
        """What the backend refuses and is likely to go on refusing; empty if nothing."""
        self._settings = settings
        self._make = make or choose(settings)
        self._connects = 0
        self._ignored = 0
        self._telling = Recurring(logger, time.monotonic)
        self._outbox = Outbox(settings.io_timeout)
        self._hearing = Hearing()
        self._attempted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def reconnects(self) -> int:
        return max(0, self._connects - 1)

    async def start(self) -> None:
        """Begin to connect. Returns after the first attempt, whether it worked or not."""
        self._task = asyncio.create_task(self._run())
        await self._attempted.wait()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def publish(self, kind: str, name: str, data: bytes) -> None:
        """Returns when the backend has accepted it. Raises ``BrokerUnavailable``, and 106 for what it does not take."""
        if not self.connected:
            raise BrokerUnavailable
        name.encode()  # what cannot be written down is its publisher's failure alone
        await self._outbox.send(Message(kind, name, data))

    async def probe(self) -> None:
        """Show the others that this node is there. Raises ``BrokerUnavailable``."""
        if not self.connected:
            raise BrokerUnavailable
        await self._outbox.send(None)

    async def echo(self) -> None:
        """Return when what has been published here before has come back. Never fails, and does not wait for long."""
        await self._hearing.echo()

    # — the life of a connection —

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            started = loop.time()
            backing = self._make()
            try:
                await self._connect(backing)
                await self._serve(backing)
            except Exception as error:  # a supervisor that dies leaves the node deaf for ever
                self._lost(error)
            except asyncio.CancelledError as error:
                if being_cancelled():
                    raise
                self._lost(error)  # a backend lets its own escape
            finally:
                self._fail_all()
                await _finished(_disconnect(backing))
            # One that dies young counts as a failure to connect.
            failures = 0 if loop.time() - started > MAX_BACKOFF else failures + 1
            await asyncio.sleep(random.uniform(0.5, 1.0) * min(MAX_BACKOFF, MIN_BACKOFF * 2**failures))  # noqa: S311

    async def _connect(self, backing: Backing) -> None:
        async with asyncio.timeout(self._settings.connect_timeout):
            await backing.backend.connect()
            # what waits for its first message makes the channel, where that has to be made
            await backing.backend.publish(self._settings.name, encode(self._batch([])))
            await backing.backend.subscribe(self._settings.name)

    async def _serve(self, backing: Backing) -> None:
        """Send and listen, until one of it ends: it has failed."""
        # No TaskGroup: it takes the end of a task by a cancellation of the backend's own for a quiet one
        work = (self._listen(backing), self._outbox.run(backing, partial(self._send, backing)), self._watch())
        tasks = [asyncio.create_task(each) for each in work]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=LEAVING)
        failures = [task.exception() for task in tasks if task.done() and not task.cancelled()]
        raise next((failure for failure in failures if failure is not None), asyncio.CancelledError())

    async def _watch(self) -> None:
        """Say that the line is there once it hears, and end it when it does not any more."""
        async with asyncio.timeout(self._settings.connect_timeout):
            await self._hear_first()
        self._restored()
        while True:
            await asyncio.sleep(self._settings.probe_interval)
            async with asyncio.timeout(2 * self._settings.io_timeout):
                await self._prove()

    async def _prove(self) -> None:
        await self._outbox.send(None)
        if not await self._hearing.until(self._hearing.sent, self._settings.io_timeout):
            self.deaf = True
            raise Deaf("deaf: a message to ourselves was published and did not arrive")

    async def _hear_first(self) -> None:
        before = self._hearing.sent
        while self._hearing.heard <= before:
            await self._outbox.send(None)
            await self._hearing.until(before + 1, FIRST_PROBES)

    def _restored(self) -> None:
        if not self._telling.over("away", "broadcaster: connected"):
            logger.info("broadcaster: connected")
        self.refusal = ""
        self.connected, self.deaf = True, False
        self._connects += 1
        self._attempted.set()
        if self.reconnects:
            for callback in self.on_reconnect:
                try:
                    callback()
                except Exception:  # let through, it would cost the connection, and the others their call
                    logger.exception("what follows a reconnect failed")

    def _lost(self, error: BaseException) -> None:
        problem = "no answer in time" if isinstance(error, TimeoutError) else str(error) or repr(error)
        self._telling.happened("away", "broadcaster: %s; trying again until it works", problem, reason=problem)
        state = getattr(error, "sqlstate", None) or ""
        self.refusal = type(error).__name__ if state.startswith(_LASTING) else ""
        self._attempted.set()

    def _fail_all(self) -> None:
        self.connected = False
        self._outbox.fail_all()
        self._hearing.give_up()

    # — sending —

    async def _send(self, backing: Backing, messages: list[Message]) -> None:
        text = encode(self._batch(messages))
        async with asyncio.timeout(self._settings.io_timeout):
            await backing.backend.publish(self._settings.name, text)

    def _batch(self, messages: list[Message]) -> Batch:
        return Batch(VERSION, self.uid, self._hearing.next(), asyncio.get_running_loop().time(), messages)

    # — listening —

    async def _listen(self, backing: Backing) -> None:
        while True:
            event = await backing.backend.next_published()
            batch = decode(event.message) if event.channel == self._settings.name else None
            if batch is None:
                self._ignore()
                continue
            if batch.sender != self.uid:
                self.on_sender(batch.sender)
            await self._deliver(batch.messages, backing)
            if batch.sender == self.uid:
                self._came_back(batch)

    async def _deliver(self, messages: list[Message], backing: Backing) -> None:
        for message in messages:
            handler = self.handlers.get((message.kind, message.name))
            if handler is None:
                continue
            data = await self._open(message, backing) if message.parcel else message.data
            if data is not None:
                try:
                    handler(data)
                except DecodeError:
                    self._ignore()
                except Exception:  # one message is no reason to miss those that follow
                    logger.exception("a message could not be taken in")

    async def _open(self, message: Message, backing: Backing) -> bytes | None:
        """Data from a parcel. What comes behind it waits: the order is everybody's."""
        if backing.parcels is None:
            return None
        async with asyncio.timeout(self._settings.io_timeout):
            data = await backing.parcels.fetch(message.parcel)
        if data is None:
            logger.warning("a message has been missed: its data had gone before they were read")
        return data

    def _came_back(self, batch: Batch) -> None:
        self.lag = max(0.0, asyncio.get_running_loop().time() - batch.sent_at)
        self._hearing.came(batch.number)

    def _ignore(self) -> None:
        self._ignored += 1
        if self._ignored == 1:
            logger.warning(
                "broadcaster: something on the channel %r is not ours, or of another release: ignored, like all such",
                self._settings.name,
            )


async def _finished(work: Coroutine[Any, Any, None]) -> None:
    """Do the work to its end, also if whoever waits is cancelled."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


async def _disconnect(backing: Backing) -> None:
    try:
        async with asyncio.timeout(LEAVING):
            await backing.backend.disconnect()
    except (Exception, asyncio.CancelledError) as error:
        # One that never was connected has nothing to end, and says so in its own way; some let their own cancellation
        # escape. Nobody else cancels this.
        logger.debug("broadcaster: the connection ended with %r", error)
