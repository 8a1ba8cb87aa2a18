"""Live sources: a channel's generator runs on exactly one node, and only while somebody subscribes anywhere.

Every node that hears the channel is a candidate for its lease. Who has the lease runs the generator and publishes
what it yields, behind the lease's fence, so that the broker refuses a holder who has been overtaken.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any

from gateway.brokers.base import Fenced
from gateway.core.tasks import Tasks, being_cancelled
from gateway.errors import BrokerUnavailable
from gateway.leases.base import Leases, Taken
from gateway.leases.tenure import Tenure, first_of

log = logging.getLogger(__name__)

Factory = Callable[[str], AsyncGenerator[Any, None]]
"""Makes the generator of a channel's items."""

Publish = Callable[[str, Any, str], Awaitable[object]]
"""Publishes to a channel an item, with the fence that has to hold."""

MIN_BACKOFF = 0.1
MAX_BACKOFF = 10.0


class LiveSources:
    """Watches a node's feeds, and runs the sources whose lease this node gets.

    ``find`` answers a channel's factory, None if it is no live one. ``owner`` names the node in this life. To be told
    of ``on_occupied`` too: a source that has come to its end is run again only then.
    """

    def __init__(self, owner: str, leases: Leases, publish: Publish, find: Callable[[str], Factory | None]) -> None:
        self._owner = owner
        self._leases = leases
        self._publish = publish
        self._find = find
        self._candidates: dict[str, _Candidate] = {}
        self._work = Tasks()
        self._open = False

    async def start(self) -> None:
        self._open = True
        self._leases.on_release.append(self._released)
        await self._leases.start()

    async def stop(self, within: float = 5.0) -> None:
        """Close the generators, so that other nodes take over; those not closed ``within`` seconds are given up."""
        if not self._open:
            return
        self._open = False
        self._leases.on_release.remove(self._released)
        for channel in list(self._candidates):
            self.on_ceased(channel)
        await self._work.finish(within)
        await self._leases.close()

    def on_heard(self, channel: str) -> None:
        factory = self._find(channel) if self._open else None
        if factory is not None:
            candidate = _Candidate(channel, factory, self._owner, self._leases, self._publish)
            self._candidates[channel] = candidate
            self._work.spawn(candidate.run())

    def on_ceased(self, channel: str) -> None:
        if candidate := self._candidates.pop(channel, None):
            candidate.end()

    def on_occupied(self, channel: str) -> None:
        if candidate := self._candidates.get(channel):
            candidate.begin_anew()

    def _released(self, channel: str) -> None:
        if candidate := self._candidates.get(channel):
            candidate.look()


class _Candidate:
    """One channel on a node that hears it: waits for the lease, then runs the source while it has it."""

    def __init__(self, channel: str, factory: Factory, owner: str, leases: Leases, publish: Publish) -> None:
        self._channel = channel
        self._factory = factory
        self._owner = owner
        self._leases = leases
        self._publish = publish
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._serving = False
        self._anew = False

    def end(self) -> None:
        self._ended.set_result(None)

    def look(self) -> None:
        """Try for the lease at once."""
        if not self._woken.done():
            self._woken.set_result(None)

    def begin_anew(self) -> None:
        """Run the source even if it has finished, when the channel was occupied before."""
        self._anew = not self._serving
        self.look()

    async def run(self) -> None:
        while not self._ended.done():
            self._woken = asyncio.get_running_loop().create_future()
            found = await self._acquire()
            if isinstance(found, Tenure):
                self._serving, self._anew = True, False
                await self._serve(found)
                self._serving = False
            else:
                # a little longer, for the lease to have run out if its holder is dead
                pause = min(found.remaining, self._leases.ttl) + _jitter(self._leases.ttl / 50)
                await first_of((self._ended, self._woken), pause)

    async def _acquire(self) -> Tenure | Taken:
        asked = _now()
        try:
            found = await self._leases.acquire(self._channel, self._owner, self._anew)
        except BrokerUnavailable:
            return Taken(self._leases.ttl / 10)
        return found if isinstance(found, Taken) else Tenure(self._leases, found, asked)

    async def _serve(self, tenure: Tenure) -> None:
        source = asyncio.create_task(self._play(tenure.fence))
        held = await tenure.keep(source, self._ended)
        if not held:
            log.warning("the lease of %s may be lost: its source is stopped here", self._channel)
        if held and source.done() and not source.cancelled() and source.exception() is None:
            await tenure.finish()
        source.cancel()
        # closing may take its time, and nobody else is to begin before
        if not held or not await tenure.keep(source):
            await asyncio.wait({source})
        if not source.cancelled() and (error := source.exception()) is not None:
            self._explain(error)
        await tenure.release()

    def _explain(self, error: BaseException) -> None:
        if isinstance(error, Fenced):
            log.warning("the source of %s was overtaken by that of another node", self._channel)
        else:
            log.error("closing the source of %s failed", self._channel, exc_info=error)

    async def _play(self, fence: str) -> None:
        """Run the source until it has finished; again if it fails. Raises ``Fenced`` if the lease is another's."""
        failures = 0
        while True:
            began = _now()
            try:
                await self._stream(fence)
            except (Exception, asyncio.CancelledError) as error:
                if isinstance(error, Fenced) or being_cancelled():
                    raise
                failures = 1 if _now() - began > MAX_BACKOFF else failures + 1
                self._complain(error, failures)
            else:
                return
            await asyncio.sleep(_jitter(min(MAX_BACKOFF, MIN_BACKOFF * 2**failures)))

    def _complain(self, error: BaseException, failures: int) -> None:
        if failures == 1:
            log.error("the source of %s failed and is run again", self._channel, exc_info=error)
        else:
            log.warning("the source of %s failed %d times in a row: %r", self._channel, failures, error)

    async def _stream(self, fence: str) -> None:
        async with aclosing(self._factory(self._channel)) as items:
            async for item in items:
                with suppress(BrokerUnavailable):  # lost, like any publication; the next may find it back
                    await self._publish(self._channel, item, fence)
                await asyncio.sleep(0)  # a source that never waits must not hold up the node
                if being_cancelled():  # and the source took no notice
                    return


def _now() -> float:
    return asyncio.get_running_loop().time()


def _jitter(seconds: float) -> float:
    return random.uniform(0.5, 1.0) * seconds  # noqa: S311
