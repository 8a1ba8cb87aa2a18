"""The watch over positions: who has silently fallen behind, and who only seems to."""

import asyncio
import gc
import itertools
import logging
import warnings
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from gateway.brokers.base import Claim, StreamOptions
from gateway.core.hub import Hub
from gateway.core.positions import BATCH, IN_FLIGHT, JOINING, LONGEST, SELDOM, PositionWatch
from gateway.errors import BrokerUnavailable
from gateway.messages import Position
from gateway.metrics import Metrics
from tests.core.test_hub import WIRE, Client, Reader, at, publication, reader
from tests.core.test_wheel import Clock
from tests.waiting import settle, until

STREAM = StreamOptions(10, 60.0)
DELAY = 40.0


class Streams:
    """Knows where each stream ends."""

    def __init__(self) -> None:
        self.tops: dict[str, Position] = {}
        self.asked: list[tuple[str, int]] = []
        self.claims: list[Claim] = []
        self.batches: list[int] = []
        self.error: Exception | None = None
        self.stream = STREAM
        self.on_ask: Callable[[], None] = lambda: None

    async def verify(self, claims: Sequence[Claim]) -> list[bool]:
        assert all(claim.stream is self.stream for claim in claims)
        self.batches.append(len(claims))
        self.claims += claims
        self.asked += [(claim.channel, claim.position.offset) for claim in claims]
        self.on_ask()
        if self.error is not None:
            raise self.error
        return [self.tops.get(claim.channel, claim.position) == claim.position for claim in claims]


