"""A gateway as it is served: what clients do, of either protocol, and what the app's backend is told."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from gateway.apps.signatures import sign, sign_body
from tests.proxies.backend import Backend, backend_running
from tests.proxies.client import Gateway, channel_token, gateway_running, settings_of
from tests.waiting import until
from tests.webhooks.test_webhooks import names, told

KEY, SECRET = "k3y0example", "s3cr3t-example"


@pytest.fixture
async def receiver() -> AsyncIterator[Backend]:
    async with backend_running() as backend:
        yield backend


def settings(receiver: Backend, vacated_delay: float = 0.1) -> dict[str, Any]:
    webhooks = [{"url": f"{receiver.url}/hooks"}]
    app = {"id": "9001", "key": KEY, "secret": SECRET, "enable_client_messages": True, "webhooks": webhooks}
    app |= {"namespace": "shop", "enable_subscription_counts": True}
    section = {
        "enabled": True,
        "namespace": "shop",
        "apps": [app],
        "subscription_counts": True,
        "webhooks": {"vacated_delay": vacated_delay},
    }
    return {"pusher": section, "channel": {"namespaces": [{"name": "shop"}]}}


@pytest.fixture
async def gateway(receiver: Backend) -> AsyncIterator[Gateway]:
    async with gateway_running(settings(receiver)) as running:
        yield running


class Client:
    def __init__(self, socket: ClientConnection, socket_id: str) -> None:
        self.socket = socket
        self.id = socket_id

    async def subscribe(self, channel: str, user: str = "") -> None:
        data: dict[str, str] = {"channel": channel}
        if user:
            data["channel_data"] = json.dumps({"user_id": user})
        if channel.startswith(("private-", "presence-")):
            signed = [self.id, channel, *([data["channel_data"]] if user else [])]
            data["auth"] = f"{KEY}:{sign(SECRET, *signed)}"
        await self.send("pusher:subscribe", data)
        while (said := json.loads(await self.socket.recv()))["event"] != "pusher_internal:subscription_succeeded":
            assert said["event"] in ("pusher_internal:subscription_count", "pusher:cache_miss"), said

    async def send(self, event: str, data: Any, **fields: str) -> None:
        await self.socket.send(json.dumps({"event": event, "data": data, **fields}))


@asynccontextmanager
async def client(gateway: Gateway) -> AsyncIterator[Client]:
    async with connect(f"ws://127.0.0.1:{gateway.port}/app/{KEY}?protocol=7") as socket:
        established = json.loads(await socket.recv())
        yield Client(socket, json.loads(established["data"])["socket_id"])


async def test_all_that_clients_do_is_told(gateway: Gateway, receiver: Backend) -> None:
    async with client(gateway) as one, client(gateway) as two:
        for each in (one, two):
            await each.subscribe("presence-desk", "17")
            await each.subscribe("cache-rate")
        await one.send("client-typing", {"on": True}, channel="presence-desk")
        await until(lambda: len(told(receiver)) >= 6)
    await until(lambda: len(told(receiver)) >= 9)
    assert sorted(set(names(receiver))) == [
        "cache_miss cache-rate",
        "channel_occupied cache-rate",
        "channel_occupied presence-desk",
        "channel_vacated cache-rate",
        "channel_vacated presence-desk",
        "client_event presence-desk 17",
        "member_added presence-desk 17",
        "member_removed presence-desk 17",
        "subscription_count cache-rate",
    ]
    [event] = [each for each in told(receiver) if each["name"] == "client_event"]
    assert (event["event"], json.loads(event["data"]), event["socket_id"]) == ("client-typing", {"on": True}, one.id)
    assert sum(each["name"] == "cache_miss" for each in told(receiver)) == 1
    asked = receiver.asked[0]
    text = json.dumps(asked.body, separators=(",", ":")).encode()
    [signature] = asked.header("X-Pusher-Signature")
    assert signature == sign_body(SECRET, text)
    backend = import_module("pusher").Pusher(app_id="9001", key=KEY, secret=SECRET)
    assert backend.validate_webhook(asked.header("X-Pusher-Key")[0], signature, text.decode()) == asked.body


async def test_members_of_another_protocol_are_members_alike(gateway: Gateway, receiver: Backend) -> None:
    async with gateway.connected("23") as other:
        token = channel_token("23", "shop:presence-desk")
        assert "error" not in await other.ask("subscribe", channel="shop:presence-desk", token=token)
        await until(lambda: len(told(receiver)) == 2)
    await until(lambda: len(told(receiver)) == 4)
    assert sorted(names(receiver)) == [
        "channel_occupied presence-desk",
        "channel_vacated presence-desk",
        "member_added presence-desk 23",
        "member_removed presence-desk 23",
    ]


async def test_who_is_back_in_time_has_not_been_away(gateway: Gateway, receiver: Backend) -> None:
    gateway.app.state.reload(settings_of(settings(receiver, vacated_delay=30)))
    async with client(gateway) as one:
        await one.subscribe("presence-desk", "17")
        await until(lambda: len(told(receiver)) == 2)
    async with client(gateway) as again:
        await again.subscribe("presence-desk", "17")
        await again.subscribe("presence-end", "17")
        await until(lambda: len(told(receiver)) >= 4)
        assert sorted(names(receiver)[2:]) == ["channel_occupied presence-end", "member_added presence-end 17"]
