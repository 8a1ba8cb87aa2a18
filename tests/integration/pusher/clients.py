"""pusher-js and Laravel Echo, which a program in Node or a page of Chromium drives as ``sdk/pushers.mjs`` says."""

import asyncio
import itertools
import json
from collections import defaultdict
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec
from msgspec import Struct

from tests import waiting
from tests.integration.processes import program
from tests.integration.pusher.application import Application, wishes
from tests.integration.pusher.apps import MAIN, App
from tests.node import PACKAGES, Connection, NodeProgram

NODE = NodeProgram(PACKAGES / "pusher_node.mjs")
CHROMIUM = NodeProgram(PACKAGES / "pusher_chromium.mjs", program("chromium", "chromium"))
SUCCEEDED, FAILED = "pusher:subscription_succeeded", "pusher:subscription_error"
ADDED, REMOVED = "pusher:member_added", "pusher:member_removed"


class Address(Protocol):
    """Where a gateway, or a balancer, is."""

    host: str
    port: int


class Told(Struct):
    """Something that a library has told the page."""

    name: str
    data: Any = None
    channel: str | None = None
    user: str | None = None


class Log(list[Told]):
    """What was told in one place, in order."""

    def __init__(self, library: "Library") -> None:
        self._library = library

    @property
    def names(self) -> list[str]:
        return [each.name for each in self]

    def named(self, name: str) -> list[Any]:
        """The data of those of this name."""
        return [each.data for each in self if each.name == name]

    async def wait(self, name: str, count: int = 1, deadline: float = 10.0) -> Any:
        """The data of the last of so many."""
        found: list[Any] = []

        def come() -> bool:
            found[:] = self.named(name)
            assert len(found) >= count or not self._library.gone, self._library.obituary
            return len(found) >= count

        try:
            await waiting.until(come, deadline)
        except AssertionError as error:
            raise AssertionError(f"{count} {name} among {list(self)}: {error}") from None
        return found[count - 1]


class Refused(Exception):  # noqa: N818
    """The library would not."""


class Library:
    """One test's connection to the program that drives the libraries."""

    def __init__(self, runs: NodeProgram, build: str, application: Application) -> None:
        self.build = build
        self._program = runs
        self._application = application
        self._ids = itertools.count(1)
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._clients: dict[str, Client] = {}

    async def __aenter__(self) -> Self:
        self._line: Connection = await self._program.connect()
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._line.close(self._reading)

    @property
    def in_page(self) -> bool:
        return self._program is CHROMIUM

    @property
    def gone(self) -> bool:
        """Whether the program has ended."""
        return self._reading.done()

    @property
    def obituary(self) -> str:
        return self._line.obituary

    async def open(self, server: Address, app: App = MAIN, **options: Any) -> "Client":
        """pusher-js, which connects at once."""
        return await self._client(op="open", key=app.key, options=self._options(server, app, **options))

    async def opened(self, server: Address, app: App = MAIN, **options: Any) -> "Client":
        """The same, connected."""
        client = await self.open(server, app, **options)
        await client.log("").wait("connected")
        return client

    async def echo(
        self, server: Address, broadcaster: str = "reverb", until: str = "connected", **options: Any
    ) -> "Client":
        """Laravel Echo, connected, or in the state it is to reach."""
        more = {"key": MAIN.key, "broadcaster": broadcaster, **self._options(server, MAIN, "/broadcasting", **options)}
        if broadcaster == "reverb":
            del more["cluster"]
        client = await self._client(op="echo", options=more)
        await client.log("").wait(until)
        return client

    async def call(self, **call: Any) -> Any:
        number = next(self._ids)
        future = self._calls[number] = asyncio.get_running_loop().create_future()
        self._line.tell({"id": number, **call})
        return await future

    async def _client(self, **call: Any) -> "Client":
        client = Client(self, f"client {next(self._ids)}")
        self._clients[client.key] = client
        await self.call(client=client.key, build=self.build, **call)
        return client

    def _options(
        self,
        server: Address,
        app: App,
        path: str = "/pusher",
        *,
        member: Any = None,
        user: Any = None,
        refused: int = 0,
        secret: str = "",
        **more: Any,
    ) -> dict[str, Any]:
        """Of pusher-js: where it connects to, and what the application lets it be; ``secret`` is a wrong one."""
        signing = App(app.id, app.key, secret or app.secret)
        asking = {"transport": "ajax", "headers": wishes(signing, member, user, refused)}
        site = f"{self._application.url}{path}"
        return {
            "cluster": "",
            "wsHost": server.host,
            "wsPort": server.port,
            "forceTLS": False,
            "enabledTransports": ["ws", "wss"],
            "channelAuthorization": {**asking, "endpoint": f"{site}/auth"},
            "userAuthentication": {**asking, "endpoint": f"{site}/user-auth"},
            **more,
        }

    async def _read(self) -> None:
        async for line in self._line.lines():
            message = json.loads(line)
            match message:
                case {"client": client, "place": place}:
                    self._clients[client].log(place).append(msgspec.convert(message, Told))
                case {"id": number, "error": error}:
                    self._calls.pop(number).set_exception(Refused(error))
                case {"id": number, "result": result}:
                    self._calls.pop(number).set_result(result)
        for future in self._calls.values():
            future.set_exception(Refused(self.obituary))


class Client:
    """One client of pusher-js, or of Echo."""

    def __init__(self, library: Library, key: str) -> None:
        self.key = key
        self._library = library
        self._logs: dict[str, Log] = defaultdict(lambda: Log(library))

    def log(self, place: str) -> Log:
        """What was told at a channel, or at another place that `pushers.mjs` has."""
        return self._logs[place]

    async def call(self, op: str, **call: Any) -> Any:
        return await self._library.call(op=op, client=self.key, **call)

    async def subscribe(self, channel: str, event: str | None = None) -> Log:
        """Its log, from the subscription on."""
        await self.call("subscribe", channel=channel, event=event)
        return self.log(channel)

    async def subscribed(self, channel: str, event: str | None = None) -> Log:
        log = await self.subscribe(channel, event)
        await log.wait(SUCCEEDED)
        return log

    async def unsubscribe(self, channel: str) -> None:
        await self.call("unsubscribe", channel=channel)

    async def trigger(self, channel: str, event: str, data: Any) -> bool:
        return bool(await self.call("trigger", channel=channel, event=event, data=data))

    async def signed_in(self) -> Any:
        """What the server says to that, once the inbox is open, too."""
        frames = self.log("frames")
        acks = len(frames.named("pusher_internal:subscription_succeeded"))
        await self.call("signin")
        success = await frames.wait("pusher:signin_success")
        await frames.wait("pusher_internal:subscription_succeeded", acks + 1)
        return success

    async def members(self, channel: str) -> Any:
        return await self.call("members", channel=channel)

    async def socket(self) -> str:
        return str(await self.call("socket"))

    async def state(self) -> str:
        return str(await self.call("state"))

    async def disconnect(self) -> None:
        await self.call("disconnect")
        await self.log("").wait("disconnected")

    async def hear(self, kind: str, channel: str, method: str, event: str | None = None) -> Log:
        """Have one of Echo's channels call back: what it does is told under the name of the event, or the method."""
        await self.call("hear", kind=kind, channel=channel, method=method, event=event)
        return self.log(f"{kind} {channel}")
