"""Nodes that hear of each other, and commands that reach all of them once."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial

import msgspec
import pytest

from gateway.core import cluster as module
from gateway.core.cluster import (
    SILENCE,
    Cluster,
    ControlCommand,
    DisconnectUser,
    NodeInfo,
    RefreshUser,
    SubscribeUser,
    UnsubscribeUser,
)
from gateway.core.survey import MOST, PAGE_NAMES, Page, Question, Roll
from gateway.core.wheel import Wheel
from gateway.errors import BrokerUnavailable
from gateway.messages import Payload, Position
from tests.core.test_positions import Pauses
from tests.core.test_wheel import Clock
from tests.waiting import settle, until


@dataclass
class Local:
    """A node that notes what it is told to do."""

    uid: str
    counts: dict[str, int] = field(default_factory=dict)
    applied: list[ControlCommand] = field(default_factory=list)
    questions: list[tuple[str, str, str, int]] = field(default_factory=list)
    told: dict[str, bytes] = field(default_factory=dict)
    """What it answers to other questions than for channels."""
    group: str = ""

    def describe(self) -> NodeInfo:
        return NodeInfo(self.uid, f"node {self.uid}", "1.0", num_clients=len(self.counts), group=self.group)

    def apply(self, command: ControlCommand) -> None:
        self.applied.append(command)

    async def answer(self, question: Question) -> Page:
        self.questions.append((question.kind, question.argument, question.after, question.limit))
        if question.kind != "channels":
            return Page({}, body=self.told.get(question.kind, b""))
        return await Roll(self.counts, self.counts.__getitem__, Wheel()).page(question)


class Network:
    """A control channel in memory: everybody hears what is for all, the sender too."""

    def __init__(self) -> None:
        self.clusters: dict[str, Cluster] = {}
        self.sent: list[tuple[bytes, str]] = []
        self.away = False
        self.drops: Callable[[bytes], bool] = lambda _: False

    async def publish_control(self, data: bytes, node: str = "") -> None:
        if self.away:
            raise BrokerUnavailable
        self.sent.append((data, node))
        if self.drops(data):
            return
        for uid, cluster in self.clusters.items():
            if node in ("", uid):
                cluster.receive(data)


class Nodes:
    """Some nodes on one network."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.pauses = Pauses(self.clock)
        self.network = Network()
        self.locals: dict[str, Local] = {}

    def add(self, uid: str, **counts: int) -> Cluster:
        return self.add_to("", uid, **counts)

    def add_to(self, group: str, uid: str, **counts: int) -> Cluster:
        local = self.locals[uid] = Local(uid, counts, group=group)
        cluster = Cluster(uid, self.network, local, group=group, clock=self.clock, pause=self.pauses)
        self.network.clusters[uid] = cluster
        return cluster

    async def start(self, *uids: str) -> None:
        for uid in uids:
            self.network.clusters[uid].start()
        for uid in uids:
            await until(partial(self.complete, uid))

    def complete(self, uid: str) -> bool:
        return len(self.known(uid)) == len(self.network.clusters)

    def known(self, uid: str) -> set[str]:
        return {info.uid for info in self.network.clusters[uid].nodes()}


@pytest.fixture
async def nodes() -> AsyncIterator[Nodes]:
    nodes = Nodes()
    yield nodes
    for cluster in nodes.network.clusters.values():
        await cluster.stop()


COMMANDS: list[ControlCommand] = [
    SubscribeUser(user="ann", channel="room"),
    SubscribeUser(
        user="ann",
        client="c",
        session="s",
        channel="room",
        info=Payload(b'{"a": 1}'),
        data=Payload(b'{"b":\n2}'),
        override={"presence": False},
        expire_at=99,
        since=Position(4, "abcd"),
    ),
    UnsubscribeUser(user="ann", channel="room", code=2000, reason="server unsubscribe"),
    DisconnectUser(user="", code=3503, reason="force disconnect", whitelist=["a", "b"]),
    RefreshUser(user="ann", expired=True),
    RefreshUser(user="ann", expire_at=99, info=Payload(b"{}")),
]


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_command_is_applied_once_on_every_node(nodes: Nodes, command: ControlCommand) -> None:
    for uid in ("a", "b", "c"):
        nodes.add(uid)
    await nodes.start("a", "b", "c")
    await nodes.network.clusters["b"].command(command)
    for local in nodes.locals.values():
        assert local.applied == [command]


