"""Two nodes that serve the HTTP API for some apps, a backend that signs, and clients of the other protocol."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from gateway import Gateway
from gateway.apps.base import App
from gateway.apps.signatures import sign_request
from gateway.config.settings import Settings
from gateway.config.settings.pusher import PusherApp
from gateway.kinds import Names
from gateway.messages import Publication
from gateway.testing import Client, Kit
from gateway.web.pusher import pusher_router

KEY, SECRET = "k3y0example", "s3cr3t-example"
OPEN = {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}
SETTINGS: dict[str, Any] = {
    "client": {"allow_anonymous_connect_without_token": True, "token": {"hmac_secret_key": "a secret " * 5}},
    "engine": {"publish_wait": 0},
    "channel": {
        "without_namespace": OPEN,
        "namespaces": [
            {"name": "shop", **OPEN, "presence": True, "history_size": 1, "history_ttl": "30m"},
            {"name": "plain", **OPEN},
            {"name": "objects", **OPEN, "publication_data_format": "json_object"},
            {"name": "map", "subscription_type": "map", "map": {"mode": "recoverable", "key_ttl": "60s"}},
        ],
    },
}


Query = list[tuple[str, str]]


def make_app(**settings: Any) -> App:
    app = PusherApp.model_validate({"id": "9001", "key": KEY, "secret": SECRET, "namespace": "shop", **settings})
    return App(app, Names(app.namespace or ""))


SHOP = make_app(former_keys=[{"key": "former", "secret": "f0rmer"}])
PLAIN = make_app(id="9002", key="plain", secret="pl4in", namespace="plain")
DISABLED = make_app(id="9003", key="disabled", secret="d1sabled", enabled=False)
SMALL = make_app(
    id="9004", key="small", secret="sm4ll", max_event_size=10, max_event_channels=2, max_event_batch_size=2
)
BARE = make_app(id="9005", key="bare", secret="b4re", namespace="")
LOADED = make_app(id="9006", key="loaded", secret="l0aded")
OBJECTS = make_app(id="9007", key="objects", secret="0bjects", namespace="objects")
MAP = make_app(id="9008", key="map", secret="m4p", namespace="map")


class SomeApps:
    """Satisfies `Apps`. One of them nobody knows before it is asked for by its key."""

    def __init__(self) -> None:
        self._apps = [SHOP, PLAIN, DISABLED, SMALL, BARE, OBJECTS, MAP]
        self.failure: Exception | None = None

    def known(self, key: str) -> App | None:
        return next((each for each in self._apps if each.secret(key)), None)

    async def find(self, key: str) -> App | None:
        if self.failure:
            raise self.failure
        return LOADED if key == LOADED.settings.key else self.known(key)

    def by_id(self, app_id: str) -> App | None:
        return next((each for each in self._apps if each.id == app_id), None)

    def of_channel(self, channel: str) -> App | None:
        return next((each for each in self._apps if channel.startswith(each.names.prefix)), None)


class Backend:
    """Calls the API of the first node, as the server library of an app."""

    def __init__(self, kit: Kit, apps: SomeApps) -> None:
        self.kit = kit
        self.apps = apps

    async def send(self, method: str, path: str, body: Any = None, app: App = SHOP, **query: str) -> httpx.Response:
        """A signed call; ``path`` is the part behind the app's."""
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        whole = path if path.startswith("/") else f"/apps/{app.id}/{path}"
        return await self.raw(method, whole, content, self.sign(method, whole, content, app, **query))

    def sign(self, method: str, path: str, content: bytes = b"", app: App = SHOP, **query: str) -> Query:
        return sign_request(app, method, path, list(query.items()), content, self.kit.clock())

    async def raw(
        self,
        method: str,
        path: str,
        content: bytes = b"",
        query: Query | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        params: Any = query or []
        return await self.kit.http.request(method, path, content=content, params=params, headers=headers)

    async def post(self, path: str, body: Any = None, app: App = SHOP) -> Any:
        return done(await self.send("POST", path, {} if body is None else body, app))

    async def get(self, path: str, app: App = SHOP, **query: str) -> Any:
        return done(await self.send("GET", path, None, app, **query))

    async def refused(self, method: str, path: str, body: Any = None, app: App = SHOP, **query: str) -> tuple[int, str]:
        response = await self.send(method, path, body, app, **query)
        answer = response.json()
        assert answer["code"] == response.status_code
        return response.status_code, answer["message"]

    async def event(self, channels: list[str], data: Any = "1", app: App = SHOP, **more: Any) -> Any:
        return await self.post("events", {"name": "order.paid", "channels": channels, "data": data, **more}, app)

    async def join(self, *channels: str, user: str = "", node: int = 1) -> Client:
        """A client of the gateway's own protocol, by default on the other node."""
        token = self.kit.token(user) if user else ""
        client = await self.kit.connect(token=token, node=node)
        for channel in channels:
            await client.subscribe(channel)
        return client


def done(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    apps = SomeApps()

    def application() -> FastAPI:
        gateway = Gateway(Settings.model_validate(SETTINGS))
        app = FastAPI()
        gateway.run_in(app)
        app.include_router(gateway.router)
        app.include_router(pusher_router(lambda: gateway.node, lambda: apps))
        app.include_router(pusher_router(lambda: gateway.node, lambda: apps), prefix="/below/this")
        return app

    async with Kit(application, nodes=2) as kit:
        yield Backend(kit, apps)


@pytest.fixture
def sent(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Publication]]:
    """What is published, by the names of the gateway."""
    told: list[tuple[str, Publication]] = []
    node = backend.kit.gateway.node
    publish = node.publish

    async def noted(channel: Any, publication: Publication, *extras: Any) -> Any:
        receipt = await publish(channel, publication, *extras)
        told.append((channel.name, publication))
        return receipt

    monkeypatch.setattr(node, "publish", noted)
    return told
