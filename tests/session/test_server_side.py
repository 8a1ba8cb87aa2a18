"""Subscriptions that the server API gives and takes away while a client is connected."""

import asyncio
import logging
from typing import Any

import pytest

from gateway.core.cluster import SubscribeUser, UnsubscribeUser
from gateway.errors import BrokerUnavailable
from gateway.messages import Payload, Position, Publication
from tests.session.rig import NOW, Client, Rig


async def given(channel: str, *, published: int = 0, **command: Any) -> tuple[Rig, Client]:
    """A client that the server has subscribed."""
    rig = await Rig.open(ping_interval=0, pong_timeout=0)
    client = await rig.connected("alice")
    if published:
        await rig.publish(channel, *range(1, published + 1))
    rig.control(SubscribeUser(user="alice", channel=channel, **command))
    await rig.settle()
    return rig, client


def taken(channel: str) -> UnsubscribeUser:
    return UnsubscribeUser(user="alice", channel=channel, code=2000, reason="server unsubscribe")


UNSUBSCRIBED = {"code": 2000, "reason": "server unsubscribe"}


async def test_a_subscription_is_pushed_and_lives() -> None:
    rig, client = await given("closed:1", data=Payload(b'{"why":"admin"}'))
    assert client.take() == [{"channel": "closed:1", "subscribe": {"data": {"why": "admin"}}}]
    await rig.publish("closed:1", "hello")
    assert client.data() == ["hello"]
    await client.leave()
    await rig.assert_empty()


async def test_it_tells_its_position() -> None:
    rig, client = await given("room:1", published=2)
    epoch = (await rig.position("room:1")).epoch
    subscribe = {"recoverable": True, "epoch": epoch, "offset": 2, "positioned": True}
    assert client.take() == [{"channel": "room:1", "subscribe": subscribe}]


async def test_options_may_be_changed() -> None:
    override = {"presence": True, "join_leave": True, "force_push_join_leave": True, "force_positioning": True}
    rig, client = await given("users:1", override=override, info=Payload(b"[1]"))
    subscribe, join = client.take()
    assert subscribe["subscribe"]["positioned"] is True
    assert join["join"]["info"] == {"user": "alice", "client": client.session.client, "chan_info": [1]}
    assert len(await rig.presence.members("users:1")) == 1


async def test_publications_missed_since_follow_the_push() -> None:
    rig = await Rig.open()
    client = await rig.connected("alice")
    top = await rig.publish("room:1", 1, 2, 3)
    rig.control(SubscribeUser(user="alice", channel="room:1", since=Position(1, top.epoch)))
    await rig.settle()
    subscribe, *publications = client.take()
    assert subscribe["subscribe"]["offset"] == 1
    assert [push["pub"]["offset"] for push in publications] == [2, 3]
    await rig.publish("room:1", 4)
    assert client.data() == [4]


async def test_binary_publications_missed_since_end_the_connection() -> None:
    rig = await Rig.open()
    client = await rig.connected("alice")
    position = await rig.publish("room:1", 1)
    await rig.node.publish(rig.node.channels.resolve("room:1"), Publication(Payload(b"\x00"), binary=True))
    rig.control(SubscribeUser(user="alice", channel="room:1", since=position))
    await rig.settle()
    assert client.closed == (3506, "inappropriate protocol")
    await client.leave()
    await rig.assert_empty()


@pytest.mark.parametrize("by_client", [True, False])
async def test_who_is_subscribed_already_is_told_again(by_client: bool) -> None:
    rig = await Rig.open(ping_interval=0, pong_timeout=0)
    client = await rig.connected("alice")
    if by_client:
        await client.subscribe("news")
    else:
        rig.control(SubscribeUser(user="alice", channel="news"))
    await rig.settle()
    client.take()
    rig.control(SubscribeUser(user="alice", channel="news", data=Payload(b"1")))
    await rig.settle()
    assert client.take() == [{"channel": "news", "subscribe": {"data": 1}}]
    await rig.publish("news", "once")
    assert client.data() == ["once"]


async def test_it_is_told_where_it_stands_behind_what_it_has_been_sent() -> None:
    rig, client = await given("room:1", published=2)
    epoch = (await rig.position("room:1")).epoch
    client.take()
    rig.control(SubscribeUser(user="alice", channel="room:1"))
    await rig.settle()
    told = {"recoverable": True, "epoch": epoch, "offset": 2, "positioned": True}
    assert client.take() == [{"channel": "room:1", "subscribe": told}]
    rig.node.deliver("room:1", Publication(Payload(b"3"), offset=3, epoch=epoch))
    rig.control(SubscribeUser(user="alice", channel="room:1"))  # while that waits for the end of the tick
    await rig.settle()
    publication, push = client.take()
    assert publication["pub"]["offset"] == 3
    assert push["subscribe"] == {**told, "offset": 3}


