"""Child processes of the tests: output to a file, an end by pid, free ports."""

import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.forked import Forked

GRACE = 10.0
"""Seconds that a process has to end by itself before it is killed."""


def program(name: str, package: str) -> str:
    """The path of a program; without it, an error that names the package to install."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if path is None:
        raise RuntimeError(f"the tests need {name}: apt-get install {package}")
    return path


class Process:
    """One child process and the file that takes its output. Leaving the ``with`` block ends it."""

    running: list["Process"] = []  # noqa: RUF012  one list for all: what a failing test shows

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self.output = directory / f"{name}.log"
        self._popen: subprocess.Popen[bytes] | Forked | None = None

    def spawn(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        with self.output.open("ab") as output:
            self._popen = subprocess.Popen(
                command, cwd=self.directory, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self.running.append(self)

    def run_module(self, module: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """``python -m module arguments``, without the second in which it would import the gateway."""
        self._popen = Forked(module, arguments, self.directory, environment, self.output)
        self.running.append(self)

    @property
    def log(self) -> str:
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    @property
    def pid(self) -> int:
        assert self._popen is not None
        return self._popen.pid

    @property
    def alive(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def signal(self, number: signal.Signals) -> None:
        assert self._popen is not None
        self._popen.send_signal(number)

    def stop(self) -> None:
        """Freeze it: connections stay open, nothing is answered."""
        self.signal(signal.SIGSTOP)

    def cont(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, without a chance to say goodbye."""
        self.signal(signal.SIGKILL)
        self._reap()

    def terminate(self) -> int:
        """Ask it to end, wait, and return its exit code."""
        assert self._popen is not None
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self._popen.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {GRACE:g} s of SIGTERM:\n{self.log}") from None
        return self._reap()

    @contextmanager
    def or_killed(self) -> Iterator[None]:
        """For ``__enter__``, what can fail once it runs: a ``with`` that has not been entered ends nothing."""
        try:
            yield
        except BaseException:
            self.kill()
            raise

    def _reap(self) -> int:
        assert self._popen is not None
        code = self._popen.wait()
        if self in self.running:
            self.running.remove(self)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.alive:
            self.terminate()
        elif self._popen is not None:
            self._reap()
