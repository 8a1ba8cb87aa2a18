"""Clients of the Pusher protocol: raw and over plain ASGI, with the frames and codes that they see."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from gateway import Client as ProgramClient
from gateway import Gateway
from gateway.apps.base import App
from gateway.apps.signatures import sign
from gateway.config.settings import Settings
from gateway.errors import Error, ErrorCode
from gateway.kinds import Names
from gateway.messages import Payload, Publication
from gateway.protocols.pusher import PusherProtocol
from gateway.serve.app import create_app
from gateway.transports.pusher_endpoint import Wires
from tests.serving import Serve, on_fast_uvicorn, on_plain_uvicorn, on_uvicorn
from tests.transports.sockets import BINARY, CLOSE, PING, PONG, TEXT, Peer, client_frame, upgrade_request
from tests.waiting import until

KEY, SECRET = "k3y0example", "s3cr3t-example"
APP: dict[str, Any] = {"id": "9001", "key": KEY, "secret": SECRET, "enable_client_messages": True}
OFF = {"id": "9002", "key": "0ff", "secret": SECRET, "namespace": "off", "enabled": False}
FULL = {"id": "9003", "key": "fu11", "secret": SECRET, "namespace": "full", "max_connections": 1}
PICKY = {"id": "9004", "key": "p1cky", "secret": SECRET, "namespace": "picky"}
PICKY["allowed_origins"] = ["https://shop.example"]  # type: ignore[assignment]


def settings_of(**client: Any) -> Settings:
    return Settings.model_validate(
        {
            "client": {"token": {"hmac_secret_key": "a secret of more than thirty-two bytes"}, **client},
            "pusher": {"enabled": True, "namespace": "shop", "apps": [APP, OFF, FULL, PICKY]},
            "channel": {"namespaces": [{"name": each} for each in ("shop", "off", "full", "picky")]},
        }
    )


class Served:
    """A gateway that runs."""

    def __init__(self, app: Any, port: int) -> None:
        self.app = app
        self.port = port

    @property
    def node(self) -> Any:
        return self.app.state.node

    @property
    def endpoint(self) -> Any:
        return self.app.state.endpoints["/app/*"]

    @property
    def sessions(self) -> Any:
        return self.endpoint._acceptor.sessions

    @asynccontextmanager
    async def open(self, path: str = f"/app/{KEY}", *headers: bytes) -> AsyncIterator["Client"]:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", self.port))
        try:
            peer.write(upgrade_request(path, *headers))
            assert b" 101 " in await peer.head()
            yield Client(peer)
        finally:
            peer.writer.transport.abort()

    @asynccontextmanager
    async def client(self, path: str = f"/app/{KEY}?protocol=7&client=js&version=8.6.0&flash=false") -> Any:
        async with self.open(path) as client:
            hello = await client.message()
            assert hello["event"] == "pusher:connection_established"
            client.socket_id = json.loads(hello["data"])["socket_id"]
            yield client

    async def publish(self, channel: str, data: bytes) -> None:
        resolved = self.node.channels.resolve(f"shop:{channel}")
        await self.node.publish(resolved, Publication(Payload(data), tags={"event": "order.paid"}))


class Client:
    """A connection, by its frames."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.socket_id = ""

    async def message(self) -> Any:
        opcode, payload = await self.peer.frame()
        assert opcode == TEXT, payload
        return json.loads(payload)

    async def closed(self) -> tuple[int, str]:
        opcode, payload = await self.peer.frame()
        assert opcode == CLOSE, payload
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()

    async def say(self, event: str, data: Any = None, **more: Any) -> Any:
        message = {"event": event, "data": {} if data is None else data, **more}
        self.peer.write(client_frame(json.dumps(message).encode()))

    async def subscribe(self, channel: str, channel_data: str = "") -> Any:
        parts = [self.socket_id, channel, channel_data] if channel_data else [self.socket_id, channel]
        data = {"channel": channel, "auth": f"{KEY}:{sign(SECRET, *parts)}"}
        await self.say("pusher:subscribe", data | ({"channel_data": channel_data} if channel_data else {}))
        return await self.message()


@pytest.fixture(params=[on_uvicorn, on_fast_uvicorn, on_plain_uvicorn], ids=["served", "embedded", "plain"])
def serve(request: pytest.FixtureRequest) -> Serve:
    found: Serve = request.param
    return found


@asynccontextmanager
async def running(serve: Serve, **client: Any) -> AsyncIterator[Served]:
    settings = settings_of(**client)
    app = create_app(settings)
    async with serve(app, settings) as port:
        yield Served(app, port)


