"""Leases within one process, for as many nodes as share the instance."""

import time
from collections import deque
from collections.abc import Callable

from gateway.leases.base import KEEP, TTL, Lease, Released, Taken

_FINISHED = ""
"""Stands where the fence of a holder would."""


class MemoryLeases:
    """``holds`` is what a ``MemoryBroker`` asks before it accepts what has a fence."""

    def __init__(self, ttl: float = TTL, clock: Callable[[], float] = time.monotonic) -> None:
        self.ttl = ttl
        self.on_release: list[Released] = []
        self._clock = clock
        self._number = 0
        self._held: dict[str, tuple[str, float]] = {}  # fence and expiry
        self._finished: deque[tuple[float, str]] = deque()

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def acquire(self, name: str, owner: str, anew: bool = False) -> Lease | Taken:
        self._forget()
        now = self._clock()
        fence, expires = self._held.get(name, (_FINISHED, now))
        if expires > now and not (anew and fence == _FINISHED):
            return Taken(expires - now)
        self._number += 1
        lease = Lease(name, self._number, owner)
        self._held[name] = (lease.fence, now + self.ttl)
        return lease

    async def renew(self, lease: Lease) -> bool:
        if not self.holds(lease.name, lease.fence):
            return False
        self._held[lease.name] = (lease.fence, self._clock() + self.ttl)
        return True

    async def release(self, lease: Lease) -> None:
        if self.holds(lease.name, lease.fence):
            del self._held[lease.name]
            for released in self.on_release:
                released(lease.name)

    async def finish(self, lease: Lease) -> None:
        if self.holds(lease.name, lease.fence):
            expires = self._clock() + KEEP
            self._held[lease.name] = (_FINISHED, expires)
            self._finished.append((expires, lease.name))

    def holds(self, name: str, fence: str) -> bool:
        """Whether this is the fence of whoever has the lease now."""
        held, expires = self._held.get(name, (_FINISHED, 0.0))
        return held == fence != _FINISHED and expires > self._clock()

    def _forget(self) -> None:
        """Forget what has been finished for long; all are kept equally long, so the oldest comes first."""
        now = self._clock()
        while self._finished and self._finished[0][0] <= now:
            _, name = self._finished.popleft()
            if self._held.get(name, (_FINISHED, now + 1))[1] <= now:
                del self._held[name]
