"""What may go wrong while a client connects, subscribes or publishes: failures, ends, and commands of the server."""

import asyncio
import logging
from typing import Any

import pytest

from gateway.brokers.publish_queue import PublishQueue
from gateway.core.cluster import DisconnectUser, RefreshUser, SubscribeUser, UnsubscribeUser
from gateway.errors import BrokerUnavailable, Stored
from gateway.session import State
from tests.session.rig import NOW, Client, Gate, Rig
from tests.waiting import until


async def alice(**settings: Any) -> Client:
    return await (await Rig.open(**settings)).connected("alice")


# — while it publishes —


async def taken(client: Client, count: int) -> list[dict[str, Any]]:
    """So many messages."""
    found: list[dict[str, Any]] = []

    def enough() -> bool:
        found.extend(client.take())
        return len(found) >= count

    await until(enough)
    return found


async def test_publications_wait_for_the_broker_in_their_order() -> None:
    rig = await Rig.open()
    client = await rig.connected("alice")
    await client.subscribe("room:1")
    rig.broker.faults["publish"] = BrokerUnavailable(stored="no")
    await client.say(*({"id": 10 + n, "publish": {"channel": "room:1", "data": n}} for n in range(5)))
    await until(lambda: rig.broker.calls["publish"] > 1)
    assert client.take() == []
    rig.broker.faults.clear()
    await client.say(*({"id": 10 + n, "publish": {"channel": "room:1", "data": n}} for n in range(5, 9)))
    assert (await client.ask("presence", channel="room:1"))["error"]["code"] == 108, "what is no publish goes on"
    told = await taken(client, 18)
    assert [each["pub"]["data"] for each in told if "pub" in each] == list(range(9))
    assert [each["id"] for each in told if "id" in each] == list(range(10, 19))


@pytest.mark.parametrize(("stored", "text"), [("no", "not published: "), ("maybe", "may have been published: ")])
async def test_a_client_is_told_whether_its_publication_may_be_stored(stored: Stored, text: str) -> None:
    rig = await Rig.open()
    rig.node.publishing = PublishQueue(rig.broker, 0, rig.node.metrics)
    client = await rig.connected("alice")
    rig.broker.faults["publish"] = BrokerUnavailable(stored=stored)
    await client.say({"id": 10, "publish": {"channel": "room:1", "data": 1}})
    [reply] = await taken(client, 1)
    assert (reply["error"]["code"], reply["error"]["temporary"]) == (100, True)
    assert reply["error"]["message"].startswith(text)


# — while it connects —


async def test_a_subscription_that_fails_refuses_the_connect() -> None:
    rig = await Rig.open()
    rig.broker.faults["history"] = BrokerUnavailable()
    client = rig.client()
    reply = await client.ask("connect", token=rig.token(channels=["lobby:1", "room:1"]))
    assert reply == {"error": {"code": 100, "message": "broker unavailable, try again", "temporary": True}}
    assert (client.closed, client.session.state) == (None, State.REFUSED)
    await rig.publish("lobby:1", "nobody may hear this")
    assert client.take() == []
    await client.leave()
    await rig.assert_empty()


async def test_an_unexpected_failure_refuses_the_connect(caplog: pytest.LogCaptureFixture) -> None:
    """Else the client could connect once more, as somebody else."""
    rig = await Rig.open()
    rig.presence.faults = [ZeroDivisionError()]
    client = rig.client()
    with caplog.at_level(logging.ERROR):
        reply = await client.ask("connect", token=rig.token("alice", channels=["lobby:1"]))
    assert (reply["error"]["code"], len(caplog.records)) == (100, 1)
    await client.say({"id": 2, "connect": {"token": rig.token("bob")}})
    await client.leave()
    assert (client.closed, client.take()) == ((3501, "bad request"), [])
    await rig.assert_empty()


async def test_a_gap_ends_the_connect() -> None:
    rig = await Rig.open()
    gate = rig.broker.gate("read", "room:1")
    client = rig.client()
    rig.node.spawn(client.say({"id": 1, "connect": {"token": rig.token(channels=["lobby:1", "room:1"])}}))
    await gate.reached()
    rig.broker._channels.discard("room:1")  # one publication is lost on the way
    await rig.publish("room:1", 1)
    rig.broker._channels.add("room:1")
    await rig.publish("room:1", 2)
    gate.open()
    await rig.settle()
    assert (client.closed, client.take()) == ((3010, "insufficient state"), [])
    await client.leave()
    await rig.assert_empty()


