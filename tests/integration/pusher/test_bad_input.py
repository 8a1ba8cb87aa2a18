"""What clients and backends should not say: each has its answer, and nobody else notices."""

import json
from typing import Any

import pytest

from tests.integration.pusher.apps import CROWDED, DISABLED, ELSEWHERE, MAIN, PLAIN, UNKNOWN, App
from tests.integration.pusher.raw import RawPusher, raw, signed
from tests.integration.pusher.requests import call, publish
from tests.integration.servers import Cluster

EVENT = {"name": "e", "channel": "news", "data": "{}"}
"""Nothing is wrong with it."""


async def refused(nodes: Cluster, event: Any, status: int, **options: Any) -> None:
    answer = await publish(nodes.balancer, event, **options)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
    assert answer.json()


@pytest.mark.parametrize(
    "options",
    [
        {"changed": {"auth_signature": "0" * 64}},
        {"changed": {"auth_signature": "é" * 64}},
        {"changed": {"auth_signature": ""}},
        {"changed": {"body_md5": "0" * 32}},
        {"changed": {"info": "user_count"}},
        {"left_out": "auth_signature"},
        {"left_out": "auth_timestamp"},
        {"left_out": "auth_key"},
        {"left_out": "body_md5"},
        {"query": {"auth_version": "2.0"}, "changed": {"auth_version": "2.0"}},
        {"late": 601.0},
        {"late": 86_400.0},
        {"late": -602.0},
        {"changed": {"auth_timestamp": "soon"}},
        {"changed": {"auth_timestamp": "9" * 40}},
        {"app": App(MAIN.id, UNKNOWN.key, UNKNOWN.secret)},
        {"app": App(MAIN.id, PLAIN.key, PLAIN.secret)},
        {"app": App(MAIN.id, MAIN.key, "another")},
    ],
    ids=str,
)
async def test_forged_and_expired_calls(nodes: Cluster, options: dict[str, Any]) -> None:
    await refused(nodes, EVENT, 401, **options)


@pytest.mark.parametrize("late", [590.0, -590.0])
async def test_clocks_may_be_somewhat_off(nodes: Cluster, late: float) -> None:
    answer = await publish(nodes.balancer, EVENT, late=late)
    assert (answer.status_code, answer.json()) == (200, {})


async def test_apps_that_are_not_served(nodes: Cluster) -> None:
    await refused(nodes, EVENT, 404, app=UNKNOWN)
    await refused(nodes, EVENT, 403, app=DISABLED)


@pytest.mark.parametrize(
    "event",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b'{"name":"e","channel":"news","data":NaN}',
        b'{"name":"e","channel":"news","data":"\xff"}',
        b'{"name":"e","channel":"news","data":"\\ud800"}',
        b'{"name":"e","channel":"news","data":' + b"[" * 100_000,
        {"channel": "news", "data": "{}"},
        {**EVENT, "name": ""},
        {**EVENT, "name": 7},
        {**EVENT, "name": "x" * 201},
        {**EVENT, "name": "pusher:subscribe"},
        {**EVENT, "name": "pusher_internal:member_added"},
        {"name": "e", "channel": "news"},
        {"name": "e", "data": "{}"},
        {**EVENT, "channel": "", "channels": []},
        {"name": "e", "data": "{}", "channels": [f"c{n}" for n in range(101)]},
        {"name": "e", "data": "{}", "channels": ["private-encrypted-a", "private-encrypted-b"]},
        {"name": "e", "data": "{}", "channels": "news"},
        {**EVENT, "channel": "no spaces"},
        {**EVENT, "channel": "#anything"},
        {**EVENT, "channel": "#server-to-user-"},
        {**EVENT, "channel": "a:b"},
        {**EVENT, "channel": "ü"},
        {**EVENT, "channel": "x" * 201},
        {**EVENT, "socket_id": "1"},
        {**EVENT, "socket_id": "1.2:3"},
    ],
    ids=lambda event: str(event)[:60],
)
async def test_events_that_are_none(nodes: Cluster, event: Any) -> None:
    await refused(nodes, event, 400)


