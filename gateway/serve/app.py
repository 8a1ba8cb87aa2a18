"""The composition root: settings in, FastAPI application out."""

from functools import partial

import msgspec
from fastapi import FastAPI

from gateway.config.settings import AsyncAPISettings, Settings
from gateway.messages import Payload
from gateway.program.gateway import Gateway
from gateway.version import __version__
from gateway.web.demo import demo_router


def create_app(settings: Settings | None = None) -> FastAPI:
    """The gateway as an application of its own. Raises ``SettingsError``."""
    settings = settings or Settings()
    undescribed = settings.model_copy(update={"asyncapi": AsyncAPISettings(enabled=False)})  # there is no program
    gateway = Gateway(undescribed, same_origin=False)
    app = FastAPI(title="Gateway", version=__version__, lifespan=gateway.lifespan)
    running = gateway.running
    app.state.node = running.node
    running.drained_by_server = True
    app.state.lame_duck = partial(setattr, running.node, "lame_duck", True)  # the server calls it at SIGTERM
    app.state.drain = running.acceptor.drain  # and this one after a while
    app.state.endpoints = {"/connection/websocket": running.websocket}  # and gives these their connections itself
    app.include_router(gateway.router)
    if settings.demo.enabled:
        running.node.greeting = Payload(msgspec.json.encode({"node": running.node.describe().name}))
        app.include_router(demo_router(settings.client.token.hmac_secret_key))
    return app
