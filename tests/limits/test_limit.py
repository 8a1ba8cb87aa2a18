"""Limits as dependencies: in HTTP routes, WebSocket routes and channels' handlers."""

from collections.abc import AsyncIterator
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI, Header, HTTPException, WebSocket
from httpx import ASGITransport, AsyncClient
from starlette.datastructures import Headers
from starlette.types import Message

from gateway.errors import BrokerUnavailable
from gateway.limits.base import Budget, Outcome
from gateway.limits.limit import Limits, Quota, RateLimit
from gateway.limits.memory import MemoryLimits
from tests.limits.test_caller import Client

MIDDAY = 20_000.5 * 86_400


class Absent:
    """A store that cannot be reached."""

    failures = 0

    async def take(self, name: str, key: str, budget: Budget, cost: int) -> Outcome:
        raise BrokerUnavailable


class Recording(MemoryLimits):
    """Notes who spends how much."""

    def __init__(self) -> None:
        super().__init__(lambda: MIDDAY)
        self.takes: list[tuple[str, str, int]] = []

    async def take(self, name: str, key: str, budget: Budget, cost: int) -> Outcome:
        self.takes.append((name, key, cost))
        return await super().take(name, key, budget, cost)


@pytest.fixture
def store() -> Recording:
    return Recording()


@pytest.fixture
def limits(store: Recording) -> Limits:
    return Limits(lambda: store)


@pytest.fixture
def app() -> FastAPI:
    return FastAPI()


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[AsyncClient]:
    transport = ASGITransport(app, client=("192.0.2.7", 5000))
    async with AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def open_socket(app: FastAPI, path: str) -> list[Message]:
    """All that the application says to a WebSocket handshake."""
    said: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        said.append(message)

    scope = {"type": "websocket", "path": path, "headers": [], "query_string": b"", "client": ("192.0.2.7", 5001)}
    await app({**scope, "extensions": {"websocket.http.response": {}}}, receive, send)
    return said


async def refusal(limit: RateLimit | Quota, key: str, cost: int = 1) -> HTTPException:
    with pytest.raises(HTTPException) as caught:
        await limit.check(key, cost)
    return caught.value


# — the dependency —


async def test_one_budget_for_routes_sockets_and_channels(limits: Limits, app: FastAPI, http: AsyncClient) -> None:
    per_caller = limits.rate_limit("4/minute")

    @app.post("/messages", dependencies=[Depends(per_caller)])
    async def post() -> str:
        return "posted"

    @app.websocket("/ws")
    async def talk(websocket: WebSocket, _: Annotated[None, Depends(per_caller)]) -> None:
        await websocket.accept()
        await websocket.close()

    posted = await http.post("/messages")
    assert (posted.status_code, posted.json()) == (200, "posted")
    assert not [name for name in posted.headers if "limit" in name or "retry" in name]
    assert [message["type"] for message in await open_socket(app, "/ws")] == ["websocket.accept", "websocket.close"]
    channel = Client("", client=("192.0.2.7", 6000))
    await per_caller(channel)
    await per_caller(channel)

    refused = await http.post("/messages")
    assert (refused.status_code, refused.json()) == (429, {"detail": "too many requests"})
    assert refused.headers["retry-after"] == "15"
    assert "ratelimit" not in refused.headers
    denied = (await open_socket(app, "/ws"))[0]
    assert (denied["type"], denied["status"]) == ("websocket.http.response.start", 429)
    assert Headers(raw=denied["headers"])["retry-after"] == "15"
    with pytest.raises(HTTPException) as caught:
        await per_caller(channel)
    assert caught.value.status_code == 429


async def test_users_have_budgets_of_their_own(limits: Limits) -> None:
    per_user = limits.rate_limit("1/minute")
    await per_user(Client("ann"))
    await per_user(Client("bob"))
    with pytest.raises(HTTPException):
        await per_user(Client("ann", client=("192.0.2.99", 1)))


async def test_a_quota_says_how_much_and_when(limits: Limits, app: FastAPI, http: AsyncClient) -> None:
    per_day = limits.quota("1/day")

    @app.get("/report", dependencies=[Depends(per_day)])
    async def report() -> None: ...

    assert (await http.get("/report")).status_code == 200
    refused = await http.get("/report")
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "43200"
    assert refused.headers["ratelimit-policy"] == '"1/day";q=1;w=86400'
    assert refused.headers["ratelimit"] == '"1/day";r=0;t=43200'


async def test_a_key_from_the_connection(limits: Limits, app: FastAPI, http: AsyncClient, store: Recording) -> None:
    by_room = limits.rate_limit("1/10s", key=lambda connection: connection.path_params["room"])

    @app.get("/rooms/{room}", dependencies=[Depends(by_room)])
    async def read() -> None: ...

    assert [(await http.get(f"/rooms/{room}")).status_code for room in ("a", "b", "a")] == [200, 200, 429]
    assert {key for _, key, _ in store.takes} == {"a", "b"}


