"""Questions over HTTP: which channels are occupied, who is there, and the end of a user's connections."""

import json
from fnmatch import fnmatch
from typing import Any

import pytest

from gateway.core import survey
from gateway.kinds import Names
from gateway.messages import ClientInfo, Payload, Publication
from gateway.web.pusher import state
from tests.web.pusher.conftest import BARE, PLAIN, SHOP, Backend

# — channels —


async def test_occupied_channels_of_the_app(backend: Backend) -> None:
    await backend.join("shop:news", "shop:presence-a", "shop:#17", "plain:other", "bare", user="17")
    await backend.join("shop:presence-a", "shop:presence-b", user="17", node=0)
    await backend.join("shop:presence-a", user="23", node=0)
    gone = await backend.join("shop:left")
    await gone.unsubscribe("shop:left")
    assert await backend.get("channels") == {"channels": {"news": {}, "presence-a": {}, "presence-b": {}}}
    assert await backend.get("channels", filter_by_prefix="presence-", info="user_count,subscription_count") == {
        "channels": {
            "presence-a": {"user_count": 2, "subscription_count": 3},
            "presence-b": {"user_count": 1, "subscription_count": 1},
        }
    }
    assert await backend.get("channels", filter_by_prefix="ne", info="subscription_count") == {
        "channels": {"news": {"subscription_count": 1}}
    }
    assert await backend.get("channels", PLAIN) == {"channels": {"other": {}}}
    assert await backend.get("channels", BARE) == {"channels": {"bare": {}}}


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("#", ["#server-to-user-17", "#server-to-user-23"]),
        ("#server-", ["#server-to-user-17", "#server-to-user-23"]),
        ("#server-to-user-1", ["#server-to-user-17"]),
        ("#1", []),
        ("*", []),
        ("?ews", []),
        ("[n]ews", []),
        ("x" * 201, []),
    ],
)
async def test_a_prefix_is_no_pattern_and_inboxes_are_asked_for(
    backend: Backend, prefix: str, found: list[str]
) -> None:
    await backend.join("shop:news", "shop:#17", "shop:#23")
    assert await backend.get("channels", filter_by_prefix=prefix) == {"channels": {name: {} for name in found}}


@pytest.mark.parametrize("namespace", ["shop", "a[b]*:42", ""])
def test_a_namespace_is_no_pattern_either(namespace: str) -> None:
    names = Names(namespace)
    for prefix, found in (("ne", True), ("", True), ("x", False)):
        assert fnmatch(names.inside("news"), state._pattern(names, prefix)) is found
    assert not fnmatch("ab:42:news", state._pattern(Names("a[b]*:42"), ""))


@pytest.mark.parametrize(
    "query",
    [
        {"info": "user_count"},
        {"info": "user_count", "filter_by_prefix": "presence"},
        {"info": "user_count", "filter_by_prefix": "private-"},
        {"info": "cache", "filter_by_prefix": "cache-"},
        {"info": "nothing"},
    ],
)
async def test_what_the_channels_do_not_have_cannot_be_asked(backend: Backend, query: dict[str, Any]) -> None:
    status, message = await backend.refused("GET", "channels", **query)
    assert (status, "is nothing that such a channel has" in message) == (400, True)


async def test_many_channels_are_told_in_parts(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "FAIR", 3)
    monkeypatch.setattr("gateway.core.cluster.MOST", 5)
    names = [f"presence-{number:02}" for number in range(12)]
    await backend.join(*(f"shop:{name}" for name in names), user="17")
    assert survey.MOST > 5
    told = await backend.get("channels", filter_by_prefix="presence-", info="user_count")
    assert told == {"channels": {name: {"user_count": 1} for name in names}}


# — one channel —


async def test_a_channel_that_nobody_knows_is_vacant(backend: Backend) -> None:
    for app in (SHOP, PLAIN):
        assert await backend.get("channels/nobody-here", app) == {"occupied": False}
    told = await backend.get("channels/presence-none", info="user_count,subscription_count")
    assert told == {"occupied": False, "user_count": 0, "subscription_count": 0}


async def test_a_channel_is_counted_on_all_nodes(backend: Backend) -> None:
    for node in (0, 1):
        await backend.join("plain:news", "shop:presence-a", user="17", node=node)
    assert await backend.get("channels/news", PLAIN, info="subscription_count") == {
        "occupied": True,
        "subscription_count": 2,
    }
    assert await backend.get("channels/presence-a", info="user_count,subscription_count") == {
        "occupied": True,
        "user_count": 1,
        "subscription_count": 2,
    }


