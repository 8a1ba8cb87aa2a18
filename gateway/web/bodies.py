"""Bodies of calls by HTTP: JSON in, JSON out."""

from collections.abc import Callable
from typing import Any

import msgspec
from fastapi import Request
from fastapi.responses import Response
from msgspec import DecodeError, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from gateway.errors import Error, ErrorCode
from gateway.protocols.centrifuge_json import encode
from gateway.protocols.nulls import without_nulls

BODY_LIMIT = 16 * 1024 * 1024
"""Bytes of a request. A broadcast to thousands of channels fits."""

Read = Callable[[bytes], Any]


def reader(kind: type[Any]) -> Read:
    """Reads a body as ``kind``. Raises ``Error`` (bad request) that says what is wrong with it."""
    decode = msgspec.json.Decoder(kind).decode

    def read(body: bytes) -> Any:
        try:
            body.decode()  # payloads are passed on unread, so nobody later would find a broken character
            try:
                return decode(body)
            except ValidationError:
                return decode(without_nulls(body, kind))
        except UnicodeDecodeError:
            raise _unreadable("the body is not UTF-8") from None
        except ValidationError as error:
            raise _unreadable(str(error)) from error
        except (DecodeError, RecursionError) as error:
            raise _unreadable(f"the body is not JSON: {error}") from error

    return read


LOST = (
    "the server has lost the body, for the request offers an upgrade; start uvicorn with "
    "--http gateway.transports.uvicorn_dispatch:first_protocol, or have the caller offer none"
)


async def body_of(request: Request, limit: int) -> bytes:
    """The whole of it. Raises ``HTTPException``: 413 for more than ``limit`` bytes, 400 if the server has lost it."""
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise HTTPException(413)
            parts.append(part)
    except ClientDisconnect:
        raise HTTPException(400) from None  # nobody is there to read it, and it is not our failure
    if not size and request.headers.get("upgrade") and request.headers.get("content-length", "chunked") != "0":
        # what is left of it would be run as a request
        raise HTTPException(400, LOST, {"Connection": "close"})
    return b"".join(parts)


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(encode(value), status, headers, media_type="application/json")


def _unreadable(detail: str) -> Error:
    return Error(ErrorCode.BAD_REQUEST, f"bad request: {detail}")
