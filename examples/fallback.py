"""A page that still hears where WebSockets are blocked: the same channel, read by `EventSource`.

    uvicorn examples.fallback:app

The page tries a WebSocket first. Where a proxy lets none through, it listens to server-sent events, one way; what it
has to say it sends by plain HTTP in either case. Returning after a break, it gets what it missed in either case, too.
"""

from typing import Annotated

from fastapi import FastAPI
from pydantic import BaseModel, StringConstraints

from examples import pages
from gateway import Gateway

gateway = Gateway(uni_sse={"enabled": True})
app = FastAPI(lifespan=gateway.lifespan)
app.include_router(gateway.router)
pages.mount(app, "fallback")

news = gateway.channel("news", history_size=100)


class Headline(BaseModel):
    text: Annotated[str, StringConstraints(min_length=1, max_length=200)]


@gateway.on_connect
async def connect() -> None:
    """Everybody may connect."""


@news.on_subscribe
async def read() -> None:
    """Everybody may read."""


@app.post("/news")
async def write(headline: Headline) -> None:
    await gateway.publish("news", headline)
