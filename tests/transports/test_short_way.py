"""The short way past an application: taken where nobody would miss it, and the same to the program."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest
import uvicorn
from fastapi import APIRouter, FastAPI, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Host, Match, Router, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from websockets.asyncio.client import ClientConnection, connect, unix_connect

from gateway import Client, Gateway, Settings
from gateway.transports import short_way, uvicorn_websocket
from gateway.transports.conversation import websocket_scope
from gateway.transports.uvicorn_websocket import WebSocketProtocol
from tests.serving import on_fast_uvicorn
from tests.waiting import until

PATH = "/connection/websocket"
SETTINGS = Settings.model_validate({"client": {"allowed_origins": ["*"]}})


class Program:
    """An application whose handler keeps what it sees, and a count of the connections that it was called for."""

    def __init__(self) -> None:
        self.gateway = Gateway(SETTINGS)
        self.app = FastAPI(lifespan=self.gateway.lifespan)
        self.app.include_router(self.gateway.router)
        self.served: ASGIApp = self.app
        self.path = PATH
        self.seen: list[Client] = []
        self.calls = 0

        @self.gateway.on_connect
        async def let_in(client: Client) -> str:
            self.seen.append(client)
            return "alice"

    @asynccontextmanager
    async def running(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> AsyncIterator[Callable[..., Any]]:
        """Gives what opens a connection and says connect."""
        ask = WebSocketProtocol._ask

        def counted(protocol: WebSocketProtocol, *args: Any) -> None:
            self.calls += 1
            ask(protocol, *args)

        monkeypatch.setattr(WebSocketProtocol, "_ask", counted)
        async with self.gateway.lifespan(self.app), on_fast_uvicorn(self.served, SETTINGS, **options) as port:

            async def opened(query: str = "", **headers: str) -> dict[str, Any]:
                named = {name.replace("_", "-"): value for name, value in headers.items()}
                url = f"ws://127.0.0.1:{port}{self.path}{query}"
                async with connect(url, additional_headers=named, proxy=None) as socket:
                    return await said(socket)

            yield opened


async def said(socket: ClientConnection) -> dict[str, Any]:
    await socket.send('{"id":1,"connect":{}}')
    answer: dict[str, Any] = json.loads(await socket.recv())
    return answer


@pytest.fixture
def program() -> Program:
    return Program()


def outside(scope: Scope) -> dict[str, Any]:
    """What is not of one connection alone."""
    keys = {b"sec-websocket-key"}
    headers = [each for each in scope["headers"] if each[0] not in keys]
    seen = {**scope, "headers": headers, "client": scope["client"][0]}
    seen.pop("gateway.peer", None)  # a note of the gateway's own
    return seen


# — where it is taken —


async def test_an_application_that_only_passes_connections_on_is_asked_once(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with program.running(monkeypatch) as opened:
        answers = [await opened() for _ in range(3)]
    assert program.calls == 1
    assert [each["connect"]["version"] != "" for each in answers] == [True] * 3
    assert len(program.seen) == 3


async def test_middleware_of_http_alone_is_passed(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    @program.app.middleware("http")
    async def timed(request: Request, call: Callable[[Request], Any]) -> Response:
        answer: Response = await call(request)
        return answer

    program.app.add_middleware(CORSMiddleware, allow_origins=["*"])
    async with program.running(monkeypatch) as opened:
        await opened()
        await opened()
    assert program.calls == 1


async def test_an_application_of_starlette_is_asked_once_too(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    program.served = Starlette(routes=program.gateway.router.routes)
    async with program.running(monkeypatch) as opened:
        await opened()
        await opened()
    assert program.calls == 1


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"cookie": "a=b", "origin": "http://here"},
        {"x_forwarded_for": "203.0.113.9"},
        {"x_forwarded_for": "203.0.113.9, 127.0.0.1", "x_forwarded_proto": "https"},
        {"x_forwarded_for": "", "x_forwarded_proto": "gopher"},
    ],
)
async def test_the_program_sees_the_same_by_either_way(
    program: Program, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with program.running(monkeypatch) as opened:
        for _ in range(2):
            await opened("?a=1&b=%20", **headers)
    assert program.calls == 1
    long, short = program.seen
    assert outside(short.scope) == outside(long.scope)
    assert short.cookies == long.cookies
    assert (short.query_params["a"], short.app) == ("1", program.app)
    assert short.url == long.url
    assert short.scope["state"] is not long.scope["state"]


@pytest.mark.parametrize("usual", [True, False])
async def test_of_a_request_its_head_alone_is_kept_and_each_event_sees_it(
    program: Program, usual: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    @program.gateway.rpc("look")
    async def look(client: Client) -> list[Any]:
        client.state.seen = getattr(client.state, "seen", 0) + 1
        return [client.headers["user-agent"], client.cookies, client.query_params["a"], client.state.seen]

    if not usual:
        monkeypatch.setattr(uvicorn_websocket, "read_usual", lambda _arrived: None)
    headers = {"cookie": "a=" + "b" * 9000}
    async with program.running(monkeypatch), on_fast_uvicorn(program.app, SETTINGS) as port:
        url = f"ws://127.0.0.1:{port}{PATH}?a=1"
        for _ in range(2):
            async with connect(url, additional_headers=headers, user_agent_header="test", proxy=None) as socket:
                await said(socket)
                session = program.seen[-1]._its_session
                assert session is not None
                program.seen.clear()
                kept = session.handshake
                for count in (1, 2):
                    await socket.send('{"id":2,"rpc":{"method":"look"}}')
                    answer = json.loads(await socket.recv())
                    assert answer["rpc"]["data"] == ["test", {"a": "b" * 9000}, "1", count]
    assert program.calls == 1
    assert [len(each) > 9000 for each in gc.get_referents(kept.scope) if isinstance(each, bytes | list)] == [True]


async def test_what_an_event_has_read_of_a_request_is_let_go_once_the_client_is_connected(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with program.running(monkeypatch) as opened:
        await opened()
    [client] = program.seen
    assert client._its_session is not None
    assert client._its_session.handshake.seen is None


async def test_who_comes_by_a_unix_socket_is_believed_by_either_way(
    program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = str(tmp_path / "s")
    server = uvicorn.Server(uvicorn.Config(program.app, ws=WebSocketProtocol, uds=path, log_config=None))
    async with program.running(monkeypatch):
        serving = asyncio.create_task(server.serve())
        await until(lambda: server.started or serving.done())
        for _ in range(2):
            forwarded = {"x-forwarded-for": "203.0.113.9"}
            async with unix_connect(path, f"ws://here{PATH}", additional_headers=forwarded) as socket:
                await said(socket)
        server.should_exit = True
        await serving
    assert program.calls == 1
    sessions = [each._its_session for each in program.seen]
    assert [each and each.address for each in sessions] == ["203.0.113.9"] * 2


async def test_a_connection_may_be_refused(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    async with program.running(monkeypatch) as opened:
        await opened()
        program.gateway.node.draining = True
        with pytest.raises(Exception, match="HTTP 503"):
            await opened()
        program.gateway.node.draining = False
    assert program.calls == 1


@pytest.mark.parametrize(("access_log", "lines"), [(True, 2), (False, 1)])
async def test_it_is_logged_as_ever_unless_nobody_wants_lines_of_requests(
    program: Program, access_log: bool, lines: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "uvicorn.error")
    async with program.running(monkeypatch, access_log=access_log) as opened:
        await opened("?token=secret")
        await opened("?token=secret")
    assert caplog.text.count(f'"WebSocket {PATH}" [accepted]') == lines
    assert "secret" not in caplog.text


# — where it is not —


class Watching:
    """A middleware that wants to see all."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class Renewing(Watching):
    """A middleware that has all middleware built anew for the next connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"].middleware_stack = None
        await self.app(scope, receive, send)


class OwnApplication(FastAPI):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(scope, receive, send)


class OwnRoute(WebSocketRoute):
    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return Match.NONE, {}


def with_middleware(program: Program, _monkeypatch: pytest.MonkeyPatch) -> None:
    program.app.add_middleware(Watching)


def with_middleware_of_a_plugin(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a module that is not among those that have been imported."""
    monkeypatch.setattr(Watching, "__module__", "plugin")
    program.app.add_middleware(Watching)


