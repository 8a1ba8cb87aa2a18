"""The lease: at any time at most one holder of a name, and whoever held it before is known to be too late."""

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

TTL = 8.0
"""Seconds that a lease lasts unless renewed: longer than Redis may take to answer twice, so that one hiccup costs
nobody the lease, and short enough to wait for when a node dies."""

KEEP = 24 * 3600.0
"""Seconds for which it is remembered that nobody needs a lease any more, unless somebody asks again."""


class Lease(Struct, frozen=True):
    """A name's lease in the hands of one holder. ``number`` is higher than any that the name had before."""

    name: str
    number: int
    owner: str

    @property
    def fence(self) -> str:
        """What the lease holds, to be compared by those who serve its holder alone."""
        return f"{self.number}:{self.owner}"


class Taken(Struct, frozen=True):
    """Somebody else has the lease, for ``remaining`` seconds at most unless renewed."""

    remaining: float


Released = Callable[[str], None]
"""Called with a name that may be acquired now, or that needs another look."""


class Leases(Protocol):
    """One implementation per backend. What asks the backend may raise ``BrokerUnavailable``, within five seconds.

    A lease runs out ``ttl`` seconds after the backend was last asked to acquire or to renew it. A holder therefore
    counts from before it asks, on a clock that does not jump, and stops in time.
    """

    ttl: float
    on_release: list[Released]
    """Everybody here is told of each name that is released, by whichever node."""

    async def start(self) -> None:
        """Begin to hear of what is released. Returns even when the backend cannot be reached yet."""

    async def close(self) -> None:
        """Hear no more. Leases that are held run out."""

    async def acquire(self, name: str, owner: str, anew: bool = False) -> Lease | Taken:
        """Take the lease if it is free; ``anew``, also if it is finished."""

    async def renew(self, lease: Lease) -> bool:
        """Whether the lease is still this one, which then lasts ``ttl`` seconds from now."""

    async def release(self, lease: Lease) -> None:
        """Give it back and tell everybody. Nothing happens if it is lost."""

    async def finish(self, lease: Lease) -> None:
        """Leave it so that nobody gets it until somebody asks for it ``anew``. Nothing happens if it is lost."""
