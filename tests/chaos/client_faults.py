"""What clients and publishers do to others."""

import asyncio
import time
from contextlib import suppress

from tests.chaos.child import Child
from tests.chaos.ground import Ground
from tests.chaos.http import Http
from tests.chaos.named import fault
from tests.chaos.pace import pace
from tests.chaos.size import MAD
from tests.waiting import until

MADNESS = 10.0
"""Seconds for which somebody publishes as fast as he can."""
SLOW = 20
"""Clients that do not read."""
FAT = "x" * 16000
SLOW_CHANNEL = "feed:slow"


@fault("slow consumers: 20 clients that do not read", loses_messages=False, brief=True)
async def slow_consumers(ground: Ground) -> None:
    """Each is sent more than it may let wait, and must be closed as slow; nobody else must notice."""
    node = ground.nodes[0]
    before = await _slow_ones(ground)
    await ground.crowd.ask("slow", SLOW, SLOW_CHANNEL, (node.host, node.port))

    async def there() -> bool:
        return bool(await ground.crowd.ask("slow_settled") == SLOW)

    await until(there, 10.0, "slow consumers are subscribed")
    end = time.monotonic() + 60
    try:
        while await _slow_ones(ground) < before + SLOW:
            assert time.monotonic() < end, f"{await _slow_ones(ground) - before:.0f} of {SLOW} were closed as slow"
            await node.http.post("publish", {"channel": SLOW_CHANNEL, "data": {"n": 0, "pad": FAT}}, 5.0)
            await pace(0.01)
    finally:
        await ground.crowd.ask("slow_leave")
        await node.http.post("history_remove", {"channel": SLOW_CHANNEL}, 5.0)


async def _slow_ones(ground: Ground) -> float:
    return (await ground.nodes[0].metrics()).get('disconnects_total{code="3008"}', 0.0)


@fault("publisher gone mad: 10 s as fast as it can", loses_messages=False)
async def mad_publisher(ground: Ground) -> None:
    node = await ground.busiest()
    flood = Child(Flood, node.host, node.port)
    try:
        await pace(MADNESS)
        published = await flood.ask("published")
    finally:
        await flood.close()
    assert published > MADNESS * 100, f"that was not mad: {published}"


class Flood:
    """A worker for ``Child``: as many publications as the node takes, sixteen under way at a time."""

    def __init__(self, host: str, port: int) -> None:
        self._http = Http(host, port)
        self._published = 0

    async def run(self) -> None:
        await asyncio.gather(*(self._rave() for _ in range(16)))

    async def _rave(self) -> None:
        while True:
            with suppress(OSError, TimeoutError):
                await self._http.post("publish", {"channel": MAD, "data": {"n": 0}}, 10.0)
                self._published += 1

    def published(self) -> int:
        return self._published
