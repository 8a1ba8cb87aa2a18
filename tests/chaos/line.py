"""The line between one node and Redis: it can be slow, swallow everything for a while, or be cut."""

import asyncio

from tests.chaos.pace import pace
from tests.integration.cable import Cable


class Line(Cable):
    """Whole until a test says otherwise."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._port = port
        self._open = asyncio.Event()
        self._open.set()
        self.delay = 0.0
        """Seconds that everything takes on its way, in either direction."""

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """End all connections; new ones are served at once."""
        self.pull()
        self.plug(self._port)

    def swallow(self) -> None:
        """Let nothing through until ``restore``; connections stay open."""
        self._open.clear()

    def restore(self) -> None:
        self.plug(self._port)
        self.delay = 0.0
        self._open.set()

    async def _pass(self) -> None:
        if self.delay:
            await pace(self.delay)
        await self._open.wait()
