"""Limits on real servers: nobody honest meets them, and what runs out is kept for what must not."""

import asyncio
import resource
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import cent
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import InvalidStatus

from tests.integration.clients.base import SDK, Subscription
from tests.integration.clients.raw import RawClient, raw
from tests.integration.conftest import ConnectAPI
from tests.integration.servers import GatewayServer
from tests.integration.settings import on_redis
from tests.integration.tokens import connection_token
from tests.redis_server import RedisServer
from tests.waiting import until


def counted(server: GatewayServer, name: str) -> dict[str, float]:
    """A counter's values by their first label beside the node."""
    families = text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text)
    samples = [sample for family in families for sample in family.samples if sample.name == f"gateway_{name}"]
    return {
        next((value for key, value in sample.labels.items() if key != "node"), ""): sample.value for sample in samples
    }


def with_client(settings: dict[str, Any], **client: Any) -> dict[str, Any]:
    return {**settings, "client": {**settings["client"], **client}}


# — a storm of returning clients, all of one address —

CLIENTS, CHANNELS = 50, 10
ALL = {layer: {"enabled": True} for layer in ("client_command", "address_command", "client_error")}
"""The default rates, which by themselves hold for addresses of the public Internet alone."""


@pytest.fixture
def stormy(redis: RedisServer, tmp_path: Path, name: str) -> Iterator[GatewayServer]:
    """A gateway that holds this machine to the rates of a stranger."""
    settings = with_client(on_redis(redis.url, name), rate_limit=ALL, address_connection_limit=5000)
    with GatewayServer("stormy", tmp_path, settings) as server:
        yield server


async def test_no_client_of_a_storm_meets_a_limit(stormy: GatewayServer, sdk: SDK, name: str) -> None:
    clients = [await sdk.client(stormy.ws_url, connection_token(f"{name}-{number}")) for number in range(CLIENTS)]
    subscriptions: list[Subscription] = []
    for client in clients:
        subscriptions += [await client.subscription(f"chat:{name}-{number}") for number in range(CHANNELS)]
        await client.begin()
    for subscription in subscriptions:
        await subscription.begin()
    for times in (1, 2):
        for subscription in subscriptions:
            await subscription.events.wait("subscribed", times, deadline=60)
        await asyncio.gather(*(client.publish(f"chat:{name}-0", times) for client in clients))
        assert counted(stormy, "over_limit_total") == counted(stormy, "refused_connections_total") == {}
        if times == 1:
            stormy.kill()
            stormy.start()
            stormy.wait()
    logs = [*(client.events for client in clients), *(subscription.events for subscription in subscriptions)]
    answered = [event.code for log in logs for event in log.named("error") if (event.code or 0) >= 100]
    assert answered == []  # below are the SDKs' own, while there was no server
    assert {event.recovered for each in subscriptions for event in each.events.named("subscribed")[1:]} == {True}


# — files —

FEW = 64


@pytest.fixture
def cramped(redis: RedisServer, tmp_path: Path, name: str) -> Iterator[GatewayServer]:
    """A gateway that may open few files."""
    with GatewayServer("cramped", tmp_path, on_redis(redis.url, name)) as server:
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (FEW, FEW))
        yield server


async def fill(server: GatewayServer, stack: AsyncExitStack) -> list[RawClient]:
    """Connect until no more are let in; those who came in."""
    clients: list[RawClient] = []
    while len(clients) < FEW:
        try:
            clients.append(await stack.enter_async_context(raw(server.ws_url)))
        except InvalidStatus as error:
            answer = error.response
            break
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    return clients


async def test_before_files_run_out_clients_are_refused_and_all_else_goes_on(
    cramped: GatewayServer, redis: RedisServer, api: ConnectAPI, channel: str, name: str
) -> None:
    async with AsyncExitStack() as stack:
        clients = await fill(cramped, stack)
        assert len(clients) > 10
        await clients[0].open(connection_token(name))
        await clients[0].command(subscribe={"channel": channel})
        with redis.client() as direct:  # the broker's connections have to be opened anew
            direct.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            direct.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

        async def published() -> bool:
            try:
                await api(cramped).publish(cent.PublishRequest(channel=channel, data=7))
            except (cent.CentError, OSError):
                return False
            return True

        await until(published, 20, what="the API publishes")
        await until(lambda: clients[0].pushes, 20, what="the publication")
        assert cramped.answers("/health/live")
        assert counted(cramped, "refused_connections_total")["file_limit"] >= 1
    async with raw(cramped.ws_url) as client:
        await client.open(connection_token(name))
    assert f"{FEW} files may be open, and nearly are" in cramped.log


async def test_who_opens_sockets_and_says_nothing_does_not_take_the_last_files(
    cramped: GatewayServer, channel: str, name: str
) -> None:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(raw(cramped.ws_url))
        await client.open(connection_token(name))
        with ExitStack() as silent:
            for _ in range(2 * FEW):
                silent.enter_context(socket.create_connection(("127.0.0.1", cramped.port)))
            await until(lambda: "connections are closed unheard" in cramped.log, what="word of it")
            assert "error" not in await client.command(subscribe={"channel": channel})
            assert "error" not in await client.command(publish={"channel": channel, "data": 1})
        await until(lambda: cramped.answers("/health/live"), what="health")
        assert counted(cramped, "refused_connections_total")["file_limit"] >= FEW