async def test_events_that_are_too_large(nodes: Cluster, name: str) -> None:
    async with raw(nodes.a) as client:
        await client.subscribe(name)
        await client.wait("pusher_internal:subscription_succeeded")
        await refused(nodes, {**EVENT, "channel": name, "data": "é" * 5_121}, 413)
        answer = await publish(nodes.b, {**EVENT, "channel": name, "data": "é" * 5_120})
        assert (answer.status_code, answer.json()) == (200, {})
        assert (await client.wait("e"))["data"] == "é" * 5_120
        assert len(client.named("e")) == 1


async def test_bodies_beyond_all_limits(nodes: Cluster) -> None:
    answer = await publish(nodes.b, {**EVENT, "data": "x" * 2_000_000})
    assert answer.status_code == 413


async def test_batches_are_checked_before_any_is_sent(nodes: Cluster, name: str) -> None:
    path = f"/apps/{MAIN.id}/batch_events"
    good = {**EVENT, "channel": name}
    async with raw(nodes.a) as client:
        await client.subscribe(name)
        await client.wait("pusher_internal:subscription_succeeded")
        for batch in ([good] * 11, [good, {**good, "name": "pusher:x"}], [], None, [good, 7]):
            answer = await call(nodes.b, "POST", path, {"batch": batch})
            assert answer.status_code == (200 if batch == [] else 400), (batch, answer.text)
        answer = await call(nodes.b, "POST", path, {"batch": [good, {**good, "data": "x" * 10_241}]})
        assert answer.status_code == 413
        await publish(nodes.b, {**good, "name": "last"})
        await client.wait("last")
        assert not client.named("e")


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("channels", {"info": "user_count"}),
        ("channels", {"info": "user_count", "filter_by_prefix": "private-"}),
        ("channels", {"info": "anything"}),
        ("channels/news", {"info": "user_count"}),
        ("channels/news", {"info": "cache"}),
        ("channels/presence-x", {"info": "cache"}),
        ("channels/private-x/users", {}),
    ],
)
async def test_questions_that_have_no_answer(nodes: Cluster, path: str, query: dict[str, str]) -> None:
    answer = await call(nodes.b, "GET", f"/apps/{MAIN.id}/{path}", query=query)
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "hello",
        "{",
        "[]",
        "7",
        "null",
        "[" * 50_000,
        '{"event":7}',
        '{"data":{}}',
        '{"event":"pusher:nothing","data":{}}',
        '{"event":"pusher:connection_established","data":{}}',
        '{"event":"pusher_internal:member_added","channel":"presence-x","data":{}}',
        '{"event":"message","channel":"news","data":{}}',
        '{"event":"pusher:subscribe"}',
        '{"event":"pusher:subscribe","data":7}',
        '{"event":"pusher:subscribe","data":{"channel":7}}',
        '{"event":"pusher:unsubscribe","data":[]}',
        '{"event":"pusher:signin","data":{}}',
        '{"event":"pusher:signin","data":{"auth":"x","user_data":{}}}',
        '{"event":"client-x","data":{}}',
        '{"event":"client-x","channel":"private-x"}',
        '{"event":"client-x","channel":"private-never-subscribed","data":{}}',
        '{"event":"client-x","channel":"news","data":NaN}',
        '{"event":"client-x","channel":"news","data":"\\ud800"}',
    ],
    ids=lambda frame: str(frame)[:60],
)
async def test_frames_that_mean_nothing_are_an_error_and_no_end(nodes: Cluster, frame: str) -> None:
    async with raw(nodes.a) as client:
        await client.send(frame)
        error = await client.wait("pusher:error")
        assert "channel" not in error
        assert error["data"]["code"] is None or error["data"]["code"] >= 4000
        assert error["data"]["message"]
        await client.quiet()


async def test_frames_beyond_the_limit_are_1009(nodes: Cluster) -> None:
    async with raw(nodes.a) as client:
        await client.say("pusher:ping", "x" * 65_536)
        assert (await client.closed())[0] == 1009


async def test_a_binary_frame_harms_nobody(nodes: Cluster) -> None:
    async with raw(nodes.a) as other, raw(nodes.a) as client:
        await client.send(b"\x00\xff")
        await client.wait("pusher:error")
        await other.quiet()


