"""PyPI ``pusher`` against two gateways behind HAProxy."""

import base64
import json
from asyncio import to_thread
from collections.abc import Callable
from typing import Any

import pusher
import pytest
from pusher.errors import PusherBadAuth, PusherBadRequest, PusherBadStatus, PusherForbidden

from tests.integration.pusher.application import Application
from tests.integration.pusher.apps import DISABLED, FORMER, MAIN, PLAIN, UNKNOWN, App
from tests.integration.pusher.clients import Library
from tests.integration.pusher.raw import raw
from tests.integration.servers import Cluster

Call = Callable[[pusher.Pusher], Any]
NEVER_SEEN = "1.1"


async def test_trigger_on_a_hundred_channels(nodes: Cluster, backend: pusher.Pusher, name: str) -> None:
    channels = [f"{name}-{n}" for n in range(100)]
    async with raw(nodes.a) as first, raw(nodes.b) as last:
        for client, channel in ((first, channels[0]), (last, channels[-1])):
            await client.subscribe(channel)
            await client.wait("pusher_internal:subscription_succeeded")
        assert await to_thread(backend.trigger, channels, "e", {"n": 1}) == {}
        for client in (first, last):
            assert json.loads((await client.wait("e"))["data"]) == {"n": 1}
        with pytest.raises(ValueError, match="Too many channels"):
            await to_thread(backend.trigger, [*channels, name], "e", {})


async def test_socket_ids_are_left_out_on_every_node(nodes: Cluster, name: str) -> None:
    async with raw(nodes.a) as ann, raw(nodes.b) as bob:
        for client in (ann, bob):
            await client.subscribe(name)
            await client.wait("pusher_internal:subscription_succeeded")
        for node in (nodes.a, nodes.b):
            await to_thread(MAIN.backend(node).trigger, name, "e", "left out", ann.socket_id)
            await to_thread(MAIN.backend(node).trigger, name, "e", "to all", NEVER_SEEN)
        await ann.wait("e", count=2)
        await bob.wait("e", count=4)
        assert [each["data"] for each in ann.named("e")] == ["to all"] * 2
        assert [each["data"] for each in bob.named("e")] == ["left out", "to all"] * 2


async def test_batches_with_socket_id_and_info(nodes: Cluster, backend: pusher.Pusher, name: str) -> None:
    private = f"private-{name}"
    async with raw(nodes.a) as ann, raw(nodes.b) as bob:
        for client in (ann, bob):
            for channel in (name, private):
                await client.subscribe(channel)
                await client.wait("pusher_internal:subscription_succeeded", channel)
        batch = [
            {"name": "a", "channel": name, "data": "1", "info": "subscription_count"},
            {"name": "b", "channel": private, "data": {"n": 2}, "socket_id": ann.socket_id},
        ]
        assert await to_thread(backend.trigger_batch, batch) == {"batch": [{"subscription_count": 2}, {}]}
        await bob.wait("b")
        assert await to_thread(backend.trigger_batch, [{"name": "c", "channel": private, "data": "3"}]) == {}
        await ann.wait("c")
        assert [each["event"] for each in ann.frames if each["event"] in "abc"] == ["a", "c"]


async def test_send_to_user_reaches_every_tab(nodes: Cluster, node: Library, backend: pusher.Pusher, name: str) -> None:
    tabs = [await node.opened(each, user={"id": name}) for each in (nodes.a, nodes.b)]
    other = await node.opened(nodes.a, user={"id": f"{name}-other"})
    for tab in (*tabs, other):
        await tab.signed_in()
    assert await to_thread(backend.send_to_user, name, "hello", {"n": 1}) == {}
    await to_thread(backend.send_to_user, f"{name}-other", "hello", {"n": 2})
    for tab in (*tabs, other):
        await tab.log("user").wait("hello")
    assert [tab.log("user").named("hello") for tab in (*tabs, other)] == [[{"n": 1}], [{"n": 1}], [{"n": 2}]]


async def test_terminate_user_connections(nodes: Cluster, node: Library, backend: pusher.Pusher, name: str) -> None:
    """On its path without app; who is the user in a presence channel alone is not meant."""
    tabs = [await node.opened(each, user={"id": name}) for each in (nodes.a, nodes.b)]
    for tab in tabs:
        await tab.signed_in()
    member = await node.opened(nodes.a, member={"user_id": name})
    await member.subscribed(f"presence-{name}")
    assert await to_thread(backend.terminate_user_connections, name) == {}
    for tab in tabs:
        await tab.log("").wait("disconnected")
        assert (await tab.log("").wait("error"))["code"] == 4009
    await member.subscribed(f"{name}-more")
    assert member.log("").names == ["connected"]


async def test_channels_info(nodes: Cluster, backend: pusher.Pusher, name: str) -> None:
    prefix = f"presence-{name}_-=@,.;"
    async with raw(nodes.a) as ann, raw(nodes.b) as bob:
        for client in (ann, bob):
            await client.subscribe(f"{prefix}1", json.dumps({"user_id": "17"}))
            await client.wait("pusher_internal:subscription_succeeded")
        await bob.subscribe(f"{prefix}2", json.dumps({"user_id": "23"}))
        await bob.wait("pusher_internal:subscription_succeeded", f"{prefix}2")
        await bob.subscribe(name)
        await bob.wait("pusher_internal:subscription_succeeded", name)
        found = await to_thread(backend.channels_info, prefix, ["user_count"])
        assert found == {"channels": {f"{prefix}1": {"user_count": 1}, f"{prefix}2": {"user_count": 1}}}
        assert await to_thread(backend.channels_info, name) == {"channels": {name: {}}}
        everything = (await to_thread(backend.channels_info))["channels"]
        assert {f"{prefix}1", f"{prefix}2", name} <= set(everything)
        assert await to_thread(PLAIN.backend(nodes.b).channels_info, name) == {"channels": {}}


