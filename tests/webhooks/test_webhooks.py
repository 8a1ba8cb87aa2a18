"""Two nodes over a real Redis, and what a real receiver gets of what happens on them."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from gateway.apps.base import App
from gateway.blocks.none import NoBlocks
from gateway.brokers.memory import MemoryBroker
from gateway.brokers.redis import RedisBroker
from gateway.config.settings import Settings
from gateway.core.node import Node
from gateway.errors import BrokerUnavailable
from gateway.leases.memory import MemoryLeases
from gateway.leases.redis import RedisLeases
from gateway.messages import ClientInfo
from gateway.outbox.memory import MemoryOutbox
from gateway.outbox.redis import RedisOutbox
from gateway.presence.memory import MemoryPresence
from gateway.presence.redis import RedisPresence
from gateway.redis.owned import Intervals
from gateway.webhooks import open_webhooks
from gateway.webhooks.webhooks import Webhooks
from tests.outbox.test_redis import die
from tests.proxies.backend import Backend, Raw, backend_running
from tests.redis_fixtures import started_shard
from tests.redis_server import RedisServer
from tests.waiting import until
from tests.webhooks.rig import FakeApps, an_app


class Running:
    """A node with its webhooks."""

    node: Node

    def __init__(self, shard: Any, apps: FakeApps, **settings: Any) -> None:
        self.outbox = RedisOutbox(shard, intervals=Intervals(0.5, 0.1, 0.1))
        self.leases = RedisLeases(shard, ttl=0.5)
        self.webhooks = Webhooks(self.outbox, self.leases, lambda: self.node, lambda: apps, unnamed=True)
        made = Settings.model_validate({"pusher": {"enabled": True, "webhooks": {"vacated_delay": 0.1, **settings}}})
        presence = self.webhooks.presence(RedisPresence(shard))
        self.node = Node(made, RedisBroker(shard), presence, blocks=NoBlocks())
        self.node.feeds._linger = 0.0


@asynccontextmanager
async def running(server: RedisServer, app: App, **settings: Any) -> AsyncIterator[Running]:
    async with started_shard(server.url, io_timeout=0.5) as shard:
        made = Running(shard, FakeApps(app), **settings)
        async with AsyncExitStack() as stack:
            await made.node.start()
            stack.push_async_callback(made.node.stop)
            await made.webhooks.start()
            stack.push_async_callback(made.webhooks.close)
            yield made


@pytest.fixture
async def receiver() -> AsyncIterator[Backend]:
    async with backend_running() as backend:
        yield backend


def told(receiver: Backend) -> list[dict[str, Any]]:
    """Each event once, as those who heed its id have it."""
    seen: dict[str, dict[str, Any]] = {}
    for asked in receiver.asked:
        [ids] = asked.header("X-Gateway-Delivery")
        seen.update(zip(ids.split(","), asked.body["events"], strict=True))
    return list(seen.values())


def names(receiver: Backend) -> list[str]:
    return [f"{each['name']} {each['channel']} {each.get('user_id', '')}".strip() for each in told(receiver)]


async def test_what_happens_on_two_nodes_is_told_once(server: RedisServer, receiver: Backend) -> None:
    app = an_app("9001", receiver.url, namespace="shop", enable_subscription_counts=True)
    async with running(server, app) as one, running(server, app) as two:
        for each in (one, two):
            await each.node.feeds.hold("shop:presence-a")
            await each.node.presence_store.add("shop:presence-a", ClientInfo(user="17", client=f"c{each.node.uid}"))
            each.webhooks.cache_miss(app, "presence-a", "epoch:1")
            each.node.rosters.counts.on_count("shop:news", 2)
        await until(lambda: len(told(receiver)) >= 4)
        for each in (one, two):
            await each.node.presence_store.remove("shop:presence-a", f"c{each.node.uid}")
            each.node.feeds.release("shop:presence-a")
        await until(lambda: len(told(receiver)) >= 6)
    assert sorted(names(receiver)) == [
        "cache_miss presence-a",
        "channel_occupied presence-a",
        "channel_vacated presence-a",
        "member_added presence-a 17",
        "member_removed presence-a 17",
        "subscription_count news",
    ]


async def test_client_events_are_told_with_their_data_as_text(server: RedisServer, receiver: Backend) -> None:
    app = an_app("9001", receiver.url)
    async with running(server, app) as one:
        one.webhooks.client_event(app, "presence-a", "client-x", '{"on": true}', "1.2", "17")
        one.webhooks.client_event(app, "private-a", "client-x", '"t\\u00e9xt"', "1.2", "")
        await until(lambda: len(told(receiver)) == 2)
    event = {"name": "client_event", "event": "client-x", "socket_id": "1.2"}
    assert told(receiver) == [
        {**event, "channel": "presence-a", "data": '{"on": true}', "user_id": "17"},
        {**event, "channel": "private-a", "data": "téxt"},
    ]


async def test_where_a_node_dies_the_other_tells(server: RedisServer, receiver: Backend) -> None:
    app = an_app("9001", receiver.url)
    async with running(server, app) as one:
        async with running(server, app) as two:
            await two.node.feeds.hold("news")
            await two.node.feeds.hold("both")
            await one.node.feeds.hold("both")
            await until(lambda: len(told(receiver)) == 2)
            await die(two.outbox)
            await until(lambda: len(told(receiver)) == 3)
        assert names(receiver)[2:] == ["channel_vacated news"]
        one.node.feeds.release("both")
        await until(lambda: len(told(receiver)) == 4)
    assert names(receiver)[3:] == ["channel_vacated both"]


async def test_a_node_that_stops_leaves_and_who_goes_on_elsewhere_has_not_been_away(
    server: RedisServer, receiver: Backend
) -> None:
    app = an_app("9001", receiver.url)
    async with running(server, app, vacated_delay=2) as one:
        async with running(server, app, vacated_delay=2) as two:
            for channel in ("stays", "goes"):
                await two.node.feeds.hold(channel)
            await until(lambda: len(told(receiver)) == 2)
        await one.node.feeds.hold("stays")
        await until(lambda: len(told(receiver)) == 3)
        assert names(receiver)[2:] == ["channel_vacated goes"]


async def test_what_is_not_taken_is_told_again(server: RedisServer, receiver: Backend) -> None:
    receiver.answers["/"] = [Raw(503), Raw(body=None), {}]
    app = an_app("9001", receiver.url)
    async with running(server, app) as one:
        one.webhooks.cache_miss(app, "cache-a", "1")
        await until(lambda: one.node.metrics.webhook_events["told"] == 1)
        assert one.node.metrics.webhook_requests == {"status": 1, "connection": 1, "told": 1}
    assert len({asked.header("X-Gateway-Delivery")[0] for asked in receiver.asked}) == 1
    assert [asked.header("X-Gateway-Attempt") for asked in receiver.asked] == [["1"], ["2"], ["3"]]


async def test_what_cannot_be_kept_is_counted(
    server: RedisServer, receiver: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = an_app("9001", receiver.url)
    async with running(server, app) as one:

        async def away(*_: object) -> None:
            raise BrokerUnavailable

        monkeypatch.setattr(one.outbox, "add", away)
        one.webhooks.cache_miss(app, "cache-a", "1")
        await until(lambda: one.node.metrics.webhook_events["lost"] == 1)
        monkeypatch.setattr("gateway.webhooks.webhooks.UNDER_WAY", 0)
        one.webhooks.cache_miss(app, "cache-a", "1")
        assert one.node.metrics.webhook_events["lost"] == 2
    assert "webhooks of app 9001" in caplog.text


async def test_an_app_without_webhooks_costs_nothing(server: RedisServer) -> None:
    app = an_app(webhooks=[])
    async with running(server, app) as one:
        await one.node.feeds.hold("news")
        one.webhooks.client_event(app, "private-a", "client-x", "1", "1.2", "")
        one.webhooks.cache_miss(app, "cache-a", "1")
        one.node.rosters.counts.on_count("news", 1)
        assert not one.webhooks._work.running | one.webhooks._keeping.running
        assert await one.outbox.pending() == []


async def test_nobody_looks_for_what_is_due_before_an_app_has_a_webhook() -> None:
    looks = 0

    class Outbox(MemoryOutbox):
        async def pending(self) -> list[str]:
            nonlocal looks
            looks += 1
            return await super().pending()

    def settings(*hooks: dict[str, str]) -> Settings:
        app = {"id": "9001", "key": "key", "secret": "s3cr3t", "webhooks": hooks}
        return Settings.model_validate({"pusher": {"enabled": True, "apps": [app]}})

    node = Node(settings(), MemoryBroker(), MemoryPresence(), blocks=NoBlocks())
    webhooks = Webhooks(Outbox(), MemoryLeases(), lambda: node, lambda: FakeApps(an_app()))
    await node.start()
    await webhooks.start()
    webhooks.reload()
    for _ in range(10):
        await asyncio.sleep(0)
    assert looks == 0
    node.reload(settings({"url": "http://127.0.0.1:1/hooks"}))
    webhooks.reload()
    await until(lambda: looks)
    await webhooks.close()
    await node.stop()


def test_without_apps_or_an_outbox_there_are_no_webhooks(server: RedisServer) -> None:
    def nothing() -> Any:
        raise AssertionError

    assert open_webhooks(Settings().pusher, None, nothing, nothing, nothing) is None  # type: ignore[arg-type]
    enabled = Settings.model_validate({"pusher": {"enabled": True}}).pusher
    assert open_webhooks(enabled, None, nothing, nothing, nothing) is None  # type: ignore[arg-type]


def test_without_an_http_client_they_are_not_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="gateway.webhooks")
    monkeypatch.setitem(sys.modules, "gateway.webhooks.webhooks", None)
    enabled, nothing = Settings.model_validate({"pusher": {"enabled": True}}).pusher, None
    assert open_webhooks(enabled, MemoryOutbox(), nothing, nothing, nothing) is None  # type: ignore[arg-type]
    assert 'pip install "wsgateway[proxy]"' in caplog.text
