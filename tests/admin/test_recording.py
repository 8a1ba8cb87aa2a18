"""The flight recorder of several nodes: switched on and off on all of them, and read as one."""

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from gateway.admin.messages import Nothing
from gateway.admin.recording import (
    RECORD,
    RECORDING,
    RECORDINGS,
    SETTLED,
    RecordedEvent,
    RecordingRequest,
    RecordRequest,
    install,
    record,
    recording,
    recordings,
)
from gateway.core.node import Node
from gateway.core.recorder import EVENTS, LINGER, WATCHES, Subject, What
from gateway.core.survey import PAGE_BYTES
from gateway.errors import Error
from gateway.messages import Payload, Publication
from gateway.session.taps import Taps
from tests.redis_fixtures import redis_url
from tests.redis_server import RedisServer
from tests.session.rig import Rig
from tests.waiting import until
from tests.web.conftest import running


class Nodes:
    """Some nodes on one network, each with a clock of its own."""

    def __init__(self) -> None:
        self.rigs: list[Rig] = []

    async def add(self, name: str, *, installed: bool = True) -> Rig:
        rig = await Rig.open(ping_interval=0, pong_timeout=0)
        named = rig.settings.node.model_copy(update={"name": name})
        rig.node.settings = rig.settings.model_copy(update={"node": named})
        rig.broker.publish_control = self.send  # type: ignore[method-assign]
        if installed:
            install(rig.node)
        self.rigs.append(rig)
        rig.node.cluster.start()
        await until(lambda: all(len(each.node.cluster.nodes()) == len(self.rigs) for each in self.rigs))
        return rig

    async def send(self, data: bytes, node: str = "") -> None:
        for rig in self.rigs:
            if node in ("", rig.node.uid):
                rig.node.on_control(data)

    def pass_time(self, seconds: float) -> None:
        for rig in self.rigs:
            rig.pass_time(seconds)


@pytest.fixture
async def nodes() -> AsyncIterator[Nodes]:
    nodes = Nodes()
    yield nodes
    for rig in nodes.rigs:
        await rig.node.cluster.stop()


@pytest.fixture
async def one(nodes: Nodes) -> Rig:
    return await nodes.add("one")


@pytest.fixture
async def two(nodes: Nodes, one: Rig) -> Rig:
    return await nodes.add("two")


async def start(rig: Rig, what: What, name: str, seconds: float = 120) -> float:
    return (await record(rig.node, RecordRequest(what, name, seconds))).until


async def listed(rig: Rig) -> list[tuple[str, str, float, int]]:
    found = await recordings(rig.node, Nothing())
    return [(each.what, each.name, each.until, each.events) for each in found.recordings]


async def read(rig: Rig, what: What, name: str) -> list[RecordedEvent]:
    """Everything, page by page."""
    events: list[RecordedEvent] = []
    while True:
        found = await recording(rig.node, RecordingRequest(what, name, events[-1].at if events else 0))
        events += found.events
        if not found.more:
            return events
        assert found.events


def told(events: list[RecordedEvent], *fields: str) -> list[Any]:
    return [tuple(getattr(each, field) for field in fields) for each in events]


async def test_all_nodes_record_until_it_is_over(nodes: Nodes, one: Rig, two: Rig) -> None:
    two.pass_time(0.5)  # whose clock is fast
    end = two.clock() + 10
    assert await start(one, "user", "ann", 10) == end - 0.5
    assert await listed(two) == await listed(one) == [("user", "ann", end, 0)]
    for rig in (one, two):
        await rig.connected("ann")
    assert await listed(one) == [("user", "ann", end, 4)]
    nodes.pass_time(10 + LINGER + 0.5)
    assert await listed(one) == []
    for rig in (one, two):
        assert rig.node.witness is None


async def test_it_is_ended_on_all_nodes(one: Rig, two: Rig) -> None:
    await start(one, "channel", "room:1")
    await start(two, "user", "ann")
    assert await start(two, "channel", "room:1", 0) == 0
    assert [name for _, name, *_ in await listed(one)] == ["ann"]
    assert await start(one, "user", "ann", 0) == 0
    assert one.node.witness is two.node.witness is None


