"""A chat with names, rooms, history, and who is there: the official SDK on the page, one program behind it.

    uvicorn examples.chat:app

A page that was away gets what it missed; one that is new asks for the history by HTTP. Who is there is known for all
instances, and stays right when one of them dies.
"""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import FastAPI, Path, Query
from pydantic import BaseModel, Field

from examples import pages
from gateway import Client, Gateway

gateway = Gateway()
app = FastAPI(lifespan=gateway.lifespan)
app.include_router(gateway.router)
pages.mount(app, "chat")

Room = Annotated[str, Path(pattern=r"^[\w.-]{1,100}$")]
"""A room's name in an address. What no channel may be named is refused there with 422."""


class Text(BaseModel):
    """What a client sends."""

    text: str = Field(min_length=1, max_length=500)


class ChatMessage(Text):
    """What everybody in the room gets. The name is the connection's, whatever a client may claim."""

    username: str
    id: UUID = Field(default_factory=uuid4)
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))


chat = gateway.channel(
    "chat:{room}",
    message=ChatMessage,
    history_size=100,
    history_ttl=86400,
    presence=True,
    allow_presence_for_subscriber=True,
    join_leave=True,
    force_push_join_leave=True,
)


@gateway.on_connect
async def connect(username: Annotated[str, Query(min_length=1, max_length=20)]) -> str:
    """Let everybody in by the name they choose; `examples.jwt_login` asks for a password."""
    return username


@chat.on_subscribe
async def join(room: str) -> None:
    """Every room is open to everybody."""


@chat.on_publish
async def say(room: str, message: Text, client: Client) -> ChatMessage:
    return ChatMessage(username=client.user, text=message.text)


@app.get("/rooms/{room}/messages")
async def messages(room: Room) -> list[ChatMessage]:
    """What was said, oldest first."""
    publications, _ = await chat.at(room=room).history()
    return [publication.data for publication in publications]


@app.get("/rooms/{room}/people")
async def people(room: Room) -> list[str]:
    """Who is there, on all instances."""
    return sorted({info.user for info in (await chat.at(room=room).presence()).values()})
