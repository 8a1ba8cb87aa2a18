"""Who is where on this node, as the outbox is to know it; whichever protocol they speak."""

from collections import Counter
from collections.abc import Callable, Collection

from gateway.apps.base import App, Apps
from gateway.core.tasks import Spawn
from gateway.kinds import is_name, kind_of
from gateway.messages import ClientInfo
from gateway.outbox.base import Outbox, Place
from gateway.presence.base import Changed, PresenceStore, ignore
from gateway.webhooks.targets import CHANNELS, MEMBERS, is_wanted


class Watch:
    """Watches a node's feeds and its members, of the channels of apps that want to be told of them.

    Whoever has not come to an end by ``close`` is no more counted here.
    """

    def __init__(self, outbox: Outbox, apps: Callable[[], Apps], spawn: Spawn) -> None:
        self._outbox = outbox
        self._apps = apps
        self._spawn = spawn
        self._open = False
        self._channels: dict[str, Place] = {}
        """Those that are heard, by the gateway's name: the app may be forgotten before they end."""
        self._members: dict[str, dict[str, Place]] = {}
        """By channel and client."""
        self._clients: Counter[Place] = Counter()

    def start(self) -> None:
        self._open = True

    def close(self) -> None:
        self._open = False

    def on_heard(self, channel: str) -> None:
        found = self._find(channel, CHANNELS)
        if found is not None:
            app, name = found
            place = self._channels[channel] = Place(app.id, name)
            self._spawn(self._outbox.enter(place, app.settings.key))

    def on_ceased(self, channel: str) -> None:
        place = self._channels.pop(channel, None)
        if place is not None and self._open:
            self._spawn(self._outbox.leave(place))

    def came(self, channel: str, info: ClientInfo) -> None:
        found = self._find(channel, MEMBERS)
        if found is None or not kind_of(found[1]).presence:
            return
        app, name = found
        place = Place(app.id, name, info.user or info.client)
        clients = self._members.setdefault(channel, {})
        if clients.get(info.client) == place:
            return
        self.went(channel, info.client)
        self._members.setdefault(channel, {})[info.client] = place
        self._clients[place] += 1
        if self._clients[place] == 1:
            self._spawn(self._outbox.enter(place, app.settings.key))

    def went(self, channel: str, client: str) -> None:
        clients = self._members.get(channel)
        place = clients.pop(client, None) if clients is not None else None
        if not clients:
            self._members.pop(channel, None)
        if place is None:
            return
        self._clients[place] -= 1
        if not self._clients[place]:
            del self._clients[place]
            if self._open:
                self._spawn(self._outbox.leave(place))

    def _find(self, channel: str, events: Collection[str]) -> tuple[App, str] | None:
        """The app that wants to be told one of these events of a channel, and what its clients call that."""
        app = self._apps().of_channel(channel) if self._open else None
        if app is None or not app.settings.webhooks:
            return None
        name = app.names.outside(channel)
        # without a namespace, the channels of all the others begin like an app's
        return (app, name) if is_name(name) and is_wanted(app, events, name) else None


class WatchedPresence:
    """A presence store whose members are watched."""

    def __init__(self, inner: PresenceStore, watch: Watch) -> None:
        self._inner = inner
        self._watch = watch
        self.members, self.page, self.stats = inner.members, inner.page, inner.stats

    async def start(self, node: str, swept: Changed, returned: Changed = ignore) -> None:
        await self._inner.start(node, swept, returned)

    async def close(self) -> None:
        await self._inner.close()

    async def add(self, channel: str, info: ClientInfo) -> None:
        await self._inner.add(channel, info)
        self._watch.came(channel, info)

    async def remove(self, channel: str, client: str) -> None:
        self._watch.went(channel, client)
        await self._inner.remove(channel, client)
