"""The Redis broker among several nodes, and when Redis fails in the ways it does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.brokers.base import Claim, Continued, HistoryFilter, PublishOptions, StreamOptions
from gateway.brokers.publish_queue import PublishQueue
from gateway.brokers.redis import RedisBroker
from gateway.brokers.redis_history import CHANNELS_PER_CALL
from gateway.errors import BrokerUnavailable
from gateway.messages import Payload, Position, Publication
from gateway.metrics import Metrics
from gateway.redis.keys import PARTITIONS, partition
from gateway.redis.resp import CommandRefused
from gateway.redis.server import Server
from tests.brokers.recorder import Recorder
from tests.redis_fixtures import started_shard
from tests.redis_server import RedisServer
from tests.waiting import until

KEPT = StreamOptions(history_size=1000, history_ttl=60.0)
PLAIN = StreamOptions()
ALL = HistoryFilter(limit=-1)


@asynccontextmanager
async def node(
    server: RedisServer, name: str, *, io_timeout: float = 0.5, probe_interval: float = 5.0
) -> AsyncIterator[tuple[RedisBroker, Recorder]]:
    recorder = Recorder()
    async with started_shard(server.url, io_timeout=io_timeout, probe_interval=probe_interval) as shard:
        broker = RedisBroker(shard)
        await broker.start(name, recorder)
        yield broker, recorder
        await broker.close()


async def say(broker: RedisBroker, text: str, channel: str = "news", stream: StreamOptions = KEPT) -> Position:
    receipt = await broker.publish(channel, Publication(Payload(text.encode())), stream, PublishOptions())
    return Position(receipt.offset, receipt.epoch)


async def verify(broker: RedisBroker, position: Position, channel: str = "news") -> bool:
    [good] = await broker.verify([Claim(channel, position, KEPT)])
    return good


async def says(broker: RedisBroker, text: str, channel: str = "news") -> bool:
    try:
        await say(broker, text, channel)
    except BrokerUnavailable:
        return False
    return True


async def test_two_nodes_hear_the_same_order(server: RedisServer) -> None:
    async with node(server, "n1") as (one, heard_by_one), node(server, "n2") as (two, heard_by_two):
        await one.subscribe("news")
        await two.subscribe("news")
        await asyncio.gather(*(say(broker, f"{index}") for index in range(300) for broker in (one, two)))
        await until(lambda: len(heard_by_one.publications) == len(heard_by_two.publications) == 600)
        assert [each.offset for _, each in heard_by_one.publications] == list(range(1, 601))
        assert heard_by_one.publications == heard_by_two.publications
        await one.publish_control(b"to two", node="n2")
        await until(lambda: heard_by_two.controls == [b"to two"])
        assert heard_by_one.controls == []


async def test_empty_restart(server: RedisServer) -> None:
    with RedisServer() as own:
        async with node(own, "n1") as (one, heard), node(own, "n2") as (two, _):
            await one.subscribe("news")
            position = await say(one, "before")
            await until(lambda: heard.texts == ["before"])  # which a server killed after its answer may not have sent
            own.kill()
            with pytest.raises(BrokerUnavailable):
                await say(one, "away")
            await until(lambda: not one.health().ok)
            own.start()
            await until(lambda: one.health().ok and two.health().ok)
            await until(lambda: heard.gaps)
            assert await says(two, "after")
            await until(lambda: heard.texts == ["before", "after"])
            assert not await verify(one, position)
            assert heard.publications[1][1].offset == 1
            assert heard.publications[1][1].epoch != position.epoch
            assert one.health().reconnects >= 2


async def test_restart_with_data(server: RedisServer) -> None:
    with RedisServer("--appendonly", "yes", "--appendfsync", "always") as own:
        async with node(own, "n1") as (one, heard):
            await one.subscribe("news")
            position = await say(one, "before")
            own.stop()
            own.start()
            await until(lambda: heard.gaps and one.health().ok)
            assert await verify(one, position)
            after = await say(one, "after")
            assert after.offset == 2
            publications, top = await one.history("news", ALL, KEPT)
            assert top == Continued(2, after.epoch, (position,))
            assert [bytes(each.data) for each in publications] == [b"before", b"after"]


async def test_frozen_redis_fails_commands_in_time_and_heals(server: RedisServer) -> None:
    with RedisServer() as own:
        async with node(own, "n1", probe_interval=0.3) as (one, heard):
            await one.subscribe("news")
            own.pause()
            async with asyncio.timeout(5):
                results = await asyncio.gather(*(say(one, "lost") for _ in range(3)), return_exceptions=True)
                assert [type(result) for result in results] == [BrokerUnavailable] * 3
                with pytest.raises(BrokerUnavailable):
                    await one.subscribe("other")
            await until(lambda: not one.health().connected)
            own.resume()
            await until(lambda: one.health().ok and heard.gaps)
            assert await says(one, "healed")
            await until(lambda: "healed" in heard.texts)


async def test_flushed_scripts_are_loaded_again(server: RedisServer) -> None:
    async with node(server, "n1") as (one, _):
        assert (await say(one, "a")).offset == 1
        with server.client() as client:
            client.script_flush()
        assert (await say(one, "b")).offset == 2


async def test_what_nobody_waits_for_is_published_though_scripts_were_flushed(server: RedisServer) -> None:
    async with node(server, "n1") as (broker, recorder):
        queue = PublishQueue(broker, 2.0, Metrics())
        await broker.subscribe("news")
        with server.client() as client:
            client.script_flush()
        told: list[Exception | None] = []
        assert queue.post("news", Publication(Payload(b"a")), KEPT, told.append)
        await until(lambda: told)
        assert told == [None]
        await until(lambda: recorder.texts == ["a"])


@pytest.mark.parametrize("kind", ["pubsub", "normal"])
async def test_killed_connections_come_back_and_tell(server: RedisServer, kind: str) -> None:
    async with node(server, "n1") as (one, heard):
        await one.subscribe("news")
        with server.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        await until(lambda: heard.gaps == 1 and one.health().ok)
        assert await says(one, "after")
        await until(lambda: heard.texts == ["after"])


async def test_reader_that_was_too_slow_for_redis(server: RedisServer) -> None:
    with RedisServer("--client-output-buffer-limit", "pubsub 1mb 0 0") as own:
        async with node(own, "n1", io_timeout=4.0) as (one, heard), node(own, "n2", io_timeout=4.0) as (two, _):
            await one.subscribe("news")
            assert isinstance(one._shard, Server)
            connection = one._shard._subscriber.connection
            assert connection is not None
            assert connection._transport is not None
            connection._transport.pause_reading()
            with own.client() as client:
                for _ in range(20):
                    await say(two, "x" * 1_000_000, stream=PLAIN)
                await until(lambda: len(client.client_list(_type="pubsub")) == 1, what="Redis hung up on n1")
            connection._transport.resume_reading()
            await until(lambda: heard.gaps == 1 and one.health().ok)
            assert await says(two, "after")
            await until(lambda: heard.texts[-1:] == ["after"])


async def test_cancelled_callers_leave_others_their_own_replies(server: RedisServer) -> None:
    async with node(server, "n1", io_timeout=4.0) as (one, _):
        for number in range(20):
            await say(one, str(number), channel=f"room{number}")
        tasks = [asyncio.ensure_future(one.history(f"room{number % 20}", ALL, KEPT)) for number in range(200)]
        started = asyncio.Event()
        asyncio.get_running_loop().call_soon(started.set)
        await started.wait()
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for number, result in enumerate(results):
            if number % 2 == 0:
                assert isinstance(result, asyncio.CancelledError)
            else:
                assert not isinstance(result, BaseException)
                assert bytes(result[0][0].data) == str(number % 20).encode()


async def test_thousands_of_channels_in_one_tick(server: RedisServer) -> None:
    async with node(server, "n1", io_timeout=4.0) as (one, heard):
        with server.client() as client:
            before = _calls(client.info("commandstats"), "subscribe")
            await asyncio.gather(*(one.subscribe(f"room{number}") for number in range(5000)))
            assert _calls(client.info("commandstats"), "subscribe") - before == 10
            assert len(client.pubsub_channels("gateway:{*")) == 5000
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await until(lambda: heard.gaps == 1 and one.health().ok)
            assert len(client.pubsub_channels("gateway:{*")) == 5000
            await asyncio.gather(*(one.unsubscribe(f"room{number}") for number in range(5000)))
            assert client.pubsub_channels("gateway:{*") == []


async def test_out_of_memory_answers_the_publisher_alone(server: RedisServer) -> None:
    with RedisServer() as own:
        async with node(own, "n1") as (one, heard):
            with own.client() as client:
                client.config_set("maxmemory", "1")
                with pytest.raises(CommandRefused) as caught:
                    await say(one, "a")
                assert caught.value.redis_code == "OOM"
                assert "OOM" not in caught.value.message
                client.config_set("maxmemory", "0")
            assert (one.health().ok, one.health().refusal) == (False, "OOM")
            assert await says(one, "b")
            assert one.health().reconnects == heard.gaps == 0


async def test_read_only_server_is_left(server: RedisServer) -> None:
    with RedisServer() as own:
        async with node(own, "n1") as (one, heard):
            with own.client() as client:
                client.execute_command("REPLICAOF", "127.0.0.1", "1")
                with pytest.raises(BrokerUnavailable):
                    await say(one, "a")
                client.execute_command("REPLICAOF", "NO", "ONE")
            await until(lambda: says(one, "b"))
            assert one.health().reconnects >= 1
            await until(lambda: heard.gaps)


async def test_lost_metadata_starts_a_new_stream(server: RedisServer) -> None:
    async with node(server, "n1") as (one, _):
        keys = one._keys
        for stream in (KEPT, StreamOptions(history_size=1, history_ttl=60.0)):
            for text in "abc":
                old = await say(one, text, stream=stream)
            with server.client() as client:
                client.delete(keys.of(b"m", "news").decode())
            assert (await say(one, "d", stream=stream)).offset == 1
            publications, position = await one.history("news", ALL, stream)
            assert [bytes(each.data) for each in publications] == [b"d"]
            assert position.epoch != old.epoch
            with server.client() as client:
                client.delete(keys.of(b"m", "news").decode())
            publications, position = await one.history("news", ALL, stream)
            assert (publications, position.offset) == ([], 0)


async def test_metadata_that_went_back_does_not_stop_publishing(server: RedisServer) -> None:
    async with node(server, "n1") as (one, _):
        for text in "abc":
            await say(one, text)
        with server.client() as client:
            client.hset(one._keys.of(b"m", "news").decode(), "s", 1)
        assert (await say(one, "d")).offset == 2
        publications, _ = await one.history("news", ALL, KEPT)
        assert [bytes(each.data) for each in publications] == [b"d"]


async def test_all_keys_of_a_channel_expire(server: RedisServer) -> None:
    stream = StreamOptions(history_size=5, history_ttl=10.0, history_meta_ttl=100.0)
    async with node(server, "n1") as (one, _):
        await one.publish("kept", Publication(Payload(b"1")), stream, PublishOptions(idempotency_key="k"))
        await one.publish("plain", Publication(Payload(b"1")), PLAIN, PublishOptions(idempotency_key="k"))
        await one.history("read", ALL, stream)
        await one.history("kept", ALL, stream)
        keys = one._keys
        with server.client() as client:
            assert 9_000 < client.pttl(keys.of(b"s", "kept").decode()) <= 10_000
            assert 99_000 < client.pttl(keys.of(b"m", "kept").decode()) <= 100_000
            assert 299_000 < client.pttl(keys.result("kept", "k").decode()) <= 300_000
            assert 299_000 < client.pttl(keys.result("plain", "k").decode()) <= 300_000
            assert 59_000 < client.pttl(keys.of(b"m", "read").decode()) <= 60_000  # nobody has published there
            assert len(client.keys("*")) == 5
            shorter = PublishOptions(idempotency_key="s", idempotency_ttl=10.0)
            await one.publish("kept", Publication(Payload(b"1")), stream, shorter)
            await one.publish("plain", Publication(Payload(b"1")), PLAIN, shorter)
            for channel in ("kept", "plain"):
                assert 9_000 < client.pttl(keys.result(channel, "s").decode()) <= 10_000


async def test_a_stream_without_publications_lasts_while_somebody_stands_there(server: RedisServer) -> None:
    async with node(server, "n1") as (one, _):
        _, position = await one.history("read", ALL, KEPT)
        key = one._keys.of(b"m", "read").decode()
        with server.client() as client:
            assert await one.verify([Claim("read", position, KEPT, hold=500.0)]) == [True]
            assert 999_000 < client.pttl(key) <= 1_000_000
            await one.history("read", ALL, KEPT)  # makes it no shorter
            assert 999_000 < client.pttl(key) <= 1_000_000
            written = _calls(client.info("commandstats"), "pexpire")
            assert await one.verify([Claim("read", position, KEPT, hold=400.0)]) == [True]
            assert _calls(client.info("commandstats"), "pexpire") == written
            assert await say(one, "first", "read") == Position(1, position.epoch)
            assert client.pttl(key) > 11 * 3600 * 1000
            client.delete(key)
            assert await one.verify([Claim("read", position, KEPT)]) == [False]
            assert client.exists(key) == 0


async def test_checking_positions_is_batched_by_partition_and_writes_nothing(server: RedisServer) -> None:
    async with node(server, "n1", io_timeout=4.0) as (one, _):
        channels = [f"room{number}" for number in range(2000)]
        positions = await asyncio.gather(*(say(one, "a", channel) for channel in channels))
        claims = [Claim(channel, position, KEPT, 80.0) for channel, position in zip(channels, positions, strict=True)]
        with server.client() as client:
            client.config_resetstat()
            assert await one.verify(claims) == [True] * 2000
            stats = client.info("commandstats")
            assert _calls(stats, "evalsha") <= PARTITIONS
            assert not {"cmdstat_pexpire", "cmdstat_hset", "cmdstat_del"} & stats.keys()
            # half the life has passed: written once
            client.pexpire(one._keys.of(b"m", "room7").decode(), 1000)
            assert await one.verify(claims) == [True] * 2000
            assert client.pttl(one._keys.of(b"m", "room7").decode()) > 11 * 3600 * 1000


async def test_a_key_that_is_no_stream_harms_no_other(server: RedisServer) -> None:
    async with node(server, "n1") as (one, _):
        others = [f"room{number}" for number in range(1000) if partition(f"room{number}") == partition("news")]
        lost = await say(one, "a", others[0])
        await say(one, "b", others[0])
        with server.client() as client:
            client.set(one._keys.of(b"m", "news").decode(), "not a hash")
        claims = [Claim("news", Position(1, "e"), KEPT), Claim(others[0], lost, KEPT)]
        assert await one.verify(claims) == [True, False]


async def test_a_server_that_refuses_writes_still_tells_where_streams_end(server: RedisServer) -> None:
    quiet = next(f"room{number}" for number in range(1000) if partition(f"room{number}") == partition("news"))
    with RedisServer() as own:
        async with node(own, "n1") as (one, _):
            lost = await say(one, "a")
            await say(one, "b")
            _, position = await one.history(quiet, ALL, KEPT)  # its epoch is to last longer
            with own.client() as client:
                client.config_set("min-replicas-to-write", 1)
            claims = [Claim("news", lost, KEPT, 80.0), Claim(quiet, position, KEPT, 80.0)]
            assert await one.verify(claims) == [False, True]


async def test_equal_reads_of_a_tick_are_one(server: RedisServer) -> None:
    async with node(server, "n1", io_timeout=4.0) as (one, _):
        await say(one, "a")
        await say(one, "b")
        since = HistoryFilter(limit=-1, since=Position(1))
        with server.client() as client:
            client.config_resetstat()
            asked = [asyncio.ensure_future(one.history("news", ALL, KEPT)) for _ in range(500)]
            asked += [asyncio.ensure_future(one.history("news", since, KEPT)) for _ in range(500)]
            await asyncio.sleep(0)
            asked[0].cancel()
            answers = await asyncio.gather(*asked, return_exceptions=True)
            assert _calls(client.info("commandstats"), "xrange") == 2
        assert isinstance(answers[0], asyncio.CancelledError)
        texts = [len(answer[0]) for answer in answers[1:] if not isinstance(answer, BaseException)]
        assert texts == [2] * 499 + [1] * 500


TOP = HistoryFilter()
ONE = StreamOptions(history_size=1, history_ttl=60.0)


async def test_reads_of_a_tick_leave_in_one_script(server: RedisServer) -> None:
    async with node(server, "n1", io_timeout=4.0) as (one, _):
        channels = [f"room{number}" for number in range(300)]
        positions = await asyncio.gather(*(say(one, channel, channel) for channel in channels[::2]))
        with server.client() as client:
            client.config_resetstat()
            tops = await asyncio.gather(*(one.history(channel, TOP, KEPT) for channel in channels))
            assert _calls(client.info("commandstats"), "evalsha") == -(-300 // CHANNELS_PER_CALL)
            client.config_resetstat()
            parts = await asyncio.gather(*(one.history(channel, ALL, KEPT) for channel in channels))
            stats = client.info("commandstats")
        assert _calls(stats, "evalsha") <= 2 + -(-300 // CHANNELS_PER_CALL)
        assert not {"cmdstat_hset", "cmdstat_del", "cmdstat_type"} & stats.keys()
        assert _calls(stats, "pexpire") <= 150, "of those that nobody has published to"
        assert [position for _, position in tops] == [position for _, position in parts]
        assert [position for _, position in tops[::2]] == positions
        assert [[bytes(each.data).decode() for each in read] for read, _ in parts[::2]] == [
            [at] for at in channels[::2]
        ]
        assert [(read, position.offset) for read, position in parts[1::2]] == [([], 0)] * 150
        assert len({position.epoch for _, position in tops}) == 300


async def test_each_read_of_a_script_begins_where_it_says(server: RedisServer) -> None:
    async with node(server, "n1") as (one, _):
        channels = [f"room{number}" for number in range(6)]
        for channel in channels:
            for text in "abcd":
                await say(one, text, channel)
        for reverse in (False, True):
            reads = [HistoryFilter(2, Position(number), reverse) for number in range(6)]
            asked = zip(channels, reads, strict=True)
            parts = await asyncio.gather(*(one.history(channel, which, KEPT) for channel, which in asked))
            found = ["".join(bytes(each.data).decode() for each in read) for read, _ in parts]
            assert found == (["", "", "a", "ba", "cb", ""] if reverse else ["ab", "bc", "cd", "d", "", ""])


async def test_a_channel_that_cannot_be_read_is_nothing_to_the_others(server: RedisServer) -> None:
    async with node(server, "n1") as (one, _):
        for kind, which in ((b"m", TOP), (b"s", ALL)):
            for channel in "abc":
                await say(one, channel, channel)
            with server.client() as client:
                key = one._keys.of(kind, "b").decode()
                client.delete(key)
                client.sadd(key, "of another kind")
            answers = await asyncio.gather(*(one.history(at, which, KEPT) for at in "abc"), return_exceptions=True)
            assert [isinstance(answer, CommandRefused) for answer in answers] == [False, True, False]
            assert isinstance(answers[1], CommandRefused)
            assert answers[1].redis_code == "WRONGTYPE"
            with server.client() as client:
                client.delete(key)


async def test_what_concerns_all_is_not_asked_for_each(server: RedisServer) -> None:
    with RedisServer() as own:
        async with node(own, "n1") as (one, _):
            with own.client() as client:
                client.config_set("maxmemory", "1")
                client.config_resetstat()
                answers = await asyncio.gather(*(one.history(at, TOP, KEPT) for at in "abc"), return_exceptions=True)
                assert [isinstance(answer, CommandRefused) for answer in answers] == [True] * 3
                assert len({id(answer) for answer in answers}) == 3
                assert _calls(client.info("commandstats"), "evalsha") == 1


@pytest.mark.parametrize("which", [TOP, ALL])
async def test_what_can_be_read_without_a_write_is_read_though_others_need_one(which: HistoryFilter) -> None:
    with RedisServer() as own:
        async with node(own, "n1") as (one, _):
            for channel in "ac":
                await say(one, channel, channel)
            with own.client() as client:
                client.config_set("maxmemory", "1")
                client.config_resetstat()
                asked = (one.history(at, which, KEPT) for at in "abcd")
                answers = await asyncio.gather(*asked, return_exceptions=True)
                assert [isinstance(answer, CommandRefused) for answer in answers] == [False, True, False, True]
                assert _calls(client.info("commandstats"), "evalsha") == 2
            assert one.health().refusal == "OOM"


@pytest.mark.parametrize(("count", "size"), [(100, 10), (3, 100_000)])
async def test_one_script_does_not_read_too_much(server: RedisServer, count: int, size: int) -> None:
    """And the rest is read by others."""
    async with node(server, "n1", io_timeout=4.0) as (one, _):
        channels = [f"room{number}" for number in range(20)]
        for channel in channels:
            await asyncio.gather(*(say(one, f"{number}".ljust(size), channel) for number in range(count)))
        with server.client() as client:
            client.config_resetstat()
            parts = await asyncio.gather(*(one.history(channel, ALL, KEPT) for channel in channels))
            assert 7 <= _calls(client.info("commandstats"), "evalsha") <= 20
        assert [len(read) for read, _ in parts] == [count] * 20


async def test_a_stream_may_still_be_what_its_size_was(server: RedisServer) -> None:
    async with node(server, "n1") as (one, _):
        await say(one, "value", "value", ONE)
        await say(one, "stream", "stream", KEPT)
        for stream in (ONE, KEPT):
            parts = await asyncio.gather(*(one.history(channel, ALL, stream) for channel in ("value", "stream")))
            assert [[bytes(each.data) for each in read] for read, _ in parts] == [[b"value"], [b"stream"]]


async def test_what_nobody_has_published_under_an_epoch_is_not_read(server: RedisServer) -> None:
    """A stream that has outlived its metadata is another's, until the next publish removes it."""
    async with node(server, "n1") as (one, _):
        await say(one, "before")
        with server.client() as client:
            client.delete(one._keys.of(b"m", "news").decode())
        for _ in range(2):
            publications, position = await one.history("news", ALL, KEPT)
            assert (publications, position.offset) == ([], 0)
        assert (await say(one, "after")).offset == 1
        publications, _ = await one.history("news", ALL, KEPT)
        assert [bytes(each.data) for each in publications] == [b"after"]


