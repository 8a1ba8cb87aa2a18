"""A position that is lost is made good by the session."""

import asyncio
import json

import pytest

from gateway.errors import BrokerUnavailable
from gateway.messages import ClientInfo, Payload, Position, Publication
from tests.session.pusher.rig import PusherRig, event

HISTORY = {"history_size": 3, "history_ttl": 60}


async def behind_its_back(rig: PusherRig, *values: str) -> None:
    """Publish to where nobody hears it."""
    deliver, rig.node.deliver = rig.node.deliver, lambda name, publication: None
    for each in values:
        await rig.say("news", each)
    rig.node.deliver = deliver


async def test_what_was_missed_is_sent_and_delivery_goes_on() -> None:
    rig = await PusherRig.start(namespace=HISTORY)
    plain, resuming = rig.enter(), rig.enter(resumes=True)
    for each in (plain, resuming):
        await each.subscribe("news")
    await rig.say("news", "1")
    assert plain.take() == [event("news", "1")]
    await behind_its_back(rig, "2")
    await rig.say("news", "3")
    await rig.settle()
    await rig.say("news", "4")
    assert plain.take() == [event("news", each) for each in "234"]
    epoch = (await rig.position("shop:news")).epoch
    assert resuming.take()[1:] == [event("news", str(each), offset=each, epoch=epoch) for each in (2, 3, 4)]
    await plain.leave()
    await resuming.leave()
    await rig.assert_empty()


async def test_nobody_in_the_room_hears_of_it() -> None:
    rig = await PusherRig.start(namespace=HISTORY)
    client, other = rig.enter(), rig.enter()
    await client.join("presence-news", "17")
    await other.join("presence-news", "23")
    client.take()
    channel = rig.node.hub.channels["shop:presence-news"]
    rig.node.hub.lose(channel, list(channel.audiences))
    await rig.settle()
    await rig.say("presence-news", "1")
    assert client.take() == other.take() == [event("presence-news", "1")]


async def test_who_has_missed_more_than_there_is_connects_anew() -> None:
    rig = await PusherRig.start(namespace=HISTORY)
    client = rig.enter()
    await client.subscribe("news")
    await rig.say("news", "1")
    await behind_its_back(rig, *"23456")
    await rig.say("news", "7")
    await rig.settle()
    assert client.closed is not None
    assert client.closed[0] == 4200
    assert client.take() == [event("news", "1")]


async def test_a_broker_that_is_away_is_asked_again() -> None:
    rig = await PusherRig.start(namespace=HISTORY)
    client = rig.enter()
    await client.subscribe("news")
    await rig.say("news", "1")
    await behind_its_back(rig, "2")
    rig.broker.faults["history"] = BrokerUnavailable()
    await rig.say("news", "3")
    await rig.settle()
    assert client.take() == [event("news", "1")]
    rig.broker.faults.clear()
    rig.pass_time(4)
    await rig.settle()
    assert client.take() == [event("news", "2"), event("news", "3")]


async def test_one_that_has_ended_meanwhile_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    rig = await PusherRig.start(namespace=HISTORY)
    client = rig.enter()
    await client.subscribe("news")
    await rig.say("news", "1")
    gate = rig.broker.gate("history", "shop:news")
    channel = rig.node.hub.channels["shop:news"]
    rig.node.hub.lose(channel, list(channel.audiences))
    await gate.reached()
    await client.session.end()
    gate.open()
    await rig.assert_empty()
    assert caplog.records == []


async def test_a_gap_that_the_stream_shows() -> None:
    rig = await PusherRig.start(namespace=HISTORY)
    client = rig.enter()
    await client.subscribe("news")
    await rig.say("news", "1")
    far = Publication(Payload(b"9"), offset=9, epoch="another")
    rig.node.on_publication("shop:news", far)
    await rig.settle()
    assert client.closed is None
    assert client.take() == [event("news", "1")]
    place = rig.node.hub.place(client.session.subscriptions["shop:news"])
    assert place == Position(1, (await rig.position("shop:news")).epoch)


async def test_a_stream_that_cannot_be_read_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    rig = await PusherRig.start(namespace=HISTORY)
    client = rig.enter()
    await client.subscribe("news")
    await rig.say("news", "1")
    rig.broker.faults["history"] = RuntimeError("of ours")
    channel = rig.node.hub.channels["shop:news"]
    rig.node.hub.lose(channel, list(channel.audiences))
    await rig.settle()
    assert client.closed == (4100, "internal server error")
    assert "cannot be read" in caplog.text


async def test_what_is_missing_between_ends_the_connection() -> None:
    rig = await PusherRig.start(namespace=HISTORY)
    client = rig.enter()
    await client.subscribe("news")
    await rig.say("news", "1")
    epoch = (await rig.position("shop:news")).epoch
    gate = rig.broker.gate("read", "shop:news")
    channel = rig.node.hub.channels["shop:news"]
    rig.node.hub.lose(channel, list(channel.audiences))
    await gate.reached()
    rig.node.on_publication("shop:news", Publication(Payload(b"9"), offset=9, epoch=epoch))
    gate.open()
    await rig.settle()
    assert client.closed == (4200, "insufficient state")


async def test_one_that_expires_has_its_client_connect_anew() -> None:
    rig = await PusherRig.start(client={"expired_sub_close_delay": 1})
    client = rig.enter()
    await client.subscribe("news")
    client.session.subscriptions["shop:news"].expire(int(rig.clock()) + 1)
    rig.pass_time(5)
    assert client.closed == (4200, "subscription expired")


async def test_who_came_and_went_while_a_position_was_lost_is_told() -> None:
    rig = await PusherRig.start(namespace=HISTORY)
    client, ivo, noor = rig.enter(), rig.enter(), rig.enter()
    await client.join("presence-news", "17")
    await ivo.join("presence-news", "23", n=1)
    await noor.join("presence-news", "42", n=1)
    client.take()
    gate = rig.broker.gate("history", "shop:presence-news")
    channel = rig.node.hub.channels["shop:presence-news"]
    rig.node.hub.lose(channel, [key for key, each in channel.audiences.items() if each.members])
    await gate.reached()
    await asyncio.gather(ivo.session.end(), noor.session.end())
    roster = await rig.node.rosters.hold("shop:presence-news")
    roster.joined(ClientInfo("99", "far.1"))
    roster.joined(ClientInfo("42", "far.2", Payload(b'{"n":2}')))
    gate.open()
    await rig.settle()
    roster.joined(ClientInfo("100", "far.3"))
    told = [(each["event"].removeprefix("pusher_internal:"), json.loads(each["data"])) for each in client.take()]
    assert told == [
        ("member_removed", {"user_id": "23"}),
        ("member_removed", {"user_id": "42"}),
        ("member_added", {"user_id": "99", "user_info": None}),
        ("member_added", {"user_id": "42", "user_info": {"n": 2}}),
        ("member_added", {"user_id": "100", "user_info": None}),
    ]
