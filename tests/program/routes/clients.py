"""A program with its gateway in the event loop of a test, and clients of it that need no server."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from gateway import Gateway, Settings
from gateway.presence.memory import MemoryPresence
from gateway.protocols.base import Wire
from gateway.protocols.centrifuge_json import CentrifugeJson
from tests.session.rig import Recorder
from tests.waiting import until

SECRET = "a secret of more than thirty-two bytes, as all should be"

WIRE = Wire(CentrifugeJson(), bytes)

ANYBODY: dict[str, Any] = {"allow_anonymous_connect_without_token": True}


def gateway_with(client: dict[str, Any] | None = None, **settings: Any) -> Gateway:
    """A gateway that lets everybody in, unless ``client`` says otherwise."""
    return Gateway(Settings(client=ANYBODY if client is None else client, **settings))


class Client:
    """One connection of a running gateway. Messages that answer nothing stay in ``inbox``."""

    def __init__(self, gateway: Gateway, app: FastAPI | None = None, query: str = "", **headers: str) -> None:
        self.gateway = gateway
        self.transport = Recorder()
        self.inbox: list[dict[str, Any]] = []
        self._last_id = 0
        lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope: dict[str, Any] = {
            "type": "websocket",
            "path": "/connection/websocket",
            "headers": lines,
            "query_string": query.encode(),
        }
        scope |= {"client": ("203.0.113.7", 50000), "endpoint": "of no interest", "fastapi_inner_astack": "nor this"}
        if app is not None:
            scope["app"] = app
        self.session = gateway.running.acceptor.open(WIRE, self.transport, scope)

    @property
    def closed(self) -> tuple[int, str] | None:
        reasons = self.transport.reasons
        return (reasons[0].code, reasons[0].reason) if reasons else None

    async def send(self, kind: str, **body: Any) -> int:
        """Send one command, and answer its id; its reply is not waited for."""
        self._last_id += 1
        await self.session.receive(json.dumps({"id": self._last_id, kind: body}).encode())
        return self._last_id

    async def send_raw(self, kind: str, body: bytes) -> int:
        self._last_id += 1
        await self.session.receive(b'{"id":%d,"%b":%b}' % (self._last_id, kind.encode(), body))
        return self._last_id

    def begin(self, kind: str, **body: Any) -> "asyncio.Task[int]":
        return asyncio.create_task(self.send(kind, **body))

    async def reply(self, command_id: int) -> dict[str, Any]:
        found = await until(lambda: self._take_reply(command_id) or self.closed, what=f"a reply to {command_id}")
        assert isinstance(found, dict), f"closed: {found}"
        return found

    async def ask(self, kind: str, **body: Any) -> dict[str, Any]:
        return await self.reply(await self.send(kind, **body))

    async def result(self, kind: str, **body: Any) -> dict[str, Any]:
        reply = await self.ask(kind, **body)
        assert kind in reply, reply
        found: dict[str, Any] = reply[kind]
        return found

    async def error(self, kind: str, **body: Any) -> tuple[int, str]:
        """Code and message of the error that answers; the connection stays."""
        reply = await self.ask(kind, **body)
        assert self.closed is None
        return reply["error"]["code"], reply["error"]["message"]

    async def disconnected(self, kind: str, **body: Any) -> tuple[int, str]:
        """Code and reason of the close that answers."""
        await self.send(kind, **body)
        return await self.is_closed()

    async def is_closed(self) -> tuple[int, str]:
        """Wait for a close, and answer its code and reason."""
        await until(lambda: self.closed is not None, what="a close")
        assert self.closed is not None
        return self.closed

    async def connect(self, **request: Any) -> dict[str, Any]:
        return await self.result("connect", **request)

    async def subscribe(self, channel: str, **request: Any) -> dict[str, Any]:
        return await self.result("subscribe", channel=channel, **request)

    async def call(self, method: str, data: Any = None) -> Any:
        body = {} if data is None else {"data": data}
        return (await self.result("rpc", method=method, **body)).get("data")

    def look(self) -> None:
        self.gateway.node.hub.flush()
        frames, self.transport.frames = self.transport.frames, []
        self.inbox += [json.loads(line) for frame in frames for line in frame.split(b"\n")]

    def pushes(self, channel: str = "") -> list[dict[str, Any]]:
        self.look()
        pushes = [each["push"] for each in self.inbox if "push" in each]
        return [each for each in pushes if not channel or each.get("channel") == channel]

    async def pushed(self, channel: str) -> list[dict[str, Any]]:
        """Wait until there are pushes, and answer them."""
        return await until(lambda: self.pushes(channel), what=f"a push of {channel}")

    def data(self, channel: str = "") -> list[Any]:
        """Data of the publications so far."""
        return [each["pub"].get("data") for each in self.pushes(channel) if "pub" in each]

    async def hears(self, *values: Any, channel: str = "") -> None:
        """Wait until these publications have come, and no others."""
        await until(lambda: len(self.data(channel)) >= len(values), what=f"{values}, heard {self.data(channel)}")
        assert self.data(channel) == list(values)

    async def leave(self, *code_and_reason: Any) -> None:
        self.gateway.running.acceptor.close(self.session, *code_and_reason)
        await settled(self.gateway)

    def _take_reply(self, command_id: int) -> dict[str, Any] | None:
        self.look()
        for each in self.inbox:
            if each.get("id") == command_id:
                self.inbox.remove(each)
                return {key: value for key, value in each.items() if key != "id"}
        return None


@asynccontextmanager
async def running(gateway: Gateway, app: FastAPI | None = None) -> AsyncIterator[Callable[..., Client]]:
    """Run the gateway; gives what opens a connection."""
    app = app or FastAPI()
    async with gateway.lifespan(app):
        yield lambda query="", **headers: Client(gateway, app, query, **headers)


@asynccontextmanager
async def connected(gateway: Gateway, **request: Any) -> AsyncIterator[Client]:
    """Run the gateway with one client that has connected."""
    async with running(gateway) as opened:
        client = opened()
        await client.connect(**request)
        yield client


async def settled(gateway: Gateway) -> None:
    """Wait for background work to end."""
    await until(lambda: not gateway.node._work.running, what="background work to end")


async def assert_empty(gateway: Gateway) -> None:
    """Nothing is left of anybody."""
    await settled(gateway)
    node = gateway.node
    assert (node.hub.connections, node.hub.users, node.hub.channels, node.hub.subscriptions) == ({}, {}, {}, 0)
    assert isinstance(node.presence_store, MemoryPresence)
    assert node.presence_store._channels == {}
    assert all(feed.holders == 0 for feed in node.feeds._feeds.values())
    assert gateway.running.acceptor.sessions == set()
