"""Maps as the official SDK has them: on one gateway in memory, and on two that Redis joins."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.clients.base import Client
from tests.integration.clients.javascript import JavaScriptProtobufSDK, JavaScriptSDK
from tests.integration.clients.maps import MapAPI, MapSubscription, map_of
from tests.integration.servers import Cluster, GatewayServer, Server
from tests.integration.settings import SETTINGS
from tests.integration.tokens import connection_token, subscription_token

PADDING = "x" * 500
RED = {"key": "t", "cmp": "eq", "val": "red"}
BLUE = {"key": "t", "cmp": "eq", "val": "blue"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayServer]:
    with GatewayServer("alone", tmp_path_factory.mktemp("alone"), SETTINGS) as server:
        yield server


@dataclass
class Ground:
    """Where clients are, and where others write: two nodes if there are as many."""

    sdk: JavaScriptSDK
    near: Server
    far: Server

    @property
    def api(self) -> MapAPI:
        return MapAPI(self.far)

    async def client(self, user: str = "u") -> Client:
        return await self.sdk.connected(self.near.ws_url, connection_token(user))

    async def map(self, channel: str, kind: int = 1, client: Client | None = None, **options: Any) -> MapSubscription:
        return await map_of(self.sdk, client or await self.client(), channel, kind, **options)

    async def subscribed(self, channel: str, kind: int = 1, **options: Any) -> MapSubscription:
        subscription = await self.map(channel, kind, **options)
        await subscription.subscribe()
        await subscription.synced()
        return subscription


@pytest.fixture(params=["memory", "redis"])
async def ground(request: pytest.FixtureRequest) -> AsyncIterator[Ground]:
    async with JavaScriptProtobufSDK() if request.param == "protobuf" else JavaScriptSDK() as sdk:
        if request.param == "memory":
            server: GatewayServer = request.getfixturevalue("alone")
            yield Ground(sdk, server, server)
        else:
            gateways: Cluster = request.getfixturevalue("gateways")
            yield Ground(sdk, gateways.a, gateways.b)


IN_BOTH_ENCODINGS = pytest.mark.parametrize("ground", ["memory", "redis", "protobuf"], indirect=True)


@IN_BOTH_ENCODINGS
@pytest.mark.parametrize("namespace", ["streamless", "positioned"])
async def test_a_map_is_given_whole_and_then_its_changes(ground: Ground, name: str, namespace: str) -> None:
    channel = f"{namespace}:{name}"
    early = await ground.map(channel)
    event = await early.subscribe()
    assert (event.entries or [], event.recoverable) == ([], namespace == "positioned")
    assert await early.synced() == {}
    for number in range(3):
        await ground.api.set(channel, f"k{number}", {"n": number})
    late = await ground.map(channel)
    entries = (await late.subscribe()).entries or []
    assert sorted(each["key"] for each in entries) == ["k0", "k1", "k2"]
    assert not any(each.get("removed") or each.get("score") for each in entries)
    assert await late.synced() == {f"k{number}": {"n": number} for number in range(3)}
    await ground.api.remove(channel, "k1")
    await ground.api.set(channel, "k0", "new")
    await late.updated(("k1", None), ("k0", "new"))
    await early.updated(*((f"k{number}", {"n": number}) for number in range(3)), ("k1", None), ("k0", "new"))


@pytest.mark.parametrize("namespace", ["streamless", "positioned", "debounced"])
async def test_what_a_client_writes_comes_back_to_it(ground: Ground, name: str, namespace: str) -> None:
    subscription = await ground.subscribed(f"{namespace}:{name}")
    await subscription.set("a", {"x": 1})
    await subscription.updated(("a", {"x": 1}))
    await subscription.remove("a")
    updates = await subscription.updated(("a", {"x": 1}), ("a", None))
    assert updates[0].info is not None
    assert updates[0].info.user == "u"


@IN_BOTH_ENCODINGS
async def test_of_a_key_the_first_value_is_whole_and_the_others_are_patches(ground: Ground, name: str) -> None:
    channel = f"mapdelta:{name}"
    subscription = await ground.subscribed(channel, delta="fossil")
    values = [{"pad": PADDING, "n": number} for number in range(3)]
    for value in values:
        await ground.api.set(channel, "a", value)
    await subscription.updated(*(("a", value) for value in values))
    assert await subscription.forms() == (1, 2)
    stats = await subscription.delta_stats()
    assert stats["bytesReceived"] < stats["bytesDecoded"] / 2


@IN_BOTH_ENCODINGS
async def test_keys_that_take_turns_have_patches_each_of_its_own(ground: Ground, name: str) -> None:
    channel = f"mapdelta:{name}"
    subscription = await ground.subscribed(channel, delta="fossil")
    values = [(key, {"pad": key * 500, "n": number}) for number in range(3) for key in "ab"]
    for key, value in values:
        await ground.api.set(channel, key, value)
    await subscription.updated(*values)
    assert await subscription.forms() == (2, 4)


@IN_BOTH_ENCODINGS
async def test_the_first_change_of_what_was_loaded_is_a_patch(ground: Ground, name: str) -> None:
    channel = f"mapdelta:{name}"
    for key in "ab":
        await ground.api.set(channel, key, {"pad": PADDING, "n": 0})
    subscription = await ground.subscribed(channel, delta="fossil")
    values = [(key, {"pad": PADDING, "n": 1}) for key in "ab"]
    for key, value in values:
        await ground.api.set(channel, key, value)
    await subscription.updated(*values)
    assert await subscription.forms() == (2, 2)


@IN_BOTH_ENCODINGS
async def test_each_key_has_its_own_patches(ground: Ground, name: str) -> None:
    channel = f"mapdelta:{name}"

    def value(number: int) -> dict[str, Any]:
        return {"pad": PADDING, "n": number}

    await ground.api.set(channel, "seeded", value(0))
    subscription = await ground.subscribed(channel, delta="fossil")
    expected: list[tuple[str, Any]] = []
    for key, number in (("seeded", 1), ("a", 2), ("b", 3), ("a", 4), ("b", 5)):
        await ground.api.set(channel, key, value(number))
        expected.append((key, value(number)))
    await ground.api.remove(channel, "a")
    await ground.api.set(channel, "a", value(6))
    await subscription.updated(*expected, ("a", None), ("a", value(6)))
    _, patches = await subscription.forms()
    assert patches == 3


@IN_BOTH_ENCODINGS
async def test_patches_can_be_read_after_a_return(ground: Ground, name: str) -> None:
    channel = f"mapdelta:{name}"
    client = await ground.client()
    await ground.api.set(channel, "a", {"pad": PADDING, "n": 0})
    subscription = await ground.map(channel, client=client, delta="fossil")
    await subscription.subscribe()
    expected: list[tuple[str, Any]] = []
    ways = [(client.disconnect, client.connect), (subscription.unsubscribe, subscription.begin)]
    for turn, (end, begin) in enumerate(ways):
        await end()
        await ground.api.set(channel, "a", {"pad": PADDING, "n": 2 * turn + 1})
        await begin()
        again = await subscription.events.wait("subscribed", turn + 2)
        assert again.recovered
        await ground.api.set(channel, "a", {"pad": PADDING, "n": 2 * turn + 2})
        expected += [("a", {"pad": PADDING, "n": 2 * turn + number}) for number in (1, 2)]
        await subscription.updated(*expected)
        assert await subscription.forms() == (2 + turn, 1 + turn), "what was missed is whole, what comes then a patch"


async def test_a_later_client_sees_what_the_first_has_written_and_both_what_comes_then(
    ground: Ground, name: str
) -> None:
    for namespace in ("streamless", "positioned"):
        channel = f"{namespace}:{name}"
        first = await ground.subscribed(channel)
        await first.set("a", 1)
        await first.updated(("a", 1))
        second = await ground.subscribed(channel)
        assert await second.synced() == {"a": 1}
        await second.set("b", 2)
        await first.set("c", 3)
        await first.events.wait("update", 3)
        await second.events.wait("update", 2)
        assert sorted(each.key for each in first.events.named("update")) == ["a", "b", "c"]
        assert sorted(each.key for each in second.events.named("update")) == ["b", "c"]


async def test_many_entries_come_in_pages_as_one_map(ground: Ground, name: str) -> None:
    for namespace in ("positioned", "streamless"):
        channel = f"{namespace}:{name}"
        entries = {f"k{number:03}": number for number in range(250)}
        await ground.api.set_all(channel, entries)
        subscription = await ground.subscribed(channel, pageSize=10)
        assert await subscription.synced() == entries
        await ground.api.set(channel, "k000", "new")
        await subscription.updated(("k000", "new"))


async def test_who_comes_back_gets_what_it_missed_and_no_more(ground: Ground, name: str) -> None:
    channel = f"positioned:{name}"
    client = await ground.client()
    await ground.api.set(channel, "a", 1)
    subscription = await ground.map(channel, client=client)
    await subscription.subscribe()
    await client.disconnect()
    await ground.api.set(channel, "b", 2)
    await client.connect()
    assert (await subscription.events.wait("subscribed", 2)).recovered
    await subscription.updated(("b", 2))
    await subscription.unsubscribe()
    await ground.api.set(channel, "c", 3)
    await ground.api.remove(channel, "a")
    await subscription.begin()
    assert (await subscription.events.wait("subscribed", 3)).recovered
    await subscription.updated(("b", 2), ("c", 3), ("a", None))
    assert await subscription.synced() == {"a": 1}


async def test_who_comes_back_to_an_ephemeral_map_gets_it_whole(ground: Ground, name: str) -> None:
    channel = f"streamless:{name}"
    client = await ground.client()
    subscription = await ground.map(channel, client=client)
    await subscription.subscribe()
    await client.disconnect()
    await ground.api.set(channel, "a", 1)
    await client.connect()
    assert not (await subscription.events.wait("subscribed", 2)).recovered
    assert await subscription.synced(2) == {"a": 1}


async def test_a_client_may_be_given_its_key(ground: Ground, name: str) -> None:
    subscription = await ground.subscribed(f"clientkey:{name}")
    await subscription.set("whatever", 1)
    update = await subscription.events.wait("update")
    assert update.info is not None
    assert update.key == update.info.client


@pytest.mark.parametrize("strategy", ["from_scratch", "fatal"])
async def test_a_position_that_is_too_old(ground: Ground, name: str, strategy: str) -> None:
    channel = f"smallstream:{name}"
    client = await ground.client()
    subscription = await ground.map(channel, client=client, unrecoverableStrategy=strategy)
    await subscription.subscribe()
    await client.disconnect()
    for key in "abcde":
        await ground.api.set(channel, key, 1)
    await client.connect()
    if strategy == "fatal":
        assert (await subscription.events.wait("unsubscribed")).code == 112
        return
    assert not (await subscription.events.wait("subscribed", 2)).recovered
    assert await subscription.synced(2) == dict.fromkeys("abcde", 1)


async def test_a_key_ends_by_itself(ground: Ground, name: str) -> None:
    channel = f"shortttl:{name}"
    subscription = await ground.subscribed(channel)
    await ground.api.set(channel, "a", 1)
    await subscription.updated(("a", 1))
    await subscription.updated(("a", 1), ("a", None))


async def test_who_is_there_is_an_entry(ground: Ground, name: str) -> None:
    channel = f"prestest:{name}"
    clients = await ground.subscribed(f"prescli:{channel}", 2)
    users = await ground.subscribed(f"presuse:{channel}", 3)
    member = await ground.client("eve")
    board = await ground.map(channel, client=member)
    await board.subscribe()
    update = await clients.events.wait("update")
    assert update.info is not None
    assert (update.key, update.info.user) == (update.info.client, "eve")
    assert (await users.events.wait("update")).key == "eve"
    await board.unsubscribe()
    gone = await clients.events.wait("update", 2)
    assert (gone.key, gone.removed) == (update.key, True)
    assert await (await ground.subscribed(f"prescli:{channel}", 2)).synced() == {}


async def test_a_filter_holds_from_the_first_load_on(ground: Ground, name: str) -> None:
    channel = f"tagged:{name}"
    await ground.api.set(channel, "r", 1, tags={"t": "red"})
    await ground.api.set(channel, "b", 1, tags={"t": "blue"})
    subscription = await ground.subscribed(channel, tagsFilter=RED)
    assert await subscription.synced() == {"r": 1}
    await ground.api.set(channel, "b2", 2, tags={"t": "blue"})
    await ground.api.set(channel, "r2", 2, tags={"t": "red"})
    await ground.api.remove(channel, "r")
    await subscription.updated(("r2", 2), ("r", None))
    await subscription.unsubscribe()
    await subscription.filter(BLUE)
    await subscription.begin()
    assert await subscription.synced(2) == {"b": 1, "b2": 2}


@pytest.mark.parametrize("namespace", ["streamless", "positioned"])
async def test_a_cleared_map_is_loaded_anew(ground: Ground, name: str, namespace: str) -> None:
    channel = f"{namespace}:{name}"
    await ground.api.set(channel, "a", 1)
    subscription = await ground.subscribed(channel)
    await ground.api.call("map_clear", channel=channel)
    assert (await subscription.events.wait("subscribing", 2)).code == 2502
    assert await subscription.synced(2) == {}
    await ground.api.set(channel, "b", 2)
    await subscription.updated(("b", 2))


async def test_a_token_that_has_run_out_is_fetched_anew_for_who_comes_back(ground: Ground, name: str) -> None:
    channel = f"mapclosed:{name}"
    tokens = iter([subscription_token("u", channel, ttl=3600), subscription_token("u", channel, ttl=3600)])
    client = await ground.client()
    subscription = await map_of(ground.sdk, client, channel, get_token=lambda: next(tokens))
    assert (await subscription.subscribe()).recoverable
    await client.disconnect()
    await ground.api.set(channel, "a", 1)
    await client.connect()
    assert (await subscription.events.wait("subscribed", 2)).recovered
    await subscription.updated(("a", 1))


async def test_a_state_that_is_invalid_has_all_of_a_connection_loaded_anew(ground: Ground, name: str) -> None:
    """By disconnect 3014: tokens, positions and what patches are made of are all forgotten."""
    user, closed, delta = f"u{name}", f"mapclosed:{name}", f"mapdelta:{name}"
    given: list[str] = []

    def token() -> str:
        given.append(subscription_token(user, closed, ttl=3600))
        return given[-1]

    client = await ground.client(user)
    for channel in (closed, delta):
        await ground.api.set(channel, "a", {"pad": PADDING, "n": 0})
    private = await map_of(ground.sdk, client, closed, get_token=token)
    board = await ground.map(delta, client=client, delta="fossil")
    for subscription in (private, board):
        await subscription.subscribe()
        await subscription.synced()
    await ground.api.call("disconnect", user=user, disconnect={"code": 3014, "reason": "state invalidated"})
    for subscription in (private, board):
        again = await subscription.events.wait("subscribed", 2)
        assert not again.recovered
        assert await subscription.synced(2) == {"a": {"pad": PADDING, "n": 0}}
    assert len(given) == 2
    await ground.api.set(delta, "a", {"pad": PADDING, "n": 1})
    await board.updated(("a", {"pad": PADDING, "n": 1}))


async def test_a_cleared_map_is_nothing_to_other_subscriptions(ground: Ground, name: str) -> None:
    client = await ground.client()
    subscriptions = [
        await ground.map(f"{namespace}:{name}", client=client) for namespace in ("positioned", "streamless")
    ]
    for subscription in subscriptions:
        await ground.api.set(subscription.channel, "a", 1)
        await subscription.subscribe()
        await subscription.synced()
    cleared, other = subscriptions
    await ground.api.call("map_clear", channel=cleared.channel)
    assert await cleared.synced(2) == {}
    await ground.api.set(other.channel, "a", 2)
    await other.updated(("a", 2))
    assert len(other.events.named("subscribing")) == 1
    assert await other.synced() == {"a": 1}
