"""What happens between nodes and Redis."""

from tests.chaos.ground import Ground
from tests.chaos.named import fault
from tests.chaos.pace import pace

SLOW = 30.0
"""Seconds for which the way is long."""


async def _delay(ground: Ground, seconds: float) -> None:
    for line in ground.lines:
        line.delay = seconds / 2  # there, and back
    await pace(SLOW)
    for line in ground.lines:
        line.delay = 0.0


@fault("100 ms to Redis and back", stage="line", loses_messages=False)
async def delay(ground: Ground) -> None:
    await _delay(ground, 0.1)


@fault("500 ms to Redis and back", stage="line", loses_messages=False)
async def long_delay(ground: Ground) -> None:
    await _delay(ground, 0.5)


@fault("a node parted from Redis for 60 s, without RST", stage="namespace", lapses=True)
async def part(ground: Ground) -> None:
    assert ground.namespace is not None
    await ground.blocking(ground.namespace.part)
    try:
        await pace(60)
    finally:
        await ground.blocking(ground.namespace.heal)
