"""Commands by requests of their own: what becomes of them, here and on another node."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
import pytest

from gateway.config.settings import Settings
from gateway.core import cluster
from gateway.core.node import Node
from gateway.errors import Disconnect, DisconnectCode, ErrorCode
from gateway.serve.app import create_app
from gateway.session import ClientSession
from gateway.transports.emulation import MOST, QUESTION, Upstream
from gateway.transports.emulation_endpoint import emulation_routes
from gateway.transports.raw import MESSAGE_COST
from tests.redis_server import RedisServer
from tests.serving import Serve, on_plain_uvicorn, on_uvicorn
from tests.waiting import until

PAGE = "https://example.com"
OPEN: dict[str, Any] = {
    "client": {"insecure": True, "ping_interval": 0, "allowed_origins": [PAGE]},
    "http_stream": {"enabled": True},
    "sse": {"enabled": True},
}


def with_client(**client: Any) -> dict[str, Any]:
    return {**OPEN, "client": {**OPEN["client"], **client}}


class Client:
    """One that hears by a stream, and commands by requests, of any node."""

    def __init__(self, http: httpx.AsyncClient, response: httpx.Response) -> None:
        self._http = http
        self._lines = response.aiter_lines()
        self.session = self.node = ""

    async def hear(self) -> Any:
        async with asyncio.timeout(10):
            return json.loads(await anext(self._lines))

    async def say(self, url: str, *commands: dict[str, Any], **other: Any) -> int:
        data = "\n".join(map(json.dumps, commands))
        body = {"session": self.session, "node": self.node, "data": data, **other}
        return (await self._http.post(f"{url}/emulation", json=body)).status_code


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Client]:
    async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
        words = '{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"room"}}'
        async with http.stream("POST", f"{url}/connection/http_stream", content=words) as response:
            found = Client(http, response)
            told = (await found.hear())["connect"]
            found.session, found.node = told["session"], told["node"]
            assert (await found.hear())["id"] == 2
            yield found


@asynccontextmanager
async def serving(serve: Serve = on_uvicorn, given: dict[str, Any] = OPEN) -> AsyncIterator[tuple[str, Any]]:
    settings = Settings.model_validate(given)
    app = create_app(settings)
    async with serve(app, settings) as port:
        yield f"http://127.0.0.1:{port}", app


# — what is answered —


@pytest.mark.parametrize("serve", [on_uvicorn, on_plain_uvicorn])
async def test_commands_are_answered_on_the_stream(serve: Serve) -> None:
    async with serving(serve) as (url, _), client(url) as caller:
        publish = {"id": 3, "publish": {"channel": "room", "data": [1]}}
        assert await caller.say(url, publish, {"id": 4, "unsubscribe": {"channel": "other"}}) == 204
        found = [await caller.hear() for _ in range(3)]
        assert {"id": 3, "publish": {}} in found
        assert {"id": 4, "unsubscribe": {}} in found
        assert [each["push"]["pub"]["data"] for each in found if "push" in each] == [[1]]
        assert await caller.say(url, {"id": 5, "publish": {"channel": "room", "data": 2}}, session="none") == 204


@pytest.mark.parametrize(
    ("method", "body", "status"),
    [
        ("POST", b"{", 400),
        ("POST", b"", 400),
        ("POST", b"[]", 400),
        ("POST", b'{"session":"s","node":"n","data":{}}', 400),
        ("POST", b'{"session":"s","node":"n","data":"\xff"}', 400),
        ("POST", b'{"session":"s","node":"nobody","data":"{}"}', 404),
        ("POST", b'{"session":"s","data":"{}"}', 404),
        ("POST", b"x" * 65_537, 413),
        ("GET", b"", 405),
        ("PUT", b"{}", 405),
        ("HEAD", b"", 405),
        ("OPTIONS", b"", 204),
    ],
)
async def test_statuses(method: str, body: bytes, status: int) -> None:
    async with serving() as (url, _), httpx.AsyncClient(trust_env=False) as http:
        for origin, admitted in ((PAGE, True), ("https://evil.net", False)):
            answer = await http.request(method, f"{url}/emulation", content=body, headers={"Origin": origin})
            assert answer.status_code == (status if admitted else 403)
            if admitted:
                assert bool(answer.text) == (status in (400, 405, 413) and method != "HEAD"), "what is wrong, in words"
                assert answer.headers["access-control-allow-origin"] == PAGE
                assert answer.headers["access-control-allow-credentials"] == "true"
            else:
                assert "access-control-allow-origin" not in answer.headers
            if status == 405 and admitted:
                assert answer.headers["allow"] == "POST, OPTIONS"
            if method == "OPTIONS" and admitted:
                assert answer.headers["access-control-allow-methods"] == "POST, OPTIONS"
                assert answer.headers["access-control-max-age"] == "300"


async def test_a_client_that_goes_amid_its_request(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as (url, app):
        port = int(url.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /emulation HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nnu")
        await writer.drain()
        writer.transport.abort()
        async with client(url) as caller:
            assert await caller.say(url, {"id": 3, "presence": {"channel": "room"}}) == 204
            assert (await caller.hear())["error"]["code"] == ErrorCode.NOT_AVAILABLE
        await until(lambda: not app.state.node.hub.connections)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_the_limits_of_all_commands_hold() -> None:
    rates = {"client_command": {"enabled": True, "publish": "1/minute"}}
    given = with_client(message_size_limit=256, rate_limit=rates)
    async with serving(given=given) as (url, app), client(url) as caller:
        large = {"id": 3, "publish": {"channel": "room", "data": "x" * 300}}
        assert await caller.say(url, large) == 413
        assert app.state.node.metrics.refusals["message_size"] == 1
        publish = {"publish": {"channel": "other", "data": 1}}
        assert await caller.say(url, {"id": 4, **publish}, {"id": 5, **publish}) == 204
        assert await caller.hear() == {"id": 4, "publish": {}}
        assert (await caller.hear())["error"]["code"] == ErrorCode.TOO_MANY_REQUESTS
        assert app.state.node.metrics.commands["PublishRequest"] == 1


async def test_pongs_come_so_too() -> None:
    given = with_client(ping_interval=0.5, pong_timeout=0.2)
    async with serving(given=given) as (url, app), client(url) as caller:
        for _ in range(3):
            assert await caller.hear() == {}
            assert await caller.say(url, {}) == 204
        assert sum(app.state.node.metrics.ping_round_trip.counts) == 3
        assert await caller.say(url, {}) == 204
        assert (await caller.hear())["push"]["disconnect"]["code"] == DisconnectCode.BAD_REQUEST


async def test_a_session_that_has_ended_is_known_no_more() -> None:
    async with serving() as (url, app):
        async with client(url) as caller:
            session, node = caller.session, caller.node
        await until(lambda: not app.state.node.hub.connections)
        async with client(url) as caller:
            assert await caller.say(url, {"id": 9, "rpc": {}}, session=session, node=node) == 204


async def test_the_session_is_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    given = with_client(message_size_limit=256)
    async with serving(given=given) as (url, _), client(url) as caller:
        assert await caller.say(url, {"id": 3, "subscribe": {"channel": "x" * 300}}) == 413
        assert await caller.say(url, {"id": 3, "connect": {}}) == 204
        assert (await caller.hear())["push"]["disconnect"]["code"] == DisconnectCode.BAD_REQUEST
        assert caplog.records
        assert caller.session not in caplog.text


def test_the_route_is_there_when_it_is_wanted() -> None:
    for name in ("http_stream", "sse"):
        settings = Settings.model_validate({name: {"enabled": True}})
        assert [route.path for route in emulation_routes(lambda: pytest.fail("not yet"), settings)] == ["/emulation"]
    settings = Settings.model_validate({"uni_sse": {"enabled": True}})
    assert emulation_routes(lambda: pytest.fail("not yet"), settings) == []


# — several nodes —


@asynccontextmanager
async def two(server: RedisServer, base: dict[str, Any] = OPEN) -> AsyncIterator[tuple[str, str, Any]]:
    """The addresses of two, and the second's application."""
    given = {**base, "engine": {"type": "redis", "redis": {"address": server.url}}}
    async with serving(given=given) as (first, one), serving(given=given) as (second, other):
        await until(lambda: one.state.node.cluster.knows(other.state.node.uid))
        await until(lambda: other.state.node.cluster.knows(one.state.node.uid))
        yield first, second, other


