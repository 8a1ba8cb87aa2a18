"""The sender: the one node of all that hands on what waits in the outbox, and tells it.

It is the one that has the lease. What it has done is in the outbox alone: whoever takes its place goes on there, and
tells again what it cannot know to have been told. Several that take themselves for it do no harm but that.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from math import inf

from gateway.apps.base import App, Apps
from gateway.core.tasks import Tasks
from gateway.errors import BrokerUnavailable, Error
from gateway.leases.base import Leases, Taken
from gateway.leases.tenure import Tenure, first_of
from gateway.outbox.base import About, Waiting
from gateway.webhooks.lane import AT_ONCE, Lane, Telling
from gateway.webhooks.targets import Target, targets_of

log = logging.getLogger(__name__)

LEASE = "webhooks of all apps"

POLL = 0.25
"""Seconds between two looks for what is due: a look takes one command for each partition, on one node of all."""

IDLE_POLL = 1.0
"""The same, when the last look has found nothing."""

GRACE = 3.0
"""Seconds for requests under way when the node stops: less than the lease lasts that is not renewed any more."""

LOOK = 1000
"""Events of an app handed on in one go."""

UNKNOWN_PAUSE = 5.0
"""Seconds after which an app is looked for again that nobody could tell of."""

NOBODY = ""
"""In place of a target's name, for what nobody is known to want."""


