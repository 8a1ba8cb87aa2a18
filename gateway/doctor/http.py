"""Requests as they are on the line, for what lies in between a page and the gateway shows in what comes back."""

import asyncio
import base64
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self
from urllib.parse import urlsplit

from msgspec import Struct

from gateway.errors import SettingsError

HEAD = 65536
"""Most bytes of an answer's head."""

WEBSOCKET = "/connection/websocket"


class Address(Struct, frozen=True):
    """Where a gateway is, as pages reach it."""

    host: str
    port: int
    tls: bool
    prefix: str
    """Of all its paths, without a slash at the end."""

    @classmethod
    def of(cls, url: str) -> Self:
        """From ``wss://host/prefix/connection/websocket``, ``https://host/prefix``, … Raises ``SettingsError``."""
        path = ""
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            tls = {"http": False, "ws": False, "https": True, "wss": True}[parts.scheme]
            host, port = parts.hostname or "", parts.port or (443 if tls else 80)
            path = parts.path.rstrip("/")
        except (KeyError, ValueError):
            host, port, tls = "", 0, False
        if not host:
            raise SettingsError(f"{url} is no address; write for example wss://example.com/connection/websocket")
        return cls(host, port, tls, path.removesuffix(WEBSOCKET))

    @property
    def authority(self) -> str:
        """As a page names it in Host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def http(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.prefix}"

    @property
    def websocket(self) -> str:
        return f"{'wss' if self.tls else 'ws'}://{self.authority}{self.prefix}{WEBSOCKET}"


class Answer(Struct, frozen=True):
    """The head of an answer."""

    version: str
    status: int
    headers: dict[str, str]
    """Names in lower case."""

    @property
    def server(self) -> str:
        """Who says that it has answered."""
        return self.headers.get("server", "")


class Line:
    """A connection on which one request was answered."""

    def __init__(self, reader: asyncio.StreamReader, answer: Answer) -> None:
        self.answer = answer
        self._reader = reader

    async def more(self) -> bytes:
        """What comes next; empty at the end."""
        return await self._reader.read(HEAD)


@asynccontextmanager
async def ask(address: Address, path: str, headers: dict[str, str], timeout: float) -> AsyncIterator[Line]:  # noqa: ASYNC109
    """Send a GET request and read the head of the answer.

    Raises ``OSError`` (``TimeoutError`` too), and ``ValueError`` for what is no HTTP.
    """
    async with asyncio.timeout(timeout):
        context = _tls() if address.tls else None
        reader, writer = await asyncio.open_connection(address.host, address.port, ssl=context, limit=HEAD)
    try:
        lines = {"Host": address.authority, "User-Agent": "gateway-doctor", **headers}
        request = [f"GET {address.prefix}{path} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items())]
        writer.write("\r\n".join([*request, "", ""]).encode())
        async with asyncio.timeout(timeout):
            head = await _head(reader)
        yield Line(reader, _answer(head))
    finally:
        writer.close()


async def upgrade(address: Address, origin: str, timeout: float) -> Answer:  # noqa: ASYNC109
    """How a WebSocket is opened for a page of an origin, or for a program if that is empty. Raises as `ask`."""
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
    }
    if origin:
        headers["Origin"] = origin
    async with ask(address, WEBSOCKET, headers, timeout) as line:
        return line.answer


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])  # which WebSockets need
    return context


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        raise ConnectionError("the connection was closed without an answer") from error
    except asyncio.LimitOverrunError as error:
        raise ValueError("what answers speaks no HTTP") from error


def _answer(head: bytes) -> Answer:
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/") or not rest[:3].isdigit():
        raise ValueError("what answers speaks no HTTP")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
    }
    return Answer(version, int(rest[:3]), headers)
