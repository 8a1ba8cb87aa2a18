"""Two gateways, one channel: messages, presence and history cross between them."""

from pathlib import Path

import cent
import pytest

from tests.integration.cable import Cable
from tests.integration.clients.base import SDK, Client, Subscription
from tests.integration.conftest import ConnectAPI
from tests.integration.servers import Cluster, Server, cluster, nginx
from tests.integration.settings import on_redis
from tests.integration.tokens import connection_token
from tests.redis_server import RedisServer
from tests.waiting import until

MESSAGES = 10_000
WINDOW = 250
"""Publications on their way at once."""


def windows(first: int, last: int) -> list[range]:
    return [range(start, min(start + WINDOW, last)) for start in range(first, last, WINDOW)]


async def publish_by_client(client: Client, channel: str, first: int, last: int) -> None:
    for window in windows(first, last):
        await client.publish(channel, *({"n": n} for n in window))


async def publish_by_api(api: cent.AsyncClient, channel: str, first: int, last: int) -> None:
    for window in windows(first, last):
        requests = [cent.PublishRequest(channel=channel, data={"n": n}) for n in window]
        await api.batch(cent.BatchRequest(requests=requests))


async def subscribed_everywhere(sdks: list[SDK], servers: list[Server], channel: str) -> list[Subscription]:
    """One subscriber of each SDK on each server."""
    subscriptions = []
    for server in servers:
        for sdk in sdks:
            client = await sdk.connected(server.ws_url, connection_token(f"{sdk.name}-{server.name}"))
            subscriptions.append(await client.subscribe(channel))
    return subscriptions


@pytest.mark.parametrize("namespace", ["chat", "plain"])
async def test_every_message_arrives_once_and_in_order(
    gateways: Cluster, sdks: list[SDK], api: ConnectAPI, namespace: str, name: str
) -> None:
    channel = f"{namespace}:{name}"
    subscriptions = await subscribed_everywhere(sdks, [gateways.a, gateways.b], channel)
    publishers = [await sdk.connected(gateways.b.ws_url, connection_token("publisher")) for sdk in sdks]
    subscriptions += [await publisher.subscribe(channel) for publisher in publishers]

    quarter = MESSAGES // 4
    for number, publisher in enumerate(publishers):
        await publish_by_client(publisher, channel, number * quarter, (number + 1) * quarter)
    await publish_by_api(api(gateways.b), channel, 2 * quarter, MESSAGES)

    for subscription in subscriptions:
        await subscription.wait_received([{"n": n} for n in range(MESSAGES)], deadline=30.0)
        assert len(subscription.events.named("subscribed")) == 1, "nothing had to be recovered"
    if namespace == "chat":
        offsets = [event.offset for event in subscriptions[0].events.named("publication")]
        assert offsets == list(range(1, MESSAGES + 1))


async def test_publications_name_their_publisher(gateways: Cluster, sdk: SDK, channel: str) -> None:
    reader = await sdk.connected(gateways.a.ws_url, connection_token("reader"))
    writer = await sdk.connected(gateways.b.ws_url, connection_token("writer", info={"name": "W"}))
    subscription = await reader.subscribe(channel)

    await writer.publish(channel, {"text": "hello"})

    publication = await subscription.events.wait("publication")
    assert publication.info is not None
    assert (publication.info.user, publication.info.client) == ("writer", writer.id)
    assert publication.info.conn_info == {"name": "W"}


async def test_presence_lists_the_clients_of_both(gateways: Cluster, sdk: SDK, api: ConnectAPI, channel: str) -> None:
    ann = await sdk.connected(gateways.a.ws_url, connection_token("ann", info={"name": "Ann"}))
    bob = await sdk.connected(gateways.b.ws_url, connection_token("bob"))
    await ann.subscribe(channel)
    await bob.subscribe(channel)

    expected = {ann.id: "ann", bob.id: "bob"}
    for client in (ann, bob):
        presence = await client.presence(channel)
        assert {key: info.user for key, info in presence.items()} == expected
        assert presence[ann.id].conn_info == {"name": "Ann"}
        assert await client.presence_stats(channel) == (2, 2)
    for server in (gateways.a, gateways.b):
        seen = (await api(server).presence(cent.PresenceRequest(channel=channel))).presence
        assert {key: info.user for key, info in seen.items()} == expected


