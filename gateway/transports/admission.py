"""Admission: which new connections a node takes, by what is known before anything is made for them."""

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from math import ceil
from typing import Any, NamedTuple, Protocol

from starlette.types import Scope

from gateway import files
from gateway.config.settings import ClientSettings
from gateway.limits.addresses import Network, network_of
from gateway.limits.limiter import Limiter
from gateway.metrics import Metrics
from gateway.recurring import Address, Recurring
from gateway.transports.handshake import Headers, Names, first

log = logging.getLogger(__name__)

BAD_REQUEST, FORBIDDEN, TOO_MANY_REQUESTS, UNAVAILABLE = 400, 403, 429, 503

LONGEST_WAIT = 30
"""Most seconds after which somebody refused is asked to come again."""

DEFAULT_PORTS = {"http": ":80", "https": ":443"}
"""What browsers leave out of an origin, and some proxies write into Host all the same."""

NOWHERE = Address()
"""Of a client of whom nobody knows where it is."""


class Refusal(NamedTuple):
    """What a client is answered in place of a connection."""

    status: int
    headers: Headers
    body: bytes = b""


class Asking(Protocol):
    """A request, as far as it matters for who may come in: an `UpgradeRequest`, or one that is `Scoped`."""

    @property
    def scope(self) -> Mapping[str, Any]:
        """Its ASGI scope, with ``client`` and ``headers`` at the least."""

    @property
    def names(self) -> Names:
        """Of its headers, in lower case."""

    def header(self, name: bytes) -> bytes | None:
        """The value of the first such header."""


class Scoped:
    """A request by its ASGI scope."""

    __slots__ = ("names", "scope")

    def __init__(self, scope: Scope) -> None:
        self.scope: dict[str, Any] = scope  # type: ignore[assignment]  # as every server has it
        self.names: Names = {name for name, _ in scope["headers"]}

    def header(self, name: bytes) -> bytes | None:
        return first(self.scope["headers"], name)


class Admission:
    """Refuses what the node does not take; counts it, and logs it now and then (`recurring`)."""

    def __init__(
        self,
        client: ClientSettings,
        metrics: Metrics,
        clock: Callable[[], float],
        limiter: Limiter | None = None,
        *,
        same_origin: bool = False,
        refusals: Recurring | None = None,
    ) -> None:
        """``same_origin``: whether pages of the server's own origin may connect without being listed."""
        self._same_origin = same_origin
        self._limiter = limiter or Limiter(client, metrics, clock)
        self._metrics = metrics
        self._clock = clock
        self._refusals = refusals or Recurring(log, clock, counts=metrics.refusals)
        self._rate: Rate | None = None
        self._files = files.Lookout()
        self.reload(client)

    def reload(self, client: ClientSettings) -> None:
        """Go by other origins and limits from now on; who is in stays."""
        self._origins = tuple(pattern.lower() for pattern in client.allowed_origins)
        self._limit = client.connection_limit
        rate = client.connection_rate_limit
        if rate != (self._rate.limit if self._rate else 0):
            self._rate = Rate(rate, self._clock) if rate else None

    def forbid(
        self, asking: Asking, address: Address = NOWHERE, patterns: Sequence[str] = (), named: str = ""
    ) -> Refusal | None:
        """How a page of an origin that may not connect is refused.

        With ``patterns``, which stand in the setting ``named``, these take the place of client.allowed_origins.
        """
        origin = asking.header(b"origin")
        if origin is None or self._admits(origin.decode("latin-1").lower(), asking, patterns):
            return None
        shown, setting = origin.decode("latin-1"), named if patterns else "client.allowed_origins"
        self._count(address, "origin", "%s has no %.100r", setting, shown, hint=shown[:100])
        return Refusal(FORBIDDEN, [], _origin_advice(shown))

    def reject_subprotocols(self, offered: Sequence[str], spoken: Sequence[str], address: Address) -> Refusal:
        """How one is refused that offers subprotocols, and none of those that are spoken."""
        shown, ours = ", ".join(offered)[:100], " or ".join(spoken)
        self._count(address, "subprotocol", "it offers %r, and %s is spoken, or none", shown, ours, hint=shown)
        text = f"None of the subprotocols {shown!a} is spoken here: offer {ours}, or no subprotocol.\n"
        return Refusal(BAD_REQUEST, [], text.encode())

    def refuse(self, connections: int, *, draining: bool, address: Address = NOWHERE) -> Refusal | None:
        """How one more is refused where there are so many; None if it may come in, and then it counts as new."""
        network = network_of(address)
        if refusal := self._repel(connections, draining, address, network):
            return refusal
        if wait := self._limiter.wait(network):  # before the node's rate, which it is not to use up
            what = "more than client.rate_limit.address_command.connect of %.100r"
            self._count(address, "address_rate", what, network.name, hint=network.name)
            return _too_many(min(ceil(wait), LONGEST_WAIT))
        if self._rate is None or self._rate.take():
            return None
        limit = self._rate.limit
        self._count(address, "connection_rate_limit", "more than client.connection_rate_limit = %d a second", limit)
        return _unavailable(self._rate.wait())

    def repel(self, connections: int, *, draining: bool, address: Address = NOWHERE) -> Refusal | None:
        """How one is refused whom the rate has let in before."""
        return self._repel(connections, draining, address, network_of(address))

    def _repel(self, connections: int, draining: bool, address: Address, network: Network) -> Refusal | None:
        if draining:
            self._count(address, "draining", "the node is stopping", level=logging.INFO)
        elif 0 < self._limit <= connections:
            self._count(address, "connection_limit", "client.connection_limit = %d is reached", self._limit)
        elif self._files.scarce():
            self._count(address, "file_limit", "%d files may be open, and nearly are (ulimit -n)", files.limit())
        elif self._limiter.is_full(network):
            what = "client.address_connection_limit of %.100r is reached"
            self._count(address, "address_connection_limit", what, network.name, hint=network.name)
            return _too_many(LONGEST_WAIT)
        else:
            return None
        return _unavailable(1)

    def _admits(self, origin: str, asking: Asking, patterns: Sequence[str]) -> bool:
        scheme, _, place = origin.partition("://")
        host = (asking.header(b"host") or b"").decode("latin-1").lower()
        port = DEFAULT_PORTS.get(scheme, "")
        if self._same_origin and place.removesuffix(port) == host.removesuffix(port) != "":
            return True
        listed = [pattern.lower() for pattern in patterns] or self._origins
        return any(fnmatchcase(origin, pattern) for pattern in listed)

    def _count(
        self, address: Address, reason: str, why: str, *details: object, hint: str = "", level: int = logging.WARNING
    ) -> None:
        """``hint`` is what may differ from one to the next, of which some are told at once."""
        self._metrics.refused_connections[reason] += 1
        text = f"%s: connection refused: {why}"
        self._refusals.happened(reason, text, address, *details, reason=hint, level=level)


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
    return first(scope["headers"], name)


def _origin_advice(origin: str) -> bytes:
    """What a programmer reads in the browser's tools."""
    return f"The origin {origin[:200]!a} may not connect: client.allowed_origins of the gateway has no such.\n".encode()


def _too_many(seconds: int) -> Refusal:
    return _later(TOO_MANY_REQUESTS, seconds, b"No more connections of this address are taken just now")


def _unavailable(seconds: int) -> Refusal:
    return _later(UNAVAILABLE, seconds, b"No more connections are taken just now")


def _later(status: int, seconds: int, why: bytes) -> Refusal:
    body = b"%b: come again in %d s.\n" % (why, seconds)
    return Refusal(status, [(b"retry-after", b"%d" % seconds)], body)