async def test_a_command_says_when_others_were_not_told(nodes: Nodes) -> None:
    cluster = nodes.add("a")
    nodes.network.away = True
    with pytest.raises(BrokerUnavailable):
        await cluster.command(COMMANDS[0])
    assert nodes.locals["a"].applied == [COMMANDS[0]]


# — the registry —


async def test_newcomers_are_greeted(nodes: Nodes) -> None:
    nodes.add("a", room=3)
    await nodes.start("a")
    nodes.add("b")
    nodes.network.clusters["b"].start()
    await until(lambda: nodes.known("b") == {"a", "b"})
    assert nodes.known("a") == {"a", "b"}
    [of_a] = [info for info in nodes.network.clusters["b"].nodes() if info.uid == "a"]
    assert of_a == NodeInfo("a", "node a", "1.0", num_clients=1)
    assert nodes.pauses.lengths == [module.HEARTBEAT] * 2  # nobody had to wait


async def test_the_node_itself_comes_first(nodes: Nodes) -> None:
    cluster = nodes.add("a")
    assert [info.uid for info in cluster.nodes()] == ["a"]
    nodes.add("b")
    await nodes.start("a", "b")
    assert [info.uid for info in cluster.nodes()] == ["a", "b"]


async def test_silent_nodes_are_forgotten(nodes: Nodes) -> None:
    for uid in ("a", "b"):
        nodes.add(uid)
    await nodes.start("a", "b")
    nodes.network.away = True
    await nodes.pauses.end(module.HEARTBEAT)
    await nodes.pauses.end(SILENCE - module.HEARTBEAT - 0.01)
    assert nodes.known("a") == {"a", "b"}
    assert all(nodes.network.clusters["a"].knows(each) for each in ("a", "b"))
    nodes.clock.now += 0.02
    assert nodes.known("a") == {"a"}
    assert [nodes.network.clusters["a"].knows(each) for each in ("a", "b", "c")] == [True, False, False]
    nodes.network.away = False
    await nodes.pauses.end(module.HEARTBEAT)
    assert nodes.known("a") == nodes.known("b") == {"a", "b"}


async def test_heartbeats_keep_a_node_known(nodes: Nodes) -> None:
    for uid in ("a", "b"):
        nodes.add(uid)
    await nodes.start("a", "b")
    for _ in range(10):
        await nodes.pauses.end(module.HEARTBEAT)
        assert nodes.known("a") == {"a", "b"}


async def test_one_who_says_goodbye_is_forgotten_at_once(nodes: Nodes) -> None:
    for uid in ("a", "b"):
        nodes.add(uid)
    await nodes.start("a", "b")
    await nodes.network.clusters.pop("b").stop()
    assert nodes.known("a") == {"a"}


async def test_silent_nodes_are_remembered_a_while(nodes: Nodes) -> None:
    """For it may be this one that is deaf; but not those who have left."""
    for uid in ("c", "b", "a"):
        nodes.add(uid)
    await nodes.start("a", "b", "c")
    cluster = nodes.network.clusters["b"]
    assert cluster.company() == ["a", "b", "c"]
    await nodes.network.clusters.pop("c").stop()
    nodes.network.away = True
    assert cluster.silence() == 0.0
    nodes.clock.now += module.REMEMBERED - 0.01
    assert nodes.known("b") == {"b"}
    assert cluster.company() == ["a", "b"]
    assert cluster.silence() == pytest.approx(module.REMEMBERED - 0.01)
    nodes.clock.now += 0.02
    assert cluster.company() == ["b"]
    assert nodes.known("b") == {"b"}


async def test_those_that_share_a_port_are_one_in_company(nodes: Nodes) -> None:
    for uid, group in (("c", "one"), ("a", "one"), ("b", "two"), ("old", "")):
        nodes.add_to(group, uid)
    await nodes.start("a", "b", "c", "old")
    for cluster in nodes.network.clusters.values():
        assert cluster.company() == ["old", "one", "two"]
    of_a = nodes.network.clusters["a"]
    assert [info.uid for info in of_a.siblings()] == ["c"]
    assert nodes.network.clusters["old"].siblings() == []
    nodes.network.away = True
    nodes.clock.now += module.SILENCE
    assert of_a.siblings() == []


async def test_one_who_comes_back_from_silence_is_greeted(nodes: Nodes) -> None:
    for uid in ("a", "b"):
        nodes.add(uid)
    await nodes.start("a", "b")
    nodes.clock.now += SILENCE + 0.01
    assert nodes.known("a") == {"a"}
    sent = len(nodes.network.sent)
    nodes.network.clusters["a"].receive(module.seal("b", nodes.locals["b"].describe()))
    await until(lambda: nodes.known("b") == {"a", "b"})
    assert [node for _, node in nodes.network.sent[sent:]] == ["b", "a"], "each tells the other at once"


