"""The server API over HTTP: ``POST /api/<method>``, for backends in any language."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from fastapi.security import APIKeyHeader
from msgspec import DecodeError

from gateway.config.settings import HTTPAPISettings
from gateway.core.node import Node
from gateway.core.tasks import CHUNK, at_once
from gateway.errors import Error, ErrorCode
from gateway.recurring import Address
from gateway.web import api_messages as api
from gateway.web.api_keys import APIKeys
from gateway.web.bodies import BODY_LIMIT, body_of, json_response, reader
from gateway.web.methods import METHODS, error_body
from gateway.web.pages import is_of_another

_STATUS: dict[int, int] = {
    ErrorCode.INTERNAL: 500,
    ErrorCode.UNKNOWN_CHANNEL: 404,
    ErrorCode.METHOD_NOT_FOUND: 404,
    ErrorCode.BAD_REQUEST: 400,
    ErrorCode.NOT_AVAILABLE: 400,
    ErrorCode.UNRECOVERABLE_POSITION: 416,
    ErrorCode.CONCURRENT_PAGINATION: 409,
}


_OF_ANOTHER = "permission denied: no page of another origin may call while nobody is asked for a key: set http_api.key"

Endpoint = Callable[[Request], Awaitable[Response]]

Answer = Callable[[Any, Request], Awaitable[Response]]
"""Answers a call that knows the key, and whose body has been read."""

Around = Callable[[str, Answer], Answer]
"""What stands around a method, by its name."""


def unchanged(_name: str, answer: Answer) -> Answer:
    """With nothing around it."""
    return answer


def api_router(
    node: Callable[[], Node], settings: Callable[[], HTTPAPISettings], around: Around = unchanged
) -> APIRouter:
    """All methods, with the API key checked first; ``node`` and ``settings`` are asked for with each request."""
    key = APIKeyHeader(name="X-API-Key", auto_error=False, description="The setting http_api.key")
    router = APIRouter(prefix="/api", tags=["server API"], dependencies=[Depends(key)])
    keys = APIKeys(settings)
    for name, method in METHODS.items():
        answer = around(name, _single(node, name, settings))
        _add(router, name, method.request, _envelope(method.result), _endpoint(node, keys, method.request, answer))
    replies = {"type": "object", "properties": {"replies": {"type": "array", "items": {"type": "object"}}}}
    batch = _endpoint(node, keys, api.BatchRequest, around("batch", _batch(node)))
    _add(router, "batch", api.BatchRequest, replies, batch)
    return router


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


def _single(node: Callable[[], Node], name: str, settings: Callable[[], HTTPAPISettings]) -> Answer:
    async def answer(command: Any, request: Request) -> Response:
        try:
            return json_response({"result": await _measured(node(), name, command)})
        except Error as error:
            if "transport" in (settings().error_mode, request.headers.get("x-centrifugo-error-mode")):
                return json_response(error_body(error), _STATUS.get(error.code, 500))
            return json_response({"error": error_body(error)})

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
        return json_response({"replies": replies})

    return answer


def _endpoint(node: Callable[[], Node], keys: APIKeys, kind: type[Any], answer: Answer) -> Endpoint:
    """Checks the key, and reads the body as ``kind``: anything else gets status 400, and what is wrong with it."""
    read = reader(kind)

    async def endpoint(request: Request) -> Response:
        key = keys.find(request)
        if key is None:
            return _unknown(node(), request)
        if not key and is_of_another(request):
            return _strange(node(), request)
        body = await body_of(request, BODY_LIMIT)
        try:
            command = read(body)
        except Error as error:
            return json_response({"error": error_body(error)}, 400)
        return await answer(command, request)

    return endpoint


def _strange(node: Node, request: Request) -> Response:
    """Where nobody is asked for a key: for a page of somebody else, which anyone who looks at it would call with."""
    _refused(node, request, "a page of another origin asks, and http_api.insecure lets everybody call")
    return json_response({"error": error_body(Error(ErrorCode.PERMISSION_DENIED, _OF_ANOTHER))}, 403)


def _unknown(node: Node, request: Request) -> Response:
    """For a caller who does not know the key, and is told nothing; the log is."""
    given = {"x-api-key", "authorization"} & set(request.headers.keys()) or "api_key" in request.query_params
    what = "its key is not http_api.key" if given else "it has no key"
    _refused(node, request, what)
    return Response(status_code=401)


def _refused(node: Node, request: Request, why: str) -> None:
    caller = Address(request.client.host if request.client else "")
    node.refusals.happened("api_key", "%s: call of %s refused: %s", caller, request.scope["path"], why)


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
