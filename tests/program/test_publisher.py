"""The synchronous publisher, heard by nodes: the same as if one of them had published."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from gateway.blocks.redis import RedisBlocks
from gateway.brokers.base import HistoryFilter, PublishOptions, StreamOptions
from gateway.brokers.publish_queue import NOT_PUBLISHED, PERHAPS_PUBLISHED
from gateway.brokers.redis import RedisBroker
from gateway.channels import Channels
from gateway.config.settings import (
    ChannelOptions,
    ChannelSettings,
    ClientSettings,
    EngineSettings,
    Namespace,
    PersonalChannelSettings,
    RedisSettings,
    Settings,
)
from gateway.core.cluster import Cluster, ControlCommand, DisconnectUser, NodeInfo
from gateway.core.survey import Page, Question
from gateway.errors import BrokerUnavailable, Error, ErrorCode, SettingsError
from gateway.messages import Payload, Position, Publication, Receipt
from gateway.program.publisher import CALLS_PER_WRITE, Publisher
from tests.blocks.recorder import Recorder as BlockRecorder
from tests.brokers.recorder import Recorder
from tests.redis_fixtures import started_shard
from tests.redis_server import RedisServer
from tests.waiting import until, until_blocking

KEPT = StreamOptions(history_size=1000, history_ttl=60.0)
ALL = HistoryFilter(limit=-1)


def settings_for(server: RedisServer, *, personal: PersonalChannelSettings | None = None) -> Settings:
    kept = Namespace(name="kept", history_size=1000, history_ttl=60.0)
    objects = Namespace(name="objects", publication_data_format="json_object")
    return Settings(
        engine=EngineSettings(type="redis", redis=RedisSettings(address=server.url, io_timeout=0.3)),
        channel=ChannelSettings(namespaces=(kept, objects)),
        client=ClientSettings(subscribe_to_user_personal_channel=personal or PersonalChannelSettings()),
    )


@pytest.fixture
def publisher(server: RedisServer) -> Iterator[Publisher]:
    with Publisher(settings_for(server), clock=lambda: 12.5) as publisher:
        yield publisher


@asynccontextmanager
async def node(server: RedisServer, *channels: str) -> AsyncIterator[tuple[RedisBroker, Recorder]]:
    recorder = Recorder()
    async with started_shard(server.url) as shard:
        broker = RedisBroker(shard)
        await broker.start("n1", recorder)
        for channel in channels:
            await broker.subscribe(channel)
        yield broker, recorder
        await broker.close()


class Say(BaseModel):
    text: str


async def test_a_node_hears_what_was_published_with_its_offset(server: RedisServer, publisher: Publisher) -> None:
    async with node(server, "kept:a") as (broker, heard):
        first = publisher.publish("kept:a", Say(text="hi"), tags={"k": "v"})
        second = await broker.publish("kept:a", Publication(Payload(b"2")), KEPT, PublishOptions())
        third = publisher.publish("kept:a", 3)
        assert first.epoch
        assert [first, second, third] == [Receipt(offset, first.epoch, nodes=1) for offset in (1, 2, 3)]
        await until(lambda: len(heard.publications) == 3)
        assert heard.publications[0] == (
            "kept:a",
            Publication(Payload(b'{"text":"hi"}'), offset=1, tags={"k": "v"}, time=12500, epoch=first.epoch),
        )
        assert [(each.data, each.offset) for _, each in heard.publications[1:]] == [(b"2", 2), (b"3", 3)]
        stored, top = await broker.history("kept:a", ALL, KEPT)
        assert [each.data for each in stored] == [b'{"text":"hi"}', b"2", b"3"]
        assert top == Position(third.offset, third.epoch)
        publisher.publish("kept:a", 4, version=7, delta=True)
        assert publisher.publish("kept:a", 5, version=7).offset == 4
        await until(lambda: len(heard.publications) == 4)
        assert [(each.version, each.patchable) for _, each in heard.publications[2:]] == [(0, False), (7, True)]


async def test_without_history(server: RedisServer, publisher: Publisher) -> None:
    async with node(server, "plain", "kept:a") as (broker, heard):
        assert publisher.publish("plain", "hi") == Receipt(nodes=1)
        assert publisher.publish("plain", b"\x00\xff") == Receipt(nodes=1)
        assert publisher.publish("kept:a", 1, skip_history=True) == Receipt(nodes=1)
        await until(lambda: len(heard.publications) == 3)
        assert [each for _, each in heard.publications] == [
            Publication(Payload(b'"hi"'), time=12500),
            Publication(Payload(b"\x00\xff"), binary=True, time=12500),
            Publication(Payload(b"1"), time=12500),
        ]
        assert await broker.history("kept:a", HistoryFilter(), KEPT) == ([], Position(0, heard_epoch(server, "kept:a")))


def heard_epoch(server: RedisServer, channel: str) -> str:
    with server.client() as client:
        [key] = client.keys(f"gateway:*:m:{channel}")
        epoch: Any = client.hget(key, "e")
    return str(epoch.decode())


@pytest.mark.parametrize("channel", ["kept:a", "plain"])
async def test_idempotency_is_one_with_the_nodes(server: RedisServer, publisher: Publisher, channel: str) -> None:
    stream = KEPT if channel == "kept:a" else StreamOptions()
    async with node(server, channel) as (broker, heard):
        once = publisher.publish(channel, 1, idempotency_key="k")
        assert publisher.publish(channel, 2, idempotency_key="k") == once
        options = PublishOptions(idempotency_key="k")
        assert await broker.publish(channel, Publication(Payload(b"3")), stream, options) == once
        publisher.publish(channel, 4, idempotency_key="other")
        await until(lambda: len(heard.publications) == 2)
        assert heard.texts == ["1", "4"]


async def test_broadcast(server: RedisServer, publisher: Publisher) -> None:
    many = [f"kept:{number}" for number in range(CALLS_PER_WRITE + 2)]
    async with node(server, "plain", *many) as (_, heard):
        positions = publisher.broadcast(["plain", *many], {"a": 1}, tags={"k": "v"}, idempotency_key="k")
        assert [position.offset for position in positions] == [0] + [1] * len(many)
        assert publisher.broadcast(many, {"a": 2}, idempotency_key="k") == positions[1:]
        publisher.publish("plain", "end")
        await until(lambda: heard.texts[-1:] == ['"end"'])
        assert [name for name, _ in heard.publications] == ["plain", *many, "plain"]
        assert {each.data for _, each in heard.publications[:-1]} == {Payload(b'{"a":1}')}
    assert publisher.broadcast([], 1) == []


async def test_a_wrong_name_publishes_nothing(server: RedisServer, publisher: Publisher) -> None:
    with pytest.raises(Error) as caught:
        publisher.broadcast(["kept:a", "unknown:b"], 1)
    assert caught.value.code == ErrorCode.UNKNOWN_CHANNEL
    assert publisher.publish("kept:a", 1).offset == 1


@pytest.mark.parametrize(
    ("channel", "data", "problem"),
    [
        ("", 1, Error),
        ("objects:a", [1], Error),
        ("objects:a", b"\xff", Error),
        ("plain", b"", Error),
        ("plain", object(), TypeError),
    ],
)
def test_refused_before_redis_is_asked(
    publisher: Publisher, channel: str, data: object, problem: type[Exception]
) -> None:
    with pytest.raises(problem):
        publisher.publish(channel, data)


async def test_personal_channels(server: RedisServer) -> None:
    personal = PersonalChannelSettings(enabled=True, personal_channel_namespace="kept")
    async with node(server, "kept:#7") as (_, heard):
        with Publisher(settings_for(server, personal=personal)) as publisher:
            assert publisher.publish_to_user("7", 1, tags={"k": "v"}, idempotency_key="k").offset == 1
            assert publisher.publish_to_user("7", 2, idempotency_key="k").offset == 1
            assert publisher.publish_to_user(7, 3, skip_history=True).offset == 0
            with pytest.raises(ValueError, match=r"publish_to_user\('7'"):
                publisher.publish_to_user("", 1)
        await until(lambda: len(heard.publications) == 2)
        assert heard.publications[0][1].tags == {"k": "v"}


def test_personal_channels_must_be_on(publisher: Publisher) -> None:
    setting = "GATEWAY_CLIENT__SUBSCRIBE_TO_USER_PERSONAL_CHANNEL__ENABLED=true"
    with pytest.raises(SettingsError, match=setting) as caught:
        publisher.publish_to_user("7", 1)
    assert str(caught.value).startswith("client.subscribe_to_user_personal_channel.enabled = false")


async def test_blocks(server: RedisServer, publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    async with started_shard(server.url) as shard:
        blocks, told = RedisBlocks(shard), BlockRecorder()
        await blocks.start(told)
        publisher.block("ann", for_=timedelta(hours=1))
        publisher.block(7)
        await until(lambda: told.shown == {"ann": 1, "7": "ever"})
        publisher.unblock(7)
        await until(lambda: told.shown == {"ann": 1})
        monkeypatch.setattr("gateway.blocks.redis.MOST", 1)
        with pytest.raises(Error, match="106 limit exceeded"):
            publisher.block("bob")
        with pytest.raises(ValueError, match="an empty user"):
            publisher.block("")
        await blocks.close()


class Applied:
    """The local side of a cluster, which writes down what it is told."""

    def __init__(self) -> None:
        self.commands: list[ControlCommand] = []

    def describe(self) -> NodeInfo:
        return NodeInfo("n1", "n1", "1")

    def apply(self, command: ControlCommand) -> None:
        self.commands.append(command)

    async def answer(self, question: Question) -> Page:
        raise AssertionError(f"nobody asked {question}")


async def test_disconnects_users(server: RedisServer, publisher: Publisher) -> None:
    async with node(server) as (broker, heard):
        publisher.disconnect(7)
        publisher.disconnect("7", client="c1", code=4001, reason="signed out", keep=["c2"])
        await until(lambda: len(heard.controls) == 2)
        applied = Applied()
        cluster = Cluster("n1", broker, applied)
        for message in heard.controls:
            cluster.receive(message)
        assert applied.commands == [
            DisconnectUser(user="7", code=3503, reason="force disconnect"),
            DisconnectUser(user="7", client="c1", code=4001, reason="signed out", whitelist=["c2"]),
        ]


def test_disconnects_that_cannot_be(publisher: Publisher) -> None:
    with pytest.raises(ValueError, match="for example 4001"):
        publisher.disconnect("7", code=5000)
    with pytest.raises(ValueError, match="123 bytes"):
        publisher.disconnect("7", code=4001, reason="é" * 62)
    with pytest.raises(ValueError, match="all anonymous clients"):
        publisher.disconnect("")


def test_memory_is_refused() -> None:
    with pytest.raises(SettingsError, match="a publisher of another process needs Redis") as caught:
        Publisher(Settings())
    assert 'engine.type = "redis"' in str(caught.value)


def test_wrong_address_is_refused() -> None:
    redis = RedisSettings(address="http://127.0.0.1")
    with pytest.raises(SettingsError, match=r"engine\.redis\.address"):
        Publisher(Settings(engine=EngineSettings(type="redis", redis=redis)))


def test_unix_socket_and_database(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with RedisServer("--unixsocket", str(path)) as own:
        redis = RedisSettings(address=f"unix://{path}?db=2")
        with Publisher(Settings(engine=EngineSettings(type="redis", redis=redis))) as publisher:
            publisher.publish("news", 1, idempotency_key="k")
        with own.client() as client:
            assert client.dbsize() == 0
            client.select(2)
            assert client.dbsize() == 1


async def test_settings_from_the_environment(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_REDIS_URL", f"127.0.0.1:{server.port}")
    monkeypatch.setenv("GATEWAY_CHANNEL__WITHOUT_NAMESPACE__HISTORY_SIZE", "10")
    monkeypatch.setenv("GATEWAY_CHANNEL__WITHOUT_NAMESPACE__HISTORY_TTL", "60s")
    with Publisher() as publisher:
        assert publisher.publish("news", 1).offset == 1


def test_channels_of_the_program(server: RedisServer) -> None:
    channels = Channels(ChannelSettings(without_namespace=ChannelOptions(history_size=1, history_ttl=60.0)))
    with Publisher(settings_for(server), channels=channels) as publisher:
        assert [publisher.publish("news", number).offset for number in range(3)] == [1, 2, 3]


def test_outage(server: RedisServer) -> None:
    with RedisServer() as own, Publisher(settings_for(own)) as publisher:
        publisher.publish("kept:a", 1)
        own.kill()
        assert fails_within(4.0, lambda: publisher.publish("kept:a", 2))
        assert fails_within(4.0, lambda: publisher.disconnect("7"))
        own.start()
        assert publisher.publish("kept:a", 3).offset == 1
        own.pause()
        assert fails_within(4.0, lambda: publisher.publish("kept:a", 4), stored="maybe")
        assert fails_within(4.0, lambda: publisher.broadcast(["plain", "kept:a"], 5))  # no connection comes about
        own.resume()
        assert publisher.publish("kept:b", 6).offset == 1


def fails_within(seconds: float, call: Callable[[], object], *, stored: str = "no") -> bool:
    started = time.monotonic()
    with pytest.raises(BrokerUnavailable) as caught:
        call()
    assert caught.value.__cause__ is not None
    assert caught.value.stored == stored
    told = {"no": NOT_PUBLISHED, "maybe": PERHAPS_PUBLISHED}
    assert caught.value.message in (told[stored], "broker unavailable, try again")
    return time.monotonic() - started < seconds


def test_refusal_by_a_replica_opens_a_new_connection(server: RedisServer) -> None:
    with RedisServer() as own, Publisher(settings_for(own)) as publisher:
        publisher.publish("kept:a", 1)
        with own.client() as client:
            client.replicaof("127.0.0.1", str(server.port))
            before = publishers(client)
            with pytest.raises(BrokerUnavailable) as caught:
                publisher.broadcast(["plain", "kept:a"], 2)
            assert "read only replica" in str(caught.value.__cause__)
            assert caught.value.stored == "maybe", "a replica refuses no plain PUBLISH"
            with pytest.raises(BrokerUnavailable, match="not published") as caught:
                publisher.publish("kept:a", 2)
            assert caught.value.stored == "no"
            client.replicaof("NO", "ONE")
            publisher.publish("kept:b", 3)
            until_blocking(lambda: not before & publishers(client))
            assert len(publishers(client)) == 1


def publishers(client: Any) -> set[str]:
    """Ids of the connections of publishers."""
    return {each["id"] for each in client.client_list() if each["name"] == "gateway-publisher"}


def test_scripts_are_taught_once(publisher: Publisher, server: RedisServer) -> None:
    with server.client() as client:
        client.config_resetstat()
        for _ in range(3):
            publisher.broadcast([f"kept:{number}" for number in range(5)], 1)
            publisher.publish("plain", 1, idempotency_key="k")
        calls: Any = client.info("commandstats")
        assert calls["cmdstat_script|load"]["calls"] == 2
        assert calls["cmdstat_evalsha"]["calls"] == 3 * 6 + 6
        client.script_flush()
        assert publisher.publish("kept:0", 1).offset == 4


def test_close_closes_and_a_later_call_opens_again(server: RedisServer) -> None:
    publisher = Publisher(settings_for(server))
    with server.client() as client:
        until_blocking(lambda: not publishers(client))
        publisher.publish("kept:a", 1)
        assert len(publishers(client)) == 1
        publisher.close()
        until_blocking(lambda: not publishers(client))
        assert publisher.publish("kept:a", 2).offset == 2
        publisher.close()
        publisher.close()
        until_blocking(lambda: not publishers(client))


async def test_threads_share_a_publisher(server: RedisServer, publisher: Publisher) -> None:
    async with node(server, "kept:a") as (_, heard):

        def say(number: int) -> int:
            return publisher.publish("kept:a", number).offset

        with ThreadPoolExecutor(8) as pool:
            loop = asyncio.get_running_loop()
            offsets = await asyncio.gather(*(loop.run_in_executor(pool, say, number) for number in range(400)))
        assert sorted(offsets) == list(range(1, 401))
        await until(lambda: len(heard.publications) == 400)
        assert [each.offset for _, each in heard.publications] == list(range(1, 401))
        by_offset = {each.offset: each.data for _, each in heard.publications}
        assert [by_offset[offset] for offset in offsets] == [str(number).encode() for number in range(400)]


FORKING = """
import os, sys
from gateway.program.publisher import Publisher

