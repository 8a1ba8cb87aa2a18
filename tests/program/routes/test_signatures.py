"""Which functions are handlers, found out when they are declared; each refusal shows one that would do."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial, wraps
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from fastapi import BackgroundTasks, Body, Cookie, Depends, Header, Query, Request, Response, Security, WebSocket
from pydantic import BaseModel
from starlette.requests import HTTPConnection

from gateway import ChannelRoute, ChannelRouter, Client, Gateway
from gateway.program.routes.signatures import SignatureError
from tests.program.routes.clients import gateway_with


class Line(BaseModel):
    text: str


class Other(BaseModel):
    pass


async def current_user() -> str:
    return "alice"


async def takes_body(line: Line) -> str:
    return line.text


@pytest.fixture
def gateway() -> Gateway:
    return gateway_with()


@pytest.fixture
def chat(gateway: Gateway) -> ChannelRoute:
    return gateway.channel("chat:{room}:{n:int}", history_size=1, force_recovery_mode="cache")


def joining(parameters: str, *, returns: str = "None") -> Callable[..., Any]:
    """A handler with parameters written as a program may write them, however wrong."""
    names: dict[str, Any] = {"UUID": UUID, "Literal": Literal, "Annotated": Annotated}
    exec(f"async def join({parameters}) -> {returns}: ...", names)  # noqa: S102
    join: Callable[..., Any] = names["join"]
    return join


EVENTS = [
    "on_subscribe",
    "on_publish",
    "on_presence",
    "on_history",
    "on_unsubscribe",
    "on_cache_empty",
    "on_occupied",
    "on_vacated",
]


@pytest.mark.parametrize("event", EVENTS)
def test_every_channel_event_takes_params_and_dependencies(chat: ChannelRoute, event: str) -> None:
    async def handler(room: str, n: int, user: Annotated[str, Depends(current_user)], tasks: BackgroundTasks) -> None:
        pass

    assert getattr(chat, event)(handler) is handler
    assert chat.handlers[event].call is handler


@pytest.mark.parametrize("event", [each for each in EVENTS if each not in ("on_occupied", "on_vacated")])
def test_events_of_a_client_take_it_in_all_its_shapes(gateway: Gateway, event: str) -> None:
    async def client(it: Client) -> None: ...
    async def http_connection(it: HTTPConnection) -> None: ...
    async def request(it: Request) -> None: ...
    async def socket(it: WebSocket) -> None: ...

    for number, handler in enumerate([client, http_connection, request, socket]):
        route = gateway.channel(f"each{number}:{{room}}", history_size=1, force_recovery_mode="cache")
        getattr(route, event)(handler)


def test_everything_that_fastapi_reads_from_a_handshake(chat: ChannelRoute) -> None:
    @chat.on_subscribe
    async def join(
        room: Literal["a", "b"],
        n: int,
        agent: Annotated[str, Header(alias="user-agent")],
        session: Annotated[str | None, Cookie()] = None,
        token: str | None = Query(None),
        secured: str = Security(current_user, scopes=["a"]),
    ) -> None: ...


def test_data_in_all_its_shapes(gateway: Gateway) -> None:
    async def model(line: Line) -> None: ...
    async def optional(line: Line | None = None) -> None: ...
    async def text(line: Annotated[str, Body()]) -> None: ...
    async def many(lines: list[Line]) -> None: ...
    async def anything(data: Annotated[Any, Body()]) -> None: ...
    async def keys(data: dict[str, int]) -> None: ...

    takes = [Line, Line | None, str, list[Line], Any, dict[str, int]]
    handlers: list[Callable[..., Any]] = [model, optional, text, many, anything, keys]
    for number, handler in enumerate(handlers):
        route = gateway.channel(f"each{number}")
        route.on_publish(handler)
        assert route.handlers["on_publish"].takes == takes[number]
        assert route.handlers["on_publish"].needs_data is (handler is not optional)


def test_what_is_not_quite_a_function(gateway: Gateway) -> None:
    class Handler:
        async def __call__(self, room: str) -> None: ...
        async def method(self, room: str) -> None: ...

    async def more(room: str, extra: int) -> None: ...

    @wraps(more)
    async def wrapper(*args: Any, **named: Any) -> None: ...

    gateway.channel("a:{room}").on_subscribe(Handler())
    gateway.channel("b:{room}").on_subscribe(Handler().method)
    gateway.channel("c:{room}").on_subscribe(partial(more, extra=Depends(current_user)))
    gateway.channel("d:{room}:{extra}").on_subscribe(wrapper)


def test_a_dependency_may_give_another_client(gateway: Gateway) -> None:
    async def paying(client: Client) -> Client:
        return client

    given: Any = Depends(paying)

    @gateway.rpc("by default")
    async def by_default(client: Client = given) -> None: ...

    @gateway.rpc("annotated")
    async def annotated(client: Annotated[Client, Depends(paying)]) -> None: ...

    @gateway.rpc("beside")
    async def beside(client: Client, boss: Client = given) -> None: ...


def refusal(declare: Callable[[Any], Any], handler: Any) -> str:
    with pytest.raises(SignatureError) as caught:
        declare(handler)
    return str(caught.value)


@pytest.mark.parametrize(
    "parameter",
    [
        "user",
        "user: str",
        "user: int",
        "user: str = 'x'",
        "user: str | None = None",
        "user: UUID",
        "user: Literal['a']",
        "user: Annotated[str, 'a note']",
    ],
)
def test_a_parameter_that_comes_from_nowhere(chat: ChannelRoute, parameter: str) -> None:
    text = refusal(chat.on_subscribe, joining(f"room: str, {parameter}"))
    assert text.startswith('on_subscribe of "chat:{room}:{n:int}": join(room: str, user')
    assert "takes user, which is no parameter of the pattern (there are room, n)" in text
    assert "`user: Annotated[str, Query()]`" in text
    assert "`user: Annotated[str, Body()]`" in text
    assert (
        "    @channel.on_subscribe\n    async def join(room: str, n: str, user: User = Depends(current_user))" in text
    )
    assert chat.handlers == {}


def test_a_pattern_without_parameters_says_so(gateway: Gateway) -> None:
    async def join(room: str) -> None: ...

    assert "(it has none)" in refusal(gateway.channel("lobby").on_subscribe, join)
    assert refusal(gateway.rpc("rooms"), join).startswith("rpc: test_a_pattern")


def refused(chat: ChannelRoute, event: str, handler: Any) -> str:
    return refusal(getattr(chat, event), handler)


async def _positional(room: str, /) -> None: ...
async def _args(*args: str) -> None: ...
async def _named(**options: str) -> None: ...
async def _unlikely(room: Annotated[str, Query()]) -> None: ...
async def _no_data(connection: object, socket: asyncio.Event) -> None: ...
async def _marked_twice(user: Annotated[str, Depends(current_user)] = Depends(current_user)) -> None: ...
async def _two_bodies(line: Line, other: Other) -> None: ...
async def _two_of_one(client: Client, connection: HTTPConnection) -> None: ...
async def _noted(client: Client, connection: Annotated[HTTPConnection, "a note"]) -> None: ...
async def _generator(room: str) -> AsyncIterator[int]:
    yield 1


class _Generator:
    async def __call__(self, room: str) -> AsyncIterator[int]:
        yield 1


def _sync_generator(room: str) -> Iterator[int]:
    yield 1


async def _signed_in(room: Annotated[str, Cookie()] = "") -> str:
    return room


async def _known(user: Annotated[str, Depends(_signed_in)]) -> None: ...


def test_what_a_dependency_takes_may_not_be_called_as_a_parameter_of_the_pattern(gateway: Gateway) -> None:
    text = refusal(gateway.channel("chat:{room}").on_subscribe, _known)
    assert text.startswith('on_subscribe of "chat:{room}": _signed_in(room: ')
    assert "takes room, which is a parameter of the pattern, from elsewhere" in text
    assert '`other: Annotated[str, Cookie(alias="room")]`' in text


def test_dependencies_of_a_router_may_not_either(gateway: Gateway) -> None:
    router = ChannelRouter(dependencies=[Depends(_known)])
    router.channel("chat:{room}")
    gateway.include(router)
    with pytest.raises(SignatureError, match=r'^dependencies of "chat:\{room\}": _signed_in\(.* takes room'):
        _ = gateway.running


@pytest.mark.parametrize(
    ("handler", "problem"),
    [
        (_positional, "has the parameter room: str, which nothing can be passed for: name each one"),
        (_args, "has the parameter *args: str"),
        (_named, "has the parameter **options: str"),
        (
            _unlikely,
            "takes room, which is a parameter of the pattern, from elsewhere (Cannot use `Query` for",
        ),
        (_no_data, "takes socket, of a type that no data can have; what the program makes itself comes from a dep"),
        (_marked_twice, "cannot be called: Cannot specify `Depends` in `Annotated` and default value"),
        (_two_bodies, "takes line and other as data, but there is one: make one model of them"),
        (_two_of_one, "takes client and connection, which are one and the same"),
        (_noted, "takes client and connection, which are one and the same"),
        (_generator, "is a generator; return the answer"),
        (_Generator(), "is a generator; return the answer"),
        (partial(_Generator()), "is a generator; return the answer"),
        (_sync_generator, "is a generator; return the answer"),
    ],
)
def test_what_cannot_be_called(gateway: Gateway, handler: Any, problem: str) -> None:
    text = refusal(gateway.channel("chat:{room}").on_publish, handler)
    assert problem in text, text
    assert text.endswith(
        "for example:\n\n    @channel.on_publish\n"
        "    async def say(room: str, message: ChatMessage, client: Client) -> ChatMessage: ..."
    )


@pytest.mark.parametrize("event", ["on_presence", "on_history", "on_unsubscribe", "on_cache_empty", "on_occupied"])
def test_data_where_none_comes(chat: ChannelRoute, event: str) -> None:
    async def handler(room: str, line: Line) -> None: ...
    async def indirect(room: str, text: Annotated[str, Depends(takes_body)]) -> None: ...

    assert "takes line, but no data comes with this event" in refused(chat, event, handler)
    assert "takes line, but no data comes with this event" in refused(chat, event, indirect)


@pytest.mark.parametrize("event", ["on_occupied", "on_vacated"])
def test_clients_where_there_is_none(chat: ChannelRoute, event: str) -> None:
    async def client(it: Client) -> None: ...
    async def request(it: Request) -> None: ...
    async def socket(it: WebSocket) -> None: ...

    for handler in (client, request, socket):
        assert "takes a client, but no single client causes this" in refused(chat, event, handler)


@pytest.mark.parametrize("event", ["on_occupied", "on_vacated", "live"])
def test_dependencies_on_a_client_where_there_is_none(chat: ChannelRoute, event: str) -> None:
    """A request is another matter: it leads to the application."""

    async def paying(client: Annotated[Client, "a note"]) -> Client:
        return client

    async def balance(paying: Annotated[str, Depends(paying)]) -> str:
        return paying

    async def replaced() -> Any: ...

    another: Any = Depends(replaced)

    async def pool(request: Request, connection: HTTPConnection, client: Client = another) -> Any:
        return request.app.state.pool

    async def handler(balance: Annotated[str, Depends(balance)]) -> None: ...
    async def generator(balance: Annotated[str, Depends(balance)]) -> AsyncIterator[int]:
        yield 1

    async def pooled(pool: Annotated[Any, Depends(pool)]) -> None: ...
    async def pooled_generator(pool: Annotated[Any, Depends(pool)]) -> AsyncIterator[int]:
        yield 1

    text = refused(chat, event, generator if event == "live" else handler)
    assert "paying, which takes a client, but no single client causes this" in text
    getattr(chat, event)(pooled_generator if event == "live" else pooled)


def test_live_sources_are_asynchronous_generators(chat: ChannelRoute) -> None:
    async def nothing_yielded(room: str) -> None: ...

    for handler in (nothing_yielded, _sync_generator):
        text = refused(chat, "live", handler)
        assert "is no asynchronous generator" in text
        assert "async def ticks(room: str, n: str, ) -> AsyncIterator[Tick]:" in text or "yield Tick(...)" in text
    chat.live(_generator)


def test_live_sources_may_be_objects(gateway: Gateway) -> None:
    gateway.channel("a:{room}").live(_Generator())
    gateway.channel("b:{room}").live(partial(_Generator()))


def test_a_body_and_a_response_are_nothing_unusual(chat: ChannelRoute) -> None:
    """FastAPI's own parameters stay possible, for dependencies that are shared with routes."""

    @chat.on_publish
    async def say(line: Line, response: Response) -> None: ...


def test_what_no_function_is(gateway: Gateway) -> None:
    alice: Any = "alice"
    with pytest.raises(TypeError, match="on_connect decorates a function, not 'alice'"):
        gateway.on_connect(alice)


@pytest.mark.parametrize("parameter", ["room", "other"])
def test_names_for_the_type_checker_only(gateway: Gateway, parameter: str) -> None:
    text = refusal(gateway.channel("chat:{room}").on_subscribe, joining(f"{parameter}: 'Unknown'"))
    assert f"takes {parameter}, whose type is not known when the program runs" in text


def test_what_a_handler_returns_may_be_unknown(gateway: Gateway) -> None:
    gateway.channel("chat:{room}").on_subscribe(joining("room: str", returns="'Unknown'"))


def test_a_long_signature_is_cut(gateway: Gateway) -> None:
    join = joining(", ".join(f"parameter{n}: str" for n in range(30)))
    assert "join(...) takes parameter0" in refusal(gateway.channel("chat:{room}").on_subscribe, join)
