"""Notifications and alerts, sent by an administrator to users chosen from those who are there, or to all.

    export ADMIN_KEY=$(openssl rand -hex 8) && echo $ADMIN_KEY
    uvicorn examples.notifications:app

Users sign in at `/`, the administrator at `/admin`, with that key; on whichever instances they are. What is sent to a
user who is away waits for a day. Here everybody is who they say; see the JWT example for how to know.
"""

import os
import secrets
from typing import Annotated, Literal

from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.responses import FileResponse
from pydantic import BaseModel, StringConstraints

from examples import pages
from gateway import Client, Credentials, Gateway

gateway = Gateway()
app = FastAPI(lifespan=gateway.lifespan)
app.include_router(gateway.router)
pages.mount(app, "notifications")

ADMIN_KEY = os.environ.get("ADMIN_KEY", "")
if not ADMIN_KEY:
    raise SystemExit("set ADMIN_KEY, the same on all instances")

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{1,20}$")]


class SignIn(BaseModel):
    name: Name


class Notification(BaseModel):
    kind: Literal["notification", "alert"]
    text: Annotated[str, StringConstraints(min_length=1, max_length=500)]


class Sending(Notification):
    users: list[Name] = []
    """Empty for everybody who is there."""


def administrator(x_admin_key: Annotated[str, Header()] = "") -> None:
    if not secrets.compare_digest(x_admin_key.encode(), ADMIN_KEY.encode()):
        raise HTTPException(401)


# Personal channels: what is sent to a user who is away waits here.
inbox = gateway.channel("inbox:{user}", history_size=20, history_ttl="24h", replay=True)
everybody = gateway.channel("everybody", presence=True)


@gateway.on_connect
async def sign_in(who: SignIn) -> Credentials:
    return Credentials(who.name, channels=["everybody"])


@inbox.on_subscribe
async def read(user: str, client: Client) -> bool:
    """Everybody reads the own inbox alone."""
    return user == client.user


@app.get("/admin", include_in_schema=False)
def admin() -> FileResponse:
    return FileResponse(pages.HERE / "pages" / "notifications_admin.html")


@app.get("/users", dependencies=[Depends(administrator)])
async def users() -> list[str]:
    """Who is there, on all instances."""
    return sorted({each.user for each in (await gateway.presence("everybody")).values()})


@app.post("/notifications", dependencies=[Depends(administrator)])
async def notify(sending: Sending) -> None:
    notification = Notification(kind=sending.kind, text=sending.text)
    if sending.users:
        await gateway.broadcast([inbox.name(user=user) for user in sending.users], notification)
    else:
        await gateway.publish("everybody", notification)
