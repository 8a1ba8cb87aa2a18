"""The one clock of a fuzz: its schedule is random and goes by time, and nothing waits here for anything to happen."""

import asyncio


async def pace(seconds: float) -> None:
    await asyncio.sleep(seconds)
