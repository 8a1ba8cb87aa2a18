"""What judges webhooks, itself: it finds what is wrong, and nothing where nothing is."""

from typing import Any

import pytest

from tests.chaos.webhooks import verdict
from tests.chaos.webhooks.ledger import Ledger, Said, Spot, Visit
from tests.chaos.webhooks.receiver import Delivery, Inbox

HALL = Spot("hall")


def told(*events: tuple[float, str, dict[str, Any]]) -> Inbox:
    """Each by the second at which it happened."""
    deliveries = [
        Delivery(at, [str(round(at * 1e6))], [{"name": name, "channel": "hall", **fields}], 1, answered=True)
        for at, name, fields in events
    ]
    return Inbox(deliveries=deliveries)


def visited(*visits: tuple[float, float]) -> Ledger:
    ledger = Ledger()
    ledger.visits[HALL] = [Visit(begin, begin, end) for begin, end in visits]
    return ledger


COME, GONE = "channel_occupied", "channel_vacated"


@pytest.mark.parametrize(
    ("events", "fault"),
    [
        ([(100, COME), (120, GONE)], None),
        ([], "was visited, not as told"),
        ([(110, COME), (120, GONE)], "was visited, not as told"),
        ([(100, COME), (110, GONE), (115, COME), (120, GONE)], "was visited, not as told"),
        ([(100, COME), (110, GONE), (110.5, COME), (120, GONE)], "though somebody was back in time"),
        ([(100, COME), (101, COME), (120, GONE)], "is no news"),
        ([(100, COME), (120, GONE), (130, GONE)], "is no news"),
        ([(90, COME), (120, GONE)], "nobody had come"),
        ([(100, COME), (145, GONE)], "was left long before"),
        ([(100, COME), (120, GONE), (150, COME), (151, GONE)], "nobody had come"),
        ([(120, GONE), (100, COME)], "is no news"),
    ],
)
def test_what_is_told_of_one_visit(events: list[tuple[float, str]], fault: str | None) -> None:
    inbox = told(*((at, name, {}) for at, name in events))
    faults = verdict.judge(inbox, visited((100, 120)), members_only=False, delay=1.0)
    assert any(fault in each for each in faults) if fault else not faults


@pytest.mark.parametrize(("times", "fault"), [(0, "is not told"), (1, None), (2, "is told 2 times")])
def test_a_client_event_is_told_once(times: int, fault: str | None) -> None:
    ledger = Ledger(said={"said 1": Said("hall", 0, 100.0, 100.1)})
    inbox = told(*((100.0 + number, "client_event", {"data": "said 1"}) for number in range(times)))
    faults = verdict.judge(inbox, ledger, members_only=False, delay=1.0)
    assert any(fault in each for each in faults) if fault else not faults


def test_a_double_is_one_event_and_needs_a_reason() -> None:
    inbox = told((100, COME, {}), (100, COME, {}))
    inbox.deliveries[1].at = 103.0
    ledger = visited((100, 200))
    assert verdict.doubles(inbox) == 1
    assert verdict.fold(inbox) == {HALL}
    assert "came again" in verdict.needless(inbox, ledger)[0]
    ledger.killed.append((0, 101.0))
    assert not verdict.needless(inbox, ledger)
    inbox.deliveries[1].events = [{"name": GONE, "channel": "hall"}]
    assert "is both" in verdict.judge(inbox, ledger, members_only=False, delay=1.0)[0]
