"""Serving: one process, or a supervisor with several workers on one port."""

import asyncio
import gc
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
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import FrameType
from typing import IO, Any

import uvicorn

from gateway.config.contradictions import find_warnings
from gateway.config.settings import Settings
from gateway.errors import SettingsError
from gateway.serve.starting import Starting
from gateway.transports import uvicorn_dispatch, uvicorn_http, uvicorn_websocket
from gateway.transports.deflate import Compression

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

STOP_TIMEOUT = 30.0
"""Seconds a worker has to stop, after the time of its drain, before it is killed."""

USER_TIMEOUT = 30_000
"""Milliseconds after which the kernel gives up a peer that acknowledges nothing; by default 15 minutes."""

YOUNG_OBJECTS = 20_000
"""Allocations between two collections of young objects. At Python's 700 (2,000 from 3.12 on) the collector looked
again and again at what was merely on its way, and took a quarter of a busy node's time."""

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s [%(process)d] %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"level": "INFO", "handlers": ["stderr"]},
    "loggers": {
        "uvicorn": {"level": "WARNING"},  # it tells of each connection, and of starting and stopping, as we do
        "httpx": {"level": "WARNING"},  # its lines show URLs with their queries
    },
}

log = logging.getLogger("gateway.serve.server")


class ServeError(Exception):
    """The gateway cannot be served. The text is for the operator."""


def serve(settings: Settings, factory: Factory) -> None:
    """Serve until SIGTERM or SIGINT; a second one stops at once.

    Raises `SettingsError` when the settings contradict each other, `ServeError` when serving fails.
    """
    http = settings.http_server
    if http.workers > 1 and settings.engine.type == "memory":
        raise SettingsError(
            f"http_server.workers = {http.workers} needs an engine that joins the workers, "
            'for example engine.type = "redis" with engine.redis.address = "redis://127.0.0.1:6379"'
        )
    logging.config.dictConfig(LOGGING)
    raise_file_limit()
    for warning in find_warnings(settings):
        log.warning(warning)
    with bind(http.address, http.port, shared=http.workers > 1) as listener:
        if http.workers > 1:
            # Never listens: it keeps the port, which may be one the system has chosen, between workers.
            asyncio.run(Supervisor(settings, factory, listener).run())
        else:
            run_server(settings, factory, listener, lambda: announce(settings, listener))


