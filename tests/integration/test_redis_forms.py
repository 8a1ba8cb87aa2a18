"""Two gateways on every form of Redis: what crosses between them, and what a failover costs their clients."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cent
import pytest

from gateway.redis.keys import TAGS, Keys, slot
from tests.integration.clients.base import SDK
from tests.integration.conftest import ConnectAPI
from tests.integration.servers import Cluster, GatewayServer, cluster
from tests.integration.settings import on_redis
from tests.integration.tokens import connection_token
from tests.redis_fixtures import redis_address
from tests.redis_topologies import ClusterTopology, SentinelTopology
from tests.waiting import until

ROOMS = 6
"""Channels, so that each of several servers has some."""


@pytest.fixture(params=["shards", "sentinel", "cluster", "apart"])
def formed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """``apart`` has presence in a Redis of its own."""
    kind = "shards" if request.param == "apart" else request.param
    with redis_address(kind, request) as address:
        settings = on_redis(address)
        if request.param == "apart":
            first, second = address.split(",")
            redis = {"address": second}
            settings = {**on_redis(first), "presence": {"enabled": True, "redis": redis}}
        with cluster(tmp_path, settings) as gateways:
            yield gateways


async def test_everything_crosses(formed: Cluster, sdks: list[SDK], api: ConnectAPI, name: str) -> None:
    channels = [f"chat:{name}-{number}" for number in range(ROOMS)]
    one, two = [await sdk.connected(server.ws_url, connection_token(sdk.name)) for sdk, server in _placed(sdks, formed)]
    heard = {channel: await one.subscribe(channel) for channel in channels}
    for channel in channels:
        await two.subscribe(channel)
        await two.publish(channel, "by two")
        await api(formed.b).publish(cent.PublishRequest(channel=channel, data="by the API"))
        await heard[channel].wait_received(["by two", "by the API"])
        for server in (formed.a, formed.b):
            answer = await api(server).presence(cent.PresenceRequest(channel=channel))
            assert set(answer.presence) == {one.id, two.id}
        history = await api(formed.a).history(cent.HistoryRequest(channel=channel, limit=-1))
        assert [each.data for each in history.publications] == ["by two", "by the API"]
    found = await api(formed.a).channels(cent.ChannelsRequest(pattern=f"chat:{name}-*"))
    assert set(found.channels) == set(channels)
    await api(formed.b).disconnect(cent.DisconnectRequest(user=sdks[0].name))
    await one.events.wait("disconnected")
    assert len(two.events.named("disconnected")) == 0


def _placed(sdks: list[SDK], gateways: Cluster) -> list[tuple[SDK, GatewayServer]]:
    return list(zip(sdks, (gateways.a, gateways.b), strict=True))


async def survives(fault: Any, gateways: Cluster, sdks: list[SDK], api: ConnectAPI, channels: list[str]) -> None:
    """What was accepted before, during and after a fault comes to every subscriber: once, in order."""
    subscriptions = []
    for sdk, server in _placed(sdks, gateways):
        client = await sdk.connected(server.ws_url, connection_token(sdk.name))
        subscriptions += [await client.subscribe(channel) for channel in channels]
    accepted: dict[str, list[int]] = {channel: [] for channel in channels}
    over = False

    async def publish() -> None:
        number = 0
        while not over:
            number += 1
            for channel in channels:
                request = cent.PublishRequest(channel=channel, data=number, idempotency_key=f"{channel}-{number}")
                while True:
                    try:
                        await api(gateways.b, timeout=6.0).publish(request)
                    except cent.CentError:
                        continue
                    break
                accepted[channel].append(number)

    task = asyncio.create_task(publish())
    await until(lambda: all(len(numbers) > 3 for numbers in accepted.values()))
    await asyncio.to_thread(fault)
    after = {channel: len(numbers) for channel, numbers in accepted.items()}
    await until(lambda: all(len(numbers) > after[channel] + 3 for channel, numbers in accepted.items()), 30)
    over = True
    await task
    for subscription in subscriptions:
        expected = accepted[subscription.channel]
        await until(lambda s=subscription, e=expected: s.received[-1:] == e[-1:], 30)  # type: ignore[misc]
        lost = [event for event in subscription.events.named("subscribed")[1:] if not event.recovered]
        if not lost:
            assert subscription.received == expected


async def test_a_failover_behind_sentinel(tmp_path: Path, sdks: list[SDK], api: ConnectAPI, name: str) -> None:
    with SentinelTopology() as group, cluster(tmp_path, on_redis(group.url)) as gateways:
        await survives(group.kill_primary, gateways, sdks, api, [f"chat:{name}"])


async def test_a_slot_moves_and_a_primary_dies(tmp_path: Path, sdks: list[SDK], api: ConnectAPI, name: str) -> None:
    place = slot(TAGS[3])
    keys = Keys("gateway")
    names = (f"chat:{name}-{number}" for number in range(10_000))
    channel = next(each for each in names if slot(keys.of(b"c", each)) == place)
    with ClusterTopology() as topology, cluster(tmp_path, on_redis(topology.url)) as gateways:
        await survives(lambda: topology.migrate_slots([place]), gateways, sdks, api, [channel])
        await survives(lambda: topology.kill_primary(place), gateways, sdks, api, [f"{channel}-again", channel + "."])
