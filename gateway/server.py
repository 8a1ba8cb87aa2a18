"""Serving: one process, or a supervisor with several workers on one port."""

import asyncio
import logging
import logging.config
import os
import pickle
import resource
import signal
import socket
import struct
import sys
import threading
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

import uvicorn

from gateway.errors import SettingsError
from gateway.settings import HTTPServerSettings, Settings
from gateway.transports.uvicorn_deadlines import protocol_classes

Factory = Callable[[Settings], Any]
"""Makes the ASGI application. With several workers: a function that can be imported by name.

If the application has ``state.drain``, a coroutine function, it runs at SIGTERM before connections are closed.
"""

BACKLOG = 4096
"""Connections waiting to be accepted: what Linux allows by default (net.core.somaxconn)."""

KEEP_ALIVE = 75
"""Seconds an idle HTTP connection stays: longer than load balancers (60 s) keep theirs, so that they close first."""

GRACEFUL_SHUTDOWN = 10
"""Seconds for the requests under way, once the application has drained."""

STOP_TIMEOUT = 150.0
"""Seconds a worker has to stop before it is killed: a drain of two minutes, and the closing."""

USER_TIMEOUT = 30_000
"""Milliseconds after which the kernel gives up a peer that acknowledges nothing; by default 15 minutes."""

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s [%(process)d] %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"level": "INFO", "handlers": ["stderr"]},
    "loggers": {
        "uvicorn": {"level": "WARNING"},  # it tells of each connection, and of starting and stopping, as we do
        "gateway.websocket": {"level": "WARNING"},
        "httpx": {"level": "WARNING"},  # its lines show URLs with their queries
    },
}

_LENGTH = struct.Struct("!I")

log = logging.getLogger("gateway.server")


class ServeError(Exception):
    """The gateway cannot be served. The text is for the operator."""


def serve(settings: Settings, factory: Factory) -> None:
    """Serve until SIGTERM or SIGINT; a second one stops at once.

    Raises `SettingsError` when the settings contradict each other, `ServeError` when serving fails.
    """
    if settings.http_server.workers > 1 and settings.engine.type == "memory":
        raise SettingsError(
            f"http_server.workers = {settings.http_server.workers} needs an engine that joins the workers, "
            'for example engine.type = "redis" with engine.redis.address = "redis://127.0.0.1:6379"'
        )
    logging.config.dictConfig(LOGGING)
    raise_file_limit()
    warn_insecure(settings)
    listener = bind(settings.http_server)
    if settings.http_server.workers > 1:
        from gateway.supervisor import Supervisor  # it imports this module

        with listener:
            Supervisor(settings, factory, listener.getsockname()).run()
    else:
        run_server(settings, factory, listener, lambda: announce(settings, listener.getsockname()))


def raise_file_limit() -> None:
    """Allow as many files, hence connections, as the system grants without privilege."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
