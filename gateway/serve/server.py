"""Serving in one process."""

import asyncio
import gc
import logging
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any

import uvicorn

from gateway.config.settings import Settings
from gateway.recurring import Recurring
from gateway.serve.greeting import GreetingServer
from gateway.serve.lame_duck import NO_LAME_DUCK, LameDuck, LeavingState, lame_duck_of
from gateway.serve.listening import Listener, ServeError
from gateway.serve.proxy_protocol import Address
from gateway.serve.sides import UNIX, Sides, endpoints_of, forwarders
from gateway.serve.site import Part, site
from gateway.serve.starting import Starting
from gateway.serve.systemd import Watchdog, notify
from gateway.transports import uvicorn_dispatch, uvicorn_http, uvicorn_websocket
from gateway.transports.deflate import Compression
from gateway.transports.uvicorn_dispatch import is_unheard

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
        sides: Sides,
        listeners: Sequence[Listener],
        drain: Callable[[], Awaitable[None]] | None,
        ready: Callable[[], None],
        lame_duck: LameDuck = NO_LAME_DUCK,
        refusals: Recurring | None = None,
    ) -> None:
        """``refusals`` counts and tells who is turned away before the application hears of it."""
        super().__init__(sides.clients.config)
        self.server_state: LeavingState = LeavingState()
        self._sides = sides
        self._listeners = listeners
        self._drain = drain
        self._ready = ready
        self._lame_duck = lame_duck
        self._refusals = refusals or Recurring(log, time.monotonic)
        self._told_to_stop = False
        self._greeted: set[asyncio.Task[None]] = set()
        self._watchdog = Watchdog()
        self._told_by_service = False
        """Whether by SIGTERM. Who presses Ctrl+C has no balancer, and does not want to wait."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        if not self._sides.operators.config.loaded:
            self._sides.operators.config.load()
        await super().startup([])
        await self._begin_listening()
        tune_collector()
        if not self.should_exit:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not kept for uvicorn to raise again: to stop when asked is success.
        self.force_exit = self._told_to_stop
        self.should_exit = self._told_to_stop = True
        self._told_by_service = sig == signal.SIGTERM

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # each second
            self._sides.look()
            self._watchdog.beat(self._loop.time())
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        notify("STOPPING=1")
        log.info("stopping")
        await self.drain()
        await self._end_listening(self._listeners)
        await super().shutdown([])
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

    # — listening —

    async def _begin_listening(self) -> None:
        self.servers = [await self._listen(listener, listener.sock.dup()) for listener in self._listeners]

    async def _listen(self, listener: Listener, sock: socket.socket) -> Any:
        """Accept on the socket, which is closed with what is returned: an ``asyncio.Server``, as uvicorn uses it."""
        if (greeter := self._greeter(listener, sock)) is not None:
            greeter.start(BACKLOG)
            return greeter
        protocol = self._maker(listener)
        if listener.is_unix:
            return await self._loop.create_unix_server(protocol, sock=sock, backlog=BACKLOG)
        return await self._loop.create_server(protocol, sock=sock, backlog=BACKLOG)

    def _greeter(self, listener: Listener, sock: socket.socket) -> GreetingServer | None:
        """What accepts where something comes before HTTP."""
        side = self._sides.of(listener)
        context = side.certificates.context if side.certificates is not None and not listener.is_unix else None
        if context is None and side.proxies is None:
            return None
        return GreetingServer(
            sock,
            self._maker(listener),
            side.proxies,
            context,
            self._sides.timeout,
            self._greeted,
            self._refusals,
            spared=listener.internal,
        )

    def _maker(self, listener: Listener) -> Callable[..., asyncio.Protocol]:
        """What makes the protocol of each connection there; of its client it is told what the socket does not tell."""
        config, peer = self._sides.of(listener).config, UNIX if listener.is_unix else None
        made: Any = config.http_protocol_class
        if listener.internal:
            made = type(made.__name__, (made,), {"__slots__": (), "spared": True})
        state, loop = self.server_state, self._loop

        def make(client: Address | None = None) -> asyncio.Protocol:
            protocol: asyncio.Protocol = made(config, state, self.lifespan.state, loop, client or peer)
            return protocol

        return make

    async def _end_listening(self, queues: Sequence[Listener]) -> None:
        """Accept nothing more, but answer whoever waits in these queues, and who has connected by now.

        A balancer that finds a port closed asks another node; from one that closes on it, it has nothing to go by.
        """
        for listener in queues:
            with suppress(OSError):  # of which BlockingIOError says that nobody waits any more
                await self._take(listener)
        for server in self.servers:
            server.close()
        for listener in self._listeners:  # else connections would wait where nobody accepts
            listener.sock.close()
        end = self._loop.time() + FIRST_HEAD
        while self._unheard() and self._loop.time() < end and not self.force_exit:  # noqa: ASYNC110  it has a deadline
            await asyncio.sleep(0.02)

    async def _take(self, listener: Listener) -> None:
        """Accept all who wait. Raises ``BlockingIOError`` when that is done."""
        listener.sock.setblocking(False)
        greeter, make = self._greeter(listener, listener.sock), self._maker(listener)
        while True:
            connection, _ = listener.sock.accept()
            if greeter is not None:
                greeter.greet(connection)
            else:
                await self._loop.connect_accepted_socket(make, connection)

    def _unheard(self) -> bool:
        """Whether anybody has connected and has not said yet what for."""
        return bool(self._greeted) or any(map(is_unheard, self.server_state.connections))


def tune_collector() -> None:
    """Leave what there is after the start out of every collection, and collect less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)


