"""Plans of dependencies: what FastAPI's own solver would do, for each of them, in its order."""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial, wraps
from typing import Annotated, Any, Literal

import pytest
from fastapi import BackgroundTasks, Body, Cookie, Depends, FastAPI, Header, Path, Query, Request, Response, Security
from fastapi.security import HTTPBasic, OAuth2PasswordBearer, SecurityScopes
from pydantic import BaseModel, Field
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket

from gateway import Client
from gateway.errors import Error
from gateway.program.routes import events
from gateway.program.routes.client import EventClient, Seen
from gateway.program.routes.handlers import Handler

calls: list[str] = []


class Say(BaseModel):
    text: str


class Filter(BaseModel):
    limit: int = 5
    order: str = "up"


async def simple() -> str:
    calls.append("simple")
    return "simple"


def threaded() -> str:
    calls.append("threaded")
    return "threaded"


async def nested(of: Annotated[str, Depends(simple)], also: Annotated[str, Depends(threaded)]) -> str:
    calls.append("nested")
    return of + also


async def counted() -> int:
    calls.append("counted")
    return len(calls)


async def fresh(one: Annotated[int, Depends(counted, use_cache=False)]) -> int:
    calls.append("fresh")
    return one


async def where(room: str, agent: Annotated[str | None, Header(alias="User-Agent")] = None) -> Any:
    calls.append("where")
    return room, agent


async def limited(limit: int = 3) -> int:
    calls.append("limited")
    return limit


async def on_limited(limit: Annotated[int, Depends(limited)]) -> int:
    calls.append("on_limited")
    return limit


async def reads(message: Say) -> str:
    calls.append("reads")
    return message.text


def deciding(call: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    @wraps(call)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **kwargs)

    return wrapper


class Dependency:
    def __init__(self, room: str = "") -> None:
        self.room = room

    async def __call__(self, n: int) -> int:
        calls.append("called")
        return n

    async def method(self, n: int) -> int:
        calls.append("method")
        return -n

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dependency) and other.room == self.room

    def __hash__(self) -> int:
        return hash(self.room)


basic = HTTPBasic(auto_error=False)
bearer = OAuth2PasswordBearer("token", auto_error=False)
Simple = Annotated[str, Depends(simple)]
Kept = Annotated[int, Depends(counted)]
Counted = Annotated[int, Depends(counted, use_cache=False)]


async def nothing() -> None: ...
async def params(room: str, n: int) -> Any:
    return room, n


async def narrow(room: Literal["a", "b"], n: Annotated[int, Path(gt=5)]) -> Any:
    return room, n


async def texts(
    agent: Annotated[str, Header(alias="user-agent")],
    x_one: Annotated[str, Header()],
    x_two: Annotated[str | None, Header()] = None,
    x_three: Annotated[str, Header(convert_underscores=False)] = "three",
    c: Annotated[str, Cookie()] = "",
    none: Annotated[str | None, Cookie()] = None,
    q: Annotated[str, Query()] = "default",
    many: Annotated[list[str] | None, Query()] = None,
) -> Any:
    return agent, x_one, x_two, x_three, c, none, q, many


async def checked(
    q: Annotated[str, Query(max_length=1)],
    number: Annotated[int, Query(alias="n")],
    made: Annotated[str, Query(default_factory=lambda: "made")],
    odd: Annotated[str, Query(validate_default=True)] = 5,  # type: ignore[assignment]
    several: Annotated[Filter, Query()] = Filter(),  # noqa: B008
) -> Any:
    return q, number, made, odd, several


async def missing(
    x_number: Annotated[int, Header()], x_missing: Annotated[str, Header()], x_wrong: Annotated[bool, Header()]
) -> None: ...
async def deep(a: Annotated[str, Depends(nested)], b: Simple, c: Annotated[Any, Depends(where)]) -> Any:
    return a, b, c


async def unnamed(room: str, _: Annotated[Any, Depends(where)], __: Simple) -> str:
    return room


async def once(a: Kept, b: Kept) -> Any:
    return a, b


async def twice(a: Counted, b: Kept, c: Counted, d: Kept) -> Any:
    return a, b, c, d


async def again(a: Annotated[int, Depends(fresh)], b: Annotated[int, Depends(fresh)]) -> Any:
    return a, b


async def failing(a: Annotated[int, Depends(on_limited)], b: Annotated[int, Depends(on_limited)], c: Simple) -> Any:
    return a, b, c


async def failing_itself(n: bool, a: Annotated[int, Depends(limited)]) -> Any: ...
async def the_client(client: Client, path: Annotated[str, Depends(lambda: "path")]) -> Any:
    return type(client).__name__, path


def by_request(request: Request) -> Any:
    return request.headers.get("user-agent")


def by_socket(socket: WebSocket, connection: HTTPConnection) -> Any:
    return socket is connection


async def all_of_them(a: Annotated[Any, Depends(by_request)], b: Annotated[Any, Depends(by_socket)]) -> Any:
    return a, b