async def begun(*channels: str, at: str) -> tuple[Rig, Client, Gate]:
    """A client whose connect waits for a broker that reads ``at``."""
    rig = await Rig.open()
    gate = rig.broker.gate("read", at)
    client = rig.client()
    rig.node.spawn(client.say({"id": 1, "connect": {"token": rig.token("alice", channels=list(channels))}}))
    await gate.reached()
    return rig, client, gate


async def test_live_publications_follow_the_reply_to_connect() -> None:
    rig, client, gate = await begun("room:1", "room:2", at="room:2")
    await rig.publish("room:1", "past")
    gate.open()
    await rig.settle()
    await rig.publish("room:1", "live")
    reply, push = client.take()
    assert reply["connect"]["subs"]["room:1"]["offset"] == 1
    assert push["pub"]["data"] == "live"


async def test_a_connection_closed_while_it_connects() -> None:
    rig, client, gate = await begun("lobby:1", "room:1", at="room:1")
    rig.control(DisconnectUser(user="alice", code=3503, reason="force disconnect"))
    gate.open()
    await rig.settle()
    assert client.session.closed
    rig.pass_time(6)
    await client.leave()
    assert [reason.code for reason in client.transport.reasons] == [3503]
    assert rig.node.metrics.disconnects == {3503: 1}
    assert client.take() == []
    await rig.assert_empty()


async def test_commands_after_a_connect_that_was_cut_short() -> None:
    rig = await Rig.open()
    gate = rig.broker.gate("read", "room:1")
    client = rig.client()
    connect = {"id": 1, "connect": {"token": rig.token("alice", channels=["room:1"])}}
    rig.node.spawn(client.say(connect, {"id": 2, "subscribe": {"channel": "news"}}))
    await gate.reached()
    rig.control(DisconnectUser(user="alice", code=3503, reason="force disconnect"))
    gate.open()
    await rig.settle()
    await client.leave()
    assert [reason.code for reason in client.transport.reasons] == [3503]
    await rig.assert_empty()


async def test_a_connect_that_takes_us_too_long_is_to_be_tried_again() -> None:
    """A client that has said all it has to say is not stale."""
    rig, client, gate = await begun("lobby:1", "room:1", at="room:1")
    rig.pass_time(19.5)
    assert (client.take(), client.closed) == ([], None)
    rig.pass_time(1)
    [reply] = client.take()
    assert (reply["id"], reply["error"]["code"], reply["error"]["temporary"]) == (1, 100, True)
    rig.pass_time(6)
    gate.open()
    await rig.settle()
    assert (client.take(), [reason.code for reason in client.transport.reasons]) == ([], [1000])
    await client.leave()
    await rig.assert_empty()


async def test_nothing_is_pushed_before_the_reply_to_connect() -> None:
    rig, client, gate = await begun("room:1", at="room:1")
    rig.control(SubscribeUser(user="alice", channel="news"))
    rig.control(RefreshUser(user="alice", expire_at=int(NOW) + 500))
    await (await rig.connected("bob")).subscribe("lobby:other")  # meanwhile, the command has had its turn
    client.look()
    gate.open()
    await rig.settle()
    messages = client.take()
    assert "connect" in messages[0], messages


async def test_a_channel_taken_away_while_its_client_connects() -> None:
    """Whatever the client is told, it must not be heard of for ever in a channel that it has lost."""
    rig, client, gate = await begun("lobby:1", "room:1", at="room:1")
    rig.control(UnsubscribeUser(user="alice", channel="lobby:1", code=2000, reason="server unsubscribe"))
    gate.open()
    await rig.settle()
    messages = client.take()
    assert len([each for each in messages if "id" in each]) == 1, messages
    await client.leave()
    await rig.assert_empty()