async def test_a_herd_of_reads_waits_instead_of_failing(server: RedisServer) -> None:
    """More than Redis answers within the deadline of one command, and more than it should keep for us at once."""
    async with node(server, "n1", io_timeout=1.0) as (one, _):
        for _ in range(50):
            await say(one, "x" * 1000)
        await one.history("news", ALL, KEPT)  # from here on the script is known
        reads = [HistoryFilter(limit=100 + number, since=Position(number % 3)) for number in range(20_000)]
        answers = await asyncio.gather(*(one.history("news", each, KEPT) for each in reads), return_exceptions=True)
        assert not [answer for answer in answers if isinstance(answer, BaseException)]
        assert one.health().reconnects == 0


async def test_messages_of_unknown_release_are_ignored(server: RedisServer) -> None:
    async with node(server, "n1") as (one, heard):
        await one.subscribe("news")
        with server.client() as client:
            client.publish(one._keys.of(b"c", "news").decode(), b"9z...")
        await say(one, "a")
        await until(lambda: heard.publications)
        assert heard.texts == ["a"]


async def test_start_without_redis(server: RedisServer) -> None:
    with RedisServer() as own:
        own.kill()
        async with node(own, "n1") as (one, heard):
            assert not one.health().ok
            with pytest.raises(BrokerUnavailable):
                await one.subscribe("news")
            with pytest.raises(BrokerUnavailable):
                await say(one, "a")
            await one.unsubscribe("news")
            own.start()
            await until(lambda: one.health().ok)
            await one.publish_control(b"hello", node="n1")
            await until(lambda: heard.controls == [b"hello"])
            assert heard.gaps == 0


async def test_nothing_is_left_of_subscriptions(server: RedisServer) -> None:
    """Neither of those that failed, nor of those that are there when the broker is closed."""
    with RedisServer() as own:
        async with started_shard(own.url) as shard:
            broker = RedisBroker(shard)
            await broker.start("n1", Recorder())
            await shard.listen(shard.keys.shared("other"), lambda message: None)
            own.kill()
            await until(lambda: not shard.connected)
            with pytest.raises(BrokerUnavailable):
                await broker.subscribe("away")
            assert len(shard.names()) == 3
            own.start()
            await until(lambda: shard.connected)
            for channel in ("news", "c:}:", "gateway:control"):
                await broker.subscribe(channel)
            await broker.close()
            assert shard.names() == [shard.keys.shared("other")]


async def test_close_before_start_is_harmless(server: RedisServer) -> None:
    async with started_shard(server.url) as shard:
        await RedisBroker(shard).close()


def _calls(stats: dict[str, dict[str, int]], command: str) -> int:
    return stats.get(f"cmdstat_{command}", {"calls": 0})["calls"]