def run_server(settings: Settings, factory: Factory, listeners: Sequence[Listener], ready: Callable[[], None]) -> None:
    """Serve on the bound sockets. Raises `ServeError`, or `SettingsError`, when the application does not start."""
    app = factory(settings)
    sides = sides_of(settings, app, listeners)
    run(Server(sides, listeners, drain_of(app), ready, lame_duck_of(settings, app), refusals_of(app)))


def run(server: Server) -> None:
    """Run until the server stops. Raises `ServeError`, or `SettingsError`, when the application does not start."""
    starting = Starting(server.config.app)
    server.config.app = starting
    with suppress(SystemExit):  # some releases of uvicorn end so when the application does not start
        server.run()
    if starting.refused is not None:
        raise starting.refused
    if not server.started:
        raise ServeError("the application did not start; the reason is in the log above")


def drain_of(app: Any) -> Callable[[], Awaitable[None]] | None:
    """How the application drains, if it does."""
    drain: Callable[[], Awaitable[None]] | None = getattr(getattr(app, "state", None), "drain", None)
    return drain


def sides_of(settings: Settings, app: Any, listeners: Sequence[Listener]) -> Sides:
    """How the application is served on these. Raises `SettingsError` for certificates that cannot be used."""
    return Sides(settings, partial(uvicorn_config, settings, app), listeners)


def refusals_of(app: Any) -> Recurring | None:
    """Those of the gateway's node, if the application has one."""
    found: Recurring | None = getattr(getattr(getattr(app, "state", None), "node", None), "refusals", None)
    return found


def uvicorn_config(settings: Settings, app: Any, part: Part = Part.WHOLE) -> uvicorn.Config:
    """What uvicorn is told. Its limit of concurrency stays off: it counts WebSockets but refuses only HTTP."""
    websocket, timeout = settings.websocket, settings.client.message_timeout
    offered = None
    if websocket.compression:
        offered = Compression(level=websocket.compression_level, min_size=websocket.compression_min_size)
    http = settings.http_server
    websocket_class = uvicorn_websocket.protocol_class(timeout, offered, endpoints_of(app, http.root_path, part))
    return uvicorn.Config(
        site(app, http.root_path, part),
        loop="uvloop",
        http=uvicorn_dispatch.protocol_class(uvicorn_http.protocol_class(timeout), websocket_class),
        ws=websocket_class,
        ws_max_size=settings.client.message_size_limit,
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=settings.log.access,
        forwarded_allow_ips=forwarders(http.forwarded_allow_ips),
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN,
        workers=1,
    )
