"""Runs a plan in as many processes as it needs, and merges what they report."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import ceil
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from struct import Struct
from typing import Any

from gateway.bench.limits import room
from gateway.bench.load import Load, Passed, Progress
from gateway.bench.plan import LoadError, Plan, shares
from gateway.bench.report import Report, merge

_ARRIVAL = Struct("<HIH")  # process, channel, messages: less than a pipe writes at once
_END = 10.0
"""Seconds that a process has to end by itself."""


def processes_for(plan: Plan, processes: int = 1) -> int:
    """How many processes the plan takes: as many as asked for, or more if its connections need them."""
    return max(1, min(processes, plan.connections), ceil(plan.connections / room()))


def run(plan: Plan, processes: int = 1, progress: Progress | None = None) -> Report:
    """Connect, warm up, measure, and report. KeyboardInterrupt ends it early. Raises `LoadError`."""
    plans = shares(plan, processes_for(plan, processes))
    return _run_here(plans[0], progress) if len(plans) == 1 else _run_apart(plans, progress)


def _run_here(plan: Plan, progress: Progress | None) -> Report:
    load = Load(plan)
    try:
        load.connect(progress)
        return load.measure(progress=progress) if any(load.subscribers) else load.report()
    except KeyboardInterrupt:
        report = load.report()
        report.interrupted = True
        return report
    finally:
        load.close()


# — several processes: this one directs —


def _run_apart(plans: Sequence[Plan], progress: Progress | None) -> Report:
    context = multiprocessing.get_context("spawn")
    together = len({plan.first_channel for plan in plans}) == 1 and plans[0].publishers != "none" and not plans[0].rate
    hears, tells = context.Pipe(duplex=False) if together else (None, None)
    workers: list[_Worker] = []
    try:
        for number, plan in enumerate(plans):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_work, args=(plan, number, theirs, None if number else hears, tells if number else None)
            )
            process.start()
            theirs.close()
            workers.append(_Worker(process, ours))
        _close(hears, tells)  # so that those who write notice when nobody reads any more
        return _Director(workers, progress).run()
    finally:
        _close(hears, tells)
        for worker in workers:
            worker.end()


def _close(*ends: Connection | None) -> None:
    for end in ends:
        if end is not None:
            end.close()


class _Worker:
    """A process as seen from here: the last that it told, of each kind."""

    def __init__(self, process: SpawnProcess, connection: Connection) -> None:
        self.process = process
        self.connection = connection
        self.told: dict[str, Any] = {}

    def send(self, word: str, value: object = None) -> None:
        with suppress(OSError):  # who is gone is found out when it should answer
            self.connection.send((word, value))

    def hear(self) -> None:
        """Take in what came. Raises `LoadError` if the process is gone or cannot do its part."""
        while self.connection.poll():
            try:
                kind, value = self.connection.recv()
            except (EOFError, OSError) as error:
                raise LoadError("a process of the load generator has ended before its time") from error
            if kind == "error":
                raise LoadError(value)
            self.told[kind] = value

    def end(self) -> None:
        self.connection.close()
        self.process.join(_END)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class _Director:
    """Leads the processes through the phases, each together."""

    def __init__(self, workers: Sequence[_Worker], progress: Progress | None) -> None:
        self._workers = workers
        self._progress = progress
        self._interrupted = False

    def run(self) -> Report:
        self._all("ready")
        self._tell("connect")
        self._all("connected")
        everywhere = [worker.told["connected"] for worker in self._workers]
        self._tell("measure", everywhere)
        self._all("report")
        report = merge(worker.told["report"] for worker in self._workers)
        report.interrupted |= self._interrupted
        return report

    def _tell(self, word: str, value: object = None) -> None:
        for worker in self._workers:
            worker.send("stop" if self._interrupted else word, value)

    def _all(self, kind: str) -> None:
        """Wait until each process has told this. The first Ctrl-C asks them for what they have."""
        while missing := [worker for worker in self._workers if kind not in worker.told]:
            try:
                wait([worker.connection for worker in missing])
                for worker in missing:
                    worker.hear()
                self._show()
            except KeyboardInterrupt:
                if self._interrupted:
                    raise
                self._interrupted = True
                self._tell("stop")

    def _show(self) -> None:
        told = [worker.told["progress"] for worker in self._workers if "progress" in worker.told]
        if self._progress is None or not told:
            return
        what, done, whole = told[0]
        if what == "connecting":  # connections add up, while times pass side by side
            others = [progress for progress in told[1:] if progress[0] == what]
            done += sum(progress[1] for progress in others)
            whole += sum(progress[2] for progress in others)
        self._progress(what, done, whole)


# — several processes: one of the others —


def _work(plan: Plan, number: int, director: Connection, hears: Connection | None, tells: Connection | None) -> None:
    """What a process does: everything when it is told to, until the connection to the first closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process tells what to do
    with suppress(EOFError, OSError):
        try:
            _obey(plan, number, director, hears, tells)
        except LoadError as error:
            director.send(("error", str(error)))


def _obey(plan: Plan, number: int, director: Connection, hears: Connection | None, tells: Connection | None) -> None:
    def progress(what: str, done: float, whole: float) -> None:
        director.send(("progress", (what, done, whole)))
        if director.poll() and director.recv()[0] == "stop":
            raise KeyboardInterrupt

    load = Load(plan, passed=_telling(tells, number) if tells else None)
    try:
        director.send(("ready", None))
        interrupted = director.recv()[0] == "stop"
        if not interrupted:
            try:
                load.connect(progress)
            except KeyboardInterrupt:
                interrupted = True
        director.send(("connected", load.subscribers))
        load.wait(director.poll)
        word, everywhere = director.recv()
        if word == "stop" or interrupted:
            report = load.report()
        else:
            if hears is not None:
                load.hear(hears.fileno(), _hearing(hears), everywhere)
            report = load.measure(progress=progress)
        director.send(("report", report))
        load.wait(director.poll)  # until the first closes the connection: others may not be ready yet
    finally:
        load.close()


def _telling(pipe: Connection, number: int) -> Passed:
    def passed(channel: int, messages: int) -> None:
        with suppress(BrokenPipeError):  # the first has ended its part
            os.write(pipe.fileno(), _ARRIVAL.pack(number, channel, messages))

    return passed


def _hearing(pipe: Connection) -> Callable[[], list[tuple[Any, ...]]]:
    return lambda: list(_ARRIVAL.iter_unpack(os.read(pipe.fileno(), _ARRIVAL.size * 512)))
