"""A Redis Cluster as one shard: whatever moves, commands arrive and subscriptions follow."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple, cast

import pytest

from gateway.brokers.base import HistoryFilter, PublishOptions, StreamOptions
from gateway.brokers.redis import RedisBroker
from gateway.config.settings import RedisSettings
from gateway.errors import BrokerUnavailable, SettingsError
from gateway.messages import Payload, Publication
from gateway.redis.cluster import Cluster
from gateway.redis.endpoint import Endpoint
from gateway.redis.keys import TAGS, slot
from gateway.redis.resp import CommandRefused, Handler
from gateway.redis.server import Server
from gateway.redis.topology import Redirection, read_redirection, read_topology
from tests.brokers.recorder import Recorder
from tests.ports import free_port
from tests.redis_server import RedisServer
from tests.redis_topologies import ClusterTopology
from tests.waiting import until

KEPT = StreamOptions(history_size=1000, history_ttl=60.0)
ROOMS = [f"room{number}" for number in range(300)]


class Node(NamedTuple):
    cluster: Cluster
    broker: RedisBroker
    heard: Recorder

    async def publish(self, channel: str, text: str = "x") -> int:
        publication = Publication(Payload(f'"{text}"'.encode()))
        return (await self.broker.publish(channel, publication, KEPT, PublishOptions())).offset


@pytest.fixture
def topology() -> Iterator[ClusterTopology]:
    with ClusterTopology() as topology:
        yield topology


@pytest.fixture(scope="module")
def movable_cluster() -> Iterator[ClusterTopology]:
    """Three servers whose slots are moved, and that are well again after each move."""
    with ClusterTopology(replicas=0) as topology:
        yield topology


@pytest.fixture
def movable(movable_cluster: ClusterTopology) -> ClusterTopology:
    """The same, emptied."""
    movable_cluster.wait_ok()
    for server in movable_cluster.servers:
        server.command("FLUSHALL")
    return movable_cluster


@pytest.fixture
def tags(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for the next regular look."""
    monkeypatch.setattr("gateway.redis.cluster.LOOK", 600.0)


@asynccontextmanager
async def node(topology: ClusterTopology, name: str = "n1") -> AsyncIterator[Node]:
    seeds = [Endpoint("127.0.0.1", server.port) for server in topology.servers]
    cluster, heard = Cluster(RedisSettings(probe_interval=0.2), seeds), Recorder()
    broker = RedisBroker(cluster)
    await cluster.start()
    await broker.start(name, heard)
    try:
        yield Node(cluster, broker, heard)
    finally:
        await broker.close()
        await cluster.close()


def connections(topology: ClusterTopology) -> int:
    """Of nodes, to all servers that live."""
    count = 0
    for server in topology.servers:
        if server.alive:
            with server.client() as client:
                count += sum(each["name"].startswith("gateway-") for each in client.client_list())
    return count


async def test_channels_of_all_slots_by_two_connections_to_each_server(shared_cluster: ClusterTopology) -> None:
    for server in shared_cluster.servers:
        server.command("FLUSHALL")
    async with node(shared_cluster) as one, node(shared_cluster, "n2") as two:
        await asyncio.gather(*(each.broker.subscribe(room) for each in (one, two) for room in ROOMS))
        assert await asyncio.gather(*(one.publish(room) for room in ROOMS)) == [1] * len(ROOMS)
        await until(lambda: len(one.heard.publications) == len(two.heard.publications) == len(ROOMS))
        assert await one.broker.hearers([*ROOMS[:50], "nobody"]) == [2] * 50 + [0]
        await until(lambda: all(server._probes._arrived for server in one.cluster._servers.values()))
        assert (one.cluster.connected, one.cluster.deaf, one.heard.gaps) == (True, False, 0)
        assert connections(shared_cluster) == 2 * 2 * 3
        await one.broker.echo()


async def test_unsubscribing_ends_it(shared_cluster: ClusterTopology) -> None:
    async with node(shared_cluster) as one:
        await one.broker.subscribe("news")
        await one.broker.unsubscribe("news")
        assert await one.broker.hearers(["news"]) == [0]
        assert one.cluster._homes.at.keys() == one.cluster._homes.handlers.keys()


