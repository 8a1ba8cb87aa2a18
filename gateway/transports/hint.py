"""Telling at start-up when the server is not the fastest there is, or loses what it is sent."""

import asyncio
import inspect
import logging

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.transports.uvicorn_http import HttpProtocol
from gateway.transports.uvicorn_websocket import WebSocketProtocol

log = logging.getLogger("gateway")

HINT = (
    "the gateway runs on %s: everything works, but connections cost several times more than they need to; "
    "run uvicorn with --ws gateway.transports.uvicorn_websocket:WebSocketProtocol for best speed"
)

BODIES = (
    "uvicorn's HTTP class for httptools loses the body of a request that offers an upgrade, as Java's HttpClient and "
    "curl --http2 do, or runs it as a request; run uvicorn with --http "
    "gateway.transports.uvicorn_dispatch:first_protocol, or with --http h11"
)


def hint_at_server() -> None:
    """Warn unless uvicorn serves with protocol classes of ours. To be called in the lifespan."""
    config = _uvicorn()
    _hint_at_speed(config)
    kind = getattr(config, "http_protocol_class", None)
    if inspect.isclass(kind) and issubclass(kind, HttpToolsProtocol) and not issubclass(kind, HttpProtocol):
        log.warning(BODIES)


def _hint_at_speed(config: Config | None) -> None:
    if config is None:
        log.warning(HINT, "a server other than uvicorn")
    elif not (inspect.isclass(kind := config.ws_protocol_class) and issubclass(kind, WebSocketProtocol)):
        log.warning(HINT, f"uvicorn's {getattr(kind, '__name__', 'HTTP alone')}")


def _uvicorn() -> Config | None:
    """The configuration of the uvicorn that runs this lifespan. ASGI has no word for it, but its task has."""
    task = asyncio.current_task()
    frame = getattr(task.get_coro(), "cr_frame", None) if task else None
    config = getattr(frame.f_locals.get("self"), "config", None) if frame else None
    return config if isinstance(config, Config) else None
