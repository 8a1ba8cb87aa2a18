"""Handlers as FastAPI's solver calls them: dependencies, their scope, and what handlers take and return."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial, update_wrapper, wraps
from typing import Annotated, Any, cast

import anyio
import pytest
from fastapi import (
    BackgroundTasks,
    Body,
    Cookie,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    Query,
    Request,
    Security,
    WebSocket,
)
from fastapi.security import (
    APIKeyCookie,
    APIKeyHeader,
    APIKeyQuery,
    HTTPAuthorizationCredentials,
    HTTPBearer,
    OAuth2PasswordBearer,
    SecurityScopes,
)
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.requests import HTTPConnection

from gateway import Client as GatewayClient
from gateway import Credentials, Error, Gateway
from gateway.program.routes.handlers import Answering
from gateway.program.routes.signatures import SignatureError
from tests.program.routes.clients import connected, gateway_with, running
from tests.waiting import until


class Line(BaseModel):
    text: str = Field(max_length=10)
    tags: list[str] = []


class Tree(BaseModel):
    child: "Tree | None" = None


@pytest.fixture
def gateway() -> Gateway:
    return gateway_with()


# — dependencies —


async def test_each_event_opens_and_closes_its_dependencies(gateway: Gateway) -> None:
    """In the order of FastAPI: what is opened first is closed last, and all of it before the answer is known."""
    seen: list[str] = []

    async def outer() -> AsyncIterator[str]:
        seen.append("open outer")
        yield "outer"
        seen.append("close outer")

    def inner(outer: Annotated[str, Depends(outer)]) -> Iterator[str]:
        seen.append(f"open inner in {outer}")
        yield "inner"
        seen.append("close inner")

    @gateway.rpc("look")
    async def look(inner: Annotated[str, Depends(inner)], outer: Annotated[str, Depends(outer)]) -> str:
        seen.append(f"call with {inner} {outer}")
        return "done"

    once = ["open outer", "open inner in outer", "call with inner outer", "close inner", "close outer"]
    async with connected(gateway) as client:
        assert await client.call("look") == "done"
        assert seen == once
        await client.call("look")
        assert seen == once * 2


async def test_a_dependency_is_solved_once_for_an_event_unless_told_otherwise(gateway: Gateway) -> None:
    calls: list[str] = []

    def cached() -> None:
        calls.append("cached")

    def fresh() -> None:
        calls.append("fresh")

    @gateway.rpc("look")
    async def look(
        _a: Annotated[None, Depends(cached)],
        _b: Annotated[None, Depends(cached)],
        _c: Annotated[None, Depends(fresh, use_cache=False)],
        _d: Annotated[None, Depends(fresh, use_cache=False)],
    ) -> None: ...

    async with connected(gateway) as client:
        await client.call("look")
    assert sorted(calls) == ["cached", "fresh", "fresh"]


async def test_what_is_not_async_runs_in_a_thread(gateway: Gateway) -> None:
    threads: dict[str, int] = {}

    def dependency() -> Iterator[None]:
        threads["dependency"] = threading.get_ident()
        yield

    @gateway.rpc("sync")
    def sync(_: Annotated[None, Depends(dependency)]) -> str:
        threads["handler"] = threading.get_ident()
        return "from a thread"

    class Callable:
        async def __call__(self) -> str:
            threads["object"] = threading.get_ident()
            return "from an object"

    gateway.rpc("object")(Callable())
    async with connected(gateway) as client:
        assert await client.call("sync") == "from a thread"
        assert await client.call("object") == "from an object"
    here = threading.get_ident()
    assert threads["dependency"] != here
    assert threads["handler"] != here
    assert threads["object"] == here


def awaiting(call: Any) -> Any:
    """A decorator that is ``async`` around whatever it decorates."""

    @wraps(call)
    async def inner(*args: Any, **named: Any) -> Any:
        found = call(*args, **named)
        return await found if asyncio.iscoroutine(found) else found

    return inner


class Retried:
    """A decorator that is a class."""

    def __init__(self, call: Any) -> None:
        self.call = call
        update_wrapper(self, call)

    async def __call__(self, **named: Any) -> Any:
        return self.call(**named)


class Counted:
    async def __call__(self, number: int = 0) -> int:
        return number


def plain() -> int:
    return 1


async def coroutine() -> int:
    return 1


WRAPPED = [
    awaiting(plain),
    awaiting(coroutine),
    awaiting(awaiting(plain)),
    Retried(plain),
    partial(awaiting(plain)),
    partial(Counted(), number=Depends(plain)),
    partial(partial(Counted(), number=Depends(plain))),
    awaiting(partial(Counted(), number=Depends(plain))),
]


@pytest.mark.parametrize("handler", WRAPPED)
async def test_what_is_async_at_any_level_is_awaited(gateway: Gateway, handler: Any) -> None:
    gateway.rpc("look")(handler)
    async with connected(gateway) as client:
        assert await client.call("look") == 1


async def test_a_dependency_that_yields_at_any_level_is_closed(gateway: Gateway) -> None:
    """With its event, and not with the program."""
    closed: list[str] = []

    def scoped(call: Any) -> Any:
        @wraps(call)
        async def inner() -> AsyncIterator[Any]:
            yield call()
            closed.append("asynchronous")

        return inner

    def threaded(call: Any) -> Any:
        @wraps(call)
        def inner() -> Iterator[Any]:
            yield call()
            closed.append("in a thread")

        return inner

    class Opener:
        async def __call__(self) -> AsyncIterator[int]:
            yield 1
            closed.append("object")

    for number, call in enumerate([scoped(plain), threaded(plain), Opener(), partial(Opener())]):

        @gateway.rpc(f"look{number}")
        async def look(found: Annotated[int, Depends(call)]) -> int:
            return found

    async with connected(gateway) as client:
        for number in range(4):
            assert await client.call(f"look{number}") == 1
        assert closed == ["asynchronous", "in a thread", "object", "object"]


async def test_dependencies_see_what_the_handler_fails_with(gateway: Gateway) -> None:
    seen: list[Exception] = []

    async def transaction() -> AsyncIterator[None]:
        try:
            yield
        except Exception as failure:
            seen.append(failure)
            raise

    @gateway.rpc("fail")
    async def fail(kind: Annotated[str, Body()], _: Annotated[None, Depends(transaction)]) -> None:
        raise HTTPException(403, "no") if kind == "http" else ValueError("a defect")

    async with connected(gateway) as client:
        assert await client.error("rpc", method="fail", data="http") == (103, "no")
        assert await client.error("rpc", method="fail", data="x") == (100, "internal server error")
    assert [type(each) for each in seen] == [HTTPException, ValueError]


async def test_a_dependency_may_say_it_in_other_words(gateway: Gateway) -> None:
    async def wording() -> AsyncIterator[None]:
        try:
            yield
        except KeyError as failure:
            raise HTTPException(404, f"no {failure.args[0]}") from failure

    @gateway.rpc("find")
    async def find(_: Annotated[None, Depends(wording)]) -> None:
        raise KeyError("such thing")

    async with connected(gateway) as client:
        assert await client.error("rpc", method="find") == (102, "no such thing")


async def test_a_dependency_that_swallows_a_refusal_lets_nobody_in(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """A session that rolls back and forgets to raise must not turn "forbidden" into "welcome"."""

    async def forgetful() -> AsyncIterator[None]:
        with suppress(HTTPException):
            yield

    @gateway.channel("secret").on_subscribe
    async def join(_: Annotated[None, Depends(forgetful)]) -> None:
        raise HTTPException(403)

    async with connected(gateway) as client:
        assert await client.error("subscribe", channel="secret") == (100, "internal server error")
        assert gateway.node.hub.channels == {}
    assert "every `except` must `raise`" in caplog.text


async def test_a_dependency_that_swallows_a_refusal_of_another_is_told_so(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    async def forgetful() -> AsyncIterator[None]:
        with suppress(HTTPException, Error):
            yield

    async def refuse() -> None:
        raise HTTPException(403)

    @gateway.rpc("refused")
    async def refused(_a: Annotated[None, Depends(forgetful)], _b: Annotated[None, Depends(refuse)]) -> str:
        return "in"

    @gateway.rpc("invalid")
    async def number(_: Annotated[None, Depends(forgetful)], n: Annotated[int, Body()]) -> str:
        return "in"

    async with connected(gateway) as client:
        for method in ("refused", "invalid"):
            caplog.clear()
            assert await client.error("rpc", method=method, data="x") == (100, "internal server error")
            assert "every `except` must `raise`" in caplog.text


async def test_a_commit_that_fails_fails_the_event(gateway: Gateway) -> None:
    async def transaction() -> AsyncIterator[None]:
        yield
        raise HTTPException(409, "somebody was quicker")

    chat = gateway.channel("chat", history_size=10, allow_subscribe_for_client=True, allow_subscribe_for_anonymous=True)

    @chat.on_publish
    async def say(_: Annotated[None, Depends(transaction)]) -> None: ...

    async with connected(gateway) as client:
        await client.subscribe("chat")
        assert await client.error("publish", channel="chat", data=1) == (409, "somebody was quicker")
        assert (await gateway.history("chat"))[0] == []


async def test_dependencies_without_yield_may_refuse(gateway: Gateway) -> None:
    def refuse() -> None:
        raise HTTPException(401, "who are you?")

    @gateway.rpc("look")
    async def look(_: Annotated[None, Depends(refuse)]) -> None: ...

    async with connected(gateway) as client:
        assert await client.error("rpc", method="look") == (101, "who are you?")


async def test_background_tasks_run_after_the_handler(gateway: Gateway) -> None:
    seen: list[str] = []

    def dependency(tasks: BackgroundTasks) -> Iterator[None]:
        tasks.add_task(seen.append, "task of the dependency")
        yield
        seen.append("closed")

    async def slow() -> None:
        seen.append("task of the handler")

    @gateway.rpc("look")
    async def look(
        tasks: BackgroundTasks, fail: Annotated[bool, Body()], _: Annotated[None, Depends(dependency)]
    ) -> None:
        tasks.add_task(slow)
        if fail:
            raise HTTPException(400)

    async with connected(gateway) as client:
        assert (await client.error("rpc", method="look", data=True))[0] == 107
        await client.call("look", False)
        await until(lambda: len(seen) == 3)
    assert seen == ["closed", "task of the dependency", "task of the handler"]


async def test_background_tasks_of_a_handler_without_dependencies(gateway: Gateway) -> None:
    seen: list[str] = []

    @gateway.rpc("look")
    async def look(tasks: BackgroundTasks) -> None:
        tasks.add_task(seen.append, "task")
        seen.append("handler")

    async with connected(gateway) as client:
        await client.call("look")
        await until(lambda: len(seen) == 2)
    assert seen == ["handler", "task"]


async def test_overrides_of_the_application_hold(gateway: Gateway) -> None:
    async def current_user() -> str:
        raise HTTPException(401)

    @gateway.rpc("who")
    async def who(user: Annotated[str, Depends(current_user)]) -> str:
        return user

    app = FastAPI()
    async with running(gateway, app) as opened:
        client = opened()
        await client.connect()
        assert (await client.error("rpc", method="who"))[0] == 101
        app.dependency_overrides[current_user] = lambda: "alice"
        assert await client.call("who") == "alice"


# — the handshake —


async def test_reads_the_handshake(gateway: Gateway) -> None:
    @gateway.rpc("look")
    async def look(
        user_agent: Annotated[str, Header()],
        session: Annotated[str, Cookie()],
        page: Annotated[int, Query()],
        missing: Annotated[str | None, Header()] = None,
    ) -> list[Any]:
        return [user_agent, session, page, missing]

    async with running(gateway) as opened:
        client = opened("page=3", user_agent="tests", cookie="session=abc; other=1")
        await client.connect()
        assert await client.call("look") == ["tests", "abc", 3, None]
        other = opened("page=x")
        await other.connect()
        code, message = await other.error("rpc", method="look")
        assert code == 107
        assert "page: Input should be a valid integer" in message
        assert "session: Field required" in message


SCHEMES = [
    (OAuth2PasswordBearer("token"), "", {"authorization": "Bearer t"}, "t"),
    (APIKeyHeader(name="x-key"), "", {"x_key": "k"}, "k"),
    (APIKeyCookie(name="key"), "", {"cookie": "key=c"}, "c"),
    (APIKeyQuery(name="key"), "key=q", {}, "q"),
]


@pytest.mark.parametrize(("scheme", "query", "headers", "expected"), SCHEMES)
async def test_security_schemes_that_want_a_request(
    gateway: Gateway, scheme: Any, query: str, headers: dict[str, str], expected: str
) -> None:
    @gateway.on_connect
    async def connect(key: str = Security(scheme)) -> str:
        return key

    async with running(gateway) as opened:
        client = opened(query, **headers)
        await client.connect()
        assert client.session.user == expected
        assert (await opened().error("connect"))[0] == 101


async def test_bearer_and_scopes(gateway: Gateway) -> None:
    def check(scopes: SecurityScopes, bearer: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> str:
        return f"{bearer.credentials} {scopes.scope_str}"

    @gateway.rpc("look")
    async def look(key: Annotated[str, Security(check, scopes=["read", "write"])]) -> str:
        return key

    async with running(gateway) as opened:
        client = opened(authorization="Bearer abc")
        await client.connect()
        assert await client.call("look") == "abc read write"


async def test_every_kind_of_connection_is_the_same_client(gateway: Gateway) -> None:
    def by_request(request: Request) -> HTTPConnection:
        return request

    def by_socket(socket: WebSocket) -> HTTPConnection:
        return socket

    def by_connection(connection: HTTPConnection) -> HTTPConnection:
        return connection

    @gateway.rpc("look")
    async def look(
        client: GatewayClient,
        request: Annotated[HTTPConnection, Depends(by_request)],
        socket: Annotated[HTTPConnection, Depends(by_socket)],
        connection: Annotated[HTTPConnection, Depends(by_connection)],
    ) -> bool:
        return client is request is socket is connection

    async with connected(gateway) as client:
        assert await client.call("look") is True


# — data —


async def test_data_of_all_kinds(gateway: Gateway) -> None:
    @gateway.rpc("model")
    async def model(line: Line) -> Line:
        return line

    @gateway.rpc("text")
    async def text(text: Annotated[str, Body()]) -> str:
        return text.upper()

    @gateway.rpc("many")
    async def many(lines: list[Line]) -> int:
        return len(lines)

    @gateway.rpc("optional")
    async def optional(line: Line | None = None) -> str:
        return line.text if line else "nothing"

    @gateway.rpc("anything")
    async def anything(data: Annotated[Any, Body()]) -> Any:
        return data

    async with connected(gateway) as client:
        assert await client.call("model", {"text": "a", "more": 1}) == {"text": "a", "tags": []}
        assert await client.call("text", "hi") == "HI"
        assert await client.call("many", [{"text": "a"}, {"text": "b"}]) == 2
        assert await client.call("optional") == "nothing"
        assert await client.call("optional", {"text": "a"}) == "a"
        assert await client.call("anything", {"a": [1, None, "ü"]}) == {"a": [1, None, "ü"]}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (None, "bad request: Field required"),
        ({}, "bad request: text: Field required"),
        ({"text": 5}, "bad request: text: Input should be a valid string"),
        ({"text": "a", "tags": ["x", 5]}, "bad request: tags.1: Input should be a valid string"),
        ({"text": "x" * 11}, "bad request: text: String should have at most 10 characters"),
        ("just text", "bad request: Input should be a valid dictionary or object to extract fields from"),
        ([1], "bad request: Input should be a valid dictionary or object to extract fields from"),
    ],
)
async def test_data_that_does_not_fit(gateway: Gateway, data: Any, problem: str) -> None:
    @gateway.rpc("model")
    async def model(line: Line) -> None: ...

    async with connected(gateway) as client:
        body = {} if data is None else {"data": data}
        assert await client.error("rpc", method="model", **body) == (107, problem)
        assert "x" * 11 not in problem


async def test_much_that_is_wrong_is_told_in_short(gateway: Gateway) -> None:
    @gateway.rpc("many")
    async def many(lines: list[Line]) -> None: ...

    async with connected(gateway) as client:
        code, message = await client.error("rpc", method="many", data=[{}] * 1000)
        assert code == 107
        assert len(message) == 500


@pytest.mark.parametrize("raw", [b"1e999", b"9" * 5000])
async def test_data_that_no_value_can_be_made_of(
    gateway: Gateway, raw: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The frame was looked at from outside only. That is the client's fault, and no defect."""

    @gateway.rpc("anything")
    async def anything(data: Annotated[Any, Body()]) -> Any:
        return data

    async with connected(gateway) as client:
        caplog.clear()  # of what was said at the start
        reply = await client.reply(await client.send_raw("rpc", b'{"method":"anything","data":%b}' % raw))
        assert reply["error"]["code"] == 107
        assert client.closed is None
    assert caplog.records == []


