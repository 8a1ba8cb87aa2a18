"""Several processes on one port: a supervisor keeps its workers running, and renews or replaces them on SIGHUP."""

import asyncio
import logging
import signal
import uuid
from collections.abc import Callable
from contextlib import suppress

from gateway.config.reloading import compare
from gateway.config.settings import Settings
from gateway.errors import SettingsError
from gateway.serve.hangup import on_hangup
from gateway.serve.line import Job, Order, Socket, write_job
from gateway.serve.listening import Listeners, ServeError, announce
from gateway.serve.meeting import MeetingPlace
from gateway.serve.process import Process
from gateway.serve.reloading import announce_reload, read_or_tell, set_log_level
from gateway.serve.server import Factory
from gateway.serve.sides import check_certificates
from gateway.serve.systemd import Watchdog, notify

STOP_TIMEOUT = 30.0
"""Seconds a worker has to stop, after the times of its grace and its drain, before it is killed."""

log = logging.getLogger("gateway.serve.supervisor")


class Slot:
    """A place for one worker, and for its successors when it dies; new settings get new slots."""

    def __init__(self, settings: Settings, *, trial: bool) -> None:
        self.settings = settings
        self.trial = trial
        """Whether the first worker must come up, for else the settings are not taken over."""
        self.came: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Whether a first worker has come up; False when there will be none."""
        self.process: Process | None = None
        self.ready = False
        """Whether the process has come up."""
        self.closing = asyncio.Event()
        """Nothing more is started here."""
        self.leaving = False
        """Whether the process has been asked to stop."""
        self.keeper: asyncio.Task[None]

    def order(self, order: Order) -> None:
        if self.process is not None and self.ready:
            self.process.order(order)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask the worker to stop, by the signal that asks us; asked twice, it stops at once."""
        self.closing.set()
        self.leaving = True
        if self.process is not None:
            self.process.signal(number)

    def leave(self) -> None:
        """Let the worker finish the handshakes it has begun, and then stop: others accept in its place."""
        self.closing.set()
        if self.ready:
            self.leaving = True
            self.order(None)
        else:
            self.stop()


