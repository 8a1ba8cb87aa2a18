"""Nothing is left of a closed connection where a program decides, nor of the program's own WebSockets."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, WebSocket, WebSocketDisconnect

from gateway import Client, ConnectionManager, Credentials, Gateway, Settings
from gateway.errors import DisconnectCode
from tests.callers import Caller, calling
from tests.leftovers import MANY, assert_freed
from tests.serving import on_plain_uvicorn, on_uvicorn
from tests.waiting import until_blocking

SETTINGS = Settings.model_validate({"client": {"stale_close_delay": 0.3, "connect_timeout": 5}})


async def resource() -> AsyncIterator[str]:
    yield "a session of a database"


def in_a_thread(client: Client) -> str:
    return client.user


class Program:
    """An application with everything, and what its handlers wait for."""

    def __init__(self) -> None:
        self.asked = 0
        self.go_on = asyncio.Event()
        self.gateway = Gateway(SETTINGS)
        self.app = FastAPI(lifespan=self.gateway.lifespan)
        self.app.include_router(self.gateway.router)
        _decide(self)
        _attach(self)
        _serve(self)

    async def wait(self) -> None:
        self.asked += 1
        await self.go_on.wait()

    def all_wait(self) -> None:
        """Called by clients: every one of them is waited for."""
        until_blocking(lambda: self.asked == MANY)

    async def call(self, port: int, path: str, clients: "Clients") -> None:
        self.asked = 0
        self.go_on.clear()
        await asyncio.to_thread(self._call, port, path, clients)
        self.go_on.set()

    def _call(self, port: int, path: str, clients: "Clients") -> None:
        with calling(MANY, port, path) as callers:
            clients(callers, self)


Clients = Callable[[list[Caller], Program], None]


def _decide(program: Program) -> None:
    """Handlers of clients that speak the protocol."""
    gateway = program.gateway
    chat = gateway.channel("chat:{room}", history_size=10, history_ttl=60, presence=True, join_leave=True)

    @gateway.on_connect
    async def connect(client: Client, db: str = Depends(resource)) -> Credentials[Any] | bool:
        client.state.db = db
        if client.query_params.get("slow"):
            await program.wait()
        return Credentials(user="ada") if client.query_params.get("who") != "nobody" else False

    @gateway.on_disconnect
    async def leave(client: Client, code: int, db: str = Depends(resource)) -> None:
        pass

    @chat.on_subscribe
    async def join(room: str, client: Client, db: str = Depends(resource)) -> None:
        if room == "slow":
            await program.wait()
        if room == "closed":
            raise HTTPException(403, "closed")

    @chat.on_publish
    async def say(room: str, message: dict[str, int], user: str = Depends(in_a_thread)) -> dict[str, int]:
        return message

    @chat.on_unsubscribe
    def part(room: str, client: Client) -> None:
        pass

    @gateway.rpc("fail")
    async def fail() -> None:
        raise ValueError("a defect")

    @gateway.rpc("who")
    def who(client: Client) -> str:
        return client.user


def _attach(program: Program) -> None:
    """Routes of plain WebSockets in the gateway's channels."""
    gateway, app, manager = program.gateway, program.app, ConnectionManager(program.gateway)

    @app.websocket("/attached")
    async def attached(websocket: WebSocket) -> None:
        async with gateway.attach(websocket, user="ada", channels=["chat:lobby"]) as connection:
            async for text in connection:
                await gateway.publish("chat:lobby", {"said": int(text)})

    @app.websocket("/messages")
    async def messages(websocket: WebSocket) -> None:
        async with gateway.attach(websocket, channels=["chat:lobby"]) as connection:
            async for message in connection.messages():
                await connection.send(message.payload.decode())

    @app.websocket("/managed")
    async def managed(websocket: WebSocket) -> None:
        await manager.connect(websocket, room="lobby")
        with suppress(WebSocketDisconnect):
            while True:
                await manager.broadcast(await websocket.receive_text())

    @app.websocket("/token")
    async def token(websocket: WebSocket) -> None:
        async with gateway.attach(websocket, token="none"):
            raise AssertionError("it is not let in")


def _serve(program: Program) -> None:
    """Routes that have nothing to do with the gateway."""

    @program.app.websocket("/ordinary")
    async def ordinary(websocket: WebSocket) -> None:
        await websocket.accept()
        with suppress(WebSocketDisconnect):
            while True:
                await websocket.send_text(await websocket.receive_text())

    @program.app.websocket("/refused")
    async def refused(websocket: WebSocket) -> None:
        await websocket.close()


