"""The short way to an endpoint: past an application that would only pass the connection on.

An application has one way for all that it is asked: a task, middleware, a router. When a connection has come to an
endpoint by it, the next ones for the same path are given to the endpoint at once, if it is known of all that stands
between that it leaves WebSockets as they are. Whatever is not known takes the way of all: a middleware of the program's
own, be it around one route, an application around another or in a mount, a method that somebody has replaced (as tools
for monitoring do), routes that go by more than the path. A middleware stack or a list of routes that has changed is
noticed at once, and every second all is looked at anew.
"""

import sys
from collections.abc import Coroutine, ItemsView, Iterator, Mapping
from copy import copy
from operator import is_
from types import FunctionType
from typing import Any, Protocol, cast
from weakref import WeakKeyDictionary

from starlette.applications import Starlette
from starlette.routing import Router, WebSocketRoute
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from gateway.transports.conversation import asgi_scope, log_answer, scheme_of
from gateway.transports.handshake import UpgradeRequest, headers_in, read_again
from gateway.transports.raw import AskedConnection, RawEndpoint, ReadyState

AGAIN = 1.0
"""Seconds after which a way is looked at anew, for what nobody is told of: telemetry that has begun, for one."""

MOST_PATHS = 64
"""Paths of a server that it is kept of how they are led: an application may lead any path to an endpoint."""

_PASSING = frozenset(
    (
        "uvicorn.middleware.proxy_headers.ProxyHeadersMiddleware",
        "fastapi.applications.FastAPI",
        "starlette.applications.Starlette",
        "starlette.middleware.errors.ServerErrorMiddleware",
        "fastapi.telemetry._asgi.ExceptionTelemetryMiddleware",
        "fastapi._body_limit.AppBodyLimitMiddleware",
        "starlette.middleware.cors.CORSMiddleware",
        "starlette.middleware.gzip.GZipMiddleware",
        "starlette.middleware.base.BaseHTTPMiddleware",
        "starlette.middleware.exceptions.ExceptionMiddleware",
        "fastapi.middleware.asyncexitstack.AsyncExitStackMiddleware",
    )
)
"""What does nothing about a WebSocket but pass it on, unless somebody fails; the first of them is asked apart."""

_KNOWN = frozenset(
    (
        *("type", "asgi", "http_version", "scheme", "server", "client", "root_path", "path", "raw_path"),
        *("query_string", "headers", "subprotocols", "state", "extensions", "gateway.peer"),
        *("app", "router", "route", "endpoint", "path_params", "fastapi", "fastapi_middleware_astack"),
        "starlette.exception_handlers",
    )
)
"""What stands in a scope then; anything else there is somebody else's."""

_ROUTING = frozenset(
    (
        *("starlette.routing.BaseRoute", "starlette.routing.Route", "starlette.routing.WebSocketRoute"),
        *("starlette.routing.Mount", "starlette.routing.Router", "fastapi.routing.APIRouter"),
        *("fastapi.routing.APIRoute", "fastapi.routing.APIWebSocketRoute", "fastapi.routing._IncludedRouter"),
    )
)
"""What leads a connection on by its path alone."""

_ENDS = frozenset(("gateway.program.late.LateApplication", "gateway.transports.endpoint.WebSocketEndpoint"))
"""What a route to an endpoint of ours has for its own; anything else there has the endpoint behind it."""


class ServedConnection(AskedConnection, Protocol):
    """A connection of uvicorn's."""

    config: Config
    transport: Any
    loop: Any
    state: ReadyState

    def come_from(self, peer: tuple[str, int]) -> None: ...


class Way:
    """How an application leads the connections for one path to an endpoint."""

    __slots__ = ("_app", "_endpoint", "_proxied", "_routers", "_server", "_stack")

    def __init__(self, app: Starlette, proxy: ProxyHeadersMiddleware | None, endpoint: RawEndpoint) -> None:
        self._app = app
        self._stack = app.middleware_stack
        self._routers = [(each, each.routes[:]) for each in _routers(app.router)]
        self._endpoint = endpoint
        self._server: tuple[str, int | None] | None = None
        """Where the last connection came in: mostly all do."""
        self._proxied = copy(cast(Any, proxy))
        """Finds out who the client of a trusted proxy is, as it does for the application."""
        if proxy is not None:
            self._proxied.app = _nowhere

    def go(self, connection: ServedConnection, request: UpgradeRequest, state: dict[str, Any]) -> bool:
        """Give the endpoint the connection; False if this one has to take the way of all."""
        if self._app.middleware_stack is not self._stack:
            return False
        for router, routes in self._routers:
            # routes with the same path and endpoint are equal, whatever stands around that
            if len(router.routes) != len(routes) or not all(map(is_, router.routes, routes)):
                return False
        transport, config = connection.transport, connection.config
        client, names = request.client, request.names
        scheme, server = scheme_of(transport), server_of(transport)
        if server == self._server:
            server = self._server  # one for all
        else:
            self._server = server
        if self._proxied is not None and (b"x-forwarded-for" in names or b"x-forwarded-proto" in names):
            scope: Scope = {"type": "websocket", "scheme": scheme, "client": client, "headers": request.headers}
            if not _returns(self._proxied(scope, None, None)):
                return False
            client, scheme = scope["client"], scope["scheme"]
            if client:
                connection.come_from(client)
            request.client = client
        request.scope = LaterScope(request.head, client, scheme, server, config, self._app, state.copy())
        self._endpoint.open(connection, request)
        # uvicorn's own line has no switch; that of a request has, and costs a connect as much as a handler
        if config.access_log and connection.state is ReadyState.OPEN:
            log_answer(client, request.target.partition("?")[0], "[accepted]")
        return True


