"""Learning that the server stops, while it still has connections.

ASGI tells only when all of them have ended. A response without an end never does by itself: uvicorn would wait for
it for ever, hypercorn for three seconds. What comes in time is the signal, or what hypercorn has in its place.
"""

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

SIGNALS = signal.SIGTERM, signal.SIGINT


@contextmanager
def on_stop(stop: Callable[[], None]) -> Iterator[None]:
    """Within the block, call ``stop`` in the running event loop when the process is asked to stop.

    The server's own handler is called first, as ever. Where there is none, or outside the main thread, where there
    can be none, nothing is changed.
    """
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                stack.enter_context(_also(number, lambda: loop.call_soon_threadsafe(stop)))
        if trigger := _hypercorn():
            stack.callback(loop.create_task(_after(trigger, stop)).cancel)
        yield


@contextmanager
def _also(number: signal.Signals, tell: Callable[[], object]) -> Iterator[None]:
    before = signal.getsignal(number)
    if not callable(before) or before is signal.default_int_handler:
        yield
        return
    handler = before
    listening = True

    def handle(number: int, frame: FrameType | None) -> None:
        handler(number, frame)
        if listening:
            tell()

    signal.signal(number, handle)
    try:
        yield
    finally:
        listening = False
        if signal.getsignal(number) is handle:  # else it is part of somebody's chain, and stays there
            signal.signal(number, before)


def _hypercorn() -> Callable[[], Awaitable[None]] | None:
    """What the hypercorn that runs this loop waits for.

    A signal reaches its first process alone, which tells the workers by an event in shared memory. ASGI has no word
    for that, but the task has that serves.
    """
    for task in asyncio.all_tasks():
        frame = getattr(task.get_coro(), "cr_frame", None)
        if frame is not None and frame.f_globals.get("__name__") == "hypercorn.asyncio.run":
            trigger: Callable[[], Awaitable[None]] | None = frame.f_locals.get("shutdown_trigger")
            return trigger
    return None


async def _after(trigger: Callable[[], Awaitable[None]], stop: Callable[[], None]) -> None:
    await trigger()
    stop()
