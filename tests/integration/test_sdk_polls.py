"""Shared polls as the official SDK has them, on two nodes that Redis joins: clients are here and there."""

import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.auth.tracking import sign_keys
from tests.integration.cable import Cable
from tests.integration.clients.base import Client
from tests.integration.clients.driven import Sign
from tests.integration.clients.javascript import JavaScriptProtobufSDK, JavaScriptSDK
from tests.integration.clients.maps import MapAPI
from tests.integration.clients.polls import PollSubscription, poll_of
from tests.integration.servers import Cluster, Server, cluster
from tests.integration.settings import on_redis
from tests.integration.tokens import connection_token
from tests.ports import free_port
from tests.proxies.backend import Backend, backend_running
from tests.redis_server import RedisServer
from tests.waiting import until

PORT = free_port()
SECRET = "a secret for signatures of keys, thirty-two bytes or more"
OPTIONS: dict[str, Any] = {"subscription_type": "shared_poll", "allow_subscribe_for_client": True}
OFTEN: dict[str, Any] = {"refresh_interval": "200ms", "refresh_batch_size": 100, "max_keys_per_connection": 100}
TOLD: dict[str, Any] = {"mode": "versioned", "refresh_interval": "60s", "publish_enabled": True}
"""Polled so seldom that within a test what comes is no matter of a cycle."""
CHANNELS: dict[str, Any] = {
    "namespaces": [
        {"name": "poll", **OPTIONS, "shared_poll": {**OFTEN, "mode": "versioned"}},
        {"name": "pollvl", **OPTIONS, "shared_poll": OFTEN},
        {"name": "told", **OPTIONS, "shared_poll": TOLD},
        {"name": "kept", **OPTIONS, "shared_poll": {**TOLD, "keep_latest_data": True}}
        | {"allowed_delta_types": ["fossil"]},
    ],
    "proxy": {"shared_poll_refresh": {"endpoint": f"http://127.0.0.1:{PORT}/refresh", "timeout": "5s"}},
}
ENCODINGS = pytest.mark.parametrize(
    "javascript", [JavaScriptSDK, JavaScriptProtobufSDK], indirect=True, ids=lambda k: k.name
)
PADDING = "x" * 500


