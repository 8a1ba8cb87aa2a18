"""The composition root: settings in, FastAPI application out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from fastapi import FastAPI
from starlette.routing import WebSocketRoute

from gateway import __version__
from gateway.auth.tokens import TokenVerifier
from gateway.brokers.base import Broker
from gateway.brokers.memory import MemoryBroker
from gateway.messages import Payload
from gateway.node import Node
from gateway.presence.base import PresenceStore
from gateway.presence.memory import MemoryPresence
from gateway.protocols.base import Wire
from gateway.protocols.centrifuge_json import CentrifugeJson
from gateway.settings import Settings
from gateway.transports.base import Entrance
from gateway.transports.websocket import WebSocketEndpoint, text_frame


def create_app(settings: Settings | None = None) -> FastAPI:
    """The gateway as an application of its own. Raises ``SettingsError``."""
    settings = settings or Settings()
    broker, presence = _engine(settings)
    node = Node(settings, broker, presence)
    if settings.demo.enabled:
        node.greeting = Payload(msgspec.json.encode({"node": node.describe().name}))

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await node.start()
        try:
            yield
        finally:
            await node.stop()

    app = FastAPI(title="Gateway", version=__version__, lifespan=lifespan)
    app.state.node = node
    client = settings.client
    json = Wire(CentrifugeJson(), text_frame)
    entrance = Entrance(node, TokenVerifier(client))
    endpoint = WebSocketEndpoint(entrance, {"": json, "centrifuge-json": json}, client.queue_max_size, node.wheel)
    app.router.routes.append(WebSocketRoute("/connection/websocket", endpoint))
    return app


def _engine(settings: Settings) -> tuple[Broker, PresenceStore]:
    return MemoryBroker(), MemoryPresence()
