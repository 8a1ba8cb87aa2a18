"""Clients of Pusher and of Centrifugo in the same channels, on two gateways."""

from asyncio import to_thread

from tests.integration.clients.javascript import JavaScriptSDK
from tests.integration.pusher.apps import SHARED
from tests.integration.pusher.clients import ADDED, REMOVED, SUCCEEDED, Library
from tests.integration.servers import Cluster
from tests.integration.tokens import connection_token


async def test_events_reach_both(nodes: Cluster, node: Library, name: str) -> None:
    channel = f"private-{name}"
    async with JavaScriptSDK() as sdk:
        ann = await sdk.connected(nodes.a.ws_url, connection_token("ann"))
        hers = await ann.subscribe(f"chat:{channel}")
        bob = await node.opened(nodes.b, SHARED)
        his = await bob.subscribed(channel, "client-message")
        await to_thread(SHARED.backend(nodes.b).trigger, channel, "e", {"n": 1})
        await hers.wait_received([{"n": 1}])
        assert await his.wait("e") == {"n": 1}
        await ann.publish(f"chat:{channel}", {"n": 2})
        assert await his.wait("client-message") == {"n": 2}
        await bob.trigger(channel, "client-x", {"n": 3})
        await hers.wait_received([{"n": 1}, {"n": 2}, {"n": 3}])
        assert hers.events.named("publication")[-1].tags == {"event": "client-x"}


async def test_members_of_both(nodes: Cluster, node: Library, name: str) -> None:
    channel = f"presence-{name}"
    bob = await node.opened(nodes.b, SHARED, member={"user_id": "bob"})
    his = await bob.subscribed(channel)
    async with JavaScriptSDK() as sdk:
        for server in (nodes.a, nodes.b):
            ann = await sdk.connected(server.ws_url, connection_token("ann"))
            await ann.subscribe(f"chat:{channel}")
        present = await ann.presence(f"chat:{channel}")
        assert sorted(each.user for each in present.values()) == ["ann", "ann", "bob"]
        assert (await his.wait(ADDED))["id"] == "ann"
        late = await node.opened(nodes.a, SHARED, member={"user_id": "late"})
        assert sorted((await (await late.subscribed(channel)).wait(SUCCEEDED))["members"]) == ["ann", "bob", "late"]
    assert (await his.wait(REMOVED))["id"] == "ann"
    assert his.names == [SUCCEEDED, ADDED, ADDED, REMOVED]
