"""A heavy job, kept off the event loop, pushes its progress to a progress bar.

    uvicorn examples.progress:app

Open two pages: both may watch the same job, on whichever instance it runs, and both may stop it. Who comes in the
middle sees where it stands.
"""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from multiprocessing import get_context
from uuid import UUID, uuid4

from fastapi import FastAPI
from pydantic import BaseModel, Field

from examples import pages
from examples.primes import count_primes
from gateway import Gateway

STEPS = 50

gateway = Gateway()


class Job(BaseModel):
    limit: int = Field(200_000, ge=STEPS, le=5_000_000)


class Progress(BaseModel):
    percent: float
    primes: int
    """Found so far."""


# Processes, for a thread would compete with the event loop for the interpreter.
pool = ProcessPoolExecutor(mp_context=get_context("spawn"))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    with pool:
        async with gateway.lifespan(app):
            yield


app = FastAPI(lifespan=lifespan)
app.include_router(gateway.router)
pages.mount(app, "progress")

# Where the job stands, and how it has ended: of the rest a newcomer needs nothing.
jobs = gateway.channel("jobs:{job}", history_size=2, replay=True)


@gateway.on_connect
async def connect() -> None:
    """Everybody may connect."""


@jobs.on_subscribe
async def watch(job: str) -> None:
    """Who knows a job's id may watch it."""


@app.post("/jobs")
async def start(job: Job) -> UUID:
    """Start a job, and answer its id."""
    name = uuid4()
    await gateway.stream(jobs.name(job=name), count(job.limit))
    return name


@app.delete("/jobs/{job}")
async def stop(job: UUID) -> None:
    """Stop it, whichever instance it runs on."""
    await gateway.stop_stream(jobs.name(job=job))


async def count(limit: int) -> AsyncIterator[Progress]:
    """Count primes, a piece at a time."""
    primes = 0
    for step in range(STEPS):
        piece = range(limit * step // STEPS, limit * (step + 1) // STEPS)
        primes += await asyncio.get_running_loop().run_in_executor(pool, count_primes, piece)
        yield Progress(percent=100 * (step + 1) / STEPS, primes=primes)
