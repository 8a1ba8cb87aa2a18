"""One room for two SDKs: pusher-js and centrifuge in one channel, which has one conversation and one roster.

    SECRET=... uvicorn examples.two_sdks:app

Who may come in is decided once, for both: pusher-js asks `gateway.pusher.auth` before it subscribes, the other SDK
connects and subscribes. All instances have the same SECRET, for example the output of ``openssl rand -hex 32``.
"""

import os
from typing import Annotated

from fastapi import FastAPI, Query
from pydantic import BaseModel, Field

from examples import pages
from gateway import Credentials, Gateway

secret = os.environ.get("SECRET")
if not secret:
    raise SystemExit("set SECRET, the same on all instances, for example SECRET=$(openssl rand -hex 32)")

gateway = Gateway(
    pusher={
        "enabled": True,
        "apps": [{"id": "1", "key": "two-sdks", "secret": secret, "enable_client_messages": True}],
    }
)
app = FastAPI(lifespan=gateway.lifespan)
app.include_router(gateway.router)
app.include_router(gateway.pusher.auth)
pages.mount(app, "two_sdks")


class Line(BaseModel):
    """What somebody says. Who it is, the channel knows."""

    text: str = Field(min_length=1, max_length=500)


lobby = gateway.channel(
    "presence-lobby",
    message=Line,
    presence=True,
    allow_presence_for_subscriber=True,
    join_leave=True,
    force_push_join_leave=True,
)


@gateway.on_connect
async def connect(name: Annotated[str, Query(pattern=r"^[\w.-]{1,20}$")]) -> Credentials[dict[str, str]]:
    """Let everybody in by the name they choose; `examples.jwt_login` asks for a password."""
    return Credentials(name, info={"name": name})


@lobby.on_subscribe
async def join() -> None:
    """The lobby is open to everybody."""


@lobby.on_publish
async def say(line: Line) -> None:
    """What clients say is passed on, if it is a line: pusher-js calls that a client event."""


@app.post("/announcements")
async def announce(line: Line) -> None:
    """Both SDKs hear what the program says itself."""
    await gateway.pusher.trigger("presence-lobby", "announcement", line)