async def test_it_may_be_told_that_its_subscription_ends() -> None:
    rig, client = await given("news")
    rig.control(SubscribeUser(user="alice", channel="news", expire_at=int(NOW) + 5))
    await rig.settle()
    rig.pass_time(40)
    assert client.closed == (3006, "subscription expired")


async def test_expiry_ends_the_connection() -> None:
    rig, client = await given("news", expire_at=int(NOW) + 10)
    rig.pass_time(34.8)
    assert client.closed is None
    rig.pass_time(0.5)
    assert client.closed == (3006, "subscription expired")


async def test_an_expiring_one_may_be_refreshed() -> None:
    rig, client = await given("news", expire_at=int(NOW) + 10)
    token = rig.channel_token("news", ttl=60)
    assert (await client.ask("sub_refresh", channel="news", token=token))["sub_refresh"]["ttl"] == 60
    rig.pass_time(40)
    assert client.closed is None


async def test_too_many() -> None:
    rig = await Rig.open(channel_limit=1)
    client = await rig.connected("alice")
    await client.subscribe("news")
    rig.control(SubscribeUser(user="alice", channel="other"))
    await rig.settle()
    assert client.closed == (3505, "channel limit")
    await client.leave()
    await rig.assert_empty()


async def test_the_broker_away(caplog: pytest.LogCaptureFixture) -> None:
    rig = await Rig.open()
    client = await rig.connected("alice")
    rig.broker.faults["history"] = BrokerUnavailable()
    with caplog.at_level(logging.WARNING):
        rig.control(SubscribeUser(user="alice", channel="room:1"))
        await rig.settle()
    assert len(caplog.records) == 1
    assert (client.take(), client.closed, client.session.subscriptions) == ([], None, {})
    await client.leave()
    await rig.assert_empty()


async def test_an_unknown_channel_is_not_a_crash(caplog: pytest.LogCaptureFixture) -> None:
    """Nodes may know different namespaces while new settings are rolled out."""
    with caplog.at_level(logging.ERROR):
        _, client = await given("nope:1")
    assert (client.take(), client.closed, caplog.records) == ([], None, [])


async def test_a_gap_meanwhile() -> None:
    rig = await Rig.open()
    client = await rig.connected("alice")
    await (await rig.connected("bob")).subscribe("room:1")
    gate = rig.broker.gate("read", "room:1")
    rig.control(SubscribeUser(user="alice", channel="room:1"))
    await gate.reached()
    rig.broker.heard.discard("room:1")
    await rig.publish("room:1", 1)
    rig.broker.heard.add("room:1")
    await rig.publish("room:1", 2)
    gate.open()
    await rig.settle()
    assert (client.closed, client.take()) == ((3010, "insufficient state"), [])


# — taken away —


@pytest.mark.parametrize("channel", ["news", "room:1", "lobby:1"])
@pytest.mark.parametrize("by_client", [True, False])
async def test_taken_away(channel: str, by_client: bool) -> None:
    rig = await Rig.open()
    client = await rig.connected("alice")
    if by_client:
        await client.subscribe(channel)
    else:
        rig.control(SubscribeUser(user="alice", channel=channel))
        await rig.settle()
    client.take()
    rig.control(taken(channel))
    await rig.settle()
    await rig.publish(channel, 1)
    assert client.take() == [{"channel": channel, "unsubscribe": UNSUBSCRIBED}]
    assert client.session.subscriptions == {}
    await client.leave()
    await rig.assert_empty()


async def test_taken_away_and_unsubscribed_at_once() -> None:
    rig = await Rig.open()
    client, other = await rig.connected("alice"), await rig.connected("bob")
    await other.subscribe("lobby:1")
    await client.subscribe("lobby:1")
    for each in (client, other):
        each.take()
    rig.control(taken("lobby:1"))
    rig.control(taken("lobby:1"))
    assert await client.ask("unsubscribe", channel="lobby:1") == {"unsubscribe": {}}
    await rig.settle()
    assert [list(push) for push in other.take()] == [["channel", "leave"]]
    for each in (client, other):
        await each.leave()
    await rig.assert_empty()


async def test_what_was_not_there_is_taken_away_too() -> None:
    rig = await Rig.open()
    client = await rig.connected("alice")
    client.take()
    rig.control(taken("news"))
    assert client.take() == [{"channel": "news", "unsubscribe": UNSUBSCRIBED}]


@pytest.mark.parametrize("code", [2000, 2500, 2501, 2502, 2999])
async def test_the_code_is_the_callers(code: int) -> None:
    rig, client = await given("news")
    client.take()
    rig.control(UnsubscribeUser(user="alice", channel="news", code=code, reason="why not"))
    assert client.take() == [{"channel": "news", "unsubscribe": {"code": code, "reason": "why not"}}]
    await rig.settle()


