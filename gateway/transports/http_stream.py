"""Clients that hear by a response that does not end: HTTP streams and server-sent events, both ways or one way.

Source: Centrifuge protocol, "http_stream", "SSE (bidirectional)", "Unidirectional transports".
"""

import asyncio
import random
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from http import HTTPStatus

from starlette.datastructures import Headers as HeaderList
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Message, Send

from gateway.config.settings import Settings, StreamSettings
from gateway.core.wheel import Timer
from gateway.errors import Disconnect, DisconnectCode
from gateway.protocols.base import StreamProtocol
from gateway.protocols.centrifuge_json import CentrifugeJson
from gateway.protocols.centrifuge_protobuf import CentrifugeProtobuf
from gateway.session import ClientSession
from gateway.transports.admission import Refusal
from gateway.transports.base import UNAUTHENTICATED, Acceptor
from gateway.transports.cross_origin import CrossOrigin, Headers, Source, body_of, check_size
from gateway.transports.direct_writing import DirectWriting
from gateway.transports.held_response import HeldResponse, HeldStreamTransport, answers, json_uni, protobuf_uni
from gateway.transports.raw import CLOSE_TIMEOUT
from gateway.transports.raw_response import RawResponse, chunk, raw_response
from gateway.transports.stream import StreamTransport, StreamWire
from gateway.transports.stream_kinds import HTTP_STREAM, OCTETS, SSE, UNCHANGED, UNI_HTTP_STREAM, UNI_SSE, StreamKind

_NO_COMMAND = "The connect command is missing: a GET has it in its query, as cf_connect."
_NO_REQUEST = (
    'This is no connect request, in cf_connect of the query or the body of a POST: for example {"token": "..."}.'
)

Protocols = Mapping[str, StreamProtocol]
"""What is spoken, by the content type of the request; the empty one is for all others."""

LONGEST_ELSEWHERE = 24 * 60 * 60
"""Seconds that a stream lasts on a server that is not ours, which may never tell that the client has gone.

Uvicorn's own class does not if there is a request behind the stream, and who only listens answers no ping.
"""


def stream_routes(source: Source, settings: Settings) -> list[Route]:
    """The routes that the settings ask for. What stands around them must not compress or keep back their responses."""
    json, stream, sse = CentrifugeJson(), settings.uni_http_stream, settings.uni_sse
    served: list[tuple[StreamKind, StreamSettings, Protocols]] = [
        (HTTP_STREAM, settings.http_stream, {"": json, OCTETS: CentrifugeProtobuf()}),
        (SSE, settings.sse, {"": json}),
        (UNI_HTTP_STREAM, stream, {"": json_uni(stream), OCTETS: protobuf_uni(stream)}),
        (UNI_SSE, sse, {"": json_uni(sse)}),
    ]
    return [
        Route(kind.path, CrossOrigin(source, kind.methods, StreamEndpoint(kind, protocols, section, settings).open))
        for kind, section, protocols in served
        if section.enabled
    ]


class DirectStreamTransport(DirectWriting):
    """One client's stream, written past the server. Satisfies `session.Transport` and `raw_response.Overseer`."""

    __slots__ = ("_ending", "_send", "_timer", "_wire", "name")

    _connection: RawResponse

    def __init__(self, wire: StreamWire, response: RawResponse, send: Send, acceptor: Acceptor) -> None:
        super().__init__(response, acceptor.wheel, acceptor.write_limits)
        self.name = wire.kind.name
        self._wire = wire
        self._send = send
        self._ending = False
        self._timer: Timer | None = None

    def close(self, reason: Disconnect) -> None:
        if self._ending:
            return
        self._ending = True
        if self._open and (farewell := self._wire.farewell(reason)):
            self._connection.write(farewell)
        self._shut()
        self._timer = self._wheel.after(CLOSE_TIMEOUT, self._connection.abort)
        self.session.node.spawn(self._end())

    def lose(self) -> None:
        self._ending = True
        self._shut()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    closed = lose

    async def _end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


