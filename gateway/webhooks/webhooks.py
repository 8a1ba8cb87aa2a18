"""The webhooks of one node: what it sees happen, and its part in telling that."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from gateway.apps.base import App, Apps
from gateway.config.settings.pusher import PusherWebhookSettings
from gateway.core.counts import MANY, SELDOM
from gateway.core.node import Node
from gateway.core.tasks import Tasks
from gateway.errors import BrokerUnavailable
from gateway.leases.base import Leases
from gateway.outbox.base import Outbox, OutboxFull, Rules, encode
from gateway.presence.base import PresenceStore
from gateway.recurring import Recurring
from gateway.webhooks.lane import Telling
from gateway.webhooks.post import Post
from gateway.webhooks.sender import Sender
from gateway.webhooks.targets import is_wanted
from gateway.webhooks.watch import Watch, WatchedPresence

log = logging.getLogger(__name__)

UNDER_WAY = 10_000
"""Events that this node may be handing to the outbox at a time."""


class Webhooks:
    """Satisfies `session.pusher.Hooks`. The node's store is to be what ``presence`` gives.

    It starts after the node and its leases' backend, and is closed before.
    """

    def __init__(
        self,
        outbox: Outbox,
        leases: Leases,
        node: Callable[[], Node],
        apps: Callable[[], Apps],
        *,
        unnamed: bool = False,
    ) -> None:
        """``unnamed`` says that there may be apps which the settings do not name."""
        self._unnamed = unnamed
        self._outbox = outbox
        self._leases = leases
        self._node = node
        self._apps = apps
        self._watch = Watch(outbox, apps, self._spawn)
        self._work = Tasks()
        self._keeping = Tasks()
        self._telling: Telling | None = None
        self._sender: Sender | None = None
        self._post: Post | None = None

    def presence(self, store: PresenceStore) -> PresenceStore:
        """The store, with its members watched."""
        return WatchedPresence(store, self._watch)

    async def start(self) -> None:
        node = self._node()
        self.reload()
        recurring = Recurring(log, node.wheel.clock, node.wheel.after)
        self._post = Post(node.metrics, node.clock, node.wheel.clock)
        self._telling = Telling(
            self._outbox,
            self._post,
            self._settings,
            node.metrics,
            recurring,
            node.clock,
            self._pause,
        )
        self._outbox.lost = self._telling.lost
        await self._outbox.start(node.uid)
        self._watch.start()
        node.feeds.watchers.append(self._watch)
        node.rosters.counts.on_count = self._counted
        self._begin()

    def reload(self) -> None:
        """Go by other settings, where these are not asked each time."""
        settings = self._settings()
        self._outbox.rules = Rules(settings.vacated_delay, settings.dead_letters)
        self._begin()

    def _begin(self) -> None:
        """Take part in telling, once there may be something: to look for it takes a command for each partition."""
        node = self._node()
        may_be = self._unnamed or any(app.webhooks for app in node.settings.pusher.apps)
        if may_be and self._sender is None and self._telling is not None:
            self._sender = Sender(self._telling, self._leases, node.uid, self._apps)
            self._sender.start()

    def _settings(self) -> PusherWebhookSettings:
        return self._node().settings.pusher.webhooks

    async def close(self) -> None:
        """Leave all places, and the telling to others."""
        self._watch.close()
        for work in (self._work, self._keeping):
            await work.finish(within=5)
        if self._sender is not None:
            await self._sender.close()
        await self._outbox.close()
        if self._post is not None:
            await self._post.close()

    # — what the node tells of —

    def client_event(self, app: App, channel: str, event: str, data: str, socket_id: str, user: str) -> None:
        if is_wanted(app, ("client_event",), channel):
            of_user = {"user_id": user} if user else {}
            fields = {"event": event, "data": _text(data), "socket_id": socket_id, **of_user}
            self._keep(app, self._outbox.add(app.id, app.settings.key, encode("client_event", channel, **fields)))

    def cache_miss(self, app: App, channel: str, period: str) -> None:
        if is_wanted(app, ("cache_miss",), channel):
            event, once = encode("cache_miss", channel), (f"cache_miss {channel}", f"in {period}")
            self._keep(app, self._outbox.add(app.id, app.settings.key, event, once))

    def _counted(self, channel: str, count: int) -> None:
        """A channel of the gateway has so many subscribers; each node that counts them says so."""
        app = self._apps().of_channel(channel)
        if app is None or not app.settings.enable_subscription_counts:
            return
        name, gap = app.names.outside(channel), SELDOM if count > MANY else 0.0
        if is_wanted(app, ("subscription_count",), name):
            self._keep(app, self._outbox.count(app.id, app.settings.key, name, count, gap))

    # — inside —

    def _keep(self, app: App, keeping: Coroutine[Any, Any, None]) -> None:
        """Hand an event to the outbox, unless that lags far behind."""
        assert self._telling is not None, "start() comes first"
        if len(self._keeping.running) < UNDER_WAY:
            self._keeping.spawn(self._kept(app, keeping))
            return
        keeping.close()
        self._telling.lost(app.id, 1)

    async def _kept(self, app: App, keeping: Coroutine[Any, Any, None]) -> None:
        assert self._telling is not None, "start() comes first"
        try:
            await keeping
        except OutboxFull:
            return  # has been counted
        except BrokerUnavailable:
            self._telling.lost(app.id, 1)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._work.spawn(work)

    async def _pause(self, seconds: float) -> None:
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self._node().wheel.after(seconds, lambda: over.set_result(None))
        try:
            await over
        finally:
            timer.cancel()


def _text(data: str) -> str:
    """What a client has published: the text that it is, else its JSON."""
    return msgspec.json.decode(data, type=str) if data[:1] == '"' else data
