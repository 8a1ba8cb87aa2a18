"""Channels that are polled: which keys a client may track, what the backend is asked, and what clients are told."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from gateway.auth.tracking import sign_keys
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode
from gateway.protocols.fossil import apply
from gateway.web.api_messages import PublishRequest, SharedPollPublishRequest, SubscribeRequest
from gateway.web.methods import METHODS
from tests.integration.clients.javascript import JavaScriptProtobufSDK, JavaScriptSDK
from tests.integration.clients.polls import poll_of
from tests.proxies.backend import Backend, Raw, backend_running
from tests.proxies.client import Client, Gateway, gateway_running, token
from tests.waiting import until

SIGNING = "a secret for signatures of keys, thirty-two bytes or more"
OPTIONS = {"subscription_type": "shared_poll", "allow_subscribe_for_client": True, "allow_publish_for_client": True}
DELTA = {"allowed_delta_types": ["fossil"]}
OFTEN = {"refresh_interval": "50ms", "refresh_batch_size": 2, "max_keys_per_connection": 4}
NAMESPACES: list[dict[str, Any]] = [
    {"name": "poll", **OPTIONS, "shared_poll": {**OFTEN, "mode": "versioned"}},
    {"name": "data", **OPTIONS, "shared_poll": OFTEN},
    {"name": "told", **OPTIONS, **DELTA, "shared_poll": {**OFTEN, "mode": "versioned", "publish_enabled": True}},
    {"name": "kept", **OPTIONS, **DELTA, "shared_poll": {**OFTEN, "keep_latest_data": True}},
    {"name": "stream", "allow_subscribe_for_client": True},
]


def signed(channel: str, *keys: str, user: str = "7", life: int = 600) -> str:
    now = int(time.time())
    return sign_keys(SIGNING, now, now + life, user, channel, keys)


def batch(channel: str, *keys: str, versions: dict[str, int] | None = None, **more: Any) -> dict[str, Any]:
    items = [{"key": key, "version": (versions or {}).get(key, 0)} for key in keys]
    return {"signature": signed(channel, *keys, **more), "items": items}


def values(epoch: str = "", **given: Any) -> dict[str, Any]:
    """An answer of the backend: ``k1=(data, version)``, or ``None`` for a key that is removed."""
    items = [
        {"key": key, "removed": True} if each is None else {"key": key, "data": each[0], "version": each[1]}
        for key, each in given.items()
    ]
    return {"result": {"items": items, **({"epoch": epoch} if epoch else {})}}


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    async with backend_running() as running:
        yield running


@pytest.fixture
async def gateway(backend: Backend) -> AsyncIterator[Gateway]:
    proxy = {"shared_poll_refresh": {"endpoint": f"{backend.url}/refresh", "timeout": "5s"}}
    channel = {"namespaces": NAMESPACES, "proxy": proxy}
    async with gateway_running({"channel": channel, "shared_poll": {"hmac_secret_key": SIGNING}}) as running:
        yield running


async def track(client: Client, channel: str, *batches: dict[str, Any], **more: Any) -> Any:
    return await client.ask("sub_refresh", channel=channel, type=1, track=[*batches], **more)


async def pushed(client: Client) -> tuple[str, Any, int]:
    pub = (await client.push())["pub"]
    return pub["key"], "removed" if pub.get("removed") else pub["data"], pub.get("version", 0)


@pytest.mark.parametrize(
    ("channel", "type_", "code"), [("poll:a", 0, 107), ("poll:a", 1, 107), ("stream:a", 4, 108), ("stream:a", 1, 103)]
)
async def test_a_channel_has_one_type(gateway: Gateway, channel: str, type_: int, code: int) -> None:
    async with gateway.connected() as client:
        assert (await client.ask("subscribe", channel=channel, type=type_))["code"] == code


async def test_subscribing(gateway: Gateway) -> None:
    async with gateway.connected() as client:
        assert await client.ask("subscribe", channel="poll:a", type=4, flag=1) == {"type": 4}
        result = await client.ask("subscribe", channel="data:a", type=4)
        assert len(result["epoch"]) == 8
        assert (await client.ask("publish", channel="poll:a", data=1))["code"] == 103
        assert (await client.ask("history", channel="poll:a", limit=1))["code"] == 108


async def test_the_server_neither_publishes_nor_subscribes_there(gateway: Gateway) -> None:
    calls: list[tuple[str, Any]] = [
        ("publish", PublishRequest(channel="poll:a", data=msgspec.Raw(b"1"))),
        ("subscribe", SubscribeRequest(user="7", channel="poll:a")),
    ]
    for method, request in calls:
        with pytest.raises(Error) as refused:
            await METHODS[method].call(gateway.node, request)
        assert refused.value.code == ErrorCode.BAD_REQUEST
    async with gateway.client() as client:
        assert "subs" not in await client.ask("connect", token=token("7"), subs={"poll:a": {}})


async def test_values_and_their_changes(gateway: Gateway, backend: Backend) -> None:
    backend.answers["/refresh"] = [
        values(k1=({"v": 1}, 5)),
        values(k1=({"v": 1}, 5)),
        values(k1=({"v": 2}, 6), k2=None),
    ]
    async with gateway.connected() as client:
        await client.ask("subscribe", channel="poll:a", type=4)
        result = await track(client, "poll:a", batch("poll:a", "k1", "k2", versions={"k2": 3}))
        assert result["expires"]
        assert 590 <= result["ttl"] <= 600
        told = [await pushed(client) for _ in range(3)]
        assert told[0] == ("k1", {"v": 1}, 5)
        assert sorted(told[1:], key=str) == [("k1", {"v": 2}, 6), ("k2", "removed", 0)]
        assert backend.of("/refresh")[0] == {"channel": "poll:a", "items": [{"key": "k1"}]}
        assert backend.of("/refresh")[1] == {"channel": "poll:a", "items": [{"key": "k1", "version": 5}, {"key": "k2"}]}
        await until(lambda: backend.of("/refresh")[-1]["items"] == [{"key": "k1", "version": 6}])


async def test_by_data_alone(gateway: Gateway, backend: Backend) -> None:
    backend.answers["/refresh"] = [values(k=("a", 0)), values(k=("a", 0)), values(k=("b", 0))]
    async with gateway.connected() as client, gateway.connected("8") as other:
        for each, user in ((client, "7"), (other, "8")):
            await each.ask("subscribe", channel="data:a", type=4)
            await track(each, "data:a", batch("data:a", "k", user=user))
        assert [await pushed(client) for _ in range(2)] == [("k", "a", 1), ("k", "b", 2)]
        while (told := await pushed(other)) != ("k", "b", 2):
            assert told == ("k", "a", 1)
        await track(client, "data:a", batch("data:a", "k"))
        assert await pushed(client) == ("k", "b", 2), "told again to who has it not"
        await track(client, "data:a", batch("data:a", "k", versions={"k": 1}))
        assert await pushed(client) == ("k", "b", 2)
        assert not other.pushes


async def test_keys_are_asked_for_in_chunks(gateway: Gateway, backend: Backend) -> None:
    async with gateway.connected() as client:
        await client.ask("subscribe", channel="poll:a", type=4)
        await track(client, "poll:a", batch("poll:a", "c", "b", "a"))
        await until(lambda: len(backend.of("/refresh")) >= 4)
        asked = [[item["key"] for item in each["items"]] for each in backend.of("/refresh")]
        assert sorted(asked[:2]) == [["a"], ["c", "b"]]
        assert asked[2:4] == [["a", "b"], ["c"]]


async def test_nothing_is_asked_for_keys_that_nobody_tracks(gateway: Gateway, backend: Backend) -> None:
    polls = gateway.node.polls
    async with gateway.connected() as client:
        await client.ask("subscribe", channel="poll:a", type=4)
        await track(client, "poll:a", batch("poll:a", "k1", "k2"))
        assert await client.ask("sub_refresh", channel="poll:a", type=2, untrack=["k1", "nobody's"]) == {}
        await until(lambda: backend.of("/refresh")[-1]["items"] == [{"key": "k2"}])
        await client.ask("unsubscribe", channel="poll:a")
        assert not gateway.node.hub.subscriptions
        await until(lambda: not polls._of)


async def test_refused(gateway: Gateway) -> None:
    async with gateway.connected() as client:
        good = batch("poll:a", "k")
        assert (await track(client, "poll:a", good))["code"] == 103, "not subscribed"
        await client.ask("subscribe", channel="poll:a", type=4)
        assert (await track(client, "poll:a"))["code"] == 107
        assert (await track(client, "poll:a", {"signature": "", "items": []}))["code"] == 107
        assert (await client.ask("sub_refresh", channel="poll:a", type=2))["code"] == 107
        assert (await client.ask("sub_refresh", channel="poll:a", type=3, untrack=["k"]))["code"] == 107
        assert (await track(client, "poll:a", good, batch("poll:a", "x", user="8")))["code"] == 103
        assert (await track(client, "poll:a", good, batch("poll:a", "x", life=-6)))["code"] == 109
        assert (await track(client, "poll:a", batch("poll:a", *"abcde")))["code"] == 106
        assert "code" not in await track(client, "poll:a", batch("poll:a", *"abcde"), untrack=["e"])
        assert (await track(client, "poll:a", batch("poll:a", "x", life=-2), untrack=["a"]))["ttl"] == 1


@pytest.mark.parametrize("item", [{"version": -1}, {"version": 2**63}, {"version": "1"}, {"key": 1}], ids=str)
async def test_what_is_no_item_closes(gateway: Gateway, item: dict[str, Any]) -> None:
    async with gateway.connected() as client:
        await client.ask("subscribe", channel="poll:a", type=4)
        code, _ = await track(client, "poll:a", {"signature": "", "items": [{"key": "k", **item}]})
        assert code == 3501


async def test_another_epoch_makes_everybody_begin_anew(gateway: Gateway, backend: Backend) -> None:
    answers = [values(k=(1, 9)), values("one", k=(1, 9)), values(k=(2, 10)), values("two", k=(3, 1))]
    backend.answers["/refresh"] = answers
    async with gateway.connected() as client:
        await client.ask("subscribe", channel="poll:a", type=4)
        await track(client, "poll:a", batch("poll:a", "k"))
        assert [await pushed(client) for _ in range(2)] == [("k", 1, 9), ("k", 2, 10)]
        assert (await client.push())["unsubscribe"]["code"] == 2500
        assert (await client.ask("subscribe", channel="poll:a", type=4))["epoch"] == "two"
        await track(client, "poll:a", batch("poll:a", "k"))
        assert await pushed(client) == ("k", 3, 1)


async def test_a_failure_changes_nothing(gateway: Gateway, backend: Backend) -> None:
    failures = [Raw(status=500), {"error": {"code": 1, "message": "no"}}, Raw(body=b"{"), Raw(body=None), {}]
    backend.answers["/refresh"] = [values(k=(1, 1)), *failures, values(k=(2, 2))]
    async with gateway.connected() as client:
        await client.ask("subscribe", channel="poll:a", type=4)
        await track(client, "poll:a", batch("poll:a", "k"))
        assert [await pushed(client) for _ in range(2)] == [("k", 1, 1), ("k", 2, 2)]


async def test_what_is_published(gateway: Gateway) -> None:
    async with gateway.connected() as client:
        await client.ask("subscribe", channel="told:a", type=4)
        await track(client, "told:a", batch("told:a", "k"))
        request = SharedPollPublishRequest(channel="told:a", key="k", version=3, data=msgspec.Raw(b'{"v": 3}'))
        await METHODS["shared_poll_publish"].call(gateway.node, request)
        assert await pushed(client) == ("k", {"v": 3}, 3)
        metrics = gateway.node.metrics
        assert (metrics.publications_in, metrics.publications_out, metrics.deliveries) == (1, 1, 1)


async def test_patches(gateway: Gateway, backend: Backend) -> None:
    def answer(version: int, before: int) -> dict[str, Any]:
        item = {"key": "k", "data": ["x" * 100, version], "version": version, "prev_data": ["x" * 100, before]}
        return {"result": {"items": [item]}}

    backend.answers["/refresh"] = [answer(1, 0), answer(2, 1), values(k=None)]
    async with gateway.connected() as client:
        assert (await client.ask("subscribe", channel="told:a", type=4, delta="fossil"))["delta"]
        await track(client, "told:a", batch("told:a", "k"))
        first, second, removal = [(await client.push())["pub"] for _ in range(3)]
        assert first == {"data": json.dumps(["x" * 100, 1]), "key": "k", "version": 1}
        assert (second["delta"], second["version"]) == (True, 2)
        assert apply(first["data"].encode(), second["data"].encode()) == json.dumps(["x" * 100, 2]).encode()
        assert removal == {"data": "null", "key": "k", "removed": True}


async def test_what_is_kept_is_in_the_answer(gateway: Gateway, backend: Backend) -> None:
    backend.answers["/refresh"] = [values(k=({"v": 1}, 0))]
    async with gateway.connected() as client, gateway.connected("8") as other:
        await client.ask("subscribe", channel="kept:a", type=4)
        assert "items" not in await track(client, "kept:a", batch("kept:a", "k"))
        assert await pushed(client) == ("k", {"v": 1}, 1)
        await other.ask("subscribe", channel="kept:a", type=4, delta="fossil")
        answered = await track(other, "kept:a", batch("kept:a", "k", user="8"))
        assert answered["items"] == [{"data": '{"v": 1}', "key": "k", "version": 1}]
        answered = await track(client, "kept:a", batch("kept:a", "k"))
        assert answered["items"] == [{"data": {"v": 1}, "key": "k", "version": 1}]
        assert "items" not in await track(client, "kept:a", batch("kept:a", "k", versions={"k": 1}))


async def test_nobody_hears_of_what_he_does_not_track(gateway: Gateway) -> None:
    async with gateway.connected() as client:
        await client.ask("subscribe", channel="told:a", type=4, delta="fossil")
        for key in "xk":
            if key == "k":
                await track(client, "told:a", batch("told:a", "k"))
            request = SharedPollPublishRequest(channel="told:a", key=key, version=1, data=msgspec.Raw(b"1"))
            await METHODS["shared_poll_publish"].call(gateway.node, request)
        assert await pushed(client) == ("k", "1", 1)
        assert not gateway.node.metrics.dropped["held"]


# — the SDK —


@pytest.mark.parametrize("kind", [JavaScriptSDK, JavaScriptProtobufSDK])
async def test_the_sdk(gateway: Gateway, backend: Backend, kind: type[JavaScriptSDK]) -> None:
    backend.answers["/refresh"] = [values(k1=("one", 1), k2=("two", 1))]
    url = f"ws://127.0.0.1:{gateway.port}/connection/websocket"
    async with kind() as sdk:
        client = await sdk.connected(url, token("7"))
        subscription = await poll_of(sdk, client, "poll:a")
        await subscription.track_signed(({"k1": 0, "k2": 0}, signed("poll:a", "k1", "k2")))
        await subscription.subscribe()
        await subscription.events.wait("update", 2)
        backend.answers["/refresh"] = [values(k1=("more", 2), k2=None)]
        await subscription.events.wait("update", 4)
        told = sorted(
            ((e.key, e.version, e.data, e.removed) for e in subscription.events.named("update")),
            key=lambda each: each[:2],
        )
        assert told[:2] == [("k1", 1, "one", False), ("k1", 2, "more", False)]
        assert {(key, removed) for key, _, _, removed in told[2:]} == {("k2", False), ("k2", True)}
        for connection in list(gateway.node.hub.connections.values()):
            connection.disconnect(Disconnect(DisconnectCode.INSUFFICIENT_STATE))
        await subscription.events.wait("subscribed", 2)
        backend.answers["/refresh"] = [values(k1=("again", 3))]
        await subscription.events.wait("update", 5)
        assert subscription.events.named("update")[-1].data == "again"
        await subscription.track_signed(({"k3": 0}, "bad"))
        assert (await subscription.events.wait("error")).code == 103
