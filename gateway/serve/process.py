"""A worker process, as its supervisor sees it."""

import asyncio
import asyncio.subprocess
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

from gateway.serve.line import FORBIDDEN, Order, write
from gateway.serve.systemd import VARIABLE

log = logging.getLogger("gateway.serve.process")

_WORKER = "from gateway.serve.worker import work; work()"


class Process(asyncio.Protocol):
    """Starts at `start`; is ready when `came` says so; has ended when `wait` returns."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.came: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """True when it is ready, False when it has ended before."""
        self.silence = 0
        """How often it has been asked since it last answered."""
        self._told = b""

    @classmethod
    async def start(cls, job: bytes, descriptors: Sequence[int]) -> "Process":
        ours, theirs = socket.socketpair()
        with theirs:  # a session of its own, for Ctrl-C reaches the whole group and would count as second signal
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                _WORKER,
                stdin=theirs.fileno(),
                start_new_session=True,
                pass_fds=descriptors,
                env={name: value for name, value in os.environ.items() if name != VARIABLE},
            )
        self = cls(process)
        await asyncio.get_running_loop().create_connection(lambda: self, sock=ours)
        self._line.write(job)
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def forbidden(self) -> str:
        """What of the settings forbids it to start, when it has ended."""
        return self._told.removeprefix(FORBIDDEN).decode(errors="replace")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._line = transport

    def data_received(self, data: bytes) -> None:
        self.silence = 0
        if self._told or data.startswith(FORBIDDEN):
            self._told += data
        elif not self.came.done():
            self.came.set_result(True)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.came.done():
            self.came.set_result(False)

    async def came_within(self, seconds: float) -> bool:
        """Whether it is ready in time; if not, it is killed."""
        await asyncio.wait({self.came}, timeout=seconds)
        if self.came.done():
            return self.came.result()
        log.error("worker %d does not come up within %g s and is killed", self.pid, seconds)
        self.signal(signal.SIGKILL)
        return False

    def order(self, order: Order) -> None:
        self._line.write(write(order))

    def signal(self, number: signal.Signals) -> None:
        # Not send_signal, which waits for one that has just ended: its exit code would then be lost to the event loop.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def wait(self) -> int:
        """Its exit code, when it has ended."""
        code = await self._process.wait()
        self._line.close()
        return code
