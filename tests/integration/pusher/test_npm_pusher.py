"""npm ``pusher``, the library of backends in Node, against two gateways behind HAProxy."""

import json
from typing import Any

import pytest

from tests.integration.pusher.application import Application
from tests.integration.pusher.apps import MAIN, UNKNOWN, App
from tests.integration.pusher.clients import Library
from tests.integration.pusher.raw import raw
from tests.integration.servers import Cluster


class Backend:
    """The library, driven."""

    def __init__(self, library: Library, nodes: Cluster, app: App = MAIN) -> None:
        self._library = library
        self._server = {
            "appId": app.id,
            "key": app.key,
            "secret": app.secret,
            "host": nodes.balancer.host,
            "port": str(nodes.balancer.port),
            "useTLS": False,
        }

    async def call(self, method: str, *given: Any) -> Any:
        return await self._library.call(op="serve", server=self._server, method=method, given=given)

    async def answer(self, method: str, *given: Any) -> Any:
        """What a good answer holds."""
        answer = await self.call(method, *given)
        assert answer["status"] == 200, answer
        return json.loads(answer["body"])


@pytest.fixture
def npm(node: Library, nodes: Cluster) -> Backend:
    return Backend(node, nodes)


async def test_it_publishes(nodes: Cluster, npm: Backend, name: str) -> None:
    private = f"private-{name}"
    async with raw(nodes.a) as client:
        auth = await npm.call("authorizeChannel", client.socket_id, private)
        await client.subscribe(private, auth=auth["auth"])
        await client.wait("pusher_internal:subscription_succeeded")
        assert await npm.answer("trigger", private, "e", {"text": "✓"}) == {}
        info = {"info": "subscription_count"}
        assert await npm.answer("trigger", [private, name], "e", {"n": 2}, info) == {
            "channels": {private: {"subscription_count": 1}, name: {"subscription_count": 0}}
        }
        batch = [{"channel": private, "name": "e", "data": {"n": 3}}, {"channel": name, "name": "e", "data": "4"}]
        assert await npm.answer("triggerBatch", batch) == {}
        await client.wait("e", count=3)
        assert [json.loads(each["data"]) for each in client.named("e")] == [{"text": "✓"}, {"n": 2}, {"n": 3}]


async def test_it_asks(nodes: Cluster, npm: Backend, name: str) -> None:
    channel = f"presence-{name}"
    async with raw(nodes.b) as client:
        auth = await npm.call("authorizeChannel", client.socket_id, channel, {"user_id": "17"})
        await client.subscribe(channel, auth["channel_data"], auth["auth"])
        await client.wait("pusher_internal:subscription_succeeded")
        params = {"filter_by_prefix": channel, "info": "user_count"}
        assert await npm.answer("get", {"path": "/channels", "params": params}) == {
            "channels": {channel: {"user_count": 1}}
        }
        assert await npm.answer("get", {"path": f"/channels/{channel}/users"}) == {"users": [{"id": "17"}]}


async def test_it_ends_the_connections_of_a_user(nodes: Cluster, npm: Backend, name: str) -> None:
    """On the path with the app."""
    async with raw(nodes.a) as client:
        signed = await npm.call("authenticateUser", client.socket_id, {"id": name})
        await client.say("pusher:signin", signed)
        await client.wait("pusher:signin_success")
        await client.subscribe(f"#server-to-user-{name}")
        await client.wait("pusher_internal:subscription_succeeded")
        assert await npm.answer("sendToUser", name, "hello", {"n": 1}) == {}
        assert (await client.wait("hello"))["channel"] == f"#server-to-user-{name}"
        assert await npm.answer("terminateUserConnections", name) == {}
        assert (await client.closed())[0] == 4009
        assert client.frames[-1]["data"]["code"] == 4009


async def test_its_errors_have_our_status(nodes: Cluster, node: Library, npm: Backend) -> None:
    assert (await npm.call("trigger", "news", "pusher:x", {}))["status"] == 400
    assert (await npm.call("trigger", "news", "e", "x" * 10_241))["status"] == 413
    assert (await Backend(node, nodes, UNKNOWN).call("trigger", "news", "e", {}))["status"] == 404
    assert (await Backend(node, nodes, App(MAIN.id, MAIN.key, "no")).call("trigger", "news", "e", {}))["status"] == 401


async def test_it_takes_our_webhooks(nodes: Cluster, node: Library, site: Application, npm: Backend, name: str) -> None:
    async with raw(nodes.a) as client:
        await client.subscribe(name)
        await site.until_told("channel_occupied", name)
    webhook = site.webhooks[-1]
    headers = {
        "x-pusher-key": webhook.key,
        "x-pusher-signature": webhook.signature,
        "content-type": "application/json",
    }
    assert await npm.call("webhook", {"headers": headers, "rawBody": webhook.body.decode()}) is True
    assert await npm.call("webhook", {"headers": headers, "rawBody": webhook.body.decode() + " "}) is False
