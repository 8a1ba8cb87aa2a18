"""A live dashboard: figures every two seconds, made once for all instances and only while somebody watches.

    uvicorn examples.dashboard:app

Start it as often as you like with one GATEWAY_REDIS_URL. Whichever instance measures, every page shows the same; when
it stops, another one goes on. Watch `/measuring` fall to false when the last page is closed. Linux only, for `/proc`.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from statistics import fmean

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

from examples import pages
from gateway import Gateway

EVERY = 2.0
"""Seconds between two figures."""


class Figures(BaseModel):
    instance: str
    cpu: float
    """Percent of all processors of the instance's machine."""
    memory: float
    """Percent of its memory."""
    users: int
    """Pages that watch, wherever they are connected."""
    response: float | None
    """Milliseconds that the instance's last HTTP responses took on average; None if there was none yet."""


gateway = Gateway()
app = FastAPI(lifespan=gateway.lifespan)
app.include_router(gateway.router)
pages.mount(app, "dashboard")

responses = deque[float](maxlen=100)
running = 0


@app.middleware("http")
async def time_responses(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    began = time.perf_counter()
    response = await call_next(request)
    responses.append(1000 * (time.perf_counter() - began))
    return response


@gateway.on_connect
async def connect() -> None:
    """Everybody may look."""


# A page that comes late sees the last minute at once.
dashboard = gateway.channel("dashboard", presence=True, history_size=30, history_ttl="60s", replay=True)


@dashboard.on_subscribe
async def watch() -> None:
    """Everybody may watch."""


@dashboard.live
async def measure() -> AsyncIterator[Figures]:
    """Runs on one instance of all, from the first watcher to the last."""
    global running
    running += 1
    try:
        busy, total = processor_time()
        while True:
            await asyncio.sleep(EVERY)
            (was_busy, was_total), (busy, total) = (busy, total), processor_time()
            yield Figures(
                instance=gateway.nodes()[0].name,
                cpu=100 * (busy - was_busy) / (total - was_total),
                memory=memory_used(),
                users=(await gateway.presence_stats("dashboard"))[0],
                response=fmean(responses) if responses else None,
            )
    finally:
        running -= 1


@app.get("/measuring")
async def measuring() -> bool:
    """Whether this is the instance that measures."""
    return running > 0


def processor_time() -> tuple[int, int]:
    """How long the processors were busy since the machine started, and how long in all."""
    user, nice, system, idle, iowait, *others = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9])
    busy = user + nice + system + sum(others)
    return busy, busy + idle + iowait


def memory_used() -> float:
    """Percent of the memory that cannot be had."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    kilobytes = {name.rstrip(":"): int(value) for name, value, *_ in lines}
    return 100 - 100 * kilobytes["MemAvailable"] / kilobytes["MemTotal"]
