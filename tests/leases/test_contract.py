"""What every kind of lease does."""

from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest

from gateway.leases.base import Lease, Leases, Taken
from gateway.leases.memory import MemoryLeases
from gateway.leases.postgres import PostgresLeases
from gateway.leases.redis import RedisLeases
from gateway.leases.sharded import ShardedLeases
from gateway.postgres.database import Database
from gateway.program.engine import one_of
from tests.engines import STORES
from tests.postgres_fixtures import postgres_settings, running
from tests.redis_fixtures import opened_shards
from tests.waiting import until

TTL = 0.5

Make = Callable[[float], Leases]


@pytest.fixture(params=STORES)
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Makes leases of each implementation, with the TTL that one wants."""
    if request.param == "memory":
        yield MemoryLeases
        return
    if request.param == "postgres":
        database = Database(postgres_settings(request.getfixturevalue("postgres_server")))
        PostgresLeases(database)  # before the start, which makes their tables
        async with running(database):
            yield partial(PostgresLeases, database)
        return
    async with opened_shards(request.param, request) as [shards]:
        yield lambda ttl: one_of(ShardedLeases, [RedisLeases(shard, ttl) for shard in shards])


@pytest.fixture
async def leases(make: Make) -> AsyncIterator[Leases]:
    """Lasting ones, for what does not wait for their end."""
    made = make(60.0)
    await made.start()
    yield made
    await made.close()


async def take(leases: Leases, owner: str = "n1", name: str = "room", anew: bool = False) -> Lease:
    lease = await leases.acquire(name, owner, anew)
    assert isinstance(lease, Lease)
    return lease


async def taken(leases: Leases, anew: bool = False) -> float:
    answer = await leases.acquire("room", "n9", anew)
    assert isinstance(answer, Taken)
    return answer.remaining


async def test_one_holder_at_a_time(leases: Leases) -> None:
    lease = await take(leases)
    assert (lease.name, lease.owner) == ("room", "n1")
    assert 59 < await taken(leases) <= 60
    assert await taken(leases, anew=True) > 59
    other = await take(leases, name="other")
    assert await leases.renew(lease)
    await leases.release(lease)
    assert (await take(leases, "n2")).owner == "n2"
    assert await leases.renew(other)


async def test_numbers_grow_and_fences_differ(leases: Leases) -> None:
    held: list[Lease] = []
    for owner in ("n1", "n2", "n1", "n1"):
        held.append(await take(leases, owner))
        await leases.release(held[-1])
    numbers = [lease.number for lease in held]
    assert numbers == sorted(set(numbers))
    assert len({lease.fence for lease in held}) == 4


async def test_runs_out_unless_renewed(make: Make) -> None:
    leases = make(TTL)
    lease = await take(leases)
    renewals = 0

    async def renewed_past_its_end() -> bool:
        nonlocal renewals
        renewals += 1
        assert await leases.renew(lease)
        return renewals > 100  # a look takes 10 ms, so this is a multiple of the TTL

    await until(renewed_past_its_end)
    second = await next_holder(leases)
    assert second.number > lease.number
    assert not await leases.renew(lease)


async def next_holder(leases: Leases) -> Lease:
    """Wait until the lease has run out."""

    async def acquired() -> list[Lease]:
        answer = await leases.acquire("room", "n2")
        return [answer] if isinstance(answer, Lease) else []

    [lease] = await until(acquired)
    return lease


async def test_whoever_lost_it_changes_nothing(make: Make) -> None:
    leases = make(TTL)
    told: list[str] = []
    leases.on_release.append(told.append)
    await leases.start()
    lost = await take(leases)
    held = await next_holder(leases)
    await leases.release(lost)
    await leases.finish(lost)
    assert not await leases.renew(lost)
    assert await leases.renew(held)
    await leases.release(held)
    await leases.release(held)
    await until(lambda: told)
    await take(leases)
    assert told == ["room"]
    await leases.close()


async def test_everybody_is_told_of_a_release(leases: Leases) -> None:
    told: list[str] = []
    leases.on_release.append(lambda name: told.append(f"1 {name}"))
    leases.on_release.append(lambda name: told.append(f"2 {name}"))
    await leases.release(await take(leases, name="raum:ä"))
    await until(lambda: told == ["1 raum:ä", "2 raum:ä"])


async def test_finished_until_somebody_asks_anew(leases: Leases) -> None:
    lease = await take(leases)
    await leases.finish(lease)
    assert not await leases.renew(lease)
    await leases.release(lease)
    assert await taken(leases) > 60
    again = await take(leases, anew=True)
    assert again.number > lease.number
    assert await taken(leases, anew=True) <= 60
    await leases.release(again)
    await take(leases)
