"""JWT as FastAPI's tutorial has it: one dependency tells routes and sockets who it is, and tokens do not last.

    SECRET=$(openssl rand -hex 32) uvicorn examples.oauth2:app

Before a token ends, the official SDK asks the page for another and sends it (`on_refresh`). Where that fails, as in a
laptop that sleeps, the connection ends: the SDK comes back with the token it has, hears that it has expired, asks for
another, and the page gets what it has missed. The back room takes an invitation, which is a token of its own.

The page asks with the password again; `examples.jwt_login` has a session in a cookie instead, and hashes.
"""

import os
import secrets
import time
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import OAuth2PasswordBearer
from pydantic import BaseModel

from examples import pages
from gateway import Client, Credentials, Gateway, Grant, TokenExpired

SECRET = os.environ.get("SECRET", "")
if not SECRET:
    raise SystemExit("set SECRET, the same on all instances")
LIFETIME = int(os.environ.get("LIFETIME", "60"))
PASSWORDS = {name: f"password of {name}" for name in ("ann", "bob")}

gateway = Gateway()
app = FastAPI(lifespan=gateway.lifespan)
app.include_router(gateway.router)
pages.mount(app, "oauth2")

lobby = gateway.channel("lobby", history_size=100, allow_subscribe_for_client=True)
room = gateway.channel("room:{name}", history_size=100)
bearer = OAuth2PasswordBearer(tokenUrl="login")


class Login(BaseModel):
    name: str
    password: str


class User(BaseModel):
    name: str
    until: int


class Say(BaseModel):
    text: str


def sign(user: str, **claims: Any) -> str:
    return jwt.encode({"sub": user, "exp": int(time.time()) + LIFETIME, **claims}, SECRET)


def read(token: str) -> dict[str, Any]:
    try:
        return jwt.decode(token, SECRET, algorithms=["HS256"])
    except jwt.ExpiredSignatureError:
        raise TokenExpired from None
    except jwt.PyJWTError:
        raise HTTPException(401, "this is no token of ours", {"WWW-Authenticate": "Bearer"}) from None


def current_user(token: Annotated[str, Depends(bearer)]) -> User:
    claims = read(token)
    if "room" in claims:
        raise HTTPException(401, "this is an invitation")
    return User(name=claims["sub"], until=claims["exp"])


CurrentUser = Annotated[User, Depends(current_user)]


@app.post("/login")
def login(form: Login) -> str:
    if not secrets.compare_digest(form.password.encode(), PASSWORDS.get(form.name, secrets.token_hex()).encode()):
        raise HTTPException(401, "wrong name or password")
    return sign(form.name)


@app.post("/invitations/{name}")
def invite(name: str, user: CurrentUser) -> str:
    return sign(user.name, room=name)


@app.post("/say", status_code=204)
async def say(message: Say, user: CurrentUser) -> None:
    await gateway.publish("lobby", f"{user.name}: {message.text}")


@gateway.on_connect
@gateway.on_refresh
async def connect(user: CurrentUser) -> Credentials:
    return Credentials(user.name, expires=user.until)


@room.on_subscribe
@room.on_refresh
async def enter(name: str, token: Annotated[str, Depends(bearer)], client: Client) -> Grant:
    """The token is the subscription's, if it has one; and else the connection's, which is no invitation."""
    invitation = read(token)
    if (invitation["sub"], invitation.get("room")) != (client.user, name):
        raise HTTPException(403, "you are not invited")
    return Grant(expires=invitation["exp"])