def that_is_built_anew(program: Program, _monkeypatch: pytest.MonkeyPatch) -> None:
    program.app.add_middleware(Renewing)


def of_trusted_hosts(program: Program, _monkeypatch: pytest.MonkeyPatch) -> None:
    program.app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1"])


def behind_two_proxies(program: Program, _monkeypatch: pytest.MonkeyPatch) -> None:
    program.app.add_middleware(ProxyHeadersMiddleware, trusted_hosts="203.0.113.9")


def wrapped(program: Program, _monkeypatch: pytest.MonkeyPatch) -> None:
    program.served = Watching(program.app)


def wrapped_in_a_function(program: Program, _monkeypatch: pytest.MonkeyPatch) -> None:
    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        await program.app(scope, receive, send)

    program.served = watched


def mounted(program: Program, _monkeypatch: pytest.MonkeyPatch) -> None:
    outer = FastAPI()
    outer.mount("/in", program.app)
    program.served, program.path = outer, "/in" + PATH


def mounted_at_the_root(program: Program, _monkeypatch: pytest.MonkeyPatch) -> None:
    outer = Starlette()
    outer.mount("/", program.app)
    program.served = outer


def with_a_root_path(program: Program, _monkeypatch: pytest.MonkeyPatch) -> None:
    program.app.root_path = "/in"


