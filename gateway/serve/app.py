"""The composition root: settings in, FastAPI application out."""

from functools import partial

import msgspec
from fastapi import FastAPI

from gateway.config.settings import AsyncAPISettings, Settings
from gateway.config.sources import load
from gateway.messages import Payload
from gateway.program.gateway import Gateway
from gateway.transports.pusher_endpoint import PATH as PUSHER
from gateway.transports.uni_websocket import PATH as UNI_WEBSOCKET
from gateway.transports.upgrade import WEBSOCKET_PATHS, Nowhere
from gateway.transports.uvicorn_websocket import any_below
from gateway.version import __version__
from gateway.web.demo import demo_router


def create_app(settings: Settings | None = None) -> FastAPI:
    """The gateway as an application of its own. Raises ``SettingsError``."""
    settings = settings or load()
    gateway = Gateway(_undescribed(settings), same_origin=False)
    app = FastAPI(title="Gateway", version=__version__, lifespan=gateway.lifespan)
    running = gateway.running
    app.state.node = running.node
    running.drained_by_server = True
    app.state.lame_duck = partial(setattr, running.node, "lame_duck", True)  # the server calls it at SIGTERM
    app.state.drain = running.acceptor.drain  # and this one after a while
    app.state.reload = lambda changed: gateway.reload(_undescribed(changed))  # at SIGHUP
    app.state.endpoints = dict.fromkeys(WEBSOCKET_PATHS, running.websocket)  # and gives these their connections itself
    if settings.uni_websocket.enabled:
        app.state.endpoints[UNI_WEBSOCKET] = running.uni_websocket
    if running.pusher is not None:
        app.state.endpoints[any_below(PUSHER)] = running.pusher
    app.include_router(gateway.router)
    paths = [path for path in app.state.endpoints if not path.endswith("/")]
    app.router.default = Nowhere(running.acceptor, app.router.default, paths, settings.http_server.root_path)
    if settings.demo.enabled:
        running.node.greeting = Payload(msgspec.json.encode({"node": running.node.name}))
        app.include_router(demo_router(lambda: gateway.settings.client.token.signing_secret))
    return app


def _undescribed(settings: Settings) -> Settings:
    """Without the document of a program, for there is none."""
    return settings.model_copy(update={"asyncapi": AsyncAPISettings(enabled=False)})
