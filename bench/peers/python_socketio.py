"""python-socketio with its Redis manager: rooms, WebSocket transport only."""

import os
from typing import Any

import socketio

server = socketio.AsyncServer(
    async_mode="asgi",
    transports=["websocket"],
    client_manager=socketio.AsyncRedisManager(os.environ["BENCH_REDIS"], redis_options={"socket_timeout": None}),
    cors_allowed_origins="*",
)


@server.on("subscribe")
async def subscribe(sid: str, channel: str) -> None:
    await server.enter_room(sid, channel)


@server.on("publish")
async def publish(sid: str, channel: str, data: Any) -> None:
    await server.emit("message", data, room=channel)


app = socketio.ASGIApp(server)
