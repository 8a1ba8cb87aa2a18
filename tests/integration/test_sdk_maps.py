"""Maps as the official SDK has them: on one gateway in memory, and on two that Redis joins."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.clients.base import Client
from tests.integration.clients.javascript import JavaScriptSDK
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
    async with JavaScriptSDK() as sdk:
        if request.param == "memory":
            server: GatewayServer = request.getfixturevalue("alone")
            yield Ground(sdk, server, server)
        else:
            gateways: Cluster = request.getfixturevalue("gateways")
            yield Ground(sdk, gateways.a, gateways.b)


@pytest.mark.parametrize("namespace", ["streamless", "positioned"])
async def test_a_map_is_given_whole_and_then_its_changes(ground: Ground, name: str, namespace: str) -> None:
    channel = f"{namespace}:{name}"
    early = await ground.map(channel)
    event = await early.subscribe()
    assert (event.entries or [], event.recoverable) == ([], namespace == "positioned")
    assert await early.synced() == {}
    for number in range(3):
        await ground.api.set(channel, f"k{number}", {"n": number})
    late = await ground.subscribed(channel)
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
