"""A connection manager keyed by user: a message to a user reaches each of its sockets, on whichever instance.

    uvicorn examples.user_manager:app

In the tutorials' form it is ``dict[int, WebSocket]``: one socket for each user, of one process.
"""

from fastapi import FastAPI, WebSocket
from pydantic import BaseModel, ValidationError

from examples import pages
from gateway import ConnectionManager, Gateway

gateway = Gateway()
app = FastAPI(lifespan=gateway.lifespan)
pages.mount(app, "user_manager")
manager = ConnectionManager(gateway, "users")


class Message(BaseModel):
    to: int
    text: str


@app.websocket("/ws/{user_id}")
async def chat(websocket: WebSocket, user_id: int) -> None:
    await manager.connect(websocket, user=user_id, format="json")
    await manager.broadcast({"text": f"User {user_id} is here"})
    async for sent in websocket.iter_text():
        try:
            message = Message.model_validate_json(sent)
        except ValidationError:
            await manager.send_personal_message({"text": 'Send, for example, {"to": 7, "text": "hello"}'}, websocket)
            continue
        await manager.send_to_user(message.to, {"from": user_id, "text": message.text})


@app.post("/users/{user_id}/messages")
async def notify(user_id: int, text: str) -> None:
    """What any other part of the program says to a user."""
    await manager.send_to_user(user_id, {"text": text})
