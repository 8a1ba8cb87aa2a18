"""The composition root: settings in, FastAPI application out."""

from typing import Any

import msgspec
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.config.settings import AsyncAPISettings, Settings
from gateway.messages import Payload
from gateway.program.gateway import Gateway
from gateway.version import __version__
from gateway.web.demo import demo_router


class GatewayApp(FastAPI):
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
    undescribed = settings.model_copy(update={"asyncapi": AsyncAPISettings(enabled=False)})  # there is no program
    gateway = Gateway(undescribed, same_origin=False)
    app = GatewayApp(title="Gateway", version=__version__, lifespan=gateway.lifespan)
    running = gateway.running
    app.state.node = running.node
    app.state.drain = running.acceptor.drain  # the server calls it at SIGTERM
    app.websockets["/connection/websocket"] = running.websocket
    app.include_router(gateway.router)
    if settings.demo.enabled:
        running.node.greeting = Payload(msgspec.json.encode({"node": running.node.describe().name}))
        app.include_router(demo_router(settings.client.token.hmac_secret_key))
    return app
