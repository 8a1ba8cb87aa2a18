"""npm ``centrifuge``: many clients in one Node process, driven over its standard input; so are other programs."""

import asyncio
import base64
import itertools
import json
from abc import abstractmethod
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

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
from tests.integration.processes import program

DIRECTORY = Path(__file__).parents[1] / "sdk"
LINE_LIMIT = 1 << 24
"""Longest line that the driver may say, in bytes."""


class DrivenSDK(SDK):
    """Clients in a process of their own, which speaks lines of JSON as ``sdk/driver.mjs`` does."""

    protobuf = False

    @abstractmethod
    def command(self) -> list[str]:
        """What to run."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._logs: dict[str, Log] = {}
        self._tokens: dict[tuple[str, str], GetToken] = {}

    async def __aenter__(self) -> Self:
        self._process: Process = await asyncio.create_subprocess_exec(
            *self.command(), stdin=PIPE, stdout=PIPE, limit=LINE_LIMIT
        )
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._reader

    async def client(self, url: str, token: str = "", get_token: GetToken | None = None) -> Client:
        client = DrivenClient(self, f"client {next(self._ids)}")
        connection = {"url": url, "token": token, "pingDelay": PING_DELAY * 1000, "protobuf": self.protobuf}
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
        self._write({"id": number, **call})
        return await future

    def _write(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message, default=_wrapped).encode() + b"\n")

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            message = json.loads(line, object_hook=_unwrapped)
            match message:
                case {"event": event, "client": client}:
                    log = self._logs[message.get("subscription", client)]
                    log.append(msgspec.convert(event, Event))
                case {"ask": number, "client": client}:
                    self._write({"ask": number, **self._answer(client, message.get("channel", ""))})
                case {"id": number, "error": error}:
                    self._calls.pop(number).set_exception(CallFailed(error["code"], error["message"]))
                case {"id": number, "result": result}:
                    self._calls.pop(number).set_result(result)
        for future in self._calls.values():
            future.set_exception(CallFailed(0, "the driver has ended"))

    def _answer(self, client: str, channel: str) -> dict[str, str]:
        try:
            return {"token": self._tokens[client, channel]()}
        except Unauthorized:
            return {"failure": "unauthorized"}
        except Exception as error:
            return {"failure": str(error)}


def _wrapped(value: bytes) -> dict[str, str]:
    return {"$bytes": base64.b64encode(value).decode()}


def _unwrapped(value: dict[str, Any]) -> Any:
    return base64.b64decode(value["$bytes"]) if "$bytes" in value else value


class JavaScriptSDK(DrivenSDK):
    name = "javascript"

    def command(self) -> list[str]:
        if not (DIRECTORY / "node_modules").is_dir():
            raise RuntimeError(f"the tests need Node packages: npm ci in {DIRECTORY.name}, or bash tests/run")
        return [program("node", "nodejs"), str(DIRECTORY / "driver.mjs")]


class JavaScriptProtobufSDK(JavaScriptSDK):
    name = "javascript-protobuf"
    protobuf = True


class DrivenSubscription(Subscription):
    def __init__(self, sdk: DrivenSDK, channel: str, key: str) -> None:
        super().__init__(channel)
        self._sdk = sdk
        self.key = key

    async def begin(self) -> None:
        await self._sdk.call(op="subscribe", subscription=self.key)

    async def unsubscribe(self) -> None:
        await self._sdk.call(op="unsubscribe", subscription=self.key)


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
        since: tuple[int, str] | None = None,
    ) -> Subscription:
        """As the base says; ``since`` starts from a position that the application kept."""
        key = f"{self.key} subscription {next(self._subscriptions)}"
        subscription = DrivenSubscription(self._sdk, channel, key)
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
            since=_position(since),
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
