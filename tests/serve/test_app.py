"""The composition root: which parts the settings choose, and what the application serves."""

import signal
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from gateway.brokers.memory import MemoryBroker
from gateway.brokers.redis import RedisBroker
from gateway.config.settings import Settings
from gateway.core.node import Node
from gateway.errors import SettingsError
from gateway.presence.memory import MemoryPresence
from gateway.presence.redis import RedisPresence
from gateway.serve.app import create_app
from tests.redis_server import RedisServer
from tests.waiting import settle, until


def app_with(**settings: Any) -> tuple[FastAPI, Node]:
    app = create_app(Settings.model_validate(settings))
    return app, app.state.node


async def status(app: FastAPI, path: str) -> int:
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway") as http,
    ):
        return (await http.get(path)).status_code


async def test_serves_what_the_defaults_say() -> None:
    app, node = app_with()
    assert isinstance(node.broker, MemoryBroker)
    assert isinstance(node.presence_store, MemoryPresence)
    found = [await status(app, path) for path in ("/health/ready", "/metrics", "/api/info", "/", "/openapi.json")]
    assert found == [200, 200, 405, 404, 200]


async def test_makes_its_settings_where_none_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_NODE__NAME", "from the environment")
    assert create_app().state.node.describe().name == "from the environment"


async def test_applications_do_not_share_anything() -> None:
    (first, one), (_, other) = app_with(), app_with()
    assert one.uid != other.uid
    async with first.router.lifespan_context(first):
        assert len(one.cluster.nodes()) == 1
        assert not other.draining
    assert one.draining
    assert not other.draining


async def test_the_server_says_when_to_drain_and_not_the_signal() -> None:
    app, node = app_with()
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # the server's
    try:
        async with app.router.lifespan_context(app):
            signal.raise_signal(signal.SIGTERM)
            await settle()
            assert (node.lame_duck, node.draining) == (False, False)
            app.state.lame_duck()
            assert (node.lame_duck, node.draining) == (True, False)
            await app.state.drain()
            assert node.draining
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_the_demo_names_its_node() -> None:
    app, node = app_with(
        demo={"enabled": True},
        node={"name": "blue"},
        client={"token": {"hmac_secret_key": "a secret that is long enough for SHA-256"}},
    )
    assert node.greeting == b'{"node":"blue"}'
    assert await status(app, "/") == 200


async def test_nodes_on_one_redis_find_each_other(server: RedisServer) -> None:
    engine = {"type": "redis", "redis": {"address": server.url}}
    (first, one), (second, other) = app_with(engine=engine), app_with(engine=engine)
    assert isinstance(one.broker, RedisBroker)
    assert isinstance(one.presence_store, RedisPresence)
    async with first.router.lifespan_context(first):
        async with second.router.lifespan_context(second):
            await until(lambda: len(one.cluster.nodes()) == len(other.cluster.nodes()) == 2)
            assert one.broker.health().ok
        await until(lambda: len(one.cluster.nodes()) == 1)


def test_contradictory_settings_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"channel\.namespaces\.1\.name"):
        app_with(channel={"namespaces": [{"name": "chat"}, {"name": "chat"}]})
