"""What the SDKs rely on about connections: opening, tokens, pings, the end."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import cent
import pytest

from tests.integration.cable import Cable
from tests.integration.clients.base import SDK, CallFailed, Client, Unauthorized
from tests.integration.clients.every import OUTSIDE_PAGES
from tests.integration.clients.javascript import IN_NODE
from tests.integration.clients.raw import raw
from tests.integration.conftest import ConnectAPI
from tests.integration.servers import Cluster, GatewayServer
from tests.integration.settings import CHAT, NAMESPACES, PINGING, SETTINGS
from tests.integration.tokens import connection_token, subscription_token
from tests.waiting import until

ON_SOCKETS = [kind for kind in OUTSIDE_PAGES if not kind.transports]


async def test_one_client_connects_again_and_again(gateways: Cluster, sdk: SDK, name: str) -> None:
    client = await sdk.client(gateways.a.ws_url, connection_token(name))
    ids = set()
    for _ in range(20):
        await client.connect()
        ids.add(client.id)
        await client.disconnect()
        await until_state(client, "disconnected")
    assert len(ids) == 20
    assert client.events.named("error") == []


async def until_state(client: Client, state: str) -> None:
    async def reached() -> bool:
        return await client.state() == state

    await until(reached, what=state)


async def test_a_client_changes_its_mind_in_the_same_tick(gateways: Cluster, sdk: SDK, name: str) -> None:
    client = await sdk.client(gateways.a.ws_url, connection_token(name))
    for _ in range(10):
        await client.flicker()
    assert await client.state() == "disconnected"
    await client.connect()
    assert await client.state() == "connected"


async def test_a_client_leaves_before_its_connection_is_open(gateways: Cluster, sdk: SDK, name: str) -> None:
    client = await sdk.client(gateways.a.ws_url, connection_token(name))
    for _ in range(10):
        await client.begin()
        await client.disconnect()
    await client.connect()
    assert await client.state() == "connected"


async def test_the_connect_reply_tells_what_clients_need(gateways: Cluster, name: str) -> None:
    async with raw(gateways.a.ws_url) as client:
        result = await client.open(connection_token(name, ttl=3600))
    assert result["version"]
    assert len(result["client"]) == 36
    assert (result["ping"], result["pong"]) == (25, True)
    assert result["expires"]
    assert 3590 <= result["ttl"] <= 3600


async def test_commands_given_before_the_connection_are_answered(gateways: Cluster, sdk: SDK, channel: str) -> None:
    client = await sdk.client(gateways.a.ws_url, connection_token("early"))
    subscriptions = [await client.subscription(f"{channel}-{number}") for number in range(5)]
    for subscription in subscriptions:
        await subscription.begin()
    await client.begin()
    published = asyncio.gather(*(client.publish(subscription.channel, "early") for subscription in subscriptions))
    rpc = asyncio.gather(client.rpc("fly", {}), return_exceptions=True)
    await published
    for subscription in subscriptions:
        await subscription.events.wait("subscribed")
    assert [(error.code, error.message) for error in await rpc if isinstance(error, CallFailed)] == [NOT_AVAILABLE]


NOT_AVAILABLE = (108, "not available")


async def test_rpc_without_a_handler(gateways: Cluster, sdk: SDK, name: str) -> None:
    client = await sdk.connected(gateways.a.ws_url, connection_token(name))
    with pytest.raises(CallFailed) as failed:
        await client.rpc("fly", {"high": True})
    assert (failed.value.code, failed.value.message) == NOT_AVAILABLE


async def test_anonymous_tokens_without_expiry(gateways: Cluster, sdk: SDK, channel: str) -> None:
    client = await sdk.connected(gateways.a.ws_url, connection_token(""))
    subscription = await client.subscribe(channel)
    join = await subscription.events.wait("join")
    assert join.info is not None
    assert (join.info.user, join.info.client) == ("", client.id)


async def test_tokens_come_from_a_callback_that_may_fail_at_first(gateways: Cluster, sdk: SDK, name: str) -> None:
    calls = []

    def get_token() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise RuntimeError("the application is not up yet")
        return connection_token(name)

    client = await sdk.connected(gateways.a.ws_url, get_token=get_token)
    assert len(calls) == 3
    assert len(client.events.named("error")) == 2


async def test_an_expired_token_is_fetched_anew(gateways: Cluster, sdk: SDK, name: str) -> None:
    client = await sdk.connected(
        gateways.a.ws_url, connection_token(name, ttl=-10), get_token=lambda: connection_token(name)
    )
    assert [event.code for event in client.events.named("error")] == [109]


async def test_an_invalid_token_is_the_end(gateways: Cluster, sdk: SDK, name: str) -> None:
    client = await sdk.client(gateways.a.ws_url, connection_token(name, key="another-secret-of-more-than-32-bytes"))
    await client.begin()
    end = await client.events.wait("disconnected")
    assert (end.code, end.reason) == (3500, "invalid token")
    assert await client.state() == "disconnected"


async def test_a_user_without_token_stays_outside(gateways: Cluster, sdk: SDK) -> None:
    def get_token() -> str:
        raise Unauthorized

    client = await sdk.client(gateways.a.ws_url, get_token=get_token)
    await client.begin()
    assert (await client.events.wait("disconnected")).code == 1


async def test_tokens_are_refreshed_again_and_again(gateways: Cluster, sdk: SDK, channel: str, name: str) -> None:
    closed = f"closed:{name}"
    fetched = {"connection": 0, "subscription": 0}

    def connection() -> str:
        fetched["connection"] += 1
        return connection_token(name, ttl=2)

    def subscription() -> str:
        fetched["subscription"] += 1
        return subscription_token(name, closed, ttl=2)

    client = await sdk.connected(gateways.a.ws_url, get_token=connection)
    granted = await client.subscribe(closed, get_token=subscription)
    await until(lambda: min(fetched.values()) >= 4, deadline=20.0, what="three refreshes of each")

    assert [event.name for event in client.events] == ["connecting", "connected"]
    assert [event.name for event in granted.events] == ["subscribing", "subscribed"]


@pytest.fixture(scope="module")
def personal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayServer]:
    """A gateway that gives each user a channel of its own."""
    channels = {"enabled": True, "personal_channel_namespace": "user"}
    settings = {
        **SETTINGS,
        "client": {**SETTINGS["client"], "subscribe_to_user_personal_channel": channels},
        "channel": {"namespaces": [*NAMESPACES, {"name": "user", **CHAT}]},
    }
    with GatewayServer("personal", tmp_path_factory.mktemp("personal"), settings) as server:
        yield server


async def test_a_user_has_a_channel_of_its_own(personal: GatewayServer, sdk: SDK, api: ConnectAPI, name: str) -> None:
    own = f"user:#{name}"
    client = await sdk.connected(personal.ws_url, connection_token(name))
    subscribed = await client.events.wait("subscribed")
    assert (subscribed.channel, subscribed.recoverable) == (own, True)
    join = await client.events.wait("join")
    assert join.info is not None
    assert (join.channel, join.info.client) == (own, client.id)

    await client.publish(own, "note to self")
    await api(personal).publish(cent.PublishRequest(channel=own, data="note from above"))
    await client.events.wait("publication", 2)
    received = [(event.channel, event.data) for event in client.events.named("publication")]
    assert received == [(own, "note to self"), (own, "note from above")]


async def test_pings_keep_connections_open(pinging: GatewayServer, sdk: SDK) -> None:
    """The SDK answers pings each second; without answers the server would close."""
    client = await sdk.connected(pinging.ws_url, connection_token("alive"))
    async with raw(pinging.ws_url, connection_token("clock")) as clock:
        await until(lambda: clock.pings >= 4)
        await (await clock.connection.ping())
    assert [event.name for event in client.events] == ["connecting", "connected"]


async def test_after_a_loss_all_subscriptions_come_back(gateways: Cluster, sdk: SDK, channel: str) -> None:
    channels = [f"{channel}-{number}" for number in range(3)]
    async with Cable(gateways.a.port) as cable:
        client = await sdk.connected(cable.ws_url, connection_token("lost"))
        subscriptions = [await client.subscribe(each) for each in channels]
        cable.pull()
        await client.events.wait("connecting", 2)
        await client.events.wait("error")
        cable.plug(gateways.b.port)
        for subscription in subscriptions:
            await subscription.events.wait("subscribed", 2)
        for subscription in subscriptions:
            await client.publish(subscription.channel, "again")
            await subscription.wait_received(["again"])


async def test_without_pings_clients_look_for_another_server(tmp_path: Path, channel: str) -> None:
    async with AsyncExitStack() as stack:
        server = stack.enter_context(GatewayServer("frozen", tmp_path, PINGING))
        sdks = [await stack.enter_async_context(kind()) for kind in OUTSIDE_PAGES]
        clients = [await sdk.connected(server.ws_url, connection_token("waiting")) for sdk in sdks]
        subscriptions = [await client.subscribe(channel) for client in clients]
        server.stop()
        for client in clients:
            assert (await client.events.wait("connecting", 2, deadline=20.0)).code == NO_PING
        server.cont()
        for client, subscription in zip(clients, subscriptions, strict=True):
            await client.events.wait("connected", 2, deadline=20.0)
            again = await subscription.events.wait("subscribed", 2)
            assert (again.was_recovering, again.recovered) == (True, True)


NO_PING = 2
"""The SDKs' own code for a connection on which nothing arrived in time."""


