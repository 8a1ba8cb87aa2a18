"""The composition root: settings in, FastAPI application out."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway import __version__
from gateway.auth.tokens import TokenVerifier
from gateway.brokers.base import Broker
from gateway.brokers.memory import MemoryBroker
from gateway.brokers.redis import RedisBroker
from gateway.contradictions import find_problems
from gateway.errors import SettingsError
from gateway.messages import Payload
from gateway.node import Node
from gateway.presence.base import PresenceStore
from gateway.presence.memory import MemoryPresence
from gateway.presence.redis import RedisPresence
from gateway.protocols.centrifuge_json import CentrifugeJson
from gateway.settings import Settings
from gateway.shards import Shard
from gateway.transports.base import Entrance
from gateway.transports.endpoint import WebSocketEndpoint
from gateway.web.api import api_router
from gateway.web.demo import demo_router
from gateway.web.health import health_router


class Application(FastAPI):
    """FastAPI, but WebSockets of the gateway do not pass what it puts around every route.

    That is made for HTTP, keeps its frames for as long as the connection lasts, and costs more than the handshake.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.websockets: dict[str, ASGIApp] = {}
        """Endpoints by path."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and (endpoint := self._endpoint(scope)):
            await endpoint(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def _endpoint(self, scope: Scope) -> ASGIApp | None:
        path: str = scope["path"]
        return self.websockets.get(path.removeprefix(scope.get("root_path", "")))


def create_app(settings: Settings | None = None) -> FastAPI:
    """The gateway as an application of its own. Raises ``SettingsError``."""
    settings = settings or Settings()
    if problems := [f"{problem.key}: {problem.text}" for problem in find_problems(settings)]:
        raise SettingsError("\n".join(problems))
    shard, broker, presence = _engine(settings)
    node = Node(settings, broker, presence)
    entrance = Entrance(node, TokenVerifier(settings.client))

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if shard is not None:
                await shard.start()
                stack.push_async_callback(shard.close)
            await node.start()
            stack.push_async_callback(node.stop)
            yield

    app = Application(title="Gateway", version=__version__, lifespan=lifespan)
    app.state.node = node
    app.state.drain = entrance.drain  # the server calls it at SIGTERM
    app.websockets["/connection/websocket"] = _endpoint(node, entrance)
    app.include_router(api_router(node, settings.http_api))
    app.include_router(health_router(node, settings))
    if settings.demo.enabled:
        node.greeting = Payload(msgspec.json.encode({"node": node.describe().name}))
        app.include_router(demo_router(settings.client.token.hmac_secret_key))
    return app


def _engine(settings: Settings) -> tuple[Shard | None, Broker, PresenceStore]:
    if settings.engine.type == "memory":
        return None, MemoryBroker(), MemoryPresence()
    shard = Shard(settings.engine.redis)
    return shard, RedisBroker(shard), RedisPresence(shard)


def _endpoint(node: Node, entrance: Entrance) -> WebSocketEndpoint:
    json = CentrifugeJson()
    return WebSocketEndpoint(entrance, {"": json, "centrifuge-json": json}, node.settings, node.wheel)
