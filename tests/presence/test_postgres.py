"""Presence in PostgreSQL when nodes die, are frozen and come back, and when the server goes away."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from gateway.config.settings import PostgresSettings
from gateway.errors import BrokerUnavailable
from gateway.messages import ClientInfo
from gateway.postgres import listener
from gateway.postgres.database import Database
from gateway.postgres.owners import Intervals
from gateway.presence.postgres import PostgresPresence
from tests.postgres_fixtures import named, postgres_settings, running
from tests.postgres_server import PostgresServer
from tests.waiting import until

ANN = ClientInfo("ann", "c1")
BOB = ClientInfo("bob", "c2")

Members = list[tuple[str, ClientInfo]]


@pytest.fixture
def settings(postgres_server: PostgresServer) -> PostgresSettings:
    return postgres_settings(postgres_server)


@asynccontextmanager
async def node(
    settings: PostgresSettings,
    name: str,
    swept: Members | None = None,
    returned: Members | None = None,
    *,
    lease: float = 0.5,
) -> AsyncIterator[PostgresPresence]:
    gone: Members = [] if swept is None else swept
    back: Members = [] if returned is None else returned
    database = Database(settings)
    presence = PostgresPresence(database, Intervals(lease, lease / 5, lease / 5))
    async with running(database):
        await presence.start(name, lambda *member: gone.append(member), lambda *member: back.append(member))
        try:
            yield presence
        finally:
            await presence.close()


async def freeze(presence: PostgresPresence) -> None:
    """Have a node do nothing any more by itself, as one that is stopped."""
    await presence._owners.close()


async def thaw(presence: PostgresPresence) -> None:
    await presence._owners.start(presence._owners._node)


async def die(presence: PostgresPresence) -> None:
    """End a node's presence as kill -9 would: nothing is given back, and ``close`` finds nothing."""
    await freeze(presence)
    presence._members.clear()
    presence._owners._name = ""


async def run(settings: PostgresSettings, statement: str, *args: Any) -> list[Any]:
    connection = await asyncpg.connect(settings.dsn)
    try:
        rows: list[Any] = await connection.fetch(named(settings, statement), *args)
        return rows
    finally:
        await connection.close()


async def present(presence: PostgresPresence, *clients: str) -> bool:
    members = await presence.members("news")
    return sorted(members) == sorted(clients) and await presence.stats("news") == (len(clients), len(clients))


async def test_a_killed_nodes_members_are_swept_once_and_told_of_by_one(settings: PostgresSettings) -> None:
    swept: Members = []
    async with (
        node(settings, "n1", swept) as one,
        node(settings, "n2", swept),
        node(settings, "n3", swept) as three,
    ):
        await one.add("news", ANN)
        for number in range(1200):
            await three.add("news", ClientInfo("bob", f"b{number}"))
        await die(three)
        await until(lambda: present(one, "c1"))  # readers leave out those without a lease, before and after the sweep
        await until(lambda: len(swept) >= 1200)

        async def all_told() -> bool:
            [(told,)] = await run(settings, "SELECT bool_and(told) FROM gateway_owners WHERE owner LIKE 'n3.%'")
            return bool(told)

        await until(all_told)
        assert sorted(info.client for _, info in swept) == sorted(f"b{number}" for number in range(1200))
        assert await present(one, "c1")
        assert [row[0] for row in await run(settings, "SELECT client FROM gateway_members")] == ["c1"]


async def test_a_node_that_was_frozen_and_swept_is_back_and_says_so(settings: PostgresSettings) -> None:
    swept: Members = []
    returned: Members = []
    async with node(settings, "n1", swept) as one, node(settings, "n2", swept, returned) as two:
        await one.add("news", ANN)
        await two.add("news", BOB)
        await freeze(two)
        await until(lambda: swept)
        assert await present(one, "c1")
        await thaw(two)
        await until(lambda: returned)
        assert (swept, returned) == ([("news", BOB)], [("news", BOB)])
        assert await present(one, "c1", "c2")


async def test_who_left_while_swept_is_not_said_to_leave_twice_nor_to_return(settings: PostgresSettings) -> None:
    swept: Members = []
    returned: Members = []
    async with node(settings, "n1", swept), node(settings, "n2", swept, returned) as two:
        await two.add("news", ANN)
        await two.add("news", BOB)
        await freeze(two)
        await until(lambda: len(swept) == 2)
        two.moved(swept=True)  # as it finds out when it wakes up
        with pytest.raises(BrokerUnavailable):
            await two.remove("news", "c2")
        await thaw(two)
        await until(lambda: present(two, "c1"))
        await until(lambda: returned)
        assert returned == [("news", ANN)]
        assert len(swept) == 2