def raise_file_limit() -> None:
    """Allow as many files, hence connections, as the system grants without privilege."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError):  # macOS names a limit and grants less
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def bind(address: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket bound to the port; `shared` lets other sockets of this user bind it as well.

    Raises `ServeError`, also when another program shares the port already.
    """
    try:
        family, *_, name = socket.getaddrinfo(address or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        # Bound without SO_REUSEPORT first: with it, two gateways would share one port and nobody would know.
        sock = _bind(family, name, shared=False)
        if shared:
            name = sock.getsockname()
            sock.close()
            sock = _bind(family, name, shared=True)
    except (OSError, UnicodeError) as error:
        raise ServeError(
            f"cannot listen on {address}:{port}: {getattr(error, 'strerror', None) or 'no such address'}; "
            "choose another place with --host and --port (http_server.address, http_server.port)"
        ) from error
    return sock


def _bind(family: int, name: Any, *, shared: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if sys.platform == "linux":  # pragma: no branch  tested there; accepted connections inherit it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT)
        sock.bind(name)
    except OSError:
        sock.close()
        raise
    return sock


def announce(settings: Settings, listener: socket.socket) -> None:
    """Log where the gateway is ready."""
    address, port = listener.getsockname()[:2]
    place = reachable(address, port) + settings.http_server.root_path
    log.info("ready on http://%s and ws://%s/connection/websocket", place, place)


def reachable(address: str, port: int) -> str:
    """``host:port`` under which this machine reaches what is bound there."""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104  not bound
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# — one process —


class Server(uvicorn.Server):
    """Uvicorn that tells when it is ready, and lets the application drain before it closes connections."""

    def __init__(
        self, config: uvicorn.Config, drain: Callable[[], Awaitable[None]] | None, ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._drain = drain
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        tune_collector()
        if not self.should_exit:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not kept for uvicorn to raise again: to stop when asked is success.
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        log.info("stopping")
        if self._drain is not None:
            await self._run_drain(self._drain)
        await super().shutdown(sockets)
        log.info("stopped")

    async def _run_drain(self, drain: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.ensure_future(drain())
        while not task.done() and not self.force_exit:
            await asyncio.wait({task}, timeout=0.1)  # a signal wakes nobody, so look at force_exit now and then
        if not task.done():
            task.cancel()
        elif error := task.exception():
            log.error("the drain failed", exc_info=error)


def tune_collector() -> None:
    """Leave what there is after the start out of every collection, and collect less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)


def run_server(settings: Settings, factory: Factory, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serve on the bound socket. Raises `ServeError`, or `SettingsError`, when the application does not start."""
    app = factory(settings)
    drain = getattr(getattr(app, "state", None), "drain", None)
    config = uvicorn_config(settings, app)
    config.app = starting = Starting(app)
    server = Server(config, drain, ready)
    with suppress(SystemExit):  # some releases of uvicorn end so when the application does not start
        server.run([listener])
    if starting.refused is not None:
        raise starting.refused
    if not server.started:
        raise ServeError("the application did not start; the reason is in the log above")


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


# — several —

_WORKER = "from gateway.serve.server import work; work()"

_LENGTH = struct.Struct("!I")

CAME, FORBIDDEN = b"+", b"-"
"""What a worker sends: it is ready, or what follows is wrong with the settings."""


class Supervisor:
    """Keeps N workers running, each with a listening socket of its own on the same port.

    A worker's standard input is a socket pair: there it reads its job, tells that it is ready, and sees by the
    end that its supervisor has died, however it died. One that its settings forbid to start says so there, instead.
    """

    tries = 3
    """How often a worker may fail to come up before any has: then the reason is lasting."""
    healthy = 10.0
    """Seconds of life after which a death is not one of a row."""
    backoff = 0.5
    """Seconds before the second restart in a row; doubles up to `longest_backoff`."""
    longest_backoff = 30.0
    stop_timeout = STOP_TIMEOUT

    def __init__(self, settings: Settings, factory: Factory, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        self._job = _framed(sys.path) + _framed((listener.family, listener.getsockname(), settings, factory))
        self._processes: set[Process] = set()
        self._to_come = settings.http_server.workers
        self._any_came = False
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Supervise until a signal. Raises `ServeError` when no worker comes up, `SettingsError` if one says why."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop)
        keepers = [asyncio.create_task(self._keep()) for _ in range(self._settings.http_server.workers)]
        await self._stopping.wait()
        await asyncio.wait(keepers, timeout=self._settings.shutdown.drain_time + self.stop_timeout)
        for process in self._processes:
            log.error("worker %d does not stop and is killed", process.pid)
            process.kill()
        await asyncio.gather(*keepers)
        log.info("all workers stopped")

    def _stop(self) -> None:
        """Ask all workers to stop; asked twice, they stop at once."""
        self._stopping.set()
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.terminate()

    async def _keep(self) -> None:
        """Run one worker, and another when it dies."""
        deaths = 0
        came_before = False
        clock = asyncio.get_running_loop().time
        try:
            while not self._stopping.is_set():
                began = clock()
                came, pid, code = await self._live(first=not came_before)
                came_before |= came
                if self._stopping.is_set():
                    return
                deaths = 1 if clock() - began > self.healthy else deaths + 1
                if deaths >= self.tries and not self._any_came:
                    raise ServeError(f"workers do not come up ({_ending(code)}); the reason is in the log above")
                await self._pause(pid, code, deaths)
        finally:
            if not self._stopping.is_set():
                self._stop()

    async def _pause(self, pid: int, code: int, deaths: int) -> None:
        delay = min(self.backoff * 2 ** (deaths - 2), self.longest_backoff) if deaths > 1 else 0.0
        log.error("worker %d died (%s), starting another in %g s", pid, _ending(code), delay)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), delay)

    async def _live(self, *, first: bool) -> tuple[bool, int, int]:
        """One worker from birth to death: whether it came up, its process id and its exit code."""
        ours, theirs = socket.socketpair()
        with theirs:  # a session of its own, for Ctrl-C reaches the whole group and would count as second signal
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", _WORKER, stdin=theirs.fileno(), start_new_session=True
            )
        self._processes.add(process)
        reader, writer = await asyncio.open_connection(sock=ours)
        came = False
        try:
            if self._stopping.is_set():
                process.terminate()
            writer.write(self._job)
            with suppress(ConnectionError):
                came = await reader.read(1) == CAME
            if came:
                self._come(first=first)
            code = await process.wait()
            if not came and (reason := (await reader.read()).decode()):
                if not self._any_came:
                    raise SettingsError(reason)
                log.error("worker %d: %s", process.pid, reason)
            return came, process.pid, code
        finally:
            self._processes.discard(process)
            writer.close()

    def _come(self, *, first: bool) -> None:
        self._any_came = True
        self._to_come -= first
        if first and not self._to_come:
            announce(self._settings, self._listener)


def _framed(value: object) -> bytes:
    data = pickle.dumps(value)
    return _LENGTH.pack(len(data)) + data


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def work() -> None:
    """The whole life of a worker process."""
    channel = socket.socket(fileno=os.dup(0))
    job = channel.makefile("rb")
    sys.path[:] = _read(job)  # first, for the job itself may name modules found there
    family, name, settings, factory = _read(job)
    logging.config.dictConfig(LOGGING)
    threading.Thread(target=_end_with_supervisor, args=(channel,), daemon=True).start()
    try:
        with _bind(family, name, shared=True) as listener:
            run_server(settings, factory, listener, lambda: channel.sendall(CAME))
    except SettingsError as error:
        with suppress(ConnectionError):
            channel.sendall(FORBIDDEN + str(error).encode())
        sys.exit(1)
    except ServeError as error:
        log.error("%s", error)
        sys.exit(1)


def _read(file: IO[bytes]) -> Any:
    (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
    return pickle.loads(file.read(length))  # noqa: S301  our own parent wrote it


def _end_with_supervisor(channel: socket.socket) -> None:
    with suppress(ConnectionError):
        channel.recv(1)  # nothing more is ever sent, so this returns when the supervisor has gone
    os.kill(os.getpid(), signal.SIGTERM)
