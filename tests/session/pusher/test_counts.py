"""Subscription counts, as clients are told them."""

import asyncio
import json

from tests.session.pusher.rig import PusherClient, PusherRig


def counts(client: PusherClient) -> list[int]:
    found = [each for each in client.take() if each["event"] == "pusher_internal:subscription_count"]
    return [json.loads(each["data"])["subscription_count"] for each in found]


async def pass_time(rig: PusherRig) -> None:
    rig.pass_time(0.2)
    await rig.settle()


async def test_all_are_told_how_many_there_are() -> None:
    rig = await PusherRig.start(enable_subscription_counts=True, pusher={"subscription_counts": True})
    first, second = rig.enter(), rig.enter()
    await first.subscribe("news")
    await pass_time(rig)
    await second.subscribe("news")
    await pass_time(rig)
    assert counts(first)[-1] == 2
    await second.leave()
    await pass_time(rig)
    assert counts(first) == [1]
    await first.leave()
    await rig.assert_empty()


async def test_of_members_nobody_is_told_a_count() -> None:
    rig = await PusherRig.start(enable_subscription_counts=True, pusher={"subscription_counts": True})
    client = rig.enter()
    await client.join("presence-x", "17")
    await pass_time(rig)
    assert counts(client) == []


async def test_apps_without_counts() -> None:
    rig = await PusherRig.start(pusher={"subscription_counts": True})
    client = rig.enter()
    await client.subscribe("news")
    await pass_time(rig)
    assert counts(client) == []


async def test_who_had_lost_its_position_is_told_the_count_again() -> None:
    rig = await PusherRig.start(
        namespace={"history_size": 3, "history_ttl": 60},
        enable_subscription_counts=True,
        pusher={"subscription_counts": True},
    )
    first, second = rig.enter(), rig.enter()
    await first.subscribe("news")
    await second.subscribe("news")
    await pass_time(rig)
    counts(first)
    gate = rig.broker.gate("history", "shop:news")
    channel = rig.node.hub.channels["shop:news"]
    rig.node.hub.lose(channel, list(channel.audiences))
    await gate.reached()
    await second.session.end()
    for _ in range(20):
        rig.pass_time(0.1)
        await asyncio.sleep(0)
    assert counts(first) == []
    gate.open()
    await rig.settle()
    await pass_time(rig)
    assert counts(first) == [1]
