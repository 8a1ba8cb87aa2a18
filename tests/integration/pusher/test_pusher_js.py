"""pusher-js against two gateways behind HAProxy: in Node, and its two builds in a page of Chromium."""

import asyncio
import json
import re
from asyncio import to_thread
from typing import Any

import pusher
import pytest

from tests.integration.pusher.apps import ELSEWHERE, MAIN, PLAIN
from tests.integration.pusher.clients import ADDED, FAILED, REMOVED, SUCCEEDED, Client, Library, Refused
from tests.integration.pusher.raw import raw, signed
from tests.integration.servers import Cluster
from tests.waiting import until

WITHOUT_ENCRYPTION, WITH_ENCRYPTION = ["chromium"], ["node", "chromium-with-encryption"]


def member(user: str) -> dict[str, Any]:
    return {"user_id": user, "user_info": {"name": f"user {user} ✓"}}


async def test_a_client_connects_and_has_a_socket_id(nodes: Cluster, page: Library) -> None:
    client = await page.opened(nodes.balancer)
    assert client.log("").names == ["connected"]
    assert re.fullmatch(r"\d+\.\d+", await client.socket())


async def test_the_first_frame_greets_and_nothing_precedes_it(nodes: Cluster) -> None:
    async with raw(nodes.balancer) as client:
        greeting = client.frames[0]
        assert greeting["event"] == "pusher:connection_established"
        data = json.loads(greeting["data"])
        assert re.fullmatch(r"\d+\.\d+", data["socket_id"])
        assert data["activity_timeout"] == 30


async def test_pings_are_answered(nodes: Cluster, page: Library) -> None:
    client = await page.opened(nodes.a, activityTimeout=100, pongTimeout=5000)
    await client.log("frames").wait("pusher:pong", 3)
    assert client.log("").names == ["connected"]


async def test_pings_are_answered_under_load(nodes: Cluster, backend: pusher.Pusher, name: str) -> None:
    async with raw(nodes.a) as client:
        await client.subscribe(name)
        await client.wait("pusher_internal:subscription_succeeded")
        batch = [{"channel": name, "name": "e", "data": "x" * 1000}] * 10
        publishing = [asyncio.create_task(to_thread(backend.trigger_batch, list(batch), True)) for _ in range(20)]
        for _ in range(100):
            await client.say("pusher:ping", {})
        await client.wait("pusher:pong", count=100)
        await asyncio.gather(*publishing)
        await client.wait("e", name, count=200)


async def test_each_subscribe_is_answered_once(nodes: Cluster, page: Library, name: str) -> None:
    client = await page.opened(nodes.balancer, member=member("17"))
    kinds = ["", "private-", "presence-", "cache-", "private-cache-", "presence-cache-", "presence-cache", "privateer-"]
    channels = [f"{kind}{name}_-=@,.;" for kind in kinds]
    logs = await asyncio.gather(*(client.subscribe(each) for each in channels))
    for channel, log in zip(channels, logs, strict=True):
        answer = await log.wait(SUCCEEDED)
        if channel.startswith("presence-"):
            info = member("17")["user_info"]
            assert answer == {"members": {"17": info}, "count": 1, "me": {"id": "17", "info": info}}
    acks = client.log("frames")
    await acks.wait("pusher_internal:subscription_succeeded", len(channels))
    answered = [each.channel for each in acks if each.name == "pusher_internal:subscription_succeeded"]
    assert sorted(map(str, answered)) == sorted(channels)


@pytest.mark.parametrize("frame", ['{"event":"pusher:ping"}', '{"event":"pusher:ping","data":"{}"}'])
async def test_pings_of_other_clients(nodes: Cluster, frame: str) -> None:
    async with raw(nodes.a) as client:
        await client.send(frame)
        await client.wait("pusher:pong")


async def test_older_clients_send_data_in_a_string(nodes: Cluster, backend: pusher.Pusher, name: str) -> None:
    async with raw(nodes.a) as client:
        await client.say("pusher:subscribe", json.dumps({"channel": name}))
        await client.wait("pusher_internal:subscription_succeeded", name)
        await client.say("pusher:unsubscribe", json.dumps({"channel": name}))
        await client.quiet()
        assert await to_thread(backend.channel_info, name) == {"occupied": False}