async def test_a_conversation(serve: Serve) -> None:
    async with running(serve) as run, run.client() as first, run.client() as second:
        await first.say("pusher:ping")
        assert (await first.message())["event"] == "pusher:pong"
        for each in (first, second):
            assert (await each.subscribe("private-x"))["event"] == "pusher_internal:subscription_succeeded"
        await run.publish("private-x", b'{"id":  7}')
        expected = {"event": "order.paid", "channel": "private-x", "data": '{"id":  7}'}
        assert await first.message() == await second.message() == expected
        await first.say("client-x", {"on": True}, channel="private-x")
        assert await second.message() == {"event": "client-x", "channel": "private-x", "data": {"on": True}}
        # several at once, each a frame of its own
        for number in range(3):
            await run.publish("private-x", b"%d" % number)
        assert [(await first.message())["data"] for _ in range(3)] == ["0", "1", "2"]


async def test_the_roster_goes_with_the_connection(serve: Serve) -> None:
    async with running(serve) as run, run.client() as first:
        await first.subscribe("presence-x", '{"user_id":"17"}')
        async with run.client() as second:
            await second.subscribe("presence-x", '{"user_id":"23"}')
            assert (await first.message())["event"] == "pusher_internal:member_added"
        assert (await first.message())["event"] == "pusher_internal:member_removed"
        await until(lambda: len(run.node.hub.connections) == 1)


REFUSALS: list[tuple[str, int]] = [
    ("/app/nobody", 4001),
    ("/app/0ff", 4003),
    ("/app/", 4005),
    ("/app/a/b", 4005),
    (f"/app/{KEY}?protocol=x", 4006),
    (f"/app/{KEY}?protocol=%F0", 4006),
    (f"/app/{KEY}?protocol=4", 4007),
    (f"/app/{KEY}?protocol=8", 4007),
]


@pytest.mark.parametrize(("path", "code"), REFUSALS)
async def test_refusals(serve: Serve, path: str, code: int) -> None:
    async with running(serve) as run, run.open(path) as client:
        told = await client.message()
        assert told["event"] == "pusher:error"
        assert told["data"]["code"] == code
        assert await client.closed() == (code, told["data"]["message"])
        assert run.node.hub.connections == {}


@pytest.mark.parametrize("query", ["", "?protocol=5", "?protocol=6&client=x", "?protocol=7&unknown=1"])
async def test_protocols_that_are_spoken(serve: Serve, query: str) -> None:
    async with running(serve) as run, run.client(f"/app/{KEY}{query}"):
        assert len(run.node.hub.connections) == 1


async def test_who_has_no_room_returns_after_a_second(serve: Serve) -> None:
    async with running(serve, connection_limit=1) as run, run.client(), run.open() as client:
        assert (await client.message())["data"]["code"] == 4100
        assert (await client.closed())[0] == 4100


async def test_a_node_that_drains(serve: Serve) -> None:
    async with running(serve) as run, run.client() as there:
        run.node.draining = True
        async with run.open() as client:
            assert (await client.message())["data"]["code"] == 4100
        await run.app.state.drain()
        assert await there.closed() == (4200, "shutdown")


async def test_the_quota_of_an_app(serve: Serve) -> None:
    async with running(serve) as run:
        async with run.client("/app/fu11"), run.open("/app/fu11") as client:
            assert (await client.message())["data"]["code"] == 4004
            assert (await client.closed())[0] == 4004
        await until(lambda: not run.node.hub.connections)
        async with run.client("/app/fu11"):
            pass


@pytest.mark.parametrize(
    ("key", "origin", "allowed"),
    [
        ("p1cky", b"https://shop.example", True),
        ("p1cky", b"https://other.example", False),
        (KEY, b"https://other.example", True),
        (KEY, b"https://shop.example", False),
        ("p1cky", b"", True),
    ],
)
async def test_origins(serve: Serve, key: str, origin: bytes, allowed: bool) -> None:
    headers = [b"Origin: " + origin] if origin else []
    async with (
        running(serve, allowed_origins=["https://other.example"]) as run,
        run.open(f"/app/{key}", *headers) as client,
    ):
        told = await client.message()
        assert told["event"] == ("pusher:connection_established" if allowed else "pusher:error")
        if not allowed:
            assert (await client.closed())[0] == 4009


async def test_binary_messages_are_told(serve: Serve) -> None:
    async with running(serve) as run, run.client() as client:
        client.peer.write(client_frame(b'{"event":"pusher:ping"}', BINARY))
        assert (await client.message())["data"]["code"] is None
        await client.say("pusher:ping")
        assert (await client.message())["event"] == "pusher:pong"


async def test_a_message_that_is_too_large(serve: Serve) -> None:
    async with running(serve) as run, run.client() as client:
        await client.say("pusher:ping", "x" * 70_000)
        assert (await client.closed())[0] == 1009


