"""PostgreSQL for the tests of the families: one server, and names of their own for each test."""

import os
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from gateway.config.settings import PostgresSettings
from gateway.postgres.database import Database
from gateway.postgres.statements import Names
from tests.postgres_server import PostgresServer
from tests.postgres_server import _program as postgres_program


def postgres_settings(server: PostgresServer, **settings: Any) -> PostgresSettings:
    """Tables of their own, whose names nobody else has."""
    given = {"table_prefix": f"t{secrets.token_hex(6)}", "cleanup_interval": 3600.0, **settings}
    return PostgresSettings(dsn=server.url, **given)


def named(settings: PostgresSettings, statement: str) -> str:
    """A statement, with the names that these settings give to tables and functions."""
    return Names("public", settings.table_prefix).put(statement)


@contextmanager
def standby_of(primary: PostgresServer) -> Iterator[PostgresServer]:
    """A server that follows another one, until it is promoted."""
    standby = PostgresServer()
    copy = [
        postgres_program("pg_basebackup"),
        "-R",
        "-c",
        "fast",
        "-d",
        primary.url,
        "-D",
        str(standby.directory / "data"),
    ]
    owner = primary.directory.owner() if os.getuid() == 0 else None
    if owner is not None:
        shutil.chown(standby.directory, owner, owner)
    subprocess.run(copy, check=True, user=owner, group=owner, cwd=standby.directory)
    with standby:
        yield standby


@asynccontextmanager
async def running(database: Database) -> AsyncIterator[Database]:
    """Start a database, whose families have been made, and close it."""
    await database.start()
    try:
        yield database
    finally:
        await database.close()
