"""Subscribe and unsubscribe."""

import asyncio
import json
from typing import Any

import pytest

from gateway.errors import BrokerUnavailable
from gateway.messages import Position
from tests.session.pusher.rig import KEY, PusherClient, PusherRig, ack, event, refusal
from tests.waiting import until

HISTORY = {"history_size": 10, "history_ttl": 60}
CACHE_MISS = {"event": "pusher:cache_miss", "channel": "cache-rate", "data": "{}"}


@pytest.mark.parametrize("channel", ["news", "private-orders.7", "private-encrypted-x", "a_-=@,.;Z", "x" * 200])
async def test_accepted(channel: str) -> None:
    rig = await PusherRig.start()
    client = rig.enter()
    assert await client.subscribe(channel) == [ack(channel)]
    await rig.say(channel, '{"id":  7}')
    assert client.take() == [event(channel, '{"id":  7}')]


BAD_NAMES = ["", "a b", "x" * 201, "a/b", "a:b", "#", "#other", "#server-to-user-", "#server-to-user-a b", "né"]


@pytest.mark.parametrize("channel", BAD_NAMES)
async def test_names_that_are_none(channel: str) -> None:
    client = (await PusherRig.start()).enter()
    assert await client.subscribe(channel) == [refusal(channel, "AuthError", 400)]
    assert client.closed is None


async def test_the_apps_own_limit_of_names() -> None:
    client = (await PusherRig.start(max_channel_name_length=20)).enter()
    assert await client.subscribe("x" * 21) == [refusal("x" * 21, "AuthError", 400)]


@pytest.mark.parametrize("auth", ["", "x", f"{KEY}:0000", "other:0000", f"{KEY}:", None])
@pytest.mark.parametrize("channel", ["private-x", "presence-x", "private-encrypted-cache-x"])
async def test_signatures_that_are_none(channel: str, auth: str | None) -> None:
    client = (await PusherRig.start()).enter()
    data = {"channel": channel, "auth": auth, "channel_data": '{"user_id":"17"}'}
    assert await client.send("pusher:subscribe", data) == [refusal(channel, "AuthError", 401)]
    assert client.session.subscriptions == {}


async def test_the_signature_of_another_connection_is_none() -> None:
    rig = await PusherRig.start()
    client, other = rig.enter(), rig.enter()
    found = await client.send("pusher:subscribe", other.signed("private-x"))
    assert found == [refusal("private-x", "AuthError", 401)]


async def test_channel_data_is_signed_in_any_channel() -> None:
    client = (await PusherRig.start()).enter()
    assert await client.subscribe("private-x", '{"any": "thing"}') == [ack("private-x")]
    data = client.signed("private-y") | {"channel_data": "not signed"}
    assert await client.send("pusher:subscribe", data) == [refusal("private-y", "AuthError", 401)]


async def test_twice_is_answered_twice_and_nothing_else() -> None:
    rig = await PusherRig.start()
    client, other = rig.enter(), rig.enter()
    await other.join("presence-desk", "23")
    assert (await client.join("presence-desk", "17"))["count"] == 2
    assert len(other.take()) == 1
    assert (await client.join("presence-desk", "17"))["count"] == 2
    await rig.say("presence-desk", "1")
    assert other.take() == client.take() == [event("presence-desk", "1")]


async def test_unsubscribing_is_never_answered() -> None:
    rig = await PusherRig.start()
    client = rig.enter()
    assert await client.send("pusher:unsubscribe", {"channel": "news"}) == []
    await client.subscribe("news")
    assert await client.send("pusher:unsubscribe", {"channel": "news"}) == []
    await rig.say("news", "1")
    assert client.take() == []
    assert await client.subscribe("news") == [ack("news")]


async def test_the_limit_of_channels() -> None:
    client = (await PusherRig.start(client={"channel_limit": 2})).enter()
    await client.subscribe("a")
    await client.subscribe("b")
    assert await client.subscribe("c") == [refusal("c", "LimitReached", 4100)]
    assert await client.subscribe("b") == [ack("b")]


async def away(*channels: str, **limits: Any) -> tuple[PusherRig, PusherClient]:
    """A client whose subscribes wait, for the broker is away."""
    rig = await PusherRig.start(client={"ping_interval": 3600, **limits})
    client = rig.enter()
    rig.broker.faults["subscribe"] = BrokerUnavailable()
    for channel in channels:
        assert await client.subscribe(channel) == []
    return rig, client


