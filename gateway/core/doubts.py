"""Doubts: where other nodes may have it wrong who is in a channel, for they were not told of all that happened here.

Who was put into presence and never came leaves without a word: others have not been told of a join. But a node may have
read that somebody is there in between. And what could not be announced has to be found out, too. So the nodes are told,
of many channels at a time, to look for themselves: that is right in whatever order it reaches them.
"""

import logging
from collections.abc import Callable
from itertools import islice

from msgspec import DecodeError
from msgspec.json import Decoder, encode

from gateway.core.cluster import Cluster
from gateway.core.tasks import Spawn
from gateway.core.wheel import Wheel
from gateway.errors import BrokerUnavailable

NOTICE = "doubts"

SOON = 0.5
"""Seconds in which doubts are gathered, and after which more are told."""

AGAIN = 3.0
"""Seconds until another attempt, where they cannot be told."""

AT_ONCE = 500
"""Channels in one notice."""

MOST = 20_000
"""Channels kept; of the others it is found out by second looks."""

log = logging.getLogger(__name__)

_read = Decoder(dict[str, str]).decode


class Doubts:
    """Tells the nodes, this one too. ``look`` is given what was told: channel, and client or nothing."""

    def __init__(self, cluster: Cluster, look: Callable[[str, str], None], wheel: Wheel, spawn: Spawn) -> None:
        self._notify = cluster.notify
        self._look = look
        cluster.listeners[NOTICE] = self._told
        self._wheel = wheel
        self._spawn = spawn
        self._untold: dict[str, str] = {}
        self._due = False

    def add(self, channel: str, client: str = "") -> None:
        """Whoever knows this client there, or any, where none is named, is to look."""
        if channel in self._untold:
            client = client if self._untold[channel] == client else ""
        elif len(self._untold) >= MOST:
            return
        self._untold[channel] = client
        self._tell_after(SOON)

    def _tell_after(self, delay: float) -> None:
        if self._untold and not self._due:
            self._due = True
            self._wheel.after(delay, lambda: self._spawn(self._tell()))

    async def _tell(self) -> None:
        some = dict(islice(self._untold.items(), AT_ONCE))
        for channel in some:
            del self._untold[channel]
        delay = SOON
        try:
            await self._notify(NOTICE, encode(some).decode())
        except BrokerUnavailable:
            log.debug("%d channels are in doubt, which others are told when that is possible again", len(some))
            for channel, client in some.items():
                self.add(channel, client)
            delay = AGAIN
        finally:
            self._due = False
            self._tell_after(delay)

    def _told(self, argument: str) -> None:
        try:
            told = _read(argument)
        except DecodeError as error:
            log.warning("a notice of channels in doubt cannot be read: %s", error)
            return
        for channel, client in told.items():
            self._look(channel, client)
