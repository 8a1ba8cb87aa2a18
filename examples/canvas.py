"""A canvas to draw on together: what is drawn stays, and everybody sees the others' cursors.

    uvicorn examples.canvas:app

Each address such as `/#lobby` is a canvas of its own. Strokes travel in pieces while they are drawn, and are kept for
those who come later. Cursors are kept nowhere, and whoever moves one does not get it back.
"""

from typing import Annotated

from fastapi import FastAPI
from pydantic import BaseModel, Field, StringConstraints

from examples import pages
from gateway import Client, Credentials, Gateway, Message

gateway = Gateway()
app = FastAPI(lifespan=gateway.lifespan)
app.include_router(gateway.router)
pages.mount(app, "canvas")

Share = Annotated[float, Field(ge=0, le=1)]
"""A part of the canvas's width or height, for screens differ."""
Colour = Annotated[str, StringConstraints(pattern=r"^#[0-9a-f]{6}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=20)]


class Person(BaseModel):
    name: Name
    colour: Colour


class Stroke(BaseModel):
    """A piece of a line."""

    colour: Colour
    width: Annotated[float, Field(gt=0, le=40)]
    points: Annotated[list[tuple[Share, Share]], Field(min_length=1, max_length=200)]


class Cursor(BaseModel):
    x: Share
    y: Share


class Clear(BaseModel):
    canvas: str = Field(pattern=r"^[^:/]+$")  # what may stand for {canvas} below


drawing = gateway.channel("drawing:{canvas}", history_size=10_000, history_ttl="24h", replay=True)
cursors = gateway.channel("cursors:{canvas}", join_leave=True, force_push_join_leave=True)


@gateway.on_connect
async def connect(person: Person) -> Credentials:
    return Credentials(person.name, info=person)


@drawing.on_subscribe
@cursors.on_subscribe
async def look(canvas: str) -> None:
    """Everybody may."""


@drawing.on_publish
async def draw(canvas: str, stroke: Stroke) -> Stroke:
    """Goes to whoever draws as well, so that all pages come to the same picture whatever crosses on the way."""
    return stroke


@cursors.on_publish
async def point(canvas: str, cursor: Cursor, client: Client) -> Message:
    return Message(cursor, exclude=client)


@gateway.rpc("clear")
async def clear(wish: Clear) -> None:
    channel = drawing.name(canvas=wish.canvas)
    await gateway.remove_history(channel)
    await gateway.publish(channel, {"clear": True})
