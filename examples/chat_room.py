"""The chat room of FastAPI's tutorial, as a beginner writes it: now on any number of instances.

    uvicorn examples.chat_room:app

Its class ``ConnectionManager`` kept the sockets of one process in a list. The one imported here has the same methods
and reaches the sockets of all processes; two lines differ.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from examples import pages
from gateway import ConnectionManager  # 1: in place of the class

app = FastAPI()
pages.mount(app, "chat_room")

manager = ConnectionManager(app)  # 2


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
