"""One PostgreSQL database, by connections that look after themselves.

One ``Database`` serves all families together; whoever composes the application does ::

    database = Database(settings.engine.postgres)
    broker, presence = PostgresBroker(database), PostgresPresence(database)
    await database.start()
    await broker.start(node, events)
    await presence.start(node, swept)
    ...
    await presence.close()
    await broker.close()
    await database.close()
"""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import asyncpg

from gateway.config.settings import PostgresSettings
from gateway.errors import BrokerUnavailable, SettingsError
from gateway.postgres.batch import Batch
from gateway.postgres.failures import StatementRefused, translated
from gateway.postgres.listener import Handler, Listener
from gateway.postgres.pool import Pool
from gateway.postgres.statements import Names, Script
from gateway.recurring import Recurring

logger = logging.getLogger(__name__)

NEEDED = 13_00_00
"""The oldest server, as it numbers itself: gen_random_uuid() came with it."""

MISSING_PROBES = 2
"""Probes that were published and have not arrived: one may still be on its way."""

PATIENCE = 1.0
"""Seconds that somebody waits for an echo: far longer than one takes, and bearable where none comes."""

MESSAGES_AT_ONCE = 200

_BASE = Script(Path(__file__).parent / "sql" / "base.sql")

_VERSIONS = "CREATE TABLE IF NOT EXISTS gateway_schema (file text PRIMARY KEY, version int NOT NULL)"
_NOTE = "INSERT INTO gateway_schema VALUES ($1, $2) ON CONFLICT (file) DO UPDATE SET version = excluded.version"


_HOST = r"(\[[^\]]*\]|[^\[\]:,/?#@]*)(:\d+)?"
_ADDRESS = re.compile(rf"postgres(ql)?://([^/?#@]*@)?{_HOST}(,{_HOST})*(/[^?#]*)?(\?[^#]*)?")
"""What may be written: strictly, since a library that guesses takes part of a password for a port, and says so."""


class Message(NamedTuple):
    """Something that is told and not kept."""

    topic: str
    data: bytes


