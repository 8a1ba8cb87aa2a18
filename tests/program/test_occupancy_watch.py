"""From what a node hears to what is told about the cluster."""

import asyncio

import pytest

from gateway.core.feeds import LINGER, Feeds
from gateway.occupancy.memory import MemoryOccupancy
from gateway.program.occupancy_watch import OccupancyWatch
from tests.core.test_feeds import Source, Timeline
from tests.occupancy.recorder import Recorder
from tests.waiting import settle


class Site:
    """A node's feeds, watched."""

    def __init__(self, name: str, shared: dict[str, set[str]], timeline: Timeline, recorder: Recorder) -> None:
        self.name = name
        self.idle = asyncio.Event()
        self.idle.set()
        self.source = Source()
        self.feeds = Feeds(self.source, timeline.wheel)
        self.watch = OccupancyWatch(MemoryOccupancy(shared), lambda channel: channel == "room", recorder, self.told)
        self.feeds.watchers.append(self.watch)

    async def told(self, channel: str) -> None:
        await self.idle.wait()

    async def start(self) -> "Site":
        await self.watch.start(self.name)
        return self

    async def hold(self, channel: str) -> None:
        if not self.source.answers[channel].done():
            self.source.confirm(channel)
        await self.feeds.hold(channel)
        await settle()


@pytest.fixture
def timeline() -> Timeline:
    return Timeline()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def sites(timeline: Timeline, recorder: Recorder) -> tuple[Site, Site]:
    shared: dict[str, set[str]] = {}
    return (
        await Site("n1", shared, timeline, recorder).start(),
        await Site("n2", shared, timeline, recorder).start(),
    )


async def test_told_once_for_the_cluster(sites: tuple[Site, Site], timeline: Timeline, recorder: Recorder) -> None:
    one, two = sites
    for site in (one, two, one):
        await site.hold("room")
    for site in (one, two):
        site.feeds.release("room")
    await timeline.pass_(2 * LINGER)
    assert recorder.events == ["+room"]
    one.feeds.release("room")
    await timeline.pass_(2 * LINGER)
    assert recorder.events == ["+room", "-room"]
    await two.hold("room")
    await timeline.pass_(0)
    assert recorder.events == ["+room", "-room", "+room"]


async def test_other_channels_are_nobodys_business(
    sites: tuple[Site, Site], timeline: Timeline, recorder: Recorder
) -> None:
    await sites[0].hold("other")
    sites[0].feeds.release("other")
    await timeline.pass_(2 * LINGER)
    assert recorder.events == []


async def test_after_closing_nothing_is_entered_or_left_twice(
    sites: tuple[Site, Site], timeline: Timeline, recorder: Recorder
) -> None:
    one, _ = sites
    await one.hold("room")
    await one.watch.close()
    assert recorder.events == ["+room", "-room"]
    one.feeds.release("room")
    await timeline.pass_(2 * LINGER)
    await one.hold("room")
    await timeline.pass_(0)
    assert recorder.events == ["+room", "-room"]


async def test_a_channel_is_left_only_when_its_events_are_dealt_with(
    sites: tuple[Site, Site], timeline: Timeline, recorder: Recorder
) -> None:
    one, two = sites
    await one.hold("room")
    await two.hold("room")
    one.idle.clear()  # busy with its being occupied
    for site in sites:
        site.feeds.release("room")
    await timeline.pass_(2 * LINGER)
    assert recorder.events == ["+room"]  # the other one was not the last to leave
    one.idle.set()
    await settle()
    assert recorder.events == ["+room", "-room"]


async def test_who_is_heard_again_meanwhile_does_not_leave(
    sites: tuple[Site, Site], timeline: Timeline, recorder: Recorder
) -> None:
    one, _ = sites
    await one.hold("room")
    one.idle.clear()
    one.feeds.release("room")
    await timeline.pass_(2 * LINGER)
    await one.hold("room")
    one.idle.set()
    await settle()
    assert recorder.events == ["+room"]
    one.feeds.release("room")
    await timeline.pass_(2 * LINGER)
    assert recorder.events == ["+room", "-room"]
