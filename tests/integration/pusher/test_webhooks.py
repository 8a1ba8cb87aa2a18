"""Webhooks of two gateways: what each of their events holds, once for the whole cluster."""

import json
from asyncio import to_thread
from typing import Any

import pusher

from tests.integration.pusher.application import Application
from tests.integration.pusher.apps import MAIN
from tests.integration.pusher.raw import RawPusher, raw
from tests.integration.servers import Cluster
from tests.waiting import until


async def subscribe(client: RawPusher, channel: str, user: str = "") -> None:
    await client.subscribe(channel, json.dumps({"user_id": user}) if user else "")
    await client.wait("pusher_internal:subscription_succeeded", channel)


async def test_channels_and_members_come_and_go_once(nodes: Cluster, site: Application, name: str) -> None:
    channel = f"presence-{name}"
    async with raw(nodes.a) as ann, raw(nodes.b) as again:
        for client in (ann, again):
            await subscribe(client, channel, "17")
            await subscribe(client, name)
        await site.until_told("channel_occupied", channel)
        await site.until_told("channel_occupied", name)
        await site.until_told("member_added", channel)
    await site.until_told("channel_vacated", channel)
    await site.until_told("channel_vacated", name)
    await site.until_told("member_removed", channel)
    async with raw(nodes.a) as last:
        await subscribe(last, f"{name}-last")
        await site.until_told("channel_occupied", f"{name}-last")
    for event in ("channel_occupied", "channel_vacated"):
        assert site.told(event, channel) == [{"name": event, "channel": channel}]
        assert site.told(event, name) == [{"name": event, "channel": name}]
    for event in ("member_added", "member_removed"):
        assert site.told(event, channel) == [{"name": event, "channel": channel, "user_id": "17"}]


async def test_who_returns_at_once_has_not_been_away(nodes: Cluster, site: Application, name: str) -> None:
    channel = f"presence-{name}"
    async with raw(nodes.a) as ann:
        await subscribe(ann, channel, "17")
        await site.until_told("member_added", channel)
        await site.until_told("channel_occupied", channel)
    async with raw(nodes.b) as ann:
        await subscribe(ann, channel, "17")
        await subscribe(ann, f"{name}-more")
        await site.until_told("channel_occupied", f"{name}-more")
        await ann.say("pusher:unsubscribe", {"channel": f"{name}-more"})
        await site.until_told("channel_vacated", f"{name}-more")
        for event in ("member_removed", "channel_vacated"):
            assert site.told(event, channel) == []
        assert len(site.told("member_added", channel)) == len(site.told("channel_occupied", channel)) == 1


async def test_client_events(nodes: Cluster, site: Application, name: str) -> None:
    private, presence = f"private-{name}", f"presence-{name}"
    async with raw(nodes.a) as ann:
        await subscribe(ann, private)
        await subscribe(ann, presence, "17")
        sent: list[tuple[str, Any]] = [(private, {"text": "✓", "n": 1}), (presence, "text")]
        for channel, data in sent:
            await ann.say("client-x", data, channel=channel)
        told = [(await site.until_told("client_event", channel))[0] for channel, _ in sent]
        assert [(each["event"], each["socket_id"]) for each in told] == [("client-x", ann.socket_id)] * 2
        assert json.loads(told[0]["data"]) == {"text": "✓", "n": 1}
        assert json.loads(told[1]["data"]) == "text" if told[1]["data"].startswith('"') else told[1]["data"] == "text"
        assert "user_id" not in told[0]
        assert told[1]["user_id"] == "17"


async def test_a_cache_is_missed_once_while_it_is_empty(
    nodes: Cluster, site: Application, backend: pusher.Pusher, name: str
) -> None:
    channel = f"cache-{name}"
    async with raw(nodes.a) as ann, raw(nodes.b) as bob:
        for client in (ann, bob):
            await client.subscribe(channel)
        for client in (ann, bob):
            await client.wait("pusher:cache_miss", channel)
        assert await site.until_told("cache_miss", channel) == [{"name": "cache_miss", "channel": channel}]
        await to_thread(backend.trigger, channel, "e", {})
        await site.until_told("channel_occupied", channel)
        async with raw(nodes.b) as late:
            await late.subscribe(channel)
            await late.wait("e", channel)
            assert len(site.told("cache_miss", channel)) == 1


async def test_subscription_counts(nodes: Cluster, site: Application, name: str) -> None:
    async with raw(nodes.a) as ann, raw(nodes.b) as bob:
        for client in (ann, bob):
            await subscribe(client, name)
        await until(
            lambda: (
                {"name": "subscription_count", "channel": name, "subscription_count": 2}
                in site.told("subscription_count", name)
            ),
            what="a count of two",
        )
        assert site.told("subscription_count", f"presence-{name}") == []


async def test_each_is_signed_by_the_key_of_the_app(nodes: Cluster, site: Application, name: str) -> None:
    async with raw(nodes.a) as ann:
        await subscribe(ann, name)
        await site.until_told("channel_occupied", name)
    assert {each.key for each in site.webhooks} == {MAIN.key}
    assert all(isinstance(json.loads(each.body)["time_ms"], int) for each in site.webhooks)
