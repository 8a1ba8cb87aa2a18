"""Serving in one process."""

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn

from gateway.config.settings import Settings
from gateway.serve.lame_duck import NO_LAME_DUCK, LameDuck, LeavingState, lame_duck_of
from gateway.serve.listening import ServeError
from gateway.serve.starting import Starting
from gateway.serve.systemd import notify
from gateway.transports import uvicorn_dispatch, uvicorn_http, uvicorn_websocket
from gateway.transports.deflate import Compression
from gateway.transports.uvicorn_dispatch import DispatchProtocol

Factory = Callable[[Settings], Any]
"""Makes the ASGI application. With several workers: a function that can be imported by name.

If the application has ``state.drain``, a coroutine function, it runs at SIGTERM before connections are closed. If it
has ``state.lame_duck``, that is called ``shutdown.grace`` before, and the application is not ready from then on.
"""

BACKLOG = 4096
"""Connections waiting to be accepted: what Linux allows by default (net.core.somaxconn)."""

KEEP_ALIVE = 75
"""Seconds an idle HTTP connection stays: longer than load balancers (60 s) keep theirs, so that they close first."""

GRACEFUL_SHUTDOWN = 10
"""Seconds for the requests under way, once the application has drained."""

FIRST_HEAD = 1.0
"""Seconds for the first requests of those who had connected before listening ended."""

YOUNG_OBJECTS = 20_000
"""Allocations between two collections of young objects. At Python's 700 (2,000 from 3.12 on) the collector looked
again and again at what was merely on its way, and took a quarter of a busy node's time."""

log = logging.getLogger("gateway.serve.server")


class Server(uvicorn.Server):
    """Uvicorn that tells when it is ready, and lets the application drain before it closes connections."""

    def __init__(
        self,
        config: uvicorn.Config,
        drain: Callable[[], Awaitable[None]] | None,
        ready: Callable[[], None],
        lame_duck: LameDuck = NO_LAME_DUCK,
    ) -> None:
        super().__init__(config)
        self.server_state: LeavingState = LeavingState()
        self._drain = drain
        self._ready = ready
        self._lame_duck = lame_duck
        self._told_to_stop = False
        self._told_by_service = False
        """Whether by SIGTERM. Who presses Ctrl+C has no balancer, and does not want to wait."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        tune_collector()
        if not self.should_exit:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not kept for uvicorn to raise again: to stop when asked is success.
        self.force_exit = self._told_to_stop
        self.should_exit = self._told_to_stop = True
        self._told_by_service = sig == signal.SIGTERM

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        notify("STOPPING=1")
        log.info("stopping")
        await self.drain()
        await self._end_listening(sockets or [])
        await super().shutdown(sockets)
        log.info("stopped")

    async def drain(self) -> None:
        """Let the application send its clients away, when balancers know; a second signal ends that."""
        task = asyncio.ensure_future(self._goodbye())
        while not task.done() and not self.force_exit:
            await asyncio.wait({task}, timeout=0.1)  # a signal wakes nobody, so look at force_exit now and then
        if not task.done():
            task.cancel()
        elif error := task.exception():
            log.error("the drain failed", exc_info=error)

    async def _goodbye(self) -> None:
        seconds = self._lame_duck.seconds if self._told_by_service else 0.0
        self.server_state.keep_alive = False
        if seconds:
            log.info("not ready any more, and serving as ever for %g s: shutdown.grace", seconds)
            self._lame_duck.begin()
            await asyncio.sleep(seconds)
        if self._drain is not None:
            await self._drain()

    async def _end_listening(self, sockets: list[socket.socket]) -> None:
        """Accept nothing more, but answer whoever has connected by now.

        A balancer that finds a port closed asks another node; from one that closes on it, it has nothing to go by.
        """
        loop = asyncio.get_running_loop()
        for listener in sockets:
            with suppress(OSError):  # of which BlockingIOError says that nobody waits any more
                listener.setblocking(False)
                while True:
                    connection, _ = listener.accept()
                    await loop.connect_accepted_socket(self._protocol, connection, ssl=self.config.ssl)
        for server in self.servers:
            server.close()
        for listener in sockets:
            listener.close()
        end = loop.time() + FIRST_HEAD
        while self._unheard() and loop.time() < end and not self.force_exit:  # noqa: ASYNC110  it has a deadline
            await asyncio.sleep(0.02)

    def _unheard(self) -> bool:
        """Whether anybody has connected and has not said yet what for."""
        return any(isinstance(each, DispatchProtocol) for each in self.server_state.connections)

    def _protocol(self) -> asyncio.Protocol:
        made: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = made(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol


def tune_collector() -> None:
    """Leave what there is after the start out of every collection, and collect less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)


def run_server(settings: Settings, factory: Factory, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serve on the bound socket. Raises `ServeError`, or `SettingsError`, when the application does not start."""
    app = factory(settings)
    run(Server(uvicorn_config(settings, app), drain_of(app), ready, lame_duck_of(settings, app)), [listener])


def run(server: Server, listeners: list[socket.socket]) -> None:
    """Run until the server stops. Raises `ServeError`, or `SettingsError`, when the application does not start."""
    starting = Starting(server.config.app)
    server.config.app = starting
    with suppress(SystemExit):  # some releases of uvicorn end so when the application does not start
        server.run(listeners)
    if starting.refused is not None:
        raise starting.refused
    if not server.started:
        raise ServeError("the application did not start; the reason is in the log above")


def drain_of(app: Any) -> Callable[[], Awaitable[None]] | None:
    """How the application drains, if it does."""
    drain: Callable[[], Awaitable[None]] | None = getattr(getattr(app, "state", None), "drain", None)
    return drain


def uvicorn_config(settings: Settings, app: Any) -> uvicorn.Config:
    """What uvicorn is told. Its limit of concurrency stays off: it counts WebSockets but refuses only HTTP."""
    websocket, timeout = settings.websocket, settings.client.message_timeout
    offered = None
    if websocket.compression:
        offered = Compression(level=websocket.compression_level, min_size=websocket.compression_min_size)
    endpoints = getattr(getattr(app, "state", None), "endpoints", None)
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=uvicorn_dispatch.protocol_class(uvicorn_http.protocol_class(timeout)),
        ws=uvicorn_websocket.protocol_class(timeout, offered, endpoints),
        ws_max_size=settings.client.message_size_limit,
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        forwarded_allow_ips=settings.http_server.forwarded_allow_ips,
        server_header=False,
        root_path=settings.http_server.root_path,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN,
        workers=1,
    )
