"""Occupancy in PostgreSQL when nodes die, leases are lost and the server goes away."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.config.settings import PostgresSettings
from gateway.occupancy.postgres import PostgresOccupancy
from gateway.postgres.database import Database
from gateway.postgres.owners import Intervals
from tests.occupancy.recorder import Recorder
from tests.postgres_fixtures import postgres_settings, running
from tests.postgres_server import PostgresServer
from tests.waiting import until


@pytest.fixture
def settings(postgres_server: PostgresServer) -> PostgresSettings:
    return postgres_settings(postgres_server)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@asynccontextmanager
async def node(
    settings: PostgresSettings, name: str, recorder: Recorder, *, lease: float = 0.5
) -> AsyncIterator[PostgresOccupancy]:
    database = Database(settings)
    occupancy = PostgresOccupancy(database, Intervals(lease, lease / 5, lease / 5))
    async with running(database):
        await occupancy.start(name, recorder)
        try:
            yield occupancy
        finally:
            await occupancy.close()


async def die(occupancy: PostgresOccupancy) -> None:
    """End a node's part as kill -9 would: nothing is given back, and ``close`` finds nothing."""
    await occupancy._owners.close()
    occupancy._states.clear()
    occupancy._owners._name = ""


async def test_what_a_dead_node_was_last_in_is_vacated_once(settings: PostgresSettings, recorder: Recorder) -> None:
    async with (
        node(settings, "n1", recorder) as one,
        node(settings, "n2", recorder) as two,
        node(settings, "n3", recorder) as three,
    ):
        for number in range(10):
            assert await three.enter(f"room{number}")
        assert not await one.enter("room3")
        await die(three)
        await until(lambda: len(recorder.events) >= 9)
        assert await two.enter("room1")
        assert await one.leave("room3")
    assert sorted(recorder.events[:9]) == sorted(f"-room{number}" for number in range(10) if number != 3)
    assert recorder.events[9:] == ["-room1"]  # as its node closed


async def test_a_node_that_was_swept_is_in_again_and_tells_of_it(
    settings: PostgresSettings, recorder: Recorder
) -> None:
    async with node(settings, "n1", recorder) as one, node(settings, "n2", recorder) as two:
        assert await two.enter("room")
        await two._owners.close()
        await until(lambda: recorder.events == ["-room"])
        await two._owners.start("n2")
        await until(lambda: recorder.events == ["-room", "+room"])
        assert not await one.enter("room")
        assert not await two.leave("room")
        assert await one.leave("room")


async def test_who_leaves_after_it_was_swept_vacates_nothing_again(
    settings: PostgresSettings, recorder: Recorder
) -> None:
    async with node(settings, "n1", recorder), node(settings, "n2", recorder) as two:
        assert await two.enter("room")
        await two._owners.close()
        await until(lambda: recorder.events == ["-room"])
        assert not await two.leave("room")


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_restart_of_the_server_vacates_nothing(recorder: Recorder, how: str) -> None:
    with PostgresServer() as server:
        settings = postgres_settings(server)
        async with (
            node(settings, "n1", recorder, lease=2) as one,
            node(settings, "n2", recorder, lease=2) as two,
        ):
            assert await one.enter("room")
            assert not await two.enter("room")
            assert await two.enter("left")
            getattr(server, how)()
            await until(lambda: not one._database.connected and not two._database.connected)
            assert not await two.leave("left")  # that cannot be told yet
            assert not await one.enter("late")
            server.start()
            await until(lambda: {"-left", "+late"} <= set(recorder.events))
            await until(lambda: not one._doubtful and not two._doubtful)
            assert not await one.leave("room")
            assert await two.leave("room")
            assert "-room" not in recorder.events
