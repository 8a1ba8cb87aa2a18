"""An application with the gateway inside, on the servers that people run applications on: two instances, one Redis."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from gateway.transports.hint import HINT
from tests.deploy.balancers import ROOT
from tests.integration import embedded_app
from tests.integration.cable import Cable
from tests.integration.clients.base import SDK, Client, Event, Subscription
from tests.integration.clients.raw import RawClient, raw
from tests.integration.embedded_app import CLOCK, NEWS
from tests.integration.servers import START, TROUBLE, Server, haproxy
from tests.redis_server import RedisServer
from tests.transports.streams import Stream
from tests.waiting import until

END = 5.0
"""Seconds from SIGTERM to the end of the process, with all that is connected to it."""
GONE = 15.0
"""Seconds after which the members of a killed instance are no longer present, and its live sources run elsewhere."""
IDLE = 20
"""Clients that are only there."""

HINTED = HINT.partition("%s")[0]
OURS = ("--ws", "gateway.transports.uvicorn_websocket:WebSocketProtocol")
APP, OUTER = (f"{embedded_app.__name__}:{name}" for name in ("app", "outer"))


@dataclass(frozen=True)
class Kind:
    """One way to run the application."""

    name: str
    command: Sequence[str]
    bind: str = "--port={port}"
    hint: str = "uvicorn's "
    """What it is told that it runs on; nothing, if that is as fast as can be."""
    processes: int = 1
    code: int = 0
    """What it ends with on SIGTERM."""


# uvicorn ends by the signal that has stopped it, in order though it does
UVICORN = Kind("uvicorn", ("uvicorn", APP), code=-signal.SIGTERM)
FAST = Kind("fast", ("uvicorn", APP, *OURS), hint="", code=-signal.SIGTERM)
KINDS = [
    UVICORN,
    FAST,
    Kind("workers", ("uvicorn", APP, "--workers=2"), processes=2),
    Kind("fastapi", ("fastapi", "run", str(embedded_app.__file__), "--host=127.0.0.1"), code=-signal.SIGTERM),
    Kind(
        "gunicorn",
        ("gunicorn", APP, "--worker-class=uvicorn_worker.UvicornWorker", "--workers=2"),
        bind="--bind=127.0.0.1:{port}",
        processes=2,
    ),
    Kind(
        "gunicorn-fast",
        ("gunicorn", APP, f"--worker-class={embedded_app.__name__}.FastWorker"),
        bind="--bind=127.0.0.1:{port}",
        hint="",
    ),
    Kind("hypercorn", ("hypercorn", APP), bind="--bind=127.0.0.1:{port}", hint="a server other than uvicorn"),
]


class Instance(Server):
    """The application on one server."""

    def __init__(self, name: str, directory: Path, redis: RedisServer, prefix: str, kind: Kind) -> None:
        super().__init__(name, directory)
        self.kind = kind
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("GATEWAY_")}
        self._environment = {
            **inherited,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "HOME": str(directory),  # where gunicorn has a socket
            "GATEWAY_REDIS_URL": redis.url,
            "GATEWAY_ENGINE__REDIS__PREFIX": prefix,
            "GATEWAY_NODE__NAME": name,
            "GATEWAY_UNI_SSE__ENABLED": "true",
        }

    def start(self) -> None:
        place = self.kind.bind.format(port=self.port)
        module, *arguments = self.kind.command
        self.run_module(module, [*arguments, place], self._environment)

    def check_log(self) -> None:
        bad = [word for word in TROUBLE if word in self.log]
        assert not bad, f"{self.name} logged {bad}:\n{self.log}"

    async def end(self) -> None:
        """Send SIGTERM, and see what it is to bring about."""
        self.signal(signal.SIGTERM)
        await until(lambda: not self.alive, END, f"the end of {self.name}")
        assert self.terminate() == self.kind.code
        self.check_log()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if error is None:
            self.check_log()


class Start:
    """Starts instances that belong together. Whatever runs at the end is ended."""

    def __init__(self, redis: RedisServer, directory: Path, stack: ExitStack) -> None:
        self._redis = redis
        self._directory = directory
        self._stack = stack
        self._prefix = uuid4().hex

    def __call__(self, name: str, kind: Kind) -> Instance:
        """Start one. Use it after `Instance.wait`."""
        instance = Instance(name, self._directory, self._redis, self._prefix, kind)
        instance.start()
        self._stack.push(instance)
        return instance


@pytest.fixture(scope="module")
def start(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    with ExitStack() as stack:
        yield Start(redis, tmp_path_factory.mktemp("embedded"), stack)


@pytest.fixture(scope="module")
def anchor(start: Start) -> Instance:
    """The other instance, which stays."""
    anchor = start("anchor", FAST)
    anchor.wait()
    return anchor


# — clients —

Member = tuple[Client, Subscription]


async def members(sdks: Sequence[SDK], url: str, channel: str, count: int = 4) -> list[Member]:
    """Clients of both SDKs in a room; a balancer that goes by the number of connections gives each instance half."""
    found = []
    for number in range(count):
        sdk = sdks[number % len(sdks)]
        client = await sdk.connected(f"{url}?user={sdk.name}-{number}")
        subscription = await client.subscribe(channel)
        assert subscription.events[-1].data == f"{sdk.name}-{number} in {channel.partition(':')[2]}"
        found.append((client, subscription))
    return found


@asynccontextmanager
async def idle(url: str, count: int) -> AsyncIterator[list[RawClient]]:
    """Clients that say who they are by cookie, and nothing else."""
    async with AsyncExitStack() as stack:
        clients = []
        for number in range(count):
            cookie = {"Cookie": f"session=idle-{number}"}
            client = await stack.enter_async_context(raw(url, additional_headers=cookie))
            assert NEWS in (await client.open())["subs"]
            clients.append(client)
        yield clients


@asynccontextmanager
async def plain(server: Server, path: str) -> AsyncIterator[ClientConnection]:
    async with connect(f"ws://127.0.0.1:{server.port}{path}", proxy=None) as socket:
        yield socket


@asynccontextmanager
async def event_stream(server: Server, user: str) -> AsyncIterator[Stream]:
    async with (
        httpx.AsyncClient(timeout=10, trust_env=False) as http,
        http.stream("GET", f"{server.url}/connection/uni_sse", params={"user": user}) as response,
    ):
        stream = Stream(response)
        assert await stream.opening() == b"\r\n"
        assert NEWS in (await stream.event())["connect"]["subs"]
        yield stream


@asynccontextmanager
async def heard(server: Server) -> AsyncIterator[AsyncIterator[str]]:
    """The lines of a response that is made of what the application hears, and has no end by itself."""
    async with (
        httpx.AsyncClient(timeout=10, trust_env=False) as http,
        http.stream("GET", f"{server.url}/heard/{NEWS}") as response,
    ):
        lines = response.aiter_lines()
        assert await anext(lines) == "listening"
        yield lines


async def hears(socket: ClientConnection, expected: str) -> None:
    async with asyncio.timeout(10):
        assert await socket.recv() == expected


async def pushed(client: RawClient, data: Any) -> None:
    """Wait for the client's first publication."""
    pushes = await until(lambda: client.pushes)
    assert pushes[0]["pub"]["data"] == data


