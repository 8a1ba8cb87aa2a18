"""How many connections an app has, on all nodes.

Each node counts its own, and asks the others: before it lets in the first, and while more come, at most every `STALE`
seconds, in the background. So a quota is exact on one node; on several, as many more may come as connect within that
time.
"""

from collections.abc import Callable
from math import inf

from msgspec.json import decode, encode

from gateway.brokers.single_flight import SingleFlight
from gateway.core.node import Node

QUESTION = "pusher_connections"
"""Of the cluster: the argument is the app's id."""

STALE = 2.5
"""Seconds after which the others are asked again."""


class Quota:
    """The connections of apps on this node, and what the others have told of theirs."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._own: dict[str, int] = {}
        self._others: dict[str, tuple[float, int]] = {}
        """When the others were asked for an app, and how many they have."""
        self._asking: SingleFlight[str, int] = SingleFlight()
        node.answers[QUESTION] = self._answer

    def count(self, app: str) -> int:
        """Connections of an app, on all nodes, as far as is known."""
        return self._own.get(app, 0) + self._others.get(app, (0.0, 0))[1]

    def is_unknown(self, app: str) -> bool:
        """Whether the others are to be asked before anybody is let in."""
        asked, _ = self._others.get(app, (-inf, 0))
        return app not in self._own and self._node.wheel.clock() - asked >= STALE

    async def learn(self, app: str) -> None:
        """Ask the others."""
        self._others[app] = self._node.wheel.clock(), await self._asking.ask(app, lambda: self._ask(app))

    def enter(self, app: str, *, limited: bool) -> Callable[[], None]:
        """One more is open, and counts until what is returned is called. Without a limit nobody is asked."""
        self._own[app] = self._own.get(app, 0) + 1
        now = self._node.wheel.clock()
        asked, others = self._others.get(app, (now - STALE, 0))
        if limited and now - asked >= STALE:
            self._others[app] = now, others
            self._node.spawn(self._learn_more(app))
        return lambda: self._leave(app)

    def _leave(self, app: str) -> None:
        left = self._own[app] - 1
        if left:
            self._own[app] = left
        else:
            del self._own[app]
            self._others.pop(app, None)

    async def _learn_more(self, app: str) -> None:
        others = await self._ask(app)
        if app in self._own:
            asked, _ = self._others.get(app, (0.0, 0))
            self._others[app] = asked, others

    async def _ask(self, app: str) -> int:
        told = await self._node.cluster.ask(QUESTION, app, read=lambda body: decode(body, type=int))
        return sum(count for uid, count in told.answers.items() if uid != self._node.uid)

    async def _answer(self, app: str) -> bytes:
        return encode(self._own.get(app, 0))