async def test_stops_without_broker(nodes: Nodes) -> None:
    cluster = nodes.add("a")
    nodes.network.away = True
    await cluster.stop()


# — surveys —


async def test_a_survey_of_one_node_needs_nobody(nodes: Nodes) -> None:
    cluster = nodes.add("a", room=1)
    assert await cluster.survey("channels", "r*") == {"room": 1}
    assert nodes.locals["a"].questions == [("channels", "r*", "", MOST)]
    assert nodes.network.sent == []


async def test_a_survey_adds_up_what_all_answer(nodes: Nodes) -> None:
    nodes.add("a", room=1, lobby=2)
    nodes.add("b", room=10)
    nodes.add("c", attic=7)
    await nodes.start("a", "b", "c")
    expected = {"room": 11, "lobby": 2, "attic": 7}
    assert await nodes.network.clusters["a"].survey("channels") == expected
    both = [nodes.network.clusters[uid].survey("channels", "") for uid in ("a", "b")]
    assert await asyncio.gather(*both) == [expected] * 2
    assert nodes.locals["a"].counts == {"room": 1, "lobby": 2}


async def test_a_survey_does_without_those_who_are_silent(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "SURVEY_TIMEOUT", 0.05)
    nodes.add("a", room=1)
    nodes.add("b", room=10)
    nodes.add("c", room=100)
    await nodes.start("a", "b", "c")
    answers: list[bytes] = []

    def from_c(data: bytes) -> bool:
        is_answer = b"answer" in data and b"\xa1c" in data
        if is_answer:
            answers.append(data)
        return is_answer

    nodes.network.drops = from_c
    with caplog.at_level(logging.WARNING):
        found = await nodes.network.clusters["a"].survey("channels")
    assert (found, found.partial, found.missing) == ({"room": 11}, True, ["node c"])
    assert "no answer from node c" in caplog.text
    for answer in answers:
        nodes.network.clusters["a"].receive(answer)  # too late, and of no consequence
    assert answers


async def test_a_repeated_answer_counts_once(nodes: Nodes) -> None:
    nodes.add("a", room=1)
    nodes.add("b", room=10)
    nodes.add("c", room=100)
    await nodes.start("a", "b", "c")

    def repeat(data: bytes) -> bool:
        if b"answer" in data:
            nodes.network.clusters["a"].receive(data)
        return False

    nodes.network.drops = repeat
    found = await nodes.network.clusters["a"].survey("channels")
    assert (found, found.partial, found.cursor) == ({"room": 111}, False, "")


async def test_a_survey_does_not_wait_for_one_who_says_goodbye(nodes: Nodes) -> None:
    for uid in ("a", "b", "c"):
        nodes.add(uid, room=1)
    await nodes.start("a", "b", "c")
    nodes.network.drops = lambda data: b"answer" in data and b"\xa1b" in data
    survey = asyncio.create_task(nodes.network.clusters["a"].survey("channels"))
    await until(lambda: nodes.locals["b"].questions and nodes.locals["c"].questions)
    await nodes.network.clusters.pop("b").stop()
    found = await survey
    assert (found, found.partial) == ({"room": 2}, False)