async def test_a_node_that_does_not_answer_is_not_counted(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await backend.join("plain:news", node=0)
    del backend.kit.nodes[1].gateway.node.answers["pusher_subscribers"]
    assert (await backend.get("channels/news", PLAIN, info="subscription_count"))["subscription_count"] == 1
    assert "count of subscribers: no answer from" in caplog.text


@pytest.mark.parametrize(
    ("name", "info"),
    [("news", "user_count"), ("news", "cache"), ("presence-a", "cache"), ("cache-a", "user_count"), ("news", "x")],
)
async def test_what_a_channel_does_not_have_cannot_be_asked(backend: Backend, name: str, info: str) -> None:
    assert (await backend.refused("GET", f"channels/{name}", info=info))[0] == 400


@pytest.mark.parametrize("name", ["no channel", "x" * 201, "shop:news", "%23news"])
async def test_a_name_that_no_channel_has(backend: Backend, name: str) -> None:
    for path in (f"channels/{name}", f"channels/{name}/users"):
        status, message = await backend.refused("GET", path)
        assert (status, "is no channel" in message) == (400, True)


@pytest.mark.parametrize("data", ["1.07", "rain", "", '{"a": 1.00}'])
async def test_the_event_that_a_cache_channel_has(backend: Backend, data: str) -> None:
    empty = await backend.get("channels/cache-a", info="cache")
    assert empty == {"occupied": False, "cache": None}
    await backend.event(["cache-a"], data)
    assert (await backend.get("channels/cache-a", info="cache"))["cache"] == {"data": data, "ttl": 1800}
    await backend.kit.clock.advance(100.5)
    assert (await backend.get("channels/cache-a", info="cache"))["cache"] == {"data": data, "ttl": 1700}
    await backend.kit.clock.advance(1700)
    assert (await backend.get("channels/cache-a", info="cache"))["cache"] is None


async def test_what_others_publish_there_may_not_say_when(backend: Backend) -> None:
    node = backend.kit.gateway.node
    channel = node.channels.resolve("shop:cache-a")
    for tags in (None, {"time": "x"}, {"time": "9" * 30}):
        await node.publish(channel, Publication(Payload(b"1"), tags=tags))
        assert (await backend.get("channels/cache-a", info="cache"))["cache"] == {"data": "1", "ttl": 1800}


async def test_without_history_there_is_no_cache(backend: Backend) -> None:
    assert await backend.get("channels/cache-a", PLAIN, info="cache") == {"occupied": False, "cache": None}


# — users —


async def test_users_are_told_once_each(backend: Backend) -> None:
    for user, node in (("17", 0), ("17", 1), ("23", 1)):
        await backend.join("shop:presence-a", user=user, node=node)
    assert await backend.get("channels/presence-a/users") == {"users": [{"id": "17"}, {"id": "23"}]}
    assert await backend.get("channels/presence-none/users") == {"users": []}
    assert (await backend.refused("GET", "channels/private-a/users"))[0] == 400


async def test_thousands_of_users_and_those_without_id(backend: Backend) -> None:
    store = backend.kit.gateway.node.presence_store
    for number in range(5000):
        await store.add("shop:presence-a", ClientInfo(str(number % 2500), f"c{number}"))
    await store.add("shop:presence-a", ClientInfo("", "somebody"))
    told = (await backend.get("channels/presence-a/users"))["users"]
    assert {each["id"] for each in told} == {*map(str, range(2500)), "somebody"}
    assert len(told) == 2501


# — the end of connections —


@pytest.mark.parametrize("path", ["users/17/terminate_connections", "/users/17/terminate_connections"])
async def test_all_nodes_are_told_whose_connections_end(backend: Backend, path: str) -> None:
    told: list[Any] = []
    for each in backend.kit.nodes:
        each.gateway.node.cluster.listeners["pusher_terminate"] = lambda argument: told.append(json.loads(argument))
    assert await backend.post(path) == {}
    await backend.kit.wait_idle()
    assert told == [{"app": "9001", "user": "17"}] * 2


async def test_a_user_must_be_one(backend: Backend) -> None:
    for user in ("no user", "x" * 201):
        status, message = await backend.refused("POST", f"users/{user}/terminate_connections", {})
        assert (status, "is no user's id" in message) == (400, True)


async def test_connections_are_those_of_all_nodes(backend: Backend) -> None:
    async def answer(argument: str) -> bytes:
        return b"21" if argument == "9001" else b"0"

    for each in backend.kit.nodes:
        each.gateway.node.answers["pusher_connections"] = answer
    assert await backend.get("connections") == {"connections": 42}