async def closed(socket: ClientConnection) -> int | None:
    async with asyncio.timeout(10):
        await socket.wait_closed()
    return socket.close_code


def said(text: str, author: str = "server") -> dict[str, str]:
    return {"text": text, "author": author}


async def talk(there: Sequence[Member], channel: str) -> list[dict[str, str]]:
    """Each says something, and everybody hears it."""
    spoken = []
    for number, (client, _) in enumerate(there):
        await client.publish(channel, {"text": f"hello {number}"})
        spoken.append(said(f"hello {number}", (await client.presence(channel))[client.id].user))
    for _, subscription in there:
        await subscription.wait_received(spoken)
    return spoken


def returned(there: Sequence[Member]) -> list[Event]:
    """What those were told who have subscribed again."""
    return [event for _, subscription in there for event in subscription.events.named("subscribed")[1:]]


class Asking:
    """What the application answers by HTTP."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def people(self, url: str, room: str) -> list[str]:
        """Users in a room, once for each of their connections."""
        answer = (await self._http.get(f"{url}/people/{room}")).raise_for_status()
        found: list[str] = answer.json()
        return found

    async def until_people(self, url: str, room: str, expected: Sequence[str], deadline: float = 10.0) -> None:
        async def there() -> bool:
            return await self.people(url, room) == sorted(expected)

        await until(there, deadline, f"{expected} in {room}")

    async def notify(self, url: str, channel: str, *texts: str) -> None:
        for text in texts:
            answer = await self._http.post(f"{url}/notices/{channel}", json={"text": text})
            answer.raise_for_status()


@pytest.fixture
async def ask() -> AsyncIterator[Asking]:
    async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
        yield Asking(http)


# — what holds on every server —


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_an_instance_stops_and_nobody_misses_anything(
    kind: Kind, start: Start, anchor: Instance, tmp_path: Path, sdks: list[SDK], ask: Asking, name: str
) -> None:
    channel = f"chat:{name}"
    instance = start(kind.name, kind)
    instance.wait()
    hints = kind.processes if kind.hint else 0
    await until(lambda: instance.log.count(HINTED) == hints, START, "the hint of each process")
    assert instance.log.count(HINTED + kind.hint) == hints
    with haproxy(tmp_path, [instance, anchor]) as balancer:
        there = await members(sdks, balancer.ws_url, channel)
        spoken = await talk(there, channel)
        for client, _ in there:
            assert channel in await client.rpc("rooms", None)
        users = [f"{sdks[number % 2].name}-{number}" for number in range(4)]
        async with (
            idle(instance.ws_url, IDLE) as quiet,
            event_stream(instance, "eve") as stream,
            heard(instance) as lines,
            plain(instance, f"/plain/{name}?user=pat") as pat,
            plain(instance, "/tutorial/1") as beginner,
            plain(anchor, "/tutorial/2") as expert,
        ):
            await ask.notify(anchor.url, NEWS, "today")
            assert (await stream.event())["pub"]["data"] == said("today")
            assert "today" in await anext(lines)
            for listener in quiet:
                await pushed(listener, said("today"))
            await expert.send("hi")
            await hears(beginner, "Client #2 says: hi")
            await pat.send('"hello"')
            await hears(pat, '{"text":"hello","author":"pat"}')
            await ask.until_people(anchor.url, name, [*users, "pat"])

            texts = [str(number) for number in range(10)]
            await asyncio.gather(instance.end(), ask.notify(anchor.url, channel, *texts[:5]))
            await ask.notify(anchor.url, channel, *texts[5:])

            assert {(await listener.closed())[0] for listener in quiet} <= {3001, 1012}
            assert [await closed(socket) for socket in (pat, beginner)] == [1012] * 2
            assert (await stream.rest())[-1] == {"disconnect": {"code": 3001, "reason": "shutdown"}}
            assert [line async for line in lines] == []
            await hears(expert, "Client #2 says: hi")
            await hears(expert, "Client #1 left the chat")

        spoken += [said("hello", "pat"), *map(said, texts)]
        for _, subscription in there:
            await subscription.wait_received(spoken)
        await until(lambda: len(returned(there)) == 2, what="half of them have moved")
        assert [(event.was_recovering, event.recovered) for event in returned(there)] == [(True, True)] * 2
        await ask.until_people(anchor.url, name, users)


# — one that dies —


async def test_an_instance_is_killed(
    start: Start, anchor: Instance, tmp_path: Path, sdks: list[SDK], ask: Asking, name: str
) -> None:
    channel = f"chat:{name}"
    doomed = start("doomed", UVICORN)
    doomed.wait()
    with haproxy(tmp_path, [doomed, anchor]) as balancer:
        there = await members(sdks, balancer.ws_url, channel, 2)
        spoken = await talk(there, channel)
        async with idle(doomed.ws_url, 1) as [watcher], plain(doomed, f"/plain/{name}?user=pat"):
            await watcher.command(subscribe={"channel": CLOCK})
            await until(lambda: watcher.pushes, what="the live source runs where somebody watches")
            watching = await (await sdks[0].connected(f"{anchor.ws_url}?user=far")).subscribe(CLOCK)
            await watching.wait_last("doomed")
            users = [f"{sdk.name}-{number}" for number, sdk in enumerate(sdks)]
            await ask.until_people(anchor.url, name, [*users, "pat"])

            doomed.kill()

            await ask.notify(anchor.url, channel, "still here")
            for _, subscription in there:
                await subscription.wait_received([*spoken, said("still here")])
            # the one that has moved is there twice until its first connection is known to be dead
            await asyncio.gather(
                watching.wait_last("anchor", GONE), ask.until_people(anchor.url, name, users, deadline=GONE)
            )


# — other places in the application —


async def test_two_gateways_in_one_application(start: Start, sdks: list[SDK], ask: Asking, name: str) -> None:
    """One under a prefix, one in a mounted application; with other keys, they know nothing of each other."""
    channel = f"chat:{name}"
    left, right = (start(each, Kind("outer", ("uvicorn", OUTER, *OURS), code=FAST.code)) for each in ("left", "right"))
    for instance in (left, right):
        for path in ("/rt/health/live", "/inner/health/live"):
            instance.wait(path)
    async with Cable(left.port) as cable:
        rooms = []
        for place, gateway in (("", "/rt"), ("/inner", "/inner")):
            there = []
            for sdk, port in zip(sdks, (cable.port, right.port), strict=True):
                url = f"ws://127.0.0.1:{port}{gateway}/connection/websocket?user={sdk.name}"
                client = await sdk.connected(url)
                there.append((client, await client.subscribe(channel)))
            rooms.append((place, there, await talk(there, channel)))
        users = [sdk.name for sdk in sdks]
        for place, _, _ in rooms:
            async with plain(left, f"{place}/plain/{name}?user=only{place[1:]}"):
                await ask.until_people(right.url + place, name, [*users, f"only{place[1:]}"])

        cable.plug(right.port)
        await left.end()

        for place, there, spoken in rooms:
            await ask.notify(right.url + place, channel, place)
            for _, subscription in there:
                await subscription.wait_received([*spoken, said(place)])
            assert (await there[0][1].events.wait("subscribed", 2)).recovered
            await ask.until_people(right.url + place, name, users)
