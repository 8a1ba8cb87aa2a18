"""The node: the order of the calls among hub, broker, presence and cluster."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest

from gateway.blocks.memory import MemoryBlocks
from gateway.brokers.base import HistoryFilter, PublishOptions
from gateway.brokers.memory import MemoryBroker
from gateway.config.settings import Settings
from gateway.core.cluster import DisconnectUser
from gateway.core.feeds import LINGER
from gateway.core.node import Node
from gateway.core.rosters import SETTLE
from gateway.core.survey import Page, Question
from gateway.core.wheel import TICK, Wheel
from gateway.errors import BrokerUnavailable, Error
from gateway.health import Condition
from gateway.messages import ClientInfo, Payload, Position, Publication, Receipt
from gateway.metrics import Reads
from gateway.presence.base import Changed, ignore
from gateway.presence.memory import MemoryPresence
from gateway.version import __version__
from tests.core.test_hub import Client, Reader
from tests.core.test_wheel import Clock
from tests.waiting import until

ANN, BOB = ClientInfo("ann", "c1"), ClientInfo("bob", "c2")
SETTINGS = {
    "channel": {
        "without_namespace": {"presence": True},
        "namespaces": [
            {"name": "kept", "history_size": 5, "history_ttl": "60s"},
            {"name": "social", "presence": True, "join_leave": True},
        ],
    },
}


class Broker(MemoryBroker):
    """In memory, and away when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.confirmed = asyncio.Event()
        self.confirmed.set()

    async def subscribe(self, channel: str) -> None:
        await self.confirmed.wait()
        if self.away:
            raise BrokerUnavailable
        await super().subscribe(channel)

    async def publish_join(self, channel: str, info: ClientInfo) -> None:
        if self.away:
            raise BrokerUnavailable
        await super().publish_join(channel, info)

    async def publish_leave(self, channel: str, info: ClientInfo) -> None:
        if self.away:
            raise BrokerUnavailable
        await super().publish_leave(channel, info)


class Presence(MemoryPresence):
    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.swept: Changed = ignore
        self.returned: Changed = ignore
        self.reads = 0
        self.wait: asyncio.Event | None = None

    async def start(self, node: str, swept: Changed, returned: Changed = ignore) -> None:
        self.swept, self.returned = swept, returned

    async def add(self, channel: str, info: ClientInfo) -> None:
        if self.away:
            raise BrokerUnavailable
        await super().add(channel, info)

    async def remove(self, channel: str, client: str) -> None:
        if self.away:
            raise BrokerUnavailable
        await super().remove(channel, client)

    async def members(self, channel: str, at_most: int = 0) -> dict[str, ClientInfo]:
        await self._read()
        return await super().members(channel, at_most)

    async def stats(self, channel: str) -> tuple[int, int]:
        await self._read()
        return await super().stats(channel)

    async def _read(self) -> None:
        self.reads += 1
        if self.wait is not None:
            await self.wait.wait()


class Obedient(Client):
    """Notes the commands of the cluster."""

    commands: list[Any]

    def control(self, command: Any) -> None:
        self.commands.append(command)


def make(broker: Broker, presence: Presence, settings: dict[str, Any] = SETTINGS, **parts: Any) -> Node:
    return Node(Settings.model_validate(settings), broker, presence, blocks=MemoryBlocks(), **parts)


@pytest.fixture
async def broker() -> Broker:
    return Broker()


@pytest.fixture
def presence() -> Presence:
    return Presence()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def node(broker: Broker, presence: Presence, clock: Clock) -> AsyncIterator[Node]:
    node = make(broker, presence, clock=clock, wheel=Wheel(clock))
    await node.start()
    yield node
    await node.stop()


def publication(text: str = "{}") -> Publication:
    return Publication(Payload(text.encode()))


async def fails(work: Any) -> int:
    with pytest.raises(Error) as failure:
        await work
    return failure.value.code


# — channels —


async def test_publishes_with_the_options_of_the_channel(node: Node) -> None:
    kept, passing = node.channels.resolve("kept:a"), node.channels.resolve("room")
    assert await node.publish(passing, publication()) == Receipt()
    first = await node.publish(kept, publication("1"))
    skipped = await node.publish(kept, publication("2"), PublishOptions(skip_history=True))
    second = await node.publish(kept, publication("3"))
    assert (first.offset, skipped, second) == (1, Receipt(), Receipt(2, first.epoch))
    assert node.metrics.publications_in == 4
    publications, top = await node.history(kept, HistoryFilter(limit=-1))
    assert ([each.data for each in publications], top) == ([b"1", b"3"], Position(2, first.epoch))


