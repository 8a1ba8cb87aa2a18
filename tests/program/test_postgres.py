"""Gateways that PostgreSQL joins: their publications and those of programs, in one order."""

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import pytest
from fastapi import FastAPI

from gateway import Gateway
from gateway.config.settings import Settings
from gateway.config.sources import load
from gateway.errors import SettingsError
from gateway.program.engine import Engine
from gateway.program.publisher import Publisher
from tests.postgres_fixtures import postgres_settings
from tests.postgres_server import PostgresServer
from tests.waiting import until


@pytest.fixture
def engine(postgres_server: PostgresServer) -> dict[str, Any]:
    return {"type": "postgres", "postgres": postgres_settings(postgres_server).model_dump()}


@pytest.fixture
async def gateways(engine: dict[str, Any]) -> AsyncIterator[list[Gateway]]:
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(2):
            gateway = Gateway(engine=engine, channel={"namespaces": [{"name": "news"}]})
            gateway.channel("chat:{room}", history_size=10, history_ttl=60, presence=True)
            app = FastAPI(lifespan=gateway.lifespan)
            app.include_router(gateway.router)
            await stack.enter_async_context(app.router.lifespan_context(app))
            made.append(gateway)
        yield made


async def test_nodes_and_programs_publish_in_one_order(gateways: list[Gateway], engine: dict[str, Any]) -> None:
    one, two = gateways
    publish = f'SELECT {engine["postgres"]["table_prefix"]}_publish($1, \'{{"text": "from SQL"}}\')'
    async with (
        asyncpg.create_pool(engine["postgres"]["dsn"], min_size=1) as connection,
        one.listen("chat:lobby") as first,
        two.listen("chat:lobby") as second,
    ):
        assert (await one.publish("chat:lobby", {"text": "a"})).nodes == 2
        assert await connection.fetchval(publish, "chat:lobby") == 2
        assert await connection.fetchval(publish, "news:today") == 0
        assert (await two.publish("chat:lobby", {"text": "b"})).offset == 3
        for listener in (first, second):
            heard = []
            async for publication in listener:
                heard.append(publication.data["text"])
                if len(heard) == 3:
                    break
            assert heard == ["a", "from SQL", "b"]
        for unknown in ("shop:1", "chat:a:b", ":x", "chat:#7"):
            with pytest.raises(asyncpg.RaiseError, match="unknown channel"):
                await connection.execute(publish, unknown)
    publications, _ = await two.history("chat:lobby", limit=10)
    assert [each.data["text"] for each in publications] == ["a", "from SQL", "b"]


async def test_users_are_blocked_on_all_nodes(gateways: list[Gateway]) -> None:
    one, two = gateways
    await one.block("mallory")
    await until(lambda: "mallory" in two._started().node.blocked)


async def test_limits_are_shared(gateways: list[Gateway]) -> None:
    limits = [gateway.quota("3/day", name="uploads") for gateway in gateways]
    found = [(await limits[number % 2].check("ann")).remaining for number in range(3)]
    assert found == [2, 1, 0]


def test_a_publisher_without_event_loop_is_told_of_sql(engine: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="SELECT gateway_publish"):
        Publisher(Settings.model_validate({"engine": engine}))


def test_without_address_it_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_ENGINE__TYPE", "postgres")
    with pytest.raises(
        SettingsError, match=r'engine\.postgres\.dsn: .*"postgres://user:password@127\.0\.0\.1:5432/app"'
    ):
        load()


def test_without_the_library_it_says_what_to_install(engine: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("gateway.blocks.postgres", "asyncpg"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SettingsError, match=r'pip install "wsgateway\[postgres\]"'):
        Engine(Settings.model_validate({"engine": engine}))
