"""Live sources: one node of those with subscribers runs a channel's generator, whatever befalls the nodes."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from gateway.brokers.base import Broker, PublishOptions, StreamOptions
from gateway.brokers.memory import MemoryBroker
from gateway.brokers.redis import RedisBroker
from gateway.core.feeds import LINGER, Feeds
from gateway.errors import BrokerUnavailable
from gateway.leases.base import Lease, Leases, Released, Taken
from gateway.leases.memory import MemoryLeases
from gateway.leases.redis import RedisLeases
from gateway.messages import Payload, Publication
from gateway.occupancy.memory import MemoryOccupancy
from gateway.program import live
from gateway.program.live import Factory, LiveSources
from gateway.program.occupancy_watch import OccupancyWatch
from tests.brokers.recorder import Recorder
from tests.core.test_feeds import Source, Timeline
from tests.redis_fixtures import redis_url, started_shard
from tests.redis_server import RedisServer
from tests.waiting import settle, until

LASTING = 60.0
"""A lease's TTL where it is not to run out."""

SHORT = 1.6
"""One that runs out within a test."""


class Wire:
    """The way of one node to the leases, which can be cut."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self.cut = False
        self.hangs = False
        self.failures = 0
        self.refusals = 0
        self.lease: Lease | None = None
        """The last one acquired."""
        self.ttl = leases.ttl
        self.on_release: list[Released] = leases.on_release

    async def start(self) -> None:
        await self._leases.start()

    async def close(self) -> None:
        await self._leases.close()

    async def acquire(self, name: str, owner: str, anew: bool = False) -> Lease | Taken:
        await self._pass()
        answer = await self._leases.acquire(name, owner, anew)
        if isinstance(answer, Lease):
            self.lease = answer
        else:
            self.refusals += 1
        return answer

    async def renew(self, lease: Lease) -> bool:
        await self._pass()
        return await self._leases.renew(lease)

    async def release(self, lease: Lease) -> None:
        await self._pass()
        await self._leases.release(lease)

    async def finish(self, lease: Lease) -> None:
        await self._pass()
        await self._leases.finish(lease)

    async def _pass(self) -> None:
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if self.cut:
            self.failures += 1
            raise BrokerUnavailable


class World:
    """What happens on all nodes, in order, and the items that the sources are to yield."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.running: list[str] = []
        self.items: asyncio.Queue[str] = asyncio.Queue()

    async def run(self, node: str, channel: str) -> AsyncGenerator[str, None]:
        """Yield what is put into ``items``, and end with ``end``."""
        self.running.append(node)
        self.log.append(f"{node} runs" if len(self.running) == 1 else "two at the same time")
        try:
            while (item := await self.items.get()) != "end":
                if item == "fail":
                    raise ZeroDivisionError(item)
                if item == "cancel":
                    raise asyncio.CancelledError
                yield item
        finally:
            self.running.remove(node)
            self.log.append(f"{node} stops")


class Site:
    """One node: its way to the leases, its broker, its live sources."""

    def __init__(self, name: str, leases: Leases, broker: Broker, world: World, factory: Factory | None = None) -> None:
        self.name = name
        self.wire = Wire(leases)
        self.broker = broker
        self.factory: Factory = factory or partial(world.run, name)
        self.live = LiveSources(name, self.wire, self.publish, self.find)

    def find(self, channel: str) -> Factory | None:
        return self.factory if channel == "room" else None

    async def publish(self, channel: str, item: str, fence: str) -> None:
        publication = Publication(Payload(item.encode()))
        await self.broker.publish(channel, publication, StreamOptions(), PublishOptions(fence=fence))


Sites = tuple[Site, Site]


def slow(world: World, closing: asyncio.Event) -> Factory:
    """A source that takes until ``closing`` to close."""

    async def run(channel: str) -> AsyncGenerator[str, None]:
        world.log.append("runs")
        try:
            yield "a"
            await asyncio.get_running_loop().create_future()
        finally:
            world.log.append("closes")
            await closing.wait()
            world.log.append("stops")

    return run


