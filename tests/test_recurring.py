"""What recurs: counted each time, told when it begins, once a minute, and when it is over."""

import logging
from collections import Counter
from collections.abc import Callable

import pytest

from gateway.recurring import MINUTE, REASONS, Address, Recurring

log = logging.getLogger("tests.recurring")


class Case:
    """A clock of the test's own, and what is to be called back."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.now = 1000.0
        self.counts: Counter[str] = Counter()
        self.recurring = Recurring(log, lambda: self.now, self.after, self.counts)
        self.waiting: list[tuple[float, Callable[[], None]]] = []
        self._caplog = caplog

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        self.waiting.append((self.now + seconds, call))

    def happen(self, times: int = 1, reason: str = "") -> None:
        for number in range(times):
            self.recurring.happened("kind", "it: %d", number, reason=reason)

    def over(self) -> bool:
        return self.recurring.over("kind", "it is %s", "well")

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while due := sorted(entry for entry in self.waiting if entry[0] <= end):
            self.waiting.remove(due[0])
            self.now = due[0][0]
            due[0][1]()
        self.now = end

    @property
    def told(self) -> list[str]:
        lines = [record.getMessage() for record in self._caplog.records]
        self._caplog.clear()
        return lines


@pytest.fixture
def case(caplog: pytest.LogCaptureFixture) -> Case:
    caplog.set_level(logging.INFO)
    return Case(caplog)


def test_one_line_a_minute_and_one_at_the_end(case: Case) -> None:
    case.happen(500)
    assert case.told == ["it: 0"]
    for _ in range(11):
        case.pass_time(10)
        case.happen(10)
    assert case.told == ["it: 0 (550 times in 60 s)"]
    case.pass_time(MINUTE - 1)
    assert case.told == []
    case.pass_time(1)
    assert case.told == ["over: kind, 610 times in 110 s"]
    assert case.counts == {"kind": 610}
    case.pass_time(10 * MINUTE)
    assert case.told == []
    assert not case.waiting


def test_what_happens_once_has_one_line(case: Case) -> None:
    case.happen()
    case.pass_time(2 * MINUTE)
    case.happen()
    case.pass_time(2 * MINUTE)
    assert case.told == ["it: 0", "it: 0"]


def test_what_is_known_to_be_over_is_told_with_its_length(case: Case) -> None:
    assert not case.over()
    case.happen(5)
    case.pass_time(7)
    assert case.over()
    assert not case.over()
    assert case.told == ["it: 0", "it is well (7 s)"]
    case.pass_time(2 * MINUTE)
    assert case.told == []
    case.happen()
    assert case.told == ["it: 0"]


def test_what_comes_and_goes_is_no_flood(case: Case) -> None:
    """As a server that lets a client in and drops it, three times a second."""
    for _ in range(300):
        case.pass_time(1)
        case.happen()
        case.over()
    told = case.told
    assert told[:2] == ["it: 0", "it is well (0 s)"]
    assert len(told) == 2 * 5
    assert told[2:4] == ["it: 0 (60 times in 60 s)", "it is well (60 s)"]


def test_another_reason_is_told_at_once_but_not_without_end(case: Case) -> None:
    for number in range(100):
        case.happen(2, f"reason {number}")
    assert case.told == ["it: 0"] + ["it: 0 (2 times in 0 s)"] * (REASONS - 1)
    case.pass_time(MINUTE - 1)
    case.happen(1, "one more")
    assert case.told == []
    case.pass_time(1)
    case.happen(1, "yet another")
    assert case.told == ["it: 0 (195 times in 60 s)"]


def test_what_begins_anew_is_not_ended_by_what_was_before(case: Case) -> None:
    case.happen(2)
    case.now += MINUTE  # and whoever calls back is late
    case.happen(2)
    assert case.told == ["it: 0", "it: 0"]
    case.pass_time(MINUTE - 1)
    assert case.told == []
    case.pass_time(1)
    assert case.told == ["over: kind, 2 times in 0 s"]


def test_kinds_do_not_hide_each_other(case: Case) -> None:
    case.happen()
    case.recurring.happened("other", "that")
    case.recurring.happened("usual", "this", level=logging.INFO)
    assert case.told == ["it: 0", "that", "this"]


def test_without_anybody_who_calls_back_only_the_end_by_silence_is_not_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    times = iter((0.0, 1.0, 100.0, 101.0))
    recurring = Recurring(log, lambda: next(times))
    for _ in range(4):
        recurring.happened("kind", "it")
    assert [record.getMessage() for record in caplog.records] == ["it", "it"]
    assert recurring.counts == {"kind": 4}


def test_the_parts_of_a_line(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    case.happen(3)
    case.pass_time(MINUTE)
    case.happen(2)
    case.over()
    fields = ("reason", "count", "seconds")
    found = [tuple(getattr(record, name, None) for name in fields) for record in caplog.records]
    assert found == [("kind", 1, None), ("kind", 3, 0), ("kind", 1, None), ("kind", 2, 0)]


def test_an_address_is_text_and_a_field() -> None:
    assert (str(Address("::1")), Address("::1").log_fields()) == ("::1", {"address": "::1"})
    assert (str(Address()), Address().log_fields()) == ("somebody", {})