async def test_any_node_takes_them(server: RedisServer) -> None:
    async with two(server) as (first, second, _), client(second) as caller:
        for number in range(3, 9):
            url = first if number % 2 else second
            assert await caller.say(url, {"id": number, "history": {"channel": "room"}}) == 204
            assert (await caller.hear())["id"] == number
        text = "zwölf 🙂" * 100
        assert await caller.say(first, {"id": 9, "publish": {"channel": "room", "data": text}}) == 204
        found = [await caller.hear(), await caller.hear()]
        assert [each["push"]["pub"]["data"] for each in found if "push" in each] == [text]
        assert await caller.say(first, {}, session="none") == 204


async def test_made_up_sessions_of_another_node_are_asked_for_so_often(server: RedisServer) -> None:
    limits = {"address_command": {"enabled": True, "connect": "3/hour"}}
    async with two(server, with_client(rate_limit=limits)) as (first, second, other), client(second) as caller:
        node: Node = other.state.node
        asked: list[str] = []
        answer = node.answers[QUESTION]

        def noted(argument: str) -> Any:
            asked.append(argument)
            return answer(argument)

        node.answers[QUESTION] = noted
        assert [await caller.say(first, {}, session="none") for _ in range(5)] == [204, 204, 204, 503, 503]
        assert len(asked) == 3
        assert await caller.say(first, {}) == 503, "nor for one that there is"
        assert [await caller.say(second, {}, session="none") for _ in range(5)] == [204] * 5, "its own cost nothing"
        assert await caller.say(second, {"id": 3, "rpc": {}}) == 204
        assert [await caller.say(first, {}, node="none") for _ in range(5)] == [404] * 5, "where nobody is asked"


