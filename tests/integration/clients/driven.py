"""Clients in another program, which speaks lines of JSON as ``sdk/driver.mjs`` does."""

import asyncio
import base64
import itertools
import json
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec

from tests.integration.clients.base import (
    PING_DELAY,
    SDK,
    CallFailed,
    Client,
    Event,
    GetState,
    GetToken,
    History,
    Info,
    Log,
    Subscription,
    Unauthorized,
)

Sign = Callable[[list[str]], tuple[list[str], str]]
"""Says which of these keys somebody may track, and signs them."""


class Line(Protocol):
    """What one test has of the program."""

    @property
    def obituary(self) -> str:
        """What a test says that loses it."""

    def tell(self, message: dict[str, Any]) -> None:
        """One line, in which bytes stand as `wrapped` has them."""

    def lines(self) -> AsyncIterator[bytes]:
        """What the program says, until it has nothing more to say."""

    async def close(self, reading: "asyncio.Task[None]") -> None:
        """Say that this was all, and wait until everything is cleared away, and read to the end."""


class DrivenSDK(SDK):
    """Clients that a program drives."""

    @abstractmethod
    async def line(self) -> Line:
        """To the program, which may have to start."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._logs: dict[str, Log] = {}
        self._tokens: dict[tuple[str, str], GetToken] = {}
        self._signers: dict[tuple[str, str], Sign] = {}

    async def __aenter__(self) -> Self:
        self._line = await self.line()
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._line.close(self._reading)

    async def client(self, url: str, token: str = "", get_token: GetToken | None = None) -> Client:
        return await self.emulated(url, url, token, get_token)

    async def emulated(self, url: str, emulation: str, token: str = "", get_token: GetToken | None = None) -> Client:
        """A new client that gives its commands to another server than it hears, where its transport lets it."""
        client = DrivenClient(self, f"client {next(self._ids)}")
        connection = {
            "endpoints": [_endpoint(url, each) for each in self.transports] or url,
            "url": url,
            "protobuf": self.protobuf,
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

    def answers(self, client: str, question: str, answer: Callable[[], str]) -> None:
        """Have ``answer`` say what the client is told that asks this."""
        self._tokens[client, question] = answer

    def signs(self, client: str, channel: str, sign: Sign) -> None:
        """Have ``sign`` answer the client that wants to track keys of the channel."""
        self._signers[client, channel] = sign

    async def call(self, **call: Any) -> Any:
        """One operation of the driver."""
        number = next(self._ids)
        future = self._calls[number] = asyncio.get_running_loop().create_future()
        self._line.tell({"id": number, **call})
        return await future

    async def _read(self) -> None:
        async for line in self._line.lines():
            message = json.loads(line, object_hook=_unwrapped)
            match message:
                case {"event": event, "client": client}:
                    log = self._logs[message.get("subscription", client)]
                    log.append(msgspec.convert(event, Event))
                case {"ask": number, "client": client}:
                    asked = client, message.get("channel", "")
                    self._line.tell({"ask": number, **self._answer(asked, message.get("keys"))})
                case {"id": number, "error": error}:
                    self._calls.pop(number).set_exception(CallFailed(error["code"], error["message"]))
                case {"id": number, "result": result}:
                    self._calls.pop(number).set_result(result)
        for future in self._calls.values():
            future.set_exception(CallFailed(0, self._line.obituary))

    def _answer(self, asked: tuple[str, str], keys: list[str] | None) -> dict[str, str]:
        try:
            if keys is None:
                return {"token": self._tokens[asked]()}
            signed, signature = self._signers[asked](keys)
            return {"token": json.dumps({"keys": signed, "signature": signature})}
        except Unauthorized:
            return {"failure": "unauthorized"}
        except Exception as error:
            return {"failure": str(error)}


def _over_http(url: str, path: str) -> str:
    """Another path of the server whose WebSockets have this URL."""
    return url.replace("ws", "http", 1).replace("/connection/websocket", path)


def _endpoint(url: str, transport: str) -> dict[str, str]:
    """One way to the server, as the SDK is told of it."""
    there = url if transport == "websocket" else _over_http(url, f"/connection/{transport}")
    return {"transport": transport, "endpoint": there}


def wrapped(value: bytes) -> dict[str, str]:
    """Bytes in a line, for `json.dumps`."""
    return {"$bytes": base64.b64encode(value).decode()}


def _unwrapped(value: dict[str, Any]) -> Any:
    return base64.b64decode(value["$bytes"]) if "$bytes" in value else value


class DrivenSubscription(Subscription):
    def __init__(self, sdk: DrivenSDK, channel: str, key: str) -> None:
        super().__init__(channel)
        self._sdk = sdk
        self.key = key

    async def begin(self) -> None:
        await self._sdk.call(op="subscribe", subscription=self.key)

    async def unsubscribe(self) -> None:
        await self._sdk.call(op="unsubscribe", subscription=self.key)

    async def forms(self) -> tuple[int, int]:
        """How many publications have come whole, and how many as patches."""
        stats = await self.delta_stats()
        return stats["numFullPayloads"], stats["numDeltaPayloads"]

    async def delta_stats(self) -> dict[str, int]:
        """What the SDK has counted of both."""
        found: dict[str, int] = await self._sdk.call(op="deltaStats", subscription=self.key)
        return found


class DrivenClient(Client):
    def __init__(self, sdk: DrivenSDK, key: str) -> None:
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
        get_state: GetState | None = None,
        since: tuple[int, str] | None = None,
    ) -> Subscription:
        """As the base says; ``since`` starts from a position that the application kept."""
        key = f"{self.key} subscription {next(self._subscriptions)}"
        subscription = DrivenSubscription(self._sdk, channel, key)
        if get_state is not None:
            self._sdk.answers(self.key, f"state of {channel}", lambda: json.dumps(_position(get_state())))
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
            loads=get_state is not None,
        )
        return subscription

    async def remove(self, subscription: Subscription) -> None:
        assert isinstance(subscription, DrivenSubscription)
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