class Pauses:
    """Time passes when the test says so."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.waiting: list[tuple[float, asyncio.Future[None]]] = []

    async def __call__(self, seconds: float) -> None:
        end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append((seconds, end))
        await end

    @property
    def lengths(self) -> list[float]:
        return sorted(seconds for seconds, _ in self.waiting)

    async def end(self, seconds: float) -> None:
        """Let that much time pass: pauses that are longer go on."""
        self.clock.now += seconds
        over = [future for length, future in self.waiting if length <= seconds]
        self.waiting = [each for each in self.waiting if each[0] > seconds]
        for future in over:
            if not future.done():
                future.set_result(None)
        await settle()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pauses(clock: Clock) -> Pauses:
    return Pauses(clock)


@pytest.fixture
def streams() -> Streams:
    return Streams()


@pytest.fixture
async def hub(clock: Clock) -> Hub:
    return Hub(Metrics(), clock=clock)


@pytest.fixture
async def watch(hub: Hub, streams: Streams, clock: Clock, pauses: Pauses) -> AsyncIterator[PositionWatch]:
    watch = PositionWatch(hub, streams, lambda _: STREAM, delay=DELAY, clock=clock, pause=pauses)
    yield watch
    await watch.stop()


async def started(watch: PositionWatch, pauses: Pauses) -> None:
    watch.start()
    await until(lambda: pauses.waiting)


async def test_a_quiet_channel_is_checked_once_for_all(
    hub: Hub, watch: PositionWatch, streams: Streams, pauses: Pauses
) -> None:
    readers = [reader(hub, at(3)) for _ in range(5)]
    reader(hub, channel="without position")
    await started(watch, pauses)
    await pauses.end(DELAY / 4)
    assert streams.asked == [("room", 3)]
    await pauses.end(DELAY / 4)
    assert streams.asked == [("room", 3)]
    for _ in range(4):
        await pauses.end(DELAY / 4)
    assert streams.asked == [("room", 3)] * 2
    assert [each.losses for each in readers] == [0] * 5


async def test_a_busy_channel_is_not_checked(hub: Hub, watch: PositionWatch, streams: Streams, pauses: Pauses) -> None:
    reader(hub, at(0))
    await started(watch, pauses)
    for offset in range(1, 9):
        hub.publish("room", publication(offset))
        await pauses.end(DELAY / 4)
    assert streams.asked == []


async def test_a_loss_is_found(hub: Hub, watch: PositionWatch, streams: Streams, pauses: Pauses) -> None:
    lost, plain, elsewhere = reader(hub, at(3)), reader(hub), reader(hub, at(7), channel="other")
    streams.tops["room"] = at(4)
    await started(watch, pauses)
    await pauses.end(DELAY / 4)
    assert lost.losses == 0  # the publication may be on its way
    await pauses.end(IN_FLIGHT)
    assert (lost.losses, plain.losses, elsewhere.losses) == (1, 0, 0)
    assert hub.subscribers("room") == 1


async def test_a_publication_on_its_way_is_not_a_loss(
    hub: Hub, watch: PositionWatch, streams: Streams, pauses: Pauses
) -> None:
    one = reader(hub, at(3))
    streams.tops["room"] = at(4)
    await started(watch, pauses)
    await pauses.end(DELAY / 4)
    hub.publish("room", publication(4))
    await pauses.end(IN_FLIGHT)
    assert one.losses == 0
    assert streams.asked == [("room", 3)]


async def test_only_those_who_stand_there_are_told(
    hub: Hub, watch: PositionWatch, streams: Streams, pauses: Pauses
) -> None:
    behind = reader(hub, at(3))
    hub.publish("room", publication(4))
    ahead = reader(hub, at(6))
    streams.tops["room"] = at(6)
    await started(watch, pauses)
    await pauses.end(2 * DELAY)
    await pauses.end(IN_FLIGHT)
    assert sorted(streams.asked) == [("room", 4), ("room", 4), ("room", 6)]
    assert (behind.losses, ahead.losses) == (1, 0)


async def test_subscribers_who_leave_meanwhile_are_left_alone(
    hub: Hub, watch: PositionWatch, streams: Streams, pauses: Pauses
) -> None:
    one = reader(hub, at(3))
    streams.tops["room"] = at(4)
    streams.on_ask = lambda: hub.leave(one)
    await started(watch, pauses)
    await pauses.end(DELAY / 4)
    await pauses.end(IN_FLIGHT)
    assert (one.losses, hub.channels) == (0, {})


async def test_no_verdict_while_the_broker_is_away(
    hub: Hub, watch: PositionWatch, streams: Streams, pauses: Pauses
) -> None:
    one = reader(hub, at(3))
    streams.tops["room"] = at(4)
    streams.error = BrokerUnavailable()
    await started(watch, pauses)
    await pauses.end(DELAY / 4)
    await pauses.end(IN_FLIGHT)
    assert one.losses == 0


async def test_a_check_that_fails_is_told_and_the_watch_goes_on(
    hub: Hub, watch: PositionWatch, streams: Streams, pauses: Pauses, caplog: pytest.LogCaptureFixture
) -> None:
    one = reader(hub, at(3))
    streams.tops["room"] = at(4)
    streams.error = RuntimeError("broken")
    with caplog.at_level(logging.WARNING):
        await started(watch, pauses)
        await pauses.end(DELAY / 4)
    streams.error = None
    for _ in range(5):
        await pauses.end(DELAY / 4)
    await pauses.end(IN_FLIGHT)
    assert one.losses == 1
    assert "broken" in caplog.text


async def test_the_return_of_the_broker_checks_everything(
    hub: Hub, watch: PositionWatch, streams: Streams, pauses: Pauses
) -> None:
    count = BATCH + 10
    readers = [reader(hub, at(3), channel=f"room{number}") for number in range(count)]
    hub.publish("room0", publication(4))  # just heard of, and checked nevertheless
    for number in range(1, count, 100):
        streams.tops[f"room{number}"] = at(9)
    watch.check_all()
    await until(lambda: pauses.waiting)
    assert streams.batches == [BATCH, 10]
    assert pauses.lengths == [IN_FLIGHT]
    assert sum(each.losses for each in readers) == 0
    await pauses.end(IN_FLIGHT)
    assert [each.losses for each in readers] == [int(number % 100 == 1) for number in range(count)]


async def test_a_channel_long_quiet_is_looked_at_ever_more_seldom(
    hub: Hub, watch: PositionWatch, streams: Streams, clock: Clock, pauses: Pauses
) -> None:
    reader(hub, at(3))
    started_at, looks = clock.now, []
    streams.on_ask = lambda: looks.append(clock.now - started_at)
    await started(watch, pauses)
    for _ in range(1000):
        await pauses.end(DELAY / 4)
    between = [later - earlier for earlier, later in itertools.pairwise(looks)]
    assert between[0] <= 1.5 * DELAY
    assert all(later >= earlier for earlier, later in itertools.pairwise(between[:5]))
    assert max(between) <= LONGEST + (SELDOM + 1) * DELAY / 4
    assert len(looks) < 20
    # the epoch is made to last until the next look and longer
    assert all(claim.hold > pause + DELAY for claim, pause in zip(streams.claims, between, strict=False))
    clock.now += 1  # the last look may have been at this very moment
    hub.publish("room", publication(4))
    looks.clear()
    spoken = clock.now - started_at
    for _ in range(6):
        await pauses.end(DELAY / 4)
    assert len(looks) == 1
    assert looks[0] - spoken <= 1.5 * DELAY


async def test_a_newcomer_to_a_long_quiet_channel_is_looked_at_soon(
    hub: Hub, watch: PositionWatch, streams: Streams, pauses: Pauses
) -> None:
    """What it has read of a stream without publications does not last long by itself."""
    reader(hub)
    await started(watch, pauses)
    for _ in range(500):
        await pauses.end(DELAY / 4)
    assert streams.asked == []
    reader(hub, at(0))
    await pauses.end(DELAY / 4)
    assert streams.asked == [("room", 0)]


async def test_no_look_comes_later_than_the_epoch_lasts(
    hub: Hub, streams: Streams, clock: Clock, pauses: Pauses
) -> None:
    short = StreamOptions(10, 60.0, history_meta_ttl=200.0)
    watch = PositionWatch(hub, streams, lambda _: short, delay=DELAY, clock=clock, pause=pauses)
    streams.stream = short
    reader(hub, at(3))
    looks: list[float] = []
    streams.on_ask = lambda: looks.append(clock.now)
    await started(watch, pauses)
    for _ in range(200):
        await pauses.end(DELAY / 4)
    await watch.stop()
    assert max(later - earlier for earlier, later in itertools.pairwise(looks)) < 200


async def test_a_clock_that_is_set_back_ends_no_watch(
    hub: Hub, watch: PositionWatch, streams: Streams, clock: Clock, pauses: Pauses
) -> None:
    reader(hub, at(3))
    await started(watch, pauses)
    await pauses.end(DELAY / 4)
    assert len(streams.asked) == 1
    clock.now -= 3600
    for _ in range(SELDOM):
        await pauses.end(DELAY / 4)
    assert len(streams.asked) > 1


async def test_a_channel_that_cannot_be_checked_harms_no_other(
    hub: Hub, streams: Streams, clock: Clock, pauses: Pauses, caplog: pytest.LogCaptureFixture
) -> None:
    def options(name: str) -> StreamOptions:
        if name == "bad":
            raise RuntimeError("broken")
        return STREAM

    watch = PositionWatch(hub, streams, options, delay=DELAY, clock=clock, pause=pauses)
    reader(hub, at(3), channel="bad")
    one = reader(hub, at(3))
    streams.tops["room"] = at(4)
    watch.check_all()
    await until(lambda: pauses.waiting)
    await pauses.end(IN_FLIGHT)
    await watch.stop()
    assert one.losses == 1
    assert "broken" in caplog.text


async def test_another_return_starts_over(hub: Hub, watch: PositionWatch, streams: Streams, pauses: Pauses) -> None:
    one = reader(hub, at(3))
    streams.tops["room"] = at(4)
    watch.check_all()
    await until(lambda: pauses.waiting)
    watch.check_all()
    await until(lambda: len(pauses.waiting) == 2)
    await pauses.end(IN_FLIGHT)
    assert streams.asked == [("room", 3)] * 3
    assert one.losses == 1


async def test_two_returns_at_one_moment_are_one(
    hub: Hub, watch: PositionWatch, streams: Streams, recwarn: pytest.WarningsRecorder
) -> None:
    reader(hub, at(3))
    watch.check_all()
    watch.check_all()  # either connection of a broker says so
    await until(lambda: streams.asked)
    gc.collect()
    assert (streams.asked, recwarn.list) == ([("room", 3)], [])


async def test_one_that_was_being_made_during_the_gap_is_checked_too(
    watch: PositionWatch, hub: Hub, streams: Streams, pauses: Pauses
) -> None:
    """It read its position before the gap, and comes in when the others have been looked at."""
    late = Reader(Client(WIRE), positioned=True)
    hub.join(late)
    streams.tops["room"] = at(4)
    watch.check_all()
    await until(lambda: pauses.lengths == [JOINING])
    hub.enter(late, at(3))
    await pauses.end(JOINING)
    await until(lambda: pauses.lengths == [IN_FLIGHT])
    await pauses.end(IN_FLIGHT)
    assert late.losses == 1


async def test_one_whose_making_takes_long_is_checked_when_it_has_come_in(
    watch: PositionWatch, hub: Hub, streams: Streams, pauses: Pauses
) -> None:
    late = Reader(Client(WIRE), positioned=True)
    hub.join(late)
    streams.tops["room"] = at(4)
    watch.check_all()
    for _ in range(10):
        await until(lambda: pauses.lengths == [JOINING])
        await pauses.end(JOINING)
    hub.enter(late, at(3))
    await until(lambda: pauses.lengths == [JOINING])
    await pauses.end(JOINING)
    await until(lambda: pauses.lengths == [IN_FLIGHT])
    await pauses.end(IN_FLIGHT)
    assert late.losses == 1


async def test_stops_before_it_was_started(watch: PositionWatch) -> None:
    await watch.stop()


async def test_a_check_may_be_called_for_again_before_it_has_begun(clock: Clock) -> None:
    """As when both connections to Redis come back at once."""
    watch = PositionWatch(Hub(Metrics(clock)), Streams(), lambda _: STREAM, delay=DELAY, clock=clock)
    with warnings.catch_warnings(record=True) as warned:
        watch.start()
        for _ in range(3):
            watch.check_all()
        await watch.stop()
        gc.collect()
    assert warned == []