async def test_an_unsubscribe_is_never_answered(nodes: Cluster, name: str) -> None:
    async with raw(nodes.a) as client:
        await client.subscribe(f"private-{name}")
        await client.wait("pusher_internal:subscription_succeeded")
        for channel in (f"private-{name}", f"private-{name}", "never-subscribed"):
            await client.say("pusher:unsubscribe", {"channel": channel})
        await client.quiet()
        told = [each["event"] for each in client.frames[2:] if each["event"] != "pusher_internal:subscription_count"]
        assert told == ["pusher:pong"]


async def test_a_duplicate_subscribe_is_answered_and_is_no_second_member(nodes: Cluster, name: str) -> None:
    channel = f"presence-{name}"
    async with raw(nodes.a) as other, raw(nodes.b) as client:
        await other.subscribe(channel, json.dumps(member("23")))
        await other.wait("pusher_internal:subscription_succeeded")
        for count in (1, 2):
            await client.subscribe(channel, json.dumps(member("17")))
            ack = await client.wait("pusher_internal:subscription_succeeded", channel, count)
            assert json.loads(ack["data"])["presence"]["count"] == 2
        await client.say("pusher:unsubscribe", {"channel": channel})
        await other.wait("pusher_internal:member_removed", channel)
        assert len(other.named("pusher_internal:member_added")) == 1


async def test_presence_acks_have_ids_hash_and_count_of_users(nodes: Cluster, name: str) -> None:
    channel = f"presence-{name}"
    async with raw(nodes.a) as first, raw(nodes.b) as second, raw(nodes.b) as third:
        await first.subscribe(channel, '{"user_id": 17, "user_info": {"tab": 1}}')
        await first.wait("pusher_internal:subscription_succeeded")
        await second.subscribe(channel, '{"user_id": "17", "user_info": {"tab": 2}}')
        await second.wait("pusher_internal:subscription_succeeded")
        await third.subscribe(channel, '{"user_id": "23"}')
        ack = await third.wait("pusher_internal:subscription_succeeded")
        presence = json.loads(ack["data"])["presence"]
        assert sorted(presence.pop("ids")) == ["17", "23"]
        assert presence == {"hash": {"17": {"tab": 1}, "23": None}, "count": 2}


async def test_members_come_and_go_once_for_each_user(nodes: Cluster, page: Library, name: str) -> None:
    channel = f"presence-{name}"
    watcher = await page.opened(nodes.a, member=member("23"))
    log = await watcher.subscribed(channel)
    tabs = [await page.opened(node, member=member("17")) for node in (nodes.a, nodes.b, nodes.b)]
    for tab in tabs:
        own = await tab.subscribed(channel)
        assert (await tab.members(channel))["count"] == 2
        assert ADDED not in own.names
    info = member("17")["user_info"]
    assert await log.wait(ADDED) == {"id": "17", "info": info}
    await tabs[0].unsubscribe(channel)
    await tabs[1].disconnect()
    third = await page.opened(nodes.b, member=member("42"))
    await third.subscribed(channel)
    await log.wait(ADDED, 2)
    assert (await watcher.members(channel))["count"] == 3
    await tabs[2].disconnect()
    assert await log.wait(REMOVED) == {"id": "17", "info": info}
    await third.disconnect()
    await log.wait(REMOVED, 2)
    assert log.names == [SUCCEEDED, ADDED, ADDED, REMOVED, REMOVED]
    assert await watcher.members(channel) == {
        "members": {"23": member("23")["user_info"]},
        "count": 1,
        "me": {"id": "23", "info": member("23")["user_info"]},
    }


async def test_client_events_are_relayed_without_echo(nodes: Cluster, page: Library, name: str) -> None:
    channel, event = f"private-{name}", "client-typing"
    ann, bob = [await page.opened(node) for node in (nodes.a, nodes.b)]
    heard = [await each.subscribed(channel, event) for each in (ann, bob)]
    data = {"on": True, "text": "grüß 🦊", "big": 2**53 - 1}
    assert await ann.trigger(channel, event, data)
    assert await heard[1].wait(event) == data
    assert await bob.trigger(channel, event, [1, None, "two"])
    assert await heard[0].wait(event) == [1, None, "two"]
    for log in heard:
        [told] = [each for each in log if each.name == event]
        assert told.user is None


