"""Lanes: commands that the program decides, side by side where they have nothing to do with each other.

A program's code may be slow. It runs in a task, and the client's other commands go on; only those for the same
channel wait, in their order. Calls (rpc) wait for nobody.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any

from gateway.messages import Request, RPCRequest

UNDER_WAY = 64
"""Commands of one client that are in lanes; beyond that its next command waits."""

Work = Coroutine[Any, Any, None]


class Lanes:
    """The lanes of one client. Work sees to its own failures, and has context variables of its own."""

    __slots__ = ("_context", "_count", "_lanes", "_room", "_spawn")

    def __init__(self, spawn: Callable[[Work, Context], None]) -> None:
        self._spawn = spawn
        self._context = copy_context()
        self._lanes: dict[object, list[Work]] = {}
        """What waits behind the piece that is under way."""
        self._count = 0
        self._room: asyncio.Future[None] | None = None

    def busy(self, request: Request) -> bool:
        """Whether work is under way that the request must wait for."""
        return bool(self._lanes) and _key(request) in self._lanes

    async def add(self, request: Request, work: Work) -> None:
        """Returns at once, unless too much is under way."""
        self._count += 1
        key = _key(request)
        lane = self._lanes.get(key)
        if lane is None:
            self._lanes[key] = []
            self._begin(key, work)
        else:
            lane.append(work)
        if self._count >= UNDER_WAY:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def close(self) -> None:
        """Drop what has not begun: the client has left, and what it sent is not to wait for slow code."""
        for lane in self._lanes.values():
            self._drop(lane)

    def _begin(self, key: object, work: Work) -> None:
        self._spawn(self._run(key, work), self._context.copy())

    async def _run(self, key: object, work: Work) -> None:
        lane = self._lanes[key]
        try:
            await work
        except asyncio.CancelledError:  # the node stops
            self._drop(lane)
            raise
        finally:
            self._finished()
            if lane:
                self._begin(key, lane.pop(0))
            else:
                del self._lanes[key]

    def _drop(self, lane: list[Work]) -> None:
        while lane:
            lane.pop().close()
            self._finished()

    def _finished(self) -> None:
        self._count -= 1
        if self._room is not None and self._count <= UNDER_WAY // 2:
            if not self._room.done():
                self._room.set_result(None)
            self._room = None


def _key(request: Request) -> object:
    """What the lane is named after: the channel; a call has a lane of its own."""
    return object() if isinstance(request, RPCRequest) else getattr(request, "channel", None)
