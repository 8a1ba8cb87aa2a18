"""Python programs that begin where their imports end: forked off a process that has everything imported.

Hundreds of processes of the tests would otherwise take a second each to import the same. There is one such process for
each of pytest's; it starts with the first program, and what it forks off has nothing of it but its modules.
"""

import atexit
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

ROOT = Path(__file__).parents[1]
IMPORTED = (
    "gateway.serve.cli",
    "gateway.serve.app",
    "uvicorn.main",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
)
LONGEST = 1 << 18
"""Most that can be asked for, environment included, in bytes."""


class Forked:
    """``python -m MODULE ARGUMENTS``, with what the tests use of a `subprocess.Popen`.

    Errors go where output goes, unless they have a file of their own. Both files are appended to.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        directory: Path,
        environment: Mapping[str, str],
        output: Path,
        errors: Path | None = None,
    ) -> None:
        self._module = module
        self._code: int | None = None
        self._line, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        wanted = [module, [*arguments], str(directory), {**environment}, str(output), str(errors or output)]
        with theirs:
            socket.send_fds(_server(), [json.dumps(wanted).encode()], [theirs.fileno()])
        self.pid = int(self._line.recv(LONGEST))

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        if self._code is None:
            self._line.settimeout(timeout)
            try:
                self._code = int(self._line.recv(LONGEST))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self._module, timeout or 0) from None
            self._line.close()
        return self._code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(
    module: str,
    arguments: Sequence[str],
    environment: Mapping[str, str] = os.environ,
    directory: Path = ROOT,
) -> subprocess.CompletedProcess[str]:
    """``python -m MODULE ARGUMENTS`` to its end: its exit code and all that it says."""
    with TemporaryDirectory() as own:
        output, errors = Path(own, "output"), Path(own, "errors")
        program = Forked(module, arguments, directory, environment, output, errors)
        try:
            code = program.wait()
        except BaseException:
            program.kill()
            program.wait()
            raise
        return subprocess.CompletedProcess([module, *arguments], code, output.read_text(), errors.read_text())


@cache
def _server() -> socket.socket:
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with theirs:
        command = [sys.executable, "-c", f"from {__name__} import serve; serve()"]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=theirs.fileno())

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def serve() -> None:
    """Fork whatever is asked for over standard input, until nobody is left to ask.

    It comes back in each program, too, once that has ended: so an interpreter ends it, as any other.
    """
    for name in IMPORTED:
        import_module(name)
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, _reap)
    with socket.socket(fileno=os.dup(0)) as requests:
        while True:
            wanted, descriptors, *_ = socket.recv_fds(requests, LONGEST, 1)
            if not wanted:
                os._exit(0)  # nothing of its own is to be told, such as coverage, which has been added up by now
            [line] = descriptors
            if os.fork() == 0:
                break
            os.close(line)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if program := os.fork():
        with socket.socket(fileno=line) as answers:
            answers.send(b"%d" % program)
            answers.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(program, 0)[1]))
        os._exit(0)
    os.close(line)
    _become(*json.loads(wanted))


def _reap(_: int, __: FrameType | None) -> None:
    """Those who wait for a program end with it; waited for, what it took counts as the tests' own."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _become(
    module: str, arguments: list[str], directory: str, environment: dict[str, str], output: str, errors: str
) -> None:
    with open(os.devnull) as nothing, open(output, "ab") as said, open(errors, "ab") as complained:
        for stream, end in enumerate((nothing, said, complained)):
            os.dup2(end.fileno(), stream)
    for text in (sys.stdout, sys.stderr):
        text.reconfigure(write_through=True)  # type: ignore[union-attr]  # as PYTHONUNBUFFERED would
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:1] = [directory, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
