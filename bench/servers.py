"""Processes under measurement: started on one core, watched, ended with all that they started."""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from bench.environment import HERE, program

START = 30.0
"""Seconds that a server has to come up."""
STOP = 5.0
"""Seconds that it has to end when asked to."""

_PAGE = os.sysconf("SC_PAGE_SIZE")
_SCHED = 2
"""CPUCLOCK_SCHED: with a process's id it is the number of that process's clock, as `clock_getcpuclockid` has it."""


class Failed(Exception):  # noqa: N818  an error is one of a catalogue here
    """A system did not start, or does not do what it is measured at."""


def cores() -> tuple[int, int]:
    """The core of the servers and the core of the load."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A server on a port of its own, and every process that it starts. Use it in a ``with``.

    It is up once it listens and its log holds what it ``announces``.
    """

    def __init__(
        self, name: str, command: Sequence[str], core: int, port: int, announces: str = "", **environment: str
    ) -> None:
        self.name = name
        self.directory = HERE.parent
        """Where it runs."""
        self.port = port
        self._announces = announces
        self._command = [program("taskset", "util-linux"), "--cpu-list", str(core), *command]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        self._environment = {**inherited, **environment}
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  read while it is written, closed at the end
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Server":
        # A session of its own: all its processes are found by it, and Ctrl-C reaches the bench alone
        self._process = subprocess.Popen(
            self._command,
            env=self._environment,
            cwd=self.directory,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,
        )
        try:
            self._wait()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def log(self) -> str:
        self._output.seek(0)
        return self._output.read().decode(errors="replace")

    def memory(self) -> int:
        """Resident bytes of all its processes."""
        return sum(process.pages for process in self._family()) * _PAGE

    def cpu(self) -> float:
        """Processor seconds that all its processes have used."""
        return sum(_processor_time(process.pid) for process in self._family())

    def restart(self) -> None:
        """End it, and start it at the same port; returns once it is up again."""
        self._end()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  closed at the end
        self.__enter__()

    def kill(self) -> None:
        """End it without a word to anybody."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def check(self) -> None:
        """Raise `Failed` if it has ended."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise Failed(f"{self.name} ended with status {self._process.returncode}:\n{self.log}")

    def _wait(self) -> None:
        until = time.monotonic() + START
        while not self._up():
            self.check()
            if time.monotonic() > until:
                raise Failed(f"{self.name} is not up after {START:g} s:\n{self.log}")
            time.sleep(0.05)

    def _up(self) -> bool:
        if self._announces not in self.log:
            return False
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def _family(self) -> list["_Process"]:
        """The server and all that descends from it."""
        assert self._process is not None
        everybody = list(_processes())
        pids = [self._process.pid]
        for pid in pids:
            pids += [process.pid for process in everybody if process.parent == pid]
        return [process for process in everybody if process.pid in pids]

    def _end(self) -> None:
        assert self._process is not None
        family = {process.pid for process in self._family()}
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            if self._gone(family):
                break
        self._process.wait()
        self._output.close()

    def _gone(self, family: set[int]) -> bool:
        """Wait until all of the family have ended, for a while."""
        assert self._process is not None
        until = time.monotonic() + STOP
        while time.monotonic() < until:
            self._process.poll()  # so that it is not counted as a zombie
            if family.isdisjoint(process.pid for process in _processes()):
                return True
            time.sleep(0.02)
        return False


class _Process(NamedTuple):
    """A process of this machine."""

    pid: int
    parent: int
    pages: int
    """Resident memory."""


def _processor_time(pid: int) -> float:
    """Seconds, to the nanosecond; what ``/proc`` tells is rounded to a hundredth."""
    try:
        return time.clock_gettime(~pid << 3 | _SCHED)
    except OSError:  # it has just ended
        return 0.0


def _processes() -> Iterator[_Process]:
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it may end while we look
            pid, _, rest = entry.read_text().partition(" ")
            fields = rest.rpartition(")")[2].split()  # a name may hold anything
            yield _Process(int(pid), int(fields[1]), int(fields[21]))


def redis_server(core: int, directory: str, *settings: str) -> Server:
    """A Redis that keeps nothing."""
    port = free_port()
    words = [program("redis-server", "redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--dir", directory]
    return Server("redis-server", [*words, "--save", "", "--appendonly", "no", *settings], core, port)
