"""ASGI servers in the event loop of a test, each on a port of its own."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

import hypercorn.asyncio
import hypercorn.config
import uvicorn

from gateway.config.settings import Settings
from gateway.core.wheel import Wheel
from gateway.program.engine import ENVIRONMENT, Environment
from gateway.serve.listening import bind
from gateway.serve.server import uvicorn_config
from gateway.transports.uvicorn_websocket import WebSocketProtocol
from tests.waiting import until

Serve = Callable[[Any, Settings], AbstractAsyncContextManager[int]]
"""Serves the application and yields the port."""


@contextmanager
def at_a_standstill() -> Iterator[None]:
    """Gateways that are made meanwhile have a clock for deadlines and rates that stands still."""
    token = ENVIRONMENT.set(Environment(wheel=lambda: Wheel(lambda: 1000.0)))
    try:
        yield
    finally:
        ENVIRONMENT.reset(token)


def on_uvicorn(app: Any, settings: Settings) -> AbstractAsyncContextManager[int]:
    """As ``gateway serve`` runs it, with protocol classes of our own."""
    return _on_uvicorn(uvicorn_config(settings, app))


def on_plain_uvicorn(app: Any, settings: Settings, http: Any = "auto") -> AbstractAsyncContextManager[int]:
    """As somebody runs it who has not read how to make it faster; with ``http`` as in ``uvicorn --http``."""
    return _on_uvicorn(uvicorn.Config(app, http=http, log_config=None))


def on_fast_uvicorn(app: Any, settings: Settings, **options: Any) -> AbstractAsyncContextManager[int]:
    """As somebody runs it who has."""
    return _on_uvicorn(uvicorn.Config(app, ws=WebSocketProtocol, log_config=None, **options))


@asynccontextmanager
async def _on_uvicorn(config: uvicorn.Config) -> AsyncIterator[int]:
    with bind("127.0.0.1", 0) as listener:
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve([listener]))
        try:
            await until(lambda: server.started or task.done())
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await task


@asynccontextmanager
async def on_hypercorn(app: Any, settings: Settings) -> AsyncIterator[int]:
    stop = asyncio.Event()
    with bind("127.0.0.1", 0) as listener:
        listener.listen()  # who connects before it serves waits
        config = hypercorn.config.Config()
        config.bind = [f"fd://{os.dup(listener.fileno())}"]
        config.graceful_timeout = 1.0
        config.errorlog = None
        task = asyncio.create_task(hypercorn.asyncio.serve(app, config, shutdown_trigger=stop.wait, mode="asgi"))
        try:
            yield listener.getsockname()[1]
        finally:
            stop.set()
            await task