def derived(program: Program, _monkeypatch: pytest.MonkeyPatch) -> None:
    program.app.__class__ = OwnApplication


def of_a_host(program: Program, _monkeypatch: pytest.MonkeyPatch) -> None:
    program.app.router.routes.insert(0, Host("other.test", app=Router()))


def with_a_route_that_looks(program: Program, _monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(websocket: WebSocket) -> None: ...

    program.app.router.routes.insert(0, OwnRoute("/somewhere", nothing))


def replaced(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Starlette.__call__

    async def watched(self: Starlette, scope: Scope, receive: Receive, send: Send) -> None:
        await call(self, scope, receive, send)

    monkeypatch.setattr(Starlette, "__call__", watched)


def within_the_router(program: Program, _monkeypatch: pytest.MonkeyPatch) -> None:
    program.app.router.middleware_stack = Watching(program.app.router.app)


def within_the_stack(program: Program, _monkeypatch: pytest.MonkeyPatch) -> None:
    build = program.app.build_middleware_stack
    program.app.build_middleware_stack = lambda: Watching(build())  # type: ignore[method-assign]


def with_more_in_its_scope(_program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """As FastAPI's telemetry leaves it."""
    monkeypatch.setattr(
        uvicorn_websocket, "websocket_scope", lambda *args: {**websocket_scope(*args), "fastapi.telemetry": 1}
    )


def endpoint_of(program: Program) -> Any:
    """What stands behind the gateway's own route."""
    [found] = [each for each in program.gateway.router.routes if isinstance(each, WebSocketRoute) and each.path == PATH]
    return found.endpoint


def behind_a_guard(program: Program, _monkeypatch: pytest.MonkeyPatch) -> None:
    program.app.router.routes.insert(0, WebSocketRoute(PATH, Watching(endpoint_of(program))))


def behind_a_guard_of_all(program: Program, _monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the unguarded ones under another path."""
    program.app.router.routes.clear()
    program.app.include_router(program.gateway.router, prefix="/open")
    program.app.router.routes.insert(0, WebSocketRoute(PATH, Watching(program.gateway.router)))


def with_middleware_of_its_route(program: Program, _monkeypatch: pytest.MonkeyPatch) -> None:
    guarded = WebSocketRoute(PATH, endpoint_of(program), middleware=[Middleware(Watching)])
    program.app.router.routes.insert(0, guarded)


def by_a_function(program: Program, _monkeypatch: pytest.MonkeyPatch) -> None:
    async def watched(websocket: WebSocket) -> None:
        await endpoint_of(program)(websocket.scope, websocket.receive, websocket.send)

    program.app.router.routes.insert(0, WebSocketRoute(PATH, watched))


def without_a_route(program: Program, _monkeypatch: pytest.MonkeyPatch) -> None:
    program.app.router.routes.clear()
    program.app.router.default = Watching(endpoint_of(program))


def with_a_router_of_its_own(program: Program, _monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(APIRouter):
        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            await super().handle(scope, receive, send)

    program.gateway.router.__class__ = Own


@pytest.mark.parametrize(
    "change",
    [
        *(behind_a_guard, behind_a_guard_of_all, with_middleware_of_its_route, by_a_function, without_a_route),
        *(
            with_middleware,
            of_trusted_hosts,
            behind_two_proxies,
            wrapped,
            wrapped_in_a_function,
            mounted,
            mounted_at_the_root,
        ),
        *(with_a_root_path, derived, of_a_host, with_a_route_that_looks, replaced, within_the_router),
        *(within_the_stack, with_more_in_its_scope, with_a_router_of_its_own),
        *(with_middleware_of_a_plugin, that_is_built_anew),
    ],
)
async def test_who_may_want_to_see_a_connection_sees_each(
    program: Program,
    change: Callable[[Program, pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change(program, monkeypatch)
    async with program.running(monkeypatch) as opened:
        for _ in range(3):
            assert "connect" in await opened()
    assert program.calls == 3


async def test_another_middleware_is_asked_at_once(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    async with program.running(monkeypatch) as opened:
        await opened()
        await opened()
        program.app.middleware_stack = None
        program.app.user_middleware.insert(0, Middleware(Watching))
        await opened()
        await opened()
    assert program.calls == 3


@pytest.mark.parametrize("included", [False, True])
async def test_another_route_is_asked_at_once(
    program: Program, included: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = APIRouter()
    inner.add_api_route("/other", lambda: None)
    program.app.router.routes.clear()
    program.app.include_router(inner)
    program.app.include_router(program.gateway.router)
    router = inner if included else program.app.router

    async def refuse(websocket: WebSocket) -> None:
        await WebSocketClose()(websocket.scope, websocket.receive, websocket.send)

    async with program.running(monkeypatch) as opened:
        await opened()
        router.add_websocket_route(PATH, refuse)
        router.routes.insert(0, router.routes.pop())
        with pytest.raises(Exception, match="HTTP 403"):
            await opened()
    assert program.calls == 2


async def test_middleware_around_the_same_route_is_asked_at_once(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    routes = program.app.router.routes
    routes.insert(0, WebSocketRoute(PATH, endpoint_of(program)))
    async with program.running(monkeypatch) as opened:
        await opened()
        routes[0] = WebSocketRoute(PATH, endpoint_of(program), middleware=[Middleware(Watching)])
        await opened()
        await opened()
    assert program.calls == 3


async def test_all_is_looked_at_anew_after_a_while(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short_way, "AGAIN", 0.0)
    async with program.running(monkeypatch) as opened:
        await opened()
        await opened()
    assert program.calls == 2


@pytest.mark.parametrize("path", ["/of/{somebody}/connection/websocket", "/connection/%77ebsocket"])
async def test_paths_that_clients_make_up_are_not_kept(
    program: Program, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program.app.include_router(program.gateway.router, prefix="/of/{somebody}")
    program.path = path
    monkeypatch.setattr(short_way, "_ways", WeakKeyDictionary())
    async with program.running(monkeypatch) as opened:
        await opened()
        await opened()
    assert not any(short_way._ways.values())
    assert program.calls == 2


async def test_of_an_application_that_takes_any_path_a_few_are_kept(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        app = endpoint_of(program) if scope["type"] == "websocket" else program.app
        await app(scope, receive, send)

    program.served = served
    monkeypatch.setattr(short_way, "_ways", WeakKeyDictionary())
    monkeypatch.setattr(short_way, "MOST_PATHS", 2)
    async with program.running(monkeypatch) as opened:
        for number in range(5):
            program.path = f"/{number}"
            await opened()
    assert [*map(list, short_way._ways.values())] == [["/4"]]


async def test_a_server_of_its_own_has_ways_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        program = Program()
        async with program.running(monkeypatch) as opened:
            await asyncio.gather(opened())
        assert program.calls == 1
        monkeypatch.undo()
