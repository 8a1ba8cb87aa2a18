"""A small application with the route for event streams, and what reads them."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gateway.auth.tokens import TokenVerifier
from gateway.blocks.memory import MemoryBlocks
from gateway.brokers.memory import MemoryBroker
from gateway.config.settings import Settings
from gateway.core.node import Node
from gateway.messages import Payload, Publication
from gateway.presence.memory import MemoryPresence
from gateway.program.stopping import on_stop
from gateway.transports.base import Acceptor
from gateway.transports.emulation_endpoint import emulation_routes
from gateway.transports.http_stream import stream_routes
from gateway.transports.stream_kinds import HTTP_STREAM, SSE, UNI_HTTP_STREAM, UNI_SSE
from tests.serving import Serve

PATH = UNI_SSE.path

PAGE = "https://example.com"
SECRET = "a secret of more than thirty-two bytes, as all should be"
ROOM: dict[str, Any] = {"subs": {"room": {}}}


class Stream:
    """What a client reads of a response that does not end."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._chunks = response.aiter_bytes()
        self._read = b""

    async def opening(self) -> bytes:
        """The first bytes, which come before any event."""
        while len(self._read) < 2:
            self._read += await anext(self._chunks)
        opening, self._read = self._read[:2], self._read[2:]
        return opening

    async def event(self) -> Any:
        """The data of the next event. Raises ``StopAsyncIteration`` at the end of the stream."""
        async with asyncio.timeout(10):
            while b"\n\n" not in self._read:
                self._read += await anext(self._chunks)
        event, _, self._read = self._read.partition(b"\n\n")
        name, _, data = event.partition(b": ")
        assert name == b"data"
        assert len(data.splitlines()) == 1, "one line is one message"
        return json.loads(data)

    async def rest(self) -> list[Any]:
        """All events until the stream ends; nothing may be left over."""
        found = []
        try:
            while True:
                found.append(await self.event())
        except StopAsyncIteration:
            assert not self._read
            return found


class Gateway:
    """A running application with the route."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.node: Node
        self.acceptor: Acceptor
        self.port = 0
        self.started = asyncio.Event()
        self.http = httpx.AsyncClient(timeout=10, trust_env=False)

    def source(self) -> Acceptor:
        return self.acceptor

    @asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """A node of its own for each life of the application, made after the route."""
        self.node = Node(self.settings, MemoryBroker(), MemoryPresence(), blocks=MemoryBlocks())
        self.acceptor = Acceptor(self.node, TokenVerifier(self.settings.client))
        await self.node.start()
        self.started.set()
        with on_stop(lambda: self.node.spawn(self.acceptor.drain())):
            yield
        await self.node.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PATH}"

    @asynccontextmanager
    async def open(self, request: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[Stream]:
        """A stream after its opening."""
        params = {} if request is None else {"cf_connect": json.dumps(request)}
        async with self.http.stream("GET", self.url, params=params, **options) as response:
            assert response.status_code == 200
            stream = Stream(response)
            assert await stream.opening() == b"\r\n"
            yield stream

    @asynccontextmanager
    async def subscriber(self, **options: Any) -> AsyncIterator[Stream]:
        """A stream that has told of its connect."""
        async with self.open(ROOM, **options) as stream:
            assert (await stream.event())["connect"]["subs"] == {"room": {}}
            yield stream

    async def publish(self, data: Any) -> None:
        await self.publish_raw(json.dumps(data).encode())

    async def publish_raw(self, data: bytes) -> None:
        await self.node.publish(self.node.channels.resolve("room"), Publication(Payload(data)))


def settings(**client: Any) -> Settings:
    options = {"insecure": True, "ping_interval": 0, "allowed_origins": [PAGE], "token": {"hmac_secret_key": SECRET}}
    kinds = HTTP_STREAM, SSE, UNI_HTTP_STREAM, UNI_SSE
    return Settings.model_validate({"client": options | client, **{each.name: {"enabled": True} for each in kinds}})


def application(
    gateway: Gateway | None = None, middleware: Sequence[Middleware] = (), routes: Sequence[BaseRoute] = ()
) -> Starlette:
    """The application around a gateway; without one, around its own: what a server of its own process is given."""
    gateway = gateway or Gateway(settings())
    ours = stream_routes(gateway.source, gateway.settings) + emulation_routes(gateway.source, gateway.settings)
    routes = [*ours, Route("/health/live", lambda _: Response()), *routes]
    return Starlette(routes=routes, middleware=middleware, lifespan=gateway.lifespan)


@asynccontextmanager
async def running(
    serve: Serve, *, middleware: Sequence[Middleware] = (), routes: Sequence[BaseRoute] = (), **client: Any
) -> AsyncIterator[Gateway]:
    gateway = Gateway(settings(**client))
    async with (
        serve(application(gateway, middleware, routes), gateway.settings) as gateway.port,
        gateway.http,
    ):
        await asyncio.wait_for(gateway.started.wait(), 10)
        yield gateway
