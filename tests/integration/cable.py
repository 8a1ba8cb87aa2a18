"""A network cable that a test can pull out of one server and plug into another."""

import asyncio
import contextlib
from collections.abc import Iterator
from types import TracebackType
from typing import Self


class Cable:
    """Forwards TCP from a port of its own to the server it is plugged into.

    Pulled, it cuts every connection without a goodbye and refuses new ones.
    """

    def __init__(self, port: int) -> None:
        self._target: int | None = port
        self._ends: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/connection/websocket"

    def plug(self, port: int) -> None:
        self._target = port

    def pull(self) -> None:
        self._target = None
        for end in self._ends:
            end.transport.abort()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.pull()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._forward(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError), self._held(writer):
            if self._target is None:
                return
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            with self._held(far_writer):
                ways = [asyncio.create_task(self._copy(*way)) for way in ((reader, far_writer), (far_reader, writer))]
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                for way in ways:
                    way.cancel()
                await asyncio.wait(ways)

    @contextlib.contextmanager
    def _held(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        self._ends.add(writer)
        try:
            yield
        finally:
            self._ends.discard(writer)
            writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                await self._pass()
                writer.write(data)
                await writer.drain()

    async def _pass(self) -> None:
        """What data on its way has to wait for."""


class Tapped(Cable):
    """A cable that keeps what comes from the server."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.seen = b""

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            self.seen += data
            writer.write(data)
