"""A node of a notification service for ten million users: docs/ten_million.md says how many, and why so.

    export GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY=… GATEWAY_HTTP_API__KEY=… GATEWAY_REDIS_URL=redis://one
    export CELLS="wss://one.example.com=redis://one wss://two.example.com=redis://two"
    uvicorn examples.ten_million:app --ws gateway.transports.uvicorn_websocket:WebSocketProtocol

A cell is one gateway: some nodes, and the Redis that joins them, which may be one server, several separated by commas,
or, better, a Cluster (redis+cluster://one:6379?addr=two:6379). Each user belongs to one of the cells, by name alone:
nothing is shared between them, so that twice as many cells serve twice as many users. For three million one is enough.
The application's login gives a user a token and the address of the cell. From there backends publish over HTTP,
`POST /api/publish` of any node of the cell, or, in Python, straight into its Redis:

    python -m examples.ten_million alice "Your order has left"
    python -m examples.ten_million --everybody "We close in ten minutes"
"""

import os
import sys
from functools import cache
from hashlib import sha256
from typing import NamedTuple

from fastapi import FastAPI

from gateway import Client, Disconnect, Gateway, Publisher


class Cell(NamedTuple):
    address: str
    """Where its users connect: the balancer in front of its nodes."""
    redis: str
    """Its address, as GATEWAY_REDIS_URL has it."""


HERE = os.environ.get("GATEWAY_REDIS_URL", "redis://127.0.0.1:6379")
CELLS = [Cell(*each.split("=", 1)) for each in os.environ.get("CELLS", f"ws://127.0.0.1:8000={HERE}").split()]


def cell_of(user: str, cells: list[Cell] = CELLS) -> Cell:
    """The user's cell. A further one takes its share of the users from each of the others; the rest stay."""
    return max(cells, key=lambda cell: sha256(f"{cell.address} {user}".encode()).digest())


# An inbox bridges a reconnect, however crowded, and not a night: what is to be read tomorrow is the database's.
INBOX = {"name": "inbox", "history_size": 10, "history_ttl": "10m", "force_recovery": True}
NEWS = {"name": "news", "allow_subscribe_for_client": True}

gateway = Gateway(
    client={
        "subscribe_to_user_personal_channel": {"enabled": True, "personal_channel_namespace": "inbox"},
        "channel_position_check_delay": "2m",  # nobody shares an inbox, and Redis is asked for each
    },
    channel={"namespaces": [INBOX, NEWS]},
)
app = FastAPI(lifespan=gateway.lifespan)
app.include_router(gateway.router)


@gateway.on_connect
async def connect(client: Client) -> None:
    """The token says who it is. In another cell than its own a user would hear nothing, and never know."""
    if cell_of(client.user).redis != HERE:
        raise Disconnect(4500, "another cell")


@cache
def publisher(redis: str) -> Publisher:
    """A publisher with this program's settings, but for the cell's Redis."""
    engine = gateway.settings.engine
    addresses = {"address": tuple(redis.split(","))}
    there = engine.model_copy(update={"type": "redis", "redis": engine.redis.model_copy(update=addresses)})
    return Publisher(gateway.settings.model_copy(update={"engine": there}))


def notify(user: str, text: str) -> None:
    """Send to one user, from a Celery task, a script or a Django view."""
    publisher(cell_of(user).redis).publish_to_user(user, {"text": text})


def announce(text: str) -> None:
    """Send to everybody who subscribes to ``news:all``."""
    for cell in CELLS:
        publisher(cell.redis).publish("news:all", {"text": text})


if __name__ == "__main__":
    whom, message = sys.argv[1:]
    if whom == "--everybody":
        announce(message)
    else:
        notify(whom, message)