async def test_the_sender_of_a_client_event_is_known_in_presence_channels(
    nodes: Cluster, page: Library, name: str
) -> None:
    channel, event = f"presence-{name}", "client-typing"
    ann, bob = [await page.opened(node, member=member(user)) for node, user in ((nodes.a, "17"), (nodes.b, "23"))]
    await ann.subscribed(channel, event)
    heard = await bob.subscribed(channel, event)
    await ann.call("say", event=event, data={"user_id": "666"}, channel=channel)
    assert await heard.wait(event) == {"user_id": "666"}
    assert heard[-1].user == "17"


async def test_what_else_a_client_event_holds_is_dropped(nodes: Cluster, name: str) -> None:
    channel = f"presence-{name}"
    async with raw(nodes.a) as ann, raw(nodes.b) as bob:
        for client, user in ((ann, "17"), (bob, "23")):
            await client.subscribe(channel, json.dumps(member(user)))
            await client.wait("pusher_internal:subscription_succeeded")
        await ann.say("client-x", {"n": 1}, channel=channel, user_id="666", more=True)
        frame = await bob.wait("client-x")
        assert frame == {"event": "client-x", "channel": channel, "data": {"n": 1}, "user_id": "17"}


async def test_signing_in_opens_the_inbox(nodes: Cluster, page: Library, backend: pusher.Pusher, name: str) -> None:
    user = {"id": name, "user_info": {"name": "Noor ✓"}}
    tabs = [await page.opened(node, user=user) for node in (nodes.a, nodes.b)]
    for tab in tabs:
        success = await tab.signed_in()
        assert json.loads(success["user_data"]) == user
        assert tab.log("frames")[-1].channel == f"#server-to-user-{name}"
    await to_thread(backend.send_to_user, name, "greeting", {"text": "hello ✓"})
    for tab in tabs:
        assert await tab.log("user").wait("greeting") == {"text": "hello ✓"}


async def test_the_inbox_is_for_the_user_alone(nodes: Cluster, name: str) -> None:
    inbox = f"#server-to-user-{name}"
    async with raw(nodes.a) as client:
        await client.subscribe(inbox)
        await client.wait("pusher:subscription_error", inbox)
        user_data = f'{{"id": "{name}", "watchlist":[] }}'
        auth = signed(MAIN, client.socket_id, "", "user", "", user_data)
        await client.say("pusher:signin", {"auth": auth, "user_data": user_data})
        success = await client.wait("pusher:signin_success")
        assert success == {"event": "pusher:signin_success", "data": {"user_data": user_data}}
        await client.subscribe(f"{inbox}1")
        await client.wait("pusher:subscription_error", f"{inbox}1")
        await client.subscribe(inbox)
        await client.wait("pusher_internal:subscription_succeeded", inbox)


async def test_a_presence_channel_takes_the_signed_in_user(nodes: Cluster, page: Library, name: str) -> None:
    channel = f"presence-{name}"
    client = await page.opened(nodes.balancer, user={"id": "17", "user_info": {"name": "Noor"}})
    await client.call("signin")
    log = await client.subscribe(channel)
    answer = await log.wait(SUCCEEDED)
    assert answer == {"members": {"17": {"name": "Noor"}}, "count": 1, "me": {"id": "17", "info": {"name": "Noor"}}}


async def test_watchlists_tell_who_is_online(nodes: Cluster, page: Library, name: str) -> None:
    ann, bob = f"{name}-ann", f"{name}-bob"
    watcher = await page.opened(nodes.a, user={"id": ann, "watchlist": [bob]})
    await watcher.signed_in()
    log = watcher.log("watchlist")
    assert await log.wait("offline") == {"name": "offline", "user_ids": [bob]}
    tabs = [await page.opened(node, user={"id": bob}) for node in (nodes.a, nodes.b)]
    for tab in tabs:
        await tab.signed_in()
    assert await log.wait("online") == {"name": "online", "user_ids": [bob]}
    for tab in tabs:
        await tab.disconnect()
    await log.wait("offline", 2)
    assert log.names == ["offline", "online", "offline"]
    frames = [each for each in watcher.log("frames") if each.name == "pusher_internal:watchlist_events"]
    assert {each.channel for each in frames} == {None}
    assert all(isinstance(each.data["events"], list) for each in frames)


