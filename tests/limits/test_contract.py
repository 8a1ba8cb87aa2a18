"""What every store of limits does. Periods are a year where time must not matter."""

import asyncio

import pytest

from gateway.limits.base import LONGEST, Budget, LimitStore, Rate, Window
from tests.waiting import until

SLOW = Rate(LONGEST // 10, 3)
YEARLY = Window(3, LONGEST)
BUDGETS = pytest.mark.parametrize("budget", [SLOW, YEARLY], ids=["rate", "window"])


@BUDGETS
async def test_grants_what_is_there_and_no_more(store: LimitStore, budget: Budget) -> None:
    outcomes = [await store.take("l", "ann", budget, 1) for _ in range(4)]
    assert [(o.allowed, o.remaining) for o in outcomes] == [(True, 2), (True, 1), (True, 0), (False, 0)]
    assert [o.retry_after > 0 for o in outcomes] == [False, False, False, True]
    assert all(o.reset > 0 for o in outcomes)


@BUDGETS
async def test_a_refusal_spends_nothing(store: LimitStore, budget: Budget) -> None:
    assert (await store.take("l", "ann", budget, 2)).remaining == 1
    refused = await store.take("l", "ann", budget, 2)
    assert (refused.allowed, refused.remaining) == (False, 1)
    assert (await store.take("l", "ann", budget, 1)).allowed


@BUDGETS
async def test_more_than_the_whole_is_never_granted(store: LimitStore, budget: Budget) -> None:
    refused = await store.take("l", "ann", budget, 4)
    assert (refused.allowed, refused.remaining) == (False, 3)
    assert (await store.take("l", "ann", budget, 3)).allowed


@BUDGETS
async def test_keys_and_names_have_budgets_of_their_own(store: LimitStore, budget: Budget) -> None:
    for name, key in [("l", "ann"), ("l", "bob"), ("other", "ann"), ("a:b", "c"), ("a", "b:c"), ("l", "Ünï {x}\n")]:
        assert (await store.take(name, key, budget, 3)).allowed, (name, key)
        assert not (await store.take(name, key, budget, 1)).allowed


async def test_a_rate_and_a_window_of_one_name_are_apart(store: LimitStore) -> None:
    assert (await store.take("l", "ann", SLOW, 3)).allowed
    assert (await store.take("l", "ann", YEARLY, 3)).allowed


@BUDGETS
async def test_takes_at_one_time_share_the_budget(store: LimitStore, budget: Budget) -> None:
    outcomes = await asyncio.gather(*(store.take("l", "ann", budget, 1) for _ in range(20)))
    assert sum(o.allowed for o in outcomes) == 3


async def test_times_of_a_rate(store: LimitStore) -> None:
    hour = 3600
    rate = Rate(hour * 1_000_000, 2)
    first = await store.take("l", "ann", rate, 1)
    assert first.reset == pytest.approx(hour, abs=60)
    await store.take("l", "ann", rate, 1)
    refused = await store.take("l", "ann", rate, 1)
    assert refused.retry_after == pytest.approx(hour, abs=60)
    assert refused.reset == pytest.approx(2 * hour, abs=60)


async def test_times_of_a_window(store: LimitStore) -> None:
    await store.take("l", "ann", YEARLY, 3)
    refused = await store.take("l", "ann", YEARLY, 1)
    assert 0 < refused.retry_after == refused.reset <= LONGEST / 1e6


@pytest.mark.parametrize("budget", [Rate(300_000, 2), Window(2, 300_000)], ids=["rate", "window"])
async def test_what_was_spent_comes_back(store: LimitStore, budget: Budget) -> None:
    async def granted() -> bool:
        return (await store.take("l", "ann", budget, 1)).allowed

    async def refused() -> bool:
        return not await granted()

    await until(refused)
    await until(granted)


async def test_a_stricter_limit_asks_for_no_more_than_its_own_time(store: LimitStore) -> None:
    await store.take("l", "ann", Rate(3_600_000_000, 100), 100)
    refused = await store.take("l", "ann", Rate(1_000_000, 1), 1)
    assert (refused.allowed, refused.remaining) == (False, 0)
    assert refused.retry_after <= 1.0


async def test_a_stricter_window_has_nothing_left(store: LimitStore) -> None:
    await store.take("l", "ann", YEARLY, 3)
    refused = await store.take("l", "ann", Window(1, LONGEST), 1)
    assert (refused.allowed, refused.remaining) == (False, 0)


async def test_another_period_is_another_window(store: LimitStore) -> None:
    await store.take("l", "ann", YEARLY, 3)
    assert (await store.take("l", "ann", Window(3, LONGEST // 2 + 1), 1)).remaining == 2


async def test_nothing_failed(store: LimitStore) -> None:
    await store.take("l", "ann", SLOW, 1)
    assert store.failures == 0