async def data(message: Say) -> Any:
    return message


async def data_twice(message: Say, text: Annotated[str, Depends(reads)]) -> Any:
    return message, text


async def optional(message: Say | None = None, limit: Annotated[int, Depends(limited)] = 0) -> Any:
    return message, limit


async def bounded(text: Annotated[str, Body(max_length=2), Field(min_length=1)]) -> str:
    return text


async def shapes(
    a: Annotated[int, Depends(Dependency())],
    b: Annotated[int, Depends(Dependency())],
    c: Annotated[int, Depends(Dependency().method)],
    d: Annotated[int, Depends(partial(Dependency().method))],
    e: Annotated[str, Depends(deciding(simple))],
    f: Annotated[Dependency, Depends(Dependency)],
    g: Annotated[str, Depends(partial(threaded))],
) -> Any:
    return a, b, c, d, e, f.room, g


async def schemes(a: Annotated[Any, Depends(basic)], b: Annotated[Any, Depends(bearer)]) -> Any:
    return a, b


def in_a_thread(room: str, of: Simple) -> Any:
    return room, of


HANDLERS = [
    *(nothing, params, narrow, texts, checked, missing, deep, unnamed, once, twice, again, failing, failing_itself),
    *(the_client, all_of_them, data, data_twice, optional, bounded, shapes, schemes, in_a_thread),
]

HANDSHAKES: list[tuple[str, dict[str, str]]] = [
    ("", {}),
    ("q=1&n=7&limit=4", {"user-agent": "a", "x-one": "1", "x-two": "", "x-number": "5", "x-wrong": "maybe"}),
    ("q=12&n=x&limit=none&many=1&many=2", {"User-Agent": "b", "x-one": "", "x-three": "3", "cookie": "c=d; none="}),
    ("q=&odd=1&order=down", {"x_three": "3", "authorization": "Bearer abc", "x-missing": "there", "x-number": "?"}),
]


async def outcome(handler: Handler, query: str, headers: dict[str, str], sent: bytes) -> Any:
    calls.clear()
    scope = {
        "type": "websocket",
        "path": "/",
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "app": FastAPI(),
    }
    client = EventClient(None, Seen(scope), {"room": "a", "n": "6"})
    try:
        returned = await handler(client, sent, lambda work: work.close())
    except Error as error:
        return error.code, error.message, calls[:]
    return returned, calls[:]


def prepared(call: Callable[..., Any]) -> tuple[Handler, Handler]:
    """One that goes by its plan, and one that FastAPI solves."""
    planned, solved = (Handler(call, events.SUBSCRIBE, ("room", "n")) for _ in range(2))
    solved._plan = None
    return planned, solved


@pytest.mark.parametrize("call", HANDLERS)
@pytest.mark.parametrize(("query", "headers"), HANDSHAKES)
@pytest.mark.parametrize("sent", [b"", b"null", b'{"text":"hi"}', b'"hi"', b'{"text":5}', b"{"])
async def test_a_plan_gives_what_fastapi_would(
    call: Callable[..., Any], query: str, headers: dict[str, str], sent: bytes
) -> None:
    planned, solved = prepared(call)
    assert planned._plan is not None
    assert await outcome(planned, query, headers, sent) == await outcome(solved, query, headers, sent)


async def opened() -> AsyncIterator[int]:
    yield 1


async def scoped(scopes: SecurityScopes) -> Any:
    return scopes.scopes


async def yields(a: Annotated[int, Depends(opened)]) -> int:
    return a


async def scopes(a: Annotated[Any, Security(scoped, scopes=["x"])], b: Annotated[Any, Depends(scoped)]) -> Any:
    return a, b


async def secured(a: Annotated[str, Security(simple, scopes=["x"])], b: Simple) -> Any:
    return a, b


async def tasks(background: BackgroundTasks) -> None: ...
async def responds(a: Simple, response: Response) -> str:
    return response.headers.get("x", a)


@pytest.mark.parametrize(
    ("call", "returned"),
    [(yields, 1), (scopes, (["x"], [])), (secured, ("simple", "simple")), (tasks, None), (responds, "simple")],
)
async def test_what_is_not_planned_is_left_to_fastapi(call: Callable[..., Any], returned: Any) -> None:
    planned, _ = prepared(call)
    assert planned._plan is None
    assert (await outcome(planned, "", {}, b""))[0] == returned


async def test_overrides_are_left_to_fastapi() -> None:
    planned, _ = prepared(deep)
    assert planned._plan is not None
    app = FastAPI()
    app.dependency_overrides[nested] = lambda: "overridden"
    scope = {"type": "websocket", "path": "/", "query_string": b"", "headers": [], "app": app}
    client = EventClient(None, Seen(scope), {"room": "a", "n": "6"})
    assert await planned(client, b"", lambda work: work.close()) == ("overridden", "simple", ("a", None))
