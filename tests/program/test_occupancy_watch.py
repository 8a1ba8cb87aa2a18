"""From what a node hears to what is told about the cluster."""

import pytest

from gateway.core.feeds import LINGER, Feeds
from gateway.occupancy.memory import MemoryOccupancy
from gateway.program.occupancy_watch import OccupancyWatch
from tests.core.test_feeds import Source, Timeline
from tests.occupancy.recorder import Recorder


class Site:
    """A node's feeds, watched."""

    def __init__(self, name: str, shared: dict[str, set[str]], timeline: Timeline, recorder: Recorder) -> None:
        self.name = name
        self.source = Source()
        self.feeds = Feeds(self.source, timeline.wheel)
        self.watch = OccupancyWatch(MemoryOccupancy(shared), lambda channel: channel == "room", recorder)
        self.feeds.watchers.append(self.watch)

    async def start(self) -> "Site":
        await self.watch.start(self.name)
        return self

    async def hold(self, channel: str) -> None:
        if not self.source.answers[channel].done():
            self.source.confirm(channel)
        await self.feeds.hold(channel)


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