async def test_join_and_leave_are_seen_by_the_other(gateways: Cluster, sdk: SDK, channel: str) -> None:
    ann = await sdk.connected(gateways.a.ws_url, connection_token("ann"))
    bob = await sdk.connected(gateways.b.ws_url, connection_token("bob"))
    seen_by_ann = await ann.subscribe(channel)

    def users(name: str) -> list[tuple[str, str]]:
        return [(event.info.user, event.info.client) for event in seen_by_ann.events.named(name) if event.info]

    seen_by_bob = await bob.subscribe(channel)
    await seen_by_ann.events.wait("join", 2)
    assert users("join") == [("ann", ann.id), ("bob", bob.id)]

    await seen_by_bob.unsubscribe()
    await seen_by_ann.events.wait("leave")
    await seen_by_bob.subscribe()
    await bob.disconnect()
    await seen_by_ann.events.wait("leave", 2)
    assert users("leave") == [("bob", bob.id)] * 2
    assert await ann.presence_stats(channel) == (1, 1)


async def test_history_is_read_from_both(gateways: Cluster, sdk: SDK, api: ConnectAPI, channel: str) -> None:
    here = await sdk.connected(gateways.a.ws_url, connection_token("here"))
    there = await sdk.connected(gateways.b.ws_url, connection_token("there"))
    await there.publish(channel, *range(6))
    await api(gateways.a).publish(cent.PublishRequest(channel=channel, data=6))

    for client in (here, there):
        top = await client.history(channel)
        assert (top.publications, top.offset) == ([], 7)
        page = await client.history(channel, limit=3)
        assert [(each.data, each.offset) for each in page.publications] == [(0, 1), (1, 2), (2, 3)]
        assert (page.offset, page.epoch) == (7, top.epoch)
        rest = await client.history(channel, limit=100, since=(3, top.epoch))
        assert [each.data for each in rest.publications] == [3, 4, 5, 6]
        newest = await client.history(channel, limit=2, reverse=True)
        assert [each.data for each in newest.publications] == [6, 5]
        before = await client.history(channel, limit=2, since=(6, top.epoch), reverse=True)
        assert [each.data for each in before.publications] == [4, 3]


async def test_a_client_recovers_on_the_other_gateway_what_it_missed(
    gateways: Cluster, sdk: SDK, api: ConnectAPI, channel: str
) -> None:
    async with Cable(gateways.a.port) as cable:
        client = await sdk.connected(cable.ws_url, connection_token("roamer"))
        subscription = await client.subscribe(channel)
        other = await sdk.connected(gateways.b.ws_url, connection_token("other"))
        await other.publish(channel, *range(5))
        await subscription.wait_received(list(range(5)))

        cable.pull()
        await client.events.wait("connecting", 2)
        await other.publish(channel, *range(5, 30))
        await publish_by_api(api(gateways.a), channel, 30, 50)
        cable.plug(gateways.b.port)

        again = await subscription.events.wait("subscribed", 2)
        assert (again.was_recovering, again.recovered) == (True, True)
        await other.publish(channel, "after")
        await subscription.wait_received([*range(30), *({"n": n} for n in range(30, 50)), "after"])
        assert len(client.events.named("connected")) == 2


async def test_all_of_it_behind_haproxy(gateways: Cluster, sdks: list[SDK], api: ConnectAPI, channel: str) -> None:
    await spread_and_talk(gateways, sdks, api, channel)


async def test_all_of_it_behind_nginx(
    redis: RedisServer, tmp_path: Path, sdks: list[SDK], api: ConnectAPI, channel: str, name: str
) -> None:
    with cluster(tmp_path, on_redis(redis.url, name), nginx) as gateways:
        await spread_and_talk(gateways, sdks, api, channel)


async def spread_and_talk(gateways: Cluster, sdks: list[SDK], api: ConnectAPI, channel: str) -> None:
    """Clients reach both gateways through the balancer, and each other."""
    subscriptions = await subscribed_everywhere(sdks, [gateways.balancer] * 3, channel)

    async def spread() -> bool:
        info = await api(gateways.balancer).info(cent.InfoRequest())
        return [node.num_clients for node in info.nodes] == [3, 3]

    await until(spread, what="three clients on each gateway")

    publisher = await sdks[0].connected(gateways.balancer.ws_url, connection_token("publisher"))
    await publish_by_client(publisher, channel, 0, WINDOW)
    await publish_by_api(api(gateways.balancer), channel, WINDOW, 2 * WINDOW)

    for subscription in subscriptions:
        await subscription.wait_received([{"n": n} for n in range(2 * WINDOW)])
    assert await publisher.presence_stats(channel) == (6, 2)
    await until(lambda: len(subscriptions[0].events.named("join")) == 6)
