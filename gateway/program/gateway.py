"""The gateway inside a FastAPI application, and what programs are written with."""

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cached_property, partial
from typing import Any, TypeVar, Unpack
from weakref import WeakValueDictionary

from fastapi import APIRouter, FastAPI
from fastapi.params import Depends
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from gateway.admin.router import admin_router
from gateway.channels import Channels
from gateway.config.contradictions import find_problems
from gateway.config.reloading import compare
from gateway.config.settings import Settings
from gateway.config.sources import load
from gateway.contracts.reading import contract_of
from gateway.contracts.router import contracts_router
from gateway.core.node import Node
from gateway.errors import SettingsError
from gateway.limits.limit import Key, Limits, Quota, RateLimit
from gateway.program.engine import ENVIRONMENT
from gateway.program.joined import find_unasked
from gateway.program.keywords import Sections, check_keywords
from gateway.program.late import LateApplication, LateStart
from gateway.program.operations import Operations
from gateway.program.publisher import Publisher
from gateway.program.pusher import Pusher
from gateway.program.routes.base_router import BaseRouter
from gateway.program.routes.channel import ChannelRoute
from gateway.program.routes.declaration import Declaration
from gateway.program.routes.listening import Listener
from gateway.program.routes.program import Program
from gateway.program.routes.router import ChannelRouter, Inclusion, check_router
from gateway.program.routes.streams import Stream
from gateway.program.routes.tokens import ClientToken
from gateway.program.running import Running
from gateway.program.sockets.attaching import Attachment, Sockets
from gateway.program.sockets.attaching import Options as SocketOptions
from gateway.program.sockets.manager import ConnectionManager
from gateway.program.typed import T
from gateway.program.unavailable import answer_unavailable
from gateway.program.unsupported import check_supported
from gateway.tracing import around_api
from gateway.transports.emulation_endpoint import emulation_routes
from gateway.transports.http_stream import stream_routes
from gateway.transports.pusher_endpoint import PATH as PUSHER
from gateway.transports.uni_websocket import PATH as UNI_WEBSOCKET
from gateway.transports.upgrade import WEBSOCKET_PATHS, UpgradeNeeded
from gateway.web.api import api_router
from gateway.web.health import health_router
from gateway.web.pusher import pusher_router

log = logging.getLogger("gateway")

F = TypeVar("F", bound=Callable[..., Any])

WEBSOCKET = "gateway_websocket"
"""Name of the route, for ``url_path_for``."""


