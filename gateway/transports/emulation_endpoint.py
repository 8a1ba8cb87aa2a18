"""Where the requests of emulation come in.

Source: Centrifuge protocol, "Emulation".
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus

from msgspec import DecodeError, Struct
from msgspec.json import Decoder
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Send

from gateway.config.settings import Settings
from gateway.protocols.protobuf import UNREADABLE, Message, raw, text
from gateway.transports.base import Acceptor
from gateway.transports.cross_origin import CrossOrigin, Headers, Source, body_of, check_size
from gateway.transports.emulation import MOST, Outcome
from gateway.transports.stream_kinds import OCTETS

PATH = "/emulation"

METHODS = ("POST",)

STATUSES = {
    Outcome.TAKEN: HTTPStatus.NO_CONTENT,
    Outcome.UNKNOWN: HTTPStatus.NO_CONTENT,  # its stream has ended, which says it all
    Outcome.TOO_MANY: HTTPStatus.SERVICE_UNAVAILABLE,
    Outcome.NO_NODE: HTTPStatus.NOT_FOUND,
    Outcome.FAILED: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""From 500 on, and at 404, SDKs open another stream. A 429 they pass over: what was commanded would be lost unsaid."""


class EmulationRequest(Struct):
    """Where commands go, and these, as a frame of the stream's protocol."""

    node: str
    session: str
    data: bytes


class _JsonRequest(Struct):
    """The same as it stands in JSON."""

    node: str = ""
    session: str = ""
    data: str = ""


_decode = Decoder(_JsonRequest).decode

Read = Callable[[bytes], EmulationRequest]
"""Raises ``ValueError`` for what is none."""


def read_json(body: bytes) -> EmulationRequest:
    try:
        request = _decode(body)
        return EmulationRequest(request.node, request.session, request.data.encode())
    except (DecodeError, RecursionError) as error:
        raise ValueError("no emulation request") from error


_PROTOBUF = Message(EmulationRequest, node=text(1), session=text(2), data=raw(3))


def read_protobuf(body: bytes) -> EmulationRequest:
    try:
        request: EmulationRequest = _PROTOBUF.decode(body)
    except UNREADABLE as error:
        raise ValueError("no emulation request") from error
    return EmulationRequest(request.node, request.session, bytes(request.data))


READERS: Mapping[str, Read] = {"": read_json, OCTETS: read_protobuf}
"""How requests are read, by their content type; the empty one is for all others."""


def emulation_routes(source: Source, settings: Settings) -> list[Route]:
    """The route, if the settings ask for a stream whose clients need it."""
    if not (settings.http_stream.enabled or settings.sse.enabled):
        return []
    return [Route(PATH, CrossOrigin(source, METHODS, EmulationEndpoint(settings).answer))]


class EmulationEndpoint:
    """Hands on what clients command."""

    def __init__(self, settings: Settings, readers: Mapping[str, Read] = READERS) -> None:
        self._readers = readers
        self._largest = settings.emulation.max_request_body_size
        self._largest_data = settings.client.message_size_limit

    async def answer(self, acceptor: Acceptor, request: Request, headers: Headers, send: Send) -> None:
        """Raises ``HTTPException`` for what cannot be read, and ``ClientDisconnect`` if the client goes before."""
        read = self._readers.get(request.headers.get("content-type", ""), self._readers[""])
        body = await body_of(acceptor, request, self._largest)
        try:
            asked = read(body)
        except ValueError as error:
            raise HTTPException(HTTPStatus.BAD_REQUEST) from error
        check_size(acceptor, request, len(asked.data), self._largest_data)
        elsewhere = acceptor.emulation.is_elsewhere(asked.node)
        if elsewhere and not acceptor.may_search(request.scope):
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE)
        outcome = await acceptor.emulation.hand(asked.node, asked.session, asked.data)
        if elsewhere and outcome is Outcome.UNKNOWN:
            acceptor.missed(request.scope)
        if outcome is Outcome.TOO_MANY:
            text = "%s: commands dropped, more than %d bytes of those before them wait"
            acceptor.refusals.happened("waiting_commands", text, acceptor.address(request.scope), MOST)
        await Response(status_code=STATUSES[outcome], headers=headers)(request.scope, request.receive, send)
