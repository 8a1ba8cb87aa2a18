"""Presence of several nodes that ask each other, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.broadcast import peers as asking
from gateway.broadcast.peers import Peers
from gateway.errors import BrokerUnavailable, Error
from gateway.messages import ClientInfo, Payload
from gateway.presence import survey
from gateway.presence.survey import SurveyPresence
from tests.broadcast.lines import started_line
from tests.postgres_server import PostgresServer
from tests.waiting import until

Node = tuple[SurveyPresence, Peers]


@asynccontextmanager
async def node(url: str) -> AsyncIterator[Node]:
    async with started_line(url) as (_, peers):
        store = SurveyPresence(peers)
        await store.start("n", lambda _channel, _info: None)
        yield store, peers
        await store.close()


@pytest.fixture
async def nodes(postgres_server: PostgresServer) -> AsyncIterator[list[Node]]:
    """Three, who know of each other."""
    url = postgres_server.create_database("presence")
    async with node(url) as one, node(url) as two, node(url) as three:
        made = [one, two, three]
        await until(lambda: all(len(peers.others()) == 2 for _, peers in made))
        yield made


def member(number: int, user: str = "") -> ClientInfo:
    return ClientInfo(user or f"u{number}", f"c{number:04}", conn_info=Payload(b"x" * 500))


async def test_members_of_all_nodes(nodes: list[Node]) -> None:
    for number, (store, _) in enumerate(nodes):
        await store.add("news", member(number))
        await store.add("news", member(number + 10, "ann"))
    for store, _ in nodes:
        found = await store.members("news")
        assert list(found) == ["c0000", "c0001", "c0002", "c0010", "c0011", "c0012"]
        assert found.missing == 0
        assert await store.stats("news") == (6, 4)
    await nodes[0][0].remove("news", "c0000")
    assert len(await nodes[1][0].members("news")) == 5


async def test_many_members_come_in_pages_from_all(nodes: list[Node]) -> None:
    everybody = {member(number).client for number in range(700)}
    for number in range(700):
        await nodes[number % 7 % 3][0].add("news", member(number))
    assert set(await nodes[0][0].members("news")) == everybody
    found: set[str] = set()
    cursor, pages = "", 0
    while cursor or not pages:
        page, cursor = await nodes[1][0].page("news", 90, cursor)
        assert len(page) <= 90
        assert not found & page.keys()
        found |= page.keys()
        pages += 1
    assert (found, pages) == (everybody, 8)
    with pytest.raises(Error, match="limit exceeded"):
        await nodes[2][0].members("news", 699)
    assert len(await nodes[2][0].members("news", 700)) == 700


async def test_more_users_than_are_told_apart_count_apart(nodes: list[Node], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "MOST_USERS", 2)
    for number in range(3):
        await nodes[0][0].add("news", member(number, f"u{number}"))
    for number in range(2):
        await nodes[1][0].add("news", member(number + 10, f"u{number}"))
        await nodes[2][0].add("news", member(number + 20, f"u{number}"))
    assert await nodes[1][0].stats("news") == (7, 3 + 2)


async def test_who_does_not_answer_is_waited_for_once_and_told_of(
    nodes: list[Node], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(asking, "ANSWER_TIMEOUT", 0.2)
    monkeypatch.setattr(survey, "PAGE", 10)
    for number in range(30):
        await nodes[number % 2][0].add("news", member(number))
    await nodes[2][0].add("news", member(99))
    del nodes[2][1].asked[survey.MEMBERS]
    found = await nodes[0][0].members("news")
    assert (len(found), found.missing, found.copy().missing) == (30, 1, 1)
    assert caplog.text.count("no answer from 1 of 2 other nodes") == 1


async def test_who_leaves_is_not_waited_for(postgres_server: PostgresServer) -> None:
    url = postgres_server.create_database("leaving")
    async with node(url) as (one, ours):
        async with node(url) as (two, theirs):
            await until(lambda: ours.others() and theirs.others())
            await two.add("news", member(1))
            del theirs.asked[survey.MEMBERS]
            asked = asyncio.create_task(one.members("news"))
            await until(lambda: ours._questions)
        assert (await asked).missing == 0
        assert not ours.others()


async def test_who_is_silent_counts_as_gone(nodes: list[Node], monkeypatch: pytest.MonkeyPatch) -> None:
    store, peers = nodes[0]
    await nodes[1][0].add("news", member(1))
    assert len(await store.members("news")) == 1
    for _, gone in nodes[1:]:
        await gone.line.close()
    await until(lambda: not peers.others())
    found = await store.members("news")
    assert (len(found), found.missing) == (0, 0)


async def test_without_a_line_nobody_pretends_to_know_all() -> None:
    async with node("memory://") as (store, peers):
        await store.add("news", member(1))
        await peers.line.close()
        for asked in (store.members("news"), store.stats("news"), store.page("news", 10)):
            with pytest.raises(BrokerUnavailable):
                await asked
