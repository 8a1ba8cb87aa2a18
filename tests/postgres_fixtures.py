"""PostgreSQL for the tests of the families: one server, and names of their own for each test."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gateway.config.settings import PostgresSettings
from gateway.postgres.database import Database
from gateway.postgres.statements import Names
from tests.postgres_server import PostgresServer


def postgres_settings(server: PostgresServer, **settings: Any) -> PostgresSettings:
    """Tables of their own, whose names nobody else has."""
    given = {"table_prefix": f"t{secrets.token_hex(6)}", "cleanup_interval": 3600.0, **settings}
    return PostgresSettings(dsn=server.url, **given)


def named(settings: PostgresSettings, statement: str) -> str:
    """A statement, with the names that these settings give to tables and functions."""
    return Names("public", settings.table_prefix).put(statement)


@asynccontextmanager
async def running(database: Database) -> AsyncIterator[Database]:
    """Start a database, whose families have been made, and close it."""
    await database.start()
    try:
        yield database
    finally:
        await database.close()
