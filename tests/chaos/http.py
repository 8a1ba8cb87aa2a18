"""HTTP to one node over connections that are kept, at a tenth of what a general client costs."""

import asyncio
import json
from contextlib import suppress
from typing import Any

from tests.integration.tokens import API_KEY

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Http:
    """Raises ``OSError`` or ``TimeoutError`` where there is no answer."""

    def __init__(self, host: str, port: int, *, kept: bool = True) -> None:
        """Unless connections are ``kept`` each request has its own, and nothing is tried a second time."""
        self._host, self._port, self._kept = host, port, kept
        self._idle: list[Connection] = []

    async def get(self, path: str, patience: float) -> tuple[int, Any]:
        return await self._ask(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode(), patience)

    async def post(self, method: str, body: Any, patience: float) -> tuple[int, Any]:
        """Call a method of the server API."""
        data = json.dumps(body).encode()
        head = f"POST /api/{method} HTTP/1.1\r\nHost: {self._host}\r\nX-API-Key: {API_KEY}\r\n"
        return await self._ask(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data, patience)

    async def close(self) -> None:
        """End the connections that nobody uses just now."""
        idle, self._idle = self._idle, []
        for _, writer in idle:
            writer.close()

    async def _ask(self, request: bytes, patience: float) -> tuple[int, Any]:
        async with asyncio.timeout(patience):
            while self._idle:  # one that was kept may have ended meanwhile
                connection = self._idle.pop()
                with suppress(OSError, asyncio.IncompleteReadError):
                    return await self._exchange(connection, request)
            try:
                return await self._exchange(await asyncio.open_connection(self._host, self._port), request)
            except asyncio.IncompleteReadError as error:
                raise ConnectionResetError("no answer") from error

    async def _exchange(self, connection: Connection, request: bytes) -> tuple[int, Any]:
        reader, writer = connection
        try:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.partition("content-length:")[2].partition("\r\n")[0] or 0)
            body = await reader.readexactly(length)
        except BaseException:
            writer.close()
            raise
        if self._kept:
            self._idle.append(connection)
        else:
            writer.close()
        text = body.decode()
        return int(head.split(" ", 2)[1]), json.loads(text) if text.startswith("{") else text