async def test_errors_of_history(node: Node) -> None:
    kept = node.channels.resolve("kept:a")
    top = await node.publish(kept, publication())
    assert await fails(node.history(node.channels.resolve("room"), HistoryFilter())) == 108
    assert await fails(node.remove_history(node.channels.resolve("room"))) == 108
    assert await fails(node.history(kept, HistoryFilter(1, Position(0, top.epoch), reverse=True))) == 107
    assert await fails(node.history(kept, HistoryFilter(1, Position(1, "other")))) == 112
    any_epoch = await node.history(kept, HistoryFilter(1, Position(1)))
    assert any_epoch == ([], Position(1, top.epoch))
    await node.remove_history(kept)
    assert await node.history(kept, HistoryFilter(-1)) == ([], Position(1, top.epoch))


async def test_errors_of_presence(node: Node) -> None:
    kept = node.channels.resolve("kept:a")
    assert await fails(node.presence(kept)) == 108
    assert await fails(node.presence_stats(kept)) == 108


@pytest.mark.parametrize(
    ("options", "user", "name"),
    [
        ({}, "ann", ""),
        ({"enabled": True}, "", ""),
        ({"enabled": True}, "ann", "#ann"),
        ({"enabled": True, "personal_channel_namespace": "kept"}, "ann", "kept:#ann"),
    ],
)
async def test_personal_channels(
    broker: Broker, presence: Presence, options: dict[str, Any], user: str, name: str
) -> None:
    node = make(broker, presence, {**SETTINGS, "client": {"subscribe_to_user_personal_channel": options}})
    assert node.channels.personal(user) == name


# — subscriptions —


async def hold(node: Node, subscriber: Reader) -> None:
    await node.feeds.hold(subscriber.channel)
    node.hub.join(subscriber)


async def test_a_subscriber_hears_what_is_published(node: Node, broker: Broker) -> None:
    subscriber, room = Reader(Client()), node.channels.resolve("room")
    await hold(node, subscriber)
    node.hub.enter(subscriber, None)
    assert broker._channels == {"room"}
    await node.publish(room, publication("hello"))
    await until(lambda: subscriber.frames == ["hello"])
    assert node.metrics.publications_out == 1
    node.hub.leave(subscriber)
    assert not node.hub.channels


async def test_presence_is_what_the_store_says(node: Node, presence: Presence) -> None:
    room = node.channels.resolve("room")
    await node.show("room", ANN)
    assert await node.presence(room) == {"c1": ANN}
    assert await node.presence_stats(room) == (1, 1)


async def test_one_who_gives_up_does_not_make_others_deaf(node: Node, broker: Broker, clock: Clock) -> None:
    patient, impatient = Reader(Client()), Reader(Client())
    broker.confirmed.clear()
    holds = [asyncio.create_task(node.feeds.hold(each.channel)) for each in (patient, impatient)]
    await asyncio.sleep(0)
    holds[1].cancel()
    await asyncio.gather(*holds[1:], return_exceptions=True)
    broker.confirmed.set()
    await holds[0]
    clock.now += 2 * LINGER
    node.wheel.turn()
    await asyncio.sleep(0)
    assert broker._channels == {"room"}


async def test_equal_reads_of_presence_in_one_tick_are_one(node: Node, presence: Presence) -> None:
    room = node.channels.resolve("room")
    await presence.add("room", ANN)
    presence.wait = asyncio.Event()
    reads = [asyncio.create_task(node.presence(room)) for _ in range(3)]
    counts = [asyncio.create_task(node.presence_stats(room)) for _ in range(3)]
    await until(lambda: presence.reads == 2)
    presence.wait.set()
    ours, *others = await asyncio.gather(*reads)
    ours.clear()
    assert others == [{"c1": ANN}] * 2, "each may do with it as he likes"
    assert await asyncio.gather(*counts) == [(1, 1)] * 3
    assert presence.reads == 2
    await node.presence(room)
    assert presence.reads == 3


async def test_a_leave_that_nobody_can_note_is_no_failure(node: Node, broker: Broker, presence: Presence) -> None:
    broker.away = presence.away = True
    await node.announce_join("room", ANN)
    await node.announce_leave("room", ANN)
    await node.show("room", ANN)


