"""The server API over HTTP: ``POST /api/<method>``, for backends in any language."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from fastapi.security import APIKeyHeader
from msgspec import DecodeError, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from gateway.config.settings import HTTPAPISettings
from gateway.core.node import Node
from gateway.core.tasks import CHUNK, at_once
from gateway.errors import Error, ErrorCode
from gateway.protocols.centrifuge_json import encode
from gateway.web import api_messages as api
from gateway.web.methods import METHODS, error_body

BODY_LIMIT = 16 * 1024 * 1024
"""Bytes of a request. A broadcast to thousands of channels fits."""

_STATUS: dict[int, int] = {
    ErrorCode.INTERNAL: 500,
    ErrorCode.UNKNOWN_CHANNEL: 404,
    ErrorCode.METHOD_NOT_FOUND: 404,
    ErrorCode.BAD_REQUEST: 400,
    ErrorCode.NOT_AVAILABLE: 400,
    ErrorCode.UNRECOVERABLE_POSITION: 416,
    ErrorCode.CONCURRENT_PAGINATION: 409,
}


def api_router(node: Callable[[], Node], settings: HTTPAPISettings) -> APIRouter:
    """All methods, with the API key checked first; ``node`` is asked for with each request."""
    key = APIKeyHeader(name="X-API-Key", auto_error=False, description="The setting http_api.key")
    router = APIRouter(prefix="/api", tags=["server API"], dependencies=[Depends(key)])
    for name, method in METHODS.items():
        answer = _single(node, name, settings)
        _add(router, name, method.request, _envelope(method.result), _endpoint(settings, method.request, answer))
    replies = {"type": "object", "properties": {"replies": {"type": "array", "items": {"type": "object"}}}}
    _add(router, "batch", api.BatchRequest, replies, _endpoint(settings, api.BatchRequest, _batch(node)))
    return router


def _guard(settings: HTTPAPISettings) -> Callable[[Request], bool]:
    """Whether a caller knows the key."""
    expected = settings.key.encode()

    def admits(request: Request) -> bool:
        if settings.insecure:
            return True
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        given = request.headers.get("x-api-key") or (credentials.strip() if scheme.lower() == "apikey" else "")
        # header values come decoded from Latin-1, query values from UTF-8
        sent = given.encode("latin-1") if given else request.query_params.get("api_key", "").encode()
        return bool(expected) and hmac.compare_digest(sent, expected)

    return admits


Endpoint = Callable[[Request], Awaitable[Response]]


def _add(router: APIRouter, name: str, request: type, answer: dict[str, Any], endpoint: Endpoint) -> None:
    router.add_api_route(
        f"/{name}",
        endpoint,
        methods=["POST"],
        name=name,
        summary=(request.__doc__ or name).strip().splitlines()[0],
        response_class=Response,
        responses={
            200: {"description": "The result or an error", "content": {"application/json": {"schema": answer}}},
            400: {"description": "The body is not a request of this method"},
            401: {"description": "Wrong or missing API key"},
        },
        openapi_extra={
            "requestBody": {"required": True, "content": {"application/json": {"schema": _schema(request)}}}
        },
    )


Answer = Callable[[Any, Request], Awaitable[Response]]


def _single(node: Callable[[], Node], name: str, settings: HTTPAPISettings) -> Answer:
    async def answer(command: Any, request: Request) -> Response:
        try:
            return _json({"result": await _measured(node(), name, command)})
        except Error as error:
            if "transport" in (settings.error_mode, request.headers.get("x-centrifugo-error-mode")):
                return _json(error_body(error), _STATUS.get(error.code, 500))
            return _json({"error": error_body(error)})

    return answer


def _batch(node: Callable[[], Node]) -> Answer:
    async def answer(batch: api.BatchRequest, _request: Request) -> Response:
        if batch.parallel:
            replies = await at_once(lambda command: _one_of_batch(node(), command), batch.commands)
        else:
            replies = []
            for count, command in enumerate(batch.commands, 1):
                replies.append(await _one_of_batch(node(), command))
                if count % CHUNK == 0:
                    await asyncio.sleep(0)
        return _json({"replies": replies})

    return answer


def _endpoint(settings: HTTPAPISettings, kind: type[Any], answer: Answer) -> Endpoint:
    """Checks the key, and reads the body as ``kind``: anything else gets status 400, and what is wrong with it."""
    admits = _guard(settings)
    decode = msgspec.json.Decoder(kind).decode

    async def endpoint(request: Request) -> Response:
        if not admits(request):
            return Response(status_code=401)
        body = await _body(request)
        try:
            body.decode()  # payloads are passed on unread, so nobody later would find a broken character
            command = decode(body)
        except UnicodeDecodeError:
            return _unreadable("the body is not UTF-8")
        except ValidationError as error:
            return _unreadable(str(error))
        except (DecodeError, RecursionError) as error:
            return _unreadable(f"the body is not JSON: {error}")
        return await answer(command, request)

    return endpoint


def _unreadable(detail: str) -> Response:
    return _json({"error": api.ErrorBody(ErrorCode.BAD_REQUEST, f"bad request: {detail}")}, 400)


async def _one_of_batch(node: Node, command: dict[str, Any]) -> dict[str, Any]:
    try:
        if len(command) != 1:
            raise Error(ErrorCode.BAD_REQUEST, "bad request: a command is an object with one method")
        [(name, request)] = command.items()
        method = METHODS.get(name)
        if method is None:
            raise Error(ErrorCode.METHOD_NOT_FOUND)
        try:
            decoded = msgspec.json.decode(request, type=method.request)
        except (DecodeError, RecursionError) as error:
            raise Error(ErrorCode.BAD_REQUEST, f"bad request: {error}") from error
        return {name: await _measured(node, name, decoded)}
    except Error as error:
        return {"error": error_body(error)}


async def _measured(node: Node, name: str, command: Any) -> Any:
    """What the method answers; its time is kept, and its errors are counted."""
    began = node.wheel.clock()
    try:
        return await METHODS[name].call(node, command)
    except Error as error:
        node.metrics.api_errors[name, error.code] += 1
        raise
    finally:
        node.metrics.api_time[name].observe(node.wheel.clock() - began)


async def _body(request: Request) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > BODY_LIMIT:
                raise HTTPException(413)
            parts.append(part)
    except ClientDisconnect:
        raise HTTPException(400) from None  # nobody is there to read it, and it is not our failure
    return b"".join(parts)


def _json(value: Any, status: int = 200) -> Response:
    return Response(encode(value), status, media_type="application/json")


def _envelope(result: type) -> dict[str, Any]:
    return {"type": "object", "properties": {"result": _schema(result), "error": _schema(api.ErrorBody)}}


def _schema(kind: type) -> dict[str, Any]:
    """JSON schema of a message, complete in itself: a router cannot add components to the document."""
    (schema,), components = msgspec.json.schema_components(
        [kind], schema_hook=lambda _payload: {"description": "any JSON"}, ref_template="{name}"
    )

    def inline(value: Any) -> Any:
        if isinstance(value, dict):
            reference = value.get("$ref")
            return inline(components[reference]) if reference else {key: inline(each) for key, each in value.items()}
        return [inline(each) for each in value] if isinstance(value, list) else value

    complete: dict[str, Any] = inline(schema)
    return complete
