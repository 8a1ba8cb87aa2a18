"""The chat room of the tutorial, on three instances."""

from difflib import ndiff
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect

from tests.browsing import Browser
from tests.examples.running import ROOT, Cluster, websocket

ONE_PROCESS = """
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from examples import pages

app = FastAPI()
pages.mount(app, "chat_room")


class ConnectionManager:
    def __init__(self):
        self.active_connections: list[WebSocket] = []

    async def connect(self, websocket: WebSocket):
        await websocket.accept()
        self.active_connections.append(websocket)

    def disconnect(self, websocket: WebSocket):
        self.active_connections.remove(websocket)

    async def send_personal_message(self, message: str, websocket: WebSocket):
        await websocket.send_text(message)

    async def broadcast(self, message: str):
        for connection in self.active_connections:
            await connection.send_text(message)


manager = ConnectionManager()


@app.websocket("/ws/{client_id}")
async def websocket_endpoint(websocket: WebSocket, client_id: int):
    await manager.connect(websocket)
    try:
        while True:
            data = await websocket.receive_text()
            await manager.send_personal_message(f"You wrote: {data}", websocket)
            await manager.broadcast(f"Client #{client_id} says: {data}")
    except WebSocketDisconnect:
        manager.disconnect(websocket)
        await manager.broadcast(f"Client #{client_id} left the chat")
"""
"""The same as the tutorial has it, for one process."""


def test_two_lines_differ() -> None:
    ours = Path(ROOT, "examples", "chat_room.py").read_text()
    code = ours.partition("# mypy: allow-untyped-defs, allow-incomplete-defs\n")[2]
    differences = list(ndiff(_lines(ONE_PROCESS), _lines(code)))
    assert len([line for line in differences if line.startswith("+ ")]) == 2
    kept_class, gone = "class ConnectionManager:", [line[2:] for line in differences if line.startswith("- ")]
    assert gone[0] == kept_class
    assert [line for line in gone[1:] if not line.startswith(" ")] == ["manager = ConnectionManager()"]


def _lines(code: str) -> list[str]:
    return [line for line in code.splitlines() if line]


async def test_three_instances(cluster: Cluster) -> None:
    a, b, c = cluster("chat_room", instances=3)
    async with connect(websocket(a, "/ws/1")) as one, connect(websocket(b, "/ws/2")) as two:
        async with connect(websocket(c, "/ws/3")) as three:
            sockets = {1: one, 2: two, 3: three}
            for each in sockets.values():
                await each.send("here")
            for client, each in sockets.items():  # who hears itself hears the others from now on
                heard = [await each.recv()]
                while heard[-1] != f"Client #{client} says: here":
                    heard.append(await each.recv())
                assert "You wrote: here" in heard
            for client, each in sockets.items():
                await each.send(f"hello of {client}")
            for client, each in sockets.items():
                heard = [await heard_after_here(each) for _ in range(4)]
                says = [f"Client #{other} says: hello of {other}" for other in sockets]
                assert sorted(heard) == [*says, f"You wrote: hello of {client}"]
        for each in (one, two):
            assert await heard_after_here(each) == "Client #3 left the chat"


async def heard_after_here(socket: ClientConnection) -> str:
    """The next message, but for those by which the clients found out that they had joined."""
    while str(text := await socket.recv()).endswith(" says: here"):
        pass
    return str(text)


async def test_page(cluster: Cluster, browser: Browser) -> None:
    a, b, c = cluster("chat_room", instances=3)
    async with browser.window(f"{a}/?id=1", cuttable=True) as one, browser.window(f"{b}/?id=2") as two:
        async with browser.window(f"{c}/?id=3") as three:
            for client, each in enumerate((one, two, three), 1):
                await each.wait_text("#state", "online")
                await each.fill("#message", "Hello!")
                await each.press("#message", "Enter")
                await each.wait_text("#log", f"Client #{client} says: Hello!")
            await three.fill("#message", "I am just looking around.")
            await three.click("#form button")
            for each in (one, two, three):
                await each.wait_text("#log", "Client #3 says: I am just looking around.")
        for each in (one, two):
            await each.wait_text("#log", "Client #3 left the chat")
        assert "You wrote: I" not in await two.text("#log")
        await one.cut()
        await one.wait_text("#state", "offline")
        await one.fill("#message", "kept while offline")
        await one.press("#message", "Enter")
        await one.mend()
        await one.wait_text("#state", "online")
        await one.press("#message", "Enter")
        await two.wait_text("#log", "Client #1 says: kept while offline")
        await one.screenshot("chat_room")