def leave(callers: list[Caller], program: Program) -> None:
    for each in callers:
        each.leave()


def all_of_it(callers: list[Caller], program: Program) -> None:
    for each in callers:
        assert "connect" in each.ask(connect={})  # all of them first: who waits too long is stale
    for each in callers:
        assert "subscribe" in each.ask(subscribe={"channel": "chat:lobby"})
        assert "publish" in each.ask(publish={"channel": "chat:lobby", "data": {"a": 1}})
        assert "error" in each.ask(publish={"channel": "chat:lobby", "data": {"a": "no number"}})
        assert each.ask(rpc={"method": "who"})["rpc"]["data"] == "ada"
        assert "unsubscribe" in each.ask(unsubscribe={"channel": "chat:lobby"})
        assert "subscribe" in each.ask(subscribe={"channel": "chat:lobby"})
    leave(callers, program)


def reset(callers: list[Caller], program: Program) -> None:
    for each in callers:
        each.ask(connect={})
        each.ask(subscribe={"channel": "chat:lobby"})
        each.reset()


def failures(callers: list[Caller], program: Program) -> None:
    for each in callers:
        each.ask(connect={})
        assert "error" in each.ask(subscribe={"channel": "chat:closed"})
        assert "error" in each.ask(subscribe={"channel": "unknown:room"})
        assert "error" in each.ask(rpc={"method": "fail"})
        assert "error" in each.ask(rpc={"method": "none"})
    leave(callers, program)


def reset_during_connect(callers: list[Caller], program: Program) -> None:
    for each in callers:
        each.say(connect={})
    program.all_wait()
    for each in callers:
        each.reset()


def reset_during_subscribe(callers: list[Caller], program: Program) -> None:
    for each in callers:
        each.ask(connect={})
        each.say(subscribe={"channel": "chat:slow"})
        each.say(subscribe={"channel": "chat:slow"})
    program.all_wait()
    for each in callers:
        each.reset()


def refused(callers: list[Caller], program: Program) -> None:
    for each in callers:
        each.say(connect={})
        assert each.code() == DisconnectCode.PERMISSION_DENIED


def stale(callers: list[Caller], program: Program) -> None:
    assert {each.code() for each in callers} == {DisconnectCode.STALE}


def echoes(callers: list[Caller], program: Program) -> None:
    for each in callers:
        each.text("1")
        each.frame()
    leave(callers, program)


def echoes_and_resets(callers: list[Caller], program: Program) -> None:
    for each in callers:
        each.text("1")
        each.frame()
        each.reset()


def resets(callers: list[Caller], program: Program) -> None:
    for each in callers:
        each.reset()


def denied(callers: list[Caller], program: Program) -> None:
    for each in callers:
        assert each.status == 403
        each.rest()


PATH = "/connection/websocket"

WAYS: list[tuple[str, Clients]] = [
    (PATH, all_of_it),
    (PATH, reset),
    (PATH, failures),
    (PATH, stale),
    (PATH + "?slow=1", reset_during_connect),
    (PATH, reset_during_subscribe),
    (PATH + "?who=nobody", refused),
    ("/attached", echoes),
    ("/attached", echoes_and_resets),
    ("/messages", leave),
    ("/messages", resets),
    ("/managed", echoes),
    ("/managed", echoes_and_resets),
    ("/ordinary", echoes),
    ("/ordinary", echoes_and_resets),
    ("/refused", denied),
    ("/token", denied),
]


@pytest.mark.parametrize(("path", "clients"), WAYS, ids=lambda value: getattr(value, "__name__", value))
async def test_nothing_is_left(path: str, clients: Clients) -> None:
    program = Program()
    async with on_uvicorn(program.app, SETTINGS) as port:
        await assert_freed(lambda: program.call(port, path, clients))


@pytest.mark.parametrize(("path", "clients"), WAYS, ids=lambda value: getattr(value, "__name__", value))
async def test_nothing_of_ours_is_left_on_another_server(path: str, clients: Clients) -> None:
    program = Program()
    async with on_plain_uvicorn(program.app, SETTINGS) as port:
        await assert_freed(lambda: program.call(port, path, clients), only="gateway.")
