"""What every client of a kit can do: wait with a deadline, and say what came instead."""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from gateway.testing.call import NORMAL, Call, UpgradeRequest
from gateway.testing.cluster import Cluster
from gateway.testing.outcomes import Disconnected, Late, Unexpected

T = TypeVar("T")

REMEMBERED = 20
"""Frames that a failure shows."""

SHOWN = 300
"""Characters of each."""


class Peer(ABC):
    """One client of a virtual node. Satisfies `call.Hearer`."""

    _call: Call
    """The connection; another one after each return."""

    def __init__(self, name: str, cluster: Cluster, node: int, deadline: float) -> None:
        self.name = name
        self._cluster = cluster
        self._node = cluster.nodes[node]
        self._deadline = deadline
        self._heard: deque[str] = deque(maxlen=REMEMBERED)
        self._changed = asyncio.Event()
        self._fault: Exception | None = None
        """What was wrong with what has come; every later wait reports it."""

    @property
    def connected(self) -> bool:
        return self._call.end is None

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Say goodbye, and wait until the application knows."""
        self._call.close(code, reason)
        await self._call.over(self._deadline)

    async def ended(self, *, within: float | None = None) -> Disconnected:
        """Wait for the other side to end the connection. A slow client reads what is left."""
        self._call.read()
        return await self.until(lambda: self._call.end, "end of the connection", within)

    async def cease(self) -> None:  # noqa: B027  most have nothing
        """End what goes on by itself."""

    def check(self) -> None:
        """Raise what has gone wrong, if anybody has waited for it or not."""
        fault = self._fault or self._call.failure
        if fault is not None:
            raise fault

    def slow(self) -> None:
        """Stop reading. The gateway ends it with 3008 once ``client.queue_max_size`` bytes wait for it, or after
        ``websocket.write_timeout``; ``ended`` reads again, and tells."""
        self._call.hold()

    def read(self) -> None:
        """Read again."""
        self._call.read()

    # — waiting —

    async def until(self, look: Callable[[], T | None], what: str, within: float | None = None) -> T:
        """Wait until ``look`` answers something. Raises `Late`, or how the connection has ended."""
        seconds = self._deadline if within is None else within
        try:
            async with asyncio.timeout(seconds):
                while (found := look()) is None:
                    self.check()
                    if self._call.end is not None:
                        raise self._call.end
                    self._changed.clear()
                    await self._changed.wait()
                return found
        except TimeoutError:
            raise Late(f"no {what} within {seconds:g} s; {self._history()}") from None

    def refuse_any(self, found: object, where: str) -> None:
        """Fail if something has come."""
        self.check()
        if found:
            raise Unexpected(f"nothing was expected {where}, but there came {found!r}; {self._history()}")

    # — inside —

    async def _open(self, handshake: UpgradeRequest) -> Call:
        """Call the application, and wait until it has accepted. Raises `Disconnected`, mostly as `Rejected`."""
        call = self._call = self._node.call(handshake, self)
        await self.until(lambda: call.accepted or None, "accepted handshake")
        return call

    def _history(self) -> str:
        if not self._heard:
            return f"{self.name} has received nothing"
        frames = "\n".join(f"  {each[:SHOWN]}" for each in self._heard)
        return f"{self.name} has received, the newest last:\n{frames}"

    # — as `Hearer` —

    def hear(self, content: str | bytes) -> None:
        try:
            self._take(content)
        except Exception as error:  # it must not reach the sender: this is the other end of a wire
            self._fault = self._fault or error
        self.look()

    def look(self) -> None:
        self._changed.set()

    @abstractmethod
    def _take(self, content: str | bytes) -> None:
        """Understand a frame."""
