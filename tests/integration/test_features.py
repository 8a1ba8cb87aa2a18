"""What every official SDK does, over each of its transports and in each encoding.

On one gateway in memory, and on two that Redis joins, behind HAProxy, which takes each request to another one than the
one before. What passes here is what `table` says of the SDKs.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from gateway.auth.tracking import sign_keys
from gateway.protocols.protobuf import delimited, varint
from tests.integration import table
from tests.integration.backend import SIGNING, asking_backend
from tests.integration.cable import Tapped
from tests.integration.clients.base import SDK, CallFailed, Client
from tests.integration.clients.every import EVERY, OUTSIDE_PAGES
from tests.integration.clients.javascript import JavaScriptSDK
from tests.integration.clients.maps import MapAPI, map_of
from tests.integration.clients.polls import poll_of
from tests.integration.servers import Cluster, GatewayServer, Server, cluster, round_robin
from tests.integration.settings import on_redis
from tests.integration.tokens import connection_token, subscription_token
from tests.protocols.google import google, messages
from tests.redis_server import RedisServer
from tests.waiting import until

STATE = "a state of which little changes, and long enough for a patch to be worth it. " * 8
EVEN = {"op": "", "key": "kind", "cmp": "eq", "val": "even"}

KINDS = {"memory": OUTSIDE_PAGES, "redis": EVERY}


def shows(feature: str, only: Callable[[type[SDK]], bool] = lambda _kind: True) -> pytest.MarkDecorator:
    """Of a test that it shows this feature, for every SDK that has it."""
    assert feature in table.FEATURES
    cases = [
        pytest.param((engine, kind, feature), id=f"{kind.name}-{engine}")
        for engine, kinds in KINDS.items()
        for kind in kinds
        if feature not in kind.lacks and only(kind)
    ]
    return pytest.mark.parametrize("ground", cases, indirect=True)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayServer]:
    with (
        asking_backend() as settings,
        GatewayServer("alone", tmp_path_factory.mktemp("alone"), settings) as server,
    ):
        yield server


@pytest.fixture(scope="module")
def joined(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("joined")
    with (
        asking_backend(on_redis(redis.url, "features")) as settings,
        cluster(directory, settings, round_robin) as running,
    ):
        yield running


@dataclass
class Ground:
    """Where clients are, and where a backend is."""

    sdk: SDK
    server: Server
    api: MapAPI

    async def client(self, user: str = "ann", server: Server | Tapped | None = None, **claims: Any) -> Client:
        return await self.sdk.connected((server or self.server).ws_url, connection_token(user, **claims))

    async def publish(self, channel: str, *items: Any, **more: Any) -> None:
        for data in items:
            await self.api.call("publish", channel=channel, data=data, **more)


@pytest.fixture
async def ground(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> AsyncIterator[Ground]:
    engine, kind, feature = request.param
    record_property(table.NAME, tuple(table.shown_by(feature, kind)))
    async with kind() as sdk:
        if engine == "memory":
            server: GatewayServer = request.getfixturevalue("alone")
            yield Ground(sdk, server, MapAPI(server))
        else:
            joined: Cluster = request.getfixturevalue("joined")
            yield Ground(sdk, joined.balancer, MapAPI(joined.b))


@shows("connect")
async def test_connect(ground: Ground) -> None:
    client = await ground.client()
    first = client.id
    await client.disconnect()
    await client.connect()
    assert len(first) == len(client.id) == 36
    assert first != client.id
    assert client.events.named("error") == []


@shows("subscribe")
async def test_subscribe(ground: Ground, channel: str) -> None:
    client = await ground.client()
    subscription = await client.subscribe(channel)
    await ground.publish(channel, 1)
    await subscription.wait_received([1])
    await subscription.unsubscribe()
    await client.remove(subscription)
    again = await client.subscribe(channel)
    await ground.publish(channel, 2)
    await again.wait_received([2])


@shows("publish")
async def test_publish(ground: Ground, channel: str) -> None:
    client = await ground.client()
    subscription = await client.subscribe(channel)
    await client.publish(channel, {"ü": [1, 2.5, None]})
    await subscription.wait_received([{"ü": [1, 2.5, None]}])
    info = subscription.events.named("publication")[0].info
    assert info is not None
    assert (info.user, info.client) == ("ann", client.id)


@shows("presence")
async def test_presence(ground: Ground, channel: str) -> None:
    ann = await ground.client()
    subscription = await ann.subscribe(channel, join_leave=True)
    bob = await ground.client("bob")
    left = await bob.subscribe(channel)
    await subscription.events.wait("join", 2)
    found = await ann.presence(channel)
    assert {key: info.user for key, info in found.items()} == {ann.id: "ann", bob.id: "bob"}
    assert await bob.presence_stats(channel) == (2, 2)
    await left.unsubscribe()
    gone = await subscription.events.wait("leave")
    assert gone.info is not None
    assert gone.info.user == "bob"


@shows("history")
async def test_history(ground: Ground, channel: str) -> None:
    client = await ground.client()
    await ground.publish(channel, *range(4))
    assert (await client.history(channel)).offset == 4
    page = await client.history(channel, limit=3)
    assert [(each.offset, each.data) for each in page.publications] == [(1, 0), (2, 1), (3, 2)]
    rest = await client.history(channel, limit=3, since=(3, page.epoch))
    assert [each.data for each in rest.publications] == [3]
    assert [each.data for each in (await client.history(channel, limit=2, reverse=True)).publications] == [3, 2]


@shows("RPC")
async def test_rpc(ground: Ground) -> None:
    client = await ground.client()
    assert await client.rpc("add", [1, 2]) == {"sum": 3}
    with pytest.raises(CallFailed) as failed:
        await client.rpc("nobody:add", [1, 2])
    assert failed.value.code == 104


@shows("tokens and refresh")
async def test_tokens_and_refresh(ground: Ground, name: str) -> None:
    channel = f"closed:{name}"
    fetched = {"connection": 0, "subscription": 0}

    def connection() -> str:
        fetched["connection"] += 1
        return connection_token("ann", ttl=2)

    def subscription() -> str:
        fetched["subscription"] += 1
        return subscription_token("ann", channel, ttl=2)

    client = await ground.sdk.connected(ground.server.ws_url, get_token=connection)
    granted = await client.subscribe(channel, get_token=subscription)
    await until(lambda: min(fetched.values()) == 2)
    await ground.publish(channel, "still there")
    await granted.wait_received(["still there"])
    assert [each.name for each in client.events] == ["connecting", "connected"]


@shows("recovery")
async def test_recovery(ground: Ground, channel: str) -> None:
    client = await ground.client()
    subscription = await client.subscribe(channel)
    await ground.publish(channel, 0)
    await subscription.wait_received([0])
    await client.disconnect()
    await ground.publish(channel, 1, 2, 3)
    await client.connect()
    again = await subscription.events.wait("subscribed", 2)
    assert (again.was_recovering, again.recovered) == (True, True)
    await ground.publish(channel, 4)
    await subscription.wait_received([0, 1, 2, 3, 4])


@shows("delta")
async def test_delta(ground: Ground, name: str) -> None:
    channel = f"flow:{name}"
    states = [{"text": STATE, "n": number} for number in range(4)]
    async with Tapped(ground.server.port) as cable:
        client = await ground.client(server=cable)
        subscription = await client.subscribe(channel, delta=True)
        await ground.publish(channel, *states)
        await subscription.wait_received(states)
        assert cable.seen.count(b"little changes") == STATE.count("little changes"), "once whole, then as patches"


@shows("tag filter")
async def test_tag_filter(ground: Ground, name: str) -> None:
    channel = f"picked:{name}"
    client = await ground.client()
    subscription = await client.subscribe(channel, tags_filter=EVEN)
    for number in range(5):
        await ground.publish(channel, number, tags={"kind": "even" if number % 2 == 0 else "odd"})
    await subscription.wait_received([0, 2, 4])


@shows("server-side subscriptions")
async def test_server_side_subscriptions(ground: Ground, channel: str) -> None:
    client = await ground.client(subs={channel: {}})
    assert (await client.events.wait("subscribed")).channel == channel
    await ground.publish(channel, "from above")
    told = await client.events.wait("publication")
    assert (told.channel, told.data) == (channel, "from above")
    await ground.api.call("unsubscribe", user="ann", channel=channel)
    assert (await client.events.wait("unsubscribed")).channel == channel


@shows("maps")
async def test_maps(ground: Ground, name: str) -> None:
    channel = f"positioned:{name}"
    assert isinstance(ground.sdk, JavaScriptSDK)
    await ground.api.set(channel, "a", {"n": 1})
    subscription = await map_of(ground.sdk, await ground.client(), channel)
    await subscription.subscribe()
    assert await subscription.synced() == {"a": {"n": 1}}
    await ground.api.set(channel, "b", {"n": 2})
    await ground.api.remove(channel, "a")
    await subscription.updated(("b", {"n": 2}), ("a", None))


@shows("shared polls")
async def test_shared_polls(ground: Ground, name: str) -> None:
    channel, now = f"tally:{name}", int(time.time())
    assert isinstance(ground.sdk, JavaScriptSDK)
    subscription = await poll_of(ground.sdk, await ground.client(), channel)
    await subscription.track_signed(({"k": 0}, sign_keys(SIGNING, now, now + 600, "ann", channel, ["k"])))
    await subscription.subscribe()
    await subscription.events.wait("update", 3)
    assert subscription.updates[:3] == [("k", {"n": number}, number) for number in (1, 2, 3)]


@shows("compaction", lambda kind: not kind.protobuf)
async def test_compaction(ground: Ground, channel: str) -> None:
    """Those that speak Protobuf get names."""
    async with Tapped(ground.server.port) as cable:
        client = await ground.client(server=cable)
        subscription = await client.subscribe(channel)
        await ground.publish(channel, "by number")
        await subscription.wait_received(["by number"])
        assert b'{"push":{"id":' in cable.seen
        assert b'{"push":{"channel":' not in cable.seen


@shows("getState")
async def test_get_state(ground: Ground, channel: str) -> None:
    await ground.publish(channel, 1, 2, 3)
    client = await ground.client()
    epoch = (await client.history(channel)).epoch
    calls = []

    def load() -> tuple[int, str]:
        calls.append(1)
        return 1, epoch

    subscription = await client.subscription(channel, get_state=load)
    await subscription.subscribe()
    await ground.publish(channel, 4)
    await subscription.wait_received([2, 3, 4])
    assert len(calls) == 1


# — SDKs that are not run: their first frames, as their sources make them —


def message(fields: dict[int, Any], zeros: bool) -> bytes:
    """Fields by number. Dart's runtime writes whatever has been set, the others leave out what is zero."""
    written = b""
    for number, value in sorted(fields.items()):
        if isinstance(value, str | bytes):
            written += varint(number << 3 | 2) + delimited(value.encode() if isinstance(value, str) else value)
        else:
            written += varint(number << 3) + varint(value)
    return written if zeros else message({key: value for key, value in fields.items() if value}, zeros=True)