async def test_a_frozen_node_that_writes_first_is_no_orphan(settings: PostgresSettings) -> None:
    async with node(settings, "n1") as one, node(settings, "n2") as two:
        await two.add("news", ANN)
        await freeze(two)
        name = two._owners.name
        await until(lambda: present(one))
        await until(lambda: told(settings, name))
        await two.add("news", BOB)
        assert two._owners.name != name
        await thaw(two)
        await until(lambda: present(one, "c1", "c2"))
        owners = {row[0] for row in await run(settings, "SELECT owner FROM gateway_members")}
        assert owners == {two._owners.name}


async def told(settings: PostgresSettings, owner: str) -> bool:
    rows = await run(settings, "SELECT told FROM gateway_owners WHERE owner = $1", owner)
    return bool(rows and rows[0][0])


async def test_the_clock_of_a_node_does_not_matter(settings: PostgresSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    swept: Members = []
    async with node(settings, "n1", swept) as one:
        await one.add("news", ANN)
        now = time.time
        for hour in (3600, -3600):
            monkeypatch.setattr(time, "time", lambda hour=hour: now() + hour)
            async with node(settings, "n2", swept) as two:
                await two.add("news", BOB)
                looks = 0

                async def through_several_leases() -> bool:
                    nonlocal looks
                    looks += 1
                    assert await present(one, "c1", "c2")
                    return looks > 60

                await until(through_several_leases, deadline=30)
    assert swept == []


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_members_outlive_a_restart_of_the_server_and_nobody_is_said_to_leave(how: str) -> None:
    """Killed, it has forgotten all members; they are written again."""
    swept: Members = []
    returned: Members = []
    with PostgresServer() as server:
        settings = postgres_settings(server)
        async with (
            node(settings, "n1", swept, returned, lease=2) as one,
            node(settings, "n2", swept, returned, lease=2) as two,
        ):
            await one.add("news", ANN)
            await two.add("news", BOB)
            getattr(server, how)()
            await until(lambda: not one._database.connected and not two._database.connected)
            with pytest.raises(BrokerUnavailable):
                await two.members("news")
            server.start()
            await until(lambda: found(one, "c1", "c2"))
            assert (swept, returned) == ([], [])


async def test_who_finds_the_server_again_later_than_others_is_not_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    swept: Members = []
    with PostgresServer() as server:
        settings = postgres_settings(server)
        monkeypatch.setattr(listener, "MAX_BACKOFF", 0.1)
        async with node(settings, "n1", swept, lease=10) as one, node(settings, "n2", swept, lease=10) as two:
            await one.add("news", ANN)
            await two.add("news", BOB)
            server.stop()
            await until(lambda: not one._database.connected and not two._database.connected)
            cut_off = two._owners.name
            with monkeypatch.context() as patched:
                for opener in (two._database, two._database._pool):
                    patched.setattr(opener, "_open", refuse)
                server.start()
                await until(lambda: found(one, "c1", "c2"))
                lapsed = "UPDATE gateway_owners SET until = clock_timestamp() WHERE owner = $1"
                await run(settings, lapsed, cut_off)
                await one._owners._sweep_dead()
                assert await present(one, "c1")
            await until(lambda: found(one, "c1", "c2"))
            assert (swept, two._owners.name) == ([], cut_off)


async def refuse() -> None:
    raise OSError("there is no way to the server")


async def found(presence: PostgresPresence, *clients: str) -> bool:
    try:
        return await present(presence, *clients)
    except BrokerUnavailable:
        return False


async def test_who_left_while_the_server_was_away_is_told_of_later(caplog: pytest.LogCaptureFixture) -> None:
    swept: Members = []
    with PostgresServer() as server:
        settings = postgres_settings(server)
        async with node(settings, "n1", swept) as one:
            await one.add("news", ANN)
            await one.add("news", BOB)
            server.stop()
            await until(lambda: not one._database.connected)
            with pytest.raises(BrokerUnavailable):
                await one.remove("news", "c2")
            with pytest.raises(BrokerUnavailable):
                await one.add("news", ClientInfo("dan", "c3"))
            server.start()
            await until(lambda: swept)
            assert swept == [("news", BOB)]
            assert await present(one, "c1")


async def test_what_another_release_has_written_is_left_out(settings: PostgresSettings) -> None:
    async with node(settings, "n1") as one:
        await one.add("news", ANN)
        await one.add("news", BOB)
        await run(settings, "UPDATE gateway_members SET payloads = 'strange' WHERE client = 'c2'")
        assert await one.members("news") == {"c1": ANN}
        assert one._skipped.count == 1


async def test_close_leaves_nothing(settings: PostgresSettings) -> None:
    async with node(settings, "n1") as one:
        await asyncio.gather(*(one.add("news", ClientInfo("u", f"c{number}")) for number in range(30)))
    assert await run(settings, "SELECT FROM gateway_members") == []
    assert await run(settings, "SELECT FROM gateway_owners") == []
