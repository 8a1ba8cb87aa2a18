"""Which channels a node hears: opened by the first holder, closed a while after the last has gone."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable

import pytest

from gateway.core.feeds import LINGER, Feeds
from gateway.core.wheel import Wheel
from gateway.errors import BrokerUnavailable
from tests.core.test_wheel import Clock
from tests.waiting import settle, until


class Source:
    """Confirms a subscription when the test says so."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.answers: dict[str, asyncio.Future[None]] = defaultdict(asyncio.get_running_loop().create_future)
        self.away = False

    async def subscribe(self, channel: str) -> None:
        self.calls.append(f"+{channel}")
        await self.answers[channel]

    async def unsubscribe(self, channel: str) -> None:
        self.calls.append(f"-{channel}")
        if self.away:
            raise BrokerUnavailable

    def confirm(self, channel: str = "room") -> None:
        self.answers[channel].set_result(None)

    def fail(self, channel: str = "room") -> None:
        self.answers.pop(channel).set_exception(BrokerUnavailable())


class Timeline:
    """A wheel and its clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.wheel = Wheel(self.clock)

    async def pass_(self, seconds: float) -> None:
        self.clock.now += seconds
        self.wheel.turn()
        await settle()


@pytest.fixture
async def source() -> Source:
    return Source()


@pytest.fixture
def timeline() -> Timeline:
    return Timeline()


@pytest.fixture
def feeds(source: Source, timeline: Timeline) -> Feeds:
    return Feeds(source, timeline.wheel)


async def holding(feeds: Feeds, count: int = 1) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(feeds.hold("room")) for _ in range(count)]
    await settle()
    return tasks


async def test_holders_wait_for_one_confirmation(feeds: Feeds, source: Source) -> None:
    holders = await holding(feeds, 3)
    assert source.calls == ["+room"]
    assert not any(holder.done() for holder in holders)
    source.confirm()
    await asyncio.gather(*holders)
    await feeds.hold("room")
    assert source.calls == ["+room"]


async def test_channels_do_not_wait_for_each_other(feeds: Feeds, source: Source) -> None:
    [slow] = await holding(feeds)
    source.confirm("other")
    await feeds.hold("other")
    assert not slow.done()
    source.confirm()
    await slow


async def test_a_failure_is_everybodys_and_nothing_is_held(feeds: Feeds, source: Source, timeline: Timeline) -> None:
    holders = await holding(feeds, 3)
    source.fail()
    for result in await asyncio.gather(*holders, return_exceptions=True):
        assert isinstance(result, BrokerUnavailable)
    source.confirm()
    await feeds.hold("room")
    assert source.calls == ["+room", "+room"]
    await timeline.pass_(2 * LINGER)
    assert source.calls == ["+room", "+room"]
    feeds.release("room")
    await timeline.pass_(2 * LINGER)
    assert source.calls[2:] == ["-room"]


async def test_lingers_before_it_closes(feeds: Feeds, source: Source, timeline: Timeline) -> None:
    source.confirm()
    await feeds.hold("room")
    await feeds.hold("room")
    feeds.release("room")
    await timeline.pass_(2 * LINGER)
    assert source.calls == ["+room"]
    feeds.release("room")
    await timeline.pass_(LINGER / 2)
    assert source.calls == ["+room"]
    await timeline.pass_(LINGER)
    assert source.calls == ["+room", "-room"]
    feeds.release("room")  # nothing is held: nothing happens
    await timeline.pass_(2 * LINGER)
    assert source.calls == ["+room", "-room"]


async def test_one_who_comes_while_it_lingers_keeps_it(feeds: Feeds, source: Source, timeline: Timeline) -> None:
    source.confirm()
    await feeds.hold("room")
    feeds.release("room")
    await timeline.pass_(LINGER / 2)
    await feeds.hold("room")
    await timeline.pass_(2 * LINGER)
    assert source.calls == ["+room"]


async def test_after_the_end_it_is_subscribed_again_in_order(feeds: Feeds, source: Source, timeline: Timeline) -> None:
    source.confirm()
    await feeds.hold("room")
    feeds.release("room")
    timeline.clock.now += 2 * LINGER
    timeline.wheel.turn()
    await feeds.hold("room")
    assert source.calls == ["+room", "-room", "+room"]


async def test_a_broker_that_is_away_has_forgotten_the_channel(
    feeds: Feeds, source: Source, timeline: Timeline
) -> None:
    source.confirm()
    source.away = True
    await feeds.hold("room")
    feeds.release("room")
    await timeline.pass_(2 * LINGER)
    await until(lambda: not feeds._closing.running)
    assert source.calls == ["+room", "-room"]


# — those who give up —


async def test_one_who_gives_up_does_not_disturb_others(feeds: Feeds, source: Source, timeline: Timeline) -> None:
    impatient, patient = await holding(feeds, 2)
    source.confirm()
    source.answers["room"].add_done_callback(lambda _: impatient.cancel())
    await patient
    assert source.calls == ["+room"]
    await feeds.hold("room")
    feeds.release("room")
    await timeline.pass_(2 * LINGER)
    assert "-room" not in source.calls  # `patient` still holds it


async def test_an_opening_that_was_cancelled_is_begun_anew(feeds: Feeds, source: Source) -> None:
    [holder] = await holding(feeds)
    source.answers.pop("room").cancel()
    await settle()
    assert holder.cancelled()
    source.confirm()
    await feeds.hold("room")
    assert source.calls == ["+room", "+room"]


# — those who watch —


class Watcher:
    def __init__(self) -> None:
        self.told: list[str] = []

    def on_heard(self, channel: str) -> None:
        self.told.append(f"+{channel}")

    def on_ceased(self, channel: str) -> None:
        self.told.append(f"-{channel}")


@pytest.fixture
def watcher(feeds: Feeds) -> Watcher:
    watcher = Watcher()
    feeds.watchers.append(watcher)
    return watcher


async def test_watchers_know_what_is_heard(feeds: Feeds, source: Source, timeline: Timeline, watcher: Watcher) -> None:
    await holding(feeds, 2)
    assert watcher.told == []
    source.confirm()
    await feeds.hold("room")
    assert watcher.told == ["+room"]
    for _ in range(3):
        feeds.release("room")
    await timeline.pass_(LINGER / 2)
    assert watcher.told == ["+room"]
    await timeline.pass_(LINGER)
    assert watcher.told == ["+room", "-room"]
    await feeds.hold("room")
    assert watcher.told == ["+room", "-room", "+room"]


async def test_who_holds_quietly_is_no_subscriber(
    feeds: Feeds, source: Source, timeline: Timeline, watcher: Watcher
) -> None:
    source.confirm()
    await feeds.hold("room", quietly=True)
    assert source.calls == ["+room"]
    assert watcher.told == []
    await feeds.hold("room")
    await feeds.hold("room")
    assert watcher.told == ["+room"]
    feeds.release("room")
    await timeline.pass_(2 * LINGER)
    assert watcher.told == ["+room"]
    feeds.release("room")
    await timeline.pass_(LINGER / 2)
    assert watcher.told == ["+room"]
    await timeline.pass_(LINGER)
    assert watcher.told == ["+room", "-room"]
    assert source.calls == ["+room"]
    feeds.release("room", quietly=True)
    await timeline.pass_(2 * LINGER)
    assert watcher.told == ["+room", "-room"]
    assert source.calls == ["+room", "-room"]


async def test_a_subscriber_stays_one_when_those_who_held_quietly_have_gone(
    feeds: Feeds, source: Source, timeline: Timeline, watcher: Watcher
) -> None:
    source.confirm()
    await feeds.hold("room")
    await feeds.hold("room", quietly=True)
    feeds.release("room", quietly=True)
    await timeline.pass_(2 * LINGER)
    assert watcher.told == ["+room"]
    feeds.release("room")
    await timeline.pass_(2 * LINGER)
    assert watcher.told == ["+room", "-room"]


async def test_what_could_not_be_opened_was_never_heard(feeds: Feeds, source: Source, watcher: Watcher) -> None:
    holders = await holding(feeds, 2)
    source.fail()
    await asyncio.gather(*holders, return_exceptions=True)
    assert watcher.told == []


async def test_what_was_given_up_before_it_opened_was_never_heard(
    feeds: Feeds, source: Source, timeline: Timeline, watcher: Watcher
) -> None:
    [holder] = await holding(feeds)
    holder.cancel()
    await settle()
    await timeline.pass_(2 * LINGER)
    source.confirm()
    await settle()
    assert source.calls == ["+room", "-room"]
    assert watcher.told == []


async def test_a_watcher_that_fails_harms_nobody(
    feeds: Feeds, source: Source, timeline: Timeline, watcher: Watcher, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Watcher):
        def on_heard(self, channel: str) -> None:
            raise RuntimeError("broken")

        on_ceased = on_heard

    feeds.watchers.insert(0, Failing())
    source.confirm()
    await feeds.hold("room")
    feeds.release("room")
    await timeline.pass_(2 * LINGER)
    assert watcher.told == ["+room", "-room"]
    assert source.calls == ["+room", "-room"]
    assert caplog.text.count("RuntimeError: broken") == 2


class Refusing(Source):
    """Has nothing to do with some channels, and says so at once."""

    def subscribe(self, channel: str) -> Awaitable[None]:  # type: ignore[override]  # not only by a coroutine
        if self.away:
            raise ValueError(channel)
        return super().subscribe(channel)

    def unsubscribe(self, channel: str) -> Awaitable[None]:  # type: ignore[override]
        if channel == "bad":
            raise ValueError(channel)
        return super().unsubscribe(channel)


async def test_nobody_waits_for_a_channel_that_the_broker_has_refused_at_once(timeline: Timeline) -> None:
    source = Refusing()
    feeds = Feeds(source, timeline.wheel)
    source.away = True
    with pytest.raises(ValueError, match="room"):
        await feeds.hold("room")
    source.away = False
    source.confirm()
    (holder,) = await holding(feeds)
    assert holder.done()
    assert source.calls == ["+room"]


async def test_a_channel_that_cannot_be_left_keeps_no_others_open(timeline: Timeline) -> None:
    source = Refusing()
    feeds = Feeds(source, timeline.wheel)
    for channel in ("bad", "room"):
        source.confirm(channel)
        await feeds.hold(channel)
        feeds.release(channel)
    for _ in range(2):
        await timeline.pass_(LINGER)
    assert source.calls == ["+bad", "+room", "-room"]
