import os
from collections import Counter
from pathlib import Path

import httpx
import pytest

from examples.ten_million import Cell, cell_of
from gateway.auth.tokens import sign_connection
from tests.examples.running import ROOT, Cluster, websocket
from tests.forked import Forked
from tests.integration.clients.base import Client
from tests.integration.clients.javascript import JavaScriptSDK
from tests.redis_server import RedisServer
from tests.redis_topologies import ClusterTopology
from tests.waiting import until

SECRET = "a secret of thirty-two characters"
KEY = "a key"
WRONG_CELL = 4500


class Service:
    """Two cells of two nodes each."""

    def __init__(self, cluster: Cluster, directory: Path, *redis: str) -> None:
        self._directory = directory
        self.cells = [Cell(f"wss://{number}.example.com", each) for number, each in enumerate(redis)]
        self._environment = {
            "CELLS": " ".join("=".join(cell) for cell in self.cells),
            "GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY": SECRET,
            "GATEWAY_HTTP_API__KEY": KEY,
            "GATEWAY_ENGINE__REDIS__PREFIX": "service",
        }
        self.nodes = {
            cell: cluster("ten_million", env={**self._environment, "GATEWAY_REDIS_URL": cell.redis})
            for cell in self.cells
        }
        self.users = {cell: self._user(cell) for cell in self.cells}

    def _user(self, cell: Cell) -> str:
        """Somebody of this cell."""
        return next(name for name in map(str, range(1000)) if cell_of(name, self.cells) == cell)

    def publish(self, *words: str) -> None:
        """As from a shell, somewhere else than on a node."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        output = self._directory / "publisher.log"
        publisher = Forked("examples.ten_million", words, ROOT, {**inherited, **self._environment}, output)
        assert publisher.wait(30) == 0, output.read_text()


@pytest.fixture
def service(
    cluster: Cluster, server: RedisServer, second_server: RedisServer, shared_cluster: ClusterTopology, tmp_path: Path
) -> Service:
    """One cell on two servers as shards, the other on a Cluster."""
    for client in (second_server.client(), *(primary.client() for primary in shared_cluster.primaries())):
        with client:
            client.flushall()
    return Service(cluster, tmp_path, f"{server.url},{second_server.url}", shared_cluster.url)


async def client(sdk: JavaScriptSDK, node: str, user: str) -> Client:
    return await sdk.client(websocket(node, "/connection/websocket"), sign_connection(SECRET, user))


async def wait_texts(listener: Client, *expected: str) -> None:
    """Wait until these have come, and nothing else."""

    def texts() -> list[str]:
        return [event.data["text"] for event in listener.events.named("publication")]

    await until(lambda: len(texts()) >= len(expected))
    assert texts() == [*expected]


async def test_each_user_is_reached_in_the_own_cell(service: Service, sdk: JavaScriptSDK) -> None:
    for cell, user in service.users.items():
        one, other = service.nodes[cell]
        first, second = await client(sdk, one, user), await client(sdk, other, user)
        for listener in (first, second):
            await listener.connect()
            await listener.events.wait("subscribed")
        service.publish(user, "by the publisher")
        async with httpx.AsyncClient(base_url=one, headers={"X-API-Key": KEY}) as backend:
            body = {"channel": f"inbox:#{user}", "data": {"text": "over HTTP"}}
            answer = await backend.post("/api/publish", json=body)
            assert answer.json()["result"]["offset"] == 2
        for listener in (first, second):
            await wait_texts(listener, "by the publisher", "over HTTP")


async def test_who_returns_gets_what_was_missed(service: Service, sdk: JavaScriptSDK) -> None:
    cell = service.cells[0]
    user = service.users[cell]
    listener = await client(sdk, service.nodes[cell][0], user)
    await listener.connect()
    await listener.events.wait("subscribed")
    await listener.disconnect()
    service.publish(user, "while away")
    await listener.connect()
    await wait_texts(listener, "while away")


async def test_everybody_is_reached_in_all_cells(service: Service, sdk: JavaScriptSDK) -> None:
    listeners = []
    for cell, user in service.users.items():
        for node in service.nodes[cell]:
            connected = await client(sdk, node, user)
            await connected.connect()
            listeners.append(await connected.subscribe("news:all"))
    service.publish("--everybody", "We close")
    for listener in listeners:
        await listener.wait_received([{"text": "We close"}])


async def test_a_user_in_the_wrong_cell_is_told(service: Service, sdk: JavaScriptSDK) -> None:
    here, other = service.cells
    lost = await client(sdk, service.nodes[here][0], service.users[other])
    await lost.begin()
    event = await lost.events.wait("disconnected")
    assert (event.code, event.reason) == (WRONG_CELL, "another cell")


def test_cells_share_the_users_evenly_and_a_further_one_moves_few() -> None:
    users = [str(number) for number in range(10_000)]
    cells = [Cell(f"wss://{number}.example.com", f"redis://{number}") for number in range(10)]
    homes = {user: cell_of(user, cells) for user in users}
    assert all(900 < count < 1100 for count in Counter(homes.values()).values())
    further = Cell("wss://10.example.com", "redis://10")
    moved = {user for user in users if cell_of(user, [*cells, further]) != homes[user]}
    assert 800 < len(moved) < 1020
    assert all(cell_of(user, [*cells, further]) == further for user in moved)
