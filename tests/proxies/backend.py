"""A backend: an HTTP server in the event loop of a test, which answers as the test says."""

import asyncio
import json
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.waiting import until


@dataclass
class Asked:
    """One request."""

    path: str
    headers: list[tuple[str, str]]
    body: dict[str, Any]

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass
class Raw:
    """An answer that is not just an object with status 200.

    Without a body the connection ends unanswered; with status 0 the body is all that it is given.
    """

    status: int = 200
    body: bytes | None = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    chunked: bool = False


class Backend:
    """Answers each path with what ``answers`` has for it, the last of them for ever; `{}` where it has nothing."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.answers: defaultdict[str, list[Any]] = defaultdict(list)
        self.asked: list[Asked] = []
        self.connections = 0
        self.under_way = 0
        self.most = 0
        """Requests at the same time, at most."""
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def of(self, path: str) -> list[dict[str, Any]]:
        """What has been asked there."""
        return [each.body for each in self.asked if each.path == path]

    def hold(self) -> None:
        """Answer nobody, until ``release``."""
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, ssl=self._tls)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.release()
        for task in list(self._tasks):
            task.cancel()
        await until(lambda: not self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while await self._answer(reader, writer):
                    pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in head[1:]) if name]
        path = head[0].split(" ")[1]
        size = next(int(value) for name, value in headers if name.lower() == "content-length")
        self.asked.append(Asked(path, headers, json.loads(await reader.readexactly(size))))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self._open.wait()
        finally:
            self.under_way -= 1
        given = self.answers[path]
        answer = (given.pop(0) if len(given) > 1 else given[0]) if given else {}
        if not isinstance(answer, Raw):
            answer = Raw(body=json.dumps(answer).encode())
        if answer.status == 0 and answer.body:
            writer.write(answer.body)
            await writer.drain()
        if answer.body is None or answer.status == 0:
            return False
        lines = [f"HTTP/1.1 {answer.status} Whatever", *(f"{name}: {value}" for name, value in answer.headers.items())]
        lines.append("Transfer-Encoding: chunked" if answer.chunked else f"Content-Length: {len(answer.body)}")
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(answer.body), answer.body) if answer.chunked else answer.body
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await writer.drain()
        return True


@asynccontextmanager
async def backend_running(tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[Backend]:
    backend = Backend(tls)
    await backend.start(port)
    try:
        yield backend
    finally:
        await backend.stop()