async def test_what_the_nodes_have_is_one_story(nodes: Nodes, one: Rig, two: Rig) -> None:
    await start(one, "user", "ann")
    first = await one.connected("ann")
    nodes.pass_time(1)
    second = await two.connected("ann")
    nodes.pass_time(1)
    await first.ask("publish", channel="any:1", data={"n": 1, "password": "hidden"})
    nodes.pass_time(1)
    await second.leave()
    nodes.pass_time(SETTLED)
    found = await recording(two.node, RecordingRequest("user", "ann"))
    assert told(found.events, "node", "kind", "client") == [
        ("one", "connect", first.session.client),
        ("one", "reply", first.session.client),
        ("two", "connect", second.session.client),
        ("two", "reply", second.session.client),
        ("one", "command", first.session.client),
        ("one", "reply", first.session.client),
        ("two", "close", second.session.client),
    ]
    assert found.events[4].data == '{"channel":"any:1","data":{"n":1,"password":"***"}}'
    assert (found.until, found.more, found.missing) == (one.clock() - 3 - SETTLED + 120, False, [])
    later = await recording(one.node, RecordingRequest("user", "ann", found.events[3].at))
    assert later.events == found.events[4:]


async def test_payloads_are_shown_without_their_secrets(one: Rig) -> None:
    await start(one, "channel", "room:1")
    client = await one.connected("ann")
    await client.subscribe("room:1")
    await one.publish("room:1", {"token": "hidden", "text": "x" * 600})
    [event] = [each for each in await read(one, "channel", "room:1") if each.kind == "publication"]
    assert event.data.startswith('{"token":"***","text":"xxx')
    assert len(event.data.encode()) <= 512


async def test_what_is_too_much_for_one_answer_comes_in_several(nodes: Nodes, one: Rig, two: Rig) -> None:
    """Of no node anything is left out that others have told more quickly."""
    await start(one, "channel", "room:1")
    for rig in (one, two):
        client = await rig.connected()
        await client.subscribe("room:1")
    for number in range(300):
        await one.publish("room:1", {"n": number, "text": "x" * 500})
        nodes.pass_time(0.1)
        if number % 100 == 0:
            await two.publish("room:1", {"n": number})
    nodes.pass_time(SETTLED)
    first = await recording(two.node, RecordingRequest("channel", "room:1"))
    assert first.more
    events = await read(two, "channel", "room:1")
    taps = [rig.node.witness for rig in (one, two)]
    kept = [each.recorder.watches[Subject("channel", "room:1")].events for each in taps if isinstance(each, Taps)]
    assert [each.at for each in events] == sorted(event.at for some in kept for event in some)
    question = json.dumps({"what": "channel", "name": "room:1", "after": 0, "before": None})
    assert len(await one.node.answers[RECORDING](question)) <= PAGE_BYTES + 200


async def test_events_are_told_when_all_nodes_are_past_their_time(nodes: Nodes, one: Rig, two: Rig) -> None:
    await start(one, "user", "ann")
    await one.connected("ann")
    assert (await recording(two.node, RecordingRequest("user", "ann"))).events == []
    nodes.pass_time(SETTLED)
    assert len((await recording(two.node, RecordingRequest("user", "ann"))).events) > 0


async def test_a_node_that_is_alone_tells_them_at_once(one: Rig) -> None:
    await start(one, "user", "ann")
    await one.connected("ann")
    assert told(await read(one, "user", "ann"), "kind") == [("connect",), ("reply",)]


async def test_dropped_events_are_counted(one: Rig) -> None:
    await start(one, "channel", "room:1")
    await one.publish("room:1", *range(EVENTS))
    found = await recording(one.node, RecordingRequest("channel", "room:1"))
    assert found.dropped > 0
    [listing] = (await recordings(one.node, Nothing())).recordings
    assert (listing.events, listing.dropped) == (EVENTS, found.dropped)


