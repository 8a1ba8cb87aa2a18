"""A gateway dies or restarts: its clients go to another, and nobody keeps believing in the dead."""

import asyncio
import time
from pathlib import Path

import cent

from tests.integration.clients.base import SDK, Client, Subscription
from tests.integration.conftest import ConnectAPI
from tests.integration.servers import GatewayServer, cluster
from tests.integration.settings import on_redis
from tests.integration.tokens import connection_token
from tests.redis_server import RedisServer
from tests.waiting import until

FORGOTTEN = 10.0
"""Seconds after which the registry no longer lists a killed node."""
GONE = 15.0
"""Seconds after which the members of a killed node are no longer present."""


async def test_the_clients_of_a_killed_gateway_move_and_recover(
    redis: RedisServer, tmp_path: Path, sdks: list[SDK], api: ConnectAPI, channel: str, name: str
) -> None:
    with cluster(tmp_path, on_redis(redis.url, name)) as gateways:
        members: list[tuple[Client, Subscription]] = []
        for number in range(3):
            for sdk in sdks:
                client = await sdk.connected(gateways.balancer.ws_url, connection_token(f"{sdk.name}-{number}"))
                members.append((client, await client.subscribe(channel)))
        survivor = api(gateways.b)
        await until_nodes(survivor, {"a": 3, "b": 3})

        gateways.a.kill()
        killed = time.monotonic()
        for n in range(20):
            await survivor.publish(cent.PublishRequest(channel=channel, data=n))

        for client, subscription in members:
            await subscription.wait_received(list(range(20)))
            moved = len(client.events.named("connected")) == 2
            again = subscription.events.named("subscribed")[1:]
            assert [(event.was_recovering, event.recovered) for event in again] == [(True, True)] * moved
        assert sum(len(client.events.named("connected")) - 1 for client, _ in members) == 3

        async def gone() -> bool:
            presence = (await survivor.presence(cent.PresenceRequest(channel=channel))).presence
            return set(presence) == {client.id for client, _ in members}

        elapsed = time.monotonic() - killed
        await asyncio.gather(
            until_nodes(survivor, {"b": 6}, FORGOTTEN - elapsed), until(gone, GONE - elapsed, "the dead are gone")
        )
        assert gateways.b.alive


async def until_nodes(api: cent.AsyncClient, expected: dict[str, int], deadline: float = 10.0) -> None:
    """Wait until the registry lists exactly these nodes with so many clients."""

    async def listed() -> bool:
        return {node.name: node.num_clients for node in (await api.info(cent.InfoRequest())).nodes} == expected

    await until(listed, deadline, f"nodes {expected}")


async def test_clients_return_to_a_restarted_gateway(
    redis: RedisServer, tmp_path: Path, sdks: list[SDK], api: ConnectAPI, channel: str
) -> None:
    settings = on_redis(redis.url)
    with GatewayServer("left", tmp_path, settings) as left, GatewayServer("right", tmp_path, settings) as right:
        clients = [await sdk.connected(left.ws_url, connection_token("patient")) for sdk in sdks]
        subscriptions = [await client.subscribe(channel) for client in clients]
        quiet = [await client.subscribe(f"{channel}-2") for client in clients]

        assert left.terminate() == 0
        for client in clients:
            lost = await client.events.wait("connecting", 2)
            assert (lost.code, lost.reason) == (3001, "shutdown")
        presence = (await api(right).presence(cent.PresenceRequest(channel=channel))).presence
        assert presence == {}, "a gateway that ends in order takes its members along"
        for n in range(5):
            await api(right).publish(cent.PublishRequest(channel=channel, data=n))
        left.start()

        for each in quiet:
            await each.events.wait("subscribed", 2, deadline=30.0)
        for subscription in subscriptions:
            again = await subscription.events.wait("subscribed", 2)
            assert (again.was_recovering, again.recovered) == (True, True)
            await subscription.wait_received(list(range(5)))
        left.wait()