class Database:
    """One PostgreSQL database, by a connection that listens and a few for statements.

    While it is away statements fail within five seconds with ``BrokerUnavailable``. When it is heard again everybody in
    ``on_reconnect`` is called, since messages may have been missed. Numbered probes, published every
    ``probe_interval``, show whether messages still arrive.
    """

    def __init__(self, settings: PostgresSettings) -> None:
        self._settings = settings
        self._dsn = checked_dsn(settings.dsn)
        self.names = Names("public", settings.table_prefix)  # until the server has said which schema is ours
        self.on_reconnect: list[Callable[[], None]] = []
        self.deaf = False
        self.lag = 0.0
        self._scripts = [_BASE]
        self._ready = False
        self._pool = Pool(self._open, settings.pool_size)
        self._listener = Listener(self._open_listener, self._fetch_messages, self._reconnected)
        self._sends: Batch[Message, None] = Batch(self._send, MESSAGES_AT_ONCE, size=lambda message: len(message.data))
        own = secrets.token_hex(8)
        self._probe_topic, self._echo_topic = f"nprobe:{own}", f"necho:{own}"
        self._probes = self._arrived = 0
        self._missing: list[int] = []
        self._echoes: dict[int, asyncio.Future[None]] = {}
        self._echo_number = 0
        self._task: asyncio.Task[None] | None = None
        self._prober: asyncio.Task[None] | None = None
        self._refused = ""
        self._telling = Recurring(logger, time.monotonic)

    async def start(self) -> None:
        """Begin to connect. Returns after the first attempt, whether it worked or not."""
        self.listen(self._probe_topic, self._probe_arrived)
        self.listen(self._echo_topic, self._echo_arrived)
        self._task = asyncio.create_task(self._listener.run())
        await self._listener.attempted.wait()
        self._prober = asyncio.create_task(self._probe())

    async def close(self) -> None:
        tasks = [task for task in (self._task, self._prober) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._sends.close()
        self._pool.close()

    @property
    def connected(self) -> bool:
        return self._listener.connection is not None

    @property
    def reconnects(self) -> int:
        return max(0, self._listener.connects - 1)

    @property
    def refusal(self) -> str:
        """What the server refuses and is likely to go on refusing, such as InvalidPassword; empty if nothing."""
        return self._listener.refusal or self._refused

    @property
    def pool_size(self) -> int:
        return self._settings.pool_size

    @property
    def cleanup_interval(self) -> float:
        return self._settings.cleanup_interval

    def install(self, *scripts: Script) -> None:
        """Have the database know these tables and functions. To be called before ``start``."""
        self._scripts += scripts

    async def fetch(self, statement: str, *args: Any) -> list[Any]:
        """The rows that a statement answers with. Raises ``BrokerUnavailable``, or ``BUSY`` for a row that is held."""
        if not self._ready:  # without our tables there is nothing to be had
            raise BrokerUnavailable(stored="no")
        try:
            rows = await self._pool.fetch(self.names.put(statement), *args)
        except StatementRefused as error:
            self._tell(error)
            raise
        self._refused = ""
        return rows

    def _tell(self, error: StatementRefused) -> None:
        """Have an operator know of it."""
        self._refused = error.kind
        detail = error.detail
        self._telling.happened("refused", "PostgreSQL refused a statement: %s", detail, reason=detail)

    # — messages —

    def listen(self, topic: str, handler: Handler) -> None:
        """Have ``handler`` called with what is said under a topic, from now on or from when the server is there."""
        self._listener.handlers[topic] = handler

    def listens(self, topic: str, handler: Handler) -> bool:
        """Whether it is this handler that is called."""
        return self._listener.handlers.get(topic) is handler

    def forget(self, topic: str) -> None:
        self._listener.handlers.pop(topic, None)

    def topics(self) -> list[str]:
        """All that somebody here listens to."""
        return list(self._listener.handlers)

    def send(self, topic: str, data: bytes) -> Awaitable[None]:
        """Tell all who listen. Nothing is kept."""
        return self._sends.ask(Message(topic, data))

    async def echo(self) -> None:
        """Return when what has been published here before has arrived, where subscribed.

        Never fails, and does not wait for long if nothing arrives.
        """
        loop = asyncio.get_running_loop()
        self._echo_number = number = self._echo_number + 1
        echo = self._echoes[number] = loop.create_future()
        try:
            await self.send(self._echo_topic, str(number).encode())
            if not self.deaf and self.connected:
                await asyncio.wait([echo], timeout=PATIENCE)
        except BrokerUnavailable:
            logger.debug("no echo: what was published before has failed, or will arrive after a gap")
        finally:
            self._echoes.pop(number, None)

    async def _send(self, messages: Sequence[Message], patience: str) -> Sequence[None]:
        await self.fetch(
            "SELECT gateway_tell($1, $2)",
            [message.topic for message in messages],
            [message.data for message in messages],
        )
        return [None] * len(messages)

    async def _fetch_messages(self, numbers: Sequence[int]) -> dict[int, bytes]:
        rows = await within(self.fetch("SELECT id, message FROM gateway_messages WHERE id = ANY($1)", list(numbers)))
        return {row["id"]: row["message"] for row in rows}

    def _echo_arrived(self, payload: bytes) -> None:
        echo = self._echoes.get(int(payload))
        if echo is not None and not echo.done():
            echo.set_result(None)

    # — connections —

    async def _open(self) -> Any:
        settings = self._settings
        return await asyncpg.connect(
            self._dsn,
            timeout=settings.connect_timeout,
            command_timeout=settings.io_timeout,
            server_settings={"application_name": settings.table_prefix},
        )

    async def _open_listener(self, heard: Callable[..., None], ended: Callable[..., None]) -> Any:
        """Connect, see that the tables are there, and listen, before anybody may use the database."""
        with translated():
            connection = await self._open()
            try:
                await self._install(connection)
                connection.add_termination_listener(ended)
                await connection.add_listener(self.names.news, heard)
            except BaseException:
                connection.terminate()
                raise
        self._ready = True
        self._missing.clear()
        self._pool.drop()  # the server may be another one
        return connection

    async def _install(self, connection: Any) -> None:
        version, schema, standby = await connection.fetchrow(
            "SELECT current_setting('server_version_num')::int, current_schema(), pg_is_in_recovery()"
        )
        if standby:
            raise asyncpg.ReadOnlySQLTransactionError("the server is a standby, and takes no publications")
        if version < NEEDED:
            raise asyncpg.InsufficientPrivilegeError(f"the server is too old ({version}): PostgreSQL 13 is needed")
        if schema is None:
            raise asyncpg.InsufficientPrivilegeError("there is no schema for the tables: see search_path")
        self.names = Names(schema, self._settings.table_prefix)
        if self._settings.skip_schema_init:
            return
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)".replace("$1", str(self._lock_number())))
            await connection.execute("SET LOCAL client_min_messages = warning")
            known = await self._known_versions(connection)
            for script in self._scripts:
                if known.get(script.name, 0) < script.version:
                    await connection.execute(self.names.put(script.text))
                    await connection.execute(self.names.put(_NOTE), script.name, script.version)

    async def _known_versions(self, connection: Any) -> dict[str, int]:
        await connection.execute(self.names.put(_VERSIONS))
        return dict(await connection.fetch(self.names.put("SELECT file, version FROM gateway_schema")))

    def _lock_number(self) -> int:
        """What stands for our tables where nodes wait for each other to make them."""
        return crc32(self.names.news.encode())

    def schema(self, name: str) -> str:
        """The SQL by which an operator makes all tables and functions, in a schema of this name."""
        known = ", ".join(f"('{script.name}', {script.version})" for script in self._scripts)
        note = _NOTE.replace("($1, $2)", known) + ";"
        texts = "\n".join([_VERSIONS + ";", *(script.text for script in self._scripts), note])
        return Names(name, self._settings.table_prefix).put(texts)

    def _reconnected(self) -> None:
        for callback in self.on_reconnect:
            try:
                callback()
            except Exception:  # let through, it would cost the connection, and the others their call
                logger.exception("what follows a reconnect failed")

    # — probes —

    async def _probe(self) -> None:
        """Publish to ourselves, and give up the connection that listens when the probes do not come."""
        while True:
            await asyncio.sleep(self._settings.probe_interval)
            try:
                self._check_hearing()
                await self._publish_probe()
            except BrokerUnavailable:
                logger.debug("no probe: a failed publish proves nothing about receiving")
            except Exception:  # a supervisor that dies leaves the node deaf for ever
                logger.exception("a probe failed")

    def _check_hearing(self) -> None:
        if len(self._missing) >= MISSING_PROBES:
            self.deaf = True
            self._missing.clear()
            self._listener.drop(f"deaf: {MISSING_PROBES} probes were published and did not arrive")

    async def _publish_probe(self) -> None:
        connection = self._listener.connection
        self._probes = number = self._probes + 1
        await self.send(self._probe_topic, f"{number}:{asyncio.get_running_loop().time()!r}".encode())
        listened = connection is not None and connection is self._listener.connection
        if listened and number > self._arrived:  # it may have come before the answer did
            self._missing.append(number)

    def _probe_arrived(self, payload: bytes) -> None:
        number, _, sent = payload.partition(b":")
        self._arrived = int(number)
        self._missing = [missing for missing in self._missing if missing > self._arrived]
        self.lag = max(0.0, asyncio.get_running_loop().time() - float(sent))
        self.deaf = False


async def within(work: Awaitable[list[Any]], seconds: float = 4.5) -> list[Any]:
    """The answer, or ``BrokerUnavailable`` in time."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise BrokerUnavailable from None


def seconds(value: float) -> timedelta:
    """A time as PostgreSQL takes it."""
    return timedelta(seconds=value)


def checked_dsn(dsn: str) -> str:
    """The address of a database, which may be one of SQLAlchemy's. Raises ``SettingsError``, without a password."""
    plain = re.sub(r"^postgresql\+\w+://", "postgresql://", dsn)
    if not _ADDRESS.fullmatch(plain) or re.search(r"[?&]password=", plain):
        # what cannot be read may hold a password anywhere
        scheme, _, rest = plain.partition("://") if "://" in plain else ("", "", plain)
        shown = f"{scheme}://***@{rest.rpartition('@')[2]}".partition("?")[0] if "@" in rest else f"{scheme}://***"
        raise SettingsError(
            f"engine.postgres.dsn = {shown!r} cannot be used; write for example "
            "postgres://user:password@127.0.0.1:5432/app, with signs such as # ? / @ in the password written as "
            "%23 %3F %2F %40, or have PGPASSWORD in the environment hold it"
        )
    return plain
