"""Telling at start-up when the server is not the fastest there is."""

import asyncio
import inspect
import logging

from uvicorn.config import Config

from gateway.transports.uvicorn_websocket import WebSocketProtocol

log = logging.getLogger("gateway")

HINT = (
    "the gateway runs on %s: everything works, but connections cost several times more than they need to; "
    "run uvicorn with --ws gateway.transports.uvicorn_websocket:WebSocketProtocol for best speed"
)


def hint_at_speed() -> None:
    """Warn unless uvicorn serves with a protocol class of ours. To be called in the lifespan."""
    config = _uvicorn()
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
