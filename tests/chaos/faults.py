"""What happens to the nodes and to their clients, at random."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tests.chaos.client import KICKED, Client
from tests.chaos.line import Line
from tests.chaos.model import Model
from tests.chaos.pace import pace
from tests.integration.servers import GatewayServer
from tests.waiting import until

LEASE = 10.0
"""Seconds after which others take a silent node for dead; it says that it lives three times in that time."""
SHORT = LEASE / 3
"""Seconds of a fault after which no lease can have run out."""
LONGEST = 16.0
BACK = 20.0
"""Seconds within which others have heard again of the members of a node that was taken for dead."""


class Faults:
    """Each node but the calm one has at most one fault at a time; clients are sent away, and lose connections."""

    def __init__(
        self,
        nodes: Sequence[GatewayServer],
        lines: Sequence[Line],
        calm: int,
        clients: Sequence[Client],
        model: Model,
        dice: random.Random,
        ask: Callable[..., Awaitable[Any]],
    ) -> None:
        self._nodes = nodes
        self._lines = lines
        self._well = {number for number in range(len(nodes)) if number != calm}
        self._clients = clients
        self._model = model
        self._dice = dice
        self._ask = ask
        usual = [self._cut, self._delay, self._swallow, self._freeze, self._kill]
        self._kinds = [*usual, *usual, self._vanish, self._part, self._stun]

    async def go_on(self, seconds: float) -> None:
        """Returns when the last fault is over."""
        end = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as under_way:
            under_way.create_task(self._strike(min(self._well), self._vanish))
            while asyncio.get_running_loop().time() < end:
                if self._well and self._dice.random() < 0.4:
                    number = self._dice.choice(sorted(self._well))
                    under_way.create_task(self._strike(number, self._dice.choice(self._kinds)))
                else:
                    under_way.create_task(self._trouble(self._dice.choice(self._clients)))
                await pace(self._dice.uniform(0.2, 1.0))

    async def _strike(self, number: int, kind: Callable[[int], Awaitable[None]]) -> None:
        self._well.discard(number)
        self._model.counts[kind.__name__[1:]] += 1
        await kind(number)
        self._well.add(number)

    async def _trouble(self, client: Client) -> None:
        """Something that happens to one client."""
        match self._dice.choice(["abort", "hurry", "unsubscribe", "disconnect"]):
            case "abort":
                client.abort()
            case "hurry":
                await client.hurry()
            case "unsubscribe":
                channel = next(each.channel for each in client.subscriptions.values() if not each.server_side)
                await self._ask(self._any_node(), "unsubscribe", user=client.user, channel=channel)
            case "disconnect":
                code = self._dice.choice([KICKED, 3011, 4000])
                reason = {"code": code, "reason": "chaos"}
                await self._ask(self._any_node(), "disconnect", user=client.user, disconnect=reason)

    def _any_node(self) -> GatewayServer:
        return self._dice.choice(self._nodes)

    # — faults of one node —

    async def _cut(self, number: int) -> None:
        self._lines[number].cut()

    async def _delay(self, number: int) -> None:
        self._lines[number].delay = self._dice.uniform(0.01, 0.2)
        await pace(self._dice.uniform(0.5, SHORT))
        self._lines[number].restore()

    async def _swallow(self, number: int) -> None:
        await self._silence(number, self._dice.uniform(0.2, SHORT), lost=self._dice.random() < 0.5)

    async def _vanish(self, number: int, *, lost: bool = False) -> None:
        """For so long that its members, who notice nothing, are taken for dead; they must be heard of again."""
        self._model.lapse(number)
        await self._silence(number, self._dice.uniform(LEASE + SHORT, LONGEST), lost=lost)
        self._model.lapse(number)
        try:
            await until(lambda: not self._model.shown_as_gone(number), BACK)
        except AssertionError:
            self._model.fault(f"shown as gone while they sit there: {self._model.shown_as_gone(number)}")

    async def _part(self, number: int) -> None:
        """The same, and its members have missed something when it is back."""
        await self._vanish(number, lost=True)

    async def _silence(self, number: int, seconds: float, *, lost: bool) -> None:
        """What was sent meanwhile arrives in the end, or is lost with the connection."""
        line = self._lines[number]
        line.swallow()
        await pace(seconds)
        if lost:
            line.cut()
        line.restore()

    async def _freeze(self, number: int) -> None:
        self._nodes[number].stop()
        await pace(self._dice.uniform(0.2, SHORT))
        self._nodes[number].cont()

    async def _stun(self, number: int) -> None:
        """Freeze it for so long that its clients go elsewhere, and its members are taken for dead."""
        self._model.lapse(number)
        self._nodes[number].stop()
        await pace(self._dice.uniform(LEASE, LONGEST))
        self._nodes[number].cont()
        self._model.lapse(number)

    async def _kill(self, number: int) -> None:
        self._nodes[number].kill()
        self._nodes[number].start()
        await asyncio.to_thread(self._nodes[number].wait)
