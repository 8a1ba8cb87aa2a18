"""A line on a real PostgreSQL: what may happen to it, and that nobody stays deaf."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from gateway.broadcast import postgres as backend
from gateway.broadcast.backends import Backing
from gateway.broadcast.line import Line
from gateway.broadcast.peers import Peers
from gateway.config.settings import BroadcasterSettings
from gateway.errors import BrokerUnavailable, Error
from tests.broadcast.fake import FakeBackend
from tests.broadcast.lines import started_line
from tests.postgres_server import PostgresServer
from tests.waiting import settle, until


@pytest.fixture(scope="module")
def breakable() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def own(breakable: PostgresServer) -> Iterator[PostgresServer]:
    """A server to be stopped, killed and paused."""
    yield breakable
    breakable.kill()
    breakable.start()


class Heard(list[bytes]):
    """What a line has brought to a channel, in order; and the number of its gaps."""

    def __init__(self, line: Line, name: str = "news") -> None:
        super().__init__()
        self.gaps = 0
        line.handlers["m", name] = self.append
        line.on_reconnect.append(self._gap)

    def _gap(self) -> None:
        self.gaps += 1


async def say(line: Line, text: str | bytes, name: str = "news") -> None:
    await line.publish("m", name, text if isinstance(text, bytes) else text.encode())


async def hears_again(speaker: Line, heard: Heard) -> None:
    """Whoever speaks is heard, once both lines have come back."""

    async def said() -> bool:
        try:
            await say(speaker, b"again")
        except BrokerUnavailable:
            return False
        return b"again" in heard

    await until(said, what="heard again")


async def test_two_lines_hear_each_other_in_one_order(postgres_server: PostgresServer) -> None:
    url = postgres_server.create_database("two")
    async with started_line(url) as (one, _), started_line(url) as (two, _):
        heard = [Heard(one), Heard(two)]
        await asyncio.gather(*(say(line, f"{line.uid}:{n}") for n in range(100) for line in (one, two)))
        await until(lambda: len(heard[0]) == len(heard[1]) == 200)
        assert heard[0] == heard[1]
        for line in (one, two):
            own = [text for text in heard[0] if text.startswith(line.uid.encode())]
            assert own == [f"{line.uid}:{n}".encode() for n in range(100)]


async def test_names_of_one_database_are_apart(postgres_server: PostgresServer) -> None:
    url = postgres_server.create_database("names")
    async with started_line(url) as (one, _), started_line(url, name="other") as (two, _):
        heard = Heard(two)
        await say(one, b"a")
        await say(two, b"b")
        await until(lambda: heard == [b"b"])


@pytest.mark.parametrize("end", ["listener", "stop", "kill", "both"])
async def test_a_connection_that_ends_is_made_again(own: PostgresServer, end: str) -> None:
    async with started_line(own.url) as (one, _), started_line(own.url) as (two, _):
        heard = Heard(one)
        lines = (one, two)
        if end == "listener":
            own.terminate_backends("%pg_notify%")
        elif end == "both":
            own.terminate_backends()
        else:
            own.stop() if end == "stop" else own.kill()
            await until(lambda: not any(line.connected for line in lines))
            with pytest.raises(BrokerUnavailable):
                await say(two, b"unheard")
            own.start()
        await until(lambda: all(line.reconnects and line.connected for line in lines))
        assert heard.gaps == one.reconnects
        await say(two, b"a" * 100_000)
        await say(two, b"b")
        await until(lambda: heard == [b"a" * 100_000, b"b"])
        assert (one.deaf, one.refusal) == (False, "")


async def test_a_reader_of_parcels_that_ends_is_made_again(own: PostgresServer) -> None:
    async with started_line(own.url) as (line, _):
        heard = Heard(line)
        await say(line, b"a" * 100_000)
        await until(lambda: heard)
        assert own.terminate_backends("SELECT data FROM%") == 1
        await until(lambda: line.reconnects == 1)
        await say(line, b"b" * 100_000)
        await until(lambda: len(heard) == 2)


async def test_a_server_that_answers_nothing_is_given_up(own: PostgresServer) -> None:
    async with started_line(own.url, io_timeout=0.3, probe_interval=0.1) as (line, _):
        heard = Heard(line)
        own.pause()
        publishing = asyncio.ensure_future(say(line, b"a"))
        await until(lambda: not line.connected)
        with pytest.raises(BrokerUnavailable):
            await publishing
        own.resume()
        await hears_again(line, heard)
        assert heard.gaps >= 1


async def test_a_thousand_channels_are_heard_after_a_restart(own: PostgresServer) -> None:
    async with started_line(own.url) as (one, _), started_line(own.url) as (two, _):
        heard = [Heard(one, f"room{number}") for number in range(1000)]
        own.kill()
        own.start()
        await until(lambda: one.reconnects and two.reconnects and one.connected and two.connected)
        await asyncio.gather(*(say(two, str(number), f"room{number}") for number in range(1000)))
        await until(lambda: all(heard))
        assert [list(each) for each in heard] == [[str(number).encode()] for number in range(1000)]


async def test_start_without_a_server(own: PostgresServer, caplog: pytest.LogCaptureFixture) -> None:
    own.stop()
    async with started_line(own.url) as (line, peers):
        assert not line.connected
        with pytest.raises(BrokerUnavailable):
            await say(line, b"a")
        with pytest.raises(BrokerUnavailable):
            await peers.ask("any", b"")
        heard = Heard(line)
        own.start()
        await until(lambda: line.connected)
        assert heard.gaps == 0
        await say(line, b"a")
        await until(lambda: heard == [b"a"])
    assert "trying again until it works" in caplog.text


async def test_what_lastingly_refuses_is_said_without_the_password(
    postgres_server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    postgres_server.create_database("closed")
    url = postgres_server.database_url("nowhere").replace("postgres@", "postgres:hidden@")
    async with started_line(url) as (line, _):
        assert line.refusal == "InvalidCatalogNameError"
        assert 'database "nowhere" does not exist' in caplog.text
        assert "hidden" not in caplog.text


async def test_who_may_not_make_the_table_is_told_what_to_run(
    postgres_server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    url = postgres_server.create_database("tables")
    postgres_server.sql("DROP ROLE IF EXISTS app")
    postgres_server.sql("CREATE ROLE app LOGIN")
    postgres_server.sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC", "tables")
    async with started_line(url.replace("postgres@", "app@")) as (line, _):
        assert line.refusal == "NoTable"
        [said] = [record.getMessage() for record in caplog.records if "GRANT" in record.getMessage()]
        statements = said.partition('"')[2].partition('"')[0].replace("<the user of the URL>", "app").split("; ")
        for statement in statements:
            postgres_server.sql(statement, "tables")
        await until(lambda: line.connected)
        assert not line.refusal
        heard = Heard(line)
        await say(line, b"a" * 100_000)
        await until(lambda: heard)


async def test_the_table_is_made_once_by_many_at_a_time(
    postgres_server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    url = postgres_server.create_database("race")
    async with AsyncExitStack() as stack:
        lines = [started_line(url, name=f"name{number // 8}") for number in range(40)]
        started = await asyncio.gather(*(stack.enter_async_context(line) for line in lines))
        assert all(line.connected for line, _ in started)
    assert not caplog.text


async def test_parcels_are_thrown_away(postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "TRIMMED_EVERY", 0.0)
    url = postgres_server.create_database("parcels")
    async with started_line(url, probe_interval=0.05) as (line, _):
        heard = Heard(line)
        for number in range(3):
            await say(line, bytes([number]) * 100_000)
        await until(lambda: len(heard) == 3)
        assert postgres_server.sql("SELECT count(*) FROM gateway_parcels", "parcels") == ["3"]
        postgres_server.sql("UPDATE gateway_parcels SET stored_at = now() - interval '61 s' WHERE id < 3", "parcels")
        await until(lambda: postgres_server.sql("SELECT count(*) FROM gateway_parcels", "parcels") == ["1"])


async def test_a_parcel_that_has_gone_is_told_of_and_costs_nothing_else(
    postgres_server: PostgresServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres_server.create_database("gone")

    async def fetch(self: backend.Postgres, parcel: int) -> bytes | None:
        return None

    monkeypatch.setattr(backend.Postgres, "fetch", fetch)
    async with started_line(url) as (line, _):
        heard = Heard(line)
        await say(line, b"a" * 100_000)
        await say(line, b"b")
        await until(lambda: heard == [b"b"])
        assert line.connected
    assert "missed" in caplog.text


async def test_nobody_fetches_what_is_for_others(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres_server.create_database("others")
    fetched: list[int] = []
    fetch = backend.Postgres.fetch

    async def noted(self: backend.Postgres, parcel: int) -> bytes | None:
        fetched.append(parcel)
        return await fetch(self, parcel)

    monkeypatch.setattr(backend.Postgres, "fetch", noted)
    async with started_line(url) as (one, _), started_line(url) as (two, _):
        heard = Heard(one)
        await say(two, b"a" * 100_000, "else")
        await say(two, b"b" * 100_000)
        await until(lambda: heard)
        assert len(fetched) == 1


async def test_what_is_not_ours_is_ignored(postgres_server: PostgresServer, caplog: pytest.LogCaptureFixture) -> None:
    url = postgres_server.create_database("strange")
    async with started_line(url) as (line, _):
        heard = Heard(line)
        for text in ("hello", "lQ==", "é", "gaJhYgE=", ""):
            postgres_server.sql(f"SELECT pg_notify('gateway', '{text}')", "strange")
        await say(line, b"a")
        await until(lambda: heard == [b"a"])
        assert line.connected
    assert caplog.text.count("is not ours") == 1


# — on a backend that does as it is told —


@asynccontextmanager
async def fake_line(fake: FakeBackend, largest: int = 0) -> AsyncIterator[Line]:
    settings = BroadcasterSettings(url="memory://", io_timeout=0.2, probe_interval=0.05)
    line = Line(settings, lambda: Backing(fake, largest))
    Peers(line, settings.probe_interval)
    await line.start()
    yield line
    await line.close()


async def test_deaf_without_an_error_it_is_connected_again() -> None:
    fake = FakeBackend()
    async with fake_line(fake) as line:
        heard = Heard(line)
        fake.deaf = True
        await until(lambda: line.deaf)
        fake.deaf = False
        await until(lambda: line.reconnects == 1)
        await say(line, b"a")
        await until(lambda: heard == [b"a"])
        assert (line.deaf, heard.gaps) == (False, 1)


async def test_it_counts_as_connected_only_when_it_hears() -> None:
    fake = FakeBackend()
    fake.deaf = True
    settings = BroadcasterSettings(url="memory://", io_timeout=0.2, probe_interval=0.05)
    line = Line(settings, lambda: Backing(fake))
    starting = asyncio.create_task(line.start())
    await until(lambda: fake.published > 2)
    assert not starting.done()
    heard = Heard(line)
    with pytest.raises(BrokerUnavailable):
        await say(line, b"a")
    fake.deaf = False
    await starting
    await say(line, b"b")
    await until(lambda: heard == [b"b"])
    await line.close()


@pytest.mark.parametrize("failure", [RuntimeError("broken"), asyncio.CancelledError()])
@pytest.mark.parametrize("what", ["listening", "publishing", "disconnecting", "connecting"])
async def test_whatever_fails_is_made_again(what: str, failure: BaseException) -> None:
    """Some backends let their own cancellation escape, which must end nobody else."""
    fake = FakeBackend()
    async with fake_line(fake) as line:
        heard = Heard(line)
        if what == "publishing":
            fake.publishing = failure
            await until(lambda: not line.connected)
            fake.publishing = None
        else:
            fake.disconnecting = failure if what == "disconnecting" else None
            fake.connecting = failure if what == "connecting" else None
            fake.fail_listening(failure)
            await until(lambda: fake.connects > 1)
            fake.connecting = None
        await until(lambda: line.reconnects == 1)
        await say(line, b"a")
        await until(lambda: heard == [b"a"])


async def test_a_publish_that_fails_is_told_to_all_who_wait() -> None:
    fake = FakeBackend()
    async with fake_line(fake) as line:
        fake.publishing = RuntimeError("broken")
        outcomes = await asyncio.gather(*(say(line, b"a") for _ in range(50)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [BrokerUnavailable] * 50
        fake.publishing = None
        await until(lambda: line.reconnects == 1)


async def test_too_large_for_the_backend_is_refused_and_harms_nobody() -> None:
    async with fake_line(FakeBackend(), largest=1000) as line:
        heard = Heard(line)
        outcomes = await asyncio.gather(
            say(line, b"a"), say(line, b"b" * 1000), say(line, b"c"), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [type(None), Error, type(None)]
        assert "1000 bytes, and the backend takes" in str(outcomes[1])
        await until(lambda: heard == [b"a", b"c"])
        assert line.connected


async def test_batches_fit_the_backend() -> None:
    fake = FakeBackend()
    async with fake_line(fake, largest=1000) as line:
        heard = Heard(line)
        await asyncio.gather(*(say(line, b"x" * (number * 7 % 600)) for number in range(200)))
        await until(lambda: len(heard) == 200)
        assert fake.longest <= 1000
        assert fake.published < 200


async def test_who_gives_up_publishing_disturbs_nobody() -> None:
    fake = FakeBackend()
    async with fake_line(fake) as line:
        heard = Heard(line)
        first, second = (asyncio.create_task(say(line, text)) for text in (b"a", b"b"))
        await asyncio.sleep(0)
        first.cancel()
        await second
        await until(lambda: b"b" in heard)


async def test_a_handler_that_fails_costs_only_its_message(caplog: pytest.LogCaptureFixture) -> None:
    async with fake_line(FakeBackend()) as line:
        heard = Heard(line)

        def broken(_data: bytes) -> None:
            raise RuntimeError("broken")

        line.handlers["m", "bad"] = broken
        await say(line, b"a", "bad")
        await say(line, b"b")
        await until(lambda: heard == [b"b"])
        assert line.connected
    assert "could not be taken in" in caplog.text


async def test_no_echo_makes_nobody_wait_for_long(caplog: pytest.LogCaptureFixture) -> None:
    fake = FakeBackend()
    settings = BroadcasterSettings(url="memory://", io_timeout=4, probe_interval=10)
    line = Line(settings, lambda: Backing(fake))
    await line.start()
    fake.deaf = True
    await say(line, b"a")
    await line.echo()
    assert "nobody waits" in caplog.text
    await line.echo()
    await line.close()


async def test_closing_ends_who_waits(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    fake = FakeBackend()
    async with fake_line(fake) as line:
        fake.stuck = True
        waiting = asyncio.create_task(say(line, b"a"))
        await settle()
    with pytest.raises(BrokerUnavailable):
        await waiting
    assert not caplog.text
