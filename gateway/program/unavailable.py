"""What an application answers while the broker is away."""

from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from gateway.errors import BrokerUnavailable
from gateway.program.sockets.attaching import TRY_AGAIN, tell_away
from gateway.transports.base import Acceptor


def answer_unavailable(app: FastAPI, acceptor: Callable[[], Acceptor | None]) -> None:
    """Have routes that let ``BrokerUnavailable`` through close with 1013, or answer 503.

    A handler of the application's own comes first. ``acceptor`` is the gateway's while it runs, which is told.
    """

    async def answer(connection: HTTPConnection, error: Exception) -> Response | None:
        websocket = connection if isinstance(connection, WebSocket) else None
        if (running := acceptor()) is not None:
            tell_away(connection, running, f"closed with {TRY_AGAIN}" if websocket else "answered with 503")
        if websocket:
            with suppress(WebSocketDisconnect, RuntimeError):  # it may be over, whoever has ended it
                await websocket.close(TRY_AGAIN, "try again later")
            return None
        return JSONResponse({"detail": str(error)}, HTTPStatus.SERVICE_UNAVAILABLE, {"retry-after": "1"})

    app.exception_handlers.setdefault(BrokerUnavailable, cast(Any, answer))
