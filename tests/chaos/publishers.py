"""Who publishes: one to each channel, one publication after the other, each tried again until it is accepted."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from tests.chaos.http import Http
from tests.chaos.nodes import ChaosNode
from tests.chaos.pace import pace
from tests.chaos.record import Accepted
from tests.chaos.size import Size
from tests.integration.servers import Balancer
from tests.waiting import until

BOUND = 5.0
"""Seconds within which a publish has an answer, be it that it failed."""
PATIENCE = 9.0
"""Seconds after which nobody waits for it any more."""
PAUSE = (0.2, 1.0)
"""Seconds before it is tried again."""


class Attempt(NamedTuple):
    begin: float
    took: float
    node: str
    answer: str
    excused: bool
    """Whether its node was killed or frozen meanwhile."""


class Door:
    """A balancer as a publisher sees it: whatever happens behind it is no excuse."""

    def __init__(self, balancer: Balancer) -> None:
        self.name = balancer.name
        self.http = Http(balancer.host, balancer.port, kept=False)

    def excused(self, begin: float, end: float) -> bool:
        return False


class Publishers:
    def __init__(self, size: Size, nodes: Sequence[ChaosNode | Door], dice: random.Random) -> None:
        self.tops: dict[str, tuple[str, int]] = {}
        """Epoch and offset of the last one accepted, by channel."""
        self.marks: dict[str, tuple[str, int]] = {}
        """The same, of the first one accepted since ``mark``."""
        self.late: list[Attempt] = []
        self.answers: Counter[str] = Counter()
        self.slowest = 0.0
        self._accepted: list[tuple[float, Accepted]] = []
        self._nodes = nodes
        self._dice = dice
        self._names = size.names
        self._period = len(self._names) / size.rate
        self._tasks: list[asyncio.Task[None]] = []
        self._open = asyncio.Event()
        self._open.set()
        self._under_way = 0

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._publish(name)) for name in self._names]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    @asynccontextmanager
    async def quiet(self) -> AsyncIterator[None]:
        """Nobody publishes meanwhile, and all who did have their answers."""
        self._open.clear()
        try:
            await until(lambda: not self._under_way, PATIENCE + 1, "publishes are answered")
            yield
        finally:
            self._open.set()

    def failed(self) -> list[str]:
        """Publishers that have ended by an error of their own: of the suite, not of the gateway."""
        return [repr(task.exception()) for task in self._tasks if task.done() and not task.cancelled()]

    def accepted(self, before: float) -> list[Accepted]:
        """Those since this was last asked, but for the latest, which may still be on their way."""
        found = [each for at, each in self._accepted if at < before]
        self._accepted = [(at, each) for at, each in self._accepted if at >= before]
        return found

    def mark(self) -> None:
        """From now on ``marks`` has what is accepted first in each channel, if it is asked for afterwards."""
        self.marks = {}

    def forget(self) -> None:
        """Begin to count anew."""
        self.late, self.slowest = [], 0.0
        self.answers.clear()

    async def _publish(self, channel: str) -> None:
        number = 0
        await pace(self._dice.uniform(0, self._period))
        due = time.monotonic()
        while True:
            number += 1
            while not (position := await self._try(channel, number)):
                await pace(self._dice.uniform(*PAUSE))
            self._accepted.append((time.monotonic(), Accepted(channel, *position, number)))
            self.tops[channel] = position
            if channel not in self.marks:
                self.marks[channel] = position
            due = max(due + self._period, time.monotonic())
            await pace(due - time.monotonic())

    async def _try(self, channel: str, number: int) -> tuple[str, int] | None:
        node = self._dice.choice(self._nodes)
        body = {"channel": channel, "data": {"n": number}}
        if isinstance(node, ChaosNode):  # through a balancer without, so that nobody's second try is hidden
            body["idempotency_key"] = str(number)
        await self._open.wait()
        begin = time.monotonic()
        position, answer = None, "no connection"
        self._under_way += 1
        try:
            status, told = await node.http.post("publish", body, PATIENCE)
            if isinstance(told, dict) and (result := told.get("result")):
                position, answer = (result["epoch"], result["offset"]), "accepted"
            else:
                error = told.get("error", {}) if isinstance(told, dict) else {}
                answer = f"error {error.get('code', status)}"
        except TimeoutError:
            answer = "nothing"
        except (OSError, ValueError):
            pass
        finally:
            self._under_way -= 1
        self._note(Attempt(begin, time.monotonic() - begin, node.name, answer, node.excused(begin, time.monotonic())))
        return position

    def _note(self, attempt: Attempt) -> None:
        self.answers["excused" if attempt.excused and attempt.answer != "accepted" else attempt.answer] += 1
        if attempt.excused:
            return
        self.slowest = max(self.slowest, attempt.took)
        if attempt.took > BOUND:
            self.late.append(attempt)
