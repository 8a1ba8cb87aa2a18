"""Entries that end with their node: a lease for each node, and sweepers that remove what the dead have left.

An owner is a node in one of its incarnations. It writes only while nobody has swept it, which the same transaction
makes sure of; who was swept goes on under another name, and writes all of its entries again. Times are the server's:
no clock of a node matters.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple, Protocol

from gateway.errors import BrokerUnavailable
from gateway.postgres.database import Database, seconds, within

logger = logging.getLogger(__name__)


class Intervals(NamedTuple):
    """Seconds. ``lease`` and ``sweep`` add up to the time after which a killed node's entries are gone."""

    lease: float = 10.0
    renew: float = 3.0
    sweep: float = 5.0


INTERVALS = Intervals()

UNTOLD = 10.0
"""Seconds after which a sweeper that has not said that it is done is held to have died."""


class OwnedStore(Protocol):
    """Whose entries are owned."""

    async def repair(self) -> None:
        """Write again what the server may not hold."""

    def moved(self, swept: bool) -> None:
        """All entries are to be written under the new name; those under the former one were ``swept``, or lost."""

    async def sweep(self, owner: str) -> bool:
        """Remove some of what a dead owner has left, and tell of it. Whether there may be more."""

    def returned(self) -> None:
        """Others have told of all that they had swept of ours."""


class Owners:
    """Keeps one node's lease in a family of entries, and does its part in sweeping the dead."""

    def __init__(self, database: Database, family: str, store: OwnedStore, intervals: Intervals = INTERVALS) -> None:
        self._database = database
        self._family = family
        self._store = store
        self._intervals = intervals
        self._node = ""
        self._name = ""
        self._former = ""  # that others have swept, and are not known to have told of
        self._former_since = 0.0
        self._taking = asyncio.Lock()
        self._renew_now = asyncio.Event()
        self._steady_since = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, node: str) -> None:
        """Take up the lease, and keep it. Returns even when the server cannot be reached yet."""
        self._node = node[:12]
        self._database.on_reconnect.append(self._renew_now.set)
        await self._attempt(self._renew, "lease could not be renewed")
        self._tasks = [asyncio.create_task(self._keep_lease()), asyncio.create_task(self._keep_sweeping())]

    async def close(self) -> None:
        """Keep the lease no longer. What is owned may still be written, until ``end``."""
        if self._tasks:
            self._database.on_reconnect.remove(self._renew_now.set)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def end(self) -> None:
        """Give the lease back."""
        if self._name:
            statement = "DELETE FROM gateway_owners WHERE family = $1 AND owner = $2 AND swept IS NULL"
            await within(self._database.fetch(statement, self._family, self._name))
        self._node = self._name = ""

    @property
    def steady(self) -> bool:
        """Whether the server has been there for so long that all who live have found back."""
        return asyncio.get_running_loop().time() - self._steady_since >= self._intervals.lease

    @property
    def name(self) -> str:
        """What this node owns entries under; empty before the first lease."""
        return self._name

    async def write(self, statement: Callable[[str], Awaitable[object]]) -> None:
        """Have a statement write under our name, given that; again under the next, if it answers None."""
        while True:
            name = self._name
            if not name:
                await self._take_new_name(name)
            elif await statement(name) is not None:
                return
            else:
                await self._take_new_name(name)

    # — the lease —

    async def _attempt(self, work: Callable[[], Awaitable[None]], failed: str) -> None:
        """Do what is done again soon, and must be, whatever happens: a node that stops renewing is swept."""
        try:
            await work()
        except BrokerUnavailable:
            self._unsteady()
        except Exception:
            self._unsteady()
            logger.exception("%s: %s", self._family, failed)

    def _unsteady(self) -> None:
        self._steady_since = asyncio.get_running_loop().time()

    async def _keep_lease(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._intervals.renew):
                    await self._renew_now.wait()
            if self._renew_now.is_set():  # we were cut off, and so may others have been
                self._unsteady()
            self._renew_now.clear()
            await self._attempt(self._renew, "lease could not be renewed")

    async def _renew(self) -> None:
        name = self._name
        lease = seconds(self._intervals.lease)
        answer = await within(self._database.fetch("SELECT gateway_renew($1, $2, $3)", self._family, name, lease))
        if not answer[0][0]:
            await self._take_new_name(name)
        await self._store.repair()
        await self._return()

    async def _take_new_name(self, former: str) -> None:
        """Go on under another name, unless somebody here has seen to it. The entries are to be written again."""
        async with self._taking:
            if self._name != former:
                return
            if not self._node:
                raise BrokerUnavailable
            name = f"{self._node}.{secrets.token_hex(4)}"
            statement = (
                "WITH made AS (INSERT INTO gateway_owners (family, owner, until)"
                " VALUES ($1, $2, clock_timestamp() + $3::interval))"
                " SELECT FROM gateway_owners WHERE family = $1 AND owner = $4 AND swept IS NOT NULL"
            )
            lease = seconds(self._intervals.lease)
            swept = await within(self._database.fetch(statement, self._family, name, lease, former))
            self._name = name
            if former:
                logger.warning("%s lease lost: all entries of this node are added again", self._family)
                self._former, self._former_since = former if swept else "", asyncio.get_running_loop().time()
                self._store.moved(bool(swept))

    async def _return(self) -> None:
        if not self._former:
            return
        statement = "SELECT told FROM gateway_owners WHERE family = $1 AND owner = $2"
        rows = await within(self._database.fetch(statement, self._family, self._former))
        late = asyncio.get_running_loop().time() - self._former_since > UNTOLD
        if not rows or rows[0][0] or late:
            self._former = ""
            self._store.returned()

    # — the dead —

    async def _keep_sweeping(self) -> None:
        while True:
            await asyncio.sleep(self._intervals.sweep)
            await self._attempt(self._sweep_dead, "sweeping failed")

    async def _sweep_dead(self) -> None:
        if not self.steady:
            return
        statement = "SELECT owner FROM gateway_owners WHERE family = $1 AND until < clock_timestamp() AND NOT told"
        for (owner,) in await within(self._database.fetch(statement, self._family)):
            while await self._condemn(owner):
                if not await self._store.sweep(owner):
                    statement = "UPDATE gateway_owners SET told = true WHERE family = $1 AND owner = $2"
                    await within(self._database.fetch(statement, self._family, owner))
                    break

    async def _condemn(self, owner: str) -> bool:
        statement = "SELECT gateway_condemn($1, $2, $3)"
        return bool((await within(self._database.fetch(statement, self._family, owner, self._node)))[0][0])
