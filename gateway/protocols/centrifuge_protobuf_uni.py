"""The Centrifuge protocol in Protocol Buffers for clients that only listen: one connect request up, bare pushes down.

Source: Centrifuge client protocol v2, "Unidirectional transports".
"""

from collections.abc import Sequence
from typing import ClassVar

from gateway.errors import Disconnect, DisconnectCode, Error
from gateway.messages import Command, ConnectResult, Push, Result
from gateway.protocols.centrifuge_fields import CONNECT_REQUEST, PUSHES
from gateway.protocols.centrifuge_json_uni import REFUSALS
from gateway.protocols.centrifuge_protobuf import budget, encode_disconnect, encode_push
from gateway.protocols.protobuf import UNREADABLE, delimited

_connect = next(each.write for each in PUSHES.values() if each.struct is ConnectResult)
_read_request = CONNECT_REQUEST.read


class CentrifugeProtobufUni:
    """Centrifuge Protobuf, unidirectional. Holds no state: one instance serves every connection."""

    name: ClassVar[str] = "centrifuge-protobuf-uni"
    binary: ClassVar[bool] = True
    ping: ClassVar[bytes] = b"\x00"
    pong: ClassVar[bytes] = b"\x00"
    unidirectional: ClassVar[bool] = True
    omits: ClassVar[bool] = False

    def decode(self, frame: bytes, *, admitted: bool = False) -> list[Command]:
        """The connect request, which has no length before it. Raises ``Disconnect`` (bad request)."""
        try:
            return [Command(1, _read_request(frame, 0, len(frame), None, 0, budget(admitted)))]
        except UNREADABLE as error:
            raise Disconnect(DisconnectCode.BAD_REQUEST) from error

    def encode_result(self, command_id: int, result: Result) -> bytes:
        """The connect push: there is no other command to answer."""
        return delimited(b"\x52" + delimited(_connect(result)))

    def encode_error(self, command_id: int, error: Error) -> bytes:
        """Raises ``Disconnect``: there are no replies, so an error ends the connection."""
        raise Disconnect(REFUSALS.get(error.code, DisconnectCode.INTERNAL)) from error

    def encode_push(self, channel: str, push: Push) -> bytes:
        return delimited(encode_push(channel, push))

    def encode_disconnect(self, reason: Disconnect) -> bytes:
        """The last push, where the transport itself cannot say why it ends."""
        return delimited(encode_disconnect(reason))

    def join(self, messages: Sequence[bytes]) -> bytes:
        return b"".join(messages)