@pytest.fixture
async def world() -> World:
    return World()


@pytest.fixture
def heard() -> Recorder:
    return Recorder()


@asynccontextmanager
async def redis_sites(url: str, world: World, heard: Recorder, ttl: float) -> AsyncIterator[Sites]:
    """Two nodes joined by Redis. The first one's broker is listened to."""
    async with started_shard(url, io_timeout=0.5) as first, started_shard(url, io_timeout=0.5) as second:
        broker = RedisBroker(first)
        await broker.start("n1", heard)
        await broker.subscribe("room")
        one = Site("n1", RedisLeases(first, ttl), broker, world)
        two = Site("n2", RedisLeases(second, ttl), RedisBroker(second), world)
        for site in (one, two):
            await site.live.start()
        yield one, two
        for site in (one, two):
            await site.live.stop(within=1.0)
        await broker.close()


@asynccontextmanager
async def memory_sites(world: World, heard: Recorder, ttl: float) -> AsyncIterator[Sites]:
    """Two nodes in one process."""
    leases = MemoryLeases(ttl)
    broker = MemoryBroker(holds=leases.holds)
    await broker.start("n1", heard)
    await broker.subscribe("room")
    one, two = Site("n1", leases, broker, world), Site("n2", leases, broker, world)
    for site in (one, two):
        await site.live.start()
    yield one, two
    for site in (one, two):
        await site.live.stop(within=1.0)