async def test_a_node_that_is_gone_costs_nothing(server: RedisServer) -> None:
    """Its clients come from behind one address, and so do those of nodes that are alive."""
    limits = {"address_command": {"enabled": True, "connect": "2/hour"}}
    async with two(server, with_client(rate_limit=limits)) as (first, second, _), client(second) as caller:
        assert [await caller.say(first, {}, node="gone") for _ in range(9)] == [404] * 9
        assert await caller.say(first, {"id": 3, "rpc": {}}) == 204
        assert (await caller.hear())["id"] == 3


async def test_what_becomes_of_a_node(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(server) as (first, second, other), client(second) as caller:
        node: Node = other.state.node
        answer = node.answers.pop(QUESTION)  # as of another release
        assert await caller.say(first, {}) == 500
        monkeypatch.setattr(cluster, "SURVEY_TIMEOUT", 0.1)
        node.answers[QUESTION] = lambda _: asyncio.sleep(30, b"late")
        assert await caller.say(first, {}) == 500
        node.answers[QUESTION] = answer
        await node.cluster.stop()
        assert await until(lambda: caller.say(first, {})) == 404


async def test_what_nobody_can_read_is_left_out(server: RedisServer) -> None:
    async with two(server) as (first, second, other), client(second) as caller:
        assert await other.state.node.answers[QUESTION]("{") == b""
        assert await caller.say(first, {"id": 3, "rpc": {}}) == 204


# — one after the other —


class Session:
    """Takes its time for each frame, and fails where it is told to."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.go_on = asyncio.Event()
        self.reason: Disconnect | None = None
        self.node = self
        self.transport = self
        self.tasks: list[asyncio.Task[None]] = []

    def begin(self, work: Any) -> None:
        self.tasks.append(asyncio.ensure_future(work))

    async def drained(self) -> None:
        pass

    async def receive(self, frame: bytes) -> None:
        self.frames.append(frame)
        await self.go_on.wait()
        if frame == b"fail":
            raise RuntimeError("of the test")

    def disconnect(self, reason: Disconnect) -> None:
        self.reason = reason


def upstream() -> tuple[Upstream, Session]:
    session = Session()
    return Upstream(cast(ClientSession, session)), session


async def test_frames_wait_for_each_other() -> None:
    stream, session = upstream()
    frames = [b"%d" % number for number in range(100)]
    assert all(stream.take(frame) for frame in frames)
    await until(lambda: session.frames)
    assert session.frames == frames[:1]
    session.go_on.set()
    await until(lambda: session.frames == frames)
    await until(lambda: session.tasks[0].done())
    assert stream.take(b"later")
    await until(lambda: session.frames[-1] == b"later")
    assert len(session.tasks) == 2


async def test_only_so_much_waits() -> None:
    stream, session = upstream()
    frame = b"x" * (65536 - MESSAGE_COST)
    taken = 0
    while stream.take(frame):
        taken += 1
    assert taken == MOST // 65536
    session.go_on.set()
    await until(lambda: len(session.frames) == taken)
    await until(lambda: session.tasks[0].done())
    assert stream.take(frame)


async def test_a_defect_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    stream, session = upstream()
    session.go_on.set()
    assert stream.take(b"fail")
    await until(lambda: session.reason)
    assert session.reason is not None
    assert session.reason.code == DisconnectCode.INTERNAL
    assert "a frame failed" in caplog.text
    assert stream.take(b"next")
    await until(lambda: session.frames == [b"fail", b"next"])
