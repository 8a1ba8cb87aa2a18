"""How long event loops keep others waiting: a ping of the WebSocket to each node, twenty times a second.

A pong is the first thing that a loop does when its turn comes, so its time is what any message may wait. In a process
of its own, whose own delay is measured beside it: on a busy machine that much is nobody's fault.
"""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

from tests.chaos.pace import pace
from tests.chaos.page import Page
from tests.chaos.record import Record
from tests.integration.tokens import connection_token

Address = tuple[str, int]
EVERY = 0.05
IDLE = "idle"
"""The name under which the probe's own delay stands."""


def waits(sent: float, answered: float) -> list[tuple[float, float]]:
    """When a ping was sent, and how long its pong took; and the same of those that would have been sent meanwhile.

    Else five seconds in which a loop stands still would count as one ping of a hundred.
    """
    return [
        (sent + after * EVERY, answered - sent - after * EVERY) for after in range(int((answered - sent) / EVERY) + 1)
    ]


class Probe:
    """A worker for ``Child``."""

    def __init__(self, nodes: Sequence[tuple[str, Address]]) -> None:
        self._pages: list[tuple[Page, Address]] = []
        self._sent: dict[str, float] = {}
        self._samples: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        for name, address in nodes:
            page = Page(name, connection_token(f"probe-{name}"), [], Record(), random.Random(1))
            page.ponged = partial(self._ponged, name)
            self._pages.append((page, address))

    async def run(self) -> None:
        connecting: set[asyncio.Task[None]] = set()
        while True:
            now = time.monotonic()
            for page, address in self._pages:
                page.look(asyncio.get_running_loop().time())
                if page.due is not None and page.due <= asyncio.get_running_loop().time():
                    self._sent.pop(page.user, None)
                    task = asyncio.create_task(page.connect(*address))
                    connecting.add(task)
                    task.add_done_callback(connecting.discard)
                elif page.client and page.user not in self._sent:
                    self._sent[page.user] = time.monotonic()
                    page.ping()
            await pace(EVERY)
            self._samples[IDLE].append((now, max(0.0, time.monotonic() - now - EVERY)))

    def _ponged(self, name: str) -> None:
        if (sent := self._sent.pop(name, None)) is not None:
            self._samples[name] += waits(sent, time.monotonic())

    def samples(self) -> dict[str, list[tuple[float, float]]]:
        """Since this was last asked: when each ping was sent, and how long its pong took."""
        found = dict(self._samples)
        self._samples.clear()
        return found
