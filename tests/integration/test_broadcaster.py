"""Gateways joined by PostgreSQL as `broadcaster` drives it: the official SDKs on two of them, also after its loss."""

from collections.abc import Iterator
from typing import Any

import cent
import pytest

from tests.integration.clients.base import SDK
from tests.integration.conftest import ConnectAPI
from tests.integration.servers import Cluster, cluster
from tests.integration.settings import SETTINGS
from tests.integration.test_redis_outage import fails_soon, settled
from tests.integration.tokens import connection_token
from tests.postgres_server import PostgresServer

ROOM: dict[str, Any] = {
    "name": "room",
    "allow_subscribe_for_client": True,
    "allow_publish_for_subscriber": True,
    "presence": True,
    "allow_presence_for_subscriber": True,
    "join_leave": True,
    "force_push_join_leave": True,
}


@pytest.fixture(scope="module")
def own() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="module")
def joined(own: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    engine = {"type": "broadcaster", "broadcaster": {"url": own.url, "probe_interval": 0.5}}
    settings = {**SETTINGS, "engine": engine, "channel": {"namespaces": [ROOM]}}
    with cluster(tmp_path_factory.mktemp("joined"), settings) as gateways:
        yield gateways


async def test_clients_of_two_gateways(joined: Cluster, sdk: SDK, api: ConnectAPI) -> None:
    ann = await (await sdk.client(joined.a.ws_url, connection_token("ann"))).connect()
    bob = await (await sdk.client(joined.b.ws_url, connection_token("bob"))).connect()
    channel = f"room:{sdk.name}"
    first = await ann.subscribe(channel)
    second = await bob.subscribe(channel)
    assert (await first.events.wait("join", 2)).info.user == "bob"  # type: ignore[union-attr]
    assert {info.user for info in (await ann.presence(channel)).values()} == {"ann", "bob"}
    assert await bob.presence_stats(channel) == (2, 2)
    await ann.publish(channel, {"text": "hi"})
    await second.wait_received([{"text": "hi"}])
    await api(joined.a).publish(cent.PublishRequest(channel=channel, data={"text": "x" * 50_000}))
    await second.wait_received([{"text": "hi"}, {"text": "x" * 50_000}])
    await bob.disconnect()
    assert (await first.events.wait("leave")).info.user == "bob"  # type: ignore[union-attr]


async def test_clients_hear_again_when_the_server_has_come_back(
    own: PostgresServer, joined: Cluster, sdk: SDK, api: ConnectAPI
) -> None:
    client = await (await sdk.client(joined.a.ws_url, connection_token("ann"))).connect()
    channel = f"room:again-{sdk.name}"
    subscription = await client.subscribe(channel)
    await api(joined.b).publish(cent.PublishRequest(channel=channel, data=1))
    await subscription.wait_received([1])
    own.kill()
    await settled(joined, "degraded")
    await fails_soon(api(joined.b), channel)
    own.start()
    await settled(joined, "ok")
    await api(joined.b).publish(cent.PublishRequest(channel=channel, data=2))
    await subscription.wait_received([1, 2])
    assert len(client.events.named("disconnected")) == 0