async def test_a_user_who_returns_at_once_was_never_offline(nodes: Cluster, node: Library, name: str) -> None:
    ann, bob = f"{name}-ann", f"{name}-bob"
    tab = await node.opened(nodes.a, user={"id": bob})
    await tab.signed_in()
    watcher = await node.opened(nodes.a, user={"id": ann, "watchlist": [bob]})
    await watcher.signed_in()
    log = watcher.log("watchlist")
    await log.wait("online")
    await tab.disconnect()
    again = await node.opened(nodes.b, user={"id": bob})
    await again.signed_in()
    await again.disconnect()
    await log.wait("offline")
    assert log.names == ["online", "offline"]


async def test_a_watchlist_over_the_limit_is_cut(nodes: Cluster, name: str) -> None:
    async with raw(nodes.a) as client:
        user_data = json.dumps({"id": name, "watchlist": [f"{name}-{n}" for n in range(101)]})
        auth = signed(MAIN, client.socket_id, "", "user", "", user_data)
        await client.say("pusher:signin", {"auth": auth, "user_data": user_data})
        await client.wait("pusher:signin_success")
        error = await client.wait("pusher:error")
        assert error["data"]["code"] == 4302
        assert "channel" not in error
        events = (await client.wait("pusher_internal:watchlist_events"))["data"]["events"]
        assert [len(each["user_ids"]) for each in events] == [100]


async def test_a_reconnect_storm_is_admitted(nodes: Cluster, page: Library, name: str) -> None:
    client = await page.opened(nodes.a, member=member("17"))
    channels = [f"{kind}{name}-{n}" for n in range(40) for kind in ("", "private-", "presence-")]
    logs = await asyncio.gather(*(client.subscribe(each) for each in channels))
    for log in logs:
        await log.wait(SUCCEEDED)
    before = await client.socket()
    await client.call("lose")
    await client.log("").wait("connected", 2)
    assert await client.socket() != before
    for log in logs:
        await log.wait(SUCCEEDED, 2)
        assert FAILED not in log.names


VERBATIM = [
    "hello",
    "5",
    "null",
    '"text"',
    "",
    ' { "spaced" : [ 1 ,2 ] }\n\t',
    '{"big":12345678901234567890123,"exact":9007199254740993,"float":1.10,"e":1E2}',
    '{"text":"grüß 🦊 \\u00e9 \\/ </script> \\u2028"}',
    "plain \u2028 🦊 \x00 \\ \" '",
    '{"twice":1,"twice":2}',
    "{broken",
    "[" * 200 + "]" * 200,
]


async def test_event_data_comes_byte_for_byte(nodes: Cluster, backend: pusher.Pusher, name: str) -> None:
    async with raw(nodes.a) as ann, raw(nodes.b) as bob:
        for client in (ann, bob):
            await client.subscribe(name)
            await client.wait("pusher_internal:subscription_succeeded")
        for data in VERBATIM:
            await to_thread(backend.trigger, name, "e", data)
        for client in (ann, bob):
            await client.wait("e", name, len(VERBATIM))
            assert [each["data"] for each in client.named("e")] == VERBATIM
            assert client.named("e")[0] == {"event": "e", "channel": name, "data": "hello"}


async def test_events_come_as_they_were_meant(nodes: Cluster, page: Library, backend: pusher.Pusher, name: str) -> None:
    client = await page.opened(nodes.balancer)
    log = await client.subscribed(name)
    sent = [{"t": "Rain ☔", "n": [1, 2.5, None]}, "hello", 5, None]
    for data in sent:
        await to_thread(backend.trigger, name, r"App\Events\Weather.Changed ✓", data)
    await log.wait(r"App\Events\Weather.Changed ✓", len(sent))
    assert log.named(r"App\Events\Weather.Changed ✓") == sent


