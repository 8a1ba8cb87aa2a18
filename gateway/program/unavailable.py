"""What an application answers while the broker is away."""

import logging
from contextlib import suppress
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from gateway.errors import BrokerUnavailable
from gateway.program.sockets.attaching import turned_away

log = logging.getLogger(__name__)


def answer_unavailable(app: FastAPI) -> None:
    """Have routes that let ``BrokerUnavailable`` through close with 1013, or answer 503.

    A handler of the application's own comes first.
    """
    app.exception_handlers.setdefault(BrokerUnavailable, cast(Any, _turn_away))


async def _turn_away(connection: HTTPConnection, error: Exception) -> Response | None:
    if isinstance(connection, WebSocket):
        refusal = turned_away(connection)
        with suppress(WebSocketDisconnect, RuntimeError):  # it may be over, whoever has ended it
            await connection.close(refusal.code, refusal.reason)
        return None
    log.warning("%s: answered with 503, for the broker is away", connection.url.path)
    return JSONResponse({"detail": str(error)}, HTTPStatus.SERVICE_UNAVAILABLE, {"retry-after": "1"})