@pytest.fixture(params=["memory", "redis"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def two_sites(
    kind: str, server: RedisServer, world: World, heard: Recorder, ttl: float = LASTING
) -> AsyncIterator[Sites]:
    if kind == "memory":
        async with memory_sites(world, heard, ttl) as sites:
            yield sites
    else:
        with redis_url("redis", server) as url:
            async with redis_sites(url, world, heard, ttl) as sites:
                yield sites


@pytest.fixture
async def sites(kind: str, shared_server: RedisServer, world: World, heard: Recorder) -> AsyncIterator[Sites]:
    """Two nodes whose leases last, so that whatever happens in time does not happen because one ran out."""
    async with two_sites(kind, shared_server, world, heard) as made:
        yield made


@pytest.fixture
async def brief(kind: str, shared_server: RedisServer, world: World, heard: Recorder) -> AsyncIterator[Sites]:
    """Two nodes whose leases run out within the test."""
    async with two_sites(kind, shared_server, world, heard, SHORT) as made:
        yield made


@pytest.fixture
async def one(world: World, heard: Recorder) -> AsyncIterator[Site]:
    """A node by itself."""
    async with memory_sites(world, heard, LASTING) as (first, _):
        yield first


async def both_hear(sites: Sites, world: World) -> tuple[Site, Site]:
    """The one that runs the source, and the other one."""
    for site in sites:
        site.live.on_heard("room")
    await until(lambda: world.running)
    first, second = sites if world.running == ["n1"] else sites[::-1]
    return first, second


# — who runs it —


async def test_one_node_runs_it_and_all_hear_it(sites: Sites, world: World, heard: Recorder) -> None:
    holder, _ = await both_hear(sites, world)
    for item in ("a", "b"):
        world.items.put_nowait(item)
    await until(lambda: heard.texts == ["a", "b"])
    assert world.log == [f"{holder.name} runs"]


async def test_it_runs_nowhere_when_nobody_hears_it(sites: Sites, world: World) -> None:
    one, _ = sites
    one.live.on_heard("other")
    await settle()
    assert world.log == []
    one.live.on_heard("room")
    await until(lambda: world.running)
    one.live.on_ceased("room")
    one.live.on_ceased("room")
    await until(lambda: not one.live._work.running)
    assert world.log == ["n1 runs", "n1 stops"]
    one.live.on_heard("room")
    await until(lambda: world.running)


@pytest.mark.parametrize("by", ["ceasing", "stopping"])
async def test_the_other_takes_over_at_once(sites: Sites, world: World, heard: Recorder, by: str) -> None:
    holder, other = await both_hear(sites, world)
    if by == "ceasing":
        holder.live.on_ceased("room")
    else:
        await holder.live.stop()
        await holder.live.stop()
        holder.live.on_heard("room")
    await until(lambda: world.running == [other.name], deadline=LASTING / 2)
    assert world.log == [f"{holder.name} runs", f"{holder.name} stops", f"{other.name} runs"]
    world.items.put_nowait("a")
    await until(lambda: heard.texts == ["a"])


async def test_coming_back_while_the_source_still_closes(one: Site, world: World) -> None:
    closing = asyncio.Event()
    one.factory = slow(world, closing)
    one.live.on_heard("room")
    await until(lambda: world.log)
    one.live.on_ceased("room")
    one.live.on_heard("room")
    await until(lambda: world.log == ["runs", "closes"])
    await settle()
    assert world.log == ["runs", "closes"]
    closing.set()
    await until(lambda: world.log == ["runs", "closes", "stops", "runs"])


# — leases that are lost —


@pytest.mark.parametrize("how", ["cut", "hangs"])
async def test_cut_off_it_stops_before_another_begins(
    brief: Sites, world: World, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    holder, other = await both_hear(brief, world)
    setattr(holder.wire, how, True)
    await until(lambda: world.running == [other.name])
    assert world.log == [f"{holder.name} runs", f"{holder.name} stops", f"{other.name} runs"]
    assert "the lease of room may be lost" in caplog.text
    setattr(holder.wire, how, False)


async def test_a_lease_that_is_renewed_is_kept(brief: Sites, world: World) -> None:
    holder, _ = await both_hear(brief, world)
    end = asyncio.get_running_loop().time() + 1.5 * SHORT
    holder.wire.cut = True  # one answer that does not come costs nothing
    await until(lambda: asyncio.get_running_loop().time() > end - SHORT)
    holder.wire.cut = False
    await until(lambda: asyncio.get_running_loop().time() > end)
    assert world.log == [f"{holder.name} runs"]


async def test_a_node_that_was_killed_is_replaced(brief: Sites, world: World) -> None:
    before = asyncio.all_tasks()
    brief[0].live.on_heard("room")
    await until(lambda: world.running)
    for task in asyncio.all_tasks() - before:
        task.cancel()
    brief[0].live._candidates.clear()
    brief[1].live.on_heard("room")
    await until(lambda: world.running == ["n2"])


async def test_an_old_holder_is_refused_and_steps_back(
    sites: Sites, world: World, heard: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    holder, other = await both_hear(sites, world)
    other.live.on_ceased("room")
    thief = await robbed(holder)
    world.items.put_nowait("too late")
    await until(lambda: "the source of room was overtaken" in caplog.text)
    assert not world.running
    assert await holder.wire._leases.renew(thief)
    await holder.wire._leases.release(thief)
    await until(lambda: world.running == [holder.name])
    world.items.put_nowait("in time")
    await until(lambda: heard.texts == ["in time"])


async def test_one_who_is_refused_when_renewing_steps_back(brief: Sites, world: World) -> None:
    holder, other = await both_hear(brief, world)
    other.live.on_ceased("room")
    thief = await robbed(holder)
    await until(lambda: not world.running)
    await holder.wire._leases.release(thief)
    await until(lambda: world.running == [holder.name])


async def test_a_source_that_closes_too_slowly_is_not_run_again_before(brief: Sites, world: World) -> None:
    one, _ = brief
    closing = asyncio.Event()
    one.factory = slow(world, closing)
    one.live.on_heard("room")
    await until(lambda: world.log)
    one.wire.cut = True
    await until(lambda: world.log == ["runs", "closes"])
    one.wire.cut = False
    assert await until(partial(_steals, one))
    closing.set()
    await until(lambda: world.log == ["runs", "closes", "stops", "runs"])


async def _steals(site: Site) -> bool:
    """Whether somebody else can have the site's lease by now."""
    answer = await site.wire._leases.acquire("room", "thief")
    return isinstance(answer, Lease)


async def robbed(site: Site) -> Lease:
    """Another holder of the site's lease, which the site knows nothing of."""
    leases = site.wire._leases
    assert site.wire.lease is not None
    await leases.release(site.wire.lease)
    thief = await leases.acquire("room", "thief")
    assert isinstance(thief, Lease)
    return thief


async def test_redis_away_and_back(world: World, heard: Recorder) -> None:
    with RedisServer() as own:
        async with redis_sites(own.url, world, heard, SHORT) as sites:
            await both_hear(sites, world)
            own.kill()
            await until(lambda: not world.running)
            own.start()
            await until(lambda: world.running)

            async def arrives() -> bool:
                world.items.put_nowait("a")
                return bool(heard.texts)

            await until(arrives)


# — sources that end or fail —


async def test_a_source_that_has_finished_is_run_when_the_channel_is_occupied_anew(
    sites: Sites, world: World, heard: Recorder
) -> None:
    holder, other = await both_hear(sites, world)
    world.items.put_nowait("a")
    world.items.put_nowait("end")
    await until(lambda: not world.running)
    finished = list(world.log)
    # Whoever else comes or looks, it stays finished.
    holder.live.on_ceased("room")
    for _ in range(2):
        other.live._released("room")
    await until(lambda: other.wire.refusals > 1)
    holder.live.on_heard("room")
    await until(lambda: holder.wire.refusals)
    assert world.log == finished
    for site in sites:
        site.live.on_ceased("room")
    other.live.on_occupied("room")  # not heard here: nothing to be done
    other.live.on_heard("room")
    other.live.on_occupied("room")
    await until(lambda: world.running == [other.name])
    other.live.on_occupied("room")  # told late, while it runs: it is not to be run twice
    refusals = other.wire.refusals
    world.items.put_nowait("end")
    await until(lambda: other.wire.refusals > refusals)
    assert len(world.log) == 4
    assert heard.texts == ["a"]


@pytest.mark.parametrize("ending", ["fail", "cancel"])
async def test_one_that_fails_is_logged_once_and_run_again(
    one: Site, world: World, heard: Recorder, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    one.live.on_heard("room")
    for item in (ending, ending, "a"):
        world.items.put_nowait(item)
    await until(lambda: heard.texts == ["a"])
    assert world.log == ["n1 runs", "n1 stops"] * 2 + ["n1 runs"]
    records = [record for record in caplog.records if record.name == "gateway.program.live"]
    assert [(record.levelno, record.exc_info is not None) for record in records] == [
        (logging.ERROR, True),
        (logging.WARNING, False),
    ]


async def test_one_that_ran_well_in_between_is_logged_again(
    one: Site, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(live, "MAX_BACKOFF", 0.0)
    one.live.on_heard("room")
    for item in ("fail", "fail"):
        world.items.put_nowait(item)
    await until(lambda: len(world.log) == 5)
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2


async def test_an_item_that_the_broker_does_not_take_is_lost(one: Site, world: World, heard: Recorder) -> None:
    one.live.on_heard("room")
    publish, one.live._candidates["room"]._publish = one.publish, _unavailable
    world.items.put_nowait("lost")
    await until(lambda: world.items.empty())
    await settle()
    one.live._candidates["room"]._publish = publish
    world.items.put_nowait("a")
    await until(lambda: heard.texts == ["a"])
    assert world.log == ["n1 runs"]


async def _unavailable(channel: str, item: str, fence: str) -> None:
    raise BrokerUnavailable


async def test_the_end_is_noted_even_if_redis_is_away_just_then(one: Site, world: World) -> None:
    one.wire.ttl = 1.0
    one.live.on_heard("room")
    await until(lambda: world.running)
    one.wire.cut = True
    world.items.put_nowait("end")
    await until(lambda: one.wire.failures > 1)
    one.wire.cut = False
    await until(lambda: one.wire.refusals)
    assert world.log == ["n1 runs", "n1 stops"]


async def test_the_end_that_could_not_be_noted_in_time(one: Site, world: World) -> None:
    one.wire.ttl = 0.3
    one.live.on_heard("room")
    await until(lambda: world.running)
    one.wire.cut = True
    world.items.put_nowait("end")
    await until(lambda: one.wire.failures > 1 and not one.live._candidates["room"]._serving)
    one.wire.cut = False
    await one.wire.release(_held(one))
    await until(lambda: world.running)


def _held(site: Site) -> Lease:
    assert site.wire.lease is not None
    return site.wire.lease


# — sources that do not let go —


async def test_one_that_takes_no_notice_of_its_end_is_closed_at_its_next_item(one: Site, world: World) -> None:
    async def stubborn(channel: str) -> AsyncGenerator[str, None]:
        try:
            world.log.append("runs")
            while True:
                try:
                    await asyncio.get_running_loop().create_future()
                except asyncio.CancelledError:
                    yield "still here"
        finally:
            world.log.append("stops")

    one.factory = stubborn
    one.live.on_heard("room")
    await until(lambda: world.log)
    one.live.on_ceased("room")
    await until(lambda: not one.live._work.running)
    assert world.log == ["runs", "stops"]


async def test_failing_while_it_is_closed(one: Site, world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def clumsy(channel: str) -> AsyncGenerator[str, None]:
        try:
            world.log.append("runs")
            yield "a"
            await asyncio.get_running_loop().create_future()
        finally:
            raise ZeroDivisionError

    one.factory = clumsy
    one.live.on_heard("room")
    await until(lambda: world.log)
    await settle()
    one.live.on_ceased("room")
    await until(lambda: not one.live._work.running)
    assert "closing the source of room failed" in caplog.text
    assert isinstance(await one.wire.acquire("room", "n2"), Lease)


async def test_one_that_never_closes_is_given_up(one: Site, world: World) -> None:
    never = asyncio.Event()
    one.factory = slow(world, never)
    one.live.on_heard("room")
    await until(lambda: world.log)
    await settle()
    await one.live.stop(within=0.05)
    assert isinstance(await one.wire.acquire("room", "n2"), Taken)  # nobody else begins before the lease is over
    never.set()
    await until(lambda: world.log == ["runs", "closes", "stops"])


async def test_one_that_never_waits_does_not_hold_up_the_node(one: Site, heard: Recorder) -> None:
    async def eager(channel: str) -> AsyncGenerator[str, None]:
        while True:
            yield "a"

    one.factory = eager
    one.live.on_heard("room")
    await until(lambda: len(heard.texts) > 100)


# — with feeds and occupancy, as in a node —


async def test_from_the_first_subscriber_to_the_last(world: World, heard: Recorder) -> None:
    timeline, source = Timeline(), Source()
    source.confirm("room")
    async with memory_sites(world, heard, LASTING) as (one, _):
        feeds = Feeds(source, timeline.wheel)
        told = Told(one.live)
        watch = OccupancyWatch(MemoryOccupancy(), lambda channel: bool(one.find(channel)), told, told.done)
        await watch.start("n1")
        feeds.watchers += [one.live, watch]
        await feeds.hold("room")
        world.items.put_nowait("end")
        await until(lambda: world.log == ["n1 runs", "n1 stops"])
        await feeds.hold("room")
        feeds.release("room")
        await timeline.pass_(2 * LINGER)
        assert world.log == ["n1 runs", "n1 stops"]
        feeds.release("room")
        await timeline.pass_(2 * LINGER)
        await feeds.hold("room")
        await until(lambda: world.running)
        feeds.release("room")
        await timeline.pass_(LINGER / 2)
        assert world.running
        await timeline.pass_(LINGER)
        await until(lambda: not world.running)
        await watch.close()


class Told:
    """Passes on what live sources have to know of occupancy."""

    def __init__(self, sources: LiveSources) -> None:
        self._sources = sources

    def on_occupied(self, channel: str) -> None:
        self._sources.on_occupied(channel)

    def on_vacated(self, channel: str) -> None:
        pass

    async def done(self, channel: str) -> None:
        """At once."""