class Supervisor:
    """Keeps N workers running, each with listening sockets of its own on the same ports.

    The sockets are opened here and inherited. So no queue of connections is closed, whatever becomes of a worker:
    while it is away, the others accept on its socket, too.
    """

    tries = 3
    """How often a worker may fail to come up before any has: then the reason is lasting."""
    healthy = 10.0
    """Seconds of life after which a death is not one of a row."""
    backoff = 0.5
    """Seconds before the second restart in a row; doubles up to `longest_backoff`."""
    longest_backoff = 30.0
    start_timeout = 60.0
    """Seconds in which a worker must come up."""
    stop_timeout = STOP_TIMEOUT
    tick = 1.0
    """Seconds between two looks at the workers."""
    patience = 10
    """Looks without an answer after which a worker hangs: while everything stands still, nobody looks."""

    def __init__(
        self,
        settings: Settings,
        factory: Factory,
        listeners: Listeners,
        reload: Callable[[], Settings] | None = None,
    ) -> None:
        self._settings = settings
        self._factory = factory
        self._listeners = listeners
        self._reload = reload or (lambda: self._settings)
        self._slots: list[Slot] = []
        """Those that serve, by the number of their socket."""
        self._others: list[Slot] = []
        """Those that are to serve next, and those that leave."""
        self._any_came = False
        self._meeting = MeetingPlace()
        self._group = uuid.uuid4().hex
        self._hangup = asyncio.Event()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Supervise until a signal. Raises `ServeError` when no worker comes up, `SettingsError` if one says why."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop, number)
        on_hangup(self._hangup.set, self._stop)
        self._slots = [self._open(self._settings) for _ in range(self._settings.http_server.workers)]
        tasks = [asyncio.create_task(work()) for work in (self._announce, self._watch, self._renew)]
        await self._stopping.wait()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        slots = [*self._slots, *self._others]
        self._listeners.give_up()  # the workers have them, too, and close them when they accept nothing more
        await asyncio.gather(*(self._see_off(slot) for slot in slots))
        self._meeting.close()
        self._listeners.close()
        await asyncio.gather(*(slot.keeper for slot in slots))
        log.info("all workers stopped")

    def _stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask all workers to stop; asked twice, they stop at once."""
        if not self._stopping.is_set():
            notify("STOPPING=1")
        self._stopping.set()
        for slot in self._slots + self._others:
            slot.stop(number)

    async def _announce(self) -> None:
        await asyncio.gather(*(slot.came for slot in self._slots))
        if not self._stopping.is_set():
            announce(self._settings, self._listeners.all)

    # — one worker —

    def _open(self, settings: Settings, *, trial: bool = False) -> Slot:
        slot = Slot(settings, trial=trial)
        if self._stopping.is_set():  # in the very turn in which a roll goes on, which is cancelled only in the next
            slot.closing.set()
        slot.keeper = asyncio.create_task(self._keep(slot))
        return slot

    async def _keep(self, slot: Slot) -> None:
        """Run one worker, and another when it dies."""
        deaths = 0
        clock = asyncio.get_running_loop().time
        try:
            while not slot.closing.is_set():
                began = clock()
                pid, ending = await self._live(slot)
                if slot.closing.is_set():
                    return
                if slot.trial and not slot.came.done():
                    log.error("worker %d did not come up (%s); the reason is in the log above", pid, ending)
                    return
                deaths = 1 if clock() - began > self.healthy else deaths + 1
                if deaths >= self.tries and not self._any_came:
                    raise ServeError(f"workers do not come up ({ending}); the reason is in the log above")
                await self._pause(slot, pid, ending, deaths)
        except BaseException:
            self._stop()
            raise
        finally:
            if not slot.came.done():
                slot.came.set_result(False)

    async def _pause(self, slot: Slot, pid: int, ending: str, deaths: int) -> None:
        delay = min(self.backoff * 2 ** (deaths - 2), self.longest_backoff) if deaths > 1 else 0.0
        log.error("worker %d died (%s), starting another in %g s", pid, ending, delay)
        with suppress(TimeoutError):
            await asyncio.wait_for(slot.closing.wait(), delay)

    async def _live(self, slot: Slot) -> tuple[int, str]:
        """One worker from birth to death: its process id, and how it ended."""
        settings = slot.settings
        sockets = tuple(Socket(each.sock.fileno(), each.internal, each.worker) for each in self._listeners.all)
        job = write_job(Job(sockets, self._of_worker(settings), self._factory))
        try:
            process = slot.process = await Process.start(job, [each.descriptor for each in sockets])
        except OSError as error:
            return 0, f"it cannot be started: {error.strerror}"
        if slot.closing.is_set():
            slot.stop()
        try:
            if await process.came_within(self.start_timeout):
                slot.ready = self._any_came = True
                if slot.settings is not settings:  # others were handed on while it came up
                    slot.order(self._of_worker(slot.settings))
                if not slot.came.done():
                    slot.came.set_result(True)
                self._share()
            ending = _ending(await process.wait())
            if process.forbidden:
                if not self._any_came:
                    raise SettingsError(process.forbidden)
                log.error("worker %d: %s", process.pid, process.forbidden)
            return process.pid, ending
        finally:
            slot.process, slot.ready = None, False
            self._share()

    def _share(self) -> None:
        """Say who accepts where: each worker on its own sockets, and all on those whose worker is away."""
        up = {number for number, slot in enumerate(self._slots) if slot.ready}
        orphans = set(range(self._listeners.workers)) - up
        for number in up:
            self._slots[number].order(frozenset({number, *orphans}))
        for slot in self._others:
            slot.order(frozenset())

    async def _watch(self) -> None:
        watchdog, clock = Watchdog(), asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(self.tick)
            watchdog.beat(clock())
            self._look()

    def _look(self) -> None:
        """End workers whose event loop hangs. Those that start or drain are left alone."""
        for slot in self._slots + self._others:
            process = slot.process
            if process is None or not slot.ready or slot.leaving:
                continue
            process.silence += 1
            if process.silence == self.patience:
                log.error("worker %d hangs, silent for %g s, and is killed", process.pid, self.tick * self.patience)
                process.signal(signal.SIGABRT)  # by which it writes where it hangs
            elif process.silence > self.patience:
                process.signal(signal.SIGKILL)
        self._share()  # which they answer

    async def _see_off(self, slot: Slot) -> None:
        """Wait for the end of a worker that has been asked to stop; one that does not is killed."""
        shutdown = slot.settings.shutdown
        await asyncio.wait({slot.keeper}, timeout=shutdown.grace + shutdown.drain_time + self.stop_timeout)
        if slot.process is not None:
            log.error("worker %d does not stop and is killed", slot.process.pid)
            slot.process.signal(signal.SIGKILL)
            await asyncio.wait({slot.keeper})

    # — all of them anew —

    async def _renew(self) -> None:
        """At each SIGHUP hand settings on, or replace all workers; a signal that comes meanwhile counts once more."""
        while True:
            await self._hangup.wait()
            self._hangup.clear()
            announce_reload()
            settings = self._read_settings()
            if settings is None or self._hand_on(settings):
                notify("READY=1")
                continue
            replaced = await self._replace(settings)
            notify("READY=1")
            for slot in replaced:
                slot.leave()
                await self._see_off(slot)
            self._others.clear()
            if replaced:
                log.info("the rolling restart is done")

    def _hand_on(self, settings: Settings) -> bool:
        """Have the workers that run go by other settings, where that is enough: then nobody has to move."""
        change = compare(self._settings, settings)
        if change.waiting or not change.at_once:
            return False
        log.info("the workers take over, and go on: %s", ", ".join(change.at_once))
        self._settings = settings
        set_log_level(settings)
        for slot in self._slots:
            slot.settings = settings
            slot.order(self._of_worker(settings))
        return True

    async def _replace(self, settings: Settings) -> list[Slot]:
        """Start a new worker for each, then let these accept. Returns the old slots; none when a new one fails."""
        workers = settings.http_server.workers
        log.info("rolling restart: %d workers start, one after another", workers)
        fresh: list[Slot] = []
        for _ in range(workers):
            slot = self._open(settings, trial=True)
            fresh.append(slot)
            self._others.append(slot)
            if not await slot.came:
                log.error("the rolling restart is given up; the workers that ran go on, with their settings")
                for each in fresh:
                    each.leave()
                await asyncio.gather(*(self._see_off(each) for each in fresh))
                return []
        self._settings = settings
        set_log_level(settings)
        self._others, self._slots = self._slots, fresh
        for slot in self._others:
            slot.closing.set()
        self._share()
        log.info("the new workers accept; %d old ones drain, one after another", len(self._others))
        return list(self._others)

    def _read_settings(self) -> Settings | None:
        """The settings as they are now. None when they are wrong, which is logged."""
        settings = read_or_tell(self._read_with_listeners)
        if settings is None:
            return None
        server, kept = settings.http_server, {}
        for name in ("address", "port", "internal_address", "internal_port", "unix_socket_mode"):
            kept[name] = getattr(self._settings.http_server, name)
            if getattr(server, name) != kept[name]:
                log.warning("http_server.%s stays %s until the gateway itself is restarted", name, kept[name])
        return settings.model_copy(update={"http_server": server.model_copy(update=kept)})

    def _of_worker(self, settings: Settings) -> Settings:
        """What a worker goes by: one of a group, old and new, for their port is all that a balancer sees."""
        node = settings.node.model_copy(update={"group": settings.node.group or self._group})
        return self._meeting.named_in(settings.model_copy(update={"node": node}))

    def _read_with_listeners(self) -> Settings:
        settings = self._reload()
        check_certificates(settings.http_server)
        self._listeners.widen(settings.http_server.workers)
        return settings


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