async def test_pings_are_of_the_kind_that_reaches_the_client(serve: Serve) -> None:
    async with running(serve, ping_interval=0.4, pong_timeout=0.3) as run, run.client() as client:
        for _ in range(3):
            opcode, payload = await client.peer.frame()
            if serve is on_plain_uvicorn:
                assert json.loads(payload)["event"] == "pusher:ping"
                await client.say("pusher:pong")
            else:
                assert opcode == PING
                client.peer.write(client_frame(payload, PONG))
        opcode, payload = await client.peer.frame()  # which is not answered
        assert (await client.closed())[0] == 4201


async def test_offsets_for_who_wants_them(serve: Serve) -> None:
    async with running(serve) as run, run.client(f"/app/{KEY}?resume=1") as client, run.client() as other:
        for each in (client, other):
            await each.subscribe("cache-x")
            await each.message()  # there is nothing
        await run.publish("cache-x", b"1")
        assert (await client.message())["offset"] == 1
        assert "offset" not in await other.message()


# — apps that have to be looked up —


class Loader:
    """Apps that somebody knows who has to be asked."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[App | None] = asyncio.get_running_loop().create_future()

    def known(self, key: str) -> App | None:
        return None

    async def find(self, key: str) -> App | None:
        return await self.answer


async def test_an_app_that_is_looked_up(serve: Serve) -> None:
    async with running(serve) as run:
        app, run.endpoint._apps = run.endpoint._apps.known(KEY), (loader := Loader())
        async with run.open() as client, run.open("/app/x") as other:
            await until(lambda: len(run.sessions) == 2)
            loader.answer.set_result(app)
            for each in (client, other):
                assert (await each.message())["event"] == "pusher:connection_established"


@pytest.mark.parametrize("answer", [None, Error(ErrorCode.INTERNAL)])
async def test_an_app_that_cannot_be_found(serve: Serve, answer: Any) -> None:
    async with running(serve) as run:
        run.endpoint._apps = loader = Loader()
        async with run.open() as client:
            await until(lambda: run.sessions)
            if answer is None:
                loader.answer.set_result(None)
            else:
                loader.answer.set_exception(answer)
            code = 4001 if answer is None else 4100
            assert (await client.message())["data"]["code"] == code
            assert (await client.closed())[0] == code


# — in a program —


class Word(BaseModel):
    text: str


async def test_a_program_decides_who_may_subscribe_and_what_is_said(serve: Serve) -> None:
    gateway = Gateway(settings_of())
    app = FastAPI()
    gateway.run_in(app)
    app.include_router(gateway.router, prefix="/ws")
    rooms = gateway.channel("shop:{room}")
    left: list[str] = []

    @rooms.on_subscribe
    async def may(room: str) -> bool:
        return room != "closed"

    @rooms.on_publish
    async def said(room: str, message: Word) -> Word:
        return Word(text=message.text.upper())

    @rooms.on_unsubscribe
    async def gone(room: str) -> None:
        left.append(room)

    @gateway.on_disconnect
    async def bye(client: ProgramClient) -> None:
        left.append(client.user)

    async with serve(app, settings_of()) as port:
        run = Served(app, port)
        async with run.client(f"/ws/app/{KEY}") as first, run.client(f"/ws/app/{KEY}") as second:
            assert (await first.subscribe("open"))["event"] == "pusher_internal:subscription_succeeded"
            told = await first.subscribe("closed")
            assert (told["event"], told["data"]["type"]) == ("pusher:subscription_error", "AuthError")
            for each in (first, second):  # whose signature is the backend's word
                assert (await each.subscribe("private-closed"))["event"] == "pusher_internal:subscription_succeeded"
            await first.say("client-x", {"text": "a"}, channel="private-closed")
            assert await second.message() == {"event": "client-x", "channel": "private-closed", "data": {"text": "A"}}
        await until(lambda: sorted(left) == ["open", "private-closed", "private-closed"])


# — wires —


def test_wires_are_shared_and_go_with_their_last_user() -> None:
    wires = Wires()
    beginner = wires.direct(None)
    one = wires.of(beginner, Names("a"), resumes=False)
    assert wires.of(beginner, Names("a"), resumes=False) is one
    assert wires.of(beginner, Names("a"), resumes=True) is not one
    assert wires.of(wires.portable, Names("a"), resumes=False) is not one
    kept = [wires.of(beginner, Names(str(each)), resumes=False) for each in range(100)]
    assert isinstance(kept[7].protocol, PusherProtocol)
    del kept, one
    gc.collect()
    assert len(wires._made) == 0
