"""Clients' tokens as FastAPI has them: the gateway's own security scheme, and what FastAPI's schemes see."""

from collections.abc import Callable
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Cookie, Depends, FastAPI, Header, HTTPException, Request, Security
from fastapi.security import (
    APIKeyCookie,
    APIKeyHeader,
    APIKeyQuery,
    HTTPAuthorizationCredentials,
    HTTPBearer,
    OAuth2PasswordBearer,
)

from gateway import Client, ClientToken, Credentials, Gateway, Grant, TokenExpired
from gateway.auth.tokens import sign_connection, sign_subscription
from tests.program.routes.clients import SECRET, connected, gateway_with, running


@pytest.fixture
def gateway() -> Gateway:
    return gateway_with({})


def http(app: FastAPI, **options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", **options)


# — in HTTP routes —

BOTH = {"cookie": "session", "query": "token"}
COOKIE_AND_QUERY = {"cookies": {"session": "b"}, "params": {"token": "c"}}

ROUTES: dict[str, tuple[dict[str, Any], dict[str, Any], str | None]] = {
    "bearer": ({}, {"headers": {"Authorization": "Bearer a"}}, "a"),
    "bearer in lower case": ({}, {"headers": {"authorization": "bearer a"}}, "a"),
    "basic": ({}, {"headers": {"Authorization": "Basic a"}}, None),
    "an empty one": ({}, {"headers": {"Authorization": "Bearer "}}, None),
    "nothing": ({}, {}, None),
    "a cookie that nobody has named": ({}, {"cookies": {"session": "a"}}, None),
    "a parameter that nobody has named": ({}, {"params": {"token": "a"}}, None),
    "a cookie without name": ({}, {"headers": {"Cookie": "a"}}, None),
    "a parameter without name": ({}, {"params": {"": "a"}}, None),
    "cookie": (BOTH, {"cookies": {"session": "a"}}, "a"),
    "query": (BOTH, {"params": {"token": "a"}}, "a"),
    "all": (BOTH, {"headers": {"Authorization": "Bearer a"}, **COOKIE_AND_QUERY}, "a"),
    "cookie and query": (BOTH, COOKIE_AND_QUERY, "b"),
}


@pytest.mark.parametrize(("names", "request_", "token"), ROUTES.values(), ids=ROUTES)
async def test_where_a_route_finds_it(names: Any, request_: dict[str, Any], token: str | None) -> None:
    app = FastAPI()

    @app.get("/strict")
    async def strict(token: Annotated[str, Depends(ClientToken(**names))]) -> str:
        return token

    @app.get("/lenient")
    async def lenient(token: Annotated[str | None, Security(ClientToken(**names, auto_error=False))]) -> str | None:
        return token

    async with http(app, **request_) as client:
        answer = await client.get("/strict")
        assert (await client.get("/lenient")).json() == token
    if token is None:
        assert (answer.status_code, answer.json()) == (401, {"detail": "Not authenticated"})
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    else:
        assert answer.json() == token


async def test_openapi_shows_it(gateway: Gateway) -> None:
    app = FastAPI()
    app.get("/a", dependencies=[Depends(gateway.token)])(lambda: None)
    named = ClientToken(cookie="session", query="t", scheme_name="Mine")
    app.get("/b", dependencies=[Depends(named)])(lambda: None)
    app.get("/c", dependencies=[Depends(ClientToken(description="of ours"))])(lambda: None)
    document = app.openapi()
    assert document["paths"]["/a"]["get"]["security"] == [{"ClientToken": []}]
    assert document["paths"]["/b"]["get"]["security"] == [{"Mine": []}]
    schemes = document["components"]["securitySchemes"]
    assert {(each["type"], each["scheme"]) for each in schemes.values()} == {("http", "bearer")}
    assert "connect command" in schemes["Mine"]["description"]
    assert "or the cookie `session` or the query parameter `t`" in schemes["Mine"]["description"]
    assert schemes["ClientToken"]["description"] == "of ours"


async def test_an_expired_token_is_a_401_of_a_route() -> None:
    app = FastAPI()

    @app.get("/")
    async def read() -> None:
        raise TokenExpired

    async with http(app) as client:
        answer = await client.get("/")
    assert (answer.status_code, answer.json()) == (401, {"detail": "token expired"})
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


# — in events —


async def test_one_dependency_serves_routes_and_events(gateway: Gateway) -> None:
    app = FastAPI()

    async def current_user(token: Annotated[str, Depends(gateway.token)]) -> str:
        return token.removeprefix("token of ")

    @app.get("/me")
    @gateway.on_connect
    async def me(user: Annotated[str, Depends(current_user)]) -> str:
        return user

    async with running(gateway, app) as opened, http(app, headers={"Authorization": "Bearer token of bob"}) as routes:
        client = opened()
        await client.connect(token="token of ann")
        assert client.session.user == "ann"
        assert await opened().error("connect") == (101, "Not authenticated")
        assert (await routes.get("/me")).json() == "bob"


async def test_the_handshake_counts_where_the_command_says_nothing() -> None:
    gateway, token = gateway_with({}), ClientToken(cookie="session", query="token")

    @gateway.on_connect
    async def connect(token: Annotated[str, Depends(token)]) -> str:
        return token

    async with running(gateway) as opened:
        for expected, client in {
            "a": opened(authorization="Bearer a", cookie="session=b"),
            "b": opened("token=c", cookie="session=b"),
            "c": opened("token=c"),
        }.items():
            await client.connect()
            assert client.session.user == expected
            assert (await opened("token=c", authorization="Bearer a").result("connect", token="d"))["client"]
        assert {each.user for each in gateway.node.hub.connections.values()} == {"a", "b", "c", "d"}


def bearer(credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> str:
    return credentials.credentials


SCHEMES: dict[str, Callable[..., Any]] = {
    "OAuth2PasswordBearer": OAuth2PasswordBearer(tokenUrl="login"),
    "HTTPBearer": bearer,
    "APIKeyHeader": APIKeyHeader(name="X-Key"),
    "APIKeyCookie": APIKeyCookie(name="key"),
    "APIKeyQuery": APIKeyQuery(name="key"),
    "by hand": lambda request: request.headers["authorization"].removeprefix("Bearer "),
}
SCHEMES["by hand"].__annotations__["request"] = Request

STALE = {"authorization": "Bearer stale", "x_key": "stale", "cookie": "key=stale; other=1", "user_agent": "tests"}


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("handshake", [{}, STALE], ids=["", "stale"])
async def test_schemes_see_the_token(gateway: Gateway, scheme: Callable[..., Any], handshake: dict[str, str]) -> None:
    seen: dict[str, Any] = {}

    @gateway.on_connect
    @gateway.on_refresh
    async def connect(token: Annotated[str, Depends(scheme)], client: Client) -> Credentials:
        seen["connect"] = token, client.token
        return Credentials("ann", expires=gateway.node.clock() + 60)

    @gateway.rpc("it")
    async def it(
        token: Annotated[str, Depends(scheme)],
        client: Client,
        user_agent: Annotated[str, Header()] = "",
        other: Annotated[str, Cookie()] = "",
    ) -> list[str]:
        return [token, client.token, user_agent, other]

    rest = ["tests", "1"] if handshake else ["", ""]
    async with running(gateway) as opened:
        client = opened("key=stale&x=y" if handshake else "", **handshake)
        await client.connect(token="first")
        assert seen["connect"] == ("first", "first")
        assert await client.call("it") == ["first", "first", *rest]
        await client.result("refresh", token="second")
        assert seen["connect"] == ("second", "second")
        assert await client.call("it") == ["second", "second", *rest]


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
async def test_schemes_see_the_handshake_where_there_is_no_token(gateway: Gateway, scheme: Callable[..., Any]) -> None:
    @gateway.on_connect
    async def connect(token: Annotated[str, Depends(scheme)]) -> str:
        return token

    async with running(gateway) as opened:
        client = opened("key=stale", **STALE)
        await client.connect()
        assert client.session.user == "stale"


async def test_a_key_beside_a_token_is_another_thing(gateway: Gateway) -> None:
    key, scheme = APIKeyCookie(name="device"), OAuth2PasswordBearer(tokenUrl="login")

    async def current_user(token: Annotated[str, Depends(scheme)]) -> str:
        return token

    @gateway.on_connect
    async def connect(user: Annotated[str, Depends(current_user)], device: Annotated[str, Depends(key)]) -> str:
        return f"{user} at {device}"

    async with running(gateway) as opened:
        client = opened(cookie="device=phone")
        await client.connect(token="ann")
        assert client.session.user == "ann at phone"


async def test_a_token_that_no_header_could_carry(gateway: Gateway) -> None:
    @gateway.on_connect
    async def connect(token: Annotated[str, Depends(gateway.token)]) -> str:
        return token

    @gateway.rpc("it")
    async def it(key: Annotated[str, Depends(APIKeyHeader(name="X"))]) -> str:
        return key

    async with running(gateway) as opened:
        client = opened()
        await client.connect(token="snow ☃\r\nX: y")
        assert client.session.user == "snow ☃\r\nX: y"
        assert (await client.call("it")).encode("latin-1").decode() == "snow ☃\r\nX: y"


async def test_events_of_a_subscription_see_the_token_of_their_own(gateway: Gateway) -> None:
    room = gateway.channel("room:{name}")
    seen: list[str] = []

    @gateway.on_connect
    async def connect(token: Annotated[str, Depends(gateway.token)]) -> str:
        return token

    @room.on_subscribe
    @room.on_refresh
    async def join(token: Annotated[str, Depends(gateway.token)], client: Client) -> Grant:
        seen.append(token)
        return Grant(expires=gateway.node.clock() + 60)

    @room.on_unsubscribe
    async def leave(token: Annotated[str, Depends(gateway.token)]) -> None:
        seen.append(token)

    async with connected(gateway, token="ann") as client:
        await client.subscribe("room:a")
        await client.subscribe("room:b", token="for b")
        await client.result("sub_refresh", channel="room:b", token="for b again")
        await client.result("unsubscribe", channel="room:b")
    assert seen == ["ann", "for b", "for b again", "ann"]


async def test_a_subscription_token_that_a_key_verifies_decides_alone() -> None:
    gateway = gateway_with({"token": {"hmac_secret_key": SECRET}, "allow_anonymous_connect_without_token": True})

    room = gateway.channel("room:{name}")

    @room.on_subscribe
    @room.on_refresh
    async def join() -> None:
        raise AssertionError("the program is not asked")

    async with connected(gateway) as client:
        assert (await client.error("subscribe", channel="room:a", token="of the program's own"))[0] == 103
        token = sign_subscription(SECRET, "", "room:a", 60, gateway.node.clock())
        assert (await client.subscribe("room:a", token=token))["expires"]
        assert (await client.result("sub_refresh", channel="room:a", token=token))["expires"]


async def test_no_token_is_kept_where_no_program_could_see_it() -> None:
    gateway = gateway_with({"token": {"hmac_secret_key": SECRET}})
    async with connected(gateway, token=sign_connection(SECRET, "ann")) as client:
        assert client.session.token == ""


async def test_who_sends_none_is_told_so(gateway: Gateway) -> None:
    """Not that a token has expired, upon which a page would be asked for another."""

    @gateway.on_connect
    async def connect(token: Annotated[str, Depends(OAuth2PasswordBearer(tokenUrl="login"))]) -> str:
        raise HTTPException(401)

    async with running(gateway) as opened:
        assert await opened().error("connect") == (101, "Not authenticated")
        assert await opened().error("connect", token="x") == (101, "Unauthorized")
