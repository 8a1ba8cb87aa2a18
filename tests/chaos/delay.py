"""A long line between nodes and Redis: everything takes a while on its way, however much is under way."""

import asyncio
from typing import Self, cast


class DelayLine:
    """Forwards TCP from a port of its own. ``delay``, in seconds and for each direction, may change at any time."""

    def __init__(self, port: int) -> None:
        self.delay = 0.0
        self._target = port
        self._ends: set[_End] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _End(self, first=True), "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for each in [*self._ends]:
            each.abort()

    async def join(self, near: "_End") -> None:
        """Connect what has come to the far side."""
        far = _End(self, first=False)
        try:
            await asyncio.get_running_loop().create_connection(lambda: far, "127.0.0.1", self._target)
        except OSError:
            near.abort()
            return
        near.meet(far)
        far.meet(near)

    def enter(self, end: "_End") -> None:
        self._ends.add(end)

    def leave(self, end: "_End") -> None:
        self._ends.discard(end)


class _End(asyncio.Protocol):
    def __init__(self, line: DelayLine, *, first: bool) -> None:
        self._line = line
        self._first = first
        self._other: _End | None = None
        self._early: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._free_at = 0.0
        self._joining: asyncio.Task[None] | None = None

    def meet(self, other: "_End") -> None:
        self._other = other
        for data in self._early:
            self.data_received(data)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._line.enter(self)
        if self._first:
            self._joining = asyncio.create_task(self._line.join(self))

    def data_received(self, data: bytes) -> None:
        if self._other is None:
            self._early.append(data)
            return
        loop = asyncio.get_running_loop()
        self._free_at = max(loop.time() + self._line.delay, self._free_at)  # never before what went before
        loop.call_at(self._free_at, self._other.write, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._line.leave(self)
        if self._other is not None:
            self._other.abort()

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
