"""The admin page's backend on real nodes: what one is asked, all of them answer."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.clients.raw import raw
from tests.integration.servers import Cluster, cluster
from tests.integration.settings import on_redis
from tests.integration.tokens import connection_token
from tests.redis_server import RedisServer
from tests.waiting import until

PASSWORD = "of the tests, and long enough for anybody"
ADMIN = {"enabled": True, "password": PASSWORD}


class Operator:
    """Somebody who has logged in at one node."""

    def __init__(self, url: str, http: httpx.AsyncClient, token: str) -> None:
        self.url = url
        self._http = http
        self.token = token

    async def ask(self, method: str, **body: Any) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = await self._http.post(f"{self.url}/admin/api/{method}", json=body, headers=headers, timeout=10)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def result(self, method: str, **body: Any) -> Any:
        return (await self.ask(method, **body))["result"]


@asynccontextmanager
async def operator(url: str) -> AsyncIterator[Operator]:
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"{url}/admin/auth", json={"password": PASSWORD})
        assert answer.status_code == 200, answer.text
        yield Operator(url, http, answer.json()["token"])


@contextmanager
def two(redis: RedisServer, directory: Path, prefix: str) -> Iterator[Cluster]:
    """Two nodes with a page each."""
    with cluster(directory, {**on_redis(redis.url, prefix), "admin": ADMIN}) as running:
        yield running


@pytest.fixture(scope="module")
def pair(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """For tests that let them live."""
    with two(redis, tmp_path_factory.mktemp("admin"), "admin") as running:
        yield running


async def uids_of(asked: Operator) -> dict[str, str]:
    """The ids of two nodes by their names."""

    async def both() -> dict[str, str] | None:
        nodes = (await asked.result("nodes"))["nodes"]
        return {node["name"]: node["uid"] for node in nodes} if len(nodes) == 2 else None

    found = await until(both)
    assert found is not None
    return found


async def test_one_page_for_two_nodes(pair: Cluster, name: str) -> None:
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(operator(pair.a.url))
        uids = await uids_of(here)
        clients = []
        for number in range(6):
            server, user = (pair.a, pair.b)[number % 2], f"{name}-{number % 3}"
            client = await stack.enter_async_context(raw(server.ws_url))
            opened = await client.open(connection_token(user))
            await client.command(subscribe={"channel": f"chat:{name}-{number % 2}"})
            clients.append((opened["client"], user, server.name, client))
        clients.sort(key=lambda each: each[0])
        listed = await here.result("connections")
        told = [(each["client"], each["user"], each["node_name"]) for each in listed["connections"]]
        assert told == [each[:3] for each in clients]
        first = await here.result("connections", limit=4)
        rest = await here.result("connections", limit=4, cursor=first["cursor"])
        assert first["connections"] + rest["connections"] == listed["connections"]
        narrowed = await here.result("connections", user=f"{name}-1", channel=f"chat:{name}-1")
        assert [each["node"] for each in narrowed["connections"]] == [uids[pair.b.name]]
        counts = (await here.result("channel", channel=f"chat:{name}-0"))["subscribers"]
        assert {each["name"]: each["count"] for each in counts} == {pair.a.name: 3, pair.b.name: 0}
        # one on the other node
        far, user, _, client = next(each for each in clients if each[2] == pair.b.name)
        known = await here.result("connection", node=uids[pair.b.name], client=far)
        assert (known["connection"]["user"], known["connection"]["address"]) == (user, "127.0.0.1")
        assert [each["state"] for each in known["subscriptions"]] == ["live"]
        assert await here.result("close", node=uids[pair.b.name], client=far, code=4002, reason="by hand") == {}
        assert await client.closed() == (4002, "by hand")
        gone = await here.ask("close", node=uids[pair.b.name], client=far)
        assert gone["error"]["code"] == 104
        assert len((await here.result("connections"))["connections"]) == 5


async def test_a_log_in_is_good_at_every_node(pair: Cluster) -> None:
    async with operator(pair.a.url) as here:
        there = Operator(pair.b.url, here._http, here.token)
        assert len(await uids_of(there)) == 2
        there.token += "x"
        answer = await here._http.post(
            f"{pair.b.url}/admin/api/info", json={}, headers={"Authorization": f"Bearer {there.token}"}
        )
        assert answer.status_code == 401


async def test_a_node_that_does_not_answer_is_named_and_one_that_has_ended_is_gone(
    redis: RedisServer, tmp_path: Path, name: str
) -> None:
    with two(redis, tmp_path, name) as pair:
        await _missed(pair)


async def _missed(pair: Cluster) -> None:
    async with operator(pair.a.url) as here, raw(pair.a.ws_url) as client:
        opened = await client.open(connection_token("ann"))
        uids = await uids_of(here)
        pair.b.stop()
        found = await here.result("connections")
        assert [each["client"] for each in found["connections"]] == [opened["client"]]
        assert found["missing"] == [pair.b.name]
        silent = await here.ask("connection", node=uids[pair.b.name], client="x")
        assert (silent["error"]["code"], silent["error"]["temporary"]) == (100, True)
        pair.b.kill()

        async def alone() -> bool:
            nodes = await here.result("nodes")
            return [node["name"] for node in nodes["nodes"]] == [pair.a.name] and not nodes["missing"]

        await until(alone, 20)
