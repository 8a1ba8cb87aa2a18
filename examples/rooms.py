"""Rooms and who is in them, with the tutorial's manager: on any number of instances, without a channel declared.

    uvicorn examples.rooms:app

Who writes gets a receipt in place of what it wrote: the manager leaves its socket out. The receipt comes after the
broadcast, on whichever instance the others are.
"""

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from examples import pages
from gateway import ConnectionManager

app = FastAPI()
pages.mount(app, "rooms")
manager = ConnectionManager(app)


@app.websocket("/ws/{room}/{user}")
async def chat(websocket: WebSocket, room: str, user: str) -> None:
    await manager.connect(websocket, room=room, user=user, format="json")
    await tell_who_is_here(room)
    try:
        while True:
            text = await websocket.receive_text()
            await manager.broadcast({"from": user, "text": text}, room=room, exclude=websocket)
            await manager.send_personal_message({"sent": text}, websocket)
    except WebSocketDisconnect:
        manager.disconnect(websocket)
        await tell_who_is_here(room)


async def tell_who_is_here(room: str) -> None:
    await manager.broadcast({"here": await manager.users(room)}, room=room)