async def test_what_moves_meanwhile_is_found_and_followed(movable: ClusterTopology, tags: None) -> None:
    """A slot moves under load: no publish fails, all are kept in order, and the subscription is where the slot is."""
    moving = slot(TAGS[5])
    async with node(movable) as one, node(movable, "n2") as two:
        room = next(name for name in ROOMS if slot(one.cluster.keys.of(b"c", name)) == moving)
        await one.broker.subscribe(room)
        done = asyncio.Event()

        async def load() -> list[int]:
            offsets: list[int] = []
            while not done.is_set() or len(offsets) < 20:
                offsets.append(await two.publish(room))
            return offsets

        task = asyncio.create_task(load())
        await until(lambda: one.heard.publications)
        await asyncio.to_thread(movable.migrate_slots, [moving])
        home = movable.master(moving).port

        def there() -> bool:
            server = one.cluster._homes.at.get(one.cluster.keys.of(b"c", room))
            return server is not None and server.endpoint.port == home

        await until(there)
        await until(lambda: one.heard.gaps)
        done.set()
        offsets = await task
        assert offsets == list(range(1, len(offsets) + 1))
        kept, top = await one.broker.history(room, HistoryFilter(limit=-1), KEPT)
        assert [each.offset for each in kept] == offsets[-len(kept) :]
        assert top.offset == offsets[-1]
        before = len(one.heard.publications)
        await two.publish(room, "after")
        await until(lambda: len(one.heard.publications) > before)


async def test_many_publications_under_way_keep_their_order_while_their_slot_moves(movable: ClusterTopology) -> None:
    """Nobody waits for the answer to the one before; each is published once."""
    moving = slot(TAGS[5])
    async with node(movable) as one:
        room = next(name for name in ROOMS if slot(one.cluster.keys.of(b"c", name)) == moving)
        under_way: list[asyncio.Task[int]] = []

        async def load() -> None:
            while True:
                under_way.extend(asyncio.create_task(one.publish(room)) for _ in range(100))
                await asyncio.wait(under_way[-1000:-999] or under_way[:1])

        task = asyncio.create_task(load())
        await until(lambda: len(under_way) > 2000)
        await asyncio.to_thread(movable.migrate_slots, [moving])
        before = len(under_way)
        await until(lambda: len(under_way) > before + 2000)
        task.cancel()
        assert await asyncio.gather(*under_way) == list(range(1, len(under_way) + 1))


async def test_a_command_that_is_led_somewhere_when_all_is_closed_is_answered() -> None:
    cluster, one = Cluster(RedisSettings(), []), Slow()
    cluster._owners[slot(b"news")] = cast(Server, one)
    cluster._servers["h", 2] = cast(Server, Slow())
    cluster._starts[cluster._servers["h", 2]] = asyncio.create_task(asyncio.sleep(60))
    confirmed = cluster.subscribe(b"news", lambda message: None)
    one.asked.pop().set_exception(CommandRefused(f"MOVED {slot(b'news')} h:2"))
    await until(lambda: cluster._tasks)
    await cluster.close()
    with pytest.raises(BrokerUnavailable):
        await confirmed


async def test_a_server_that_has_lost_a_slot_can_be_connected_with_again(movable: ClusterTopology, tags: None) -> None:
    moving = slot(TAGS[5])
    async with node(movable) as one:
        name = one.cluster.keys.of(b"c", next(r for r in ROOMS if slot(one.cluster.keys.of(b"c", r)) == moving))
        await one.cluster.subscribe(name, lambda message: None)
        old = one.cluster._homes.at[name]
        await asyncio.to_thread(movable.migrate_slots, [moving])
        await until(lambda: one.cluster._homes.at.get(name) not in (None, old))
        # what it is told late, or not at all, is no reason to stay away either
        old._subscriptions.handlers[name] = lambda message: None
        assert old._subscriber.connection is not None
        old._subscriber.connection.drop("a test")
        await until(lambda: old.connected and old._subscriber.connects > 1)
        assert not old.hears(name)
        assert one.cluster._homes.at[name] is not old


async def test_where_a_slot_was_for_a_moment_is_forgotten(shared_cluster: ClusterTopology, tags: None) -> None:
    """A redirection has led to another server, and every view says what it said before."""
    async with node(shared_cluster) as one:
        name = one.cluster.keys.of(b"c", "news")
        await one.cluster.subscribe(name, lambda message: None)
        home = one.cluster._homes.at[name]
        other = next(server for server in one.cluster._servers.values() if server is not home)
        one.cluster._owners[slot(name)] = other
        one.cluster._homes.take_from(home, name)
        await until(lambda: one.cluster._homes.at.get(name) is home)
        assert one.cluster._owners[slot(name)] is home
        assert not other.hears(name)