async def test_channel_info(nodes: Cluster, backend: pusher.Pusher, name: str) -> None:
    cache, presence = f"cache-{name}=@,.;", f"presence-{name}"
    async with raw(nodes.a) as ann, raw(nodes.b) as bob:
        for client in (ann, bob):
            for channel, member in ((name, ""), (cache, ""), (presence, json.dumps({"user_id": "17"}))):
                await client.subscribe(channel, member)
                await client.wait("pusher_internal:subscription_succeeded", channel)
        info = backend.channel_info
        assert await to_thread(info, name, ["subscription_count"]) == {"occupied": True, "subscription_count": 2}
        assert await to_thread(info, presence, ["user_count"]) == {"occupied": True, "user_count": 1}
        both = ["subscription_count", "cache"]
        assert await to_thread(info, cache, both) == {"occupied": True, "subscription_count": 2, "cache": None}
        await to_thread(backend.trigger, cache, "e", {"n": 1})
        kept = (await to_thread(info, cache, ["cache"]))["cache"]
        assert json.loads(kept["data"]) == {"n": 1}
        assert 1700 < kept["ttl"] <= 1800
    assert await to_thread(info, f"{name}-nobody") == {"occupied": False}


async def test_users_info(nodes: Cluster, backend: pusher.Pusher, name: str) -> None:
    channel = f"presence-{name}"
    assert await to_thread(backend.users_info, channel) == {"users": []}
    async with raw(nodes.a) as ann, raw(nodes.b) as bob, raw(nodes.b) as again:
        for client, user in ((ann, 17), (bob, "23"), (again, "17")):
            await client.subscribe(channel, json.dumps({"user_id": user}))
            await client.wait("pusher_internal:subscription_succeeded")
        users = (await to_thread(backend.users_info, channel))["users"]
        assert sorted(users, key=lambda user: str(user["id"])) == [{"id": "17"}, {"id": "23"}]


@pytest.mark.parametrize(
    ("app", "call", "error"),
    [
        (MAIN, lambda it: it.channels_info(None, ["user_count"]), PusherBadRequest),
        (MAIN, lambda it: it.channel_info("news", ["user_count"]), PusherBadRequest),
        (MAIN, lambda it: it.channel_info("presence-x", ["subscription_count", "cache"]), PusherBadRequest),
        (MAIN, lambda it: it.users_info("news"), PusherBadRequest),
        (MAIN, lambda it: it.trigger("news", "pusher:x", {}), PusherBadRequest),
        (App(MAIN.id, MAIN.key, "another"), lambda it: it.trigger("news", "e", {}), PusherBadAuth),
        (App(MAIN.id, PLAIN.key, PLAIN.secret), lambda it: it.channels_info(), PusherBadAuth),
        (App(MAIN.id, MAIN.key, "another"), lambda it: it.terminate_user_connections("17"), PusherBadAuth),
        (DISABLED, lambda it: it.trigger("news", "e", {}), PusherForbidden),
        (UNKNOWN, lambda it: it.trigger("news", "e", {}), PusherBadStatus),
        (MAIN, lambda it: it.trigger("news", "e", "x" * 10_241), PusherBadStatus),
    ],
)
async def test_refusals_are_its_errors(nodes: Cluster, app: App, call: Call, error: type[Exception]) -> None:
    with pytest.raises(error) as raised:
        await to_thread(call, app.backend(nodes.balancer))
    assert type(raised.value) is error


@pytest.mark.parametrize("app", [MAIN, FORMER], ids=["key", "former key"])
async def test_each_key_of_the_app_is_good(nodes: Cluster, app: App, name: str) -> None:
    backend = app.backend(nodes.balancer)
    assert await to_thread(backend.trigger, name, "e", {}) == {}
    async with raw(nodes.a, app) as client:
        auth = backend.authenticate(f"private-{name}", client.socket_id, {"any": "thing"})
        await client.subscribe(f"private-{name}", **{each: auth[each] for each in ("auth", "channel_data")})
        await client.wait("pusher_internal:subscription_succeeded")


async def test_encrypted_channels(nodes: Cluster, node: Library, backend: pusher.Pusher, name: str) -> None:
    channel = f"private-encrypted-{name}"
    client = await node.opened(nodes.b)
    log = await client.subscribed(channel)
    await to_thread(backend.trigger, [channel], "hush", {"secret": 1})
    assert await log.wait("hush") == {"secret": 1}
    with pytest.raises(ValueError, match="encrypted"):
        await to_thread(backend.trigger, [channel, name], "hush", {})
    assert isinstance(backend.authenticate(channel, await client.socket())["shared_secret"], bytes)


async def test_a_user_is_authenticated(nodes: Cluster, backend: pusher.Pusher, name: str) -> None:
    async with raw(nodes.a) as client:
        signed = backend.authenticate_user(client.socket_id, {"id": name, "user_info": {"name": "Noör"}})
        await client.say("pusher:signin", signed)
        success = await client.wait("pusher:signin_success")
        assert success["data"]["user_data"] == signed["user_data"]


async def test_validate_webhook_takes_ours(
    nodes: Cluster, site: Application, backend: pusher.Pusher, name: str
) -> None:
    async with raw(nodes.a) as client:
        await client.subscribe(name)
        await site.until_told("channel_occupied", name)
    for each in site.webhooks:
        parsed = backend.validate_webhook(each.key, each.signature, each.body.decode())
        assert parsed == json.loads(each.body)
        forged = base64.b16encode(bytes(32)).decode().lower()
        assert backend.validate_webhook(each.key, forged, each.body.decode()) is None
