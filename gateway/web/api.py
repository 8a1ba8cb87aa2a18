"""The server API over HTTP: ``POST /api/<method>``, for backends in any language, ``/api/batch`` and ``/api``."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from fastapi.security import APIKeyHeader, APIKeyQuery
from msgspec import Raw

from gateway.config.settings import HTTPAPISettings
from gateway.core.node import Node
from gateway.core.tasks import CHUNK, at_once
from gateway.errors import Error, ErrorCode
from gateway.recurring import Address
from gateway.web import api_messages as api
from gateway.web.api_document import BATCH, EXAMPLES, ONE, described, envelope, schema, wrapped
from gateway.web.api_keys import APIKeys, is_api_key
from gateway.web.bodies import BODY_LIMIT, Read, body_of, json_response, reader
from gateway.web.methods import METHODS, READERS, error_body, measured
from gateway.web.one_endpoint import OneCommand, one_endpoint, read_commands
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


_KEYS = (
    APIKeyHeader(name="X-API-Key", auto_error=False, description="The setting http_api.key"),
    APIKeyHeader(name="Authorization", scheme_name="Authorization", auto_error=False, description="`apikey <key>`"),
    APIKeyQuery(name="api_key", auto_error=False, description="For callers that can set no header"),
)
"""Where a key may stand: what the document says of it."""

_REPLIES = {"type": "object", "properties": {"replies": {"type": "array", "items": {"type": "object"}}}}
_REPLY = {"type": "object", "properties": {"id": {"type": "integer"}, "result": {}, "error": schema(api.ErrorBody)}}


def api_router(
    node: Callable[[], Node], settings: Callable[[], HTTPAPISettings], around: Around = unchanged
) -> APIRouter:
    """All methods, with the API key checked first; ``node`` and ``settings`` are asked for with each request."""
    router = APIRouter(prefix="/api", tags=["server API"], dependencies=[Depends(each) for each in _KEYS])
    keys = APIKeys(settings)

    def add(name: str, path: str, read: Read, answer: Answer, described: dict[str, Any]) -> None:
        endpoint = _endpoint(node, keys, read, around(name, answer))
        router.add_api_route(path, endpoint, methods=["POST"], response_class=Response, **described)

    for name in METHODS:
        add(name, f"/{name}", READERS[name], _single(node, name, settings), _described(name))
    batch = described("batch", api.BatchRequest, _REPLIES, BATCH)
    add("batch", "/batch", reader(api.BatchRequest), _batch(node), batch)
    add("commands", "", read_commands, one_endpoint(node), described("commands", OneCommand, _REPLY, ONE))
    return router


@cache  # nobody changes it, and to make it takes a third of the time of a router
def _described(name: str) -> dict[str, Any]:
    method = METHODS[name]
    return described(name, method.request, envelope(method.result), wrapped(EXAMPLES[name]))


def _single(node: Callable[[], Node], name: str, settings: Callable[[], HTTPAPISettings]) -> Answer:
    async def answer(command: Any, request: Request) -> Response:
        try:
            return json_response({"result": await measured(node(), name, command)})
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


def _endpoint(node: Callable[[], Node], keys: APIKeys, read: Read, answer: Answer) -> Endpoint:
    """Checks the key, and reads the body; what cannot be read gets status 400, and what is wrong with it."""

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
    authorization = request.headers.get("authorization", "")
    if "x-api-key" in request.headers or "api_key" in request.query_params or is_api_key(authorization):
        what = "its key is not http_api.key"
    else:
        what = "its Authorization does not begin with apikey" if authorization else "it has no key"
    _refused(node, request, what)
    return Response(status_code=401)


def _refused(node: Node, request: Request, why: str) -> None:
    caller = Address(request.client.host if request.client else "")
    node.refusals.happened("api_key", "%s: call of %s refused: %s", caller, request.scope["path"], why)


async def _one_of_batch(node: Node, command: dict[str, Raw]) -> dict[str, Any]:
    try:
        if len(command) > 1:
            raise Error(ErrorCode.BAD_REQUEST, "bad request: a command is an object with one method")
        [(name, request)] = command.items() or [("", Raw(b"null"))]
        if name not in METHODS or bytes(request) == b"null":
            raise Error(ErrorCode.METHOD_NOT_FOUND)
        return {name: await measured(node, name, READERS[name](bytes(request)))}
    except Error as error:
        return {"error": error_body(error)}
