"""Counts of subscriptions."""

import json

from gateway.apps.static import StaticApps
from gateway.session.pusher import tell_counts
from tests.session.pusher.rig import PusherClient, PusherRig


def counts(client: PusherClient, channel: str = "news") -> list[int]:
    found = [each for each in client.take() if each["event"] == "pusher_internal:subscription_count"]
    assert all(each["channel"] == channel for each in found)
    return [json.loads(each["data"])["subscription_count"] for each in found]


async def test_all_are_told_how_many_there_are() -> None:
    rig = await PusherRig.start(enable_subscription_counts=True, pusher={"subscription_counts": True})
    tell_counts(rig.node, StaticApps(rig.settings.pusher))
    first, second = rig.enter(), rig.enter()
    await first.subscribe("news")
    rig.pass_time(0.2)
    await rig.settle()
    await second.subscribe("news")
    rig.pass_time(0.2)
    await rig.settle()
    assert counts(first)[-1] == 2
    await second.leave()
    rig.pass_time(0.2)
    await rig.settle()
    assert counts(first) == [1]
    assert rig.hooks.told[-1] == ("subscription_count", "9001", "news", "1")
    await first.leave()
    await rig.assert_empty()


async def test_of_members_nobody_is_told_a_count() -> None:
    rig = await PusherRig.start(enable_subscription_counts=True, pusher={"subscription_counts": True})
    client = rig.enter()
    await client.join("presence-x", "17")
    rig.pass_time(0.2)
    await rig.settle()
    assert counts(client) == []


async def test_apps_without_counts() -> None:
    rig = await PusherRig.start(pusher={"subscription_counts": True})
    tell_counts(rig.node, StaticApps(rig.settings.pusher))
    client = rig.enter()
    await client.subscribe("news")
    rig.pass_time(0.2)
    await rig.settle()
    assert (counts(client), rig.hooks.told) == ([], [])
