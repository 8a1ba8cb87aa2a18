"""Who is present in a channel, as the entries of another one, which is a map: for channels too large for presence.

What is kept here is what this node renews: a key that nobody renews ends by itself. So who leaves a connection ends at
once, and a user some time after the last of his connections.

Source: Centrifuge protocol, "Map presence".
"""

import logging
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from gateway.channels import Channels
from gateway.config.map_problems import TICK
from gateway.config.settings import ChannelOptions
from gateway.core.maps import Maps
from gateway.core.tasks import at_once
from gateway.core.wheel import Wheel
from gateway.errors import BrokerUnavailable, Error
from gateway.maps.base import MapWrite
from gateway.messages import ClientInfo, Payload, Publication

RENEWAL = MapWrite(key_mode="if_new", renews=True)
"""Who is there already is not told of again, but lasts longer."""

log = logging.getLogger(__name__)

Spawn = Callable[[Coroutine[Any, Any, None]], None]


class Member(NamedTuple):
    """A key of a channel of presence."""

    channel: str
    key: str


class MapPresence:
    """Adds, renews and removes. ``begin`` runs work on the spot up to where it first waits, so that order holds."""

    def __init__(self, maps: Maps, channels: Channels, wheel: Wheel, begin: Spawn) -> None:
        self._maps = maps
        self._channels = channels
        self._wheel = wheel
        self._begin = begin
        self._clients: dict[Member, ClientInfo] = {}
        self._users: dict[Member, int] = {}
        """How many connections of a user are there."""
        self._gone: set[Member] = set()
        """Those that have left and may still be shown, as long as the broker is away."""
        self._ticking = False

    def came(self, channel: str, options: ChannelOptions, info: ClientInfo) -> None:
        """Somebody has subscribed to a channel with these options."""
        self._gone.discard(Member(channel, info.client))
        if prefix := options.map_clients_presence_channel_prefix:
            member = Member(prefix + channel, info.client)
            self._gone.discard(member)
            self._clients[member] = info
            self._begin(self._add(member, info))
        if (prefix := options.map_users_presence_channel_prefix) and info.user:
            member = Member(prefix + channel, info.user)
            self._users[member] = self._users.get(member, 0) + 1
            self._begin(self._add(member, None))
        self._go_on()

    def left(self, channel: str, options: ChannelOptions, info: ClientInfo) -> None:
        """Somebody who had come is there no more."""
        if prefix := options.map_clients_presence_channel_prefix:
            member = Member(prefix + channel, info.client)
            if self._clients.pop(member, None) is not None:
                self._take_away(member)
        if (prefix := options.map_users_presence_channel_prefix) and info.user:
            member = Member(prefix + channel, info.user)
            count = self._users.pop(member, 0) - 1
            if count > 0:
                self._users[member] = count
        self.landed(channel, options, info.client)

    def landed(self, channel: str, options: ChannelOptions, client: str) -> None:
        """What somebody wrote is to go with him, who has left: it may come after that, if it had to wait."""
        if options.is_map and options.map.remove_client_on_unsubscribe:
            self._take_away(Member(channel, client))

    def _take_away(self, member: Member) -> None:
        self._gone.add(member)
        self._begin(self._remove(member))

    def _go_on(self) -> None:
        if (self._clients or self._users or self._gone) and not self._ticking:
            self._ticking = True
            self._wheel.after(TICK, self._tick)

    def _tick(self) -> None:
        self._ticking = bool(self._clients or self._users or self._gone)
        if self._ticking:
            self._begin(self._renew())

    async def _renew(self) -> None:
        members = [*self._clients.items(), *((member, None) for member in self._users)]
        try:
            await at_once(lambda each: self._add(*each), members)
            await at_once(self._remove, [*self._gone])
        finally:
            self._wheel.after(TICK, self._tick)

    async def _add(self, member: Member, info: ClientInfo | None) -> None:
        if member not in (self._users if info is None else self._clients):
            return  # it has left before its turn
        try:
            publication = Publication(Payload(), info, key=member.key)
            await self._maps.show(self._channels.resolve(member.channel), publication, RENEWAL)
        except (Error, BrokerUnavailable) as error:
            log.debug("%s: somebody present is not shown: %s", member.channel, error)

    async def _remove(self, member: Member) -> None:
        """While the broker is away it is tried with each tick: in a map that keeps its keys it would stay for ever."""
        if member not in self._gone:
            return  # it has come back
        try:
            await self._maps.hide(self._channels.resolve(member.channel), member.key)
        except BrokerUnavailable as error:
            log.debug("%s: somebody who has left is shown until the broker is back: %s", member.channel, error)
            self._go_on()
            return
        except Error as error:
            log.debug("%s: somebody who has left is shown until the key ends: %s", member.channel, error)
        self._gone.discard(member)
