"""A node that is cut off from the others, and what it does about it.

A node that has lost its broker cannot know whether the others have. It goes by who was there before: if none of those
has been heard since, they may well be together without it, and its clients better off with them. If it is wrong, and
all have lost the broker, no harm may come of it. So they take turns: nodes that knew each other stand in the same
order everywhere, and never is more than every other one of them out. Each sends its clients away once, in its first
turn, and takes in whoever comes. Those that share a port have one place in the order, for a balancer sees the port.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from gateway.core.cluster import SILENCE
from gateway.core.wheel import Timer, Wheel
from gateway.health import Condition

TURN = 60.0
"""Seconds of a turn, after which the other half has its own."""
OUT = 45.0
"""Seconds of it for which a node is out: losses are noticed within fifteen seconds of each other."""
LOOK = 1.0
"""Seconds between two looks."""

log = logging.getLogger(__name__)

Move = Callable[[float], Coroutine[Any, Any, None]]
"""Sends the clients that are here elsewhere, within so many seconds."""


class Company(Protocol):
    """The part of the cluster's registry that is used here."""

    group: str

    def company(self) -> list[str]: ...

    def silence(self) -> float: ...


class Isolation:
    """Whether this node is to be passed by, since it is cut off while others may go on."""

    def __init__(self, cluster: Company, connected: Callable[[], bool], after: float, wheel: Wheel) -> None:
        """``after`` so many seconds of silence; 0 is never."""
        self.out = False
        self.move: Move | None = None
        """What is done with the clients; whoever has them says so."""
        self._cluster = cluster
        self._connected = connected
        self._after = after
        self._wheel = wheel
        self._timer: Timer | None = None
        self._lost_at: float | None = None
        self._company: list[str] = []
        """The groups that were there when the broker was lost, this node's too."""
        self._moving: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._after:
            self._timer = self._wheel.after(LOOK, self._look)

    def stop(self) -> None:
        self._stay()
        if self._timer is not None:
            self._timer.cancel()

    def condition(self) -> Condition | None:
        """For the health check."""
        if not self.out:
            return None
        others = len(self._company) - 1
        detail = f"neither the broker nor any of {others} others is heard: clients are better off there"
        return Condition("isolated", detail, "isolated")

    def _look(self) -> None:
        self._timer = self._wheel.after(LOOK, self._look)
        if self._connected():
            self._return()
            return
        now = self._wheel.clock()
        if self._lost_at is None:
            self._lost_at, self._company = now, self._cluster.company()
        before, self.out = self.out, self._is_out(now - self._lost_at - self._after)
        if self.out and not before:
            self._leave()
        elif before and not self.out:
            log.warning("the broker is still away, maybe for all nodes: /health/ready answers as they do for a while")

    def _is_out(self, lasted: float) -> bool:
        if lasted < 0 or len(self._company) < 2 or self._cluster.silence() < max(self._after, SILENCE):
            return False
        turn, into = divmod(lasted, TURN)
        return into < OUT and turn % 2 == self._company.index(self._cluster.group) % 2

    def _leave(self) -> None:
        others = len(self._company) - 1
        log.warning("the broker is away, and %d others are silent: /health/ready answers 503 (isolated)", others)
        if self._moving is None and self.move is not None:
            self._moving = asyncio.get_running_loop().create_task(self.move(OUT))

    def _return(self) -> None:
        """The broker is there."""
        if self.out:
            log.warning("the broker is there again: /health/ready says so")
        self._lost_at, self.out = None, False
        self._stay()

    def _stay(self) -> None:
        """Send nobody away any more."""
        if self._moving is not None:
            self._moving.cancel()
            self._moving = None
