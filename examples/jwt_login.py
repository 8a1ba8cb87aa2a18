"""Login by password, then a JWT: the official SDK connects with it and fetches a new one before it expires.

    GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY=$(openssl rand -hex 32) uvicorn examples.jwt_login:app

The gateway verifies connection tokens by itself, without a handler. The session is a cookie that no script can read:
what a page has at hand is a connection token, of use for a minute.
"""

import hashlib
import hmac
import os
import time
from typing import Annotated

import jwt
from fastapi import Cookie, FastAPI, HTTPException, Response
from pydantic import BaseModel

from examples import pages
from gateway import Client, Gateway

LIFETIME = int(os.environ.get("LIFETIME", "60"))

gateway = Gateway()
app = FastAPI(lifespan=gateway.lifespan)
app.include_router(gateway.router)
pages.mount(app, "jwt_login")
lobby = gateway.channel("lobby", allow_subscribe_for_client=True)

CONNECTIONS = gateway.settings.client.token.hmac_secret_key
if not CONNECTIONS:
    raise SystemExit("set GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY, the same on all instances")
SESSIONS = hmac.digest(CONNECTIONS.encode(), b"sessions", "sha256")
"""Another key, lest one kind of token count as the other."""


def digest(name: str, password: str) -> bytes:
    return hashlib.scrypt(password.encode(), salt=name.encode(), n=2**14, r=8, p=1)


USERS = {name: digest(name, f"password of {name}") for name in ("ann", "bob")}


class Login(BaseModel):
    name: str
    password: str


class Said(BaseModel):
    name: str = ""
    text: str


@app.post("/login", status_code=204)
def login(form: Login, response: Response) -> None:
    """Check the password; in a thread, for the digest takes its time."""
    if not hmac.compare_digest(digest(form.name, form.password), USERS.get(form.name, b"")):
        raise HTTPException(401, "wrong name or password")
    session = jwt.encode({"sub": form.name, "exp": int(time.time()) + 86400}, SESSIONS)
    response.set_cookie("session", session, httponly=True, samesite="strict")


@app.get("/token")
async def token(session: Annotated[str, Cookie()] = "") -> str:
    """A connection token for who is logged in."""
    try:
        user = jwt.decode(session, SESSIONS, algorithms=["HS256"])["sub"]
    except jwt.PyJWTError:
        raise HTTPException(403, "please log in") from None
    return jwt.encode({"sub": user, "exp": int(time.time()) + LIFETIME}, CONNECTIONS)


@lobby.on_publish
async def say(message: Said, client: Client) -> Said:
    return Said(name=client.user, text=message.text)
