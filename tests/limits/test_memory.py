"""The store of one node, by a clock of ours."""

import pytest

from gateway.limits import memory as module
from gateway.limits.base import Rate, Window
from gateway.limits.memory import MemoryLimits

DAY = 86_400


class Clock:
    def __init__(self) -> None:
        self.now = 20_000.0 * DAY

    def __call__(self) -> float:
        return self.now


async def test_a_bucket_refills_one_by_one() -> None:
    clock = Clock()
    store = MemoryLimits(clock)
    rate = Rate(100_000, 20)
    assert (await store.take("l", "ann", rate, 20)).allowed
    clock.now += 0.125
    assert [(await store.take("l", "ann", rate, 1)).allowed for _ in range(2)] == [True, False]
    clock.now += 0.25
    assert (await store.take("l", "ann", rate, 1)).remaining == 1
    clock.now += DAY
    assert (await store.take("l", "ann", rate, 1)).remaining == 19  # it never holds more than its burst


async def test_retry_after_is_when_it_works() -> None:
    clock = Clock()
    store = MemoryLimits(clock)
    rate = Rate(2_000_000, 5)
    await store.take("l", "ann", rate, 5)
    clock.now += 0.5
    refused = await store.take("l", "ann", rate, 2)
    assert (refused.retry_after, refused.reset) == (3.5, 9.5)
    clock.now += 3.25
    assert not (await store.take("l", "ann", rate, 2)).allowed
    clock.now += 0.25
    assert (await store.take("l", "ann", rate, 2)).allowed


async def test_windows_of_a_day_begin_at_midnight() -> None:
    clock = Clock()
    store = MemoryLimits(clock)
    daily = Window(2, DAY * 1_000_000)
    clock.now += DAY - 60
    assert (await store.take("l", "ann", daily, 2)).reset == 60
    clock.now += 59
    refused = await store.take("l", "ann", daily, 1)
    assert (refused.allowed, refused.retry_after) == (False, 1)
    clock.now += 1
    granted = await store.take("l", "ann", daily, 1)
    assert (granted.allowed, granted.remaining, granted.reset) == (True, 1, DAY)


async def test_a_clock_set_back_locks_nobody_out_for_longer_than_a_bucket() -> None:
    clock = Clock()
    store = MemoryLimits(clock)
    await store.take("l", "ann", Rate(1_000_000, 5), 1)
    clock.now -= DAY
    refused = await store.take("l", "ann", Rate(1_000_000, 5), 1)
    assert (refused.retry_after, refused.remaining) == (1, 0)


@pytest.mark.parametrize("budget", [Rate(1_000_000, 1), Window(1, 1_000_000)], ids=["rate", "window"])
async def test_idle_keys_are_forgotten(monkeypatch: pytest.MonkeyPatch, budget: Rate | Window) -> None:
    monkeypatch.setattr(module, "ROOM", 10)
    clock = Clock()
    store = MemoryLimits(clock)
    for number in range(1000):
        await store.take("l", str(number), budget, 1)
        clock.now += 0.25
        assert len(store) <= 1024 + 1
    assert len(store) < 100


async def test_keys_in_use_are_kept() -> None:
    store = MemoryLimits(Clock())
    budget = Window(1, DAY * 1_000_000)
    for number in range(3000):
        assert (await store.take("l", str(number), budget, 1)).allowed
    for number in range(3000):
        assert not (await store.take("l", str(number), budget, 1)).allowed
    assert len(store) == 3000


async def test_a_refusal_is_not_kept() -> None:
    store = MemoryLimits(Clock())
    assert not (await store.take("l", "ann", Rate(1_000_000, 1), 2)).allowed
    assert len(store) == 0
