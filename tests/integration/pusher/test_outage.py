"""Redis is away for a while: clients of Pusher, which nobody tells to try again, get what they have asked for."""

from asyncio import to_thread
from pathlib import Path

from tests.integration.pusher import apps
from tests.integration.pusher.application import Application
from tests.integration.pusher.apps import MAIN
from tests.integration.pusher.clients import ADDED, SUCCEEDED, Library
from tests.integration.pusher.requests import publish
from tests.integration.servers import Server, cluster
from tests.redis_server import RedisServer
from tests.waiting import until


async def test_subscriptions_that_are_wanted_in_an_outage(
    site: Application, tmp_path: Path, node: Library, name: str
) -> None:
    channel = f"presence-{name}"
    with RedisServer() as redis, cluster(tmp_path, apps.settings(redis.url, f"{site.url}/webhooks")) as nodes:
        clients = [
            await node.opened(each, member={"user_id": user}) for each, user in ((nodes.a, "17"), (nodes.b, "23"))
        ]
        logs = [await each.subscribed(channel) for each in clients]
        await logs[0].wait(ADDED)
        redis.kill()
        event = {"name": "e", "channel": name, "data": "1"}

        async def away() -> bool:
            return (await publish(nodes.a, event)).status_code == 503

        await until(away, what="the outage")
        wanted = [await clients[0].subscribe(each) for each in (name, f"private-{name}", f"cache-{name}")]
        redis.start()
        for log in wanted:
            await log.wait(SUCCEEDED, deadline=20.0)
        await until(lambda: _told(nodes.b, name), what="events again")
        await wanted[0].wait("e")
        late = await node.opened(nodes.b, member={"user_id": "42"})
        ack = await (await late.subscribed(channel)).wait(SUCCEEDED)
        assert sorted(ack["members"]) == ["17", "23", "42"]
        for log, others in zip(logs, (2, 1), strict=True):
            await log.wait(ADDED, others)
            assert log.names == [SUCCEEDED] + [ADDED] * others


async def _told(gateway: Server, channel: str) -> bool:
    await to_thread(MAIN.backend(gateway).trigger, channel, "e", {"n": 1})
    return True
