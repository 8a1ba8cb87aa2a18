"""The node: one worker process. Orders the calls among hub, broker, presence and cluster."""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any

from gateway.blocks.base import BlockStore
from gateway.brokers.base import NO_EXTRAS, Broker, HistoryFilter, PublishOptions
from gateway.brokers.publish_queue import PublishQueue
from gateway.brokers.single_flight import SingleFlight
from gateway.channels import Ask, Channel, Channels, Route
from gateway.config.settings import Settings
from gateway.config.settings.channels import STREAM_TYPES
from gateway.config.settings.section import plain
from gateway.core.blocked import Blocked
from gateway.core.cluster import Cluster, ControlCommand, NodeInfo
from gateway.core.doubts import Doubts
from gateway.core.feeds import Feeds
from gateway.core.hub import Hub
from gateway.core.isolation import Isolation
from gateway.core.map_presence import MapPresence
from gateway.core.maps import Maps
from gateway.core.polls import Polls
from gateway.core.positions import PositionWatch
from gateway.core.recorder import Witness
from gateway.core.recovery import resume
from gateway.core.rosters import Rosters
from gateway.core.stream_options import StreamOptionsTable
from gateway.core.survey import Page, Question, Roll
from gateway.core.tasks import Tasks, at_once
from gateway.core.wheel import Wheel
from gateway.errors import BrokerUnavailable, Error, ErrorCode
from gateway.health import Condition, ServerHealth
from gateway.limits.limiter import Limiter
from gateway.maps.base import MapStore
from gateway.messages import ClientInfo, Join, Leave, Payload, Position, Publication, Receipt
from gateway.metrics import Gauges, Metrics, NamespaceCounts
from gateway.presence.base import PresenceStore
from gateway.recurring import Recurring
from gateway.skipped import SKIPPED
from gateway.version import __version__

log = logging.getLogger("gateway.refusals")

_ELSEWHERE = (
    "the gateway runs in another event loop than this one, so that nothing was done. From a thread of its process, "
    "such as that of a handler that is not async: anyio.from_thread.run(gateway.publish, channel, data), or "
    "asyncio.run_coroutine_threadsafe(gateway.publish(channel, data), gateway.loop).result(). Without its event loop, "
    "in a script or a task queue: `with gateway.publisher() as publisher: publisher.publish(channel, data)`"
)


