"""The tutorial's connection manager, for an application as it stands."""

import logging
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Self, cast

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from gateway.errors import BrokerUnavailable
from gateway.program.gateway import Gateway
from gateway.program.sockets import manager
from gateway.program.sockets.attaching import turned_away

STATE = "gateway_of_managers"
"""What it is called in ``app.state``."""

ADVICE = "ConnectionManager needs to know the application, or its Gateway: write manager = ConnectionManager(app)"

log = logging.getLogger(__name__)


class ConnectionManager(manager.ConnectionManager):
    """Keeps the WebSockets of a route, and broadcasts to all of them, on whichever node they are.

    What FastAPI's tutorial writes for one process; the program that uses it stays as it is ::

        manager = ConnectionManager(app)

    Given an application, it makes a `Gateway` with settings from file and environment, one for all managers, and runs
    it in the application's lifespan; given a `Gateway`, it takes that. See `sockets.manager.ConnectionManager` for the
    rest. Where the application has no handler for `BrokerUnavailable`, one closes WebSockets with 1013 and answers HTTP
    with 503.
    """

    def __new__(cls, *args: Any, **options: Any) -> Self:
        if not args and "home" not in options:
            raise TypeError(ADVICE)
        return super().__new__(cls)

    def __init__(self, home: FastAPI | Gateway, channel: str = "broadcast") -> None:
        if not isinstance(home, FastAPI | Gateway):
            raise TypeError(f"{ADVICE}, not {home!r}")
        super().__init__(_gateway_of(home) if isinstance(home, FastAPI) else home, channel)


def _gateway_of(app: FastAPI) -> Gateway:
    """One for all managers of the application."""
    gateway: Gateway | None = getattr(app.state, STATE, None)
    if gateway is None:
        gateway = Gateway()
        gateway.run_in(app)
        app.exception_handlers.setdefault(BrokerUnavailable, cast(Any, _turn_away))
        setattr(app.state, STATE, gateway)
    return gateway


async def _turn_away(connection: HTTPConnection, error: Exception) -> Response | None:
    if isinstance(connection, WebSocket):
        refusal = turned_away(connection)
        with suppress(WebSocketDisconnect, RuntimeError):  # it may be over, whoever has ended it
            await connection.close(refusal.code, refusal.reason)
        return None
    log.warning("%s: answered with 503, for the broker is away", connection.url.path)
    return JSONResponse({"detail": str(error)}, HTTPStatus.SERVICE_UNAVAILABLE, {"retry-after": "1"})