@pytest.mark.parametrize(
    "channel", ["", " ", "no spaces", "x" * 201, "private-" + "x" * 193, "ü", "a:b", "a/b", "#", "#x", "private-\n"]
)
async def test_channels_that_cannot_be(nodes: Cluster, channel: str) -> None:
    async with raw(nodes.a) as client:
        await client.subscribe(channel)
        error = await client.wait("pusher:subscription_error")
        assert error["channel"] == channel
        assert isinstance(error["data"]["status"], int)
        await client.quiet()


@pytest.mark.parametrize(
    "auth",
    [
        "",
        ":",
        MAIN.key,
        f"{MAIN.key}:",
        f"{MAIN.key}:{'0' * 64}",
        f"{MAIN.key}:é",
        f"{PLAIN.key}:{'0' * 64}",
        signed(MAIN, "1.1", "private-forged"),
    ],
)
async def test_forged_subscriptions(nodes: Cluster, auth: str) -> None:
    async with raw(nodes.a) as client:
        await client.subscribe("private-forged", auth=auth)
        error = await client.wait("pusher:subscription_error", "private-forged")
        assert (error["data"]["type"], error["data"]["status"]) == ("AuthError", 401)
        await client.subscribe("private-forged")
        await client.wait("pusher_internal:subscription_succeeded", "private-forged")


async def test_what_is_signed_for_one_is_no_good_for_another(nodes: Cluster, name: str) -> None:
    channel, member = f"presence-{name}", '{"user_id":"17"}'
    async with raw(nodes.a) as ann, raw(nodes.b) as bob:
        auths = [
            signed(MAIN, ann.socket_id, channel, member),
            signed(MAIN, bob.socket_id, f"{channel}1", member),
            signed(MAIN, bob.socket_id, channel, '{"user_id":"23"}'),
            signed(MAIN, bob.socket_id, channel),
        ]
        for count, auth in enumerate(auths, 1):
            await bob.subscribe(channel, member, auth)
            await bob.wait("pusher:subscription_error", channel, count)


@pytest.mark.parametrize(
    "member",
    [
        "",
        "{",
        "7",
        "[]",
        "{}",
        '{"user_id":null}',
        '{"user_id":""}',
        '{"user_id":{}}',
        '{"user_id":true}',
        '{"user_id":"17","user_info":7}',
        json.dumps({"user_id": "x" * 201}),
        json.dumps({"user_id": "17", "user_info": {"text": "x" * 10_000}}),
    ],
    ids=lambda member: member[:40],
)
async def test_members_that_cannot_be(nodes: Cluster, member: str, name: str) -> None:
    channel = f"presence-{name}"
    async with raw(nodes.a) as client:
        await client.subscribe(channel, member)
        await client.wait("pusher:subscription_error", channel)
        await client.subscribe(channel, '{"user_id":"17"}')
        ack = await client.wait("pusher_internal:subscription_succeeded", channel)
        assert json.loads(ack["data"])["presence"]["count"] == 1


async def test_large_members_where_the_app_has_them(nodes: Cluster, name: str) -> None:
    channel, text = f"presence-{name}", "x" * 10_000
    async with raw(nodes.a, CROWDED) as client, raw(nodes.b, CROWDED) as other:
        await other.subscribe(channel, '{"user_id":"23"}')
        await other.wait("pusher_internal:subscription_succeeded")
        await client.subscribe(channel, json.dumps({"user_id": "17", "user_info": {"text": text}}))
        await client.wait("pusher_internal:subscription_succeeded", channel)
        added = json.loads((await other.wait("pusher_internal:member_added"))["data"])
        assert added == {"user_id": "17", "user_info": {"text": text}}


async def test_a_full_presence_channel_takes_those_who_are_there(nodes: Cluster, name: str) -> None:
    channel = f"presence-{name}"
    async with raw(nodes.a, ELSEWHERE) as a, raw(nodes.b, ELSEWHERE) as b, raw(nodes.a, ELSEWHERE) as c:
        for number, client in enumerate((a, b, c)):
            await _join(client, channel, f"user{number}")
        async with raw(nodes.b, ELSEWHERE) as fourth:
            await fourth.subscribe(channel, '{"user_id":"user3"}')
            error = await fourth.wait("pusher:subscription_error", channel)
            assert error["data"]["type"] == "LimitReached"
            await _join(fourth, channel, "user2")


