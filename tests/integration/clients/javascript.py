"""npm ``centrifuge``: the clients of all tests in one Node process."""

import asyncio
import itertools
from types import TracebackType
from typing import Any, Self

import msgspec
from msgspec import Struct

from tests.integration.clients.base import (
    PING_DELAY,
    SDK,
    CallFailed,
    Client,
    Event,
    GetToken,
    History,
    Info,
    Log,
    Subscription,
    Unauthorized,
)
from tests.node import PACKAGES, NodeProgram

DRIVER = NodeProgram(PACKAGES / "driver.mjs")


class Endpoint(Struct):
    """One way to the server, as the SDK is told of it."""

    transport: str
    endpoint: str


class JavaScriptSDK(SDK):
    name = "javascript"
    transports: tuple[str, ...] = ()
    """Those that a client tries, in order; none: a WebSocket, given by its URL alone."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._logs: dict[str, Log] = {}
        self._tokens: dict[tuple[str, str], GetToken] = {}

    async def __aenter__(self) -> Self:
        self._connection = await DRIVER.connect()
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.close(self._reading)

    async def client(self, url: str, token: str = "", get_token: GetToken | None = None) -> Client:
        return await self.emulated(url, url, token, get_token)

    async def emulated(self, url: str, emulation: str, token: str = "", get_token: GetToken | None = None) -> Client:
        """A new client that gives its commands to another server than it hears, where its transport lets it."""
        client = JavaScriptClient(self, f"client {next(self._ids)}")
        connection = {
            "endpoints": [msgspec.structs.asdict(_endpoint(url, each)) for each in self.transports] or url,
            "emulation": _over_http(emulation, "/emulation"),
            "token": token,
            "pingDelay": PING_DELAY * 1000,
        }
        await self.create(client.key, "", client.events, get_token, op="create", **connection)
        return client

    async def create(self, client: str, channel: str, log: Log, get_token: GetToken | None, **call: Any) -> None:
        """Make a client or, with a channel, a subscription; what happens to it goes to ``log``."""
        self._logs[call.get("subscription", client)] = log
        if get_token is not None:
            self._tokens[client, channel] = get_token
        await self.call(client=client, channel=channel, asks=get_token is not None, **call)

    async def call(self, **call: Any) -> Any:
        """One operation of the driver."""
        number = next(self._ids)
        future = self._calls[number] = asyncio.get_running_loop().create_future()
        self._connection.tell({"id": number, **call})
        return await future

    async def _read(self) -> None:
        async for line in self._connection.lines():
            message = msgspec.json.decode(line)
            match message:
                case {"event": event, "client": client}:
                    log = self._logs[message.get("subscription", client)]
                    log.append(msgspec.convert(event, Event))
                case {"ask": number, "client": client}:
                    self._connection.tell({"ask": number, **self._answer(client, message.get("channel", ""))})
                case {"id": number, "error": error}:
                    self._calls.pop(number).set_exception(CallFailed(error["code"], error["message"]))
                case {"id": number, "result": result}:
                    self._calls.pop(number).set_result(result)
        for future in self._calls.values():
            future.set_exception(CallFailed(0, self._connection.obituary))

    def _answer(self, client: str, channel: str) -> dict[str, str]:
        try:
            return {"token": self._tokens[client, channel]()}
        except Unauthorized:
            return {"failure": "unauthorized"}
        except Exception as error:
            return {"failure": str(error)}


class HTTPStreamSDK(JavaScriptSDK):
    name = "javascript-http_stream"
    transports = ("http_stream",)


class SSESDK(JavaScriptSDK):
    name = "javascript-sse"
    transports = ("sse",)


def _over_http(url: str, path: str) -> str:
    """Another path of the server whose WebSockets have this URL."""
    return url.replace("ws", "http", 1).replace("/connection/websocket", path)


def _endpoint(url: str, transport: str) -> Endpoint:
    return Endpoint(transport, url if transport == "websocket" else _over_http(url, f"/connection/{transport}"))


class JavaScriptSubscription(Subscription):
    def __init__(self, sdk: JavaScriptSDK, channel: str, key: str) -> None:
        super().__init__(channel)
        self._sdk = sdk
        self.key = key

    async def begin(self) -> None:
        await self._sdk.call(op="subscribe", subscription=self.key)

    async def unsubscribe(self) -> None:
        await self._sdk.call(op="unsubscribe", subscription=self.key)

    async def forms(self) -> tuple[int, int]:
        """How many publications have come whole, and how many as patches."""
        stats = await self._sdk.call(op="deltaStats", subscription=self.key)
        return stats["numFullPayloads"], stats["numDeltaPayloads"]


class JavaScriptClient(Client):
    def __init__(self, sdk: JavaScriptSDK, key: str) -> None:
        super().__init__()
        self._sdk = sdk
        self.key = key
        self._subscriptions = itertools.count(1)

    async def begin(self) -> None:
        await self._call("connect")

    async def disconnect(self) -> None:
        await self._call("disconnect")

    async def flicker(self) -> None:
        await self._call("flicker")

    async def state(self) -> str:
        return str(await self._call("state"))

    async def subscription(
        self,
        channel: str,
        *,
        token: str = "",
        get_token: GetToken | None = None,
        recoverable: bool = False,
        positioned: bool = False,
        join_leave: bool = False,
        delta: bool = False,
        tags_filter: dict[str, Any] | None = None,
        since: tuple[int, str] | None = None,
    ) -> Subscription:
        """As the base says; ``since`` starts from a position that the application kept."""
        key = f"{self.key} subscription {next(self._subscriptions)}"
        subscription = JavaScriptSubscription(self._sdk, channel, key)
        await self._sdk.create(
            self.key,
            channel,
            subscription.events,
            get_token,
            op="subscription",
            subscription=key,
            token=token,
            recoverable=recoverable,
            positioned=positioned,
            joinLeave=join_leave,
            delta="fossil" if delta else None,
            tagsFilter=tags_filter,
            since=_position(since),
        )
        return subscription

    async def remove(self, subscription: Subscription) -> None:
        assert isinstance(subscription, JavaScriptSubscription)
        await self._call("remove", subscription=subscription.key)

    async def publish(self, channel: str, *items: Any) -> None:
        await self._call("publish", channel=channel, items=items)

    async def presence(self, channel: str) -> dict[str, Info]:
        return msgspec.convert(await self._call("presence", channel=channel), dict[str, Info])

    async def presence_stats(self, channel: str) -> tuple[int, int]:
        clients, users = await self._call("presenceStats", channel=channel)
        return clients, users

    async def history(
        self, channel: str, limit: int = 0, since: tuple[int, str] | None = None, reverse: bool = False
    ) -> History:
        page = await self._call("history", channel=channel, limit=limit, since=_position(since), reverse=reverse)
        for publication in page["publications"]:
            publication["name"] = "publication"
        return msgspec.convert(page, History)

    async def rpc(self, method: str, data: Any) -> Any:
        return await self._call("rpc", method=method, data=data)

    async def _call(self, op: str, **arguments: Any) -> Any:
        return await self._sdk.call(op=op, client=self.key, **arguments)


def _position(since: tuple[int, str] | None) -> dict[str, Any] | None:
    return {"offset": since[0], "epoch": since[1]} if since is not None else None
