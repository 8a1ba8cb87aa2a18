"""Requests of pages, also of other origins that may connect: preflights, methods, and headers by which to read answers.

Source: Centrifuge protocol, "CORS for HTTP transports"; Fetch, "CORS protocol".
"""

from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from gateway.transports.base import Acceptor

Source = Callable[[], Acceptor]
"""The acceptor of the node that runs now. Asked for each request: the node may come after the route."""

Headers = dict[str, str]

Answer = Callable[[Acceptor, Request, Headers, Send], Awaitable[None]]
"""Answers a request, with these headers among others, as is an ``HTTPException`` that it raises."""

PREFLIGHT_AGE = 300
"""Seconds for which browsers may keep what a preflight has told."""


class CrossOrigin:
    """A raw ASGI application around what answers requests of some methods."""

    def __init__(self, source: Source, methods: Sequence[str], answer: Answer) -> None:
        self._source = source
        self._methods = methods
        self._allowed = ", ".join((*methods, "OPTIONS"))
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        acceptor, request = self._source(), Request(scope, receive)
        if forbidden := acceptor.forbid(scope):
            await PlainTextResponse(forbidden.body, forbidden.status)(scope, receive, send)
            return
        headers = _readable(request)
        try:
            if request.method == "OPTIONS":
                await self._preflight(headers)(scope, receive, send)
            elif request.method in self._methods:
                await self._answer(acceptor, request, headers, send)
            else:
                raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": self._allowed})
        except ClientDisconnect:
            return
        except HTTPException as refusal:
            headers |= refusal.headers or {}
            await PlainTextResponse(refusal.detail, refusal.status_code, headers)(scope, receive, send)

    def _preflight(self, headers: Headers) -> Response:
        told = {"Access-Control-Allow-Methods": self._allowed, "Access-Control-Max-Age": str(PREFLIGHT_AGE)}
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=told | headers)


async def body_of(acceptor: Acceptor, request: Request, largest: int) -> bytes:
    """The whole of it. Raises ``HTTPException`` 413, and ``ClientDisconnect`` if the client goes."""
    body = bytearray()
    async for part in request.stream():
        body += part
        check_size(acceptor, request, len(body), largest)
    return bytes(body)


def check_size(acceptor: Acceptor, request: Request, size: int, largest: int) -> None:
    """Raises ``HTTPException`` 413 for what is larger."""
    if size > largest:
        text = "%s: request of more than %d bytes to %s refused"
        acceptor.refusals.happened("message_size", text, acceptor.address(request.scope), largest, request.url.path)
        raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The request has more than {largest} bytes.")


def _readable(request: Request) -> Headers:
    """What lets a page of another origin, one that may connect, read the answer."""
    origin = request.headers.get("origin")
    if origin is None:
        return {}
    headers = {"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true", "Vary": "Origin"}
    if asked := request.headers.get("access-control-request-headers"):
        headers["Access-Control-Allow-Headers"] = asked
    return headers
