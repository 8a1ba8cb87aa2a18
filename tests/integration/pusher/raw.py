"""A bare connection of the Pusher protocol, which says what a test tells it to, and keeps each frame as it came."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.integration.pusher.apps import MAIN, App
from tests.integration.servers import Server
from tests.waiting import until

QUERY = "?protocol=7&client=js&version=8.6.0&flash=false"


def url(server: Server, app: App = MAIN, query: str = QUERY) -> str:
    return f"ws://{server.host}:{server.port}/app/{app.key}{query}"


def signed(app: App, *parts: str) -> str:
    """What the backend says of this: ``key:signature``."""
    return f"{app.key}:{hmac.new(app.secret.encode(), ':'.join(parts).encode(), hashlib.sha256).hexdigest()}"


class RawPusher:
    """Keeps what the server says. Pings of WebSocket are answered by the library."""

    def __init__(self, connection: ClientConnection, app: App) -> None:
        self.frames: list[dict[str, Any]] = []
        self._app = app
        self._connection = connection
        self._reading = asyncio.create_task(self._read())

    @property
    def ended(self) -> bool:
        return self._reading.done()

    @property
    def socket_id(self) -> str:
        return str(json.loads(self.frames[0]["data"])["socket_id"])

    async def send(self, frame: str | bytes) -> None:
        await self._connection.send(frame)

    async def say(self, event: str, data: Any, **more: Any) -> None:
        await self.send(json.dumps({"event": event, "data": data, **more}))

    async def subscribe(self, channel: str, channel_data: str = "", auth: str | None = None) -> None:
        """Signed where that is needed, unless told otherwise."""
        if auth is None:
            parts = [self.socket_id, channel, *filter(None, [channel_data])]
            auth = signed(self._app, *parts) if channel.startswith(("private-", "presence-")) else ""
        data = {"channel": channel, "auth": auth} | ({"channel_data": channel_data} if channel_data else {})
        await self.say("pusher:subscribe", data)

    def named(self, event: str, channel: str | None = None) -> list[dict[str, Any]]:
        return [each for each in self.frames if each["event"] == event and channel in {None, each.get("channel")}]

    async def wait(self, event: str, channel: str | None = None, count: int = 1) -> dict[str, Any]:
        await until(
            lambda: len(self.named(event, channel)) >= count, what=f"{count} {event} of {channel} in {self.frames}"
        )
        return self.named(event, channel)[count - 1]

    async def quiet(self) -> None:
        """Have the server answer: what was sent before has been dealt with."""
        count = len(self.named("pusher:pong"))
        await self.say("pusher:ping", {})
        await self.wait("pusher:pong", count=count + 1)

    async def closed(self, deadline: float = 10.0) -> tuple[int | None, str | None]:
        """Wait for the end: code and reason of the server."""
        async with asyncio.timeout(deadline):
            await asyncio.shield(self._reading)
        return self._connection.close_code, self._connection.close_reason

    def stop_reading(self) -> None:
        """Hear nothing, so that pings are not answered either."""
        self._connection.transport.pause_reading()

    def go_on_reading(self) -> None:
        self._connection.transport.resume_reading()

    async def _read(self) -> None:
        try:
            async for frame in self._connection:
                assert isinstance(frame, str)
                self.frames.append(json.loads(frame))
        except ConnectionClosed:
            pass

    async def end(self) -> None:
        await self._connection.close()
        await self._reading


@asynccontextmanager
async def raw(server: Server, app: App = MAIN, query: str = QUERY, **options: Any) -> AsyncIterator[RawPusher]:
    """From the first frame on, whatever it is."""
    address = options.pop("address", None) or url(server, app, query)
    async with connect(address, proxy=None, compression=None, max_size=None, ping_interval=None, **options) as opened:
        client = RawPusher(opened, app)
        try:
            await until(lambda: client.frames, what="a first frame")
            yield client
        finally:
            await client.end()