async def test_data_that_is_deeply_nested(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    @gateway.rpc("tree")
    async def tree(tree: Tree) -> None: ...

    async with connected(gateway) as client:
        caplog.clear()  # of what was said at the start
        raw = b'{"child":' * 900 + b"{}" + b"}" * 900
        reply = await client.reply(await client.send_raw("rpc", b'{"method":"tree","data":%b}' % raw))
        assert reply["error"]["code"] == 107
        assert client.closed is None
    assert caplog.records == []


async def test_validators_of_the_program_may_refuse(gateway: Gateway) -> None:
    class Polite(BaseModel):
        text: str

        @field_validator("text")
        @classmethod
        def check(cls, text: str) -> str:
            if "!" in text:
                raise ValueError("do not shout")
            return text

    @gateway.rpc("say")
    async def say(line: Polite) -> None: ...

    async with connected(gateway) as client:
        error = await client.error("rpc", method="say", data={"text": "hey!"})
        assert error == (107, "bad request: text: Value error, do not shout")


async def test_a_dependency_may_take_the_data_too(gateway: Gateway) -> None:
    def length(line: Line) -> int:
        return len(line.text)

    @gateway.rpc("say")
    async def say(line: Line, length: Annotated[int, Depends(length)]) -> list[Any]:
        return [line.text, length]

    async with connected(gateway) as client:
        assert await client.call("say", {"text": "four"}) == ["four", 4]


# — what comes back —


@dataclass
class Row:
    """As a database gives one."""

    id: int
    text: str
    secret: str = "hidden"


class Shown(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    text: str = Field(serialization_alias="shownText")


async def test_returns_what_the_annotation_says(gateway: Gateway) -> None:
    """As FastAPI's response model: objects of a database become what may be shown of them."""

    found: list[Any] = [Row(1, "a"), Row(2, "b")]
    gateway.rpc("unsaid")(lambda: {"at": found[0]})

    @gateway.rpc("rows")
    async def rows() -> list[Shown]:
        return found

    @gateway.rpc("nothing")
    async def nothing() -> Shown | None:
        return None

    @gateway.rpc("wrong")
    async def wrong() -> Shown:
        return cast(Shown, {"id": "no number"})

    async with connected(gateway) as client:
        assert await client.call("rows") == [{"id": 1, "shownText": "a"}, {"id": 2, "shownText": "b"}]
        assert await client.call("unsaid") == {"at": {"id": 1, "text": "a", "secret": "hidden"}}
        assert await client.call("nothing") is None
        assert await client.error("rpc", method="wrong") == (100, "internal server error")


async def test_a_forgotten_return_lets_nobody_in(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    room = gateway.channel("room", presence=True, history_size=5)
    members = ["ann"]

    @gateway.on_connect
    async def connect(client: GatewayClient) -> Credentials:
        user = client.headers.get("x-user")
        return Credentials(user) if user else None  # type: ignore[return-value]

    @room.on_subscribe
    @room.on_presence
    @room.on_history
    def join(client: GatewayClient) -> Annotated[bool, "or not"]:
        return True if client.user in members else None  # type: ignore[return-value]

    @gateway.rpc
    async def find(client: GatewayClient) -> int | str: ...  # type: ignore[empty-body]

    async with running(gateway) as opened:
        assert (await opened().error("connect"))[0] == 100
        assert "connect (on_connect) has returned None, which it does not say it may" in caplog.text
        ann, bob = opened(x_user="ann"), opened(x_user="bob")
        await ann.connect()
        await bob.connect()
        await ann.subscribe("room")
        members.clear()
        assert (await bob.error("subscribe", channel="room"))[0] == 100
        assert (await ann.error("presence", channel="room"))[0] == 100
        assert (await ann.error("history", channel="room", limit=5))[0] == 100
        assert (await ann.error("rpc", method="find"))[0] == 100


async def test_what_json_cannot_say_is_a_defect_and_spoils_no_frame(gateway: Gateway) -> None:
    class Odd(BaseModel):
        model_config = ConfigDict(ser_json_inf_nan="constants")
        value: float

    @gateway.rpc("odd")
    async def odd(value: Annotated[str, Body()]) -> Odd:
        return Odd(value=float(value))

    @gateway.rpc("text")
    async def text() -> str:
        return "NaN and Infinity"

    @gateway.rpc("object")
    async def anything() -> Any:
        return object()

    async with connected(gateway) as client:
        assert await client.error("rpc", method="odd", data="nan") == (100, "internal server error")
        assert await client.error("rpc", method="odd", data="inf") == (100, "internal server error")
        assert await client.error("rpc", method="object") == (100, "internal server error")
        assert await client.call("text") == "NaN and Infinity"
        assert await client.call("odd", "1.5") == {"value": 1.5}


def test_what_no_data_can_be_made_of_is_refused_at_once() -> None:
    class Plain: ...

    async def plain() -> Plain:
        return Plain()

    with pytest.raises(SignatureError, match="of which no data can be made; return a pydantic model"):
        Answering(plain)


# — failing, and taking long —


async def test_a_defect_is_logged_once_and_the_client_learns_nothing(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    @gateway.rpc("fail")
    async def fail() -> None:
        raise RuntimeError("the password is hunter2")

    async with connected(gateway) as client:
        assert await client.error("rpc", method="fail") == (100, "internal server error")
        assert await client.error("rpc", method="fail") == (100, "internal server error")
        assert client.closed is None
    with_traceback = [record for record in caplog.records if record.exc_info]
    assert len(with_traceback) == 2
    assert client.session.client in with_traceback[0].getMessage()
    assert "hunter2" in caplog.text


async def test_something_cancelled_is_a_defect_of_its_event_alone(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """What a handler waits for may be cancelled: the answer must not fail to come, nor the next command to run."""
    go_on = asyncio.Event()
    chat = gateway.channel("chat", allow_subscribe_for_client=True, allow_subscribe_for_anonymous=True)

    @chat.on_publish
    async def say(text: Annotated[str, Body()]) -> None:
        await go_on.wait()
        if text == "cancelled":
            raise asyncio.CancelledError

    async with connected(gateway) as client:
        await client.subscribe("chat")
        ids = [await client.send("publish", channel="chat", data=text) for text in ("cancelled", "fine")]
        go_on.set()
        assert (await client.reply(ids[0]))["error"]["code"] == 100
        assert "publish" in await client.reply(ids[1])
    assert "on_publish waited for something that was cancelled" in caplog.text


async def test_deadlines_within_a_handler(gateway: Gateway) -> None:
    @gateway.rpc("asyncio")
    async def by_asyncio() -> str:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        return "late"

    @gateway.rpc("anyio")
    async def by_anyio() -> str:
        with anyio.move_on_after(0.01):
            await anyio.Event().wait()
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.Event().wait)
            group.cancel_scope.cancel()
        return "late"

    @gateway.rpc("too late")
    async def too_late() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    async with connected(gateway) as client:
        assert await client.call("asyncio") == "late"
        assert await client.call("anyio") == "late"
        assert (await client.error("rpc", method="too late"))[0] == 100


async def test_a_deadline_around_connect(gateway: Gateway) -> None:
    @gateway.on_connect
    async def connect() -> str:
        with anyio.move_on_after(0.01):
            await anyio.Event().wait()
        async with asyncio.timeout(10):
            await anyio.lowlevel.checkpoint()
        return "alice"

    async with connected(gateway) as client:
        assert client.session.user == "alice"


async def test_a_node_that_stops_waits_for_no_handler_for_ever(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []

    @gateway.rpc("wait")
    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    async with connected(gateway) as client:
        finish = gateway.node._work.finish
        monkeypatch.setattr(gateway.node._work, "finish", lambda within: finish(within=0.01))
        await client.send("rpc", method="wait")
    await until(lambda: ended)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