async def test_encrypted_events_are_opaque(nodes: Cluster, page: Library, backend: pusher.Pusher, name: str) -> None:
    channel = f"private-encrypted-{name}"
    client = await page.opened(nodes.balancer)
    async with raw(nodes.b) as other:
        await other.subscribe(channel)
        await other.wait("pusher_internal:subscription_succeeded")
        if await _can_decrypt(client, channel):
            log = client.log(channel)
            await to_thread(backend.trigger, channel, "secret", {"text": "hush ✓"})
            assert await log.wait("secret") == {"text": "hush ✓"}
            with pytest.raises(Refused, match="not currently supported"):
                await client.trigger(channel, "client-x", {})
        else:
            await to_thread(backend.trigger, channel, "secret", {"text": "hush ✓"})
        frame = await other.wait("secret")
        assert set(json.loads(frame["data"])) == {"nonce", "ciphertext"}


async def _can_decrypt(client: Client, channel: str) -> bool:
    """The ordinary build for pages says that it cannot."""
    try:
        await client.subscribed(channel)
    except Refused:
        return False
    return True


async def test_a_cache_channel_misses_then_has_its_latest(
    nodes: Cluster, page: Library, backend: pusher.Pusher, name: str
) -> None:
    for channel in (f"cache-{name}", f"private-cache-{name}", f"presence-cache-{name}"):
        early = await page.opened(nodes.a, member=member("17"))
        first = await early.subscribed(channel)
        await first.wait("pusher:cache_miss")
        for data in ("1.06", "1.07"):
            await to_thread(backend.trigger, channel, "tick", data, await early.socket() if data == "1.06" else None)
        assert await first.wait("tick") == 1.07
        late = await page.opened(nodes.b, member=member("17"))
        second = await late.subscribed(channel)
        assert await second.wait("tick") == 1.07
        assert second.names[:2] == [SUCCEEDED, "tick"]
        assert "pusher:cache_miss" not in second.names


async def test_subscribers_are_counted(nodes: Cluster, page: Library, name: str) -> None:
    first = await page.opened(nodes.a, member=member("17"))
    log = await first.subscribed(name)
    presence = await first.subscribed(f"presence-{name}")
    second = await page.opened(nodes.b, member=member("17"))
    await second.subscribed(name)
    await second.subscribed(f"presence-{name}")
    await until(lambda: {"subscription_count": 2} in log.named("pusher:subscription_count"), what="a count of two")
    assert await first.call("count", channel=name) == 2
    await second.disconnect()
    await until(lambda: log.named("pusher:subscription_count")[-1] == {"subscription_count": 1}, what="a count of one")
    assert presence.names == [SUCCEEDED]


async def test_a_bad_signature_is_an_error_of_that_channel(nodes: Cluster, page: Library, name: str) -> None:
    client = await page.opened(nodes.balancer, secret="another", member=member("17"))
    for channel in (f"private-{name}", f"presence-{name}"):
        log = await client.subscribe(channel)
        error = await log.wait(FAILED)
        assert (error["type"], error["status"]) == ("AuthError", 401)
    await client.subscribed(name)
    assert client.log("").names == ["connected"]


async def test_what_the_application_refuses_is_not_asked_for(nodes: Cluster, page: Library, name: str) -> None:
    client = await page.opened(nodes.balancer, refused=403)
    log = await client.subscribe(f"private-{name}")
    assert (await log.wait(FAILED))["status"] == 403
    assert await client.state() == "connected"


async def test_client_events_that_the_app_does_not_have(nodes: Cluster, page: Library, name: str) -> None:
    channel = f"private-{name}"
    ann, bob = [await page.opened(node, PLAIN) for node in (nodes.a, nodes.b)]
    await ann.subscribed(channel)
    log = await bob.subscribed(channel)
    await ann.trigger(channel, "client-x", {})
    await ann.log("").wait("error")
    assert await ann.state() == "connected"
    assert log.names == [SUCCEEDED]


async def test_a_page_of_elsewhere_stays_away(nodes: Cluster, page: Library) -> None:
    """Node has no origin, and may."""
    client = await page.open(nodes.balancer, ELSEWHERE)
    await client.log("").wait("disconnected" if page.in_page else "connected")
    if page.in_page:
        assert (await client.log("").wait("error"))["code"] == 4009
