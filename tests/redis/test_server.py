"""Connections to Redis: logging in, supervision, and a pub/sub connection that has gone deaf."""

import asyncio
import contextlib
import logging
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.batches import batches
from gateway.errors import BrokerUnavailable, SettingsError
from gateway.redis import server as servers
from gateway.redis.connection import RedisConnection, SubscriberConnection, connect, unavailable
from gateway.redis.endpoint import Endpoint
from gateway.redis.keys import PARTITIONS, SLOTS, TAGS, Keys, slot
from gateway.redis.pubsub import CHANNELS_PER_COMMAND, CLASSIC, NAMES_UNDER_WAY, SHARDED, PubSub, Subscriptions
from gateway.redis.resp import CommandRefused
from gateway.redis.script import Script
from tests.ports import free_port
from tests.redis_fixtures import one_server, refusal_of, started_shard
from tests.redis_server import RedisServer
from tests.redis_topologies import ClusterTopology, SentinelTopology
from tests.waiting import until


@pytest.fixture
def server() -> RedisServer:
    return RedisServer()


# — keys —


def test_keys_carry_their_partition() -> None:
    keys = Keys("gw")
    stream, meta = keys.of(b"s", "news:é"), keys.of(b"m", "news:é")
    assert stream.startswith(b"gw:{p")
    assert stream.endswith("}:s:news:é".encode())
    assert stream.replace(b"}:s:", b"}:m:") == meta
    partitions = {keys.of(b"c", f"room{number}").partition(b"}")[0] for number in range(5000)}
    assert len(partitions) == PARTITIONS
    assert keys.shared("control", "n1") == b"gw:control:n1"


def test_another_database_has_other_names_for_pub_sub_too() -> None:
    assert Keys("gw", 3).of(b"c", "news").startswith(b"gw@3:{p")
    assert Keys("gw", 3).shared("control") == b"gw@3:control"


