"""Lost positions: told in portions, by subscribers, and one that fails harms no other."""

import pytest

from gateway.core.hub import Hub
from gateway.core.losses import LONGEST, PAUSE, PORTION
from gateway.core.wheel import Wheel
from gateway.metrics import Metrics
from gateway.protocols.base import Wire
from tests.core.test_hub import Reader, Text, at, publish, reader, text_wire
from tests.core.test_wheel import Clock


class Timeline:
    def __init__(self) -> None:
        self.clock = Clock()
        self.wheel = Wheel(self.clock)
        self.hub = Hub(Metrics(), clock=self.clock, wheel=self.wheel)

    def pass_(self, seconds: float) -> None:
        self.clock.now += seconds
        self.wheel.turn()


@pytest.fixture
async def time() -> Timeline:
    return Timeline()


def told(readers: list[Reader]) -> int:
    assert all(each.losses <= 1 for each in readers)
    return sum(each.losses for each in readers)


@pytest.mark.parametrize("channels", [1, 3 * PORTION])
async def test_many_are_told_in_portions_however_many_channels(time: Timeline, channels: int) -> None:
    readers = [reader(time.hub, at(3), channel=f"room{number % channels}") for number in range(3 * PORTION)]
    for channel in list(time.hub.channels.values()):
        time.hub.lose(channel, list(channel.audiences))
    assert told(readers) == PORTION
    time.pass_(PAUSE / 2)
    assert told(readers) == PORTION
    for portions in (2, 3, 3):
        time.pass_(PAUSE + 0.1)
        assert told(readers) == portions * PORTION


async def test_nobody_is_written_to_beyond_the_gap(time: Timeline) -> None:
    readers = [reader(time.hub, at(3), wire=text_wire()) for _ in range(2 * PORTION)]
    publish(time.hub, 4, 6, 7)
    time.hub.flush()
    assert told(readers) == PORTION
    assert {tuple(each.frames) for each in readers} == {("p4",)}
    assert time.hub.subscriptions == 0
    newcomer = reader(time.hub, at(7))
    publish(time.hub, 8)
    time.hub.flush()
    assert newcomer.frames == ["p8"]
    assert {tuple(each.frames) for each in readers} == {("p4",)}


async def test_one_that_ends_meanwhile_is_not_told(time: Timeline) -> None:
    readers = [reader(time.hub, at(3)) for _ in range(PORTION + 10)]
    publish(time.hub, 5)
    for each in readers:
        time.hub.leave(each)
    time.pass_(PAUSE + 0.1)
    assert told(readers) == PORTION
    assert not time.hub.losses._waiting
    assert time.hub.subscriptions == 0


async def test_each_is_told_where_it_stood(time: Timeline) -> None:
    current, behind = reader(time.hub, at(3)), reader(time.hub, at(2))
    publish(time.hub, 5)
    assert (current.before, behind.before) == (at(3), at(2))
    one = reader(time.hub, at(5))
    time.hub.lose(time.hub.channels["room"], list(time.hub.channels["room"].audiences))
    assert one.before == at(5)


async def test_one_that_another_ends_is_not_told(time: Timeline) -> None:
    one, other = reader(time.hub, at(3)), reader(time.hub, at(3))
    one.lose_position = lambda _before: time.hub.leave(other)  # type: ignore[method-assign]
    publish(time.hub, 5)
    assert other.losses == 0


async def test_one_that_fails_harms_no_other(time: Timeline, caplog: pytest.LogCaptureFixture) -> None:
    def fails(_before: object) -> None:
        raise RuntimeError("broken")

    readers = [reader(time.hub, at(3)) for _ in range(5)]
    readers[2].lose_position = fails  # type: ignore[method-assign]
    plain = reader(time.hub)
    publish(time.hub, 5)
    time.hub.flush()
    assert [each.losses for each in readers] == [1, 1, 0, 1, 1]
    assert plain.frames == ["p5"]
    assert "broken" in caplog.text


async def test_very_many_are_told_within_a_bounded_time(time: Timeline, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = LONGEST / 10  # with a tenth of them
    monkeypatch.setattr("gateway.core.losses.LONGEST", longest)
    count = int(3 * PORTION * longest / PAUSE)
    readers = [reader(time.hub, at(3)) for _ in range(count)]
    publish(time.hub, 5)
    for _ in range(int(longest / PAUSE)):
        assert told(readers) < count
        time.pass_(PAUSE + 0.1)
    assert told(readers) == count


async def test_those_who_go_on_without_are_told_at_once(time: Timeline) -> None:
    """A plain client does not come back: waiting, it would only miss more."""

    class Plain(Text):
        omits = True

    wire = Wire(Plain(), bytes.decode)
    readers = [reader(time.hub, at(3), wire=wire) for _ in range(PORTION + 10)]
    publish(time.hub, 5)
    assert told(readers) == PORTION + 10
