"""A process of its own for what must not share an event loop with anything else; it is asked through a pipe."""

import asyncio
import multiprocessing
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Protocol

import uvloop

LEAVING = 10.0
"""Seconds that a child has to end."""


class Worker(Protocol):
    """What runs in the child: its other methods are called by name."""

    async def run(self) -> None: ...


class Child:
    """Runs what ``make(*args)`` gives, in a process of its own; ``ask`` calls a method of it."""

    def __init__(self, make: Callable[..., Worker], *args: Any) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, far = spawn.Pipe()
        self._process = spawn.Process(target=_child, args=(far, make, args), daemon=True)
        self._process.start()
        far.close()
        self._lock = asyncio.Lock()

    async def ask(self, method: str, *args: Any) -> Any:
        """The answer of a method of the worker. Raises what it raised."""
        async with self._lock:
            self._pipe.send((method, args))
            answer = await asyncio.to_thread(self._pipe.recv)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def close(self) -> None:
        self._pipe.close()
        await asyncio.to_thread(self._process.join, LEAVING)
        if self._process.is_alive():
            self._process.kill()
            await asyncio.to_thread(self._process.join)


def _child(pipe: Connection, make: Callable[..., Worker], args: tuple[Any, ...]) -> None:
    with suppress(KeyboardInterrupt):
        uvloop.run(_serve(pipe, make, args))


async def _serve(pipe: Connection, make: Callable[..., Worker], args: tuple[Any, ...]) -> None:
    worker = make(*args)
    ended = asyncio.Event()
    tasks: set[asyncio.Future[None]] = set()
    loop = asyncio.get_running_loop()

    def asked(method: str, arguments: tuple[Any, ...]) -> None:
        task = asyncio.ensure_future(_answer(pipe, getattr(worker, method), arguments))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def listen() -> None:
        with suppress(EOFError, OSError, RuntimeError):  # the other side has gone, or this loop
            while True:
                loop.call_soon_threadsafe(asked, *pipe.recv())
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=listen, daemon=True).start()
    running = asyncio.ensure_future(worker.run())
    await asyncio.wait([running, asyncio.ensure_future(ended.wait())], return_when=asyncio.FIRST_COMPLETED)
    running.cancel()
    await asyncio.wait([running])
    if not running.cancelled() and (error := running.exception()):
        raise error


async def _answer(pipe: Connection, method: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        result = method(*arguments)
        answer = await result if isinstance(result, Awaitable) else result
    except Exception as error:
        answer = error
    pipe.send(answer)