@pytest.mark.parametrize("servers", range(1, 13))
def test_partitions_lie_evenly_on_the_servers_of_a_cluster(servers: int) -> None:
    held = Counter(slot(tag) * servers // SLOTS for tag in TAGS)
    assert len(TAGS) == len(set(TAGS)) == PARTITIONS
    assert max(held.values()) - min(held.values()) <= 1


def test_slots_are_those_of_redis() -> None:
    """As the cluster specification has them: CRC16 of the tag, or of the whole where there is none."""
    assert [slot(key) for key in (b"123456789", b"foo{hash}bar", b"{}x", b"{{bar}}", b"user1000{")] == [
        0x31C3,
        slot(b"hash"),
        slot(b"{}x"),
        slot(b"{bar"),
        slot(b"user1000{"),
    ]


def test_result_keys_do_not_collide() -> None:
    keys = Keys("gw")
    assert keys.result("a", "b:c").split(b"}")[1] != keys.result("a:b", "c").split(b"}")[1]


def test_batches() -> None:
    assert list(batches("abcde", 2)) == [["a", "b"], ["c", "d"], ["e"]]


# — logging in —


async def test_user_password_and_database() -> None:
    with RedisServer("--user", "gw", "on", ">secret", "~*", "&*", "+@all", "--requirepass", "other") as server:
        async with started_shard(f"redis://gw:secret@127.0.0.1:{server.port}/3") as shard:
            await shard.execute("SET", "key", "value")
            info = await shard.execute("CLIENT", "INFO")
            assert b" user=gw " in info
            assert b" db=3 " in info
            assert b" name=gateway-commands " in info
        async with started_shard(f"redis://:other@127.0.0.1:{server.port}") as shard:
            assert await shard.execute("GET", "key") is None


async def test_wrong_password_is_said_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    with RedisServer("--requirepass", "right") as server:
        async with started_shard(f"redis://:wrong@127.0.0.1:{server.port}") as shard:
            assert not shard.connected
            assert refusal_of(shard) == "WRONGPASS"
            with pytest.raises(BrokerUnavailable):
                await shard.execute("PING")
            with server.client() as client:
                client.execute_command("AUTH", "right")
                client.config_set("requirepass", "wrong")
            await until(lambda: shard.connected)
            assert refusal_of(shard) == ""
        assert "WRONGPASS" in caplog.text


@pytest.mark.parametrize(
    ("greeting", "scheme", "advice"),
    [
        (None, "rediss", "if it does not speak TLS, its address is redis://"),
        (b"", "redis", "if it wants TLS, its address is rediss://"),
        (b"\x15\x03\x01\x00\x02\x02\x0a", "redis", "if it wants TLS, its address is rediss://"),
    ],
)
async def test_which_of_the_two_schemes_it_is(
    greeting: bytes | None, scheme: str, advice: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Redis without TLS waits for a line to end; one with TLS closes, perhaps after an alert."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        if greeting is None:
            await reader.read()
        else:
            writer.write(greeting)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, started_shard(f"{scheme}://127.0.0.1:{port}") as shard:
        assert not shard.connected
        assert advice in caplog.text


async def test_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with RedisServer("--unixsocket", str(path)):
        async with started_shard(f"unix://{path}") as shard:
            assert await shard.execute("PING") == b"PONG"


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for this machine, and its key."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, *files]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


async def test_tls(certificate: tuple[Path, Path]) -> None:
    public, key = certificate
    port = free_port()
    options = ["--tls-port", str(port), "--tls-cert-file", str(public), "--tls-key-file", str(key)]
    with RedisServer(*options, "--tls-ca-cert-file", str(public)):
        parameters = f"ssl_ca_certs={public}&ssl_certfile={public}&ssl_keyfile={key}"
        async with started_shard(f"rediss://127.0.0.1:{port}?{parameters}") as shard:
            assert await shard.execute("PING") == b"PONG"


# — one connection —


@asynccontextmanager
async def talker(*answers: bytes) -> AsyncIterator[Endpoint]:
    """A server that logs clients in and then says what it is told to."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"PING\r\n")
        writer.write(b"+OK\r\n+PONG\r\n" + b"".join(answers))
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])


@pytest.mark.parametrize("make", [partial(RedisConnection, 1.0), partial(SubscriberConnection, 1.0, {})])
@pytest.mark.parametrize("nonsense", [b"+unasked\r\n", b"HTTP/1.1 400\r\n"])
async def test_nonsense_closes_the_connection(make: partial[RedisConnection], nonsense: bytes) -> None:
    async with talker(nonsense) as endpoint:
        connection = await connect(endpoint, make, "test", 1.0)
        reason = await connection.closed
        assert "unasked" in reason or "not the Redis protocol" in reason
        with pytest.raises(BrokerUnavailable):
            await connection.execute("PING")
        await connection.close("twice is harmless")


async def test_command_refused_while_loading_is_served_elsewhere() -> None:
    async with talker() as endpoint:
        connection = await connect(endpoint, partial(RedisConnection, 1.0), "test", 1.0)
        answer, other = connection.execute("GET", "a"), connection.execute("GET", "b")
        await until(lambda: len(connection._waiting) == 2, what="both are sent")
        connection.data_received(b"-LOADING Redis is loading the dataset in memory\r\n")
        with pytest.raises(CommandRefused):
            await answer
        with pytest.raises(BrokerUnavailable):
            await other
        assert "LOADING" in await connection.closed
        await connection.close("end")


def test_what_is_refused_within_a_script_of_an_older_redis() -> None:
    old = "ERR Error running script (call to f_1): @user_script:1: -"
    assert CommandRefused(old + "READONLY You can't write against a replica.").served_elsewhere
    assert not CommandRefused("OOM command not allowed").served_elsewhere
    assert CommandRefused(old + "OOM command not allowed when used memory > 'maxmemory'.").redis_code == "OOM"


async def test_refusals_are_logged_once_per_kind(caplog: pytest.LogCaptureFixture, server: RedisServer) -> None:
    with server:
        async with started_shard(server.url) as shard:
            for _ in range(3):
                with pytest.raises(CommandRefused):
                    await shard.execute("NONSENSE")
    assert len([record for record in caplog.records if "refuses" in record.message]) == 1


async def test_commands_are_refused_while_too_much_is_unanswered(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with server:
        async with started_shard(server.url) as shard:
            server.pause()
            stuck = [shard.execute("SET", "k", b"x" * 20_000_000) for _ in range(2)]
            for _ in range(2):
                with pytest.raises(BrokerUnavailable):
                    await shard.execute("PING")
            server.resume()
            assert await asyncio.gather(*stuck) == [b"OK"] * 2
            assert await shard.execute("PING") == b"PONG"
    assert caplog.text.count("no more are taken") == 1


async def test_slow_answers_move_the_deadline(server: RedisServer) -> None:
    with server:
        async with started_shard(server.url, io_timeout=0.3) as shard:
            first = await shard.execute("CLIENT", "ID")
            connection = shard._commands.connection
            assert connection is not None
            timer = connection._timer
            server.pause()
            late = shard.execute("PING")
            server.resume()
            await late
            # The timer of an earlier command serves the newer ones, and rests when there are none.
            await until(lambda: connection._timer is None, what="the timer rests")
            assert timer is not None
            assert await shard.execute("CLIENT", "ID") == first


# — a shard —


async def test_what_a_lost_connection_still_holds_is_never_carried_out(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given up here, and Redis, which has not noticed, would carry out what arrives late."""
    with server:
        async with started_shard(server.url) as shard:
            former = await shard.execute("CLIENT", "ID")
            connection = shard._commands.connection
            assert connection is not None
            transport = connection._transport
            assert transport is not None
            with monkeypatch.context() as patch:
                patch.setattr(transport, "abort", connection._lost.set)
                connection.drop("given up")
                await until(lambda: shard._commands.connected)
                await shard.execute("PING")
            with server.client() as client:
                assert former not in [int(each["id"]) for each in client.client_list()]
            transport.abort()


async def test_a_user_who_may_not_end_connections_is_no_trouble() -> None:
    rights = ("~*", "&*", "+@all", "-client|kill", "-client|info")
    with RedisServer("--user", "app", "on", ">secret", *rights) as server:
        async with started_shard(f"redis://app:secret@127.0.0.1:{server.port}") as shard:
            shard._known_as = ("ID", "1", "ADDR", "127.0.0.1:1")
            connection = shard._commands.connection
            assert connection is not None
            connection.drop("cut")
            await until(lambda: shard.reconnects)
            await shard.execute("PING")
            assert refusal_of(shard) == ""


async def test_handler_that_raises_costs_nothing(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[bytes] = []

    def handle(payload: bytes) -> None:
        heard.append(payload)
        raise ValueError("bad handler")

    with server:
        async with started_shard(server.url) as shard:
            await shard.subscribe(b"c", handle)
            for payload in (b"1", b"2"):
                await shard.execute("PUBLISH", "c", payload)
            await until(lambda: heard == [b"1", b"2"])
            assert shard.reconnects == 0
    assert caplog.text.count("ValueError: bad handler") == 2


async def test_refused_subscription(server: RedisServer) -> None:
    with RedisServer("--user", "gw", "on", ">pw", "~*", "&gateway:*", "+@all") as own:
        async with started_shard(f"redis://gw:pw@127.0.0.1:{own.port}") as shard:
            with pytest.raises(BrokerUnavailable):
                await shard.subscribe(b"elsewhere", lambda payload: None)
            await shard.subscribe(b"gateway:x", lambda payload: None)
            assert b"elsewhere" not in shard._subscriptions.handlers


async def test_cancelled_subscriber_may_unsubscribe(server: RedisServer) -> None:
    with server, server.client() as client:
        async with started_shard(server.url) as shard:
            task = asyncio.ensure_future(shard.subscribe(b"c", lambda payload: None))
            await shard.execute("PING")
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await shard.unsubscribe(b"c")
            assert client.pubsub_channels("c") == []


async def test_close_in_the_middle_of_connecting() -> None:
    with RedisServer() as server:
        server.pause()
        shard = one_server(server.url, connect_timeout=4)
        starting = asyncio.create_task(shard.start())
        await until(lambda: shard._tasks)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await shard.close()
        assert not shard.connected


async def test_close_while_a_probe_is_on_its_way() -> None:
    with RedisServer() as server:
        shard = one_server(server.url, probe_interval=0.02)
        await shard.start()
        connection = shard._commands.connection
        assert connection is not None
        server.pause()
        await until(lambda: connection._waiting)
        async with asyncio.timeout(5):
            await shard.close()


async def test_refused_resubscription_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[bytes] = []
    with RedisServer("--user", "gw", "on", ">pw", "~*", "&*", "+@all") as own, own.client() as client:
        async with started_shard(f"redis://gw:pw@127.0.0.1:{own.port}") as shard:
            await shard.subscribe(b"c", heard.append)
            client.acl_setuser("gw", enabled=True, channels=["none"], reset_channels=True)
            await until(lambda: "NOPERM" in caplog.text)
            assert not shard.connected
            client.acl_setuser("gw", enabled=True, channels=["*"])
            await until(lambda: shard.connected)
            client.publish("c", b"after")
            await until(lambda: heard == [b"after"])


async def test_script_that_fails_is_not_sent_twice(server: RedisServer, tmp_path: Path) -> None:
    path = tmp_path / "wrong.lua"
    path.write_text("redis.call('INCR', KEYS[1]); return redis.call('NONSENSE')")
    with server:
        async with started_shard(server.url) as shard:
            for calls in (b"1", b"2"):
                with pytest.raises(CommandRefused):
                    await shard.run(Script(path), ["k"], [])
                assert await shard.execute("GET", "k") == calls


async def test_lag_is_measured(server: RedisServer) -> None:
    with server:
        async with started_shard(server.url, probe_interval=0.05) as shard:
            await until(lambda: shard.lag > 0)
            assert not shard.deaf


class DeafProxy:
    """Passes bytes on between a shard and Redis, and can swallow what pub/sub connections should hear."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._tasks: set[asyncio.Task[None]] = set()
        self.deaf = False

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        there, to_redis = await asyncio.open_connection("127.0.0.1", self.target)
        kind = b""

        async def inwards() -> None:
            nonlocal kind
            while data := await reader.read(65536):
                kind = b"pubsub" if b"SUBSCRIBE" in data else kind
                to_redis.write(data)
            to_redis.close()

        async def outwards() -> None:
            while data := await there.read(65536):
                if not (self.deaf and kind):
                    writer.write(data)
            writer.close()

        try:
            await asyncio.gather(inwards(), outwards())
        except OSError:
            pass
        finally:
            for each in (writer, to_redis):
                each.close()


async def test_deaf_connection_is_found_and_replaced(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[bytes] = []
    gaps: list[int] = []
    with server:
        proxy = DeafProxy(server.port)
        async with proxy.serving() as url, started_shard(url, io_timeout=0.5, probe_interval=0.2) as shard:
            shard.on_reconnect.append(lambda: gaps.append(1))
            await shard.subscribe(b"c", heard.append)
            proxy.deaf = True
            await until(lambda: shard.deaf)
            proxy.deaf = False
            await until(lambda: not shard.deaf and shard.connected)
            await until(lambda: gaps)
            with server.client() as client:
                client.publish("c", b"after")
            await until(lambda: heard == [b"after"])
    assert "deaf" in caplog.text


async def test_deafness_is_found_whatever_else_is_heard(server: RedisServer) -> None:
    """The commands have come to another server, and at the old one somebody goes on speaking."""
    heard: list[bytes] = []
    with server, RedisServer() as other, server.client() as speaker:
        proxy = DeafProxy(server.port)
        async with proxy.serving() as url, started_shard(url, probe_interval=0.1) as shard:
            await shard.subscribe(b"c", heard.append)
            proxy.target = other.port
            assert shard._commands.connection is not None
            shard._commands.connection.drop("cut by the test")

            def found() -> bool:
                speaker.publish("c", b"masks it")
                return shard._subscriber.connects == 2

            await until(found)
            assert heard
            await until(lambda: shard.connected and not shard.deaf and shard._probes._arrived == shard._probes._sent)


def test_one_missing_probe_is_not_deafness() -> None:
    shard = one_server()
    probes = shard._probes
    probes._missing = [1]
    probes._check_hearing()
    assert not shard.deaf
    probes._missing = [1, 2]
    probes._check_hearing()
    assert shard.deaf


async def test_a_probe_that_arrives_excuses_those_before_it() -> None:
    probes = one_server()._probes
    probes._missing = [1, 2]
    probes.hear(b"2:0.5")
    probes._check_hearing()
    assert (probes.deaf, probes._missing) == (False, [])


async def test_an_unexpected_failure_of_a_probe_does_not_end_them(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with server:
        async with started_shard(server.url, probe_interval=0.02) as shard:
            with monkeypatch.context() as patch:
                patch.setattr(shard, "execute", None)
                await until(lambda: "a probe failed" in caplog.text)
            arrived = shard._probes._arrived
            await until(lambda: shard._probes._arrived > arrived)


async def test_a_server_that_is_emptied_is_missed_as_after_a_reconnect(caplog: pytest.LogCaptureFixture) -> None:
    gaps: list[int] = []
    with RedisServer() as own, own.client() as client:
        async with started_shard(own.url, probe_interval=0.02) as shard:
            shard.on_reconnect.append(lambda: gaps.append(1))
            arrived = shard._probes._arrived
            await until(lambda: shard._probes._arrived > arrived + 3)
            assert gaps == []
            client.flushall()
            await until(lambda: gaps)
            assert shard.reconnects == 0
    assert "has been emptied" in caplog.text


async def test_tells_what_a_server_holds() -> None:
    with RedisServer() as own, own.client() as client:
        client.config_set("maxmemory", 123_456_789)
        async with started_shard(f"{own.url}/3", probe_interval=0.02) as shard:
            await until(lambda: shard.health()[0].memory > 100_000)
            assert (shard.health()[0].keys, shard.health()[0].max_memory) == (0, 123_456_789)
            client.execute_command("SELECT", 3)
            client.mset({"a": 1, "b": 2})
            await until(lambda: shard.health()[0].keys == 2)


async def test_what_a_server_does_not_tell_is_not_known() -> None:
    with RedisServer() as own, own.client() as client:
        rights = ("resetkeys", "~gateway:*", "resetchannels", "&gateway:*", "+@all", "-info")
        client.execute_command("ACL", "SETUSER", "blind", "on", ">secret", *rights)
        url = own.url.replace("redis://", "redis://blind:secret@")
        async with started_shard(url, probe_interval=0.02) as shard:
            arrived = shard._probes._arrived
            await until(lambda: shard._probes._arrived > arrived + 3)
            health = shard.health()[0]
            assert (health.keys, health.memory, health.max_memory) == (-1, -1, -1)
            assert health.ok


async def test_one_that_fails_on_reconnect_harms_nobody(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    gaps: list[int] = []

    def fails() -> None:
        raise RuntimeError("broken")

    with server, server.client() as client:
        async with started_shard(server.url) as shard:
            shard.on_reconnect += [fails, lambda: gaps.append(1)]
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await until(lambda: gaps and shard.connected)
            assert shard._subscriber.connects == 2
    assert "RuntimeError: broken" in caplog.text


async def test_failed_probe_proves_nothing(server: RedisServer) -> None:
    with RedisServer("--user", "gw", "on", ">pw", "~*", "&*", "+@all", "-publish") as own:
        async with started_shard(f"redis://gw:pw@127.0.0.1:{own.port}", probe_interval=0.02) as shard:
            with own.client() as client:
                await until(lambda: _refused(client.info("errorstats")) > 5)
            assert shard.connected
            assert not shard.deaf
            assert shard.reconnects == 0


def _refused(stats: dict[str, dict[str, int]]) -> int:
    return stats.get("errorstat_NOPERM", {"count": 0})["count"]


async def test_subscriptions_that_change_while_coming_back(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[bytes] = []
    with server, server.client() as client:
        async with started_shard(server.url) as shard:
            await shard.subscribe(b"leaving", heard.append)
            changes: list[asyncio.Task[None]] = []

            async def connect_and_change(*arguments: Any) -> Any:
                connection = await connect(*arguments)
                changes.append(asyncio.ensure_future(shard.unsubscribe(b"leaving")))
                changes.append(asyncio.create_task(shard.listen(b"coming", heard.append)))
                return connection

            monkeypatch.setattr(servers, "connect", connect_and_change)
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await until(lambda: changes and shard.connected)
            await asyncio.gather(*changes)
            assert client.pubsub_channels("leaving") == []
            await shard.execute("PUBLISH", "coming", "1")
            await until(lambda: heard == [b"1"])


async def test_a_server_of_another_kind_is_refused_with_the_right_form(shared_cluster: ClusterTopology) -> None:
    with SentinelTopology(replicas=0, sentinels=1) as group:
        for place, form in (
            (
                group.sentinels[0].address,
                f"redis+sentinel://{group.sentinels[0].address}?sentinel_master_name=mymaster",
            ),
            (shared_cluster.servers[1].address, f"redis+cluster://{shared_cluster.servers[1].address}"),
        ):
            shard = one_server(f"redis://{place}")
            with pytest.raises(SettingsError, match=r"is a Sentinel|belongs to a Redis Cluster") as caught:
                await shard.start()
            assert form in str(caught.value)
            assert "engine.redis.address" in str(caught.value)


async def test_logs_once_while_redis_is_away(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        async with started_shard(f"redis://127.0.0.1:{free_port()}") as shard:
            attempts = 0
            original = shard._commands._open

            async def counted() -> RedisConnection:
                nonlocal attempts
                attempts += 1
                return await original()

            shard._commands._open = counted
            await until(lambda: attempts >= 2)
    assert len([record for record in caplog.records if "for commands" in record.message]) == 1


async def test_connections_that_came_to_be_at_different_servers(server: RedisServer) -> None:
    """The address means another server now, and only the pub/sub connection has noticed."""
    with server, RedisServer() as other:
        proxy = DeafProxy(server.port)
        async with proxy.serving() as url, started_shard(url, probe_interval=0.1) as shard:
            proxy.target = other.port
            assert shard._subscriber.connection is not None
            shard._subscriber.connection.drop("for whatever reason")
            await until(lambda: shard._commands.connects == 2)
            heard: list[bytes] = []
            await shard.listen(b"news", heard.append)

            async def arrives() -> bool:
                with contextlib.suppress(BrokerUnavailable):
                    await shard.execute("PUBLISH", b"news", b"hello")
                return bool(heard)

            await until(arrives)


@pytest.mark.parametrize("words", [CLASSIC, SHARDED])
async def test_subscribing_again_leaves_redis_time(words: PubSub) -> None:
    """A million channels at once would overrun the deadline of the last command before Redis comes to it."""
    under_way: list[tuple[int, asyncio.Future[None]]] = []

    class Connection:
        def execute(self, *command: Any, replies: int) -> asyncio.Future[None]:
            assert len(command) == replies + 1 <= CHANNELS_PER_COMMAND + 1
            answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            under_way.append((replies, answer))
            return answer

    names = [b"{%d}%d" % (number % 9, number) for number in range(NAMES_UNDER_WAY + CHANNELS_PER_COMMAND)]
    subscriptions = Subscriptions(words, lambda *_: unavailable())
    subscriptions.handlers = {name: lambda _: None for name in names}
    work = asyncio.ensure_future(subscriptions.restore(Connection()))  # type: ignore[arg-type]
    await until(lambda: under_way)
    assert sum(replies for replies, _ in under_way) == NAMES_UNDER_WAY
    while under_way:
        _, answer = under_way.pop()
        answer.set_result(None)
    await until(lambda: under_way)
    assert sum(replies for replies, _ in under_way) == CHANNELS_PER_COMMAND
    for _, answer in under_way:
        answer.set_result(None)
    await work
