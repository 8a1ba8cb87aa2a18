"""A worker: one process of several, which accepts where its supervisor says."""

import asyncio
import faulthandler
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import IO, Any

from gateway.config.settings import Settings
from gateway.errors import SettingsError
from gateway.serve.lame_duck import NO_LAME_DUCK, LameDuck, lame_duck_of
from gateway.serve.line import ANSWER, FORBIDDEN, Order, read, read_job
from gateway.serve.listening import Listener, ServeError
from gateway.serve.logs import log_to_stderr
from gateway.serve.reloading import take_over
from gateway.serve.server import Server, drain_of, refusals_of, run, sides_of
from gateway.serve.sides import Sides
from gateway.transports.uvicorn_http import HttpProtocol

log = logging.getLogger("gateway.serve.worker")


class WorkerServer(Server):
    """A server that obeys its supervisor.

    The listening sockets belong to the supervisor. Whoever stops to accept on one, or dies, closes no queue, and what
    waits there is for whoever accepts next.
    """

    def __init__(
        self,
        sides: Sides,
        app: Any,
        line: socket.socket,
        listeners: list[Listener],
        lame_duck: LameDuck = NO_LAME_DUCK,
    ) -> None:
        super().__init__(sides, listeners, drain_of(app), self._answer, lame_duck, refusals_of(app))
        self._app = app
        self._line = line
        self._accepting: dict[int, Any] = {}
        """By the number of the listener: an ``asyncio.Server``, as uvicorn uses it."""
        self._orders: asyncio.Queue[Order] = asyncio.Queue()
        self._stopping = False

    async def _begin_listening(self) -> None:
        self._obeying = asyncio.create_task(self._obey())

    def order(self, order: Order) -> None:
        """Take an order, from any thread."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._orders.put_nowait, order)

    async def drain(self) -> None:
        await super().drain()
        self._stopping = True
        self.servers = list(self._accepting.values())  # which uvicorn closes now

    async def _end_listening(self, queues: Sequence[Listener]) -> None:
        # Who makes way for a successor leaves the queues to it. Else all stop, and nobody else would answer these.
        await super()._end_listening(queues if self._told_by_service else ())

    async def _obey(self) -> None:
        while (order := await self._orders.get()) is not None:
            self._answer()
            if isinstance(order, Settings):
                take_over(self._app, order)
                continue
            try:
                if not self._stopping:
                    await self._accept(order)
            except OSError as error:  # orders are repeated, so it is tried again
                log.error("cannot accept connections: %s", error)
        await self._leave()

    def _answer(self) -> None:
        with suppress(OSError):  # the supervisor has gone, or is stopped and has heard enough of us
            self._line.send(ANSWER, socket.MSG_DONTWAIT)

    async def _accept(self, numbers: frozenset[int]) -> None:
        wanted = {
            index
            for index, listener in enumerate(self._listeners)
            if (bool(numbers) if listener.worker is None else listener.worker in numbers)
        }
        for index in self._accepting.keys() - wanted:
            self._accepting.pop(index).close()
        for index in wanted - self._accepting.keys():
            listener = self._listeners[index]
            self._accepting[index] = await self._listen(listener, listener.sock.dup())  # it is closed at the end

    async def _leave(self) -> None:
        """Make way for a successor: finish the handshakes that have begun, then drain."""
        await self._accept(frozenset())
        while self._unheard():  # noqa: ASYNC110  each has a deadline
            await asyncio.sleep(0.1)
        for each in list(self.server_state.connections):
            if isinstance(each, HttpProtocol):
                each.shutdown()  # who keeps its connection alive sends its next request to the successor
        self.should_exit = True


def work() -> None:
    """The whole life of a worker process."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it is for the supervisor, but some send it to all
    faulthandler.enable()  # a worker that hangs is ended by SIGABRT, and so says where it hung
    line = socket.socket(fileno=os.dup(0))
    file = line.makefile("rb")
    log_to_stderr()
    serving: Future[WorkerServer] = Future()
    try:
        job = read_job(file)
        log_to_stderr(job.settings.log)
        threading.Thread(target=_attend, args=(file, serving), daemon=True).start()
        app = job.factory(job.settings)
        listeners = [
            Listener(socket.socket(fileno=each.descriptor), each.internal, each.worker) for each in job.listeners
        ]
        sides, lame_duck = sides_of(job.settings, app, listeners), lame_duck_of(job.settings, app)
        server = WorkerServer(sides, app, line, listeners, lame_duck)
        serving.set_result(server)
        run(server)
    except SettingsError as error:
        with suppress(OSError):
            line.sendall(FORBIDDEN + str(error).encode())
        sys.exit(1)
    except ServeError as error:
        log.error("%s", error)
        sys.exit(1)
    except EOFError:  # the supervisor died before it said what to do
        sys.exit(1)


def _attend(file: IO[bytes], serving: Future[WorkerServer]) -> None:
    """Take orders until the supervisor has gone, and stop then."""
    with suppress(EOFError, ConnectionError):
        while True:
            order = read(file)
            serving.result().order(order)  # it is there: orders come after the worker has said that it is ready
    os.kill(os.getpid(), signal.SIGTERM)
