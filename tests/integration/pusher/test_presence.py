"""Presence over two nodes: users with several tabs, a node that dies, and a crowd."""

import asyncio
import json
from functools import partial
from pathlib import Path

from gateway.messages import ClientInfo, Payload
from gateway.presence.redis import RedisPresence
from tests.integration.pusher import apps
from tests.integration.pusher.application import Application
from tests.integration.pusher.apps import CROWDED
from tests.integration.pusher.clients import ADDED, REMOVED, SUCCEEDED, Client, Library
from tests.integration.pusher.raw import raw
from tests.integration.servers import Cluster, cluster
from tests.redis_fixtures import one_server
from tests.redis_server import RedisServer
from tests.waiting import until

GONE = 15.0
"""Seconds after which the members of a killed node are gone, and a moment later everybody has been told."""
CROWD = 4999


async def test_the_members_of_a_killed_node_are_removed_once(
    redis: RedisServer, site: Application, tmp_path: Path, node: Library, name: str
) -> None:
    """User 17 has three tabs, one of them on the node that survives; 18 and 19 are on the other alone.

    Who comes back through the balancer has not been away.
    """
    channel = f"presence-{name}"
    with cluster(tmp_path, apps.settings(redis.url, f"{site.url}/webhooks", name)) as nodes:
        movers = [await node.opened(nodes.balancer, member={"user_id": f"mover{n}"}) for n in range(4)]
        moved = [await each.subscribed(channel) for each in movers]
        watchers = [await node.opened(nodes.b, member={"user_id": f"watcher{n}"}) for n in range(2)]
        logs = [await each.subscribed(channel) for each in watchers]
        places = [(nodes.a, "17"), (nodes.a, "17"), (nodes.b, "17"), (nodes.a, "18"), (nodes.a, "19"), (nodes.b, "20")]
        tabs = [await node.opened(place, member={"user_id": user}) for place, user in places]
        for tab in tabs:
            await tab.subscribed(channel)
        for log in logs:
            await log.wait(ADDED, 4 + (log is logs[0]))

        nodes.a.kill()
        for log in logs:
            await log.wait(REMOVED, 2, deadline=GONE + 1)
            assert sorted(each["id"] for each in log.named(REMOVED)) == ["18", "19"]
        told = await site.until_told("member_removed", channel, 2)
        assert sorted(each["user_id"] for each in told) == ["18", "19"]
        staying = ["17", "20", "mover0", "mover1", "mover2", "mover3", "watcher0", "watcher1"]
        assert sorted((await watchers[0].members(channel))["members"]) == staying
        assert sum(len(log.named(SUCCEEDED)) - 1 for log in moved) == 2

        await tabs[2].disconnect()
        late = await node.opened(nodes.b, member={"user_id": "late"})
        for log in logs:
            assert (await log.wait(REMOVED, 3))["id"] == "17"
        ack = await (await late.subscribed(channel)).wait(SUCCEEDED)
        assert sorted(ack["members"]) == sorted([*staying[1:], "late"])
        for log in logs:
            await log.wait(ADDED, 5 + (log is logs[0]))
            assert len(log.named(REMOVED)) == 3


async def test_coming_and_going_of_one_user_on_both_nodes_is_told_in_pairs(
    nodes: Cluster, node: Library, name: str
) -> None:
    """Whoever watches sees 17 come and go in turn, however the two nodes' news cross."""
    channel = f"presence-{name}"
    watchers = [await node.opened(each, member={"user_id": f"watcher{n}"}) for n, each in enumerate((nodes.a, nodes.b))]
    logs = [await each.subscribed(channel) for each in watchers]
    tabs = [await node.opened(each, member={"user_id": "17"}) for each in (nodes.a, nodes.b)]
    for _ in range(10):
        await asyncio.gather(*(tab.subscribe(channel) for tab in tabs))
        await asyncio.gather(*(tab.unsubscribe(channel) for tab in tabs))
    for tab in tabs:
        await tab.disconnect()
    last = await node.opened(nodes.a, member={"user_id": "last"})
    await last.subscribed(channel)

    async def alone(watcher: Client) -> bool:
        return sorted((await watcher.members(channel))["members"]) == ["last", "watcher0", "watcher1"]

    for watcher, log in zip(watchers, logs, strict=True):
        await until(partial(alone, watcher), what="the last alone with the watchers")
        told = [each.name for each in log if each.data.get("id") == "17"]
        assert told == ([ADDED, REMOVED] * len(told))[: len(told)]


async def test_five_thousand_members(nodes: Cluster, redis: RedisServer, node: Library, name: str) -> None:
    """A third node has all but two; the channel is full then, but for those who are there."""
    channel, inside = f"presence-{name}", f"app{CROWDED.id}:presence-{name}"
    shard = one_server(redis.url, prefix="pusher")
    presence = RedisPresence(shard)
    await shard.start()
    await presence.start("third", lambda *_: None)
    try:
        infos = [_info(number) for number in range(CROWD)]
        for begin in range(0, CROWD, 500):
            await asyncio.gather(*(presence.add(inside, info) for info in infos[begin : begin + 500]))
        client = await node.opened(nodes.a, CROWDED, member={"user_id": "17"})
        ack = await (await client.subscribed(channel)).wait(SUCCEEDED)
        assert ack["count"] == len(ack["members"]) == CROWD + 1
        assert ack["members"]["user4242"] == {"n": 4242}
        async with raw(nodes.b, CROWDED) as other:
            await other.subscribe(channel, json.dumps({"user_id": "one more"}))
            error = await other.wait("pusher:subscription_error", channel)
            assert error["data"]["type"] == "LimitReached"
            await other.subscribe(channel, json.dumps({"user_id": "17"}))
            ack = await other.wait("pusher_internal:subscription_succeeded", channel)
            assert json.loads(ack["data"])["presence"]["count"] == CROWD + 1
    finally:
        await presence.close()
        await shard.close()


def _info(number: int) -> ClientInfo:
    return ClientInfo(f"user{number}", f"1.{number}", conn_info=Payload(b'{"n":%d}' % number))
