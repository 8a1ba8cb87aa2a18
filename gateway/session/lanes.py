"""Lanes: commands that the program decides, side by side where they have nothing to do with each other.

A program's code may be slow. It runs in a task, and the client's other commands go on; only those for the same
channel wait, in their order. Calls (rpc) wait for nobody.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.messages import Request, RPCRequest

UNDER_WAY = 64
"""Commands of one client that are in lanes; beyond that its next command waits."""

Work = Coroutine[Any, Any, None]

log = logging.getLogger(__name__)


class Lanes:
    """The lanes of one client. Work sees to its own failures."""

    __slots__ = ("_count", "_lanes", "_room", "_spawn")

    def __init__(self, spawn: Callable[[Work], None]) -> None:
        self._spawn = spawn
        self._lanes: dict[object, deque[Work]] = {}
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
            self._lanes[key] = deque((work,))
            self._spawn(self._run(key))
        else:
            lane.append(work)
        if self._count >= UNDER_WAY:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def close(self) -> None:
        """Drop what has not begun: the client has left, and what it sent is not to wait for slow code."""
        for lane in self._lanes.values():
            while lane:
                lane.popleft().close()
                self._finished()

    async def _run(self, key: object) -> None:
        lane = self._lanes[key]
        try:
            while lane:
                try:
                    await lane.popleft()
                finally:
                    self._finished()
        finally:
            del self._lanes[key]
            for work in lane:  # cancelled: the node stops
                work.close()
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
