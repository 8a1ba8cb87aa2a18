"""Admission: which new connections a node takes, by what is known before anything is made for them."""

import logging
import random
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from math import ceil
from typing import NamedTuple

from starlette.types import Scope

from gateway import files
from gateway.config.settings import ClientSettings
from gateway.limits.addresses import NOWHERE, Network
from gateway.limits.limiter import Limiter
from gateway.metrics import Metrics
from gateway.transports.handshake import Headers

log = logging.getLogger(__name__)

FORBIDDEN, TOO_MANY_REQUESTS, UNAVAILABLE = 403, 429, 503

LONGEST_WAIT = 30
"""Most seconds after which somebody refused is asked to come again."""

LOG_PAUSE = 10.0
"""Seconds between two lines of a log that tell of refusals for one reason."""


class Refusal(NamedTuple):
    """What a client is answered in place of a connection."""

    status: int
    headers: Headers


class Admission:
    """Refuses what the node does not take; counts it, and logs it, a line for each reason now and then."""

    def __init__(
        self,
        client: ClientSettings,
        metrics: Metrics,
        clock: Callable[[], float],
        limiter: Limiter | None = None,
        *,
        same_origin: bool = False,
    ) -> None:
        """``same_origin``: whether pages of the server's own origin may connect without being listed."""
        self._same_origin = same_origin
        self._limiter = limiter or Limiter(client, metrics, clock)
        self._metrics = metrics
        self._clock = clock
        self._untold: dict[str, tuple[float, int]] = {}
        """By reason: when it may be logged again, and how often it has not been."""
        self.configure(client)

    def configure(self, client: ClientSettings) -> None:
        """Go by these settings from now on; what has been admitted stays."""
        self._origins = tuple(pattern.lower() for pattern in client.allowed_origins)
        self._limit = client.connection_limit
        self._rate = Rate(client.connection_rate_limit, self._clock) if client.connection_rate_limit else None

    def forbid(self, scope: Scope) -> Refusal | None:
        """How a page of an origin that may not connect is refused."""
        origin = header(scope, b"origin")
        if origin is None or self._admits(origin.decode("latin-1").lower(), scope):
            return None
        self._count("origin", "client.allowed_origins has no %.100r", origin.decode("latin-1"))
        return Refusal(FORBIDDEN, [])

    def refuse(self, connections: int, *, draining: bool, network: Network = NOWHERE) -> Refusal | None:
        """How one more is refused where there are so many; None if it may come in, and then it counts as new."""
        if refusal := self.repel(connections, draining=draining):
            return refusal
        if refusal := self._refuse_address(network):  # before the node's rate, which it is not to use up
            return refusal
        if self._rate is None or self._rate.take():
            return None
        self._count("connection_rate_limit", "more than client.connection_rate_limit = %d a second", self._rate.limit)
        return _unavailable(self._rate.wait())

    def _refuse_address(self, network: Network) -> Refusal | None:
        """How one more of an address is refused that has had enough."""
        if self._limiter.is_full(network):
            self._count("address_connection_limit", "client.address_connection_limit of %.100r", network.name)
            return _too_many(LONGEST_WAIT)
        if wait := self._limiter.wait(network):
            self._count("address_rate", "client.rate_limit.address_command.connect of %.100r", network.name)
            return _too_many(min(ceil(wait), LONGEST_WAIT))
        return None

    def repel(self, connections: int, *, draining: bool) -> Refusal | None:
        """How one is refused whom the rate has let in before."""
        if draining:
            self._count("draining", "the node is stopping")
        elif 0 < self._limit <= connections:
            self._count("connection_limit", "client.connection_limit = %d is reached", self._limit)
        elif files.scarce():
            self._count("file_limit", "%d files may be open, and nearly are (ulimit -n)", files.limit())
        else:
            return None
        return _unavailable(1)

    def _admits(self, origin: str, scope: Scope) -> bool:
        host = (header(scope, b"host") or b"").decode("latin-1").lower()
        if self._same_origin and origin.partition("://")[2] == host != "":
            return True
        return any(fnmatchcase(origin, pattern) for pattern in self._origins)

    def _count(self, reason: str, why: str, *details: object) -> None:
        self._metrics.refused_connections[reason] += 1
        now = self._clock()
        pause_ends, untold = self._untold.get(reason, (now, 0))
        if now < pause_ends:
            self._untold[reason] = pause_ends, untold + 1
            return
        self._untold[reason] = now + LOG_PAUSE, 0
        log.warning("connections are refused, %d since this was last said: %s", untold + 1, why % details)


class Rate:
    """Admits ``limit`` a second. What is not used is kept for a second: so many may come at once."""

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self.limit = limit
        self._clock = clock
        self._left = float(limit)
        self._seen = clock()
        self._second = 0
        self._refused = self._refused_before = 0

    def take(self) -> bool:
        now = self._clock()
        self._left = min(self.limit, self._left + (now - self._seen) * self.limit)
        self._seen = now
        if self._left >= 1:
            self._left -= 1
            return True
        if int(now) != self._second:
            self._refused_before = self._refused if int(now) == self._second + 1 else 0
            self._second, self._refused = int(now), 0
        self._refused += 1
        return False

    def wait(self) -> int:
        """Seconds after which one who was refused is to come again: by chance, among as many as there is room for.

        A storm is spread by the number of clients that it has.
        """
        needed = ceil(max(self._refused, self._refused_before) / self.limit)
        return random.randint(1, min(1 + needed, LONGEST_WAIT))  # noqa: S311  spreads, hides nothing


def header(scope: Scope, name: bytes) -> bytes | None:
    """A request header's value; ASGI names are lower case."""
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return next((value for key, value in headers if key == name), None)


def _too_many(seconds: int) -> Refusal:
    return Refusal(TOO_MANY_REQUESTS, [(b"retry-after", b"%d" % seconds)])


def _unavailable(seconds: int) -> Refusal:
    return Refusal(UNAVAILABLE, [(b"retry-after", b"%d" % seconds)])