class StreamEndpoint:
    """Opens streams of one kind."""

    def __init__(self, kind: StreamKind, protocols: Protocols, section: StreamSettings, settings: Settings) -> None:
        self._kind = kind
        self._protocols = protocols
        self._answers = answers(section)
        self._portable = {each: StreamWire(kind, each, direct=False) for each in protocols.values()}
        self._direct = {each: StreamWire(kind, each, direct=True) for each in protocols.values()}
        self._largest = min(section.max_request_body_size, settings.client.message_size_limit, UNAUTHENTICATED)

    async def open(self, acceptor: Acceptor, request: Request, headers: Headers, send: Send) -> None:
        """Answer with a stream. Raises ``HTTPException`` for who may not come in, ``ClientDisconnect`` if it goes."""
        _admit(acceptor.refuse(request.scope))
        protocol = self._protocols.get(request.headers.get("content-type", ""), self._protocols[""])
        frame = await self._first_frame(acceptor, request, protocol)
        _admit(acceptor.repel(request.scope))  # the body may have taken its time
        head = {"Content-Type": self._kind.content_type(protocol), **UNCHANGED, **headers}
        closes = "close" in request.headers.get("connection", "").lower()
        if request.scope["http_version"] == "1.1" and not closes:  # HTTP/2 has no such header
            head["Connection"] = "keep-alive"
        start: Message = {"type": "http.response.start", "status": HTTPStatus.OK, "headers": HeaderList(head).raw}
        response = raw_response(request.scope)
        outlast = response.outlast if response is not None else lambda: None
        if self._answers is not None:
            held = HeldResponse(send, start, self._kind.opening, self._answers, outlast)
            wire, limits = self._portable[protocol], acceptor.write_limits
            await self._converse(acceptor, request, HeldStreamTransport(wire, held, acceptor.wheel, limits), frame)
            return
        await send(start)
        outlast()
        if response is not None and response.ready():
            await self._converse_directly(acceptor, request, protocol, frame, response, send)
        else:
            if self._kind.opening:
                await send({"type": "http.response.body", "body": self._kind.opening, "more_body": True})
            transport = StreamTransport(self._portable[protocol], send, acceptor.wheel, acceptor.write_limits)
            await self._converse(acceptor, request, transport, frame)

    async def _first_frame(self, acceptor: Acceptor, request: Request, protocol: StreamProtocol) -> bytes:
        """What the client says to begin with. Raises ``HTTPException`` for what is nothing to begin a stream for."""
        if request.method == "GET":
            text = request.query_params.get("cf_connect", "")
            check_size(acceptor, request, len(frame := text.encode()), self._largest)
        else:
            frame = await body_of(acceptor, request, self._largest)
        if not protocol.unidirectional:
            if not frame and request.method == "GET":
                raise HTTPException(HTTPStatus.BAD_REQUEST, _NO_COMMAND)
            return frame  # what is no command ends the stream, with a code that clients understand
        try:
            protocol.decode(frame)
        except Disconnect as error:
            raise HTTPException(HTTPStatus.BAD_REQUEST, _NO_REQUEST) from error
        return frame

    async def _converse(self, acceptor: Acceptor, request: Request, transport: StreamTransport, frame: bytes) -> None:
        session = transport.session = acceptor.open(transport.wire, transport, request.scope)
        with ExitStack() as meanwhile:
            if raw_response(request.scope) is None:
                lasts = LONGEST_ELSEWHERE * random.uniform(0.5, 1)  # noqa: S311  spreads, hides nothing
                moved = partial(session.disconnect, Disconnect(DisconnectCode.FORCE_RECONNECT))
                meanwhile.callback(acceptor.wheel.after(lasts, moved).cancel)
            await _carry_on(acceptor, transport, session, frame, request)

    async def _converse_directly(
        self,
        acceptor: Acceptor,
        request: Request,
        protocol: StreamProtocol,
        frame: bytes,
        response: RawResponse,
        send: Send,
    ) -> None:
        """On our own server: nothing of the response waits for the program's side any more, but its end."""
        wire = self._direct[protocol]
        if self._kind.opening:
            response.write(chunk(self._kind.opening))
        transport = DirectStreamTransport(wire, response, send, acceptor)
        session = transport.session = acceptor.open(wire, transport, request.scope)
        response.attach(transport)
        await _carry_on(acceptor, transport, session, frame, request)


async def _carry_on(
    acceptor: Acceptor,
    transport: StreamTransport | DirectStreamTransport,
    session: ClientSession,
    frame: bytes,
    request: Request,
) -> None:
    """Give the session its first frame, and hold the response open until client or session ends it."""
    try:
        if session.wire.emulated:
            acceptor.emulation.take(session.session_id, frame)
        else:
            await session.receive(frame)
        while (await request.receive())["type"] != "http.disconnect":
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