async def test_no_more_than_so_many(one: Rig, two: Rig, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(WATCHES):
        await start(one, "user", f"u{number}")
    with pytest.raises(Error, match="106 limit exceeded: 16 recordings run already; wait until"):
        await start(two, "user", "ann")
    await start(two, "user", "u3")  # goes on
    await start(two, "user", "u4", 0)
    await start(two, "user", "ann")
    one.node.cluster.listeners[RECORD](json.dumps({"what": "user", "name": "bob"}))
    assert "user 'bob' is not recorded on this node, which has 16 recordings" in caplog.text


async def test_a_node_that_has_started_later_has_nothing_to_tell(nodes: Nodes, one: Rig) -> None:
    await start(one, "user", "ann")
    three = await nodes.add("three")
    await one.connected("ann")
    nodes.pass_time(SETTLED + 0.1)
    found = await recording(three.node, RecordingRequest("user", "ann"))
    assert told(found.events, "node") == [("one",), ("one",)]
    assert found.missing == []
    assert found.until > 0


async def test_a_node_that_does_not_answer_is_named(nodes: Nodes, one: Rig) -> None:
    """One of a release before, say."""
    await nodes.add("old", installed=False)
    await start(one, "user", "ann")
    assert (await recordings(one.node, Nothing())).missing == ["old"]
    assert (await recording(one.node, RecordingRequest("user", "ann"))).missing == ["old"]


async def test_what_nobody_records(one: Rig) -> None:
    found = await recording(one.node, RecordingRequest("user", "ann"))
    assert (found.events, found.until, found.more) == ([], 0, False)
    assert await start(one, "user", "ann", 0) == 0


async def test_a_channel_is_named_as_the_server_api_does(one: Rig) -> None:
    with pytest.raises(Error, match="102 unknown channel"):
        await start(one, "channel", "nonamespace:1")
    with pytest.raises(Error, match="102 unknown channel"):
        await recording(one.node, RecordingRequest("channel", "nonamespace:1"))


@pytest.mark.parametrize(
    "body",
    [
        {"what": "node", "name": "a"},
        {"what": "user"},
        {"what": "user", "name": ""},
        {"what": "user", "name": "a", "seconds": 601},
        {"what": "user", "name": "a", "seconds": -1},
    ],
)
def test_what_cannot_be_asked_for(body: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(body, RecordRequest)


async def test_an_order_that_cannot_be_read_is_left_out(one: Rig, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        one.node.cluster.listeners[RECORD]('{"what":"planet"}')
    assert await listed(one) == []
    assert "left out what this release cannot read" in caplog.text


async def test_every_gateway_records() -> None:
    async with running({}) as api:
        assert {RECORDINGS, RECORDING} <= api.node.answers.keys()
        await record(api.node, RecordRequest("channel", "news", 1))
        assert [each.name for each in (await recordings(api.node, Nothing())).recordings] == ["news"]


async def test_nodes_that_redis_joins(shared_server: RedisServer) -> None:
    with redis_url("redis", shared_server) as url:
        settings = {"engine": {"type": "redis", "redis": {"address": url}}}
        async with running({**settings, "node": {"name": "a"}}) as one, running(settings) as two:
            await until(lambda: len(one.node.cluster.nodes()) == len(two.node.cluster.nodes()) == 2)
            await record(one.node, RecordRequest("channel", "news"))
            await until(lambda: two.node.witness)
            await one.node.publish(one.node.channels.resolve("news"), Publication(Payload(b'{"token":1}')))
            asked = RecordingRequest("channel", "news")
            events = await until(lambda: _publishes(two.node, asked))
            assert told(events, "node", "text") == [("a", "accepted, offset 0; nodes that hear it: 0")]
            assert (await record(two.node, RecordRequest("channel", "news", 0))).until == 0
            await until(lambda: one.node.witness is None)


async def _publishes(node: Node, asked: RecordingRequest) -> list[RecordedEvent]:
    return [each for each in (await recording(node, asked)).events if each.kind == "publish"]