async def test_a_server_that_owns_nothing_and_does_not_answer_is_left(
    shared_cluster: ClusterTopology, tags: None
) -> None:
    async with node(shared_cluster) as one:
        await one.cluster._server(("127.0.0.1", free_port()))  # as after a redirection to it
        assert not one.cluster.connected
        await until(lambda: one.cluster.connected)
        assert len(one.cluster._servers) == 3


class Slow:
    """A server that confirms subscriptions when it is let."""

    def __init__(self) -> None:
        self.endpoint = Endpoint("h", 1)
        self.names: set[bytes] = set()
        self.asked: list[asyncio.Future[None]] = []

    async def close(self) -> None:
        pass

    def execute(self, *command: str) -> asyncio.Future[bytes]:
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        answer.set_result(b"PONG")
        return answer

    def hears(self, name: bytes) -> bool:
        return name in self.names

    def subscribe(self, name: bytes, handler: Handler) -> asyncio.Future[None]:
        self.names.add(name)
        self.asked.append(asyncio.get_running_loop().create_future())
        return self.asked[-1]

    def unsubscribe(self, name: bytes) -> Awaitable[None]:
        self.names.discard(name)
        return asyncio.sleep(0)


def between(name: bytes) -> tuple[Cluster, Slow, Slow, asyncio.Task[None]]:
    """A subscription on its way from one server to another, which has not confirmed it yet."""
    cluster, one, two = Cluster(RedisSettings(), []), Slow(), Slow()
    at = cast(list[Server | None], [one, two])
    cluster._owners[slot(name)] = at[0]
    cluster.subscribe(name, lambda message: None)
    one.asked.pop().set_result(None)
    cluster._owners[slot(name)] = at[1]
    return cluster, one, two, asyncio.create_task(cluster._homes.bring(name))


async def test_a_subscription_that_has_returned_while_it_was_moved_stays() -> None:
    cluster, one, two, moving = between(b"news")
    await until(lambda: two.asked)
    cluster._owners[slot(b"news")] = cast(Server, one)
    await cluster.unsubscribe(b"news")
    confirmed = cluster.subscribe(b"news", lambda message: None)
    one.asked.pop().set_result(None)
    await confirmed
    two.asked.pop().set_result(None)
    await moving
    assert (one.names, two.names) == ({b"news"}, set())
    assert cluster._homes.at == {b"news": cast(Server, one)}


async def test_a_subscription_that_cannot_move_stays_where_it_is_heard() -> None:
    cluster, one, two, moving = between(b"news")
    await until(lambda: two.asked)
    two.asked.pop().set_exception(CommandRefused("MOVED 1 h:1"))
    await moving
    assert one.names == {b"news"}
    assert cluster._homes.at == {b"news": cast(Server, one)}
    assert cluster._look.is_set()


async def test_a_subscription_that_has_ended_is_led_nowhere() -> None:
    cluster, one, two = Cluster(RedisSettings(), []), Slow(), Slow()
    cluster._owners[slot(b"news")] = cast(Server, one)
    cluster._servers["h", 2] = other = cast(Server, two)
    cluster._starts[other] = asyncio.create_task(asyncio.sleep(0))
    confirmed = cluster.subscribe(b"news", lambda message: None)
    one.asked.pop().set_exception(CommandRefused(f"MOVED {slot(b'news')} h:2"))
    await cluster.unsubscribe(b"news")
    with pytest.raises(BrokerUnavailable):
        await confirmed
    assert two.names == set()
    assert cluster._homes.at == {}


async def test_what_a_former_home_says_late_changes_nothing() -> None:
    cluster, one, two, moving = between(b"news")
    await until(lambda: two.asked)
    two.asked.pop().set_result(None)
    await moving
    cluster._homes.take_from(cast(Server, one), b"news")
    assert cluster._homes.at == {b"news": cast(Server, two)}


async def test_keys_on_their_way(movable: ClusterTopology) -> None:
    """Of a slot in transit some keys are here and some there, each asked for where it is."""
    moving = slot(TAGS[7])
    async with node(movable) as one:
        rooms = [name for name in map("r{}".format, range(3000)) if slot(one.cluster.keys.of(b"c", name)) == moving]
        old, new = rooms[:2]
        await one.publish(old)
        with movable.migrating(moving):
            assert await one.cluster.execute("EXISTS", one.cluster.keys.of(b"m", old)) == 1
            assert await one.cluster.execute("SET", one.cluster.keys.of(b"r", new), "there") == b"OK"
            assert await one.cluster.execute("GET", one.cluster.keys.of(b"r", new)) == b"there"
        assert await one.publish(old) == 2
        assert await one.cluster.execute("GET", one.cluster.keys.of(b"r", new)) == b"there"


