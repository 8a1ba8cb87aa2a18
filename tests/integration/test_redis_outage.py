"""Redis goes away and comes back: no gateway ends, callers hear of it, clients learn what they missed."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cent
import httpx
import pytest

from tests.integration.clients.base import SDK, Client, Subscription
from tests.integration.conftest import ConnectAPI
from tests.integration.servers import Cluster, GatewayServer, Server, cluster
from tests.integration.settings import on_redis
from tests.integration.tokens import connection_token
from tests.redis_server import RedisServer
from tests.waiting import until

PATIENCE = 5.0
"""Seconds within which a call that needs Redis has an answer."""
NOTICED = 15.0
"""Seconds within which a gateway knows that Redis is away, or back."""


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def outage(own_redis: RedisServer, tmp_path: Path) -> Iterator[Cluster]:
    """Two gateways on a Redis that may be stopped."""
    with cluster(tmp_path, on_redis(own_redis.url)) as gateways:
        yield gateways


async def health(server: Server) -> dict[str, Any]:
    async with httpx.AsyncClient() as http:
        response = await http.get(f"{server.url}/health/ready", timeout=PATIENCE)
    assert response.status_code == 200, "by default a gateway without Redis keeps its place in the balancer"
    body: dict[str, Any] = response.json()
    return body


async def settled(gateways: Cluster, status: str) -> None:
    """Wait until both gateways say so of themselves."""

    async def says() -> bool:
        return [(await health(server))["status"] for server in (gateways.a, gateways.b)] == [status] * 2

    await until(says, NOTICED, f"both are {status}")


async def fails_soon(api: cent.AsyncClient, channel: str) -> None:
    """A publish is refused with the temporary error, and in time."""
    began = time.monotonic()
    with pytest.raises(cent.CentApiResponseError) as refused:
        await api.publish(cent.PublishRequest(channel=channel, data="lost"))
    assert refused.value.code == 100
    assert time.monotonic() - began < PATIENCE


async def subscribers(sdks: list[SDK], gateways: Cluster, channel: str) -> list[tuple[Client, Subscription]]:
    pairs = []
    for sdk in sdks:
        for server in (gateways.a, gateways.b):
            client = await sdk.connected(server.ws_url, connection_token(f"{sdk.name}-{server.name}"))
            pairs.append((client, await client.subscribe(channel)))
    return pairs


async def test_redis_stops_and_comes_back_empty(
    own_redis: RedisServer, outage: Cluster, sdks: list[SDK], api: ConnectAPI, channel: str
) -> None:
    everybody = await subscribers(sdks, outage, channel)
    plain = await everybody[0][0].subscribe("plain:no-history")
    await api(outage.b).publish(cent.PublishRequest(channel=channel, data="before"))
    for _, subscription in everybody:
        await subscription.wait_received(["before"])
    epoch = everybody[0][1].events.named("subscribed")[0].epoch

    own_redis.kill()
    for server in (outage.a, outage.b):
        await fails_soon(api(server), channel)
    await settled(outage, "degraded")
    for server in (outage.a, outage.b):
        await fails_soon(api(server), channel)
        assert not (await health(server))["broker"]["connected"]
        assert server.alive
    newcomer = await sdks[0].connected(outage.a.ws_url, connection_token("newcomer"))
    late = await newcomer.subscription(channel)
    await late.begin()

    own_redis.start()
    await settled(outage, "ok")
    await late.events.wait("subscribed")
    for client, subscription in everybody:
        again = await subscription.events.wait("subscribed", 2)
        assert (again.was_recovering, again.recovered) == (True, False)
        assert again.epoch != epoch
        assert len(client.events.named("connected")) == 1, "no need to connect again"
    assert not plain.events.named("unsubscribed")

    await api(outage.b).publish(cent.PublishRequest(channel=channel, data="after"))
    await api(outage.b).publish(cent.PublishRequest(channel="plain:no-history", data="after"))
    for _, subscription in everybody:
        await subscription.wait_received(["before", "after"])
    await late.wait_received(["after"])
    await plain.wait_received(["after"])
    assert await newcomer.presence_stats(channel) == (5, 5)


async def test_redis_stops_answering_for_a_while(
    own_redis: RedisServer, outage: Cluster, sdks: list[SDK], api: ConnectAPI, channel: str
) -> None:
    everybody = await subscribers(sdks, outage, channel)

    own_redis.pause()
    for server in (outage.a, outage.b):
        await fails_soon(api(server), channel)
    await settled(outage, "degraded")

    own_redis.resume()
    await settled(outage, "ok")
    await api(outage.b).publish(cent.PublishRequest(channel=channel, data="after"))
    for _, subscription in everybody:
        await subscription.wait_last("after")
        again = subscription.events.named("subscribed")[1:]
        assert all(event.recovered for event in again), "nothing was lost, so nobody hears of a loss"
        offsets = [event.offset for event in subscription.events.named("publication")]
        assert offsets == list(range(1, len(offsets) + 1))


async def test_a_gateway_may_leave_the_balancer_without_redis(own_redis: RedisServer, tmp_path: Path) -> None:
    settings = {**on_redis(own_redis.url), "health": {"ready_without_broker": False}}
    with GatewayServer("leaving", tmp_path, settings) as server:
        await until(lambda: server.answers("/health/ready"))
        own_redis.kill()
        await until(lambda: not server.answers("/health/ready"), NOTICED)
        assert server.answers("/health/live")
        own_redis.start()
        await until(lambda: server.answers("/health/ready"), NOTICED)


async def test_a_gateway_starts_before_its_redis(tmp_path: Path, sdk: SDK, channel: str) -> None:
    later = RedisServer()
    with GatewayServer("early", tmp_path, on_redis(later.url)) as server:
        client = await sdk.connected(server.ws_url, connection_token("early"))
        subscription = await client.subscription(channel)
        await subscription.begin()
        await subscription.events.wait("error")
        with later:
            await subscription.events.wait("subscribed", deadline=NOTICED)
            await client.publish(channel, "hello")
            await subscription.wait_received(["hello"])
