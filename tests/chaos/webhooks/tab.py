"""One connection as pusher-js has it: what it asks for, and how it ends."""

import asyncio
import json
import time
from collections.abc import Iterable
from contextlib import suppress
from itertools import count
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from gateway.apps.signatures import sign
from tests.chaos.webhooks.ledger import Ledger, Said, Spot, Visit

KEY, SECRET = "chaos0key", "chaos-secret-of-an-app"
PATIENCE = 10.0
"""Seconds for an answer."""

LOST = (OSError, ConnectionClosed, WebSocketException, TimeoutError, EOFError)
_numbers = count()


class Tab:
    """Use as an async context manager. Raises one of ``LOST`` once the connection is gone."""

    def __init__(self, ledger: Ledger, node: int, port: int) -> None:
        self._ledger = ledger
        self._port = port
        self.node = node
        self._visits: dict[str, list[Visit]] = {}
        self._answers: dict[str, asyncio.Future[None]] = {}
        self._unsure: list[Said] = []
        self._socket: ClientConnection | None = None
        self._id = ""
        self._reader: asyncio.Task[None] | None = None

    @property
    def channels(self) -> list[str]:
        return [*self._visits]

    async def __aenter__(self) -> "Tab":
        url = f"ws://127.0.0.1:{self._port}/app/{KEY}?protocol=7"
        self._socket = await connect(url, open_timeout=PATIENCE, ping_interval=None, close_timeout=1.0, proxy=None)
        try:
            async with asyncio.timeout(PATIENCE):
                said = json.loads(await self._socket.recv())
        except BaseException:
            await self._socket.close()
            raise
        if said["event"] != "pusher:connection_established":
            await self._socket.close()
            raise EOFError(said)
        self._id = json.loads(said["data"])["socket_id"]
        self._reader = asyncio.create_task(self._read(self._socket))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._socket is not None
        assert self._reader is not None
        self._end(self._visits)
        await self._socket.close()
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def abort(self) -> None:
        """Vanish without a word."""
        assert self._socket is not None
        self._socket.transport.abort()
        await self.lost()

    async def lost(self) -> None:
        """Returns when the connection has ended."""
        assert self._reader is not None
        await asyncio.wait([self._reader])

    async def subscribe(self, channel: str, user: str = "") -> None:
        data: dict[str, str] = {"channel": channel}
        signed = [self._id, channel]
        if channel.startswith("presence-"):
            data["channel_data"] = json.dumps({"user_id": user})
            signed.append(data["channel_data"])
        if channel.startswith(("private-", "presence-")):
            data["auth"] = f"{KEY}:{sign(SECRET, *signed)}"
        spots = [Spot(channel), *([Spot(channel, user)] if "channel_data" in data else [])]
        visits = self._visits[channel] = [self._ledger.begin(spot) for spot in spots]
        await self._ask(channel, "pusher:subscribe", data)
        for visit in visits:
            visit.acked = time.time()
        if channel.startswith("cache-"):
            self._ledger.misses.setdefault(channel, []).append((time.time(), self.node))

    async def unsubscribe(self, channel: str) -> None:
        self._end([channel])
        await self._send("pusher:unsubscribe", {"channel": channel})

    async def say(self, channel: str) -> None:
        """Publish a client event; with the pong that follows, the node has dealt with it."""
        text = f"said {next(_numbers)}"
        said = self._ledger.said[text] = Said(channel, self.node, time.time())
        self._unsure.append(said)
        await self._send("client-said", text, channel=channel)
        await self._send("pusher:ping", {})

    async def _ask(self, name: str, event: str, data: Any) -> None:
        answer = self._answers[name] = asyncio.get_running_loop().create_future()
        await self._send(event, data)
        async with asyncio.timeout(PATIENCE):
            await answer

    async def _send(self, event: str, data: Any, **fields: str) -> None:
        assert self._socket is not None
        await self._socket.send(json.dumps({"event": event, "data": data, **fields}))

    async def _read(self, socket: ClientConnection) -> None:
        try:
            with suppress(*LOST):
                async for text in socket:
                    self._take(json.loads(text))
        finally:
            self._end(self._visits)
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(EOFError())
                    answer.exception()  # whoever asked may have gone, too

    def _take(self, said: dict[str, Any]) -> None:
        if said["event"] == "pusher:pong" and self._unsure:
            self._unsure.pop(0).taken = time.time()
            return
        answer = self._answers.get(said.get("channel", ""))
        if answer is None or answer.done():
            return
        if said["event"] == "pusher_internal:subscription_succeeded":
            answer.set_result(None)
        elif said["event"] == "pusher:subscription_error":
            answer.set_exception(EOFError(said))

    def _end(self, channels: Iterable[str]) -> None:
        for channel in list(channels):
            for visit in self._visits.pop(channel):
                visit.ended = time.time()