async def test_a_primary_that_is_lost_has_a_successor(topology: ClusterTopology, tags: None) -> None:
    async with node(topology) as one, node(topology, "n2") as two:
        await asyncio.gather(*(one.broker.subscribe(room) for room in ROOMS))
        await asyncio.gather(*(two.publish(room) for room in ROOMS))
        identity, reconnects = await one.cluster.identity(), one.cluster.reconnects
        await asyncio.to_thread(topology.kill_primary, slot(TAGS[0]))
        await until(lambda: one.cluster.connected and two.cluster.connected, 20)
        assert one.heard.gaps
        assert one.cluster.reconnects > reconnects
        assert await one.cluster.identity() != identity
        before = len(one.heard.publications)
        await asyncio.gather(*(two.publish(room) for room in ROOMS))
        await until(lambda: len(one.heard.publications) == before + len(ROOMS))
        assert connections(topology) == 2 * 2 * 3


async def test_the_first_view_may_be_old(shared_cluster: ClusterTopology) -> None:
    """Whoever believes that all slots are one server's is led, and learns."""
    async with node(shared_cluster) as one:
        wrong = next(iter(one.cluster._servers.values()))
        one.cluster._owners = [wrong] * len(one.cluster._owners)
        await asyncio.gather(*(one.broker.subscribe(room) for room in ROOMS))
        await asyncio.gather(*(one.publish(room) for room in ROOMS))
        await until(lambda: len(one.heard.publications) == len(ROOMS))
        assert len(set(one.cluster._owners)) == 3


async def test_nobody_is_there() -> None:
    cluster, heard = Cluster(RedisSettings(), [Endpoint("127.0.0.1", 1)]), Recorder()
    broker = RedisBroker(cluster)
    await cluster.start()
    await broker.start("n1", heard)
    for failing in (broker.subscribe("news"), broker.history("news", HistoryFilter(), KEPT), broker.hearers(["news"])):
        with pytest.raises(BrokerUnavailable):
            await failing
    assert not cluster.connected
    await broker.close()
    await cluster.close()


async def test_it_comes_later(topology: ClusterTopology) -> None:
    for server in topology.servers:
        server.pause()
    settings = RedisSettings(connect_timeout=0.1, io_timeout=0.2)
    cluster, heard = Cluster(settings, [Endpoint("127.0.0.1", server.port) for server in topology.servers]), Recorder()
    broker = RedisBroker(cluster)
    await cluster.start()
    await broker.start("n1", heard)
    assert not cluster.connected
    for server in topology.servers:
        server.resume()
    await until(lambda: cluster.connected, 20)
    await until(lambda: cluster._homes.handlers and cluster._homes.complete)
    await until(lambda: heard.gaps)  # for nothing was heard before
    await broker.publish_control(b"hello")
    await until(lambda: heard.controls == [b"hello"])
    await broker.close()
    await cluster.close()


async def test_a_server_that_is_no_cluster_is_named(shared_server: RedisServer) -> None:
    with pytest.raises(
        SettingsError,
        match=f"is no part of a cluster; write its address as redis://127.0.0.1:{shared_server.port}",
    ):
        await Cluster(RedisSettings(), [Endpoint("127.0.0.1", shared_server.port)]).start()


# — what servers say —


@pytest.mark.parametrize(
    ("primary", "owner"),
    [
        ([b"10.0.0.7", 7000, b"id"], ("10.0.0.7", 7000)),
        ([None, 7000], ("asked", 7000)),
        ([b"?", 7000], ("asked", 7000)),
    ],
)
def test_views(primary: Sequence[bytes | int], owner: tuple[str, int]) -> None:
    info = b"cluster_state:ok\r\ncluster_current_epoch:6\r\n"
    view = read_topology(info, [[0, 9, primary, [b"replica", 1]], [11, 11, [b"b", 2]]], ("asked", 1))
    assert view.epoch == 6
    assert view.owners[:13] == [owner] * 10 + [None, ("b", 2), None]
    assert view.primaries == [owner, ("b", 2)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MOVED 3999 127.0.0.1:6381", Redirection(("127.0.0.1", 6381), False)),
        ("ASK 3999 host:6381", Redirection(("host", 6381), True)),
        ("MOVED 3999 :6381", Redirection(("asked", 6381), False)),
        ("MOVED 3999 2001:db8::1:6381", Redirection(("2001:db8::1", 6381), False)),
        ("TRYAGAIN later", None),
    ],
)
def test_redirections(text: str, expected: Redirection | None) -> None:
    assert read_redirection(CommandRefused(text), ("asked", 1)) == expected