async def test_no_publication_follows_the_push() -> None:
    """Not even in the tick in which something else was to be written anyway."""
    rig = await Rig.open()
    client = await rig.connected("alice")
    await client.subscribe("news")
    client.take()
    rig.node.hub.post(client.session, b'{"id":99}')
    rig.control(taken("news"))
    await rig.publish("news", "too late")
    await rig.settle()
    assert client.take() == [{"id": 99}, {"channel": "news", "unsubscribe": UNSUBSCRIBED}]


async def test_after_the_push_the_client_may_subscribe_again() -> None:
    rig = await Rig.open()
    client = await rig.connected("alice")
    await client.subscribe("lobby:1")
    rig.control(taken("lobby:1"))
    await rig.settle()
    await client.subscribe("lobby:1")
    assert len(await rig.presence.members("lobby:1")) == 1
    client.take()
    await rig.publish("lobby:1", "again")
    assert client.data() == ["again"]
    await client.leave()
    await rig.assert_empty()


# — the client acts while the server gives —


@pytest.mark.parametrize("step", ["subscribe", "history", "read"])
async def test_unsubscribed_by_the_client_meanwhile(step: str) -> None:
    rig = await Rig.open()
    client = await rig.connected("alice")
    client.take()
    gate = rig.broker.gate(step, "room:1")
    rig.control(SubscribeUser(user="alice", channel="room:1"))
    await gate.reached()
    rig.node.spawn(client.say({"id": 9, "unsubscribe": {"channel": "room:1"}}))
    gate.open()
    await rig.settle()
    messages = client.take()
    assert {"id": 9, "unsubscribe": {}} in messages
    after = messages[messages.index({"id": 9, "unsubscribe": {}}) + 1 :]
    assert after == []
    await rig.publish("room:1", "unheard")
    assert (client.take(), client.session.subscriptions) == ([], {})
    await client.leave()
    await rig.assert_empty()


async def test_subscribed_by_the_client_meanwhile() -> None:
    rig = await Rig.open()
    client = await rig.connected("alice")
    client.take()
    gate = rig.broker.gate("read", "room:1")
    rig.control(SubscribeUser(user="alice", channel="room:1"))
    await gate.reached()
    assert await client.refused("subscribe", channel="room:1") == 105
    gate.open()
    await rig.settle()
    assert list(client.take()[0]) == ["channel", "subscribe"]


@pytest.mark.parametrize("failure", [BrokerUnavailable(), None], ids=["broker", "unrecovered"])
async def test_given_while_the_client_subscribes_it_outlives_the_failure_of_that(failure: Exception | None) -> None:
    rig = await Rig.open()
    client = await rig.connected("alice")
    client.take()
    gate = rig.broker.gate("history", "room:1")
    stood = {"recover": True, "offset": 9, "epoch": "gone", "flag": 2}
    asking = asyncio.create_task(client.say({"id": 9, "subscribe": {"channel": "room:1", **stood}}))
    await gate.reached()
    rig.control(SubscribeUser(user="alice", channel="room:1", data=Payload(b'"given"')))
    if failure is not None:
        rig.broker.faults["history"] = failure
    gate.open()
    await asking
    rig.broker.faults.clear()
    await rig.settle()
    refusal, given = client.take()
    assert refusal["error"]["code"] == (112 if failure is None else 100)
    assert given["subscribe"]["data"] == "given"
    await rig.publish("room:1", 1)
    assert client.data() == [1]


async def test_taken_away_meanwhile_it_is_not_given_any_more() -> None:
    rig = await Rig.open()
    client = await rig.connected("alice")
    gate = rig.broker.gate("history", "room:1")
    asking = asyncio.create_task(client.say({"id": 9, "subscribe": {"channel": "room:1"}}))
    await gate.reached()
    rig.control(SubscribeUser(user="alice", channel="room:1"))
    rig.control(UnsubscribeUser(user="alice", channel="room:1", code=2000, reason="server unsubscribe"))
    gate.open()
    await asking
    await rig.settle()
    assert client.session.subscriptions == {}


@pytest.mark.parametrize("step", ["subscribe", "history", "read"])
async def test_gone_meanwhile(step: str, caplog: pytest.LogCaptureFixture) -> None:
    rig = await Rig.open()
    client = await rig.connected("alice")
    client.take()
    gate = rig.broker.gate(step, "any:1")
    override = {"force_recovery": True, "join_leave": True}
    with caplog.at_level(logging.ERROR):
        rig.control(SubscribeUser(user="alice", channel="any:1", override=override))
        await gate.reached()
        await client.leave()
        gate.open()
        await rig.settle()
    assert (client.take(), caplog.records, rig.broker.calls["join"]) == ([], [], 0)
    await rig.assert_empty()
