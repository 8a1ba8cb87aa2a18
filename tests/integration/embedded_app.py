"""An application with the gateway inside, for any server: ``app``, and ``outer`` with two gateways in odd places."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, ClassVar

from fastapi import Cookie, Depends, FastAPI, HTTPException, Query, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from uvicorn_worker import UvicornWorker  # type: ignore[import-untyped]

from gateway import Client, ConnectionManager, Credentials, Gateway, Grant, Settings
from gateway.config.sources import load


class FastWorker(UvicornWorker):  # type: ignore[misc]
    """For gunicorn, which has no option for uvicorn's."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        **UvicornWorker.CONFIG_KWARGS,
        "ws": "gateway.transports.uvicorn_websocket:WebSocketProtocol",
    }


NEWS, CLOCK = "news", "clock"


class Say(BaseModel):
    text: str


class Said(Say):
    """What everybody gets. The author is the connection's, whatever a client may claim."""

    author: str


async def current_user(session: Annotated[str, Cookie()] = "", user: Annotated[str, Query(max_length=20)] = "") -> str:
    """Who asks: by cookie, or by query as where cookies do not reach."""
    if not (session or user):
        raise HTTPException(401, "sign in first")
    return session or user


User = Annotated[str, Depends(current_user)]


def add_handlers(gateway: Gateway) -> None:
    """What clients may do."""

    @gateway.on_connect
    async def connect(user: User) -> Credentials:
        return Credentials(user, channels=[NEWS])

    gateway.channel(NEWS)
    chat = gateway.channel("chat:{room}", history_size=100, presence=True, allow_presence_for_subscriber=True)

    @chat.on_subscribe
    async def join(room: str, user: User) -> Grant:
        return Grant(data=f"{user} in {room}")

    @chat.on_publish
    async def say(message: Say, client: Client) -> Said:
        return Said(text=message.text, author=client.user)

    @gateway.rpc("rooms")
    async def rooms() -> list[str]:
        return sorted(await gateway.channels("chat:*"))

    clock = gateway.channel(CLOCK, allow_subscribe_for_client=True)

    @clock.live
    async def tick() -> AsyncIterator[str]:
        """Tells on which node it runs."""
        while True:
            yield gateway.settings.node.name
            await asyncio.sleep(0.1)


def add_routes(app: FastAPI, gateway: Gateway) -> None:
    """Plain sockets, and what is asked by HTTP."""
    manager = ConnectionManager(gateway)

    @app.websocket("/plain/{room}")
    async def plain(websocket: WebSocket, room: str, user: User) -> None:
        async with gateway.attach(websocket, user=user, format="json") as connection:
            await connection.subscribe(f"chat:{room}")
            async for text in connection:
                await gateway.publish(f"chat:{room}", Said(text=text, author=user))

    @app.websocket("/tutorial/{client_id}")
    async def tutorial(websocket: WebSocket, client_id: int) -> None:
        await manager.connect(websocket)
        try:
            while True:
                await manager.broadcast(f"Client #{client_id} says: {await websocket.receive_text()}")
        except WebSocketDisconnect:
            manager.disconnect(websocket)
            await manager.broadcast(f"Client #{client_id} left the chat")

    @app.get("/heard/{channel}")
    async def heard(channel: str) -> StreamingResponse:
        """A response that has no end by itself."""

        async def lines() -> AsyncIterator[bytes]:
            async with gateway.listen(channel) as publications:
                yield b"listening\n"
                async for publication in publications:
                    yield publication.raw + b"\n"

        return StreamingResponse(lines())

    @app.get("/people/{room}")
    async def people(room: str) -> list[str]:
        return sorted(info.user for info in (await gateway.presence(f"chat:{room}")).values())

    @app.post("/notices/{channel}")
    async def notice(channel: str, message: Say) -> None:
        await gateway.publish(channel, Said(text=message.text, author="server"))


gateway = Gateway()
app = FastAPI(lifespan=gateway.lifespan)
app.include_router(gateway.router)
add_handlers(gateway)
add_routes(app, gateway)


# — two gateways: one under a prefix, one in a mounted application —


def apart(prefix: str) -> Settings:
    """As everywhere else, on keys of its own."""
    usual = load()
    redis = usual.engine.redis.model_copy(update={"prefix": prefix + usual.engine.redis.prefix})
    return usual.model_copy(update={"engine": usual.engine.model_copy(update={"redis": redis})})


first, second = Gateway(), Gateway(apart("second-"))
add_handlers(first)
add_handlers(second)

inner = FastAPI()
inner.include_router(second.router)
add_routes(inner, second)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """For what is mounted: nobody runs its own. What is included brings its own along."""
    async with second.lifespan(inner):
        yield


outer = FastAPI(lifespan=lifespan)
outer.include_router(first.router, prefix="/rt")
add_routes(outer, first)
outer.mount("/inner", inner)