class LaterScope(Mapping[str, Any]):
    """The scope of a connection that no application was called for: made of little, whenever somebody asks.

    It knows nothing of the connection, which is to be freed as it closes, whoever keeps this.
    """

    __slots__ = ("_app", "_client", "_config", "_head", "_scheme", "_server", "_state")

    def __init__(
        self,
        head: bytes,
        client: tuple[str, int] | None,
        scheme: str,
        server: tuple[str, int | None] | None,
        config: Config,
        app: Starlette,
        state: dict[str, Any],
    ) -> None:
        self._head, self._client, self._scheme, self._server = head, client, scheme, server
        self._config, self._app, self._state = config, app, state

    def _made(self) -> dict[str, Any]:
        request = read_again(self._head)
        request.client = self._client
        made = asgi_scope(request, self._config, self._server, self._scheme)
        return {**made, "app": self._app, "state": self._state}

    def __getitem__(self, key: str) -> Any:
        if key == "app":
            return self._app
        return headers_in(self._head) if key == "headers" else self._made()[key]

    def items(self) -> ItemsView[str, Any]:
        return self._made().items()

    def __iter__(self) -> Iterator[str]:
        return iter(self._made())

    def __len__(self) -> int:
        return len(self._made())


def server_of(transport: Any) -> tuple[str, int | None] | None:
    """Where a connection came in, as ASGI has it. To ask the socket would make one of it, in uvloop."""
    found = transport.get_extra_info("sockname")
    if type(found) is str:
        return found, None  # a Unix socket
    return found[:2] if type(found) is tuple else None  # of IPv6 there are four parts


_ways: "WeakKeyDictionary[Config, dict[str, tuple[float, Way | None]]]" = WeakKeyDictionary()
"""By server and path: until when what was found holds, and what that is."""

_UNKNOWN = 0.0, None


def way_of(connection: ServedConnection, path: str) -> Way | None:
    """The short way for a path, as sent, if one is known."""
    until, way = _ways.get(connection.config, {}).get(path, _UNKNOWN)
    return way if connection.loop.time() < until else None


def remember(connection: ServedConnection, scope: Scope, endpoint: RawEndpoint) -> None:
    """A connection has come to an endpoint by the way of all: look whether the next ones may take the short one."""
    now, path = connection.loop.time(), scope["path"]
    if scope.get("path_params") or path.encode() != scope["raw_path"]:
        return  # of such paths clients can make as many as they like
    ways = _ways.setdefault(connection.config, {})
    until, way = ways.get(path, _UNKNOWN)
    if way is not None or now >= until:
        if len(ways) >= MOST_PATHS:
            ways.clear()
        ways[path] = now + AGAIN, _find(connection.config.loaded_app, scope, endpoint)


def _find(each: Any, scope: Scope, endpoint: RawEndpoint) -> Way | None:
    """The way by which it has come, from the server's application on, if nobody there need be asked again."""
    if scope["root_path"] or not scope.keys() <= _KNOWN:
        return None
    proxy: ProxyHeadersMiddleware | None = None
    app: Starlette | None = None
    while not isinstance(each, Router):
        if not set() < _definitions(each, "__call__") <= _PASSING:
            return None  # nothing says so where a stack has been thrown away, to be built anew
        if isinstance(each, ProxyHeadersMiddleware):
            if proxy is not None:
                return None  # one would be asked what the other says
            proxy = each
        if isinstance(each, Starlette):
            app, each = each, each.middleware_stack
        else:
            each = each.app
    if app is None or app is not scope["app"] or app.router is not each or each.middleware_stack != each.app:
        return None
    routers = list(_routers(each))
    return Way(app, proxy, endpoint) if all(map(_goes_by_path, routers)) and _ends(routers, scope) else None


def _ends(routers: list[Any], scope: Scope) -> bool:
    """Whether the route is one of theirs, and has nothing around the endpoint: no middleware, no other callable.

    Of routers that are included the prefix is not known: all whose path may be meant have to be so.
    """
    last, path = scope.get("endpoint"), scope["path"]
    found = [
        route
        for router in routers
        for route in router.routes
        if isinstance(route, WebSocketRoute)
        and (route.path == path or (router is not routers[0] and path.endswith(route.path)))
    ]
    straight = bool(found) and all(route.app is route.endpoint is last for route in found)
    return straight and _definitions(last, "__call__") <= _ENDS


def _goes_by_path(router: Any) -> bool:
    """Whether nothing but the path says which of its routes it is."""
    found = set[str]().union(*(_definitions(router, each) for each in ("__call__", "app", "matches", "handle")))
    for each in router.routes:
        found |= _definitions(each, "matches") | _definitions(each, "handle")
    return found <= _ROUTING


def _routers(router: Any) -> Iterator[Any]:
    """A router and those that are included in it, which newer FastAPIs leave as they are."""
    yield router
    for each in router.routes:
        if included := getattr(each, "original_router", None):
            yield from _routers(included)


def _definitions(each: Any, method: str) -> set[str]:
    """The classes that say what a method does; an empty name for what somebody has put in its place."""
    found = {_original(kind, method) for kind in type(each).__mro__ if method in vars(kind)}
    return found | {""} if method in getattr(each, "__dict__", ()) else found


def _original(kind: type, method: str) -> str:
    # a module that was loaded by hand, as plugins are, is not always among them
    function, module = vars(kind)[method], sys.modules.get(kind.__module__)
    written = type(function) is FunctionType and function.__code__.co_filename == getattr(module, "__file__", "")
    return f"{kind.__module__}.{kind.__qualname__}" if written else ""


def _returns(call: Coroutine[Any, Any, None]) -> bool:
    """Run what has nothing to wait for."""
    try:
        call.send(None)
    except StopIteration:
        return True
    call.close()
    return False


async def _nowhere(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """Stands where the application would."""
