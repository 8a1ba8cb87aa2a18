"""The Centrifuge protocol in JSON for clients that only listen: one connect request up, bare pushes down.

Source: Centrifuge client protocol v2, "Unidirectional transports".
"""

from collections.abc import Sequence
from typing import ClassVar

from msgspec import DecodeError
from msgspec.json import Decoder

from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode
from gateway.messages import Command, ConnectRequest, Push, Result
from gateway.protocols.centrifuge_json import (
    UNREADABLE,
    budget_of_mending,
    check_first,
    encode_disconnect,
    encode_push,
    encode_result,
    mended,
    unreadable,
)

REFUSALS: dict[int, DisconnectCode] = {
    ErrorCode.TOKEN_EXPIRED: DisconnectCode.EXPIRED,
    ErrorCode.EXPIRED: DisconnectCode.EXPIRED,
    ErrorCode.TOO_MANY_REQUESTS: DisconnectCode.TOO_MANY_REQUESTS,
    ErrorCode.PERMISSION_DENIED: DisconnectCode.PERMISSION_DENIED,
}
"""What becomes of an error that answers connect; any other is an internal one."""


class CentrifugeJsonUni:
    """Centrifuge JSON, unidirectional. Holds no state: one instance serves every connection."""

    name: ClassVar[str] = "centrifuge-json-uni"
    binary: ClassVar[bool] = False
    ping: ClassVar[bytes] = b"{}"
    pong: ClassVar[bytes] = b"{}"
    unidirectional: ClassVar[bool] = True
    omits: ClassVar[bool] = False

    def __init__(self) -> None:
        self._decode = Decoder(ConnectRequest | None).decode

    def decode(self, frame: bytes, *, admitted: bool = False) -> list[Command]:
        """The connect request, empty for ``null`` or nothing. Raises ``Disconnect`` (bad request)."""
        frame = frame or b"null"
        if not admitted:
            check_first(frame)
        try:
            frame.decode()  # its data is passed on unread
            try:
                request = self._decode(frame)
            except DecodeError:
                budget = budget_of_mending(frame, admitted=admitted)
                request = self._decode(mended(frame, ConnectRequest, budget))
        except UNREADABLE as error:
            raise unreadable(error) from error
        return [Command(1, request or ConnectRequest())]

    def encode_result(self, command_id: int, result: Result) -> bytes:
        """The connect push: there is no other command to answer."""
        return b"{%b}" % encode_result(result)

    def encode_error(self, command_id: int, error: Error) -> bytes:
        """Raises ``Disconnect``: there are no replies, so an error ends the connection."""
        raise Disconnect(REFUSALS.get(error.code, DisconnectCode.INTERNAL)) from error

    def encode_push(self, channel: str, push: Push) -> bytes:
        return encode_push(channel, push)

    def encode_disconnect(self, reason: Disconnect) -> bytes:
        return encode_disconnect(reason)

    def join(self, messages: Sequence[bytes]) -> bytes:
        return b"\n".join(messages)
