"""The HTTP API through the protocol's own library for backends in Python, on a real server."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pusher
import pytest
from fastapi import FastAPI
from pusher.errors import (
    PusherBadAuth,
    PusherBadRequest,
    PusherBadStatus,
    PusherForbidden,
)

from gateway import Gateway
from gateway.config.settings import Settings
from gateway.core.node import Node
from gateway.messages import ClientInfo, Publication
from gateway.web.pusher import pusher_router
from tests.serving import on_uvicorn
from tests.web.pusher.conftest import DISABLED, SETTINGS, SHOP, SomeApps

MASTER_KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


class Library:
    """A server, and what makes clients of it; each call runs in a thread."""

    def __init__(self, node: Node, port: int) -> None:
        self.node = node
        self._port = port
        self.client = self.make(SHOP.id, SHOP.settings.key, SHOP.settings.secret)

    def make(self, app_id: str, key: str, secret: str) -> Any:
        return pusher.Pusher(
            app_id,
            key,
            secret,
            ssl=False,
            host="127.0.0.1",
            port=self._port,
            encryption_master_key_base64=MASTER_KEY,
        )

    async def call(self, method: str, *args: Any, client: Any = None) -> Any:
        return await asyncio.to_thread(getattr(client or self.client, method), *args)


@pytest.fixture
async def library() -> AsyncIterator[Library]:
    settings = Settings.model_validate(SETTINGS)
    gateway, apps, app = Gateway(settings), SomeApps(), FastAPI()
    gateway.run_in(app)
    app.include_router(pusher_router(lambda: gateway.node, lambda: apps))
    async with on_uvicorn(app, settings) as port:
        yield Library(gateway.node, port)


@pytest.fixture
def sent(library: Library, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Publication]]:
    told: list[tuple[str, Publication]] = []
    publish: Callable[..., Any] = library.node.publish

    async def noted(channel: Any, publication: Publication, *extras: Any) -> Any:
        told.append((channel.name, publication))
        return await publish(channel, publication, *extras)

    monkeypatch.setattr(library.node, "publish", noted)
    return told


async def test_trigger(library: Library, sent: list[tuple[str, Publication]]) -> None:
    assert await library.call("trigger", ["news", "private-a"], "order.paid", {"größe": 7}, "48213.907714") == {}
    assert await library.call("trigger", "news", "App\\Events\\OrderPaid", "hello") == {}
    assert await library.call("trigger", [f"c{n}" for n in range(100)], "a", "x" * 10_000) == {}
    assert [(name, each.data.decode(), (each.tags or {})["event"]) for name, each in sent[:3]] == [
        ("shop:news", '{"größe": 7}', "order.paid"),
        ("shop:private-a", '{"größe": 7}', "order.paid"),
        ("shop:news", '"hello"', "App\\Events\\OrderPaid"),
    ]
    assert sent[0][1].exclude is not None
    assert sent[0][1].exclude.clients == ("48213.907714",)
    assert len(sent) == 103


async def test_trigger_of_an_encrypted_channel(library: Library, sent: list[tuple[str, Publication]]) -> None:
    await library.call("trigger", "private-encrypted-a", "a", {"secret": 1})
    [(name, publication)] = sent
    assert name == "shop:private-encrypted-a"
    assert json.loads(publication.data).keys() == {"nonce", "ciphertext"}


async def test_trigger_batch(library: Library, sent: list[tuple[str, Publication]]) -> None:
    batch = [
        {"channel": "news", "name": "a", "data": {"n": 1}, "socket_id": "1.2", "info": "subscription_count"},
        {"channel": "presence-a", "name": "b", "data": "2", "id": "extra"},
    ]
    assert await library.call("trigger_batch", batch) == {"batch": [{"subscription_count": 0}, {}]}
    assert [(name, each.data) for name, each in sent] == [("shop:news", b'{"n": 1}'), ("shop:presence-a", b"2")]


async def test_send_to_user(library: Library, sent: list[tuple[str, Publication]]) -> None:
    assert await library.call("send_to_user", "17", "a", {"n": 1}) == {}
    assert [name for name, _ in sent] == ["shop:#17"]


async def test_questions(library: Library) -> None:
    store = library.node.presence_store
    for user, client in (("17", "c1"), ("17", "c2"), ("23", "c3")):
        await store.add("shop:presence-a=@,.;b", ClientInfo(user, client))
    name = "presence-a=@,.;b"
    assert await library.call("channels_info", "presence-a=@,.;", ["user_count"]) == {"channels": {}}
    assert await library.call("channels_info") == {"channels": {}}
    assert await library.call("channel_info", name, ["user_count", "subscription_count"]) == {
        "occupied": True,
        "user_count": 2,
        "subscription_count": 3,
    }
    assert await library.call("channel_info", "nobody-here") == {"occupied": False}
    assert await library.call("users_info", name) == {"users": [{"id": "17"}, {"id": "23"}]}
    await library.call("trigger", "cache-a", "tick", "1.07")
    told = await library.call("channel_info", "cache-a", ["cache"])
    assert told["cache"]["data"] == "1.07"
    assert 1790 <= told["cache"]["ttl"] <= 1800


async def test_the_end_of_a_users_connections(library: Library) -> None:
    told: list[Any] = []
    library.node.cluster.listeners["pusher_terminate"] = lambda argument: told.append(json.loads(argument))
    assert await library.call("terminate_user_connections", "17") == {}
    assert told == [{"app": "9001", "user": "17"}]


async def test_failures_are_those_the_library_knows(library: Library) -> None:
    key, secret = SHOP.settings.key, SHOP.settings.secret
    disabled = library.make(DISABLED.id, DISABLED.settings.key, DISABLED.settings.secret)
    for client, kind in (
        (library.make(SHOP.id, key, "wrong"), PusherBadAuth),
        (library.make(SHOP.id, "wrong", secret), PusherBadAuth),
        (disabled, PusherForbidden),
        (library.make("1", key, secret), PusherBadStatus),
    ):
        with pytest.raises(kind):
            await library.call("channels_info", client=client)
    with pytest.raises(PusherBadRequest, match="pusher:"):
        await library.call("trigger", "news", "pusher:a", "1")
    with pytest.raises(PusherBadRequest):
        await library.call("users_info", "news")
    with pytest.raises(PusherBadStatus, match="413"):
        await library.call("trigger", "news", "a", "x" * 20_000)
