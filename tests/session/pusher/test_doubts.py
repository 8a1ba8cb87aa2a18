"""Who is put into presence and never comes, and what cannot be announced: rosters that have read of it are mended."""

import asyncio
import json
from collections.abc import Callable, Coroutine

import pytest

from gateway.core.doubts import NOTICE
from gateway.errors import BrokerUnavailable
from tests.session.pusher.rig import PusherClient, PusherRig

HISTORY = {"history_size": 10, "history_ttl": 60}
CHANNEL = "presence-room"
ROOM = f"shop:{CHANNEL}"

End = Callable[[PusherClient], Coroutine[None, None, None]]


def names(client: PusherClient) -> list[tuple[str, str]]:
    """What a client has been told of others."""
    told = [each for each in client.take() if "member_" in each["event"]]
    return [(each["event"].removeprefix("pusher_internal:"), json.loads(each["data"])["user_id"]) for each in told]


async def after(rig: PusherRig, seconds: float) -> None:
    for _ in range(round(seconds)):
        rig.pass_time(1)
        await rig.settle()


async def ended(client: PusherClient) -> None:
    """By the server."""
    client.session.subscriptions[ROOM].end()


async def closed(client: PusherClient) -> None:
    await client.session.end()


async def failed(client: PusherClient) -> None:
    client.rig.broker.faults["read"] = BrokerUnavailable()


@pytest.mark.parametrize("ends", [ended, closed, failed])
async def test_one_that_ends_before_it_starts_is_nobodys_ghost(ends: End) -> None:
    """Members are read while it is in presence; clients of Centrifugo are told of no leave, as of no join."""
    rig = await PusherRig.start(namespace=HISTORY)
    notices: list[str] = []
    rig.node.cluster.listeners[NOTICE] = notices.append  # so that this node does without
    watcher, client = rig.enter(), rig.enter()
    await watcher.join(CHANNEL, "23")
    gate = rig.broker.gate("read", ROOM)
    channel_data = json.dumps({"user_id": "17"})
    subscribing = asyncio.ensure_future(client.subscribe(CHANNEL, channel_data))
    await gate.reached()
    rig.node.on_gap()
    for _ in range(30):  # the subscribe is at work all the time, so that there is no waiting for what is
        rig.pass_time(0.1)
        await asyncio.sleep(0)
    assert names(watcher) == [("member_added", "17")]
    leaves = rig.broker.calls["leave"]
    ending = asyncio.ensure_future(ends(client))
    await asyncio.sleep(0)
    gate.open()
    await asyncio.gather(subscribing, ending)
    assert names(watcher) == [("member_removed", "17")]
    await after(rig, 1)
    assert [json.loads(each) for each in notices] == [{ROOM: client.session.client}]
    assert rig.broker.calls["leave"] == leaves
    assert [*await rig.presence.members(ROOM)] == [watcher.session.client]


async def test_who_comes_after_all_stays() -> None:
    """A doubt that comes late harms nobody."""
    rig = await PusherRig.start(namespace=HISTORY)
    watcher, client = rig.enter(), rig.enter()
    await watcher.join(CHANNEL, "23")
    await client.join(CHANNEL, "17")
    assert names(watcher) == [("member_added", "17")]
    rig.node.doubt(ROOM, client.session.client)
    await after(rig, 4)
    assert names(watcher) == []


@pytest.mark.parametrize("step", ["join", "leave"])
async def test_what_cannot_be_announced_is_found_out(step: str) -> None:
    """A roster that heard nothing of it reads anew, once the broker is back."""
    rig = await PusherRig.start()
    client = rig.enter()
    if step == "leave":
        await client.join(CHANNEL, "17")
    roster = await rig.node.rosters.hold(ROOM)
    reads = 0
    members = rig.presence.members

    async def counted(channel: str, at_most: int = 0) -> object:
        nonlocal reads
        reads += 1
        return await members(channel, at_most)

    rig.presence.members = counted  # type: ignore[method-assign,assignment]
    rig.broker.faults |= dict.fromkeys((step, "control"), BrokerUnavailable())
    if step == "join":
        await client.join(CHANNEL, "17")
    else:
        await client.leave()
    await after(rig, 1)
    rig.broker.faults.clear()
    reads = 0
    await after(rig, 6)
    assert roster.has("17") == (step == "join")
    assert reads > 0


async def test_a_gateway_without_this_protocol_tells_nothing_of_it() -> None:
    rig = await PusherRig.start()
    rig.node.settings = rig.node.settings.model_copy(
        update={"pusher": rig.node.settings.pusher.model_copy(update={"enabled": False})}
    )
    rig.node.doubt(ROOM)
    calls = rig.broker.calls["control"]
    await after(rig, 2)
    assert rig.broker.calls["control"] == calls
