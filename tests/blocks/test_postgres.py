"""The block list in PostgreSQL when nodes and the server come and go."""

import pytest

from gateway.blocks import postgres as module
from gateway.blocks.postgres import PostgresBlocks
from gateway.config.settings import PostgresSettings
from gateway.errors import BrokerUnavailable
from gateway.postgres.database import Database
from tests.blocks.recorder import Recorder
from tests.postgres_fixtures import postgres_settings, running
from tests.postgres_server import PostgresServer
from tests.waiting import until

HOUR = 3600.0


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY", 0.02)


@pytest.fixture
def settings(postgres_server: PostgresServer) -> PostgresSettings:
    return postgres_settings(postgres_server)


async def test_what_is_heard_while_the_list_is_read_is_newer(
    settings: PostgresSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    databases = Database(settings), Database(settings)
    blocks, other = [PostgresBlocks(database) for database in databases]
    recorder = Recorder()
    async with running(databases[0]), running(databases[1]):
        await other.block("ann", HOUR)
        await databases[0].echo()  # that has been heard
        fetch = databases[0].fetch

        async def late(statement: str, *args: object) -> list[object]:
            answer = await fetch(statement, *args)
            await other.unblock("ann")
            await other.block("bob", HOUR)
            await until(lambda: "+bob" in recorder.events)
            return answer

        with monkeypatch.context() as patched:
            patched.setattr(databases[0], "fetch", late)
            await blocks.start(recorder)
        assert recorder.events == ["-ann", "+bob", "list"]
        assert recorder.shown == {"bob": 1}
        await blocks.close()


async def test_who_was_cut_off_asks_what_is_true(settings: PostgresSettings) -> None:
    databases = Database(settings), Database(settings)
    blocks, other = [PostgresBlocks(database) for database in databases]
    recorder = Recorder()
    async with running(databases[0]), running(databases[1]):
        await blocks.start(recorder)
        await blocks.block("ann", HOUR)
        await until(lambda: recorder.shown == {"ann": 1})
        databases[0]._listener.drop("cut off")
        await other.unblock("ann")
        await other.block("bob", HOUR)
        await until(lambda: recorder.shown == {"bob": 1})
        await other.block("eve", HOUR)
        await until(lambda: recorder.shown == {"bob": 1, "eve": 1})
        await blocks.close()


async def test_a_node_may_start_before_the_server_and_the_list_outlives_it(caplog: pytest.LogCaptureFixture) -> None:
    with PostgresServer() as server:
        settings = postgres_settings(server)
        database = Database(settings)
        blocks = PostgresBlocks(database)
        async with running(database):
            await blocks.block("bob", float("inf"))
        server.kill()
        database = Database(settings)
        blocks, recorder = PostgresBlocks(database), Recorder()
        async with running(database):
            await blocks.start(recorder)
            assert recorder.events == []
            with pytest.raises(BrokerUnavailable):
                await blocks.block("ann", HOUR)
            server.start()
            await until(lambda: recorder.shown == {"bob": "ever"})
            assert caplog.text.count("the block list cannot be read until PostgreSQL answers") == 1
            await blocks.block("ann", HOUR)
            await until(lambda: recorder.shown == {"bob": "ever", "ann": 1})
            await blocks.close()