async def back(rig: PusherRig) -> None:
    rig.broker.faults.clear()
    rig.pass_time(4)
    await rig.settle()


async def test_while_the_broker_is_away_the_answer_waits() -> None:
    rig, client = await away("news", "private-x")
    for _ in range(2):
        rig.pass_time(4)
        await rig.settle()
        assert (client.take(), client.closed) == ([], None)
    await back(rig)
    assert sorted(client.take(), key=str) == [ack("news"), ack("private-x")]
    await back(rig)
    assert client.take() == []
    await client.leave()
    await rig.assert_empty()


async def test_a_subscribe_that_waits_is_taken_back() -> None:
    rig, client = await away("news")
    assert await client.send("pusher:unsubscribe", {"channel": "news"}) == []
    await back(rig)
    assert (client.take(), client.session.subscriptions) == ([], {})


async def test_a_subscribe_that_waits_is_said_again() -> None:
    rig, client = await away("news", "news")
    rig.broker.faults.clear()
    assert await client.subscribe("news") == [ack("news")]
    await back(rig)
    assert client.take() == []


async def test_who_goes_while_the_broker_is_away_leaves_nothing() -> None:
    rig, client = await away("news")
    await client.leave()
    await back(rig)
    await rig.assert_empty()


async def test_subscribes_that_wait_count_for_the_limit_of_channels() -> None:
    rig, client = await away("a", "b", channel_limit=2)
    assert await client.subscribe("c") == [refusal("c", "LimitReached", 4100)]
    await back(rig)
    assert sorted(client.take(), key=str) == [ack("a"), ack("b")]


async def test_a_defect_is_answered_too(caplog: pytest.LogCaptureFixture) -> None:
    rig = await PusherRig.start()
    rig.broker.faults["subscribe"] = RuntimeError("of ours")
    assert await rig.enter().subscribe("news") == [refusal("news", "ServerError", 500)]
    assert "a subscribe failed" in caplog.text


async def test_one_that_waits_holds_up_nothing_else() -> None:
    rig = await PusherRig.start()
    client = rig.enter()
    gate = rig.broker.gate("subscribe", "shop:slow")
    await client.session.receive(json.dumps({"event": "pusher:subscribe", "data": client.signed("slow")}).encode())
    await gate.reached()
    await client.session.receive(b'{"event":"pusher:ping"}')
    await client.session.receive(json.dumps({"event": "pusher:subscribe", "data": client.signed("fast")}).encode())
    assert client.take() == [{"event": "pusher:pong", "data": "{}"}, ack("fast")]
    gate.open()
    await rig.settle()
    assert client.take() == [ack("slow")]


async def test_of_one_channel_all_goes_in_order() -> None:
    rig = await PusherRig.start()
    client, other = rig.enter(), rig.enter()
    await other.subscribe("private-x")
    gate = rig.broker.gate("subscribe", "shop:private-slow")
    said: list[tuple[str, Any, dict[str, str]]] = [
        ("pusher:subscribe", client.signed("private-slow"), {}),
        ("client-a", 1, {"channel": "private-slow"}),
        ("pusher:unsubscribe", {"channel": "private-slow"}, {}),
        ("client-b", 1, {"channel": "private-slow"}),
    ]
    for name, data, more in said:
        await client.session.receive(json.dumps({"event": name, "data": data, **more}).encode())
    await gate.reached()
    assert client.take() == []
    gate.open()
    await rig.settle()
    found = client.take()
    assert found[0] == ack("private-slow")
    [refused] = found[1:]  # client-b, who is subscribed no more
    assert refused["data"]["code"] == 4301
    assert [each[3] for each in rig.hooks.told] == ["client-a"]
    assert client.session.subscriptions == {}


async def test_twice_while_the_first_waits() -> None:
    rig = await PusherRig.start()
    client = rig.enter()
    gate = rig.broker.gate("subscribe", "shop:slow")
    for _ in range(2):
        await client.session.receive(json.dumps({"event": "pusher:subscribe", "data": client.signed("slow")}).encode())
    await gate.reached()
    gate.open()
    await rig.settle()
    assert client.take() == [ack("slow"), ack("slow")]
    await rig.say("slow", "1")
    assert client.take() == [event("slow", "1")]
    await client.leave()
    await rig.assert_empty()


