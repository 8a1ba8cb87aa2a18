"""A chat whose page is written in React, with the official JavaScript SDK, and built with Vite.

    npm ci --prefix examples/react && npm run build --prefix examples/react
    uvicorn examples.react_chat:app

The page is `examples/react`; the two hooks that it needs are in `src/gateway.ts`. While you write it, run
`npm run dev --prefix examples/react` beside uvicorn.
"""

from typing import Annotated

from fastapi import FastAPI
from pydantic import BaseModel, StringConstraints

from examples import pages
from gateway import Client, Credentials, Gateway

gateway = Gateway()
app = FastAPI(lifespan=gateway.lifespan)
app.include_router(gateway.router)
pages.mount_built(app, "react")


class SignIn(BaseModel):
    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=20)]


class Say(BaseModel):
    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


class Said(Say):
    name: str


room = gateway.channel(
    "room:{name}",
    history_size=50,
    replay=True,
    presence=True,
    allow_presence_for_subscriber=True,
    join_leave=True,
    force_push_join_leave=True,
)


@gateway.on_connect
async def connect(who: SignIn) -> Credentials:
    return Credentials(who.name)


@room.on_subscribe
async def enter(name: str) -> None:
    """Every room is open."""


@room.on_publish
async def say(name: str, message: Say, client: Client) -> Said:
    return Said(name=client.user, text=message.text)
