"""Lanes: commands that the program decides, side by side where they have nothing to do with each other.

A program's code may be slow. It runs in a task, and the client's other commands go on; only those for the same
channel wait, in their order. Calls (rpc) wait for nobody.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from gateway.messages import Request, RPCRequest

UNDER_WAY = 64
"""Commands of one client that are in lanes; beyond that its next command waits."""

Work = Coroutine[Any, Any, None]


class Lanes:
    """The lanes of one client. Work sees to its own failures, and has context variables of its own."""

    __slots__ = ("_context", "_count", "_kept", "_lanes", "_spawn", "_waiters")

    def __init__(self, spawn: Callable[[Work, Context | None], None], context: Context | None = None) -> None:
        self._spawn = spawn
        self._context = context
        self._lanes: dict[object, list[Work]] = {}
        """What waits behind the piece that is under way."""
        self._kept: set[Work] = set()
        """Of all this, what is to run though the client has left."""
        self._count = 0
        self._waiters: tuple[asyncio.Future[None], ...] = ()
        """Done, and forgotten, when a piece has ended."""

    def busy(self, request: Request) -> bool:
        """Whether work is under way that the request must wait for."""
        return bool(self._lanes) and _key(request) in self._lanes

    async def add(self, request: Request, work: Work) -> None:
        """Returns at once, unless too much is under way."""
        self._put(_key(request), work)
        if self._count >= UNDER_WAY:
            await self._until(UNDER_WAY // 2)

    def insert(self, channel: str, work: Work) -> None:
        """Run what comes of the channel's present state, before commands that wait.

        It is not dropped when the client leaves.
        """
        self._kept.add(work)
        self._put(channel, work, first=True)

    def close(self) -> None:
        """Drop what has not begun: the client has left, and what it sent is not to wait for slow code."""
        for lane in self._lanes.values():
            self._drop(lane)

    def finished(self) -> Coroutine[Any, Any, None]:
        """Wait until nothing is under way."""
        return self._until(0)

    async def _until(self, count: int) -> None:
        while self._count > count:
            less = asyncio.get_running_loop().create_future()
            self._waiters += (less,)
            await less

    def _put(self, key: object, work: Work, *, first: bool = False) -> None:
        self._count += 1
        lane = self._lanes.get(key)
        if lane is None:
            self._lanes[key] = []
            self._spawn(self._run(key, work), self._context)
        else:
            lane.insert(0 if first else len(lane), work)

    async def _run(self, key: object, work: Work) -> None:
        lane = self._lanes[key]
        try:
            await work
        except asyncio.CancelledError:  # the node stops
            self._kept.clear()
            self._drop(lane)
            raise
        finally:
            self._kept.discard(work)
            if lane:
                self._spawn(self._run(key, lane.pop(0)), self._context)
            else:
                del self._lanes[key]
            self._left()

    def _drop(self, lane: list[Work]) -> None:
        for work in [each for each in lane if each not in self._kept]:
            lane.remove(work)
            work.close()
            self._left()

    def _left(self) -> None:
        self._count -= 1
        waiters, self._waiters = self._waiters, ()
        for less in waiters:
            if not less.done():  # whoever waited may have been cancelled
                less.set_result(None)


def _key(request: Request) -> object:
    """What the lane is named after: the channel; a call has a lane of its own."""
    return object() if isinstance(request, RPCRequest) else getattr(request, "channel", None)
