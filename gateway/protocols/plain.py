"""Plain WebSockets: no envelope and no commands; what a client is sent is the data of publications.

In every format a message of the client's is read by ``read``, which is the opposite of what the server sends.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from msgspec import DecodeError
from msgspec.json import Decoder, decode, encode

from gateway.errors import Disconnect, DisconnectCode, Error
from gateway.messages import Command, Publication, Push, Result

UNSUPPORTED_DATA, INVALID_PAYLOAD = 1003, 1007
"""Close codes for messages of a kind, or with a content, that is not the connection's format (RFC 6455, 7.4.1)."""

_string = Decoder(str).decode


class Plain:
    """What the formats have in common: nothing but publications goes to the client."""

    name: ClassVar[str]
    binary: ClassVar[bool] = False
    ping: ClassVar[bytes] = b""
    pong: ClassVar[bytes] = b""
    unidirectional: ClassVar[bool] = False
    omits: ClassVar[bool] = True

    @abstractmethod
    def encode_data(self, publication: Publication) -> bytes:
        """A message. Raises ``Disconnect`` (inappropriate protocol) for data that the format cannot carry."""

    @abstractmethod
    def read(self, message: str | bytes) -> Any:
        """A message of the client's. Raises ``Disconnect`` for what is not in the format."""

    def decode(self, frame: bytes, *, admitted: bool = True) -> list[Command]:
        raise Disconnect(DisconnectCode.BAD_REQUEST)

    def encode_result(self, command_id: int, result: Result) -> bytes:
        raise Disconnect(DisconnectCode.INAPPROPRIATE_PROTOCOL)

    def encode_error(self, command_id: int, error: Error) -> bytes:
        raise Disconnect(DisconnectCode.INAPPROPRIATE_PROTOCOL)

    def encode_push(self, channel: str, push: Push) -> bytes:
        if type(push) is not Publication:
            raise Disconnect(DisconnectCode.INAPPROPRIATE_PROTOCOL)
        return self.encode_data(push)

    def join(self, messages: Sequence[bytes]) -> bytes:
        return b"".join(messages)


class PlainText(Plain):
    """Text: a JSON string arrives as what it says, other data as JSON."""

    name: ClassVar[str] = "plain-text"

    def encode_data(self, publication: Publication) -> bytes:
        return _said(_json(publication))

    def read(self, message: str | bytes) -> str:
        if isinstance(message, bytes):
            raise Disconnect(UNSUPPORTED_DATA, "send text messages")
        return message


class PlainJson(Plain):
    """Each message one JSON value."""

    name: ClassVar[str] = "plain-json"

    def encode_data(self, publication: Publication) -> bytes:
        return _json(publication)

    def read(self, message: str | bytes) -> Any:
        try:
            return decode(message)
        except (DecodeError, UnicodeError, RecursionError) as error:
            raise Disconnect(INVALID_PAYLOAD, "not JSON") from error


class PlainBytes(Plain):
    """Binary messages: binary publications as they are, other data as `PlainText` has it, in UTF-8."""

    name: ClassVar[str] = "plain-bytes"
    binary: ClassVar[bool] = True

    def encode_data(self, publication: Publication) -> bytes:
        return publication.data if publication.binary else _said(_json(publication))

    def read(self, message: str | bytes) -> bytes:
        return message if isinstance(message, bytes) else message.encode()


def shown_data(publication: Publication) -> bytes:
    """Its data, which is JSON; the end of a stream, which has none, is ``{"stream":"done"}``."""
    data = publication.data or b"null"
    if data == b"null" and publication.tags and (end := publication.tags.get("stream")):
        return encode({"stream": end})
    return data


def _json(publication: Publication) -> bytes:
    if publication.binary:
        raise Disconnect(DisconnectCode.INAPPROPRIATE_PROTOCOL)
    return shown_data(publication)


def _said(data: bytes) -> bytes:
    """A JSON string's own text; any other JSON as it is."""
    if not data.startswith(b'"'):
        return data
    try:
        return _string(data).encode()
    except (DecodeError, UnicodeError):  # half a character of two, say, which has no text
        return data
