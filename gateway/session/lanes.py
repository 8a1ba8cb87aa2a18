"""Lanes: commands that the program decides, side by side where they have nothing to do with each other.

A program's code may be slow. It runs in a task, and the client's other commands go on; only those for the same
channel wait, in their order. Calls (rpc) wait for nobody.
"""

import asyncio
from collections.abc import Callable, Container, Coroutine
from contextvars import Context
from typing import Any

from gateway.messages import Request, RPCRequest

UNDER_WAY = 64
"""Commands of one client that are in lanes; beyond that its next command waits."""

Work = Coroutine[Any, Any, None]


class Lanes:
    """The lanes of one client. Work sees to its own failures, and has context variables of its own."""

    __slots__ = ("_context", "_count", "_following", "_lanes", "_revoked", "_room", "_spawn")

    def __init__(self, spawn: Callable[[Work, Context | None], None], context: Context | None = None) -> None:
        self._spawn = spawn
        self._context = context
        self._lanes: dict[object, list[Work]] = {}
        """What waits behind the piece that is under way."""
        self._following: dict[Work, asyncio.Future[None]] = {}
        """Of all this, what is to run though the client has left."""
        self._revoked: frozenset[str] = frozenset()
        self._count = 0
        self._room: asyncio.Future[None] | None = None

    def busy(self, request: Request) -> bool:
        """Whether work is under way that the request must wait for."""
        return bool(self._lanes) and _key(request) in self._lanes

    async def add(self, request: Request, work: Work) -> None:
        """Returns at once, unless too much is under way."""
        self._put(_key(request), work)
        if self._count >= UNDER_WAY:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def follow(self, channel: str, work: Work) -> asyncio.Future[None]:
        """Run what follows from the present state of the channel, before commands that wait; answers when it has ended.

        It is not dropped when the client leaves.
        """
        ended = self._following[work] = asyncio.get_running_loop().create_future()
        self._put(channel, work, first=True)
        return ended

    def revoke(self, channel: str) -> None:
        """What is being decided for the channel is not to be."""
        if channel in self._lanes:
            self._revoked |= {channel}

    def revoked(self, channel: str) -> bool:
        """Whether that has been said; it holds for one decision."""
        said = channel in self._revoked
        self._revoked -= {channel}
        return said

    def close(self) -> None:
        """Drop what has not begun: the client has left, and what it sent is not to wait for slow code."""
        for lane in self._lanes.values():
            self._drop(lane, keep=self._following)

    def _put(self, key: object, work: Work, *, first: bool = False) -> None:
        self._count += 1
        lane = self._lanes.get(key)
        if lane is None:
            self._lanes[key] = []
            self._begin(key, work)
        else:
            lane.insert(0 if first else len(lane), work)

    def _begin(self, key: object, work: Work) -> None:
        self._spawn(self._run(key, work), self._context)

    async def _run(self, key: object, work: Work) -> None:
        lane = self._lanes[key]
        try:
            await work
        except asyncio.CancelledError:  # the node stops
            self._drop(lane)
            raise
        finally:
            self._finished(work)
            if lane:
                self._begin(key, lane.pop(0))
            else:
                del self._lanes[key]
                if self._revoked:
                    self._revoked -= {key}

    def _drop(self, lane: list[Work], keep: Container[Work] = ()) -> None:
        dropped, lane[:] = [work for work in lane if work not in keep], [work for work in lane if work in keep]
        for work in dropped:
            work.close()
            self._finished(work)

    def _finished(self, work: Work) -> None:
        self._count -= 1
        if (ended := self._following.pop(work, None)) is not None and not ended.done():
            ended.set_result(None)
        if self._room is not None and self._count <= UNDER_WAY // 2:
            if not self._room.done():
                self._room.set_result(None)
            self._room = None


def _key(request: Request) -> object:
    """What the lane is named after: the channel; a call has a lane of its own."""
    return object() if isinstance(request, RPCRequest) else getattr(request, "channel", None)
