"""Official SDKs that speak Protobuf and such that speak JSON, over all transports, in the same channels."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import cent
import pytest
from fastapi import FastAPI

from gateway import Gateway
from gateway.core.cluster import UnsubscribeUser
from tests.integration.clients.base import SDK, CallFailed
from tests.integration.clients.every import OUTSIDE_PAGES
from tests.integration.conftest import ConnectAPI
from tests.integration.servers import Cluster
from tests.integration.settings import CHAT
from tests.integration.tokens import SECRET, connection_token, subscription_token
from tests.serving import on_uvicorn
from tests.waiting import until

BYTES = bytes(range(256))
STREAMS: dict[str, Any] = {"http_stream": {"enabled": True}, "sse": {"enabled": True}}


@pytest.fixture
async def every() -> AsyncIterator[dict[str, SDK]]:
    """All SDKs at once, by their names."""
    async with AsyncExitStack() as stack:
        yield {kind.name: await stack.enter_async_context(kind()) for kind in OUTSIDE_PAGES}


async def test_all_hear_each_other(
    gateways: Cluster, every: dict[str, SDK], api: ConnectAPI, channel: str, name: str
) -> None:
    """As JSON, on both nodes, whoever speaks."""
    urls = [gateways.a.ws_url, gateways.b.ws_url]
    clients = {
        each: await sdk.connected(urls[number % 2], connection_token(f"{name}-{each}", info={"by": each}))
        for number, (each, sdk) in enumerate(every.items())
    }
    subscriptions = [await client.subscribe(channel) for client in clients.values()]
    said = [{"by": each, "ü": [1, 2.5, None]} for each in clients]
    for client, data in zip(clients.values(), said, strict=True):
        await client.publish(channel, data)
    await api(gateways.a).publish(cent.PublishRequest(channel=channel, data={"by": "api"}, tags={"lang": "en"}))
    for subscription in subscriptions:
        await subscription.wait_received([*said, {"by": "api"}])
        events = subscription.events.named("publication")
        assert [event.info.client for event in events if event.info] == [each.id for each in clients.values()]
        assert [event.info.conn_info for event in events if event.info] == [{"by": each} for each in clients]
        assert (events[-1].tags, events[-1].offset) == ({"lang": "en"}, len(said) + 1)
    for client in clients.values():
        assert {key: (info.user, info.conn_info) for key, info in (await client.presence(channel)).items()} == {
            clients[each].id: (f"{name}-{each}", {"by": each}) for each in clients
        }
        page = await client.history(channel, limit=-1)
        assert [each.data for each in page.publications] == [*said, {"by": "api"}]


async def test_bytes_reach_those_who_speak_protobuf(gateways: Cluster, every: dict[str, SDK], channel: str) -> None:
    """A client that speaks JSON is sent away, and does not come back."""
    clients = {each: await sdk.connected(gateways.a.ws_url, connection_token(each)) for each, sdk in every.items()}
    subscriptions = {each: await client.subscribe(channel) for each, client in clients.items()}
    writers = [kind.name for kind in OUTSIDE_PAGES if kind.protobuf]
    for each in writers:
        await clients[each].publish(channel, BYTES)
    for each in writers:
        await subscriptions[each].wait_received([BYTES] * len(writers))
        assert [found.data for found in (await clients[each].history(channel, limit=-1)).publications] == [BYTES] * len(
            writers
        )
    for reader in clients.keys() - writers:
        ended = await clients[reader].events.wait("disconnected")
        assert (ended.code, ended.reason) == (3506, "inappropriate protocol")
        assert subscriptions[reader].received == []
    for each in writers:
        await clients[each].disconnect()
        await clients[each].connect()
        again = await subscriptions[each].events.wait("subscribed", 2)
        assert (again.was_recovering, again.recovered) == (True, True)
    await until(lambda: all(len(subscriptions[each].received) == len(writers) for each in writers))


async def test_a_program_answers_calls_and_sends(every: dict[str, SDK]) -> None:
    """Of whatever a client speaks; what is no JSON a handler cannot take."""
    gateway = Gateway(client={"allow_anonymous_connect_without_token": True}, **STREAMS)

    @gateway.rpc("add")
    async def add(data: list[int]) -> dict[str, int]:
        return {"sum": sum(data)}

    app = FastAPI(lifespan=gateway.lifespan)
    app.include_router(gateway.router)
    async with on_uvicorn(app, gateway.settings) as port:
        url = f"ws://127.0.0.1:{port}/connection/websocket"
        clients = {each: await sdk.connected(url) for each, sdk in every.items()}
        for each, client in clients.items():
            assert await client.rpc("add", [1, 2]) == {"sum": 3}
            with pytest.raises(CallFailed) as failed:
                await client.rpc("subtract", [1, 2])
            assert failed.value.code == 104
            if "protobuf" in each:
                with pytest.raises(CallFailed) as failed:
                    await client.rpc("add", BYTES)
                assert (failed.value.code, "JSON" in str(failed.value)) == (107, True)
        for each, client in clients.items():
            if not each.startswith("python"):  # has no such event
                await gateway.send(client.id, {"for": each})
                assert (await client.events.wait("message")).data == {"for": each}
        for client in clients.values():
            await client.disconnect()


async def test_unsubscribe_codes_mean_what_they_say(every: dict[str, SDK]) -> None:
    """2000 is the end; after 2500 clients come back and recover; after 2502 they do so without token and position."""
    gateway = Gateway(
        client={"token": {"hmac_secret_key": SECRET}}, channel={"namespaces": [{"name": "chat", **CHAT}]}, **STREAMS
    )
    app = FastAPI(lifespan=gateway.lifespan)
    app.include_router(gateway.router)
    async with on_uvicorn(app, gateway.settings) as port:
        url = f"ws://127.0.0.1:{port}/connection/websocket"
        for each, sdk in every.items():
            channel = f"$chat:{each}"
            fetched: list[str] = []

            def fetch(user: str = each, channel: str = channel, fetched: list[str] = fetched) -> str:
                fetched.append(channel)
                return subscription_token(user, channel)

            async def end(code: int, user: str = each, channel: str = channel) -> None:
                await gateway._here.cluster.command(
                    UnsubscribeUser(user=user, channel=channel, code=code, reason="why")
                )

            client = await sdk.connected(url, connection_token(each))
            subscription = await client.subscribe(channel, get_token=fetch)
            await gateway.publish(channel, 1)
            await subscription.wait_received([1])
            for turn, (code, recovered, tokens) in enumerate([(2500, True, 1), (2502, False, 2)], 2):
                await end(code)
                again = await subscription.events.wait("subscribed", turn)
                assert subscription.events.named("subscribing")[-1].code == code
                assert (again.was_recovering, again.recovered, len(fetched)) == (True, recovered, tokens)
            await end(2000)
            ended = await subscription.events.wait("unsubscribed")
            assert (ended.code, ended.reason) == (2000, "why")
            await client.disconnect()
