"""Lines over real backends, quick to notice what is wrong with them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.broadcast.line import Line
from gateway.broadcast.peers import Peers
from gateway.config.settings import BroadcasterSettings


@asynccontextmanager
async def started_line(
    url: str, *, name: str = "gateway", io_timeout: float = 2.0, probe_interval: float = 0.5
) -> AsyncIterator[tuple[Line, Peers]]:
    settings = BroadcasterSettings(
        url=url, name=name, connect_timeout=20, io_timeout=io_timeout, probe_interval=probe_interval
    )
    line = Line(settings)
    peers = Peers(line, settings.probe_interval)
    await line.start()
    try:
        yield line, peers
    finally:
        await peers.leave()
        await line.close()