publisher = Publisher()
publisher.publish("news", "before")
child = os.fork()
name = "parent" if child else "child"
for number in range(100):
    position = publisher.publish("news", [name, number], idempotency_key=f"{name}{number}")
    assert position == publisher.publish("news", 0, idempotency_key=f"{name}{number}"), "another's answer"
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


async def test_both_sides_of_a_fork(server: RedisServer) -> None:
    environment = {
        "GATEWAY_REDIS_URL": server.url,
        "GATEWAY_CHANNEL__WITHOUT_NAMESPACE__HISTORY_SIZE": "1000",
        "GATEWAY_CHANNEL__WITHOUT_NAMESPACE__HISTORY_TTL": "60s",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = [sys.executable, "-W", "ignore", "-c", FORKING]
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, timeout=60, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    async with node(server) as (broker, _):
        stored, top = await broker.history("news", ALL, KEPT)
    assert top.offset == 201
    expected = {f'["{name}",{number}]'.encode() for name in ("parent", "child") for number in range(100)}
    assert {bytes(each.data) for each in stored} == {b'"before"', *expected}


async def test_publishes_with_a_commit(server: RedisServer, publisher: Publisher, tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/orders.db")
    async with node(server, "kept:a") as (_, heard):
        with Session(engine) as session:
            outbox = publisher.on_commit(session)
            outbox.publish("kept:a", {"state": "paid"}, tags={"k": "v"}, idempotency_key="k")
            outbox.publish("kept:a", "again", idempotency_key="k")
            outbox.publish("kept:a", b"\xff", skip_history=True)
            with pytest.raises(Error):
                outbox.publish("unknown:a", 1)
            session.commit()
            outbox.publish("kept:a", "dropped")
            session.rollback()
        publisher.publish("kept:a", "end")
        await until(lambda: len(heard.publications) == 3)
        assert [(each.data, each.offset, each.binary) for _, each in heard.publications] == [
            (b'{"state":"paid"}', 1, False),
            (b"\xff", 0, True),
            (b'"end"', 2, False),
        ]
        assert heard.publications[0][1].tags == {"k": "v"}
    engine.dispose()
