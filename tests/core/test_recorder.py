"""The flight recorder: its watches, their bounds, and their end."""

import pytest

from gateway.core.excerpt import READ
from gateway.core.recorder import EVENTS, LINGER, WATCHES, Recorder, Subject, Watch
from gateway.core.wheel import Wheel
from gateway.messages import Payload
from tests.core.test_wheel import Clock

ANN = Subject("user", "ann")


class Taps:
    def __init__(self) -> None:
        self.watched: list[Watch] = []

    def begin(self, watch: Watch) -> None:
        self.watched.append(watch)

    def end(self, watch: Watch) -> None:
        self.watched.remove(watch)


class Rig:
    def __init__(self) -> None:
        self.clock = Clock()
        self.wheel = Wheel(self.clock)
        self.taps = Taps()
        self.recorder = Recorder(self.clock, self.wheel, self.taps)

    def watch(self, subject: Subject = ANN, seconds: float = 10) -> Watch:
        assert self.recorder.start(subject, seconds)
        return self.recorder.watches[subject]

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        self.wheel.turn()


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_watch_ends_by_itself_and_can_be_read_a_little_longer(rig: Rig) -> None:
    watch = rig.watch(seconds=10)
    assert watch.until == rig.clock.now + 10
    rig.recorder.note(watch, "ping", "before")
    rig.pass_time(10.5)
    rig.recorder.note(watch, "ping", "after")
    assert [each.text for each in watch.events] == ["before"]
    assert rig.recorder.watches == {ANN: watch}
    rig.pass_time(LINGER)
    assert rig.recorder.watches == {}
    assert rig.taps.watched == []
    assert rig.wheel._slots == {}


def test_nothing_ends_it_at_once(rig: Rig) -> None:
    rig.watch()
    assert rig.recorder.start(ANN, 0)
    assert rig.recorder.start(ANN, 0)  # again
    assert rig.recorder.watches == {}
    assert rig.taps.watched == []
    assert rig.wheel._slots == {}


def test_one_that_is_started_again_goes_on_with_what_it_has(rig: Rig) -> None:
    watch = rig.watch(seconds=10)
    rig.recorder.note(watch, "ping", "first")
    rig.pass_time(9)
    assert rig.watch(seconds=10) is watch
    rig.pass_time(9)
    rig.recorder.note(watch, "ping", "second")
    assert [each.text for each in watch.events] == ["first", "second"]
    assert rig.taps.watched == [watch]
    rig.pass_time(1.5 + LINGER)
    assert rig.recorder.watches == {}


def test_no_more_than_so_many(rig: Rig) -> None:
    for number in range(WATCHES):
        rig.watch(Subject("channel", f"c{number}"))
    assert not rig.recorder.start(ANN, 10)
    assert len(rig.recorder.watches) == len(rig.taps.watched) == WATCHES
    rig.watch(Subject("channel", "c3"), 20)  # known already
    assert rig.recorder.start(Subject("channel", "c0"), 0)
    rig.watch(ANN)


def test_the_last_events_are_kept_and_the_others_counted(rig: Rig) -> None:
    watch = rig.watch()
    for number in range(EVENTS + 7):
        rig.recorder.note(watch, "ping", str(number))
    assert [each.text for each in watch.events] == [str(number) for number in range(7, EVENTS + 7)]
    assert watch.dropped == 7


def test_no_two_events_have_the_same_moment(rig: Rig) -> None:
    watch, other = rig.watch(), rig.watch(Subject("channel", "c"))
    for _ in range(10):
        rig.recorder.note(watch, "ping", "")
        rig.recorder.note(other, "ping", "")
    rig.clock.now -= 5  # as when it is set
    rig.recorder.note(watch, "ping", "")
    moments = [each.at for each in watch.events]
    assert moments == sorted(set(moments))
    assert not set(moments) & {each.at for each in other.events}


def test_what_is_kept_is_bounded(rig: Rig) -> None:
    watch = rig.watch()
    long = "x" * 10_000
    rig.recorder.note(watch, "reply", long, client=long, user=long, channel=long, data=Payload(b"1" * (READ + 1)))
    [event] = watch.events
    assert len(event.text) == len(event.client) == len(event.user) == len(event.channel) == 256
    assert event.data == f'"{READ + 1} bytes"'


def test_a_payload_is_read_by_who_wants_to_see_it(rig: Rig) -> None:
    watch, data = rig.watch(), Payload(b'{"token":1}')
    rig.recorder.note(watch, "publication", "", data=data)
    assert watch.events[0].data is data