async def test_who_goes_while_it_waits_leaves_nothing() -> None:
    rig = await PusherRig.start()
    client = rig.enter()
    gate = rig.broker.gate("subscribe", "shop:presence-x")
    data = client.signed("presence-x", '{"user_id":"17"}')
    await client.session.receive(json.dumps({"event": "pusher:subscribe", "data": data}).encode())
    await gate.reached()
    ending = asyncio.ensure_future(client.session.end())
    gate.open()
    await ending
    await rig.assert_empty()


# — presence —


async def test_members_are_told_of_each_other_by_user() -> None:
    rig = await PusherRig.start()
    ivo, first, second = rig.enter(), rig.enter(), rig.enter()
    assert await ivo.join("presence-desk", "23", name="Ivo") == {
        "ids": ["23"],
        "hash": {"23": {"name": "Ivo"}},
        "count": 1,
    }
    presence = await first.join("presence-desk", 17)
    assert presence == {"ids": ["23", "17"], "hash": {"23": {"name": "Ivo"}, "17": None}, "count": 2}
    [added] = ivo.take()
    assert (added["event"], added["channel"]) == ("pusher_internal:member_added", "presence-desk")
    assert json.loads(added["data"]) == {"user_id": "17", "user_info": None}
    assert (await second.join("presence-desk", "17", name="other"))["hash"]["17"] is None
    await first.leave()
    assert (ivo.take(), second.take()) == ([], [])
    await second.send("pusher:unsubscribe", {"channel": "presence-desk"})
    [removed] = ivo.take()
    assert removed["event"] == "pusher_internal:member_removed"
    assert json.loads(removed["data"]) == {"user_id": "17"}


async def test_a_user_who_is_there_takes_no_room() -> None:
    rig = await PusherRig.start(max_presence_members=1)
    first, second, third = rig.enter(), rig.enter(), rig.enter()
    await first.join("presence-desk", "17")
    await second.join("presence-desk", "17")
    data = '{"user_id":"23"}'
    assert await third.subscribe("presence-desk", data) == [refusal("presence-desk", "LimitReached", 4100)]
    assert third.session.subscriptions == {}
    await first.leave()
    await second.leave()
    assert (await third.join("presence-desk", "23"))["count"] == 1
    await third.leave()
    await rig.assert_empty()


async def test_of_two_who_come_at_once_for_one_place_one_is_refused() -> None:
    rig = await PusherRig.start(max_presence_members=1, namespace=HISTORY)
    clients = [rig.enter(), rig.enter()]
    gate = rig.broker.gate("history", "shop:presence-x")  # behind the first look at the roster
    for number, each in enumerate(clients):
        data = each.signed("presence-x", f'{{"user_id":{number}}}')
        await each.session.receive(json.dumps({"event": "pusher:subscribe", "data": data}).encode())
    await until(lambda: gate.waiting == 2)
    gate.open()
    await rig.settle()
    told = [each.take()[0]["event"] for each in clients]
    assert sorted(told) == ["pusher:subscription_error", "pusher_internal:subscription_succeeded"]
    assert len(await rig.presence.members("shop:presence-x")) == 1


async def test_maps_are_no_channels_of_this_protocol() -> None:
    client = (await PusherRig.start(namespace={"subscription_type": "map"})).enter()
    assert await client.subscribe("news") == [refusal("news", "AuthError", 400)]


async def test_members_by_sign_in() -> None:
    rig = await PusherRig.start()
    client = rig.enter()
    assert await client.subscribe("presence-desk") == [refusal("presence-desk", "AuthError", 401)]
    await client.sign_in("17", user_info={"name": "Noor"})
    [told] = await client.subscribe("presence-desk")
    assert json.loads(told["data"])["presence"]["hash"] == {"17": {"name": "Noor"}}
    assert (await client.join("presence-other", "23"))["ids"] == ["23"]


async def test_members_by_sign_in_are_no_larger_than_others() -> None:
    rig = await PusherRig.start(max_presence_member_size=64)
    client = rig.enter()
    await client.sign_in("17", user_info={"name": "N" * 64})
    assert await client.subscribe("presence-desk") == [refusal("presence-desk", "LimitReached", 4301)]
    assert (await client.join("presence-desk", "17"))["ids"] == ["17"]


# — inboxes —


async def test_an_inbox_is_for_who_is_signed_in_as_its_user() -> None:
    rig = await PusherRig.start()
    client = rig.enter()
    mine = "#server-to-user-17"
    assert await client.subscribe(mine) == [refusal(mine, "AuthError", 401)]
    await client.sign_in("17")
    assert await client.subscribe("#server-to-user-1") == [refusal("#server-to-user-1", "AuthError", 401)]
    assert await client.subscribe(mine) == [ack(mine)]
    await rig.say("#17", "1")
    assert client.take() == [event(mine, "1")]


