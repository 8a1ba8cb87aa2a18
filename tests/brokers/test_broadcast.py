"""Nodes joined by a backend of `broadcaster`, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.brokers.base import PublishOptions, StreamOptions
from gateway.brokers.broadcast import BroadcastBroker
from gateway.errors import BrokerUnavailable
from gateway.messages import ClientInfo, Payload, Publication
from tests.broadcast.lines import started_line
from tests.brokers.recorder import Recorder
from tests.postgres_server import PostgresServer
from tests.waiting import until


@asynccontextmanager
async def node(url: str, name: str) -> AsyncIterator[tuple[BroadcastBroker, Recorder]]:
    recorder = Recorder()
    async with started_line(url) as (_, peers):
        broker = BroadcastBroker(peers)
        await broker.start(name, recorder)
        yield broker, recorder
        await broker.close()


async def say(broker: BroadcastBroker, text: str, channel: str = "news") -> None:
    await broker.publish(channel, Publication(Payload(text.encode())), StreamOptions(), PublishOptions())


@pytest.fixture
def url(postgres_server: PostgresServer) -> str:
    return postgres_server.create_database("nodes")


async def test_publications_joins_leaves_and_control_reach_the_other_node(url: str) -> None:
    ann = ClientInfo("ann", "c1")
    async with node(url, "n1") as (one, _), node(url, "n2") as (two, heard):
        await two.subscribe("news")
        await say(one, "a")
        await one.publish_join("news", ann)
        await one.publish_leave("news", ann)
        await one.publish_control(b"else", node="n1")
        await one.publish_control(b"you", node="n2")
        await one.publish_control(b"all")
        await until(lambda: len(heard.controls) == 2)
        assert heard.texts == ["a"]
        assert heard.joins == heard.leaves == [("news", ann)]
        assert heard.controls == [b"you", b"all"]


async def test_two_first_subscribers_at_a_time_both_hear(url: str) -> None:
    async with node(url, "n1") as (one, first), node(url, "n2") as (two, second):
        await asyncio.gather(one.subscribe("news"), two.subscribe("news"), one.subscribe("news"))
        await say(one, "a")
        await until(lambda: first.texts == second.texts == ["a"])


async def test_how_many_nodes_hear(url: str) -> None:
    async with node(url, "n1") as (one, _), node(url, "n2") as (two, heard):
        await one.publish_control(b"", node="n2")  # both know of each other
        await until(lambda: heard.controls)
        await until(lambda: one._peers.others() and two._peers.others())
        for broker in (one, two):
            await broker.subscribe("both")
        await two.subscribe("one")
        many = [f"room{number}" for number in range(2500)]
        assert await one.hearers(["both", *many, "one", "none"]) == [2, *([0] * 2500), 1, 0]
        await two.close()
        assert await one.hearers(["both", "one"]) == [1, 0]


async def test_subscriptions_outlive_the_server(postgres_server: PostgresServer) -> None:
    with PostgresServer() as own:
        async with node(own.url, "n1") as (one, heard), node(own.url, "n2") as (two, _):
            await one.subscribe("news")
            own.kill()
            await until(lambda: not (one.health().ok or two.health().ok))
            with pytest.raises(BrokerUnavailable):
                await one.subscribe("other")
            with pytest.raises(BrokerUnavailable):
                await say(two, "unheard")
            own.start()
            await until(lambda: one.health().ok and two.health().ok)
            assert (heard.gaps, one.health().reconnects) == (1, 1)
            await say(two, "unheard", "other")
            await say(two, "heard")
            await until(lambda: heard.texts == ["heard"])