class Gateway(Operations, BaseRouter):
    """The gateway of one application. Several may live in one process ::

        gateway = Gateway()
        app = FastAPI()
        gateway.run_in(app)
        app.include_router(gateway.router)

    Settings come from file and environment, as for ``gateway serve``; before these come the ``sections`` that the
    program gives, as ``Gateway(uni_sse={"enabled": True})``. Whole ``settings`` take the place of all. With
    ``same_origin``, pages of the application's own origin may connect, beside those of ``client.allowed_origins``.
    Raises `SettingsError`, and ``TypeError`` for a section that there is not.
    """

    def __init__(
        self, settings: Settings | None = None, *, same_origin: bool = True, **sections: Unpack[Sections]
    ) -> None:
        check_keywords("Gateway()", sections, ["settings", "same_origin", *Sections.__annotations__])
        if settings is not None and sections:
            raise TypeError(f"Gateway takes settings or sections ({', '.join(sections)}), not both")
        self._load: Callable[[], Settings] | None = None
        if settings is None:
            self._load = partial(load, program=sections, embedded=True)
            settings = self._load()
        self.settings = settings
        _check(self.settings)
        self._same_origin = same_origin
        self._program = Program(self.settings.channel, self)
        self._running: Running | None = None
        self._late: LateStart | None = None
        self._app: FastAPI | None = None
        self._stopped_in: asyncio.AbstractEventLoop | None = None
        self._limits = Limits(lambda: self._started().engine.limits)
        self.token = ClientToken()
        """The token that a client sends, for ``Depends`` and ``Security``: see `ClientToken`."""
        self.managers: MutableMapping[str, ConnectionManager] = WeakValueDictionary()
        """The `ConnectionManager` of each channel."""
        self.pusher = Pusher(self, self._program, self._started)

    def reload(self, settings: Settings | None = None) -> tuple[str, ...]:
        """Go by other settings from now on: those given, or what file and environment say now. Nobody is cut off
        but who is connected to an app that is gone.

        Tokens, API keys, origins, limits and namespaces hold at once. Returns the names of those that differ and wait
        for a restart. Raises `SettingsError` for settings that cannot be, and then nothing has changed; ``TypeError``
        without settings where `Gateway` was given whole ones.
        """
        if self._running is not None:
            self._running.node.check_loop()
        if settings is None:
            if self._load is None:
                raise TypeError("this gateway was given settings, and does not know where from: give reload() others")
            settings = self._load()
        change = compare(self.settings, settings)
        _check(change.settings)
        if self._running is not None:
            self._running.reload(change.settings)
        self.settings = change.settings
        log.info(
            "settings are read anew: %s", ", ".join(change.at_once) or "nothing has changed that may while it runs"
        )
        for name in change.waiting:
            log.warning("%s has changed, and waits for a restart", name)
        return change.waiting

    # — life —

    @property
    def running(self) -> Running:
        """The node and what belongs to it; another one after each stop."""
        if self._running is None:
            self._program.close()
            warnings = check_supported(self.settings, self._program.channels, self._limits)
            for warning in (*warnings, *find_unasked(self.settings, self._program)):
                log.warning(warning)
            self._running = Running(self.settings, self._program, self._same_origin, ENVIRONMENT.get())
        return self._running

    @property
    def node(self) -> Node:
        """This process in the cluster. Raises ``RuntimeError`` while the gateway does not run."""
        return self._started().node

    def _started(self) -> Running:
        if self._running is None or not self._running.started:
            raise RuntimeError(
                "the gateway does not run: write gateway.run_in(app), "
                "or within a lifespan of your own `async with gateway.lifespan(app): yield`; "
                "in tests, enter the lifespan, too: `with TestClient(app) as client`"
            )
        return self._running

    @asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncIterator[None]:
        """Run the gateway in a lifespan of your own: ``async with gateway.lifespan(app): yield``.

        It is one by itself, too: ``FastAPI(lifespan=gateway.lifespan)``. Within itself it does nothing.
        """
        _warn_of_event_handlers(app)
        async with self._run(app):
            yield

    @asynccontextmanager
    async def _run(self, app: Any) -> AsyncIterator[None]:
        running = self.running
        if running.started:
            yield
            return
        self._program.app = app
        running.environment.on_start(self)
        try:
            self._program.runs = True
            async with running.run():
                try:
                    yield
                finally:
                    self._stopped_in = asyncio.get_running_loop()
        finally:
            self._program.runs = False
            self._running = None

    async def run_on(self) -> None:
        """Run from now on, until the event loop ends, unless the application runs it.

        It does not where its lifespan is left out: by ``TestClient(app)`` without ``with``, for one. Raises
        ``RuntimeError`` in another event loop than that in which it runs, and after it has stopped.
        """
        late = self._late if self._late is not None and not self._late.over else None
        if late is None and self._running is None and self._stopped_in is not asyncio.get_running_loop():
            late = self._late = LateStart(self._run(self._app))
        if late is not None:
            await late.begun()
        self.node.check_loop()

    def run_in(self, app: FastAPI) -> None:
        """Run with an application that is made already, around its own lifespan.

        Its routes that let ``BrokerUnavailable`` through close with 1013, or answer 503, unless it has a handler.
        """
        self._app = app
        answer_unavailable(app, lambda: self._running.acceptor if self._running else None)
        inner = app.router.lifespan_context

        @asynccontextmanager
        async def both(app: FastAPI) -> AsyncIterator[Any]:
            async with self._run(app), inner(app) as state:
                yield state

        app.router.lifespan_context = both

    @cached_property
    def router(self) -> APIRouter:
        """``/connection/…``, ``/api/…``, ``/apps/…``, ``/health``, …: for ``app.include_router``, with any prefix."""
        router = APIRouter(lifespan=self._run)
        websocket = LateApplication(lambda: self._started().websocket)
        needed = UpgradeNeeded(lambda: self._started().acceptor)
        for path in WEBSOCKET_PATHS:
            router.routes += [WebSocketRoute(path, websocket, name=WEBSOCKET), Route(path, needed)]
        if self.settings.uni_websocket.enabled:
            listening = LateApplication(lambda: self._started().uni_websocket)
            router.routes += [WebSocketRoute(UNI_WEBSOCKET, listening), Route(UNI_WEBSOCKET, needed)]
        if self.settings.pusher.enabled:
            router.routes.append(WebSocketRoute(PUSHER + "{key:path}", LateApplication(lambda: self._started().pusher)))
        router.routes += stream_routes(lambda: self._started().acceptor, self.settings)
        router.routes += emulation_routes(lambda: self._started().acceptor, self.settings)
        around = around_api(self.settings.opentelemetry, lambda: self._started().tracing)
        router.include_router(api_router(lambda: self.node, lambda: self.settings.http_api, around))
        if self.settings.pusher.enabled:
            router.include_router(pusher_router(lambda: self.node, lambda: self._started().apps, around))
        router.include_router(health_router(lambda: self.node, self.settings))
        if self.settings.admin.enabled:
            admin = admin_router(
                lambda: self.node, lambda: self.settings.admin, lambda scope: self._started().acceptor.address(scope)
            )
            router.include_router(admin)
        if self.settings.asyncapi.enabled:
            router.include_router(contracts_router(lambda: contract_of(self._program, self.settings)))
        return router

    # — handlers —

    def include(self, router: ChannelRouter, *, prefix: str = "", dependencies: Sequence[Depends] = ()) -> Inclusion:
        """Declare here what a router declares, with ``prefix`` before the names of channels and procedures.

        ``dependencies`` run before the router's own. A router may be included several times, with other prefixes, and
        in several gateways. Raises what `channel` and `rpc` raise.
        """
        self._program.check_open()
        check_router(router)
        return router.enter(Inclusion(self._program, prefix, dependencies))

    def on_connect(self, call: F) -> F:
        """Decide who may connect.

        Returns `Credentials`, a user's id, None or True for whoever the client's token says it is (anonymous
        without), or False to refuse it (disconnect 3507). Without this handler tokens and settings decide. A token
        is verified before if a key for it is configured; otherwise it is the program's own, as ``client.token``.
        """
        return self._program.on_connect(call)

    def on_refresh(self, call: F) -> F:
        """Decide whether a connection goes on: before it expires, its client sends another token (``getToken``).

        Returns `Credentials` of the same user and channels as before (others end the connection: disconnect 3500, or
        3010, upon which the client connects anew), with a new ``expires``; None or True for what a token says that
        the gateway has verified; or False to refuse (disconnect 3507). It may well be ``on_connect``'s handler. With
        it, clients that have connected with a token of the program's own are told when to send another; without it,
        and without a token, they connect anew.
        """
        return self._program.on_refresh(call)

    def on_disconnect(self, call: F) -> F:
        """Hear of every connection that has ended, if it was let in. What it returns does not matter.

        It may take ``code: int`` and ``reason: str``, with which the connection was closed: by the client (1000, 1001,
        …), by its network (1006, or 1005), or by the gateway (`DisconnectCode`, or a code of yours).
        """
        return self._program.on_disconnect(call)

    def _channel(self, declared: Declaration) -> ChannelRoute[Any]:
        return self._program.add(ChannelRoute(self._program, declared))

    def _procedure(self, name: str, call: Callable[..., Any], dependencies: Sequence[Depends]) -> None:
        self._program.procedure(name, call, dependencies)

    # — streams —

    async def stream(
        self, channel: str, source: AsyncIterable[T], *, stop_when_unread: float | None = None
    ) -> Stream[T]:
        """Publish what an asynchronous iterator yields, piece by piece, in a task of its own.

        Latecomers get all of it so far, and clients that return what they missed, on any node: the channel needs
        ``history_size`` for the whole of it, and ``replay=True``. The last publication has no data but the tag
        ``stream``: ``done``, ``stopped`` (also when the process is told to stop) or ``failed``. A broker that is away
        for some fifteen seconds makes it late, no more. With ``stop_when_unread`` it stops when nobody, on any node,
        has been subscribed for so many seconds, from the start on; who listens in a program counts, too. Raises
        `SettingsError` for a channel without these options.
        """
        self.node.check_loop()
        return self._started().streams.start(channel, source, stop_when_unread)

    async def stop_stream(self, channel: str) -> None:
        """Cancel the stream's producer, on whichever node it runs."""
        self.node.check_loop()
        await self._started().streams.stop(channel)

    def listen(self, channel: str, *, limit: int = 1000) -> AbstractAsyncContextManager[Listener[Any]]:
        """Hear what is published to a channel, on all nodes, in the program itself ::

            async with gateway.listen("orders:new") as orders:
                async for publication in orders: ...

        At most once, in order. When ``limit`` publications wait, the oldest go (``orders.dropped`` counts them). It
        ends when the process is told to stop, after what has come before. It is a subscriber of the channel like any
        other, so that nobody should listen to a live channel of its own.
        """
        return self._started().listeners.listen(channel, limit)

    # — plain sockets —

    @property
    def sockets(self) -> Sockets:
        """Plain WebSockets of the program's own routes."""
        return self._started().sockets

    def attach(self, websocket: WebSocket, **options: Unpack[SocketOptions]) -> Attachment:
        """Bring a plain WebSocket of a route of yours into the gateway's channels, for the length of a block ::

            async with gateway.attach(websocket, user=client_id) as connection:
                await connection.subscribe("lobby")
                async for text in connection:
                    await gateway.publish("lobby", text)

        It is accepted when it is subscribed to ``channels``. The block ends when the client leaves. ``format`` is
        ``text``, ``json`` or ``bytes``; ``token`` in place of ``user`` is a connection token, checked before. Raises
        ``WebSocketException`` for who may not come in, as `Sockets.open` says, and at the end of a block that has
        found the broker away.
        """
        return self.sockets.attach(websocket, **options)

    # — publishing from elsewhere —

    def publisher(self) -> Publisher:
        """A publisher without event loop, for threads and scripts that know this gateway's channels.

        Raises `SettingsError` unless Redis joins the nodes.
        """
        routes = [each.route for each in self._program.channels]
        personal = self.settings.client.subscribe_to_user_personal_channel
        channels = Channels(self.settings.channel, routes, personal, pusher=self.settings.pusher)
        return Publisher(self.settings, channels=channels)

    # — limits —

    def rate_limit(
        self, spec: str, *, burst: int | None = None, key: Key | None = None, name: str = "", fail_open: bool = True
    ) -> RateLimit:
        """A dependency that allows so many in a time, as ``"10/second"``, for routes and channel handlers alike ::

            chatty = gateway.rate_limit("5/10s", burst=10)

            @app.post("/messages", dependencies=[Depends(chatty)])
            @chat.on_publish
            async def say(message: ChatMessage, _: None = Depends(chatty)) -> None: ...

        See `limits.limit.RateLimit`. Raises ``ValueError`` for a text that cannot be read, or a second of one name.
        """
        return self._limits.rate_limit(spec, burst=burst, key=key, name=name, fail_open=fail_open)

    def quota(self, spec: str, *, key: Key | None = None, name: str = "", fail_open: bool = True) -> Quota:
        """A dependency that allows so many in each day, hour, …, as ``"1000/day"``. See `limits.limit.Quota`."""
        return self._limits.quota(spec, key=key, name=name, fail_open=fail_open)


def _check(settings: Settings) -> None:
    if problems := [f"{problem.key}: {problem.text}" for problem in find_problems(settings)]:
        raise SettingsError("\n".join(problems))


def _warn_of_event_handlers(app: Any) -> None:
    """Tell that handlers of an application's start and stop are not called, since it has a lifespan instead."""
    router = getattr(app, "router", None)
    handlers = [*getattr(router, "on_startup", ()), *getattr(router, "on_shutdown", ())]
    if handlers:
        names = ", ".join(getattr(each, "__name__", repr(each)) for each in handlers)
        log.warning(
            "an application with a lifespan does not call its @app.on_event handlers, here %s: write FastAPI() and "
            "gateway.run_in(app) in place of lifespan=gateway.lifespan, and they are called",
            names,
        )
