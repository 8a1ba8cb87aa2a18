"""Server-sent events, one way: what a browser's ``EventSource`` reads where WebSockets are blocked.

Source: Centrifuge protocol, "Unidirectional transports", "CORS for HTTP transports"; WHATWG HTML, "Server-sent events".
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from gateway.config.settings import Settings
from gateway.core.wheel import Wheel
from gateway.errors import Disconnect, DisconnectCode
from gateway.protocols.base import Wire
from gateway.protocols.centrifuge_json_uni import CentrifugeJsonUni
from gateway.session import ClientSession
from gateway.transports.admission import Refusal
from gateway.transports.asgi import AsgiTransport
from gateway.transports.base import UNAUTHENTICATED, Acceptor
from gateway.transports.slow_consumer import WriteLimits

PATH = "/connection/uni_sse"

METHODS = ["GET", "POST", "OPTIONS"]

PREFLIGHT = {"Access-Control-Allow-Methods": ", ".join(METHODS), "Access-Control-Max-Age": "300"}

STREAM = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "private, no-cache, no-store, must-revalidate, max-age=0, no-transform",
    "Pragma": "no-cache",
    "X-Accel-Buffering": "no",  # nginx would keep events back until it has a bufferful
}

OPENING = b"\r\n"
"""Begins the stream, so that the client and what stands between see at once that it is there."""

Source = Callable[[], tuple[Acceptor, Wheel]]
"""The acceptor of the node that runs now, and its wheel. Asked for each request: the node may come after the route."""


def event_frame(payload: bytes) -> bytes:
    """Messages, a line each, as one event each."""
    if b"\r" in payload:  # ends a line here, but is mere space in JSON
        payload = payload.replace(b"\r", b"")
    return b"data: %b\n\n" % payload.replace(b"\n", b"\n\ndata: ")


def sse_routes(source: Source, settings: Settings) -> list[Route]:
    """The route, if the settings ask for it. What stands around it must not compress or keep back its response."""
    return [Route(PATH, SseEndpoint(source, settings), methods=METHODS)] if settings.uni_sse.enabled else []


class SseTransport(AsgiTransport):
    """One client's event stream: the body of a response."""

    __slots__ = ("_protocol",)

    name = "sse"

    def __init__(self, protocol: CentrifugeJsonUni, send: Send, wheel: Wheel, limits: WriteLimits) -> None:
        super().__init__(send, wheel, limits)
        self._protocol = protocol

    def message(self, frame: bytes) -> Message:
        return {"type": "http.response.body", "body": frame, "more_body": True}

    def size(self, frame: bytes) -> int:
        return len(frame)

    def farewell(self, reason: Disconnect) -> Message:
        told = reason.code != DisconnectCode.CONNECTION_CLOSED
        body = event_frame(self._protocol.encode_disconnect(reason)) if told else b""
        return {"type": "http.response.body", "body": body, "more_body": False}


class SseEndpoint:
    """A raw ASGI application for event streams."""

    def __init__(self, source: Source, settings: Settings) -> None:
        self._source = source
        self._protocol = CentrifugeJsonUni()
        self._wire = Wire(self._protocol, event_frame)
        self._largest = min(settings.client.message_size_limit, UNAUTHENTICATED)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        acceptor, wheel = self._source()
        request = Request(scope, receive)
        if forbidden := acceptor.forbid(scope):
            await PlainTextResponse(forbidden.body, forbidden.status)(scope, receive, send)
            return
        headers = _cross_origin(request)
        if request.method == "OPTIONS":
            await Response(status_code=HTTPStatus.NO_CONTENT, headers=PREFLIGHT | headers)(scope, receive, send)
            return
        try:
            _admit(acceptor.refuse(scope))
            frame = await self._connect_request(acceptor, request)
            _admit(acceptor.repel(scope))  # the body may have taken its time
        except ClientDisconnect:
            return
        except HTTPException as refusal:
            headers |= refusal.headers or {}
            await Response(status_code=refusal.status_code, headers=headers)(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": Headers(STREAM | headers).raw})
        await send({"type": "http.response.body", "body": OPENING, "more_body": True})
        transport = SseTransport(self._protocol, send, wheel, acceptor.write_limits)
        session = transport.session = acceptor.open(self._wire, transport, scope)
        await _converse(acceptor, transport, session, frame, receive)

    async def _connect_request(self, acceptor: Acceptor, request: Request) -> bytes:
        """The client's one message. Raises ``HTTPException`` for what is none, ``ClientDisconnect`` if it goes."""
        if request.method == "GET":
            frame = bytearray(request.query_params.get("cf_connect", "").encode())
        elif request.method == "POST":
            frame = bytearray()
            async for chunk in request.stream():
                frame += chunk
                if len(frame) > self._largest:
                    break
        else:  # HEAD, which routes let pass with GET
            raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": ", ".join(METHODS)})
        if len(frame) > self._largest:
            acceptor.refusals.happened(
                "message_size",
                "%s: connect of more than %d bytes refused",
                acceptor.address(request.scope),
                self._largest,
            )
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        try:
            self._protocol.decode(bytes(frame))
        except Disconnect as error:
            raise HTTPException(HTTPStatus.BAD_REQUEST) from error
        return bytes(frame)


async def _converse(
    acceptor: Acceptor, transport: SseTransport, session: ClientSession, frame: bytes, receive: Receive
) -> None:
    """Give the session its request, and hold the response open until client or session ends it."""
    try:
        await session.receive(frame)
        while (await receive())["type"] != "http.disconnect":
            pass
    except asyncio.CancelledError:
        if not session.closed:  # cancelled by the server; otherwise by the transport, after its close timeout
            raise
    finally:
        transport.closed()
        acceptor.close(session)


def _admit(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise HTTPException(refusal.status, headers={name.decode(): value.decode() for name, value in refusal.headers})


def _cross_origin(request: Request) -> dict[str, str]:
    """What lets a page of another origin, one that may connect, read the answer."""
    origin = request.headers.get("origin")
    if origin is None:
        return {}
    headers = {"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true", "Vary": "Origin"}
    if asked := request.headers.get("access-control-request-headers"):
        headers["Access-Control-Allow-Headers"] = asked
    return headers