async def follower(node: Node, channel: str) -> Reader:
    subscriber = Reader(Client(), channel, joins=True)
    await hold(node, subscriber)
    node.hub.enter(subscriber, None)
    return subscriber


async def test_joins_and_leaves_reach_the_channel(node: Node) -> None:
    subscriber = await follower(node, "room")
    await node.announce_join("room", BOB)
    await node.announce_leave("room", BOB)
    await until(lambda: subscriber.frames == ["join leave"])


async def test_members_of_a_dead_node_are_seen_to_leave(node: Node, presence: Presence) -> None:
    social, plain = await follower(node, "social:a"), await follower(node, "room")
    for channel in ("social:a", "room", "unknown:a"):
        presence.swept(channel, BOB)
    await until(lambda: social.frames == ["leave"])
    assert plain.frames == []


async def test_rosters_go_by_joins_and_leaves_and_by_those_that_are_swept(node: Node, presence: Presence) -> None:
    await presence.add("social:a", ANN)
    roster = await node.rosters.hold("social:a")
    await node.announce_join("social:a", BOB)
    await until(lambda: roster.count == 2)
    presence.swept("social:a", ANN)
    await until(lambda: [*roster.members()] == ["bob"])
    await node.announce_leave("social:a", BOB)
    await until(lambda: roster.count == 0)


async def test_after_a_gap_rosters_are_read_anew(node: Node, presence: Presence, clock: Clock) -> None:
    roster = await node.rosters.hold("social:a")
    node.rosters.counts.hold("social:a")
    counts: list[int] = []
    node.rosters.counts.on_count = lambda _channel, count: counts.append(count)
    await presence.add("social:a", BOB)
    node.on_gap()
    clock.now += SETTLE
    node.wheel.turn()
    await until(lambda: roster.has("bob") and counts == [1])


