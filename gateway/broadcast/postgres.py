"""PostgreSQL as `broadcaster` drives it, told of connections that end, and with a table for what is large."""

import asyncio
from typing import Any

import asyncpg
from broadcaster._backends.postgres import PostgresBackend
from broadcaster._base import Event

LARGEST = 7999
"""Bytes of a notification's payload: PostgreSQL refuses 8,000."""

LASTS = 60
"""Seconds that a parcel is kept: longer than it takes anybody to read what he has just been told of."""

TRIMMED_EVERY = 20.0


class Postgres(PostgresBackend):
    """Two connections: one listens and publishes, the other reads parcels, while the first may be at work.

    The table of parcels is made if it is not there; who may not make it is told what to run.
    """

    def __init__(self, url: str, name: str) -> None:
        super().__init__(url)
        self._table = f"{name}_parcels"
        self._reader: Any = None
        self._conn: Any = None
        self._trim_at = 0.0

    async def connect(self) -> None:
        await super().connect()
        self._reader = await asyncpg.connect(self._url)
        for connection in (self._conn, self._reader):
            connection.add_termination_listener(self._terminated)
            # a notification lasts no longer than its server: nobody need wait for the disk
            await connection.execute("SET synchronous_commit = off")
        await self._make_table()

    async def disconnect(self) -> None:
        for connection in (self._conn, self._reader):
            if connection is not None:
                connection.remove_termination_listener(self._terminated)
        try:
            if self._conn is not None:
                await self._conn.close(timeout=1)
            if self._reader is not None:
                await self._reader.close(timeout=1)
        finally:
            for connection in (self._conn, self._reader):
                if connection is not None:
                    connection.terminate()

    async def publish(self, channel: str, message: str) -> None:
        await super().publish(channel, message)
        now = asyncio.get_running_loop().time()
        if now >= self._trim_at:
            self._trim_at = now + TRIMMED_EVERY
            await self._conn.execute(
                f"DELETE FROM {self._table} WHERE stored_at < now() - $1 * interval '1 s'",  # noqa: S608
                LASTS,
            )

    async def next_published(self) -> Event:
        """The next event. Raises ``ConnectionError`` once a connection has ended: `broadcaster` would wait for ever."""
        event: Event | None = await super().next_published()
        if event is None:
            raise ConnectionError("PostgreSQL has ended the connection")
        return event

    async def store(self, data: bytes) -> int:
        query = f"INSERT INTO {self._table} (data) VALUES ($1) RETURNING id"  # noqa: S608  checked by the settings
        number: int = await self._conn.fetchval(query, data)
        return number

    async def fetch(self, parcel: int) -> bytes | None:
        query = f"SELECT data FROM {self._table} WHERE id = $1"  # noqa: S608
        data: bytes | None = await self._reader.fetchval(query, parcel)
        return data

    def _terminated(self, _connection: object) -> None:
        queue: asyncio.Queue[Any] = self._listen_queue
        queue.put_nowait(None)

    async def _make_table(self) -> None:
        if await self._conn.fetchval("SELECT to_regclass($1)", self._table) is not None:
            return
        # not in the write-ahead log: what is lost with the server is what nobody would read any more
        query = (
            f"CREATE UNLOGGED TABLE IF NOT EXISTS {self._table} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
            "data bytea NOT NULL, stored_at timestamptz NOT NULL DEFAULT now())"
        )
        try:
            async with self._conn.transaction():
                # IF NOT EXISTS is no help against another node that makes it in the same moment
                await self._conn.execute("SELECT pg_advisory_xact_lock(hashtext($1))", self._table)
                await self._conn.execute(query)
        except asyncpg.InsufficientPrivilegeError as error:
            raise NoTable(
                f"{error}; what is larger than {LARGEST} bytes goes through a table: let an owner of the schema run "
                f'"{query}; GRANT SELECT, INSERT, DELETE ON {self._table} TO <the user of the URL>"'
            ) from None


class NoTable(Exception):  # noqa: N818  a state
    """The table is not there, and we may not make it."""

    sqlstate = asyncpg.InsufficientPrivilegeError.sqlstate
