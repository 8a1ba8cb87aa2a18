"""Routes of FastAPI and Starlette on our WebSocket class, as their documentation writes them."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Header, Response, WebSocket, WebSocketDisconnect, WebSocketException
from starlette.endpoints import WebSocketEndpoint
from starlette.responses import PlainTextResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocketDisconnect as StarletteDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.transports.sockets import Running, running
from tests.waiting import until

events: list[str] = []

app = FastAPI()


async def user(authorization: Annotated[str | None, Header()] = None) -> AsyncIterator[str]:
    if authorization is None:
        raise WebSocketException(1008, "who are you?")
    events.append("open")
    yield authorization
    events.append("close")


class Rooms:
    """The tutorial's connection manager."""

    def __init__(self) -> None:
        self.present: dict[str, WebSocket] = {}

    async def tell(self, text: str) -> None:
        for websocket in self.present.values():
            await websocket.send_text(text)


rooms = Rooms()


@app.websocket("/rooms/{room}")
async def enter(websocket: WebSocket, room: str, name: Annotated[str, Depends(user)], limit: int = 10) -> None:
    await websocket.accept()
    rooms.present[name] = websocket
    try:
        while True:
            await rooms.tell(f"{name} in {room}: {(await websocket.receive_text())[:limit]}")
    except WebSocketDisconnect as gone:
        del rooms.present[name]
        events.append(f"{name} left {gone.code} {gone.reason}")
        await rooms.tell(f"{name} left")


@app.websocket("/json")
async def add(websocket: WebSocket) -> None:
    await websocket.accept("numbers", [(b"x-sum", b"yes")])
    async for numbers in websocket.iter_json():
        await websocket.send_json({"sum": sum(numbers)}, mode="binary")
    events.append("json over")


@app.websocket("/denied")
async def deny(websocket: WebSocket) -> None:
    await websocket.send_denial_response(PlainTextResponse("not today", 402, {"x-when": "tomorrow"}))


@app.websocket("/closed")
async def turn_away(websocket: WebSocket) -> None:
    await websocket.close()


@app.websocket("/gone")
async def speak_to_nobody(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.receive()
    try:
        await websocket.send_text("are you there?")
    except StarletteDisconnect as gone:
        events.append(f"gone {gone.code}")


@app.websocket("/broken")
async def break_down(websocket: WebSocket) -> None:
    await websocket.accept()
    raise ZeroDivisionError


class Shout(WebSocketEndpoint):
    encoding = "text"

    async def on_connect(self, websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("speak")

    async def on_receive(self, websocket: WebSocket, data: Any) -> None:
        await websocket.send_text(data.upper())

    async def on_disconnect(self, websocket: WebSocket, close_code: int) -> None:
        events.append(f"silence {close_code}")


app.router.routes.append(WebSocketRoute("/shout", Shout))


@app.get("/plain")
async def plain() -> Response:
    return PlainTextResponse("HTTP as well")


@pytest.fixture
async def run() -> AsyncIterator[Running]:
    events.clear()
    async with running() as run:
        run.app.websocket = run.app.http = app
        yield run


def client(run: Running, path: str, **options: Any) -> connect:
    return connect(f"ws://127.0.0.1:{run.port}{path}", **options)


async def said(*clients: ClientConnection) -> list[str | bytes]:
    return [await client.recv() for client in clients]


async def test_a_room(run: Running) -> None:
    async with client(run, "/rooms/attic?limit=3", additional_headers={"Authorization": "ann"}) as ann:
        async with client(run, "/rooms/cellar", additional_headers={"Authorization": "bob"}) as bob:
            await until(lambda: len(rooms.present) == 2)
            await ann.send("hello")
            assert await said(ann, bob) == ["ann in attic: hel"] * 2
            await bob.send("hello")
            assert await said(ann, bob) == ["bob in cellar: hello"] * 2
            await bob.close(4001, "lunch")
        assert await said(ann) == ["bob left"]
        assert events == ["open", "open", "bob left 4001 lunch", "close"]
    await run.ended()
    assert events[4:] == ["ann left 1000 ", "close"]


async def test_a_dependency_may_refuse(run: Running) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with client(run, "/rooms/attic"):
            pass
    assert refused.value.response.status_code == 403
    assert events == []


async def test_json(run: Running) -> None:
    async with client(run, "/json", subprotocols=["letters", "numbers"]) as peer:
        assert peer.subprotocol == "numbers"
        assert peer.response is not None
        assert peer.response.headers["x-sum"] == "yes"
        await peer.send("[1,2,3]")
        assert await peer.recv() == b'{"sum":6}'
    await run.ended()
    assert events == ["json over"]


@pytest.mark.parametrize(
    ("path", "status", "body", "header"),
    [("/denied", 402, b"not today", "tomorrow"), ("/closed", 403, b"", None), ("/nowhere", 403, b"", None)],
)
async def test_refusals(run: Running, path: str, status: int, body: bytes, header: str | None) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with client(run, path):
            pass
    response = refused.value.response
    assert (response.status_code, response.body, response.headers.get("x-when")) == (status, body, header)
    await run.ended()


async def test_an_endpoint(run: Running) -> None:
    async with client(run, "/shout") as peer:
        assert await peer.recv() == "speak"
        await peer.send("hello")
        assert await peer.recv() == "HELLO"
        await peer.close(4001)
    await run.ended()
    assert events == ["silence 4001"]


async def test_speaking_to_nobody_is_a_disconnect(run: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING")
    async with client(run, "/gone"):
        pass
    await run.ended()
    assert events == ["gone 1006"]
    assert not caplog.records


async def test_a_broken_route_closes_1011(run: Running, caplog: pytest.LogCaptureFixture) -> None:
    async with client(run, "/broken") as peer:
        with pytest.raises(ConnectionClosed):
            await peer.recv()
        assert peer.close_code == 1011
    assert "ZeroDivisionError" in caplog.text


async def test_http_beside_it(run: Running) -> None:
    peer = await run.connect()
    peer.write(b"GET /plain HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert (await peer.rest()).endswith(b"HTTP as well")
