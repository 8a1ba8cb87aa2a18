"""The gateway inside a FastAPI application, on real servers."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import centrifuge  # type: ignore[import-untyped]
import httpx
import pytest
from fastapi import Body, Cookie, Depends, FastAPI, HTTPException, Request, WebSocket
from pydantic import BaseModel
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from gateway import Client, Credentials, Gateway, Settings
from gateway.errors import SettingsError
from gateway.testing import Kit
from tests.program.routes.clients import assert_empty, gateway_with
from tests.redis_server import RedisServer
from tests.serving import Serve, on_plain_uvicorn, on_uvicorn
from tests.waiting import until

OPEN: dict[str, Any] = {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}


class Page:
    """What a page with ten lines of JavaScript would do."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.inbox: list[dict[str, Any]] = []
        self._last_id = 0

    async def send(self, kind: str, **body: Any) -> int:
        self._last_id += 1
        await self.socket.send(json.dumps({"id": self._last_id, kind: body}))
        return self._last_id

    async def ask(self, kind: str, **body: Any) -> dict[str, Any]:
        command = await self.send(kind, **body)
        return await self._next(lambda each: each.get("id") == command)

    async def heard(self, channel: str) -> Any:
        """Data of the channel's next publication."""
        push = await self._next(lambda each: each.get("push", {}).get("channel") == channel and "pub" in each["push"])
        return push["push"]["pub"].get("data")

    async def closed(self) -> tuple[int, str]:
        async with asyncio.timeout(10):
            await self.socket.wait_closed()
        return self.socket.close_code or 0, self.socket.close_reason or ""

    async def _next(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        async with asyncio.timeout(10):
            while (found := next(filter(wanted, self.inbox), None)) is None:
                lines = str(await self.socket.recv()).split("\n")
                self.inbox += [json.loads(line) for line in lines]
        self.inbox.remove(found)
        return found


@asynccontextmanager
async def page(port: int, path: str = "/connection/websocket", **options: Any) -> AsyncIterator[Page]:
    async with connect(f"ws://127.0.0.1:{port}{path}", **options) as socket:
        yield Page(socket)


def app_with(gateway: Gateway, **options: Any) -> FastAPI:
    app = FastAPI(lifespan=gateway.lifespan)
    app.include_router(gateway.router, **options)
    return app


# — a program —


class ChatMessage(BaseModel):
    text: str
    by: str = ""


def program(gateway: Gateway) -> FastAPI:
    """As the documentation writes it: dependencies are shared with HTTP routes."""

    async def current_user(request: Request, session: Annotated[str | None, Cookie()] = None) -> str:
        if session is None:
            raise HTTPException(401, "log in first")
        assert request.url.path
        return session.partition("-")[2]

    User = Annotated[str, Depends(current_user)]  # noqa: N806

    @gateway.on_connect
    async def on_connect(user: User) -> Credentials:
        return Credentials(user, info={"name": user.title()})

    chat = gateway.channel("chat:{room}", history_size=100, presence=True)

    @chat.on_subscribe
    async def join(room: str, user: User) -> None:
        if room == "private" and user != "alice":
            raise HTTPException(403, "for Alice alone")

    @chat.on_publish
    async def say(message: ChatMessage, client: Client) -> ChatMessage:
        return ChatMessage(text=message.text, by=client.user)

    @gateway.rpc("shout")
    def shout(text: Annotated[str, Body()], user: User) -> str:
        return f"{user}: {text.upper()}"

    app = app_with(gateway)

    @app.post("/rooms/{room}")
    async def announce(room: str, user: User) -> int:
        return (await gateway.publish(chat.name(room=room), ChatMessage(text=f"{user} says hello"))).offset

    return app


async def test_a_program(serve: Serve) -> None:
    gateway = gateway_with({})
    cookie = {"Cookie": "session=s-alice"}
    async with serve(program(gateway), gateway.settings) as port:
        async with page(port, additional_headers=cookie) as alice, page(port) as nobody:
            assert "connect" in await alice.ask("connect")
            assert (await nobody.ask("connect"))["error"] == {"code": 101, "message": "log in first"}
            assert "subscribe" in await alice.ask("subscribe", channel="chat:private")
            assert "publish" in await alice.ask("publish", channel="chat:private", data={"text": "hi"})
            assert await alice.heard("chat:private") == {"text": "hi", "by": "alice"}
            async with page(port, additional_headers={"Cookie": "session=s-bob"}) as bob:
                await bob.ask("connect")
                reply = await bob.ask("subscribe", channel="chat:private")
                assert reply["error"] == {"code": 103, "message": "for Alice alone"}
                assert (await bob.ask("rpc", method="shout", data="hey"))["rpc"]["data"] == "bob: HEY"
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", cookies={"session": "s-carol"}) as http:
                assert (await http.post("/rooms/private")).json() == 2
                assert await alice.heard("chat:private") == {"text": "carol says hello", "by": ""}
                assert (await http.get("/health/ready")).status_code == 200
                assert (await http.get("/metrics")).status_code == 200
            members = await gateway.presence("chat:private")
            assert [(each.user, each.conn_info) for each in members.values()] == [("alice", {"name": "Alice"})]
        await until(lambda: gateway.running.acceptor.sessions == set())
        await assert_empty(gateway)


async def test_the_sdk_for_python() -> None:
    gateway = gateway_with({})
    heard: list[Any] = []

    class Events(centrifuge.SubscriptionEventHandler):  # type: ignore[misc]
        async def on_publication(self, ctx: centrifuge.PublicationContext) -> None:
            heard.append(ctx.pub.data)

    async with on_uvicorn(program(gateway), gateway.settings) as port:
        url = f"ws://127.0.0.1:{port}/connection/websocket"
        client = centrifuge.Client(url, headers={"Cookie": "session=s-alice"})
        await client.connect()
        await client.ready(timeout=10)
        subscription = client.new_subscription("chat:a", events=Events())
        await subscription.subscribe()
        await subscription.ready(timeout=10)
        await subscription.publish({"text": "hi"})
        await until(lambda: heard == [{"text": "hi", "by": "alice"}])
        assert (await client.rpc("shout", "hey")).data == "alice: HEY"
        await client.disconnect()


async def test_leaving_while_a_handler_runs(serve: Serve) -> None:
    """On a real server, in the middle of connect and of subscribe."""
    gateway = gateway_with()
    go_on, calls = asyncio.Event(), []

    @gateway.on_connect
    async def on_connect(client: Client) -> None:
        calls.append("connect")
        if "slow" in client.query_params:
            await go_on.wait()

    @gateway.on_disconnect
    async def on_disconnect() -> None:
        calls.append("disconnect")

    room = gateway.channel("room", presence=True, join_leave=True, history_size=5)

    @room.on_subscribe
    async def join() -> None:
        calls.append("subscribe")
        await go_on.wait()

    @room.on_unsubscribe
    async def leave() -> None:
        calls.append("unsubscribe")

    async with serve(app_with(gateway), gateway.settings) as port:
        async with page(port, "/connection/websocket?slow=1") as slow, page(port) as fast:
            await slow.send("connect")
            await fast.ask("connect")
            await fast.send("subscribe", channel="room")
            await until(lambda: sorted(calls) == ["connect", "connect", "subscribe"])
        # without a protocol class of ours, the server tells of the end when connect has been answered
        late = serve is not on_uvicorn
        await until(lambda: len(gateway.running.acceptor.sessions) == late)
        go_on.set()
        await until(lambda: gateway.running.acceptor.sessions == set())
        await assert_empty(gateway)
        assert sorted(calls) == ["connect", "connect", "disconnect", "disconnect", "subscribe", "unsubscribe"]


@pytest.mark.parametrize(("serve", "lost_codes"), [(on_uvicorn, {1006}), (on_plain_uvicorn, {1005, 1006})])
async def test_how_a_client_has_gone_is_told(serve: Serve, lost_codes: set[int]) -> None:
    """As far as the server tells: uvicorn has said 1006 before, Hypercorn says nothing."""
    gateway = gateway_with()
    told: list[tuple[int, str]] = []

    @gateway.on_disconnect
    async def on_disconnect(code: int, reason: str) -> None:
        told.append((code, reason))

    async with serve(app_with(gateway), gateway.settings) as port:
        client = await connect(f"ws://127.0.0.1:{port}/connection/websocket")
        await Page(client).ask("connect")
        await client.close(4321, "lunch")
        await until(lambda: told)
        lost = await connect(f"ws://127.0.0.1:{port}/connection/websocket")
        await Page(lost).ask("connect")
        lost.transport.abort()
        await until(lambda: len(told) == 2)
    assert told[0] == (4321, "lunch")
    assert told[1] in {(code, "") for code in lost_codes}


# — where it is mounted —


async def test_under_a_prefix_and_beside_another() -> None:
    one, other = gateway_with(), gateway_with()
    for gateway, name in ((one, "one"), (other, "other")):

        @gateway.channel("room", **OPEN).on_publish
        async def say(name: str = Depends(lambda name=name: name)) -> str:
            return name

    app = FastAPI()
    app.include_router(one.router, prefix="/one")
    app.include_router(other.router, prefix="/deep/other")
    async with on_plain_uvicorn(app, one.settings) as port:
        assert one.node.uid != other.node.uid
        for path, name in (("/one", "one"), ("/deep/other", "other")):
            async with page(port, f"{path}/connection/websocket") as client:
                await client.ask("connect")
                await client.ask("subscribe", channel="room")
                await client.ask("publish", channel="room", data=1)
                assert await client.heard("room") == name
        with pytest.raises(InvalidStatus):
            async with page(port):
                raise AssertionError
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            assert (await http.get("/one/health/ready")).status_code == 200


async def test_the_router_brings_the_lifespan_along() -> None:
    gateway = gateway_with()
    app = FastAPI()
    app.include_router(gateway.router)
    async with on_uvicorn(app, gateway.settings) as port, page(port) as client:
        assert "connect" in await client.ask("connect")


# — life —


async def test_a_lifespan_of_the_programs_own() -> None:
    gateway = gateway_with()
    gateway.channel("room", **OPEN)
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        async with gateway.lifespan(app):
            await gateway.publish("room", "up")
            yield {"name": "of the lifespan"}
            await gateway.publish("room", "down")
            seen.append("closed")

    @gateway.rpc("look")
    async def look(client: Client) -> str:
        return str(client.state.name)

    app = FastAPI(lifespan=lifespan)
    app.include_router(gateway.router)
    async with on_uvicorn(app, gateway.settings) as port, page(port) as client:
        await client.ask("connect")
        assert (await client.ask("rpc", method="look"))["rpc"]["data"] == "of the lifespan"
    assert seen == ["closed"]


async def test_lives_within_itself_once_and_again_after_its_end() -> None:
    gateway = gateway_with()
    app = FastAPI()
    async with gateway.lifespan(app):
        node = gateway.node
        async with gateway.lifespan(app), gateway.lifespan():
            assert gateway.node is node
        assert gateway.node is node
        assert gateway.loop is asyncio.get_running_loop()
    assert node.draining
    async with gateway.lifespan(app):
        assert gateway.node is not node
        assert not gateway.node.draining
        assert await gateway.channels() == {}


async def test_a_start_that_fails_can_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = gateway_with()

    async def fail() -> None:
        raise OSError("no port")

    monkeypatch.setattr(gateway.running.engine, "start", fail)
    with pytest.raises(OSError, match="no port"):
        async with gateway.lifespan():
            raise AssertionError
    with pytest.raises(RuntimeError, match="the gateway does not run"):
        _ = gateway.node
    async with gateway.lifespan():
        assert len(gateway.node.hub.connections) == 0


async def test_before_and_after_its_life() -> None:
    gateway = gateway_with()
    for ask in (lambda: gateway.node, lambda: gateway.loop, lambda: gateway.sockets, lambda: gateway.listen("a")):
        with pytest.raises(RuntimeError, match=r"write gateway\.run_in\(app\)"):
            ask()
    nothing: Any = None
    for work in (gateway.publish("a", 1), gateway.stream("a", nothing), gateway.stop_stream("a")):
        with pytest.raises(RuntimeError, match=r"async with gateway\.lifespan"):
            await work
    async with gateway.lifespan():
        assert len(gateway.node.hub.connections) == 0
    with pytest.raises(RuntimeError, match="the gateway does not run"):
        _ = gateway.node


async def test_a_socket_to_a_gateway_that_does_not_run() -> None:
    """The program forgot its lifespan: the server's log says what to write."""
    gateway = gateway_with()
    app = FastAPI()

    @asynccontextmanager
    async def forgetful(_: FastAPI) -> AsyncIterator[None]:
        yield

    app.include_router(gateway.router)
    app.router.lifespan_context = forgetful
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        with pytest.raises(RuntimeError, match="the gateway does not run"):
            await http.get("/health/ready")
    async with on_plain_uvicorn(app, gateway.settings) as port:
        with pytest.raises(InvalidStatus):
            async with page(port):
                raise AssertionError


async def test_what_ends_with_the_node_may_still_publish(caplog: pytest.LogCaptureFixture) -> None:
    """ "Alice left the chat" is said by whoever stays."""
    gateway = gateway_with()
    gateway.channel("chat", history_size=5, **OPEN)
    done: list[int] = []

    @gateway.on_disconnect
    async def bye() -> None:
        done.append((await gateway.publish("chat", "somebody left")).offset)

    async with on_uvicorn(app_with(gateway), gateway.settings) as port:
        client = await connect(f"ws://127.0.0.1:{port}/connection/websocket")
        await Page(client).ask("connect")
    await client.close()
    assert done == [1]
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_drain_sends_clients_elsewhere() -> None:
    gateway = gateway_with()
    async with on_uvicorn(app_with(gateway), gateway.settings) as port, page(port) as client:
        await client.ask("connect")
        await gateway.running.acceptor.drain()
        assert (await client.closed())[0] == 3001


# — who may connect —


@pytest.mark.parametrize(
    ("origin", "same_origin", "allowed"),
    [
        ("http://127.0.0.1:{port}", True, True),
        ("https://127.0.0.1:{port}", True, True),
        ("http://127.0.0.1:{port}", False, False),
        ("http://127.0.0.1:1", True, False),
        ("http://evil.example", True, False),
        ("null", True, False),
        ("https://app.example", False, True),
    ],
)
async def test_origins(origin: str, same_origin: bool, allowed: bool) -> None:
    client = {"allow_anonymous_connect_without_token": True, "allowed_origins": ["https://app.example"]}
    gateway = Gateway(Settings(client=client), same_origin=same_origin)
    async with on_plain_uvicorn(app_with(gateway), gateway.settings) as port:
        origin = origin.format(port=port)
        if allowed:
            async with page(port, origin=origin) as opened:
                assert "connect" in await opened.ask("connect")
        else:
            with pytest.raises(InvalidStatus, match="HTTP 403"):
                await connect(f"ws://127.0.0.1:{port}/connection/websocket", origin=Origin(origin))


# — the rest —


async def test_says_when_it_could_be_faster(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    gateway = gateway_with()
    async with serve(app_with(gateway), gateway.settings):
        await until(lambda: gateway.running.started)
    hints = [(each.levelno, each.getMessage()) for each in caplog.records if "for best speed" in each.getMessage()]
    if serve is on_uvicorn:
        assert hints == []
    else:
        [(level, text)] = hints
        assert level == logging.WARNING, "or nobody sees it who has not set up logging"
        assert "--ws gateway.transports.uvicorn_websocket:WebSocketProtocol" in text


async def test_says_nothing_of_speed_in_the_test_kit(caplog: pytest.LogCaptureFixture) -> None:
    async with Kit(app_with(gateway_with())):
        pass
    assert [each for each in caplog.records if each.name.startswith("gateway")] == []


def test_settings_that_contradict_themselves_stop_it_at_once() -> None:
    bad = Settings(channel={"namespaces": [{"name": "ab"}, {"name": "ab"}]})
    with pytest.raises(SettingsError):
        Gateway(bad)


async def test_one_budget_for_a_route_and_a_channel() -> None:
    gateway = gateway_with()
    limit = gateway.rate_limit("3/day", key=lambda _: "everybody", name="all")
    daily = gateway.quota("1/day", key=lambda _: "everybody", name="quota")

    @gateway.channel("room", **OPEN).on_publish
    async def say(_: Annotated[None, Depends(limit)]) -> None: ...

    @gateway.rpc("once")
    async def once(_: Annotated[None, Depends(daily)]) -> None: ...

    app = app_with(gateway)

    @app.get("/limited", dependencies=[Depends(limit)])
    async def limited() -> None: ...

    with pytest.raises(ValueError, match='a limit named "all" is declared already'):
        gateway.rate_limit("3/day", name="all")
    async with on_uvicorn(app, gateway.settings) as port, page(port) as client:
        await client.ask("connect")
        await client.ask("subscribe", channel="room")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            assert (await http.get("/limited")).status_code == 200
            assert "publish" in await client.ask("publish", channel="room", data=1)
            assert "publish" in await client.ask("publish", channel="room", data=1)
            reply = await client.ask("publish", channel="room", data=1)
            assert reply["error"] == {"code": 111, "message": "too many requests", "temporary": True}
            assert (await http.get("/limited")).status_code == 429
        assert "rpc" in await client.ask("rpc", method="once")
        assert (await client.ask("rpc", method="once"))["error"]["code"] == 111


async def test_a_user_who_signs_in_has_one_budget_for_a_route_and_a_channel() -> None:
    """The user comes from a dependency, so it takes the same one to say whose budget it is."""

    async def current_user(user: Annotated[str, Cookie()]) -> str:
        return user

    gateway = gateway_with()
    chatty = gateway.rate_limit("2/day", key=Depends(current_user))

    @gateway.on_connect
    async def enter(user: Annotated[str, Depends(current_user)]) -> str:
        return user

    @gateway.channel("room", **OPEN).on_publish
    async def say(_: Annotated[None, Depends(chatty)]) -> None: ...

    app = app_with(gateway)

    @app.post("/messages", dependencies=[Depends(chatty)])
    async def post(_: Annotated[str, Depends(current_user)]) -> None: ...

    def cookie(user: str) -> dict[str, str]:
        return {"Cookie": f"user={user}"}

    async with (
        on_uvicorn(app, gateway.settings) as port,
        page(port, additional_headers=cookie("ann")) as ann,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        await ann.ask("connect")
        await ann.ask("subscribe", channel="room")
        assert "publish" in await ann.ask("publish", channel="room", data=1)
        assert (await http.post("/messages", headers=cookie("ann"))).status_code == 200
        assert (await ann.ask("publish", channel="room", data=1))["error"]["code"] == 111
        assert (await http.post("/messages", headers=cookie("ann"))).status_code == 429
        assert (await http.post("/messages", headers=cookie("bob"))).status_code == 200, "from the same address"


async def test_event_streams_are_asked_like_everybody_else() -> None:
    gateway = gateway_with(uni_sse={"enabled": True})
    asked: list[Any] = []

    @gateway.channel("news:{kind}", history_size=5).on_subscribe
    async def join(kind: str, client: Client) -> None:
        asked.append((kind, client.headers["user-agent"]))
        if kind == "secret":
            raise HTTPException(403)

    async with on_uvicorn(app_with(gateway), gateway.settings) as port:
        request = json.dumps({"subs": {"news:open": {}, "news:secret": {}}})
        url = f"http://127.0.0.1:{port}/connection/uni_sse"
        async with (
            httpx.AsyncClient(headers={"user-agent": "tests"}) as http,
            http.stream("GET", url, params={"cf_connect": request}) as response,
        ):
            lines = response.aiter_lines()
            connected = await _event(lines)
            assert set(connected["connect"]["subs"]) == {"news:open"}
            assert asked == [("open", "tests"), ("secret", "tests")]
            await gateway.publish("news:open", "hello")
            assert (await _event(lines))["pub"]["data"] == "hello"


@pytest.mark.parametrize("serve", [on_uvicorn, on_plain_uvicorn])
async def test_commands_of_streams_are_those_of_who_opened_them(serve: Serve) -> None:
    """By whichever request they come: handlers see the one that opened the stream. Under a prefix, as all routes."""
    gateway = gateway_with(sse={"enabled": True})
    news = gateway.channel("news", **OPEN)
    seen: list[Any] = []

    @news.on_publish
    async def say(data: Annotated[str, Body()], client: Client) -> None:
        seen.append((data, client.headers["user-agent"], client.scope["path"]))

    app = FastAPI()
    gateway.run_in(app)
    app.include_router(gateway.router, prefix="/rt")
    async with serve(app, gateway.settings) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/rt") as http:
        words = {"cf_connect": '{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"news"}}'}
        async with http.stream("GET", "/connection/sse", params=words, headers={"user-agent": "page"}) as stream:
            lines = stream.aiter_lines()
            told = (await _event(lines))["connect"]
            assert (await _event(lines))["id"] == 2
            commands = [{"id": n, "publish": {"channel": "news", "data": str(n)}} for n in range(3, 6)]
            body = {"session": told["session"], "node": told["node"], "data": "\n".join(map(json.dumps, commands))}
            assert (await http.post("/emulation", json=body, headers={"user-agent": "other"})).status_code == 204
            found = [await _event(lines) for _ in range(6)]
            assert [each["push"]["pub"]["data"] for each in found if "push" in each] == ["3", "4", "5"]
            assert seen == [(each, "page", "/rt/connection/sse") for each in ("3", "4", "5")]
        await until(lambda: not gateway.running.acceptor.sessions)
        await assert_empty(gateway)


async def _event(lines: AsyncIterator[str]) -> dict[str, Any]:
    async for line in lines:
        if line.startswith("data: "):
            found: dict[str, Any] = json.loads(line.removeprefix("data: "))
            return found
    raise AssertionError("the stream has ended")


async def test_a_publisher_without_event_loop_knows_the_routes(server: RedisServer) -> None:
    with pytest.raises(SettingsError):
        gateway_with().publisher()
    gateway = gateway_with(engine={"type": "redis", "redis": {"address": server.url}})
    gateway.channel("room:{name}", history_size=5, **OPEN)
    async with on_uvicorn(app_with(gateway), gateway.settings) as port, page(port) as client:
        await client.ask("connect")
        await client.ask("subscribe", channel="room:a")
        with gateway.publisher() as publisher:
            position = await asyncio.to_thread(publisher.publish, "room:a", {"from": "a thread"})
        assert position.offset == 1
        assert await client.heard("room:a") == {"from": "a thread"}
        assert len((await gateway.history("room:a"))[0]) == 1


async def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_NODE__NAME", "from the environment")
    gateway = Gateway()
    async with gateway.lifespan():
        assert gateway.node.describe().name == "from the environment"


async def test_runs_in_an_application_that_is_made_already() -> None:
    gateway = gateway_with()
    seen: list[bool] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        seen.append(gateway.node.draining)
        yield
        seen.append(gateway.node.draining)

    app = FastAPI(lifespan=lifespan)
    gateway.run_in(app)
    app.include_router(gateway.router)
    async with on_uvicorn(app, gateway.settings) as port, page(port) as client:
        assert "connect" in await client.ask("connect")
        assert gateway.router is gateway.router
    assert len(seen) == 2


def with_event_handlers(app: FastAPI, seen: list[str]) -> FastAPI:
    """As ``@app.on_event`` makes them, without its word of deprecation."""

    def begin() -> None:
        seen.append("begun")

    def end() -> None:
        seen.append("ended")

    app.router.on_startup.append(begin)
    app.router.on_shutdown.append(end)
    return app


@pytest.mark.parametrize("included_first", [False, True])
async def test_handlers_of_start_and_stop_are_called_beside_it(
    included_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []
    gateway, app = gateway_with(), with_event_handlers(FastAPI(), seen)
    if included_first:
        app.include_router(gateway.router)
    gateway.run_in(app)
    if not included_first:
        app.include_router(gateway.router)
    async with app.router.lifespan_context(app):
        assert gateway.node is not None
        assert seen == ["begun"]
    assert seen == ["begun", "ended"]
    assert "on_event" not in caplog.text


async def test_handlers_that_a_lifespan_silences_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []
    app = with_event_handlers(app_with(gateway_with()), seen)
    async with app.router.lifespan_context(app):
        assert seen == []
    [warning] = [each for each in caplog.records if "on_event" in each.getMessage()]
    assert warning.levelno == logging.WARNING
    assert "here begin, end: write FastAPI() and gateway.run_in(app)" in warning.getMessage()


async def test_settings_may_stand_in_the_program() -> None:
    gateway = Gateway(node={"name": "of the program"}, client={"allow_anonymous_connect_without_token": True})
    async with gateway.lifespan():
        assert gateway.name == "of the program"
        assert gateway.exclude("somebody").name == "of the program"
    with pytest.raises(TypeError, match="settings or sections"):
        Gateway(Settings(), node={"name": "x"})


async def test_plain_sockets_join_the_same_channels() -> None:
    gateway = gateway_with()
    gateway.channel("room", **OPEN)
    app = app_with(gateway)

    @app.websocket("/ws")
    async def ws(websocket: WebSocket) -> None:
        async with gateway.attach(websocket, user="plain") as connection:
            await connection.subscribe("room")
            async for text in connection:
                await gateway.publish("room", text)

    async with on_uvicorn(app, gateway.settings) as port, page(port) as client:
        await client.ask("connect")
        await client.ask("subscribe", channel="room")
        async with connect(f"ws://127.0.0.1:{port}/ws") as plain:
            await plain.send("hello")
            assert await client.heard("room") == "hello"
            assert await plain.recv() == "hello"


async def test_a_slash_behind_the_path_is_the_same_place(serve: Serve) -> None:
    gateway = gateway_with(client={"insecure": True})
    async with serve(app_with(gateway), gateway.settings) as port, httpx.AsyncClient() as http:
        for path in ("/connection/websocket", "/connection/websocket/"):
            async with connect(f"ws://127.0.0.1:{port}{path}") as opened:
                await opened.send('{"id":1,"connect":{}}')
                assert "connect" in json.loads(await opened.recv())
            answer = await http.get(f"http://127.0.0.1:{port}{path}", follow_redirects=False)
            assert (answer.status_code, "proxy_set_header Upgrade" in answer.text) == (426, True)
