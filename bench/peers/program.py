"""An application with the gateway in it, which decides who may connect by a header of the handshake."""

from typing import Annotated

from fastapi import Depends, FastAPI, Header

from gateway import Gateway

INBOX = {"name": "inbox", "history_size": 100, "history_ttl": "60s", "force_recovery": True}

gateway = Gateway(
    channel={
        "without_namespace": {"allow_subscribe_for_client": True},
        "namespaces": [{**INBOX, "allow_subscribe_for_client": True}],
    },
)
app = FastAPI(lifespan=gateway.lifespan)
app.include_router(gateway.router)


async def user(host: Annotated[str, Header()]) -> str:
    return f"somebody at {host}"


@gateway.on_connect
async def connect(user: Annotated[str, Depends(user)]) -> str:
    return user