def frame(number: int, body: int, fields: dict[int, Any], zeros: bool) -> bytes:
    """One command behind its length."""
    return delimited(message({1: number, body: message(fields, zeros)}, zeros=True))


@dataclass(frozen=True)
class FirstFrames:
    library: str
    connect: dict[int, Any]
    """Beside the token."""
    subscribe: dict[int, Any]
    """Beside the channel."""
    zeros: bool = False


FLAG = {14: 1}
"""All of them offer to take channels by number."""
FIRST = [
    FirstFrames("Java", {4: "java"}, {2: "", 9: False, 10: False, 11: False, 12: "", **FLAG}),
    FirstFrames("Swift", {4: "swift", 5: ""}, {9: False, 10: False, 11: False, **FLAG}),
    FirstFrames("Dart", {4: "dart", 5: ""}, {2: "", 9: False, 10: False, 11: False, **FLAG}, zeros=True),
]


async def replies(connection: ClientConnection, count: int) -> list[Any]:
    """So many messages of the server, pings left out."""
    found: list[Any] = []
    while len(found) < count:
        received = await connection.recv()
        assert isinstance(received, bytes)
        found += [google("Reply").FromString(each) for each in messages(received) if each]
    return found


@pytest.mark.parametrize("of", FIRST, ids=lambda of: of.library)
async def test_first_frames(
    joined: Cluster, of: FirstFrames, channel: str, record_property: Callable[[str, object], None]
) -> None:
    for feature in ("connect", "subscribe", "publish"):
        record_property(table.NAME, (feature, of.library, "websocket", "Protobuf"))
    moves: Sequence[tuple[int, dict[int, Any]]] = [
        (4, {1: connection_token("ann"), **of.connect}),
        (5, {1: channel, **of.subscribe}),
        (7, {1: channel, 2: b'{"n":1}'}),
    ]
    connect_, subscribe, publish = (
        frame(number, body, fields, of.zeros) for number, (body, fields) in enumerate(moves, 1)
    )
    url = joined.balancer.ws_url
    async with connect(url, proxy=None, compression=None, subprotocols=["centrifuge-protobuf"]) as connection:  # type: ignore[list-item]
        assert connection.subprotocol == "centrifuge-protobuf"
        await connection.send(connect_)
        [connected] = await replies(connection, 1)
        assert (connected.id, len(connected.connect.client)) == (1, 36)
        await connection.send(subscribe)
        [subscribed, joins] = await replies(connection, 2)
        assert (subscribed.id, subscribed.HasField("subscribe"), subscribed.subscribe.recoverable) == (2, True, True)
        assert joins.push.join.info.client == connected.connect.client
        await connection.send(publish)
        by_id = {each.id: each for each in await replies(connection, 2)}
        assert by_id[3].HasField("publish")
        assert (by_id[0].push.channel, by_id[0].push.pub.data) == (channel, b'{"n":1}')