class Node:
    """What a session, an API call or the application may ask for, on all nodes where that has a meaning."""

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        presence: PresenceStore,
        *,
        blocks: BlockStore,
        clock: Callable[[], float] = time.time,
        wheel: Wheel | None = None,
        routes: Sequence[Route] = (),
        ask: Ask | None = None,
        presence_servers: Callable[[], Sequence[ServerHealth]] = tuple,
        maps: MapStore | None = None,
    ) -> None:
        """``presence_servers`` tells how those are that presence has for itself; ``ask`` as in `Channels`.

        Without ``maps`` no channel is one.
        """
        self.uid = uuid.uuid4().hex
        self.settings = settings
        self.client = plain(settings.client)
        """Those of ``settings`` that are asked with every client."""
        self.clock = clock
        self.metrics = Metrics(clock)
        self.metrics.namespaces = {name: NamespaceCounts() for name in settings.prometheus.namespaces}
        self.wheel = wheel or Wheel()
        self.refusals = Recurring(log, self.wheel.clock, self.wheel.after, self.metrics.refusals)
        """Who is turned away or cut off, and why."""
        self.wheel.late = self._look_at_times
        self.limiter = Limiter(settings.client, self.metrics, self.wheel.clock, self.refusals)
        personal = settings.client.subscribe_to_user_personal_channel
        self.channels = Channels(settings.channel, routes, personal, ask, settings.pusher)
        self._streams = StreamOptionsTable(settings)
        self.stream = self._streams.of
        """How the broker keeps a channel's stream."""
        max_lag = settings.client.channel_position_max_time_lag
        self.hub = Hub(self.metrics, max_lag=max_lag, clock=clock, wheel=self.wheel)
        self.broker = broker
        self.deliver = self.hub.publish
        """Takes what comes from the broker. Whoever records has it go by way of itself."""
        self.witness: Witness | None = None
        """Whoever records."""
        self.publishing = PublishQueue(broker, settings.engine.publish_wait, self.metrics)
        self.presence_store = presence
        self.presence_servers = presence_servers
        self.feeds = Feeds(broker, self.wheel)
        self.rosters = Rosters(self.hub, self.feeds, presence, self.wheel, self.spawn)
        self.maps = Maps(
            maps, self.hub, broker, self.publishing, self.channels, self.stream, self.wheel, self.spawn, self.accepted
        )
        self.map_presence = MapPresence(self.maps, self.channels, self.wheel, self.begin)
        self.cluster = Cluster(self.uid, broker, self, group=settings.node.group)
        self.cluster.listeners["map_cleared"] = self.maps.cleared
        self.doubts = Doubts(self.cluster, self.rosters.doubt, self.wheel, self.spawn)
        self.isolation = Isolation(self.cluster, self._hears, settings.health.isolated_after, self.wheel)
        self.watch = PositionWatch(
            self.hub,
            self.maps,
            lambda name: self.stream(self.channels.resolve(name)),
            delay=settings.client.channel_position_check_delay,
            clock=clock,
        )
        self.blocked = Blocked(blocks, self.hub, clock)
        self.loop: asyncio.AbstractEventLoop | None = None
        """The event loop that it runs in, which whoever runs it says."""
        self.greeting: Payload | None = None
        """Data of every connect reply."""
        self.draining = False
        self.lame_duck = False
        """Whether it is about to drain: it works as ever, and asks balancers for no more clients."""
        self.warnings: list[str] = []
        """What an operator has to see to, for the health check."""
        self.conditions: list[Callable[[], Condition | None]] = [self.isolation.condition]
        """What else it asks."""
        self.connecting = asyncio.Semaphore(settings.client.connecting_limit)
        """Connects that the program may decide at this moment."""
        self._members: SingleFlight[tuple[str, int], dict[str, ClientInfo]] = SingleFlight()
        self._stats: SingleFlight[str, tuple[int, int]] = SingleFlight()
        self._untold: list[Callable[[], Awaitable[None]]] = []
        self.answers: dict[str, Callable[[str], Awaitable[bytes]]] = {}
        """What it tells the cluster to other questions than for its channels, by their kind: at most 60 KB."""
        self._roll = Roll(self.hub.channels, self.hub.subscribers, self.wheel)
        self._work = Tasks()
        concurrency = settings.shared_poll.concurrency_limit
        self.polls = Polls(self.hub.post, self.hub.losses, clock, concurrency, self.hub.patches, self.metrics)

    async def start(self) -> None:
        self.wheel.start()
        await self.broker.start(self.uid, self)
        await self.presence_store.start(self.uid, self._swept, self._returned)
        await self.blocked.store.start(self.blocked)
        self.cluster.start()
        self.watch.start()
        self.maps.start()
        self.isolation.start()

    async def stop(self) -> None:
        self.draining = True
        self.isolation.stop()
        await self.polls.stop()
        await self.watch.stop()
        await self.cluster.stop()
        await self._work.finish(within=5)
        await self.blocked.store.close()
        await self.presence_store.close()
        await self.broker.close()
        self.wheel.stop()

    def reload(self, settings: Settings) -> None:
        """Go by other settings, where these are asked each time. See ``config.reloading`` for what may differ."""
        self.settings = settings
        self.client = plain(settings.client)
        self.channels.reload(settings.channel, settings.pusher)
        self.maps.reload()
        self._streams.reload(settings)

    def spawn(self, work: Coroutine[Any, Any, None], context: Context | None = None) -> None:
        """Run work that nobody waits for; ``stop`` does. Its failure is logged."""
        self._work.spawn(work, context)

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Like ``spawn``, but the work runs on the spot up to where it first waits."""
        self._work.begin(work)

    def check_loop(self) -> None:
        """Raises ``RuntimeError`` in any other event loop than the node's.

        There the work would be done, and then fail for waiting: who tried again would do it twice.
        """
        if self.loop is not None and self.loop is not asyncio.get_running_loop():
            raise RuntimeError(_ELSEWHERE)

    @property
    def name(self) -> str:
        """What operators call it."""
        return self.settings.node.name or self.uid[:8]

    # — channels —

    async def publish(self, channel: Channel, publication: Publication, extras: PublishOptions = NO_EXTRAS) -> Receipt:
        """Hand a publication to the broker; returns once it has been accepted there.

        Raises ``Error``: 107 for a map, and for a channel that is polled, unless it is what one of its keys has.
        """
        options = channel.options
        if options.subscription_type not in STREAM_TYPES and not (options.is_polled and publication.key):
            raise Error(ErrorCode.BAD_REQUEST, "bad request: the channel is a map, or polled")
        receipt = await self.publishing.publish(channel.name, publication, self.stream(channel), extras)
        self.accepted(channel)
        return receipt

    def accepted(self, channel: Channel) -> None:
        """Count what has been published."""
        self.metrics.publications_in += 1
        if self.metrics.namespaces and (counts := self._counts(channel)) is not None:
            counts.publications_in += 1

    async def history(self, channel: Channel, which: HistoryFilter) -> tuple[list[Publication], Position]:
        """Part of a channel's stream and its top position.

        Raises ``Error``: 108 without history, 107 for a reverse from offset 0, 112 for a position of another stream.
        """
        if not channel.options.keeps_history:
            raise Error(ErrorCode.NOT_AVAILABLE)
        since = which.since
        if since is not None and which.reverse and since.offset == 0:
            raise Error(ErrorCode.BAD_REQUEST)
        publications, top = await self.broker.history(channel.name, which, self.stream(channel))
        since, top = resume(since, top)
        if since is not None and since.epoch and since.epoch != top.epoch:
            raise Error(ErrorCode.UNRECOVERABLE_POSITION)
        return publications, top

    async def remove_history(self, channel: Channel) -> None:
        if not channel.options.keeps_history:
            raise Error(ErrorCode.NOT_AVAILABLE)
        await self.broker.remove_history(channel.name)

    async def presence(self, channel: Channel, at_most: int = 0) -> dict[str, ClientInfo]:
        """Who is there, by client id. Raises ``Error`` 108 without presence, 106 if there are more than ``at_most``."""
        store, asked = self._presence_of(channel), (channel.name, at_most)
        return (await self._members.ask(asked, lambda: store.members(*asked))).copy()

    async def presence_page(self, channel: Channel, limit: int, cursor: str = "") -> tuple[dict[str, ClientInfo], str]:
        """Some of them, and the cursor of the next page, empty after the last."""
        return await self._presence_of(channel).page(channel.name, limit, cursor)

    async def presence_stats(self, channel: Channel) -> tuple[int, int]:
        store = self._presence_of(channel)
        return await self._stats.ask(channel.name, lambda: store.stats(channel.name))

    def _presence_of(self, channel: Channel) -> PresenceStore:
        if not channel.options.presence:
            raise Error(ErrorCode.NOT_AVAILABLE)
        return self.presence_store

    # — subscriptions —

    async def show(self, channel: str, info: ClientInfo) -> None:
        """Show a member that is in presence already with another info."""
        with suppress(BrokerUnavailable):
            await self.presence_store.add(channel, info)

    async def announce_join(self, channel: str, info: ClientInfo) -> None:
        try:
            await self.broker.publish_join(channel, info)
        except BrokerUnavailable:
            self.doubt(channel)

    async def announce_leave(self, channel: str, info: ClientInfo) -> None:
        try:
            await self.broker.publish_leave(channel, info)
        except BrokerUnavailable:
            self.doubt(channel)

    def doubt(self, channel: str, client: str = "") -> None:
        """Others cannot know that somebody is there, or not: rosters are to look, of which there are none elsewhere."""
        if self.settings.pusher.enabled:
            self.doubts.add(channel, client)

    async def tell_all(self, command: ControlCommand) -> None:
        """Give a command to every node; those that cannot be reached do without."""
        with suppress(BrokerUnavailable):
            await self.cluster.command(command)

    # — from the broker —

    def on_publication(self, channel: str, publication: Publication) -> None:
        self.metrics.publications_out += 1
        if self.metrics.namespaces:
            self._count(channel)
        self.deliver(channel, publication)

    def _count(self, channel: str) -> None:
        """Count a publication for its namespace, if that is counted by itself."""
        with suppress(Error):  # a name that only another node's settings know
            if (counts := self._counts(self.channels.resolve(channel))) is not None:
                counts.publications_out += 1
                counts.deliveries += self.hub.subscribers(channel)

    def _counts(self, channel: Channel) -> NamespaceCounts | None:
        return self.metrics.namespaces.get(channel.namespace if channel.route is None else channel.route.text)

    def on_join(self, channel: str, info: ClientInfo) -> None:
        self.hub.announce(channel, Join(info))
        self.rosters.on_join(channel, info)

    def on_leave(self, channel: str, info: ClientInfo) -> None:
        self.hub.announce(channel, Leave(info))
        self.rosters.on_leave(channel, info)

    def on_control(self, data: bytes) -> None:
        self.cluster.receive(data)

    def _hears(self) -> bool:
        health = self.broker.health()
        return health.connected and not health.deaf

    def on_gap(self) -> None:
        self.watch.check_all()
        self.rosters.on_gap()

    def _swept(self, channel: str, info: ClientInfo) -> None:
        """A member has gone without a word of its own: tell its channel.

        On the spot: once the sweeper has gone on, the member's node may tell that it is there after all.
        """
        if self._is_announced(channel):
            self.begin(self.announce_leave(channel, info))

    def _returned(self, channel: str, info: ClientInfo) -> None:
        """A member that others were told had left is there after all."""
        if self._is_announced(channel):
            if not self._untold:
                self.spawn(self._tell_all())
            self._untold.append(partial(self.announce_join, channel, info))

    def _is_announced(self, channel: str) -> bool:
        with suppress(Error):
            return self.channels.resolve(channel).options.join_leave
        return False

    async def _tell_all(self) -> None:
        """Announce all that came together: they may be thousands."""
        untold, self._untold = self._untold, []
        await at_once(lambda announce: announce(), untold)

    # — from the cluster —

    def describe(self) -> NodeInfo:
        return NodeInfo(
            uid=self.uid,
            name=self.name,
            version=__version__,
            num_clients=len(self.hub.connections),
            num_users=len(self.hub.users),
            num_subs=self.hub.subscriptions,
            num_channels=len(self.hub.channels),
            uptime=int(self.clock() - self.metrics.started_at),
            group=self.cluster.group,
            full=self.draining
            or any(found and found.reason == "full" for found in (each() for each in self.conditions)),
        )

    def apply(self, command: ControlCommand) -> None:
        if command.user is not None:
            for connection in self.hub.of_user(command.user):
                connection.control(command)
        elif (named := self.hub.connections.get(command.client)) is not None:
            named.control(command)

    async def answer(self, question: Question) -> Page:
        """Subscribers by channel, of the next channels that match a pattern; or what else it is asked for."""
        if question.kind == "channels":
            return await self._roll.page(question)
        answer = self.answers.get(question.kind)
        return Page({}, body=await answer(question.argument) if answer else b"")

    # — what is measured —

    def _look_at_times(self, late: float) -> None:
        """Ten times a second: by how much the event loop is late, and how long the next publication takes."""
        self.metrics.loop_lag.observe(late)
        self.hub.measures = True

    def gauges(self) -> Gauges:
        hub, health = self.hub, self.broker.health()
        waiting, waiting_bytes = self.publishing.waiting
        return Gauges(
            connections=len(hub.connections),
            users=len(hub.users),
            subscriptions=hub.subscriptions,
            channels=len(hub.channels),
            nodes=len(self.cluster.nodes()),
            broker_connected=health.ok,
            broker_lag=health.lag,
            broker_reconnects=health.reconnects,
            skipped=SKIPPED,
            broker_servers=(*health.servers, *self.presence_servers()),
            broker_refused=health.refused,
            draining=self.draining,
            warnings=len(self.warnings),
            waiting_publications=waiting,
            waiting_bytes=waiting_bytes,
            history_reads=health.reads,
            presence_reads=self._members.reads + self._stats.reads,
            name=self.name,
            version=__version__,
        )
