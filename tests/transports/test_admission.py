"""How many a node takes at a time, what it tells the others, and what it says of them."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from gateway import files
from gateway.config.settings import ClientSettings
from gateway.limits.addresses import Network
from gateway.limits.limiter import Limiter
from gateway.metrics import Metrics
from gateway.recurring import MINUTE, Address
from gateway.transports.admission import LONGEST_WAIT, Admission, Rate, Refusal, Scoped


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Door:
    """An admission, its clock and its counters."""

    def __init__(self, **client: Any) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        settings = ClientSettings.model_validate(client)
        self.limiter = Limiter(settings, self.metrics, self.clock)
        self.admission = Admission(settings, self.metrics, self.clock, self.limiter)

    def refuse(self, connections: int = 0, *, draining: bool = False, of: str = "") -> Refusal | None:
        return self.admission.refuse(connections, draining=draining, address=Address(of))

    def admitted(self, asking: int) -> int:
        """How many of so many that ask now may come in."""
        return sum(self.refuse() is None for _ in range(asking))


def retry_after(refusal: Refusal | None) -> int:
    assert refusal is not None
    [(name, value)] = refusal.headers
    assert name == b"retry-after"
    return int(value)


def waits(door: Door, count: int) -> Iterator[int]:
    return (retry_after(door.refuse()) for _ in range(count))


def test_so_many_come_in_each_second() -> None:
    door = Door(connection_rate_limit=10)
    assert [door.admitted(25) for _ in range(3)] == [10, 0, 0]
    door.clock.now += 0.5
    assert door.admitted(25) == 5
    for _ in range(60):
        door.clock.now += 1
        assert door.admitted(100) == 10


def test_what_was_not_used_is_kept_for_a_second() -> None:
    door = Door(connection_rate_limit=10)
    assert door.admitted(10) == 10
    door.clock.now += 3600
    assert door.admitted(25) == 10


def test_without_a_limit_all_come_in() -> None:
    assert Door().admitted(10_000) == 10_000


def test_who_is_refused_for_another_reason_takes_no_turn() -> None:
    door = Door(connection_rate_limit=1, connection_limit=5)
    for _ in range(3):
        assert retry_after(door.refuse(5)) == 1
        assert retry_after(door.refuse(draining=True)) == 1
    assert door.refuse(4) is None
    assert door.refuse(4) is not None


def test_one_who_has_come_in_is_not_held_to_the_rate_again() -> None:
    door = Door(connection_rate_limit=1, connection_limit=5)
    assert door.refuse() is None
    assert door.admission.repel(4, draining=False) is None
    assert retry_after(door.admission.repel(5, draining=False)) == 1
    assert retry_after(door.admission.repel(4, draining=True)) == 1


def test_a_storm_is_spread_by_its_size() -> None:
    """Among the seconds that it takes to let all of them in, so that hardly anybody is refused a second time."""
    door = Door(connection_rate_limit=10)
    door.admitted(10)
    assert set(waits(door, 10)) <= {1, 2}
    assert set(waits(door, 80)) > {1, 2}
    assert set(waits(door, 400)) >= {1, 5, 9}
    late = set(waits(door, 10_000))
    assert (min(late), max(late)) == (1, LONGEST_WAIT)


def test_the_size_of_a_storm_is_not_forgotten_from_one_second_to_the_next() -> None:
    door = Door(connection_rate_limit=10)
    assert door.admitted(110) == 10
    door.clock.now += 1
    assert door.admitted(10) == 10
    assert max(waits(door, 50)) > 2
    door.clock.now += 2
    assert door.admitted(10) == 10
    assert max(waits(door, 1)) <= 2


def test_the_first_second_of_a_clock() -> None:
    clock = Clock()
    clock.now = 0.0
    rate = Rate(1, clock)
    assert [rate.take(), rate.take()] == [True, False]
    assert rate.wait() in (1, 2)


def scope(origin: str) -> dict[str, Any]:
    return {"headers": [(b"origin", origin.encode())]}


def test_refusals_are_counted_by_their_reason() -> None:
    door = Door(connection_rate_limit=1, connection_limit=5)
    for _ in range(3):
        door.refuse()
    door.refuse(5)
    door.refuse(draining=True)
    for number in range(4):
        refusal = door.admission.forbid(Scoped(scope(f"https://{number}.evil.net")))
        assert refusal is not None
        assert refusal[:2] == (403, [])
    assert door.metrics.refused_connections == {
        "connection_rate_limit": 2,
        "connection_limit": 1,
        "draining": 1,
        "origin": 4,
    }


def test_refusals_are_logged_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    door = Door(connection_rate_limit=7)
    door.admitted(7)

    def told() -> list[str]:
        lines = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return lines

    for _ in range(500):
        door.refuse()
    door.admission.forbid(Scoped(scope("https://evil.net")))
    rate = "somebody: connection refused: more than client.connection_rate_limit = 7 a second"
    assert told() == [rate, "somebody: connection refused: client.allowed_origins has no 'https://evil.net'"]
    door.clock.now += MINUTE - 1
    assert door.admitted(10) == 7
    assert told() == []
    door.clock.now += 1
    assert door.admitted(10) == 7
    assert told() == [f"{rate} (503 times in 60 s)"]


def test_what_a_stranger_sends_is_logged_cut_and_quoted(caplog: pytest.LogCaptureFixture) -> None:
    Door().admission.forbid(Scoped(scope("https://evil.net\n" + "x" * 10_000)))
    [record] = caplog.records
    assert "\n" not in record.getMessage()
    assert len(record.getMessage()) < 250


def test_who_is_refused_for_its_origin_is_told_which_setting_says_so() -> None:
    refusal = Door().admission.forbid(Scoped(scope("https://evil.net\n" + "é" * 10_000)))
    assert refusal is not None
    assert refusal.body.startswith(b"The origin 'https://evil.net\\n\\xc3")
    assert b"client.allowed_origins" in refusal.body
    assert len(refusal.body) < 1500


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        ("https://a.com", "a.com", True),
        ("https://a.com", "a.com:443", True),
        ("https://a.com:443", "a.com", True),
        ("http://a.com", "a.com:80", True),
        ("http://[::1]", "[::1]:80", True),
        ("https://a.com:8443", "a.com:8443", True),
        ("https://a.com", "a.com:80", False),
        ("http://a.com", "a.com:443", False),
        ("https://a.com", "a.com:8443", False),
        ("https://a.com:443", "b.com:443", False),
        ("https://:443", ":443", False),
        ("null", "", False),
    ],
)
def test_a_port_that_goes_without_saying_makes_no_other_origin(origin: str, host: str, same: bool) -> None:
    admission = Admission(ClientSettings(), Metrics(), Clock(), same_origin=True)
    asked = {"headers": [(b"origin", origin.encode()), (b"host", host.encode())]}
    assert (admission.forbid(Scoped(asked)) is None) == same


# — addresses —


def test_an_address_that_comes_too_often_is_told_when_to_come_again() -> None:
    door = Door(rate_limit={"address_command": {"enabled": True, "connect": "3/30s"}})
    assert [door.refuse(of="10.0.0.1") for _ in range(3)] == [None, None, None]
    assert (refusal := door.refuse(of="10.0.0.1")) is not None
    assert (refusal.status, retry_after(refusal)) == (429, 10)
    assert door.refuse(of="10.0.0.2") is None
    assert door.refuse() is None
    door.clock.now += 10.1
    assert door.refuse(of="10.0.0.1") is None
    assert door.metrics.refused_connections == {"address_rate": 1}


def test_nobody_is_told_to_wait_for_long() -> None:
    door = Door(rate_limit={"address_command": {"enabled": True, "connect": "1/day"}})
    assert door.refuse(of="10.0.0.1") is None
    assert retry_after(door.refuse(of="10.0.0.1")) == LONGEST_WAIT


def test_an_address_with_too_many_connections() -> None:
    door = Door(address_connection_limit=2)
    for _ in range(2):
        door.limiter.enter(Network("10.0.0.1"))
    refusal = door.refuse(of="10.0.0.1")
    assert refusal is not None
    assert (refusal.status, retry_after(refusal)) == (429, LONGEST_WAIT)
    assert door.refuse(of="10.0.0.2") is None
    assert door.metrics.refused_connections == {"address_connection_limit": 1}
    door.limiter.leave(Network("10.0.0.1"))
    assert door.refuse(of="10.0.0.1") is None


def test_an_address_is_full_also_for_those_whose_request_has_taken_its_time() -> None:
    door = Door(address_connection_limit=1)
    assert door.admission.repel(0, draining=False, address=Address("10.0.0.1")) is None
    door.limiter.enter(Network("10.0.0.1"))
    refusal = door.admission.repel(0, draining=False, address=Address("10.0.0.1"))
    assert refusal is not None
    assert refusal.status == 429


def test_who_comes_too_often_takes_no_turn_of_the_others() -> None:
    door = Door(connection_rate_limit=5, rate_limit={"address_command": {"enabled": True, "connect": "2/minute"}})
    assert [door.refuse(of="10.0.0.1") is None for _ in range(9)] == [True, True, *[False] * 7]
    assert [door.refuse(of="10.0.0.2") is None, door.refuse(of="10.0.0.3") is None] == [True, True]


def test_refusals_of_addresses_are_logged_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    door = Door(address_connection_limit=1, rate_limit={"address_command": {"enabled": True, "connect": "1/day"}})
    door.limiter.enter(Network("10.0.0.9"))
    for _ in range(50):
        door.refuse(of="10.0.0.1")
        door.refuse(of="10.0.0.9")
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "connection refused: client.address_connection_limit of '10.0.0.9' is reached",
        "connection refused: more than client.rate_limit.address_command.connect of '10.0.0.1'",
    ]


# — open files —


def test_a_node_whose_files_are_scarce_takes_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert Door().refuse() is None
    monkeypatch.setattr(files, "left", lambda: 0)
    door = Door()
    refusal = door.refuse()
    assert refusal is not None
    assert (refusal.status, retry_after(refusal)) == (503, 1)
    assert door.admission.repel(0, draining=False) is not None
    assert door.metrics.refused_connections == {"file_limit": 2}
    assert f"{files.limit()} files may be open" in caplog.text
