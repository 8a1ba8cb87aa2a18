"""The broker on a real PostgreSQL: transactions of others, and what may happen to a server and its connections."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from gateway.brokers.base import Broker, Claim, Continued, HistoryFilter, PublishOptions, StreamOptions
from gateway.brokers.postgres import PostgresBroker
from gateway.brokers.rules import Rule
from gateway.config.settings import PostgresSettings
from gateway.core.recovery import resume
from gateway.errors import BrokerUnavailable, Error
from gateway.messages import Payload, Position, Publication
from gateway.postgres.owners import Intervals
from tests.brokers.postgres_nodes import postgres_broker
from tests.brokers.recorder import Recorder
from tests.postgres_fixtures import named, postgres_settings, standby_of
from tests.postgres_server import PostgresServer
from tests.waiting import until

PLAIN = StreamOptions()
KEPT = StreamOptions(history_size=100, history_ttl=60.0)
ALL = HistoryFilter(limit=-1)
RULES = [Rule("^chat:", KEPT), Rule("^(?!.*:).", PLAIN)]
FAST = Intervals(lease=0.5, renew=0.1, sweep=0.1)

Connection = Any


@pytest.fixture
def settings(postgres_server: PostgresServer) -> PostgresSettings:
    return postgres_settings(postgres_server)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def broker(settings: PostgresSettings, recorder: Recorder) -> AsyncIterator[PostgresBroker]:
    async with postgres_broker(settings, recorder, rules=RULES) as broker:
        yield broker


@asynccontextmanager
async def connected(settings: PostgresSettings) -> AsyncIterator[Connection]:
    """A program's own connection."""
    connection = await asyncpg.connect(settings.dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def count(connection: Connection, settings: PostgresSettings, table: str) -> int:
    return len(await connection.fetch("TABLE " + named(settings, f"gateway_{table}")))


async def say_by_sql(connection: Connection, settings: PostgresSettings, text: str, channel: str = "chat:lobby") -> int:
    statement = f"SELECT {settings.table_prefix}_publish($1, to_jsonb($2::text))"
    offset: int = await connection.fetchval(statement, channel, text)
    return offset


async def say(broker: Broker, text: str, channel: str = "chat:lobby", stream: StreamOptions = KEPT) -> Position:
    receipt = await broker.publish(channel, Publication(Payload(text.encode())), stream, PublishOptions())
    return Position(receipt.offset, receipt.epoch)


async def offsets(broker: Broker, channel: str = "chat:lobby") -> list[int]:
    publications, top = await broker.history(channel, ALL, KEPT)
    found = [each.offset for each in publications]
    assert top.offset == (found[-1] if found else 0)
    return found


def heard(recorder: Recorder) -> list[tuple[int, str]]:
    return [(each.offset, each.data.decode()) for _, each in recorder.publications]


async def waits_for_a_lock(settings: PostgresSettings, how_many: int = 1) -> None:
    async with connected(settings) as connection:

        async def waiting() -> bool:
            statement = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            return bool(await connection.fetchval(statement) >= how_many)

        await until(waiting)


# — publishing in a program's own transaction —


async def test_what_is_rolled_back_is_never_seen_and_what_is_committed_once(
    broker: PostgresBroker, settings: PostgresSettings, recorder: Recorder
) -> None:
    await broker.subscribe("chat:lobby")
    async with connected(settings) as connection:
        transaction = connection.transaction()
        await transaction.start()
        assert await say_by_sql(connection, settings, "never") == 1
        await transaction.rollback()
        async with connection.transaction():
            assert await say_by_sql(connection, settings, "a") == 1
            inner = connection.transaction()
            await inner.start()
            assert await say_by_sql(connection, settings, "never either") == 2
            await inner.rollback()
            assert await say_by_sql(connection, settings, "b") == 2
            assert await offsets(broker) == []
            _, seen = await broker.history("chat:lobby", ALL, KEPT)
            await broker.echo()
            assert recorder.publications == []
    # whoever has read before the first publication was committed stands in the same stream
    assert await say(broker, "c") == Position(3, seen.epoch)
    await until(lambda: len(recorder.publications) == 3)
    assert heard(recorder) == [(1, '"a"'), (2, '"b"'), (3, "c")]
    assert await offsets(broker) == [1, 2, 3]


async def test_equal_publications_of_one_transaction_are_as_many(
    broker: PostgresBroker, settings: PostgresSettings, recorder: Recorder
) -> None:
    await broker.subscribe("plain")
    async with connected(settings) as connection, connection.transaction():
        for _ in range(20):
            assert await say_by_sql(connection, settings, "same", "plain") == 0
    await asyncio.gather(*(say(broker, "same", "plain", PLAIN) for _ in range(20)))
    await until(lambda: len(recorder.publications) >= 40)
    await broker.echo()
    assert len(recorder.publications) == 40


async def test_a_second_transaction_waits_for_the_first_and_comes_behind_it(
    broker: PostgresBroker, settings: PostgresSettings, recorder: Recorder
) -> None:
    await broker.subscribe("chat:lobby")
    async with connected(settings) as one, connected(settings) as two:
        first, second = one.transaction(), two.transaction()
        await second.start()
        await first.start()
        assert await say_by_sql(one, settings, "first") == 1
        waiting = asyncio.create_task(say_by_sql(two, settings, "second"))
        await waits_for_a_lock(settings)
        assert not waiting.done()
        await first.commit()
        assert await waiting == 2
        await second.commit()
        await until(lambda: len(recorder.publications) == 2)
        assert heard(recorder) == [(1, '"first"'), (2, '"second"')]


async def test_nobody_ever_sees_a_hole(broker: PostgresBroker, settings: PostgresSettings, recorder: Recorder) -> None:
    """Many transactions, short and long, kept and not, against one who reads all the while."""
    await broker.subscribe("chat:lobby")
    chance = random.Random(7)
    committed: list[str] = []

    async def program(name: int) -> None:
        async with connected(settings) as connection:
            for number in range(15):
                text, transaction = f"{name}.{number}", connection.transaction()
                await transaction.start()
                await say_by_sql(connection, settings, text)
                await connection.execute("SELECT pg_sleep($1)", chance.random() / 100)
                if chance.random() < 0.3:
                    await transaction.rollback()
                else:
                    await transaction.commit()
                    committed.append(f'"{text}"')

    async def node() -> None:
        for number in range(30):
            await say(broker, f"node {number}")
            committed.append(f"node {number}")

    work = asyncio.gather(*(program(name) for name in range(6)), node())
    while not work.done():
        found = await offsets(broker)
        assert found == list(range(found[0] if found else 1, (found[-1] if found else 0) + 1))
    await work
    await until(lambda: len(recorder.publications) >= len(committed))
    assert [offset for offset, _ in heard(recorder)] == list(range(1, len(committed) + 1))
    assert sorted(text for _, text in heard(recorder)) == sorted(committed)


async def test_who_holds_one_channel_holds_up_no_other(broker: PostgresBroker, settings: PostgresSettings) -> None:
    async with connected(settings) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await say_by_sql(connection, settings, "held", "chat:a")
        held = [asyncio.create_task(say(broker, f"a{number}", "chat:a")) for number in range(3)]
        free = [asyncio.create_task(say(broker, f"b{number}", "chat:b")) for number in range(3)]
        assert [position.offset for position in await asyncio.gather(*free)] == [1, 2, 3]
        assert (await say(broker, "b3", "chat:b")).offset == 4
        later = asyncio.create_task(say(broker, "a3", "chat:a"))
        assert await offsets(broker, "chat:b") == [1, 2, 3, 4]
        await waits_for_a_lock(settings)
        assert not any(task.done() for task in held)
        await transaction.commit()
        assert [position.offset for position in await asyncio.gather(*held, later)] == [2, 3, 4, 5]


async def test_many_held_channels_leave_connections_to_the_others(
    broker: PostgresBroker, settings: PostgresSettings
) -> None:
    rooms = [f"chat:{number}" for number in range(3 * settings.pool_size)]
    async with connected(settings) as connection:
        transaction = connection.transaction()
        await transaction.start()
        for room in rooms:
            await say_by_sql(connection, settings, "held", room)
        held = [asyncio.create_task(say(broker, "a", room)) for room in rooms]
        await waits_for_a_lock(settings, settings.pool_size // 2)
        for number in range(1, 4):
            assert (await say(broker, "b", "chat:free")).offset == number
            assert await offsets(broker, "chat:free") == list(range(1, number + 1))
        assert not any(task.done() for task in held)
        await transaction.commit()
        assert {position.offset for position in await asyncio.gather(*held)} == {2}


async def test_more_than_one_look_at_what_has_expired(broker: PostgresBroker, settings: PostgresSettings) -> None:
    await asyncio.gather(*(say(broker, "a", f"chat:{number}") for number in range(25)))
    async with connected(settings) as connection:
        await connection.execute(named(settings, "UPDATE gateway_streams SET expires = clock_timestamp()"))
        clean = named(settings, "SELECT gateway_clean(10)")
        assert [await connection.fetchval(clean) for _ in range(3)] == [True, True, False]
        assert await count(connection, settings, "streams") == 0


async def test_what_has_expired_is_removed_by_itself(postgres_server: PostgresServer) -> None:
    settings = postgres_settings(postgres_server, cleanup_interval=0.05)
    stream = StreamOptions(history_size=5, history_ttl=0.05)
    async with postgres_broker(settings, Recorder()) as broker, connected(settings) as connection:
        await say(broker, "a", stream=stream)

        async def removed() -> bool:
            return await count(connection, settings, "publications") == 0

        await until(removed)


async def test_who_holds_a_channel_for_long_is_not_waited_for_without_end(
    broker: PostgresBroker, settings: PostgresSettings
) -> None:
    loop = asyncio.get_running_loop()
    async with connected(settings) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await say_by_sql(connection, settings, "held")
        began = loop.time()
        with pytest.raises(BrokerUnavailable) as caught:
            await say(broker, "in vain")
        assert caught.value.stored == "no"
        assert loop.time() - began < 5.5
        await transaction.rollback()
    assert (await say(broker, "a")).offset == 1


async def test_a_reader_does_not_wait_for_who_publishes(broker: PostgresBroker, settings: PostgresSettings) -> None:
    position = await say(broker, "a")
    async with connected(settings) as connection:
        short = "UPDATE gateway_streams SET expires = clock_timestamp() + interval '5s'"
        await connection.execute(named(settings, short))
        transaction = connection.transaction()
        await transaction.start()
        await say_by_sql(connection, settings, "held")
        assert await offsets(broker) == [1]
        assert await broker.verify([Claim("chat:lobby", position, KEPT, hold=100.0)]) == [True]
        await transaction.commit()


async def test_all_that_sql_may_say(broker: PostgresBroker, settings: PostgresSettings, recorder: Recorder) -> None:
    await broker.subscribe("chat:lobby")
    async with connected(settings) as connection:

        async def offset(arguments: str, *values: object, function: str = "publish") -> int:
            statement = named(settings, f"SELECT gateway_{function}('chat:lobby', {arguments})")
            found: int = await connection.fetchval(statement, *values)
            return found

        tagged = """'{"ü": 1}', p_tags := '{"k": "ö", "n": "2"}', p_idempotency_key := 'k'"""
        assert [await offset(tagged) for _ in range(2)] == [1, 1]
        assert [await offset("'2', p_version := 7, p_version_epoch := 'e'") for _ in range(2)] == [2, 2]
        assert await offset("$1", bytes(range(256)), function="publish_binary") == 3
        with pytest.raises(asyncpg.RaiseError, match='unknown channel "shop:1"'):
            await say_by_sql(connection, settings, "a", "shop:1")
    await until(lambda: len(recorder.publications) == 3)
    first, second, third = (publication for _, publication in recorder.publications)
    assert (first.data, first.tags, first.binary) == ('{"ü": 1}'.encode(), {"k": "ö", "n": "2"}, False)
    assert first.time > 1_600_000_000_000
    assert (second.data, second.version, first.version) == (b"2", 7, 0)
    assert (third.data, third.binary) == (bytes(range(256)), True)
    assert await offsets(broker) == [1, 2, 3]


# — what is carried —


@pytest.mark.parametrize("stream", [KEPT, PLAIN])
async def test_long_publications_come_in_their_place(
    broker: PostgresBroker, recorder: Recorder, stream: StreamOptions
) -> None:
    await broker.subscribe("chat:lobby")
    sizes = [10, 100_000, 20, 6000, 5600, 5500, 8000, 30, 300_000, 40]
    await asyncio.gather(*(say(broker, "x" * size, stream=stream) for size in sizes))
    await broker.publish_control(b"c" * 50_000)
    await until(lambda: recorder.controls)
    assert [len(publication.data) for _, publication in recorder.publications] == sizes
    assert recorder.controls == [b"c" * 50_000]


async def test_names_that_a_database_cannot_keep_are_refused(broker: PostgresBroker) -> None:
    for channel in ("a\0b", "\ud800"):
        with pytest.raises(Error, match="107"):
            await say(broker, "a", channel)
        with pytest.raises(Error, match="107"):
            await broker.history(channel, ALL, KEPT)
    with pytest.raises(Error, match="107"):
        await broker.publish("a", Publication(Payload(b"1")), KEPT, PublishOptions(version=2**63))
    assert (await say(broker, "a")).offset == 1


async def test_several_nodes_hear_each_other(settings: PostgresSettings) -> None:
    one, two = Recorder(), Recorder()
    async with postgres_broker(settings, one, "n1") as first, postgres_broker(settings, two, "n2") as second:
        await asyncio.gather(first.subscribe("chat:lobby"), second.subscribe("chat:lobby"))
        assert await first.hearers(["chat:lobby"]) == [2]
        await asyncio.gather(*(say(broker, "x") for broker in (first, second) for _ in range(50)))
        await until(lambda: len(one.publications) == len(two.publications) == 100)
        assert [offset for offset, _ in heard(one)] == [offset for offset, _ in heard(two)] == list(range(1, 101))
        await first.publish_control(b"you", node="n2")
        await until(lambda: two.controls)
        assert (one.controls, two.controls) == ([], [b"you"])


async def test_a_subscription_that_fails_late_does_not_end_the_one_after_it(
    broker: PostgresBroker, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answered = asyncio.Event(), asyncio.Event()

    async def send(topics: list[str], patience: str) -> Sequence[None]:
        monkeypatch.undo()
        asked.set()
        await answered.wait()
        raise BrokerUnavailable

    monkeypatch.setattr(broker._hearing, "_send", send)
    first = asyncio.ensure_future(broker.subscribe("news"))
    await asked.wait()
    ended, second = asyncio.ensure_future(broker.unsubscribe("news")), asyncio.ensure_future(broker.subscribe("news"))
    answered.set()
    with pytest.raises(BrokerUnavailable):
        await first
    await asyncio.gather(ended, second)
    publication = Publication(Payload(b"1"))
    assert (await broker.publish("news", publication, PLAIN, PublishOptions())).nodes == 1
    await until(lambda: recorder.publications)


async def test_a_dead_node_is_not_counted_for_long(settings: PostgresSettings) -> None:
    async with (
        postgres_broker(settings, Recorder(), "n1", intervals=FAST) as first,
        postgres_broker(settings, Recorder(), "n2", intervals=FAST) as second,
    ):
        await asyncio.gather(first.subscribe("chat:lobby"), second.subscribe("chat:lobby"))
        await second._owners.close()  # it renews no more
        await until(lambda: counted(first, 1))

        async def swept() -> bool:
            async with connected(settings) as connection:
                one_hears = named(settings, "SELECT count(*) = 1 FROM gateway_hearing")
                return bool(await connection.fetchval(one_hears))

        await until(swept)


async def counted(broker: Broker, nodes: int) -> bool:
    return await broker.hearers(["chat:lobby"]) == [nodes]


async def test_a_node_that_was_swept_is_counted_again(settings: PostgresSettings) -> None:
    async with postgres_broker(settings, Recorder(), intervals=FAST) as broker, connected(settings) as connection:
        await broker.subscribe("chat:lobby")
        name = broker._owners.name
        swept = "UPDATE gateway_owners SET swept = clock_timestamp(), until = clock_timestamp()"
        await connection.execute(named(settings, swept))
        await connection.execute(named(settings, "DELETE FROM gateway_hearing"))
        await until(lambda: counted(broker, 1))
        assert broker._owners.name != name


# — streams that end —


async def test_streams_of_another_timeline_go_on_under_another_epoch(
    broker: PostgresBroker, settings: PostgresSettings
) -> None:
    """A promoted standby may lack what has been accepted: who has seen that may take nothing for a continuation."""
    position = await say(broker, "a")
    tops = [position]
    for timeline in ("00000098", "00000099"):
        async with connected(settings) as connection:
            elsewhere = "UPDATE gateway_streams SET timeline = $1"
            await connection.execute(named(settings, elsewhere), timeline)
        assert await broker.verify([Claim("chat:lobby", tops[-1], KEPT, hold=1.0)]) == [False]
        publications, top = await broker.history("chat:lobby", ALL, KEPT)
        assert [each.offset for each in publications] == list(range(1, len(tops) + 1))
        assert isinstance(top, Continued)
        assert top.former == tuple(tops)
        tops.append(await say(broker, "b"))
        assert tops[-1] == Position(len(tops), top.epoch)
    assert len({each.epoch for each in tops}) == 3
    assert resume(position, top) == (Position(1, top.epoch), Position(2, top.epoch))
    beyond = Position(2, position.epoch)  # seen on the server that was, and lost
    assert resume(beyond, top)[0] == beyond


async def test_what_has_expired_is_gone_and_then_removed(broker: PostgresBroker, settings: PostgresSettings) -> None:
    position = await say(broker, "a")
    async with connected(settings) as connection:

        async def rows(table: str) -> int:
            assert not await connection.fetchval(named(settings, "SELECT gateway_clean(2)"))
            return await count(connection, settings, table)

        assert (await rows("publications"), await rows("streams")) == (1, 1)
        await connection.execute(named(settings, "UPDATE gateway_streams SET kept_until = clock_timestamp()"))
        assert (await broker.history("chat:lobby", ALL, KEPT)) == ([], position)
        assert (await rows("publications"), await rows("streams")) == (0, 1)
        assert await say(broker, "b") == Position(2, position.epoch)
        assert await offsets(broker) == [2]
        await connection.execute(named(settings, "UPDATE gateway_streams SET expires = clock_timestamp()"))
        assert (await rows("publications"), await rows("streams")) == (0, 0)
        anew = await say(broker, "c")
        assert anew.offset == 1
        assert anew.epoch != position.epoch
        assert await offsets(broker) == [1]


async def test_publications_below_the_floor_do_not_pile_up(broker: PostgresBroker, settings: PostgresSettings) -> None:
    stream = StreamOptions(history_size=5, history_ttl=60.0)
    await asyncio.gather(*(say(broker, str(number), stream=stream) for number in range(40)))
    for number in range(20):
        await say(broker, str(number), stream=stream)
    async with connected(settings) as connection:
        assert await count(connection, settings, "publications") == 5
    assert await offsets(broker) == [56, 57, 58, 59, 60]


# — faults —


async def test_a_terminated_listener_comes_back_and_tells_of_the_gap(
    broker: PostgresBroker, recorder: Recorder, postgres_server: PostgresServer
) -> None:
    await broker.subscribe("chat:lobby")
    await say(broker, "a")
    await until(lambda: recorder.publications)
    assert postgres_server.terminate_backends(f"LISTEN%{broker._database.names.news}%") == 1
    await until(lambda: recorder.gaps)
    assert broker.health().reconnects == 1
    await say(broker, "b")
    await until(lambda: "b" in recorder.texts)
    assert await offsets(broker) == [1, 2]


async def test_statements_go_on_after_their_connections_were_terminated(
    broker: PostgresBroker, settings: PostgresSettings
) -> None:
    await asyncio.gather(*(say(broker, "a", f"chat:{number}") for number in range(20)))
    async with connected(settings) as connection:
        all_of_them = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1"
        assert len(await connection.fetch(all_of_them, settings.table_prefix)) > 1

    async def works() -> bool:
        try:
            return bool(await say(broker, "b"))
        except BrokerUnavailable:
            return False

    await until(works)


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_server_that_restarts_keeps_streams_and_who_hears_what(how: str) -> None:
    with PostgresServer() as server:
        settings, recorder = postgres_settings(server), Recorder()
        async with postgres_broker(settings, recorder, rules=RULES) as broker:
            await broker.subscribe("chat:lobby")
            position = await say(broker, "a")
            getattr(server, how)()
            await until(lambda: not broker.health().ok)
            with pytest.raises(BrokerUnavailable) as caught:
                await say(broker, "lost")
            assert caught.value.stored == "no"
            with pytest.raises(BrokerUnavailable):
                await broker.subscribe("chat:other")
            server.start()
            await until(lambda: recorder.gaps)
            assert await say(broker, "b") == Position(2, position.epoch)
            await until(lambda: "b" in recorder.texts)
            assert await offsets(broker) == [1, 2]
            await until(lambda: counted(broker, 1))
            assert broker.health().ok


async def test_a_server_that_says_nothing_is_given_up_in_time() -> None:
    loop = asyncio.get_running_loop()
    with PostgresServer() as server:
        settings, recorder = postgres_settings(server, probe_interval=0.2, io_timeout=0.5), Recorder()
        async with postgres_broker(settings, recorder) as broker:
            await broker.subscribe("chat:lobby")
            await say(broker, "a")
            server.pause()
            began = loop.time()
            answers = await asyncio.gather(*(say(broker, "b", f"chat:{n}") for n in range(30)), return_exceptions=True)
            assert {type(answer) for answer in answers} == {BrokerUnavailable}
            assert {getattr(answer, "stored", "") for answer in answers} == {"maybe"}
            assert loop.time() - began < 5
            server.resume()

            async def works() -> bool:
                try:
                    return bool(await say(broker, "c"))
                except BrokerUnavailable:
                    return False

            await until(works)
            await until(lambda: "c" in recorder.texts)


async def test_a_deaf_listener_is_found_out(postgres_server: PostgresServer, recorder: Recorder) -> None:
    settings = postgres_settings(postgres_server, probe_interval=0.05)
    async with postgres_broker(settings, recorder) as broker:
        await broker.subscribe("chat:lobby")
        await broker._database._listener.connection.execute("UNLISTEN *")
        await until(lambda: recorder.gaps)
        await say(broker, "a")
        await until(lambda: recorder.texts == ["a"])
        await until(lambda: broker.health().ok)


async def test_a_node_may_start_before_the_server(caplog: pytest.LogCaptureFixture) -> None:
    with PostgresServer() as server:
        server.stop()
        async with postgres_broker(postgres_settings(server), Recorder()) as broker:
            assert not broker.health().ok
            with pytest.raises(BrokerUnavailable):
                await say(broker, "a")
            server.start()
            await until(lambda: broker.health().ok)
            assert (await say(broker, "a")).offset == 1
        assert caplog.text.count("trying again until it works") >= 1


async def test_what_the_server_refuses_for_good_is_told(postgres_server: PostgresServer) -> None:
    settings = PostgresSettings(dsn=postgres_server.database_url("nowhere"))
    async with postgres_broker(settings, Recorder()) as broker:
        health = broker.health()
        assert (health.ok, health.refusal) == (False, "InvalidCatalogName")


async def test_many_nodes_may_start_at_once(postgres_server: PostgresServer) -> None:
    settings = postgres_settings(postgres_server)

    async def once(name: str) -> int:
        async with postgres_broker(settings, Recorder(), name) as broker:
            return (await say(broker, name)).offset

    found: Sequence[int] = await asyncio.gather(*(once(f"n{number}") for number in range(8)))
    assert sorted(found) == list(range(1, 9))


async def test_after_a_failover_streams_are_others_and_everything_goes_on() -> None:
    recorder = Recorder()
    with PostgresServer() as primary, standby_of(primary) as standby:
        hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
        dsn = f"postgres://postgres@{hosts}/postgres?target_session_attrs=primary"
        settings = postgres_settings(primary).model_copy(update={"dsn": dsn})
        async with postgres_broker(settings, recorder, rules=RULES) as broker:
            await broker.subscribe("chat:lobby")
            position = await say(broker, "a")
            await until(lambda: replicated(standby, settings))
            primary.kill()
            standby.sql("SELECT pg_promote()")
            await until(lambda: recorder.gaps)
            assert await broker.verify([Claim("chat:lobby", position, KEPT, hold=10.0)]) == [False]
            anew = await say(broker, "b")
            assert anew.offset == 2
            assert anew.epoch != position.epoch
            _, top = await broker.history("chat:lobby", ALL, KEPT)
            assert resume(position, top) == (Position(1, anew.epoch), anew)
            await say(broker, "x" * 50_000)
            await until(lambda: recorder.texts == ["a", "b", "x" * 50_000])
            await until(lambda: counted(broker, 1))


def replicated(standby: PostgresServer, settings: PostgresSettings) -> bool:
    try:
        return standby.sql(named(settings, "SELECT top FROM gateway_streams")) == ["1"]
    except RuntimeError:  # not even the table
        return False


async def test_a_standby_is_refused() -> None:
    with PostgresServer() as primary, standby_of(primary) as standby:
        async with postgres_broker(postgres_settings(standby), Recorder()) as broker:
            assert broker.health().refusal == "ReadOnlySQLTransaction"
            with pytest.raises(BrokerUnavailable):
                await say(broker, "a")
