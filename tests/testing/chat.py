"""A program that is tested with the kit, as a user would write it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Query, Request, WebSocket, WebSocketException
from pydantic import BaseModel

from gateway import Client, Credentials, Gateway, Grant, Settings

SECRET = "a secret of more than thirty-two bytes, as all should be"


class Text(BaseModel):
    text: str


def rooms() -> list[str]:
    return ["lobby"]


def create_app(prefix: str = "") -> FastAPI:
    gateway = Gateway(
        Settings(
            client={
                "token": {"hmac_secret_key": SECRET},
                "allow_anonymous_connect_without_token": True,
                "queue_max_size": 4096,
            }
        )
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        async with gateway.lifespan(app):
            yield {"greeting": "hello"}

    app = FastAPI(lifespan=lifespan)
    app.include_router(gateway.router, prefix=prefix)
    app.state.gateway = gateway
    app.state.gone = []
    decide_connections(app, gateway)
    decide_channels(gateway)
    add_calls(gateway)
    add_http(app, gateway)
    add_sockets(app)
    add_refusals(app)
    add_attached(app, gateway)
    return app


def decide_connections(app: FastAPI, gateway: Gateway) -> None:
    @gateway.on_connect
    async def connect(
        client: Client, hello: Text | None = None, name: Annotated[str, Query()] = ""
    ) -> Credentials | bool | None:
        if hello is not None:
            return Credentials("guest", data=hello)
        if name == "mallory":
            return False
        if name == "nobody":
            raise HTTPException(401)
        if not name:
            return None
        return Credentials(name, data={"via": client.headers.get("x-via"), "cookie": client.cookies.get("c")})

    @gateway.on_disconnect
    async def bye(client: Client) -> None:
        app.state.gone.append(client.user)


def decide_channels(gateway: Gateway) -> None:
    chat = gateway.channel("chat:{room}", history_size=100, history_ttl=60, presence=True, join_leave=True)

    @chat.on_subscribe
    async def join(room: str) -> Grant | bool:
        return False if room == "secret" else Grant(data={"room": room}, push_join_leave=True)

    @chat.on_publish
    async def say(message: Text, room: str) -> Text:
        return Text(text=message.text.upper())

    @chat.on_presence
    async def who() -> None: ...

    @chat.on_history
    async def before() -> None: ...

    gateway.channel("plain:{name}", allow_subscribe_for_client=True, allow_subscribe_for_anonymous=True)


def add_calls(gateway: Gateway) -> None:
    limit = gateway.rate_limit("1/minute", name="limited")

    @gateway.rpc("rooms")
    async def list_rooms(found: Annotated[list[str], Depends(rooms)]) -> list[str]:
        return found

    @gateway.rpc(
        "limited",
    )
    async def limited(_: Annotated[None, Depends(limit)]) -> str:
        return "fine"


def add_http(app: FastAPI, gateway: Gateway) -> None:
    @app.get("/greeting")
    async def greeting(request: Request) -> str:
        return str(request.state.greeting)

    @app.post("/say/{room}")
    async def post(room: str, message: Text) -> None:
        await gateway.publish(f"chat:{room}", message)


def add_sockets(app: FastAPI) -> None:
    @app.websocket("/echo")
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept(websocket.scope["subprotocols"][0] if websocket.scope["subprotocols"] else None)
        while True:
            message = await websocket.receive()
            match message:
                case {"text": "fail"}:
                    raise ValueError("as asked")
                case {"text": "close"}:
                    await websocket.close(4000, "as asked")
                    return
                case {"text": "return"}:
                    return
                case {"text": str(text)}:
                    await websocket.send_text(text)
                case {"bytes": bytes(data)}:
                    await websocket.send_bytes(data)
                case {"type": "websocket.disconnect"}:
                    app.state.gone.append(message["code"])
                    return

    @app.websocket("/ticker")
    async def ticker(websocket: WebSocket) -> None:
        await websocket.accept()
        while True:  # ends when the client does not take any more, or does not give
            await websocket.send_text(await websocket.receive_text())
            if websocket.query_params:
                await websocket.receive()
                await websocket.send_text("still there?")


def add_refusals(app: FastAPI) -> None:
    @app.websocket("/closed")
    async def closed(websocket: WebSocket) -> None:
        raise WebSocketException(1008, "not you")

    @app.websocket("/denied")
    async def denied(websocket: WebSocket) -> None:
        raise HTTPException(404, "no such thing")


def add_attached(app: FastAPI, gateway: Gateway) -> None:
    @app.websocket("/ws/{client_id}")
    async def ws(websocket: WebSocket, client_id: str) -> None:
        async with gateway.attach(websocket, user=client_id) as connection:
            await connection.subscribe("plain:lobby")
            async for text in connection:
                await gateway.publish("plain:lobby", f"{client_id} says: {text}")