async def test_a_survey_asks_each_node_alone_and_few_at_a_time(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ASKED_AT_ONCE", 2)
    for uid in ("a", "b", "c", "d", "e"):
        nodes.add(uid, room=1)
    await nodes.start("a", "b", "c", "d", "e")
    nodes.network.sent.clear()
    held: list[bytes] = []

    def hold_back(data: bytes) -> bool:
        is_answer = b"answer" in data
        if is_answer:
            held.append(data)
        return is_answer

    nodes.network.drops = hold_back
    survey = asyncio.create_task(nodes.network.clusters["a"].survey("channels"))
    answered: list[bytes] = []
    for count in (2, 4):
        await until(partial(_are, held, count))
        await settle()
        assert len(held) == count
        for data in held[len(answered) :]:
            answered.append(data)
            nodes.network.clusters["a"].receive(data)
    assert await survey == {"room": 5}
    assert sorted(node for _, node in nodes.network.sent) == ["a"] * 4 + ["b", "c", "d", "e"]


def _are(held: list[bytes], count: int) -> bool:
    return len(held) == count


async def test_many_names_come_in_small_messages(nodes: Nodes) -> None:
    counts = {f"notifications:customer-{number:08}": 1 for number in range(2 * PAGE_NAMES)}
    for uid in ("a", "b", "c"):
        nodes.add(uid, **counts)
    await nodes.start("a", "b", "c")
    found = await nodes.network.clusters["a"].survey("channels")
    assert list(found) == sorted(counts)
    assert set(found.values()) == {3}
    assert max(len(data) for data, _ in nodes.network.sent) <= 65_536


async def test_a_survey_in_pages(nodes: Nodes) -> None:
    nodes.add("a", **{f"room{number:02}": 1 for number in range(0, 20, 2)})
    nodes.add("b", **{f"room{number:02}": 1 for number in range(0, 20, 3)})
    await nodes.start("a", "b")
    whole = await nodes.network.clusters["a"].survey("channels")
    pages, cursor = [], ""
    for _ in range(10):
        page = await nodes.network.clusters["b"].survey("channels", "", cursor, 3)
        pages.append(page)
        cursor = page.cursor
        if not cursor:
            break
    assert [len(page) for page in pages] == [3, 3, 3, 3, 1]
    assert {name: count for page in pages for name, count in page.items()} == whole
    assert whole["room06"] == 2


async def test_a_survey_fails_without_broker(nodes: Nodes) -> None:
    for uid in ("a", "b"):
        nodes.add(uid)
    await nodes.start("a", "b")
    nodes.network.away = True
    with pytest.raises(BrokerUnavailable):
        await nodes.network.clusters["a"].survey("channels")
    assert not nodes.network.clusters["a"]._asked


# — what others send —


def test_what_cannot_be_understood_is_ignored() -> None:
    local = Local("a")
    cluster = Cluster("a", Network(), local)
    encode = msgspec.msgpack.encode
    for data in (
        b"",
        b"\xc1",
        b"not msgpack at all",
        encode(7),
        encode([1, "b"]),
        encode([1, "b", {"type": "dance", "uid": "b"}]),
        encode([1, "b", {"type": "disconnect", "user": "ann"}]),
        encode([1, "b", {"type": "disconnect", "user": 7, "code": 3503, "reason": ""}]),
        encode([1, "b", {"type": "refresh", "user": "ann", "info": "text"}]),
        encode([1, "b", {"type": "answer", "id": "unknown", "uid": "b", "counts": {}}]),
    ):
        cluster.receive(data)
    assert local.applied == []


@pytest.mark.parametrize(("version", "applied"), [(1, 1), (2, 0)])
def test_messages_of_another_version_are_ignored(version: int, applied: int) -> None:
    local = Local("a")
    body = {"type": "disconnect", "user": "ann", "code": 3503, "reason": "", "new field": True}
    Cluster("a", Network(), local).receive(msgspec.msgpack.encode([version, "b", body]))
    assert len(local.applied) == applied


# — other questions —


async def test_every_node_is_asked_and_those_that_know_no_answer_are_named(nodes: Nodes) -> None:
    for uid in ("a", "b", "c"):
        nodes.add(uid)
    await nodes.start("a", "b", "c")
    nodes.locals["a"].told["load"] = b"light"
    nodes.locals["b"].told["load"] = b"heavy"
    answers, missing = await nodes.network.clusters["a"].ask("load", "now")
    assert answers == {"a": b"light", "b": b"heavy"}
    assert missing == ["node c"]
    assert ("load", "now", "", 0) in nodes.locals["b"].questions


async def test_one_node_is_asked_and_nobody_else(nodes: Nodes) -> None:
    for uid in ("a", "b", "c"):
        nodes.add(uid)
        nodes.locals[uid].told["load"] = uid.encode()
    await nodes.start("a", "b", "c")
    assert await nodes.network.clusters["a"].ask("load", only="b") == ({"b": b"b"}, [])
    assert not nodes.locals["a"].questions
    assert not nodes.locals["c"].questions


async def test_a_node_that_has_gone_is_missing_by_its_id(nodes: Nodes) -> None:
    nodes.add("a")
    await nodes.start("a")
    assert await nodes.network.clusters["a"].ask("load", only="z") == ({}, ["z"])


async def test_one_that_cannot_be_asked_is_missing(nodes: Nodes) -> None:
    for uid in ("a", "b"):
        nodes.add(uid)
        nodes.locals[uid].told["load"] = uid.encode()
    await nodes.start("a", "b")
    nodes.network.away = True
    assert await nodes.network.clusters["a"].ask("load") == ({"a": b"a"}, ["node b"])
