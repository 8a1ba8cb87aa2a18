"""Leases within one process, on a clock of the test's own."""

from gateway.leases.base import KEEP, Lease, Taken
from gateway.leases.memory import MemoryLeases
from tests.core.test_wheel import Clock


async def take(leases: MemoryLeases, name: str, anew: bool = False) -> Lease:
    lease = await leases.acquire(name, "n1", anew)
    assert isinstance(lease, Lease)
    return lease


async def test_held_to_the_moment_it_runs_out() -> None:
    clock = Clock()
    leases = MemoryLeases(10.0, clock)
    first = await take(leases, "room")
    clock.now += 9.0
    assert await leases.acquire("room", "n2") == Taken(1.0)
    assert await leases.renew(first)
    clock.now += 9.5
    assert leases.holds("room", first.fence)
    clock.now += 0.5
    assert not leases.holds("room", first.fence)
    assert not await leases.renew(first)
    assert (await take(leases, "room")).number > first.number


async def test_what_has_been_finished_for_long_is_forgotten() -> None:
    clock = Clock()
    leases = MemoryLeases(10.0, clock)
    for name in ("a", "b", "c"):
        await leases.finish(await take(leases, name))
    assert not leases.holds("a", "")
    clock.now += KEEP / 2
    await leases.finish(await take(leases, "b", anew=True))
    await leases.release(await take(leases, "c", anew=True))
    clock.now += KEEP / 2
    held = await take(leases, "d")
    assert leases._held.keys() == {"b", "d"}
    assert await leases.acquire("b", "n1") == Taken(KEEP / 2)
    assert leases.holds("d", held.fence)
