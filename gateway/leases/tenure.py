"""A lease that is being held: renewed while something goes on, and given back."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from gateway.errors import BrokerUnavailable
from gateway.leases.base import Lease, Leases

SAFETY = 0.75
"""Part of a lease's time after which a holder who could not renew it stops: the rest is for coming to an end."""


class Tenure:
    """A lease in this node's hands, and the moment up to which that is certain."""

    def __init__(self, leases: Leases, lease: Lease, asked: float) -> None:
        """``asked`` is the event loop's time from before the lease was acquired."""
        self._leases = leases
        self._lease = lease
        self._until = asked + leases.ttl * SAFETY

    @property
    def fence(self) -> str:
        return self._lease.fence

    async def keep(self, *awaited: "asyncio.Future[Any]") -> bool:
        """Renew until one of the ``awaited`` is done. False if the lease may be lost before."""
        pause = self._leases.ttl / 3
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._until) as limit:
                while not await first_of(awaited, pause):
                    asked = asyncio.get_running_loop().time()
                    pause = self._leases.ttl / 10
                    with suppress(BrokerUnavailable):
                        if not await self._leases.renew(self._lease):
                            break
                        self._until = asked + self._leases.ttl * SAFETY
                        limit.reschedule(self._until)
                        pause = self._leases.ttl / 3
                else:
                    return True
        return False

    async def finish(self) -> None:
        """Have nobody get the lease who does not ask for it anew. If Redis is away for too long, somebody will."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._until):
                while True:
                    with suppress(BrokerUnavailable):
                        return await self._leases.finish(self._lease)
                    await asyncio.sleep(self._leases.ttl / 10)

    async def release(self) -> None:
        with suppress(BrokerUnavailable):  # it runs out
            await self._leases.release(self._lease)


async def first_of(futures: Sequence["asyncio.Future[Any]"], within: float) -> bool:
    """Whether one of these is done within so many seconds. None of them is cancelled."""
    done, _ = await asyncio.wait(futures, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    return bool(done)
