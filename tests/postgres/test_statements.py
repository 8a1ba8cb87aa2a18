"""Names in statements, addresses, and the SQL for operators."""

from pathlib import Path

import pytest

import gateway
from gateway.config.settings import Settings
from gateway.errors import SettingsError
from gateway.postgres.database import checked_dsn
from gateway.postgres.records import read_records
from gateway.postgres.statements import Names, Script
from gateway.program.engine import Engine
from tests.postgres_server import PostgresServer


def test_names_are_those_of_the_schema_and_the_prefix() -> None:
    names = Names('my "schema"', "chat")
    assert names.put("gateway_streams, gateway_x") == '"my ""schema""".chat_streams, "my ""schema""".chat_x'
    assert names.put("'gateway_news'") == f"'{names.news}'"
    assert names.put("CREATE INDEX gateway_a_index") == "CREATE INDEX chat_a_index"
    assert names.news != Names("public", "chat").news
    assert len(Names("s" * 63, "p" * 31).news) < 64


def test_every_script_has_a_version() -> None:
    paths = sorted(Path(gateway.__file__).parent.glob("*/sql/*.sql"))
    assert len(paths) == 8
    assert all(Script(path).version >= 1 for path in paths)


@pytest.mark.parametrize(
    "dsn",
    [
        *("", "redis://x", "postgres:/x", "postgres://u@h/db?password=secret", "u:secret@h", "mysql://u:secret@h/db"),
        *(f"postgres://u:{password}@h/db" for password in ("se#cret", "sec/ret", "secr?et", "secret@x", "secret,x@")),
        *("postgres://u:secret", "postgres://h:secret/db"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_with_the_right_one(dsn: str) -> None:
    with pytest.raises(SettingsError, match="write for example postgres://user:password@127") as caught:
        checked_dsn(dsn)
    assert "et@" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "dsn",
    [
        *("postgres://h", "postgresql://u@h:5432/db", "postgres://u:p%23@[::1]:5432,h2/db?sslmode=require"),
        *("postgres:///db?host=/var/run/postgresql", "postgres://u:a:b,c@h/db"),
    ],
)
def test_addresses_that_can_be_used_stay_as_they_are(dsn: str) -> None:
    assert checked_dsn(dsn) == dsn


def test_addresses_of_sqlalchemy_are_taken() -> None:
    assert checked_dsn("postgresql+asyncpg://u@h/db") == "postgresql://u@h/db"


@pytest.mark.parametrize("payload", ["", "1", "1:", "no number:"])
def test_a_notification_without_records(payload: str) -> None:
    assert list(read_records(payload)) == []


def test_the_sql_for_operators_is_all_that_is_needed(postgres_server: PostgresServer) -> None:
    postgres_server.sql("CREATE SCHEMA apart")
    settings = Settings.model_validate(
        {"engine": {"type": "postgres", "postgres": {"dsn": postgres_server.url, "table_prefix": "own"}}}
    )
    database = Engine(settings).database
    assert database is not None
    postgres_server.sql(database.schema("apart"))
    postgres_server.sql("INSERT INTO apart.own_rules VALUES (1, '^chat:', 10, '60s', '1h')")
    assert postgres_server.sql("SELECT apart.own_publish('chat:lobby', '1')") == ["1"]
    assert postgres_server.sql("SELECT count(*) FROM apart.own_schema") == ["8"]