async def test_commands_of_the_server_do_not_reach_refused_clients() -> None:
    rig = await Rig.open()
    rig.broker.faults["history"] = BrokerUnavailable()
    client = rig.client()
    assert await client.refused("connect", token=rig.token("alice", channels=["room:1"])) == 100
    rig.control(SubscribeUser(user="alice", channel="news"))
    rig.control(RefreshUser(user="alice", expire_at=int(NOW) + 500))
    await rig.settle()
    assert client.take() == []
    await client.leave()
    await rig.assert_empty()


# — while it subscribes —


@pytest.mark.parametrize("step", ["subscribe", "history", "presence"])
@pytest.mark.parametrize("fault", [BrokerUnavailable(), ZeroDivisionError()])
async def test_a_failure_leaves_nothing_behind(step: str, fault: Exception, caplog: pytest.LogCaptureFixture) -> None:
    client = await alice()
    if step == "presence":
        client.rig.presence.faults = [fault]
    else:
        client.rig.broker.faults[step] = fault
    with caplog.at_level(logging.ERROR):
        reply = await client.ask("subscribe", channel="any:1", recoverable=True)
    assert (reply["error"]["code"], reply["error"]["temporary"]) == (100, True)
    assert len(caplog.records) == (1 if isinstance(fault, ZeroDivisionError) else 0)
    assert client.session.subscriptions == {}
    client.rig.broker.faults.clear()
    await client.subscribe("any:1", recoverable=True)
    await client.leave()
    await client.rig.assert_empty()


async def test_failed_subscribers_do_not_take_the_feed_of_others_away() -> None:
    """Two wait for the same feed, which fails; one tries again at once and must not be deaf in the end."""
    rig = await Rig.open()
    clients = [await rig.connected("ann"), await rig.connected("bob")]
    gate = rig.broker.gate("subscribe", "news")
    rig.broker.faults["subscribe"] = BrokerUnavailable()
    again = {"id": 3, "subscribe": {"channel": "news"}}
    rig.node.spawn(clients[0].say({"id": 2, "subscribe": {"channel": "news"}}, again))
    rig.node.spawn(clients[1].say({"id": 2, "subscribe": {"channel": "news"}}))
    await gate.reached()
    await until(lambda: "news" in clients[1].session.subscriptions)
    gate.open()
    await until(lambda: rig.broker.calls["subscribe"] == 2)
    rig.broker.faults.clear()
    await rig.settle()
    if 3 not in [each["id"] for each in clients[0].take() if "subscribe" in each]:
        await clients[0].say({"id": 4, "subscribe": {"channel": "news"}})
    rig.pass_time(3)
    await rig.settle()
    clients[0].take()
    await rig.publish("news", "still heard")
    assert clients[0].data() == ["still heard"]
    for each in clients:
        await each.leave()
    await rig.assert_empty()


@pytest.mark.parametrize("step", ["subscribe", "read"])
async def test_a_task_that_is_cancelled_takes_nothing_of_others(step: str) -> None:
    rig = await Rig.open()
    ann, bob = await rig.connected("ann"), await rig.connected("bob")
    gate = rig.broker.gate(step, "room:1")
    leaving = asyncio.ensure_future(ann.say({"id": 2, "subscribe": {"channel": "room:1"}}))
    rig.node.spawn(bob.say({"id": 2, "subscribe": {"channel": "room:1"}}))
    await gate.reached()
    await until(lambda: "room:1" in bob.session.subscriptions)
    leaving.cancel()
    await asyncio.wait([leaving])
    await ann.leave()
    gate.open()
    await rig.settle()
    rig.pass_time(3)
    await rig.settle()
    bob.take()
    await rig.publish("room:1", "still heard")
    assert bob.data() == ["still heard"]
    await bob.leave()
    await rig.assert_empty()


async def test_a_failure_after_the_reply_is_logged_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    client = await alice()
    client.rig.broker.faults["join"] = ZeroDivisionError()
    with caplog.at_level(logging.ERROR):
        await client.say(
            {"id": 8, "subscribe": {"channel": "lobby:1"}}, {"id": 9, "unsubscribe": {"channel": "lobby:1"}}
        )
    assert [each["id"] for each in client.take() if "id" in each] == [8, 9]
    assert (client.closed, len(caplog.records)) == (None, 1)