# — caches —


async def test_a_cache_channel_begins_with_its_newest_event() -> None:
    rig = await PusherRig.start()
    client = rig.enter()
    assert await client.subscribe("cache-rate") == [ack("cache-rate"), CACHE_MISS]
    await rig.say("cache-rate", "1.07")
    assert client.take() == [event("cache-rate", "1.07")]
    await rig.say("cache-rate", "1.08")
    assert await rig.enter().subscribe("cache-rate") == [ack("cache-rate"), event("cache-rate", "1.08")]
    assert [each[:3] for each in rig.hooks.told] == [("cache_miss", "9001", "cache-rate")]


async def test_simultaneous_misses_are_of_one_period() -> None:
    rig = await PusherRig.start()
    for _ in range(2):
        await rig.enter().subscribe("cache-rate")
    await rig.say("cache-rate", "1")
    await rig.node.remove_history(rig.node.channels.resolve("shop:cache-rate"))
    await rig.enter().subscribe("cache-rate")
    first, second, third = [each[3] for each in rig.hooks.told]
    assert first == second != third


async def test_client_events_are_not_cached() -> None:
    rig = await PusherRig.start()
    client = rig.enter()
    await client.subscribe("private-cache-x")
    await client.send("client-x", 1, channel="private-cache-x")
    assert [each["event"] for each in await rig.enter().subscribe("private-cache-x")][1:] == ["pusher:cache_miss"]


async def test_what_comes_while_a_cache_is_read_comes_once() -> None:
    rig = await PusherRig.start()
    client = rig.enter()
    await rig.say("cache-x", "1")
    for step, expected in (("history", "2"), ("read", "3")):
        gate = rig.broker.gate(step, "shop:cache-x")
        await client.session.receive(
            json.dumps({"event": "pusher:subscribe", "data": client.signed("cache-x")}).encode()
        )
        await gate.reached()
        await rig.say("cache-x", expected)
        gate.open()
        del rig.broker.gates[step, "shop:cache-x"]
        await rig.settle()
        assert client.take() == [ack("cache-x"), event("cache-x", expected)]
        await client.send("pusher:unsubscribe", {"channel": "cache-x"})


# — resuming, an extension —


async def resumed(client: PusherClient, channel: str, since: Position | None = None) -> tuple[Any, list[Any]]:
    """What the ack says of the position, and what follows it."""
    more: dict[str, Any] = {} if since is None else {"resume": {"offset": since.offset, "epoch": since.epoch}}
    told, *rest = await client.subscribe(channel, **more)
    assert told["event"] == "pusher_internal:subscription_succeeded"
    return told.get("resume"), rest


async def test_who_comes_back_gets_what_it_has_missed() -> None:
    rig = await PusherRig.start(namespace=HISTORY)
    await rig.say("private-x", "1")
    top = await rig.position("shop:private-x")
    client = rig.enter(resumes=True)
    at, rest = await resumed(client, "private-x")
    assert (at, rest) == ({"offset": 1, "epoch": top.epoch, "recovered": False}, [])
    await rig.say("private-x", "2")
    assert client.take() == [event("private-x", "2", offset=2, epoch=top.epoch)]
    again = rig.enter(resumes=True)
    at, rest = await resumed(again, "private-x", Position(1, top.epoch))
    assert at["recovered"] is True
    assert rest == [event("private-x", "2", offset=2, epoch=top.epoch)]
    at, rest = await resumed(rig.enter(resumes=True), "private-x", Position(1, "another"))
    assert (at, rest) == ({"offset": 2, "epoch": top.epoch, "recovered": False}, [])


async def test_others_are_told_no_offsets_and_resume_nothing() -> None:
    rig = await PusherRig.start(namespace=HISTORY)
    await rig.say("news", "1")
    assert await resumed(rig.enter(), "news", Position(0, "")) == (None, [])
    rig = await PusherRig.start()
    assert await resumed(rig.enter(resumes=True), "news") == (None, [])


async def test_a_cache_that_the_client_knows_is_not_missed() -> None:
    rig = await PusherRig.start()
    await rig.say("cache-rate", "1")
    top = await rig.position("shop:cache-rate")
    at, rest = await resumed(rig.enter(resumes=True), "cache-rate", top)
    assert (at["recovered"], rest) == (True, [])