@pytest.fixture(scope="module")
def polled(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    settings = {**on_redis(redis.url, "polled"), "channel": CHANNELS, "shared_poll": {"hmac_secret_key": SECRET}}
    with cluster(tmp_path_factory.mktemp("polled"), settings) as running:
        yield running


def signed(channel: str, *keys: str, life: int = 600) -> str:
    now = int(time.time())
    return sign_keys(SECRET, now + min(life, 0), now + life, "u", channel, keys)


@dataclass
class Signer:
    """An application that signs, and remembers what it was asked."""

    channel: str
    life: int = 600
    refused: set[str] = field(default_factory=set)
    asked: list[list[str]] = field(default_factory=list)

    def __call__(self, keys: list[str]) -> tuple[list[str], str]:
        self.asked.append(keys)
        found = [key for key in keys if key not in self.refused]
        return found, signed(self.channel, *found, life=self.life)


@dataclass
class Ground:
    """Clients are near, and callers of the server API far."""

    sdk: JavaScriptSDK
    near: Server
    far: Server
    backend: Backend

    def has(self, **values: tuple[Any, int] | None) -> None:
        """What the backend answers from now on, again and again and without epoch: data and version, or a removal."""
        items = [
            {"key": key, "removed": True} if each is None else {"key": key, "data": each[0], "version": each[1]}
            for key, each in values.items()
        ]
        self.backend.answers["/refresh"] = [{"result": {"items": items}}]

    @property
    def asked(self) -> list[dict[str, int]]:
        """The keys, with their versions, of each question so far."""
        return [{item["key"]: item.get("version", 0) for item in each["items"]} for each in self.backend.of("/refresh")]

    async def asked_again(self, times: int = 2) -> None:
        """Some cycles have gone by."""
        before = len(self.asked)
        await until(lambda: len(self.asked) >= before + times)

    async def publish(self, channel: str, key: str, version: int, data: Any) -> None:
        await MapAPI(self.far).call("shared_poll_publish", channel=channel, key=key, version=version, data=data)

    async def client(self, url: str = "") -> Client:
        return await self.sdk.connected(url or self.near.ws_url, connection_token("u"))

    async def poll(
        self, channel: str, sign: Sign | None = None, client: Client | None = None, *, delta: bool = False
    ) -> PollSubscription:
        """A subscription that has not begun."""
        return await poll_of(self.sdk, client or await self.client(), channel, sign, delta=delta)

    async def tracking(self, channel: str, url: str = "", **keys: int) -> PollSubscription:
        """A subscription of a client of its own that tracks keys, from these versions on."""
        found = await self.poll(channel, client=await self.client(url))
        await found.subscribe()
        await found.track_signed((keys, signed(channel, *keys)))
        return found


@pytest.fixture
async def javascript(request: pytest.FixtureRequest) -> AsyncIterator[JavaScriptSDK]:
    async with getattr(request, "param", JavaScriptSDK)() as running:
        yield running


@pytest.fixture
async def ground(polled: Cluster, javascript: JavaScriptSDK) -> AsyncIterator[Ground]:
    async with backend_running(port=PORT) as backend:
        yield Ground(javascript, polled.a, polled.b, backend)


async def test_several_clients_track_several_batches(ground: Ground, name: str) -> None:
    channel = f"poll:{name}"
    ground.has(a=(1, 1), b=(2, 1), c=(3, 1))
    one = await ground.poll(channel)
    await one.subscribe()
    await one.track_signed(({"a": 0, "b": 0}, signed(channel, "a", "b")), ({"c": 0}, signed(channel, "c")))
    same = await ground.tracking(channel, a=0, b=0, c=0)
    other = await ground.tracking(channel, ground.far.ws_url, c=0)
    await one.updated(("a", 1, 1), ("b", 2, 1), ("c", 3, 1))
    await same.updated(("a", 1, 1), ("b", 2, 1), ("c", 3, 1))
    await other.updated(("c", 3, 1))
    await until(lambda: {"a": 1, "b": 1, "c": 1} in ground.asked)
    ground.has(a=(4, 2), b=(5, 2), c=(3, 1))
    for each in (one, same):
        await each.updated(("a", 1, 1), ("b", 2, 1), ("c", 3, 1), ("a", 4, 2), ("b", 5, 2))
    await ground.asked_again()
    assert other.updates == [("c", 3, 1)]


@ENCODINGS
async def test_nothing_comes_of_a_known_version_until_there_is_a_higher(ground: Ground, name: str) -> None:
    ground.has(a=({"n": 5}, 5), b=({"n": 1}, 1))
    subscription = await ground.tracking(f"poll:{name}", a=5, b=0)
    await subscription.updated(("b", {"n": 1}, 1))
    await until(lambda: {"a": 5, "b": 1} in ground.asked)
    await ground.asked_again()
    ground.has(a=({"n": 6}, 6))
    await subscription.updated(("b", {"n": 1}, 1), ("a", {"n": 6}, 6))


async def test_nothing_comes_of_keys_that_are_untracked(ground: Ground, name: str) -> None:
    ground.has(a=(1, 1), b=(1, 1))
    subscription = await ground.tracking(f"poll:{name}", a=0, b=0)
    fence = await ground.tracking(f"poll:{name}", a=0)
    await subscription.updated(("a", 1, 1), ("b", 1, 1))
    await fence.updated(("a", 1, 1))
    await subscription.untrack("a")
    await until(lambda: "a" in ground.asked[-1])
    ground.has(a=(2, 2), b=(2, 2))
    await fence.updated(("a", 1, 1), ("a", 2, 2))
    await subscription.updated(("a", 1, 1), ("b", 1, 1), ("b", 2, 2))
    await subscription.unsubscribe()
    ground.has(a=(3, 3), b=(3, 3))
    await fence.updated(("a", 1, 1), ("a", 2, 2), ("a", 3, 3))
    await until(lambda: ground.asked[-1] == {"a": 3})
    assert len(subscription.updates) == 3


@ENCODINGS
async def test_a_removal_of_the_backend_is_told(ground: Ground, name: str) -> None:
    ground.has(a=("one", 1), b=("one", 1))
    subscription = await ground.tracking(f"poll:{name}", a=0, b=0)
    await subscription.updated(("a", "one", 1), ("b", "one", 1))
    ground.has(a=None, b=("two", 2))
    await subscription.updated(("a", "one", 1), ("b", "one", 1), ("a", None, 0), ("b", "two", 2))
    assert await subscription.tracked() == {"b"}
    await until(lambda: ground.asked[-1] == {"b": 2})


async def test_a_bad_signature_is_an_error_of_the_track_alone(ground: Ground, name: str) -> None:
    ground.has(a=(1, 1))
    subscription = await ground.poll(f"poll:{name}")
    await subscription.subscribe()
    await subscription.track_signed(({"b": 0}, "1:2:bad"))
    assert (await subscription.events.wait("error")).code == 103
    await subscription.track_signed(({"a": 0}, signed(subscription.channel, "a")))
    await subscription.events.wait("update", 2)
    assert subscription.updates == [("b", None, 0), ("a", 1, 1)], "b is untracked, as if it had been removed"
    assert not subscription.events.named("unsubscribed")


@pytest.mark.parametrize("namespace", ["told", "kept"])
async def test_who_tracks_a_known_key_gets_its_value_promptly(ground: Ground, name: str, namespace: str) -> None:
    channel = f"{namespace}:{name}"
    ground.has(a=({"n": 1}, 7))
    places = ["", "", ground.far.ws_url, ground.far.ws_url]
    for url in places:
        await (await ground.tracking(channel, url, a=0)).updated(("a", {"n": 1}, 7))
    assert len(ground.asked) == {"told": 4, "kept": 2}[namespace]


async def test_what_is_tracked_before_subscribing_is_replayed(ground: Ground, name: str) -> None:
    channel, signer = f"poll:{name}", Signer(f"poll:{name}")
    ground.has(a=(1, 1), b=(1, 1), c=(1, 1))
    subscription = await ground.poll(channel, signer)
    first, second = signed(channel, "a", "b"), signed(channel, "c")
    await subscription.track_signed(({"a": 0, "b": 0}, first), ({"c": 0}, second))
    await subscription.untrack("b")
    await subscription.subscribe()
    await subscription.updated(("a", 1, 1), ("c", 1, 1))
    await ground.asked_again()
    assert not any("b" in each for each in ground.asked)
    assert len(subscription.updates) == 2
    [command] = await subscription.refreshes()
    assert [batch["signature"] for batch in command["track"]] == [first, second]
    assert command["untrack"] == ["b"]
    assert not signer.asked


async def test_a_reconnect_replays_signatures_with_current_versions(ground: Ground, name: str) -> None:
    channel, signer = f"poll:{name}", Signer(f"poll:{name}")
    ground.has(a=(1, 1), b=(1, 4))
    async with Cable(ground.near.port) as cable:
        subscription = await ground.poll(channel, signer, await ground.client(cable.ws_url))
        await subscription.subscribe()
        signature = signed(channel, "a", "b")
        await subscription.track_signed(({"a": 0, "b": 0}, signature))
        await subscription.updated(("a", 1, 1), ("b", 1, 4))
        cable.pull()
        await subscription.events.wait("subscribing", 2)
        await subscription.untrack("b")
        asked = len(ground.asked)
        cable.plug(ground.far.port)
        await subscription.events.wait("subscribed", 2)
        ground.has(a=(2, 2), b=(2, 5))
        await subscription.updated(("a", 1, 1), ("b", 1, 4), ("a", 2, 2))
        _, replay = await subscription.refreshes()
    items = [{"key": "a", "version": 1}, {"key": "b"}]
    assert replay == {"channel": channel, "type": 1, "track": [{"signature": signature, "items": items}]} | {
        "untrack": ["b"]
    }
    assert not signer.asked
    await until(lambda: len(ground.asked) > asked)
    assert ground.asked[-1].keys() == {"a"}


async def test_without_versions_there_are_made_some_with_an_epoch(ground: Ground, name: str) -> None:
    ground.has(a=("one", 0))
    channel = f"pollvl:{name}"
    async with Cable(ground.near.port) as cable:
        subscription = await ground.tracking(channel, cable.ws_url, a=0)
        await subscription.updated(("a", "one", 1))
        epoch = await subscription.epoch()
        assert len(epoch) == 8
        ground.has(a=("two", 0))
        await subscription.updated(("a", "one", 1), ("a", "two", 2))
        cable.pull()
        cable.plug(ground.far.port)
        await subscription.updated(("a", "one", 1), ("a", "two", 2), ("a", "two", 1))
        assert await subscription.epoch() not in ("", epoch)


async def test_with_versions_there_is_no_epoch_unless_the_backend_has_one(ground: Ground, name: str) -> None:
    ground.has(a=(1, 1))
    subscription = await ground.tracking(f"poll:{name}", a=0)
    await subscription.updated(("a", 1, 1))
    assert await subscription.epoch() == ""
    await subscription.unsubscribe()
    await subscription.subscribe()
    assert await subscription.epoch() == ""


async def test_one_new_signature_over_all_keys_comes_in_time(ground: Ground, name: str) -> None:
    signer = Signer(f"poll:{name}", life=6)
    ground.has(a=(1, 1), b=(1, 1), c=(1, 1))
    subscription = await ground.poll(signer.channel, signer)
    await subscription.subscribe()
    await subscription.track(["a", "b"])
    await subscription.track(["c"])
    await subscription.updated(("a", 1, 1), ("b", 1, 1), ("c", 1, 1))
    assert sorted(signer.asked) == [["a", "b"], ["c"]]
    signer.life = 600
    await until(lambda: len(signer.asked) > 2, 15)
    ground.has(a=(2, 2), b=(2, 2), c=(2, 2))
    await subscription.events.wait("update", 6)
    assert [sorted(each) for each in signer.asked[2:]] == [["a", "b", "c"]]
    assert not subscription.events.named("error")


async def test_tracks_that_fail_for_their_age_make_one_new_signature(ground: Ground, name: str) -> None:
    signer = Signer(f"poll:{name}")
    ground.has(a=(1, 1), b=(1, 1))
    subscription = await ground.poll(signer.channel, signer)
    await subscription.subscribe()
    old = [({key: 0}, signed(signer.channel, key, life=-60)) for key in "ab"]
    await subscription.track_signed(*old)
    await subscription.updated(("a", 1, 1), ("b", 1, 1))
    assert [each.code for each in subscription.events.named("error")] == [109, 109]
    assert signer.asked == [["a", "b"]]


async def test_the_signature_that_ends_first_says_when_there_is_to_be_a_new_one(ground: Ground, name: str) -> None:
    signer = Signer(f"poll:{name}")
    ground.has(a=(1, 1), b=(1, 1))
    subscription = await ground.poll(signer.channel, signer)
    lives = {"a": 600, "b": 3}
    batches = [({key: 0}, signed(signer.channel, key, life=life)) for key, life in lives.items()]
    await subscription.track_signed(*batches)
    await subscription.subscribe()
    await subscription.updated(("a", 1, 1), ("b", 1, 1))
    assert len(await subscription.refreshes()) == 1
    await until(lambda: signer.asked == [["a", "b"]])


async def test_keys_that_are_not_signed_again_are_untracked_on_the_server(ground: Ground, name: str) -> None:
    signer = Signer(f"poll:{name}", life=2)
    ground.has(a=(1, 1), b=(1, 1))
    subscription = await ground.poll(signer.channel, signer)
    await subscription.subscribe()
    await subscription.track(["a", "b"])
    await subscription.updated(("a", 1, 1), ("b", 1, 1))
    signer.life, signer.refused = 600, {"b"}
    await subscription.updated(("a", 1, 1), ("b", 1, 1), ("b", None, 0))
    await until(lambda: ground.asked[-1] == {"a": 1})


@ENCODINGS
async def test_what_is_published_is_told_before_it_is_polled(ground: Ground, name: str) -> None:
    channel = f"told:{name}"
    ground.has(a=("polled", 1))
    subscription = await ground.tracking(channel, a=0, b=3)
    elsewhere = await ground.tracking(channel, ground.far.ws_url, a=0)
    await subscription.updated(("a", "polled", 1))
    await elsewhere.updated(("a", "polled", 1))
    for key, version in (("a", 2), ("a", 2), ("a", 1), ("b", 3), ("c", 9), ("b", 4)):
        await ground.publish(channel, key, version, [key, version])
    await subscription.updated(("a", "polled", 1), ("a", ["a", 2], 2), ("b", ["b", 4], 4))
    await elsewhere.updated(("a", "polled", 1), ("a", ["a", 2], 2))


@ENCODINGS
async def test_each_key_has_patches_of_its_own(ground: Ground, name: str) -> None:
    channel = f"kept:{name}"

    def value(key: str, number: int) -> list[Any]:
        return [PADDING, key, number]

    ground.has(a=(value("a", 1), 1), b=(value("b", 1), 1))
    subscription = await ground.poll(channel, delta=True)
    await subscription.subscribe()
    await subscription.track_signed(({"a": 0, "b": 0}, signed(channel, "a", "b")))
    expected = [(key, value(key, 1), 1) for key in "ab"]
    await subscription.updated(*expected)
    for number in (2, 3):
        for key in "ab":
            await ground.publish(channel, key, number, value(key, number))
            expected.append((key, value(key, number), number))
    await subscription.updated(*expected)
    assert await subscription.forms() == (2, 4)
    late = await ground.poll(channel, delta=True)
    await late.subscribe()
    await late.track_signed(({"a": 0}, signed(channel, "a")))
    await late.updated(("a", value("a", 3), 3))
    await ground.publish(channel, "a", 4, value("a", 4))
    await late.updated(("a", value("a", 3), 3), ("a", value("a", 4), 4))
    assert await late.forms() == (1, 1)
