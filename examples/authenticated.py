"""Authenticated sockets: by a token in the query, and by cookie or token, with a dependency of FastAPI's own.

    uvicorn examples.authenticated:app

Dependencies run before the socket is accepted: who has neither cookie nor token never gets in (1008, which a browser
sees as a handshake refused with 403). Everybody who has opened an item hears of it, on whichever instance.
"""

from typing import Annotated

from fastapi import Cookie, Depends, FastAPI, Path, Query, WebSocket, WebSocketException, status

from examples import pages
from gateway import Gateway

USERS = {"token-of-ann": "ann", "token-of-bob": "bob"}
"""Who has which token, or session. A real program asks its database."""

gateway = Gateway()
app = FastAPI(lifespan=gateway.lifespan)
pages.mount(app, "authenticated")


def known(secret: str | None) -> str:
    """The user who has this token or session."""
    if secret not in USERS:
        raise WebSocketException(status.WS_1008_POLICY_VIOLATION, "no valid token")
    return USERS[secret]


def by_token(token: Annotated[str | None, Query()] = None) -> str:
    return known(token)


def by_cookie_or_token(
    session: Annotated[str | None, Cookie()] = None, token: Annotated[str | None, Query()] = None
) -> str:
    return known(session or token)


@app.websocket("/ws")
async def echo(websocket: WebSocket, user: Annotated[str, Depends(by_token)]) -> None:
    async with gateway.attach(websocket, user=user) as connection:
        async for text in connection:
            await connection.send(f"{user}: {text}")


@app.websocket("/items/{item_id}/ws")
async def item(
    websocket: WebSocket,
    item_id: Annotated[str, Path(pattern=r"^[\w.-]{1,100}$")],  # it becomes part of a channel's name
    user: Annotated[str, Depends(by_cookie_or_token)],
    q: int | None = None,
) -> None:
    channel = f"items/{item_id}"
    # cookies come along, so that the page's origin counts
    async with gateway.attach(websocket, user=user, check_origin=True, channels=[channel]) as connection:
        if q is not None:
            await connection.send(f"Query parameter q is: {q}")
        async for text in connection:
            await gateway.publish(channel, f"{user} wrote: {text}, for item ID: {item_id}")