@pytest.mark.parametrize("kind", ON_SOCKETS, ids=lambda kind: kind.name)
async def test_messages_over_the_limit_end_the_connection(gateways: Cluster, kind: type[SDK], channel: str) -> None:
    async with kind() as sdk:
        client = await sdk.connected(gateways.a.ws_url, connection_token("loud"))
        await _publish_too_much(client, channel)
        # For the JavaScript SDK this is final, the Python SDK connects again
        await until(lambda: client.events[2:], what="the end of the connection")
        assert client.events[2].code == MESSAGE_SIZE_LIMIT


MESSAGE_SIZE_LIMIT = 3
"""The SDKs' own code for close code 1009."""


@pytest.mark.parametrize("kind", [kind for kind in IN_NODE if kind.transports], ids=lambda kind: kind.name)
async def test_over_http_they_are_refused_alone(gateways: Cluster, kind: type[SDK], channel: str) -> None:
    """Nobody answers the command, and the connection goes on."""
    async with kind() as sdk:
        client = await sdk.connected(gateways.a.ws_url, connection_token("loud"))
        await _publish_too_much(client, channel)
        await client.publish(channel, "small")
        assert [event.name for event in client.events] == ["connecting", "connected"]


async def _publish_too_much(client: Client, channel: str) -> None:
    subscription = await client.subscribe(channel)
    fits = "x" * 65_000
    await client.publish(channel, fits)
    await subscription.wait_received([fits])
    with pytest.raises(CallFailed):
        await client.publish(channel, "x" * 65_536)
