"""The ConnectionManager of the tutorials with Redis pub/sub between workers: one listener task per process."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

CHANNEL = "bench"


class ConnectionManager:
    def __init__(self) -> None:
        self.active_connections: list[WebSocket] = []
        self.redis = Redis.from_url(os.environ["BENCH_REDIS"])

    async def connect(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self.active_connections.append(websocket)

    def disconnect(self, websocket: WebSocket) -> None:
        self.active_connections.remove(websocket)

    async def broadcast(self, message: str) -> None:
        await self.redis.publish(CHANNEL, message)

    async def listen(self, pubsub: PubSub) -> None:
        async for message in pubsub.listen():
            if message["type"] == "message":
                text = message["data"].decode()
                for connection in self.active_connections:
                    await connection.send_text(text)


manager = ConnectionManager()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with manager.redis.pubsub() as pubsub:
        await pubsub.subscribe(CHANNEL)
        listener = asyncio.create_task(manager.listen(pubsub))
        yield
        listener.cancel()
    await manager.redis.aclose()


app = FastAPI(lifespan=lifespan)


@app.websocket("/ws")
async def endpoint(websocket: WebSocket) -> None:
    await manager.connect(websocket)
    try:
        while True:
            await manager.broadcast(await websocket.receive_text())
    except WebSocketDisconnect:
        manager.disconnect(websocket)
