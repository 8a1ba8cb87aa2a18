"""The timing wheel, turned by hand and by the event loop."""

import logging
from functools import partial

import pytest

from gateway.core.wheel import TICK, Wheel
from tests.waiting import until


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def wheel(clock: Clock) -> Wheel:
    return Wheel(clock)


def test_never_early_and_at_most_a_tick_late(wheel: Wheel, clock: Clock) -> None:
    begun = clock.now
    fired: dict[float, float] = {}

    def note(delay: float) -> None:
        fired[delay] = clock.now - begun

    delays = [step * 0.013 for step in range(300)]
    for each in delays:
        wheel.after(each, partial(note, each))
    for step in range(500):
        clock.now = begun + step * 0.01
        wheel.turn()
    assert sorted(fired) == delays
    for delay, after in fired.items():
        assert delay - 1e-3 <= after <= delay + TICK + 0.01 + 1e-3


def test_fires_once_and_in_order(wheel: Wheel, clock: Clock) -> None:
    fired: list[str] = []
    wheel.after(2, lambda: fired.append("late"))
    wheel.after(1, lambda: fired.append("first"))
    wheel.after(1, lambda: fired.append("second"))
    clock.now += 10  # the process was held up: everything is due at once
    wheel.turn()
    wheel.turn()
    assert fired == ["first", "second", "late"]


def test_a_cancelled_deadline_does_not_fire(wheel: Wheel, clock: Clock) -> None:
    fired: list[str] = []
    wheel.after(1, lambda: fired.append("cancelled")).cancel()
    other = wheel.after(1, lambda: fired.append("by its neighbour"))
    wheel.after(0.5, other.cancel)
    clock.now += 2
    wheel.turn()
    assert fired == []


def test_a_callback_may_set_the_next_deadline(wheel: Wheel, clock: Clock) -> None:
    fired: list[float] = []

    def again() -> None:
        fired.append(clock.now)
        wheel.after(0, again)

    wheel.after(0, again)
    for _ in range(3):
        clock.now += TICK
        wheel.turn()
    assert len(fired) == 3


def test_a_deadline_in_the_past_is_due_at_once(wheel: Wheel, clock: Clock) -> None:
    fired: list[str] = []
    wheel.after(-100, lambda: fired.append("now"))
    clock.now += TICK
    wheel.turn()
    assert fired == ["now"]


def test_a_callback_that_fails_holds_up_nobody(wheel: Wheel, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    fired: list[str] = []

    def fail() -> None:
        raise RuntimeError("broken")

    wheel.after(1, fail)
    wheel.after(1, lambda: fired.append("other"))
    clock.now += 2
    with caplog.at_level(logging.ERROR):
        wheel.turn()
    assert fired == ["other"]
    assert "broken" in caplog.text


async def test_the_event_loop_turns_it_until_it_is_stopped() -> None:
    wheel = Wheel(tick=0.001)
    fired: list[str] = []
    wheel.start()
    wheel.after(0.002, lambda: fired.append("first"))
    await until(lambda: fired)
    wheel.after(0.002, lambda: fired.append("second"))
    await until(lambda: len(fired) == 2)
    wheel.stop()
    wheel.stop()
    assert wheel._handle is None


def test_a_cancelled_deadline_leaves_nothing_behind() -> None:
    """A token may be good for a year, and its connection for a minute."""
    wheel = Wheel(Clock())
    one, other = wheel.after(86400, print), wheel.after(86400, print)
    one.cancel()
    one.cancel()
    other.cancel()
    assert not wheel._slots


async def test_tells_by_how_much_it_is_late() -> None:
    clock = Clock()
    wheel = Wheel(clock)
    late: list[float] = []
    wheel.late = late.append
    wheel.start()
    clock.now += 0.75  # while the loop had other things to do
    await until(lambda: late)
    clock.now += TICK / 2  # its clock and the loop's are two: early it never is
    await until(lambda: len(late) > 1)
    wheel.stop()
    assert late[0] == pytest.approx(0.75 - TICK)
    assert late[1] == 0.0
