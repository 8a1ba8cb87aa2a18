"""The server API through PyPI `cent` 4, which knows the one endpoint alone, on a real server."""

import asyncio
import importlib.util
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gateway.config.settings import Settings
from gateway.core.cluster import DisconnectUser, SubscribeUser, UnsubscribeUser
from gateway.core.node import Node
from gateway.messages import ClientInfo, Payload
from gateway.serve.app import create_app
from tests.serving import on_uvicorn
from tests.web.conftest import KEY, SETTINGS

PACKAGE = Path(__file__).parents[2] / ".venv" / "cent4" / "cent" / "__init__.py"

Call = Callable[..., Awaitable[Any]]


def load() -> ModuleType:
    """The package, beside that of the same name which is today's."""
    if not PACKAGE.exists():
        raise RuntimeError("the tests need cent 4: bash tests/run --prepare")
    spec = importlib.util.spec_from_file_location("cent4", PACKAGE, submodule_search_locations=[str(PACKAGE.parent)])
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["cent4"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def cent4() -> ModuleType:
    return load()


@pytest.fixture
async def url() -> AsyncIterator[tuple[str, Node]]:
    settings = Settings.model_validate(SETTINGS)
    app = create_app(settings)
    async with on_uvicorn(app, settings) as port:
        yield f"http://127.0.0.1:{port}/api", app.state.node


@pytest.fixture
def node(url: tuple[str, Node]) -> Node:
    return url[1]


@pytest.fixture
async def call(url: tuple[str, Node], cent4: ModuleType) -> Call:
    client = cent4.Client(url[0], api_key=KEY, timeout=10)

    async def call(method: str, *arguments: Any, **options: Any) -> Any:
        return await asyncio.to_thread(getattr(client, method), *arguments, **options)

    return call


async def test_streams(call: Call, cent4: ModuleType) -> None:
    assert (await call("publish", "kept:a", {"n": 1}))["offset"] == 1
    assert await call("publish", "kept:a", {"n": 2}, skip_history=True) == {}
    stored, unknown = (await call("broadcast", ["kept:a", "nowhere:a"], {"n": 3}))["responses"]
    assert (stored["result"]["offset"], unknown["error"]["code"]) == (2, 102)
    history = await call("history", "kept:a", limit=5)
    assert [each["data"] for each in history["publications"]] == [{"n": 1}, {"n": 3}]
    await call("history_remove", "kept:a")
    assert (await call("history", "kept:a", limit=5))["publications"] == []
    with pytest.raises(cent4.ResponseError, match="not available"):
        await call("history", "room")


async def test_connections(call: Call, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[Any] = []
    monkeypatch.setattr(node, "apply", commands.append)
    await call("subscribe", "ann", "room")
    await call("unsubscribe", "ann", "room", client="c1")
    await call("disconnect", "ann")
    assert commands == [
        SubscribeUser(user="ann", channel="room"),
        UnsubscribeUser(user="ann", client="c1", channel="room", code=2000, reason="server unsubscribe"),
        DisconnectUser(user="ann", code=3503, reason="force disconnect"),
    ]


async def test_what_there_is(call: Call, node: Node) -> None:
    await node.presence_store.add("shown:a", ClientInfo("ann", "c1", Payload(b'{"n":1}')))
    assert await call("presence", "shown:a") == {"c1": {"user": "ann", "client": "c1", "conn_info": {"n": 1}}}
    assert await call("presence_stats", "shown:a") == {"num_clients": 1, "num_users": 1}
    assert await call("channels", "r*") == {}
    assert [each["uid"] for each in (await call("info"))["nodes"]] == [node.uid]


async def test_several_at_once(call: Call) -> None:
    for number in range(3):
        await call("add", "publish", {"channel": "kept:a", "data": number})
    await call("add", "presence", {"channel": "kept:a"})
    *published, refused = await call("send")
    assert [each["result"]["offset"] for each in published] == [1, 2, 3]
    assert refused == {"error": {"code": 108, "message": "not available"}}


async def test_a_wrong_key(url: tuple[str, Node], cent4: ModuleType) -> None:
    with pytest.raises(cent4.RequestException, match="401"):
        await asyncio.to_thread(cent4.Client(url[0], api_key="wrong", timeout=10).info)
