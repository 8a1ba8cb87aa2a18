"""A signed token in the query: whoever has it is known, without a look into any database, until it expires.

    SECRET=$(openssl rand -hex 32) uvicorn examples.signed_token:app

``ann.1767225600.<signature>``: the user, the end of its time, and their HMAC. A token that is none gets 1008, one whose
time has passed 4001, upon which a page fetches another.
"""

import hmac
import os
import time
from typing import Annotated

from fastapi import FastAPI, Query, WebSocket, WebSocketException

from examples import pages
from gateway import Gateway

SECRET = os.environ.get("SECRET", "").encode()
if not SECRET:
    raise SystemExit("set SECRET, the same on all instances")
LIFETIME = int(os.environ.get("LIFETIME", "3600"))

gateway = Gateway()
app = FastAPI(lifespan=gateway.lifespan)
pages.mount(app, "signed_token")


def sign(text: str) -> str:
    return f"{text}.{hmac.digest(SECRET, text.encode(), 'sha256').hex()}"


@app.get("/token")
def token(user: Annotated[str, Query(pattern=r"^\w+$")]) -> str:
    """A token for a user, whom a real program has asked for a password first."""
    return sign(f"{user}.{int(time.time()) + LIFETIME}")


@app.websocket("/ws")
async def chat(websocket: WebSocket, token: str = "") -> None:
    text = token.rpartition(".")[0]
    if not hmac.compare_digest(sign(text).encode(), token.encode()):
        raise WebSocketException(1008, "invalid token")
    user, _, end = text.partition(".")
    async with gateway.attach(websocket, user=user, expires=int(end)) as connection:
        await connection.subscribe("signed")
        await connection.send(f"Welcome, {user}")
        async for message in connection:
            await gateway.publish("signed", f"{user}: {message}")
