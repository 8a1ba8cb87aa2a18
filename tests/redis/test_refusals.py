"""What Redis lastingly refuses: said once with its remedy, shown, counted, and over when it is over."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from gateway.brokers.base import PublishOptions, StreamOptions
from gateway.brokers.redis import RedisBroker
from gateway.config.settings import ChannelOptions, ChannelSettings, EngineSettings, Namespace, RedisSettings, Settings
from gateway.errors import BrokerUnavailable
from gateway.messages import Payload, Publication
from gateway.program.publisher import Publisher
from gateway.redis import refusals as module
from gateway.redis.opening import open_shards
from gateway.redis.refusals import FORGOTTEN, LASTS, REMEDIES, SETTLED, Refusals
from gateway.redis.resp import CommandRefused
from gateway.redis.script import Script
from gateway.redis.shard import Shard
from tests.brokers.recorder import Recorder
from tests.redis_fixtures import refusal_of
from tests.redis_server import RedisServer
from tests.redis_topologies import ClusterTopology, Member, SentinelServer, SentinelTopology
from tests.waiting import until, until_blocking

KEPT = StreamOptions(history_size=5, history_ttl=60.0)
SECRET = "a-very-secret-word"


# — alone, under a clock of the test's own —


class Case:
    def __init__(self) -> None:
        self.now = 1000.0
        self.refusals = Refusals(lambda: "redis:6379", clock=lambda: self.now)

    def refuse(self, detail: str, command: str = "SET", *, optional: bool = False) -> None:
        self.refusals.refused(CommandRefused(detail), packed(command), optional=optional)

    def do(self, command: str = "SET") -> None:
        self.refusals.done(packed(command))

    @property
    def shown(self) -> str:
        return self.refusals.current.kind if self.refusals.current else ""


def packed(command: str) -> bytes:
    words = command.encode().split()
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


@pytest.fixture
def case() -> Case:
    return Case()


def test_one_line_when_it_begins_and_one_when_it_is_over(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(100):
        case.refuse("OOM command not allowed when used memory > 'maxmemory'.")
    assert case.shown == "OOM"
    case.do()
    assert case.shown == "OOM", "it may be a mixture"
    case.now += SETTLED
    case.do("GET")
    assert case.shown == "OOM", "that one was not refused"
    case.do()
    assert case.shown == ""
    begun, over = [record.getMessage() for record in caplog.records]
    assert (
        begun
        == f"Redis redis:6379 refuses: OOM command not allowed when used memory > 'maxmemory'. ({REMEDIES['OOM']})"
    )
    assert over == "Redis redis:6379 does not refuse it any more: OOM (3 s)"
    assert case.refusals.counts == {"OOM": 100}


def test_one_line_a_minute_while_it_lasts(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(180):
        case.now += 1
        case.refuse("OOM")
    lines = [record.getMessage() for record in caplog.records]
    assert [line.partition(" (give")[0] for line in lines] == ["Redis redis:6379 refuses: OOM"] * 3
    assert lines[2].endswith(" (60 times in 60 s)")


def test_what_is_refused_and_done_by_turns_is_no_flood(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(20):
        case.refuse("READONLY")
        case.now += SETTLED
        case.do()
    assert len(caplog.records) == 2


def test_a_failover_is_no_lasting_refusal(case: Case) -> None:
    case.refuse("READONLY You can't write against a read only replica.")
    assert case.shown == ""
    case.now += LASTS
    assert case.shown == "", "nobody has tried since"
    case.refuse("READONLY You can't write against a read only replica.")
    assert case.shown == "READONLY"


def test_what_nobody_asks_for_again_is_forgotten(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    case.refuse("OOM")
    case.now += FORGOTTEN
    assert case.shown == ""
    assert "does not refuse it any more: OOM" in caplog.text


def test_kinds_are_bounded_and_secrets_are_not_said(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(1000):
        case.refuse(f"X{number} whatever")
        case.refuse(f"NOPERM this user has no permissions to run the 'c{number}' command", f"C{number}")
    case.refuse(f"ERR unknown command 'AUTH', with args beginning with: '{SECRET}'", f"AUTH {SECRET}")
    assert case.refusals.counts == {"other": 1001, "NOPERM": 1000}
    assert len(caplog.records) == 2 * module.MOST
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("detail", "command", "lacks"),
    [
        ("NOPERM this user has no permissions to run the 'client|kill' command", "CLIENT", "+client|kill"),
        ("NOPERM User gw has no permissions to run the 'evalsha' command", "EVALSHA 0123", "+evalsha"),
        ("NOPERM this user has no permissions to access one of the keys used as arguments", "GET k", "~gateway:*"),
        ("NOPERM No permissions to access a key", "GET k", "~gateway:*"),
        ("NOPERM ACL failure in script: User gw has no permissions to run the 'hget' command", "EVAL 1", "+hget"),
        (
            "NOPERM this user has no permissions to access one of the channels used as arguments",
            "PUBLISH",
            "&gateway:*",
        ),
        (
            "ERR The user executing the script can't publish to the channel mentioned in the command",
            "GET",
            "&gateway:*",
        ),
    ],
)
def test_the_right_that_is_missing_is_named_as_the_acl_names_it(
    case: Case, detail: str, command: str, lacks: str
) -> None:
    case.refuse(detail, command)
    assert (case.shown, case.refusals.lacks) == ("NOPERM", lacks)


def test_a_redirection_is_a_refusal_where_nobody_follows_it(case: Case) -> None:
    cluster = Refusals(lambda: "redis:6379", expected=("MOVED", "ASK", "TRYAGAIN"))
    for refusals in (case.refusals, cluster):
        refusals.refused(CommandRefused("MOVED 7 127.0.0.1:7001"), packed("GET k"))
    assert (len(case.refusals.present), len(cluster.present)) == (1, 0)


# — by real servers —


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LASTS", 0.0)
    monkeypatch.setattr(module, "SETTLED", 0.0)


@asynccontextmanager
async def joined(address: str, **options: Any) -> AsyncIterator[tuple[Shard, RedisBroker, Recorder]]:
    [shard] = open_shards(RedisSettings(address=address, **options))
    await shard.start()
    broker, heard = RedisBroker(shard), Recorder()
    await broker.start("n1", heard)
    try:
        yield shard, broker, heard
    finally:
        await broker.close()
        await shard.close()


async def publish(broker: RedisBroker, key: str = "", stream: StreamOptions = KEPT) -> str:
    """What is said of whether it was stored; ``yes`` if it was."""
    try:
        publication = Publication(Payload(key.encode() or b"x"))
        await broker.publish("c", publication, stream, PublishOptions(idempotency_key=key))
    except BrokerUnavailable as error:
        return error.stored
    return "yes"


def command(client: Redis, *words: str) -> None:
    client.execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py leaves it so


def _fill(client: Redis, server: RedisServer) -> None:
    client.config_set("maxmemory", "1")


def _have_no_replica(client: Redis, server: RedisServer) -> None:
    client.config_set("min-replicas-to-write", "1")


def _follow(client: Redis, server: RedisServer) -> None:
    command(client, "REPLICAOF", "127.0.0.1", "1")


def _lose_the_disk(client: Redis, server: RedisServer) -> None:
    client.config_set("save", "3600 1")
    (server.directory / "dump.rdb").mkdir()
    with suppress(Exception):
        client.bgsave()
    until_blocking(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")


def _mend(client: Redis, server: RedisServer) -> None:
    client.config_set("maxmemory", "0")
    client.config_set("min-replicas-to-write", "0")
    command(client, "REPLICAOF", "NO", "ONE")
    client.config_set("save", "")
    if (file := server.directory / "dump.rdb").is_dir():
        file.rmdir()
    client.save()


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [("OOM", _fill), ("NOREPLICAS", _have_no_replica), ("READONLY", _follow), ("MISCONF", _lose_the_disk)],
)
async def test_a_server_that_takes_no_writes(
    kind: str, spoil: Callable[[Redis, RedisServer], None], impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisServer() as server, server.client() as client:
        async with joined(server.url) as (shard, broker, heard):
            await broker.subscribe("c")
            assert await publish(broker) == "yes"
            await until(lambda: len(heard.publications) == 1)
            spoil(client, server)
            with caplog.at_level(logging.INFO):
                caplog.clear()
                told: set[str] = set()
                for attempt in range(5):
                    told.add(await publish(broker, key=f"k{attempt}"))
                    told.add(await publish(broker, key=f"n{attempt}", stream=StreamOptions()))
                    await until(lambda: shard.connected)
                assert told == {"no"}
                assert await asyncio.to_thread(publish_elsewhere, server.url) == {"no"}
                [health] = shard.health()
                assert (health.refusal, health.remedy, health.server) == (
                    kind,
                    REMEDIES[kind],
                    f"127.0.0.1:{server.port}",
                )
                assert health.problem.startswith(kind) or f"-{kind}" in health.problem
                assert not broker.health().ok
                _mend(client, server)
                await until(lambda: publish(broker, key="k0"), what="it takes writes again")
                await until(lambda: says_yes(broker))
                await until(lambda: broker.health().ok)
            assert shard.refused[kind] >= 5
            assert not {f"n{attempt}" for attempt in range(5)} & set(heard.texts), "none was heard"
        messages = [record.getMessage() for record in caplog.records if "redis" in record.name]
        assert len([text for text in messages if " refuses: " in text]) == 1, messages
        assert len([text for text in messages if "not refuse it any more" in text]) == 1, messages
        assert len(messages) <= 4, messages


def publish_elsewhere(url: str) -> set[str]:
    """What a publisher without event loop is told, with and without history."""
    channel = ChannelSettings(
        without_namespace=ChannelOptions(history_size=5, history_ttl=60.0), namespaces=(Namespace(name="plain"),)
    )
    redis = RedisSettings(address=url)
    told: set[str] = set()
    with Publisher(Settings(engine=EngineSettings(type="redis", redis=redis), channel=channel)) as publisher:
        for name in ("c", "plain:c"):
            with pytest.raises(BrokerUnavailable) as error:
                publisher.publish(name, "x", idempotency_key="elsewhere")
            told.add(error.value.stored)
    return told


async def says_yes(broker: RedisBroker) -> bool:
    return await publish(broker) == "yes"


@pytest.mark.parametrize(("kind", "login"), [("NOAUTH", ""), ("WRONGPASS", f":{SECRET}@")])
async def test_a_server_that_lets_nobody_in(kind: str, login: str, caplog: pytest.LogCaptureFixture) -> None:
    with Member(password="right") as server:
        async with joined(f"redis://{login}127.0.0.1:{server.port}") as (shard, broker, _):
            await until(lambda: shard.refused[kind] >= 6, what="it is tried again and again")
            [health] = shard.health()
            assert (health.connected, health.refusal, health.remedy) == (False, kind, REMEDIES[kind])
            assert await publish(broker) == "no"
            with server.client() as client:
                client.config_set("requirepass", SECRET if login else "")
            await until(lambda: broker.health().ok)
    messages = [record.getMessage() for record in caplog.records if "redis" in record.name]
    assert [" refuses: " in text for text in messages] == [True, False], messages
    assert SECRET not in caplog.text


async def test_a_sentinel_that_lets_nobody_in(caplog: pytest.LogCaptureFixture) -> None:
    with SentinelTopology(replicas=0, sentinels=1, sentinel_password=SECRET) as group:
        name = group.sentinels[0].address
        async with joined(f"redis+sentinel://{name}?sentinel_master_name={group.master_name}") as (shard, _, _):
            [health] = shard.health()
            assert (health.connected, health.refusal, health.server) == (False, "NOAUTH", group.master_name)
            assert health.problem == f"sentinel {name}: NOAUTH Authentication required."
            assert health.remedy == REMEDIES["NOAUTH"]
            await until(lambda: shard.refused["NOAUTH"] >= 6)
    assert caplog.text.count(" refuses: ") == 1
    assert SECRET not in caplog.text


async def test_a_cluster_taken_for_a_single_server_that_does_not_say_so(impatient: None) -> None:
    """Where its user may not ask what kind of server it is, the redirections tell."""
    with ClusterTopology(replicas=0) as topology:
        for server in topology.servers:
            server.command("ACL", "SETUSER", "gw", "on", ">pw", "~*", "&*", "+@all", "-info")
        async with joined(f"redis://gw:pw@127.0.0.1:{topology.servers[0].port}") as (shard, broker, _):
            for number in range(10):
                with suppress(BrokerUnavailable):
                    await broker.publish(f"c{number}", Publication(Payload(b"x")), KEPT, PublishOptions())
            [health] = shard.health()
            assert (health.refusal, health.remedy) == ("MOVED", REMEDIES["MOVED"])


async def test_a_prefix_that_a_cluster_does_not_take(impatient: None, shared_cluster: ClusterTopology) -> None:
    async with joined(shared_cluster.url) as (shard, _, _):
        script = Script()
        script.text = b"return redis.call('GET', KEYS[1])"
        with pytest.raises(CommandRefused) as refused:
            await shard.run(script, ["{a}", "{b}"], [])
        assert (refused.value.redis_code, refused.value.stored) == ("CROSSSLOT", "no")
        assert refusal_of(shard) == "CROSSSLOT"


async def test_a_cluster_without_all_its_slots(impatient: None) -> None:
    with ClusterTopology(replicas=0, node_timeout=1.0) as topology:
        async with joined(topology.url) as (shard, broker, _):
            lost = topology.primaries()[0]
            lost.kill()
            alive = [server for server in topology.servers if server.alive]
            until_blocking(lambda: b"cluster_state:fail" in alive[0].command("CLUSTER", "INFO"))

            async def shown() -> bool:
                for number in range(10):
                    with suppress(BrokerUnavailable):
                        await broker.publish(f"c{number}", Publication(Payload(b"x")), KEPT, PublishOptions())
                return "CLUSTERDOWN" in {server.refusal for server in shard.health()}

            await until(shown, 30)
            assert not broker.health().ok


async def test_a_server_of_another_kind_that_comes_later(caplog: pytest.LogCaptureFixture) -> None:
    sentinel = SentinelServer([])
    async with joined(f"redis://{sentinel.address}") as (shard, _, _):
        [health] = shard.health()
        assert "Connect call failed" in health.problem
        with sentinel:
            right = f"redis+sentinel://{sentinel.address}?sentinel_master_name=mymaster"
            await until(lambda: right in shard.health()[0].problem)
            assert not shard.health()[0].ok
            await until(lambda: right in caplog.text)


def test_the_documentation_has_every_kind_with_its_remedy() -> None:
    page = (Path(__file__).parents[2] / "docs" / "redis.md").read_text("utf-8")
    assert dict(re.findall(r"^\| `([A-Z]+)` \| (.+) \|$", page, re.MULTILINE)) == REMEDIES