class Sender:
    """Satisfies the needs of one node; ``owner`` names it in this life."""

    def __init__(self, telling: Telling, leases: Leases, owner: str, apps: Callable[[], Apps]) -> None:
        self._telling = telling
        self._outbox = telling.outbox
        self._leases = leases
        self._owner = owner
        self._apps = apps
        self._busy: set[str] = set()
        """Apps that are being looked after."""
        self._lanes: dict[tuple[str, str], tuple[Lane, asyncio.Task[None]]] = {}
        """Targets that are being told, by app and name."""
        self._work = Tasks()
        self._ended: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._ended = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._stand())

    async def close(self) -> None:
        """Give the lease back; what is under way and does not end soon is told again by another."""
        if self._task is not None and self._ended is not None:
            self._ended.set_result(None)
            await asyncio.gather(self._task, return_exceptions=True)

    # — the lease —

    async def _stand(self) -> None:
        """Be the sender whenever the lease can be had."""
        assert self._ended is not None
        while not self._ended.done():
            asked = asyncio.get_running_loop().time()
            try:
                found = await self._leases.acquire(LEASE, self._owner)
            except BrokerUnavailable:
                found = Taken(self._leases.ttl)
            if isinstance(found, Taken):
                await first_of([self._ended], self._leases.ttl / 4)
            else:
                await self._serve(Tenure(self._leases, found, asked), self._ended)

    async def _serve(self, tenure: Tenure, ended: "asyncio.Future[None]") -> None:
        looking, held = asyncio.create_task(self._look()), False
        try:
            held = await tenure.keep(looking, ended)
            if not held:
                log.warning("the lease of webhooks may be lost: another node tells them")
        finally:
            looking.cancel()
            await self._work.finish(within=0)
            await self._end_lanes(within=GRACE if held else 0.0)
            self._busy.clear()
        await tenure.release()

    async def _end_lanes(self, within: float) -> None:
        """Let what is under way come to an end, so that nobody has to tell it again."""
        tasks = {task for _, task in self._lanes.values()}
        for lane, task in self._lanes.values():
            lane.end()
            if not lane.sending:
                task.cancel()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=within)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self._lanes.clear()  # one that was cancelled before it began has not

    # — the work —

    async def _look(self) -> None:
        while True:
            pending: list[str] = []
            try:
                pending = await self._outbox.pending()
            except BrokerUnavailable:
                log.debug("webhooks: what is due is looked for when the outbox is back")
            except Exception:
                log.exception("webhooks: looking for what is due failed")
            for app in pending:
                if app not in self._busy:
                    self._busy.add(app)
                    self._work.spawn(self._look_after(app))
            await self._telling.pause(POLL if pending else IDLE_POLL)

    async def _look_after(self, app_id: str) -> None:
        """Hand on what an app is due, and see that each of its targets is told."""
        try:
            while await self._sort(app_id):
                pass
        except BrokerUnavailable:
            log.debug("webhooks of app %s wait for the outbox", app_id)
        except Error as error:
            self._telling.recurring.happened(
                f"unknown {app_id}", "webhooks of app %s wait: it could not be found: %s", app_id, error
            )
            await self._telling.pause(UNKNOWN_PAUSE)
        finally:
            self._busy.discard(app_id)

    async def _sort(self, app_id: str) -> bool:
        """Whether there may be more."""
        waiting = await self._outbox.waiting(app_id, LOOK)
        if not (waiting.due or waiting.targets):
            return False
        app = await self._find(app_id, waiting.key)
        if app is None:
            await self._keep_unknown(app_id, waiting)
            return False
        targets = {target.name: target for target in targets_of(app)}
        wanted = [(event, _wanted_by(targets, event.about)) for event in waiting.due]
        if wanted and (lost := await self._outbox.sort(app_id, wanted)):
            self._telling.lost(app_id, lost)
        behind = waiting.targets.union(*(names for _, names in wanted))
        for name in behind:
            if name in targets:
                self._tell(targets[name])
            else:
                await self._give_up(app_id, name, "an address that it has no more")
        return bool(waiting.due)

    async def _find(self, app_id: str, key: str) -> App | None:
        """The app, as it is now if that can be learned. Raises ``Error`` if nothing can be said."""
        apps = self._apps()
        found = apps.by_id(app_id)
        try:
            newest = await apps.find(key)
        except Error:
            if found is None:
                raise
            return found
        return newest if newest is not None and newest.id == app_id else found

    def _tell(self, target: Target) -> None:
        name = target.app.id, target.name
        if name in self._lanes:
            self._lanes[name][0].target = target  # its app may have other settings by now
        else:
            lane = Lane(target, self._telling)
            self._lanes[name] = lane, asyncio.create_task(self._run(name, lane))

    async def _run(self, name: tuple[str, str], lane: Lane) -> None:
        try:
            await lane.run()
        except BrokerUnavailable:
            log.debug("webhooks of app %s wait for the outbox", name[0])
        except Exception:
            log.exception("telling webhooks of app %s failed", name[0])
        finally:
            self._lanes.pop(name, None)

    async def _keep_unknown(self, app_id: str, waiting: Waiting) -> None:
        """Leave to another node, whose settings may be newer, what is of an app that there is not; not for ever."""
        text = "webhooks of app %s wait: there is no such app as far as this node knows"
        self._telling.recurring.happened(f"unknown {app_id}", text, app_id)
        for (app, _), (lane, _) in self._lanes.items():
            if app == app_id:
                lane.end()
        oldest = self._telling.clock() - self._telling.settings().retry_for
        old = [event for event in waiting.due if event.time <= oldest]
        if old:
            await self._outbox.sort(app_id, [(event, [NOBODY]) for event in old])
        for name in {NOBODY, *waiting.targets}:
            await self._give_up(app_id, name, "an app that there is not", oldest)
        await self._telling.pause(UNKNOWN_PAUSE)

    async def _give_up(self, app_id: str, target: str, whose: str, oldest: float = inf) -> None:
        """Put aside what was for somebody who is not there any more, as far as it is so old."""
        while events := await self._outbox.of(app_id, target, AT_ONCE):
            old = [event for event in events if event.time <= oldest]
            if old:
                await self._outbox.put_aside(app_id, target, old)
                self._telling.metrics.webhook_events["put_aside"] += len(old)
                text = "webhooks of app %s: %d events were for %s, and are put aside"
                self._telling.recurring.happened(f"dead {app_id}", text, app_id, len(old), whose)
            if len(old) < len(events):
                return


def _wanted_by(targets: Mapping[str, Target], about: About) -> list[str]:
    return [name for name, target in targets.items() if target.wants(about.name, about.channel)]