async def _join(client: RawPusher, channel: str, user: str) -> None:
    await client.subscribe(channel, json.dumps({"user_id": user}))
    await client.wait("pusher_internal:subscription_succeeded", channel)


@pytest.mark.parametrize(
    ("auth", "user_data"),
    [
        ("", '{"id":"17"}'),
        (f"{MAIN.key}:{'0' * 64}", '{"id":"17"}'),
        (None, "{}"),
        (None, '{"id":17}'),
        (None, '{"id":""}'),
        (None, '{"id":"no spaces"}'),
        (None, "{"),
    ],
)
async def test_forged_and_broken_sign_ins(nodes: Cluster, auth: str | None, user_data: str) -> None:
    async with raw(nodes.a) as client:
        auth = signed(MAIN, client.socket_id, "", "user", "", user_data) if auth is None else auth
        await client.say("pusher:signin", {"auth": auth, "user_data": user_data})
        await client.wait("pusher:error")
        assert not client.named("pusher:signin_success")


async def test_a_connection_is_one_users(nodes: Cluster, name: str) -> None:
    async with raw(nodes.a) as client:
        for count, user in enumerate((name, name, f"{name}-other"), 1):
            user_data = json.dumps({"id": user})
            auth = signed(MAIN, client.socket_id, "", "user", "", user_data)
            await client.say("pusher:signin", {"auth": auth, "user_data": user_data})
            if user == name:
                await client.wait("pusher:signin_success", count=count)
        await client.wait("pusher:error")
        assert len(client.named("pusher:signin_success")) == 2


@pytest.mark.parametrize("channel", ["{}", "cache-{}", "#server-to-user-{}"])
async def test_client_events_where_there_are_none(nodes: Cluster, name: str, channel: str) -> None:
    channel = channel.format(name)
    async with raw(nodes.a) as client, raw(nodes.b) as other:
        for each in (client, other):
            user_data = json.dumps({"id": name})
            auth = signed(MAIN, each.socket_id, "", "user", "", user_data)
            await each.say("pusher:signin", {"auth": auth, "user_data": user_data})
            await each.subscribe(channel)
            await each.wait("pusher_internal:subscription_succeeded", channel)
        await client.say("client-x", {}, channel=channel)
        await client.wait("pusher:error")
        await publish(nodes.a, {**EVENT, "channel": channel})
        await other.wait("e")
        assert not other.named("client-x")


@pytest.mark.parametrize(
    ("event", "data"),
    [("client-" + "x" * 194, {}), ("client-x", "x" * 10_241), ("clientx", {}), ("Client-x", {})],
    ids=lambda value: str(value)[:20],
)
async def test_client_events_that_cannot_be(nodes: Cluster, name: str, event: str, data: Any) -> None:
    channel = f"private-{name}"
    async with raw(nodes.a) as client, raw(nodes.b) as other:
        for each in (client, other):
            await each.subscribe(channel)
            await each.wait("pusher_internal:subscription_succeeded")
        await client.say(event, data, channel=channel)
        await client.wait("pusher:error")
        await client.say("client-last", {}, channel=channel)
        await other.wait("client-last")
        assert [each["event"] for each in other.frames if "lient" in each["event"]] == ["client-last"]


async def test_client_events_beyond_the_rate_are_4301_and_no_end(nodes: Cluster, name: str) -> None:
    channel = f"private-{name}"
    async with raw(nodes.a) as client, raw(nodes.b) as other:
        for each in (client, other):
            await each.subscribe(channel)
            await each.wait("pusher_internal:subscription_succeeded")
        for number in range(15):
            await client.say("client-x", number, channel=channel)
        error = await client.wait("pusher:error")
        assert error["data"]["code"] == 4301
        await client.quiet()
        await publish(nodes.a, {**EVENT, "channel": channel})
        await other.wait("e")
        delivered = [each["data"] for each in other.named("client-x")]
        assert delivered[:10] == list(range(10))
        assert len(delivered) + len(client.named("pusher:error")) == 15
