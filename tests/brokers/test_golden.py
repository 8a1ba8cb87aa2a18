"""Nodes of other releases beside those of today: what they write is read, and what cannot be read is left out."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from gateway.brokers.base import Claim, HistoryFilter, PublishOptions
from gateway.core.cluster import Answer, Cluster, ControlCommand, NodeInfo
from gateway.core.survey import Page, Question
from gateway.leases.base import Lease, Taken
from gateway.maps.base import MapOptions, MapReceipt, MapWrite
from gateway.messages import Payload, Position, Publication, pack
from gateway.redis.keys import Keys
from gateway.redis.owned import Intervals
from gateway.skipped import SKIPPED
from gateway.transports.emulation import QUESTION, Commands, Outcome
from tests.brokers.golden import FILES, Recording, load
from tests.brokers.golden.play import (
    ANN,
    BINARY,
    BOARD,
    BOB,
    CONTROL,
    CURSORS,
    ENTRY,
    EVE,
    FULL,
    KEPT,
    LATER,
    NEWEST,
    NODE,
    OVERDUE,
    PLAIN,
    RAW,
    ROOM,
    SHORT,
    Pieces,
    node,
    record,
    replication_id,
)
from tests.brokers.golden.record import shape
from tests.redis_server import RedisServer
from tests.waiting import settle, until

ALL = HistoryFilter(limit=-1)
KEYS = Keys("gateway")
QUICK = Intervals(lease=0.5, renew=0.1, sweep=0.1)
CHANNELS = ("deltas", "kept", "newest", "versions", "plain", "room", "board", "board:1", "cursors", "overdue")

WITH_MAPS = pytest.mark.parametrize("recording", FILES[3:], indirect=True, ids=lambda path: path.stem)
"""The releases that keep maps."""

ADDED = {"a_field_of_tomorrow": [1, {"and": "what it holds"}]}


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def recording(request: pytest.FixtureRequest) -> Recording:
    """What the nodes of each release wrote."""
    return load(request.param)


@pytest.fixture(autouse=True)
def skipped() -> Counter[str]:
    SKIPPED.clear()
    return SKIPPED


@pytest.fixture
async def today(recording: Recording, server: RedisServer) -> AsyncIterator[Pieces]:
    """A node of today that comes to a cluster of that release."""
    with server.client() as client:
        here = {recording.server: replication_id(client)}  # the nodes of both releases have one server
        for key in recording.keys:
            client.execute_command(*(here.get(each, each) for each in key.command))
    async with node(server, "today", QUICK) as pieces:
        for channel in CHANNELS:
            await pieces.broker.subscribe(channel)
        yield pieces


def replay(server: RedisServer, recording: Recording, kind: str) -> None:
    """Publish what was, of one kind, as it was."""
    with server.client() as client:
        for label, channel, data in recording.messages:
            if label.startswith(kind):
                assert client.publish(channel, data) == 1, f"nobody listens where {label!r} is told"


def test_the_newest_file_has_what_is_written_today(server: RedisServer) -> None:
    """If not: ``python -m tests.brokers.golden.record``, and add what is new to `play`."""
    assert shape(asyncio.run(record(server))) == shape(load(FILES[-1]))


# — messages —


async def test_publications(today: Pieces, recording: Recording, server: RedisServer) -> None:
    replay(server, recording, "publication")
    heard = today.heard.publications
    delta = any(label == "publication, delta" for label, _, _ in recording.messages)
    """Whether it is a release that tells versions, and what may be sent as patches."""
    versioned = msgspec.structs.replace(SHORT, version=7) if delta else SHORT
    expected = [
        ("kept", 1, FULL),
        ("kept", 2, SHORT),
        ("kept", 3, BINARY),
        ("newest", 1, SHORT),
        ("versions", 1, versioned),
        *([("deltas", 1, msgspec.structs.replace(FULL, version=2**62, patchable=True))] if delta else []),
        ("plain", 0, FULL),
        ("plain", 0, SHORT),
    ]
    await until(lambda: len(heard) == len(expected))
    assert all(bool(each.epoch) == bool(each.offset) for _, each in heard)
    bare = [(channel, each.offset, msgspec.structs.replace(each, offset=0, epoch="")) for channel, each in heard]
    assert bare == expected
    assert not SKIPPED


@WITH_MAPS
async def test_changes_of_maps(today: Pieces, recording: Recording, server: RedisServer) -> None:
    replay(server, recording, "map")
    gone = Publication(Payload(), key="gone", removed=True, time=SHORT.time - 1)
    short = msgspec.structs.replace(SHORT, key="gone")
    expected = [
        ("board", 1, ENTRY),
        ("board", 2, msgspec.structs.replace(LATER, patchable=True, previous=ENTRY.data)),
        ("board", 3, msgspec.structs.replace(RAW, version=2**62)),
        ("board", 4, short),
        ("board", 5, gone),
        ("board", 6, msgspec.structs.replace(gone, key=LATER.key, tags=LATER.tags)),
        ("board:1", 1, ENTRY),
        ("cursors", 0, ENTRY),
        ("cursors", 0, short),
        ("cursors", 0, gone),
        ("overdue", 1, LATER),
    ]
    heard = today.heard.publications
    await until(lambda: len(heard) == len(expected))
    assert all(bool(each.epoch) == bool(each.offset) for _, each in heard)
    bare = [(channel, each.offset, msgspec.structs.replace(each, offset=0, epoch="")) for channel, each in heard]
    assert bare == expected
    assert not SKIPPED


async def test_joins_and_leaves(today: Pieces, recording: Recording, server: RedisServer) -> None:
    replay(server, recording, "join")
    replay(server, recording, "leave")
    await until(lambda: today.heard.leaves)
    assert today.heard.joins == [("room", ANN), ("room", BOB)]
    assert today.heard.leaves == [("room", ANN)]
    assert not SKIPPED


async def test_blocks_and_leases(today: Pieces, recording: Recording, server: RedisServer) -> None:
    assert list(today.blocked.shown) == ["ann", "bób"], "those on the list that was found"
    released: list[str] = []
    today.leases.on_release.append(released.append)
    replay(server, recording, "block")
    replay(server, recording, "unblock")
    replay(server, recording, "lease")
    await until(lambda: released)
    assert today.blocked.events[-4:] == ["+ann", "+bób", "+eve", "-eve"]
    assert today.blocked.shown["bób"] == "ever"
    assert released == ["given"]
    assert not SKIPPED


class Local:
    """A node that writes down what it is to do."""

    def __init__(self) -> None:
        self.applied: list[ControlCommand] = []
        self.questions: list[Question] = []

    def describe(self) -> NodeInfo:
        return NodeInfo("today-uid", "today", "9.9")

    def apply(self, command: ControlCommand) -> None:
        self.applied.append(command)

    async def answer(self, question: Question) -> Page:
        self.questions.append(question)
        return Page({})


class Quiet:
    async def publish_control(self, data: bytes, node: str = "") -> None:
        pass


class Member:
    """A member of a cluster, to whom control messages come."""

    def __init__(self) -> None:
        self.local = Local()
        self.cluster = Cluster("today-uid", Quiet(), self.local)
        self.notices: list[str] = []
        self.cluster.listeners["stream"] = self.notices.append


async def test_control_messages(recording: Recording) -> None:
    member = Member()
    commands, questions = [], []
    for label, _, data in recording.messages:
        if not label.startswith("control, "):
            continue
        kind = label.removeprefix("control, ")
        member.cluster.receive(data)
        if isinstance(CONTROL[kind], ControlCommand):
            commands.append(CONTROL[kind])
        elif isinstance(CONTROL[kind], Question):
            questions.append(CONTROL[kind])
        elif kind == "info":
            assert member.cluster.nodes()[1:] == [CONTROL["info"]]
        elif kind == "shutdown":
            assert member.cluster.nodes()[1:] == []
    await settle()
    assert member.local.applied == commands != []
    assert member.local.questions == questions != []
    assert member.notices == ["chat:a"]
    assert not SKIPPED


async def test_commands_of_clients_are_handed_on() -> None:
    """Recorded as a question, whose argument is what nodes of today write and read."""
    question = CONTROL["commands"]
    assert isinstance(question, Question)
    assert question.kind == QUESTION
    assert msgspec.json.encode(Commands("s1", b"{}")).decode() == question.argument
    assert msgspec.json.decode(question.argument, type=Commands) == Commands("s1", b"{}")
    answer = CONTROL["commands, answer"]
    assert isinstance(answer, Answer)
    assert Outcome(answer.body) is Outcome.TAKEN


# — what is kept —


async def test_streams_go_on(today: Pieces) -> None:
    publications, top = await today.broker.history("kept", ALL, KEPT)
    assert [each.offset for each in publications] == [1, 2, 3]
    assert [each.data for each in publications] == [FULL.data, SHORT.data, BINARY.data]
    assert (publications[0].info, publications[0].tags, publications[2].binary) == (ANN, FULL.tags, True)
    assert await today.broker.verify([Claim("kept", top, KEPT), Claim("kept", Position(2, top.epoch), KEPT)]) == [
        True,
        False,
    ]
    for channel, stream, offset in (("kept", KEPT, 2), ("plain", PLAIN, 0)):
        once = PublishOptions(idempotency_key="once")
        again = await today.broker.publish(channel, Publication(Payload(b"twice")), stream, once)
        assert again.offset == offset, "it has been published, by the other release"
    after = await today.broker.publish("kept", Publication(Payload(b"4")), KEPT, PublishOptions())
    assert (after.offset, after.epoch) == (4, top.epoch)
    [newest], top = await today.broker.history("newest", ALL, NEWEST)
    assert (newest.data, newest.offset, top.offset) == (b"1", 1, 1)
    stale = PublishOptions(version=7, version_epoch="v")
    assert (await today.broker.publish("versions", Publication(Payload(b"old")), KEPT, stale)).nodes == 0
    _, top = await today.broker.history("unpublished", HistoryFilter(), KEPT)
    assert (top.offset, bool(top.epoch)) == (0, True)


@WITH_MAPS
async def test_maps_go_on(today: Pieces) -> None:
    for channel, options, entry, offset in (
        ("board", BOARD, msgspec.structs.replace(RAW, version=2**62), 3),
        ("board:1", ROOM, ENTRY, 1),
        ("cursors", CURSORS, ENTRY, 0),
    ):
        page = await today.maps.read_state(channel, options, 100)
        assert page.entries == [msgspec.structs.replace(entry, offset=offset)]
    changes, top = await today.maps.read_stream("board", BOARD, ALL)
    assert [(each.offset, each.key, each.removed, each.tags) for each in changes[3:]] == [
        (4, "gone", False, None),
        (5, "gone", True, None),
        (6, LATER.key, True, LATER.tags),
    ]
    assert await today.maps.verify([Claim("board", top, BOARD)]) == [True]
    stale = MapWrite(version=2**62, version_epoch="v")
    assert (await today.maps.publish("board", RAW, BOARD, stale)).suppressed == "version"
    again = await today.maps.remove("board", "raw", BOARD, MapWrite(idempotency_key="once"))
    assert again == MapReceipt(4, top.epoch, "idempotency")
    after = await today.maps.remove("board", "raw", BOARD)
    assert (after.offset, after.epoch, after.suppressed) == (7, top.epoch, "")
    page = await today.maps.read_state("unpublished map", BOARD, 1)
    assert (page.entries, page.position.offset, bool(page.position.epoch)) == ([], 0, True)


@WITH_MAPS
async def test_overdue_keys_of_maps_are_removed(today: Pieces) -> None:
    options: dict[str, MapOptions] = {"overdue": OVERDUE, "board:1": ROOM, "cursors": CURSORS}
    await today.maps.sweep(options.get)
    await until(lambda: today.heard.publications)
    [(channel, gone)] = today.heard.publications
    assert (channel, gone.key, gone.removed, gone.tags, gone.offset) == ("overdue", LATER.key, True, LATER.tags, 2)
    assert await today.maps.count("overdue") == 0


async def test_members_are_seen_and_swept_when_their_node_has_died(today: Pieces, server: RedisServer) -> None:
    await today.presence.add("room", msgspec.structs.replace(BOB, client="c9"))
    members = await today.presence.members("room")
    assert [members[client] for client in ("c1", "c2", "c3")] == [ANN, BOB, EVE]
    assert await today.presence.stats("room") == (4, 3)
    with server.client() as client:
        assert client.delete(f"gateway:presence:lease:{NODE}.1") == 1
    await until(lambda: len(today.swept) == 3)
    assert sorted(info.client for _, info in today.swept) == ["c1", "c2", "c3"]
    assert all(info in (ANN, BOB, EVE) for _, info in today.swept)
    assert list(await today.presence.members("room")) == ["c9"]
    assert await today.presence.stats("room") == (1, 1)


async def test_a_channel_is_vacated_when_both_have_left(today: Pieces, server: RedisServer) -> None:
    assert not await today.occupancy.enter("room"), "the other release is there"
    assert not await today.occupancy.leave("room")
    with server.client() as client:
        assert client.delete(f"gateway:occupancy:lease:{NODE}.1") == 1
    await until(lambda: today.occupied.events == ["-room"])


async def test_leases_are_respected(today: Pieces) -> None:
    for name in ("live", "done"):
        assert isinstance(await today.leases.acquire(name, "today"), Taken)
    assert isinstance(await today.leases.acquire("given", "today"), Lease)
    assert isinstance(await today.leases.acquire("done", "today", anew=True), Lease)


# — what a later release may write —


def tell(server: RedisServer, channel: bytes, *messages: bytes) -> None:
    with server.client() as client:
        for message in messages:
            assert client.publish(channel, message) == 1


def later(body: dict[str, Any], version: int = 1, *more: object) -> bytes:
    return msgspec.msgpack.encode([version, "newer-uid", body, *more])


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged. Nothing may have a traceback."""
    assert not any(record.exc_info for record in caplog.records)
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_messages_of_a_later_version(
    today: Pieces, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    fields = ADDED | {"data": b"2"}
    tell(
        server,
        KEYS.of(b"c", "kept"),
        b"2p9:epoch:" + pack(SHORT),
        b"1d9:epoch:" + pack(SHORT),
        b"\xff\xff",
        b"1p9:epoch:" + pack({"data": "of another type"}),
        b"1p4:epoch:" + pack(fields),
    )
    await until(lambda: today.heard.publications)
    [(_, publication)] = today.heard.publications
    assert (publication.data, publication.offset) == (b"2", 4), "a field that was added is passed over"
    assert SKIPPED == {"message": 4}
    assert len(lines(caplog)) == 1


async def test_control_messages_of_a_later_version(caplog: pytest.LogCaptureFixture) -> None:
    member = Member()
    receive = member.cluster.receive
    refresh = {"type": "refresh", "user": "ann", **ADDED}
    for data in (
        later(refresh, 2),
        later({"type": "of tomorrow", "user": "ann"}),
        later({"user": "ann"}),
        later({"type": "disconnect", "user": "ann", "code": 1, "reason": b"\xff"}),
        msgspec.msgpack.encode({"version": 3}),
        b"\x93\x01\xa1\xff\xa1a",
        b"",
    ):
        receive(data)
    assert member.local.applied == []
    assert SKIPPED == {"control": 7}
    assert len(lines(caplog)) == 1
    receive(later(refresh, 1, "a third part"))
    assert len(member.local.applied) == 1, "what was added is passed over"
    receive(later({"type": "notice", "kind": "of tomorrow", "argument": "x"}))
    receive(later({"type": "question", "id": "q", "uid": "newer-uid", "kind": "of tomorrow"}))
    await settle()
    assert SKIPPED == {"control": 7}


async def test_a_stream_with_what_cannot_be_read(
    today: Pieces, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with server.client() as client:
        for number, data in enumerate((b"\xc1", pack({"data": 5}), pack(ADDED | {"data": b"6"})), 4):
            client.xadd(KEYS.of(b"s", "kept"), {"d": data, "t": b"more"}, id=f"{number}-0")
        client.hset(KEYS.of(b"m", "kept"), "s", 6)
    publications, top = await today.broker.history("kept", ALL, KEPT)
    assert [each.offset for each in publications] == [1, 2, 3, 6]
    assert top.offset == 6
    assert SKIPPED == {"message": 2}
    assert len(lines(caplog)) == 1


async def test_members_that_cannot_be_read(
    today: Pieces, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with server.client() as client:
        members = KEYS.owned(b"e", "room", f"{NODE}.1")
        assert client.hlen(members) == 3
        client.hset(members, "c4", b"3:dan" + pack([None, Payload(b"2"), "and more"]))
        client.hset(members, "c5", b"3:dan" + pack({"of": "another form"}))
        client.hset(members, "c6", b"none")
    for _ in range(3):
        found = await today.presence.members("room")
        assert sorted(found) == ["c1", "c2", "c3", "c4"]
        assert (found["c4"].user, found["c4"].chan_info) == ("dan", b"2")
    assert SKIPPED == {"presence": 6}
    assert len(lines(caplog)) == 1


async def test_news_of_blocks_and_leases_that_cannot_be_read(
    today: Pieces, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A change of the block list is not missed for that: the list itself is read."""
    events = today.blocked.events
    before = len(events)
    with server.client() as client:
        client.execute_command("ZADD", "gateway:blocks", "+inf", "dan")
    tell(server, b"gateway:blocks", b"v2;user=dan", b"1000:\xff")
    tell(server, b"gateway:released", b"\xff")
    await until(lambda: "list" in events[before:])
    assert "dan" in today.blocked.users
    await until(lambda: SKIPPED == {"block": 2, "lease": 1})
    assert len(lines(caplog)) == 2
