"""Streams one way whose refusals are statuses of HTTP: the response's head waits until connect is decided.

Source: Centrifugo, "uni_sse.connect_code_to_http_response".
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple

from starlette.types import Message, Send

from gateway.config.settings.transports import StreamSettings, UniStreamSettings
from gateway.core.wheel import Wheel
from gateway.errors import Disconnect, Error
from gateway.protocols.base import StreamProtocol
from gateway.protocols.centrifuge_json_uni import CentrifugeJsonUni
from gateway.protocols.centrifuge_protobuf_uni import CentrifugeProtobufUni
from gateway.transports.handshake import content
from gateway.transports.slow_consumer import WriteLimits
from gateway.transports.stream import StreamTransport, StreamWire


class _ErrorsAsTheyAre:
    """Ends the connection with an error's own code, which is for `HeldResponse` alone."""

    def encode_error(self, command_id: int, error: Error) -> bytes:
        raise Disconnect(error.code, error.message) from error


class JsonUni(_ErrorsAsTheyAre, CentrifugeJsonUni):
    """In JSON, so."""


class ProtobufUni(_ErrorsAsTheyAre, CentrifugeProtobufUni):
    """In Protocol Buffers, so."""


class Answer(NamedTuple):
    """How a client is refused; without a body it is told the reason."""

    status: int
    body: str


Answers = Mapping[int, Answer]
"""By the code of the error or disconnect."""

_OTHERWISE = Answer(HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.INTERNAL_SERVER_ERROR.phrase)


def json_uni(section: UniStreamSettings) -> StreamProtocol:
    return JsonUni() if section.connect_code_to_http_response.enabled else CentrifugeJsonUni()


def protobuf_uni(section: UniStreamSettings) -> StreamProtocol:
    return ProtobufUni() if section.connect_code_to_http_response.enabled else CentrifugeProtobufUni()


def answers(section: StreamSettings) -> Answers | None:
    """None if streams begin at once."""
    if not isinstance(section, UniStreamSettings) or not section.connect_code_to_http_response.enabled:
        return None
    return {
        each.code: Answer(each.to.status_code, each.to.body)
        for each in section.connect_code_to_http_response.transforms
    }


class HeldResponse:
    """An ASGI ``send`` that keeps the head back until there is a body, or a refusal in its place."""

    def __init__(self, send: Send, head: Message, opening: bytes, answers: Answers, begun: Callable[[], None]) -> None:
        """``begun`` is called when the head of a stream has left, and not of a refusal."""
        self._send = send
        self._begun = begun
        self._head: Message | None = head
        self._opening = opening
        self._answers = answers
        self.reason: Disconnect | None = None
        """Why the stream ends, as soon as it does."""

    async def __call__(self, message: Message) -> None:
        head, self._head = self._head, None
        if head is not None and self.reason is not None:
            head, message = self._refusal(head, self.reason)
        elif head is not None:
            message = {**message, "body": self._opening + message["body"]}
        if head is not None:
            await self._send(head)
            if self.reason is None:
                self._begun()
        await self._send(message)

    def _refusal(self, head: Message, reason: Disconnect) -> tuple[Message, Message]:
        answer = self._answers.get(reason.code, _OTHERWISE)
        about, body = content(answer.status, (answer.body or reason.reason).encode())
        headers = [each for each in head["headers"] if each[0].lower() != b"content-type"] + about
        return (
            {**head, "status": answer.status, "headers": headers},
            {"type": "http.response.body", "body": body, "more_body": False},
        )


class HeldStreamTransport(StreamTransport):
    """One client's stream, or its refusal."""

    __slots__ = ("_held",)

    def __init__(self, wire: StreamWire, held: HeldResponse, wheel: Wheel, limits: WriteLimits) -> None:
        super().__init__(wire, held, wheel, limits)
        self._held = held

    def farewell(self, reason: Disconnect) -> Message:
        self._held.reason = reason
        return super().farewell(reason)
