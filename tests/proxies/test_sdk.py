"""The official client for Python, where a backend decides."""

import asyncio

import pytest
from centrifuge import (  # type: ignore[import-untyped]
    Client,
    PublicationContext,
    ReplyError,
    SubscriptionEventHandler,
    UnsubscribedContext,
)

from tests.proxies.backend import Backend
from tests.proxies.client import gateway_running


class Handler(SubscriptionEventHandler):  # type: ignore[misc]  # has no types
    def __init__(self) -> None:
        self.heard: asyncio.Queue[object] = asyncio.Queue()

    async def on_publication(self, ctx: PublicationContext) -> None:
        self.heard.put_nowait(ctx.pub.data)

    async def on_unsubscribed(self, ctx: UnsubscribedContext) -> None:
        self.heard.put_nowait((ctx.code, ctx.reason))


async def test_a_whole_conversation(backend: Backend) -> None:
    def at(path: str, **more: object) -> dict[str, object]:
        return {"endpoint": f"{backend.url}/{path}", "timeout": 30, **more}

    proxied = {"subscribe_proxy_enabled": True, "publish_proxy_enabled": True}
    values = {
        "client": {"proxy": {"connect": at("connect", enabled=True)}},
        "channel": {
            "proxy": {"subscribe": at("subscribe"), "publish": at("publish")},
            "without_namespace": proxied,
        },
        "rpc": {"proxy": at("rpc"), "without_namespace": {"proxy_enabled": True}},
    }
    backend.answers["/connect"] = [{"result": {"user": "7", "data": {"hello": "Ann"}}}]
    backend.answers["/publish"] = [{"result": {"data": {"text": "[cut]"}}}]
    backend.answers["/rpc"] = [{"result": {"data": {"sum": 3}}}, {"error": {"code": 404, "message": "no such"}}]
    backend.answers["/subscribe"] = [{}, {"error": {"code": 1403, "message": "not a member"}}]
    async with gateway_running(values) as gateway:
        client = Client(f"ws://127.0.0.1:{gateway.port}/connection/websocket", data={"key": 1})
        await client.connect()
        await client.ready()
        handler = Handler()
        subscription = client.new_subscription("news", handler)
        await subscription.subscribe()
        await subscription.ready()
        await subscription.publish({"text": "rude"})
        assert await asyncio.wait_for(handler.heard.get(), 10) == {"text": "[cut]"}
        assert (await client.rpc("add", [1, 2])).data == {"sum": 3}
        with pytest.raises(ReplyError, match="no such"):
            await client.rpc("none", None)
        refused = Handler()
        await client.new_subscription("closed", refused).subscribe()
        assert await asyncio.wait_for(refused.heard.get(), 10) == (1403, "not a member")
        await client.disconnect()
    assert backend.of("/connect")[0]["data"] == {"key": 1}
    assert [each["channel"] for each in backend.of("/subscribe")] == ["news", "closed"]
