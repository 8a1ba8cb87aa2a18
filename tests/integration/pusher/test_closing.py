"""Ends of connections and refusals: their codes, and what pusher-js makes of each."""

import signal
from asyncio import to_thread
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from tests.integration.pusher import apps
from tests.integration.pusher.application import Application
from tests.integration.pusher.apps import DISABLED, ELSEWHERE, MAIN, SMALL, STRICT, UNKNOWN, App
from tests.integration.pusher.clients import SUCCEEDED, Library
from tests.integration.pusher.raw import RawPusher, raw
from tests.integration.servers import Cluster, GatewayServer, cluster
from tests.redis_server import RedisServer
from tests.waiting import until


async def refusal(client: RawPusher, code: int) -> None:
    """It is told once, as the first frame, and as the code of the end."""
    assert (await client.closed())[0] == code
    [frame] = client.frames
    assert frame["event"] == "pusher:error"
    assert set(frame) == {"event", "data"}
    assert frame["data"]["code"] == code
    assert frame["data"]["message"]


@pytest.mark.parametrize(
    ("app", "query", "code"),
    [
        (UNKNOWN, "?protocol=7", 4001),
        (DISABLED, "?protocol=7", 4003),
        (MAIN, "?protocol=seven", 4006),
        (MAIN, "?protocol=3", 4007),
        (MAIN, "?protocol=8", 4007),
        (MAIN, f"?protocol={'9' * 5000}", 4007),
    ],
    ids=["unknown key", "disabled", "bad version", "old version", "new version", "large version"],
)
async def test_refusals_come_after_the_upgrade(nodes: Cluster, app: App, query: str, code: int) -> None:
    async with raw(nodes.balancer, app, query) as client:
        await refusal(client, code)


@pytest.mark.parametrize("path", ["app/", f"app/{MAIN.key}/more"])
async def test_addresses_of_another_shape(nodes: Cluster, path: str) -> None:
    async with raw(nodes.a, address=f"ws://127.0.0.1:{nodes.a.port}/{path}?protocol=7") as client:
        await refusal(client, 4005)


@pytest.mark.parametrize("query", ["", "?protocol=5", "?protocol=6", "?protocol=7&client=js&version=8.6.0&flash=false"])
async def test_versions_that_are_served(nodes: Cluster, query: str) -> None:
    async with raw(nodes.balancer, query=query) as client:
        assert client.frames[0]["event"] == "pusher:connection_established"


@pytest.mark.parametrize(("app", "code"), [(UNKNOWN, 4001), (DISABLED, 4003)], ids=["unknown", "disabled"])
async def test_a_refused_client_stays_away(nodes: Cluster, node: Library, app: App, code: int) -> None:
    client = await node.open(nodes.balancer, app)
    await client.log("").wait("disconnected")
    await node.opened(nodes.balancer)
    assert (await client.log("").wait("error"))["code"] == code
    assert await client.state() == "disconnected"
    assert "connecting" not in client.log("").names


async def test_origins(nodes: Cluster) -> None:
    async with raw(nodes.a, ELSEWHERE, origin="https://elsewhere.example") as allowed:
        assert allowed.frames[0]["event"] == "pusher:connection_established"
    async with raw(nodes.a, ELSEWHERE, origin="https://elsewhere.example.org") as other:
        await refusal(other, 4009)


async def test_an_app_over_its_connections_is_4004(nodes: Cluster, node: Library) -> None:
    """It may have two, on all nodes together; what the others have is known a moment later."""
    first, second = [await node.opened(each, SMALL) for each in (nodes.a, nodes.b)]

    async def full() -> bool:
        async with raw(nodes.b, SMALL) as more:
            return bool(more.frames[0]["event"] == "pusher:error")

    await until(full, what="4004")
    third = await node.open(nodes.b, SMALL)
    await third.log("").wait("disconnected")
    assert (await third.log("").wait("error"))["code"] == 4004
    await second.disconnect()
    await first.disconnect()
    await until(partial(_admitted, nodes.b), what="room for another")


async def _admitted(gateway: GatewayServer) -> bool:
    async with raw(gateway, SMALL) as client:
        return bool(client.frames[0]["event"] == "pusher:connection_established")


async def test_nobody_who_does_not_say_who_they_are_stays(nodes: Cluster) -> None:
    async with raw(nodes.a, STRICT) as nobody, raw(nodes.a, STRICT) as somebody:
        await somebody.subscribe("private-x")
        assert (await nobody.closed())[0] == 4009
        assert nobody.frames[-1]["data"]["code"] == 4009
        await somebody.quiet()


def _impatient(redis: RedisServer, name: str) -> dict[str, Any]:
    """Pings each second, and takes two connections."""
    found = apps.settings(redis.url, "http://127.0.0.1:1/", name)
    limits = {"connection_limit": 2, "ping_interval": "1s", "pong_timeout": "500ms"}
    return {**found, "client": {**found["client"], **limits}}


async def test_a_full_node_is_4100_and_without_pong_4201(
    redis: RedisServer, tmp_path: Path, node: Library, name: str
) -> None:
    with GatewayServer("impatient", tmp_path, _impatient(redis, name)) as gateway:
        async with raw(gateway) as quiet, raw(gateway) as first:
            client = await node.open(gateway)
            assert (await client.log("").wait("error"))["code"] == 4100
            quiet.stop_reading()
            await until(lambda: "client.pong_timeout" in gateway.log, what="the end of who does not answer")
            quiet.go_on_reading()
            assert (await quiet.closed())[0] == 4201
            await client.log("").wait("connected")
            await first.quiet()


async def test_a_draining_node_sends_clients_to_the_other(
    redis: RedisServer, site: Application, tmp_path: Path, node: Library, name: str
) -> None:
    """Those who are there with 4200, at which they return at once; those who come with 4100."""
    settings = {**apps.settings(redis.url, f"{site.url}/webhooks", name), "shutdown": {"grace": 0, "drain_rate": 2}}
    with cluster(tmp_path, settings) as nodes:
        backend = MAIN.backend(nodes.b)
        client = await node.opened(nodes.balancer)
        log = await client.subscribed(name)
        async with raw(nodes.a) as one, raw(nodes.a) as two, raw(nodes.a) as three, raw(nodes.a) as four:
            staying = [one, two, three, four]
            nodes.a.signal(signal.SIGTERM)
            await until(lambda: any(each.ended for each in staying), what="the first to leave")
            try:
                async with raw(nodes.a) as newcomer:
                    await refusal(newcomer, 4100)
            except (OSError, InvalidStatus):
                pass  # it no longer listens
            for each in staying:
                assert (await each.closed())[0] == 4200
        await until(lambda: not nodes.a.alive, what="the end of the node")
        if len(client.log("").named("connected")) == 2:
            await log.wait(SUCCEEDED, 2)
        await until(lambda: _heard(log, backend, name), what="an event after all")


async def _heard(log: Any, backend: Any, channel: str) -> bool:
    await to_thread(backend.trigger, channel, "still", {"n": 1})
    return bool(log.named("still"))
