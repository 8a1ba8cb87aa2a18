"""A bare WebSocket that says what a test tells it to, right or wrong."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.waiting import until


class RawClient:
    """Keeps every message the server sends, and answers pings unless told otherwise."""

    def __init__(self, connection: ClientConnection, pong: bool) -> None:
        self.connection = connection
        self.replies: dict[int, dict[str, Any]] = {}
        self.pushes: list[dict[str, Any]] = []
        self.pings = 0
        self._pong = pong
        self._ids = itertools.count(1)
        self._reading = asyncio.create_task(self._read())

    async def send(self, frame: str | bytes) -> None:
        await self.connection.send(frame)

    async def command(self, deadline: float = 10.0, **request: Any) -> dict[str, Any]:
        """Send one command and return the reply."""
        number = next(self._ids)
        await self.send(json.dumps({"id": number, **request}))
        return await self.reply(number, deadline)

    async def reply(self, number: int, deadline: float = 10.0) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            assert number in self.replies or not self._reading.done(), f"closed: {self.connection.close_code}"
            return self.replies.get(number)

        reply = await until(found, deadline, f"a reply to {number}")
        assert reply is not None
        return reply

    async def open(self, token: str = "", **request: Any) -> dict[str, Any]:
        """Send the connect command and return its result."""
        reply = await self.command(connect={"token": token, **request} if token else request)
        result: dict[str, Any] = reply["connect"]
        return result

    async def closed(self, deadline: float = 10.0) -> tuple[int | None, str | None]:
        """Wait for the end of the connection: code and reason of the server."""
        async with asyncio.timeout(deadline):
            await asyncio.shield(self._reading)
        return self.connection.close_code, self.connection.close_reason

    async def _read(self) -> None:
        try:
            async for frame in self.connection:
                assert isinstance(frame, str)
                for line in frame.split("\n"):
                    await self._take(json.loads(line))
        except ConnectionClosed:
            pass

    async def _take(self, message: dict[str, Any]) -> None:
        if not message:
            self.pings += 1
            if self._pong:
                await self.send("{}")
        elif "push" in message:
            self.pushes.append(message["push"])
        else:
            self.replies[message["id"]] = message

    async def end(self) -> None:
        await self.connection.close()
        await self._reading


@asynccontextmanager
async def raw(url: str, token: str = "", pong: bool = True, **options: Any) -> AsyncIterator[RawClient]:
    """A bare connection; with a token, already past the connect command."""
    async with connect(url, proxy=None, compression=None, max_size=None, ping_interval=None, **options) as connection:
        client = RawClient(connection, pong)
        try:
            if token:
                await client.open(token)
            yield client
        finally:
            await client.end()