async def test_a_key_from_a_dependency(limits: Limits, app: FastAPI, http: AsyncClient, store: Recording) -> None:
    async def account(authorization: Annotated[str | None, Header()] = None) -> int | None:
        if authorization == "bad":
            raise HTTPException(401)
        return int(authorization) if authorization else None

    by_account = limits.rate_limit("1/10s", key=Depends(account))

    @app.get("/", dependencies=[Depends(by_account)])
    async def read() -> None: ...

    async def status(authorization: str) -> int:
        return (await http.get("/?key=forged", headers={"Authorization": authorization})).status_code

    assert [await status(token) for token in ("1", "2", "1", "bad")] == [200, 200, 429, 401]
    assert (await http.get("/")).status_code == 200
    assert [key for _, key, _ in store.takes] == ["1", "2", "1", "ip:192.0.2.7"]


async def test_the_key_cannot_come_from_the_query(
    limits: Limits, app: FastAPI, http: AsyncClient, store: Recording
) -> None:
    limit = limits.rate_limit("9/second")

    @app.get("/", dependencies=[Depends(limit)])
    async def read() -> None: ...

    await http.get("/?key=forged")
    assert store.takes == [("9/second", "ip:192.0.2.7", 1)]
    assert app.openapi()["paths"]["/"]["get"].get("parameters", []) == []


async def test_several_limits_on_a_route(limits: Limits, app: FastAPI, http: AsyncClient) -> None:
    steady, daily = limits.rate_limit("9/second"), limits.quota("2/day")

    @app.get("/", dependencies=[Depends(steady), Depends(daily)])
    async def read() -> None: ...

    assert [(await http.get("/")).status_code for _ in range(3)] == [200, 200, 429]


# — by hand —


async def test_check(limits: Limits, store: Recording) -> None:
    limit = limits.rate_limit("10/second", burst=20, name="uploads")
    outcome = await limit.check("ann", cost=5)
    assert (outcome.allowed, outcome.remaining) == (True, 15)
    refused = await refusal(limit, "ann", 16)
    assert (refused.status_code, refused.headers) == (429, {"Retry-After": "1"})
    assert store.takes == [("uploads", "ann", 5), ("uploads", "ann", 16)]


@pytest.mark.parametrize("cost", [0, -1])
async def test_a_cost_that_would_give_something_back(limits: Limits, cost: int) -> None:
    with pytest.raises(ValueError, match="for example check"):
        await limits.rate_limit("1/second").check("ann", cost)


async def test_a_monstrous_cost_is_refused_like_any(limits: Limits, store: Recording) -> None:
    assert (await refusal(limits.quota("9/day"), "ann", 10**400)).status_code == 429
    assert store.takes == [("9/day", "ann", 10)]


# — a store that is away —


async def test_open_without_the_store() -> None:
    limit = RateLimit("2/second", store=Absent)
    await limit(Client("ann"))
    assert await limit.check("ann") == Outcome(allowed=True, retry_after=0, remaining=2, reset=0)


async def test_closed_without_the_store() -> None:
    refused = await refusal(Quota("2/day", store=Absent, fail_open=False), "ann")
    assert (refused.status_code, refused.headers) == (503, {"Retry-After": "1"})


async def test_the_store_is_looked_up_at_each_request() -> None:
    stores = [Recording(), Recording()]
    limit = RateLimit("1/day", store=lambda: stores[0])
    await limit.check("ann")
    del stores[0]
    await limit.check("ann")
    assert stores[0].takes == [("1/day", "ann", 1)]


# — declarations —


def test_limits_of_one_name_are_refused(limits: Limits) -> None:
    limits.rate_limit("10/second")
    limits.rate_limit("10/second", name="uploads")
    for declare in (
        lambda: limits.rate_limit("10/second", burst=20),
        lambda: limits.quota(" 10/second"),
        lambda: limits.quota("1/day", name="uploads"),
    ):
        with pytest.raises(ValueError, match=r'declared already.*name="uploads"'):
            declare()


def test_limits_of_two_gateways_do_not_meet(store: Recording) -> None:
    for limits in (Limits(lambda: store), Limits(lambda: store)):
        assert limits.quota("1/day").name == "1/day"


@pytest.mark.parametrize("name", ['a"b', "a\\b", "ä", "a\nb"])
def test_a_name_that_fits_no_header(limits: Limits, name: str) -> None:
    with pytest.raises(ValueError, match="for example name="):
        limits.quota("1/day", name=name)


@pytest.mark.parametrize("spec", ["10/fortnight", "0/second"])
def test_a_bad_declaration_fails_where_it_stands(limits: Limits, spec: str) -> None:
    with pytest.raises(ValueError, match="10/second"):
        limits.rate_limit(spec)
    with pytest.raises(ValueError, match="1000/day"):
        limits.quota(spec)