async def test_all_leaves_are_on_their_way_before_the_sweeper_goes_on(
    node: Node, presence: Presence, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[str] = []

    async def publish_leave(_channel: str, info: ClientInfo) -> None:
        left.append(info.client)
        await asyncio.sleep(0)

    monkeypatch.setattr(broker, "publish_leave", publish_leave)
    members = [f"c{number}" for number in range(2000)]
    for client in members:
        presence.swept("social:a", ClientInfo("u", client))
    assert left == members


async def test_members_that_were_taken_for_dead_are_seen_to_join(node: Node, presence: Presence) -> None:
    social, plain = await follower(node, "social:a"), await follower(node, "room")
    for channel in ("social:a", "room", "unknown:a"):
        presence.returned(channel, BOB)
    await until(lambda: social.frames == ["join"])
    assert plain.frames == []


# — the broker and the cluster —


async def test_a_gap_has_positions_checked(node: Node, broker: Broker) -> None:
    subscriber = Reader(Client(), "kept:a", positioned=True, held=[])
    kept = node.channels.resolve("kept:a")
    await hold(node, subscriber)
    _, top = await node.history(kept, HistoryFilter())
    node.hub.enter(subscriber, top)
    await broker.unsubscribe("kept:a")  # deaf
    await node.publish(kept, publication())
    node.on_gap()
    await until(lambda: subscriber.losses == 1)


async def test_commands_reach_the_connections_of_a_user(node: Node) -> None:
    anns, bob = [Obedient(client="1"), Obedient(client="2")], Obedient(client="3", user="bob")
    for each in (*anns, bob):
        each.commands = []
        node.hub.open(each)
    command = DisconnectUser(user="ann", code=3503, reason="force disconnect")
    await node.cluster.command(command)
    assert [each.commands for each in (*anns, bob)] == [[command], [command], []]


async def test_counts_subscribers_by_channel(node: Node) -> None:
    for channel in ("room", "room", "kept:a", "kept:b"):
        await follower(node, channel)
    await hold(node, Reader(Client(), "kept:c"))  # not subscribed yet

    def ask(kind: str, pattern: str = "", after: str = "", limit: int = 0) -> Awaitable[Page]:
        return node.answer(Question("id", "uid", kind, pattern, after, limit))

    assert await ask("channels") == Page({"kept:a": 1, "kept:b": 1, "room": 2})
    assert await ask("channels", "kept:*") == Page({"kept:a": 1, "kept:b": 1})
    assert await ask("channels", "", "kept:a", 1) == Page({"kept:b": 1}, more=True)
    assert await ask("channels", "KEPT:*") == Page({})
    assert await ask("weather") == Page({})


async def test_says_what_it_is(node: Node, clock: Clock) -> None:
    for client, user in (("1", "ann"), ("2", "ann"), ("3", "")):
        node.hub.open(Client(client=client, user=user))
    for channel in ("room", "room", "kept:a"):
        await follower(node, channel)
    clock.now += 90.5
    info = node.describe()
    assert (info.uid, info.name) == (node.uid, node.uid[:8])
    assert (info.num_clients, info.num_users, info.num_subs, info.num_channels) == (3, 2, 3, 2)
    assert info.uptime == 90
    assert (info.group, info.full) == (node.uid, False), "the port is its own"
    gauges = node.gauges()
    assert (gauges.nodes, gauges.broker_connected, gauges.broker_lag, gauges.broker_reconnects) == (1, True, 0, 0)
    assert (gauges.connections, gauges.users, gauges.subscriptions, gauges.channels) == (3, 2, 3, 2)
    assert (gauges.name, gauges.version, gauges.draining, gauges.warnings) == (node.uid[:8], __version__, False, 0)


async def test_has_the_name_that_is_set(broker: Broker, presence: Presence) -> None:
    info = make(broker, presence, {"node": {"name": "blue", "group": "of one port"}}).describe()
    assert (info.name, info.group) == ("blue", "of one port")


async def test_says_that_it_takes_nobody(node: Node) -> None:
    node.conditions.append(lambda: Condition("warning", "of another kind"))
    assert not node.describe().full
    node.conditions.append(lambda: Condition("full", "whatever it is"))
    assert node.describe().full
    node.conditions.pop()
    node.draining = True
    assert node.describe().full, "as one that leaves its port to the next"


# — what is counted —


async def test_what_the_broker_does_not_accept_is_not_counted(
    node: Node, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = node.channels.resolve("room")
    await node.publish(channel, publication())

    async def refuse(*_: Any) -> Receipt:
        raise BrokerUnavailable

    monkeypatch.setattr(broker, "publish", refuse)
    with pytest.raises(BrokerUnavailable):
        await node.publish(channel, publication())
    assert node.metrics.publications_in == 1


async def test_namespaces_are_counted_where_that_is_wanted(broker: Broker, presence: Presence) -> None:
    node = make(broker, presence, {**SETTINGS, "prometheus": {"namespaces": ["kept", "social"]}})
    await node.start()
    for _ in range(2):
        await follower(node, "kept:a")
    await follower(node, "room")
    for name in ("kept:a", "kept:a", "room"):
        await node.publish(node.channels.resolve(name), publication())
    node.on_publication("no such namespace:x", publication())
    counts = {
        name: (each.publications_in, each.publications_out, each.deliveries)
        for name, each in node.metrics.namespaces.items()
    }
    assert counts == {"kept": (2, 2, 4), "social": (0, 0, 0)}
    assert node.metrics.publications_out == 4
    await node.stop()


async def test_reads_of_presence_are_counted(node: Node) -> None:
    channel = node.channels.resolve("room")
    await asyncio.gather(*(node.presence(channel) for _ in range(3)), node.presence_stats(channel))
    assert node.gauges().presence_reads == Reads(put=2, shared=2)


async def test_the_event_loop_is_looked_at(node: Node, clock: Clock) -> None:
    clock.now += 1.0
    await until(lambda: sum(node.metrics.loop_lag.counts))
    assert node.metrics.loop_lag.total == pytest.approx(1.0 - TICK)
    node.hub.measures = False
    await until(lambda: node.hub.measures)


# — work that nobody waits for —


async def test_failures_in_the_background_are_logged(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise RuntimeError("broken")

    async def wait() -> None:
        await asyncio.Event().wait()

    with caplog.at_level(logging.ERROR):
        node.spawn(fail())
        await until(lambda: not node._work.running)
    assert "broken" in caplog.text
    caplog.clear()
    node.spawn(wait())
    [task] = node._work.running
    task.cancel()
    await until(lambda: not node._work.running)
    assert caplog.text == ""


async def test_stops_after_what_is_under_way(broker: Broker, presence: Presence) -> None:
    node = make(broker, presence)
    await node.start()
    done: list[str] = []

    async def work() -> None:
        await asyncio.sleep(0)
        done.append("work")

    node.spawn(work())
    await node.stop()
    assert done == ["work"]
    assert node.draining
