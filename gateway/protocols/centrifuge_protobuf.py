"""The Centrifuge protocol in Protocol Buffers: messages behind their length, many a frame.

Source: Centrifuge client protocol v2, "Two encodings" and "Messages".
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from gateway.errors import Disconnect, DisconnectCode, Error
from gateway.messages import Command, Pong, Publication, Push, Result
from gateway.protocols.base import FIELDS_AT_FIRST, PushForms
from gateway.protocols.centrifuge_fields import COMMAND, PUBLICATION, PUSHES, RESULTS
from gateway.protocols.protobuf import (
    ENDLESS,
    LEN,
    SHORT,
    UNREADABLE,
    Malformed,
    Message,
    delimited,
    read_varint,
    varint,
)

Write = Callable[[Any], bytes]


def _by_struct(numbered: dict[int, Message]) -> dict[type[Any], tuple[bytes, Write]]:
    """How a struct is written as a field: the field's tag, and what comes behind its length."""
    return {each.struct: (varint(number << 3 | LEN), each.write) for number, each in numbered.items()}


_RESULTS = _by_struct(RESULTS)
_PUSHES = PushForms(_by_struct(PUSHES))
_publication = PUBLICATION.write
_read_command = COMMAND.read

_PONG = Command(0, Pong())


def encode_push(channel: str, push: Push) -> bytes:
    """A push without its envelope. Raises ``Disconnect`` (inappropriate protocol) for what has no form here."""
    if type(push) is Publication:
        if not channel:  # a message to one client
            return b"\x42" + delimited(b"\x0a" + delimited(push.data) if push.data else b"")
        return b"\x12" + delimited(channel.encode()) + b"\x22" + delimited(_publication(push))
    tag, write = _PUSHES[type(push)]
    body = tag + delimited(write(push))
    return b"\x12" + delimited(channel.encode()) + body if channel else body


def encode_disconnect(reason: Disconnect) -> bytes:
    """The same of the push that is the last."""
    return b"\x5a" + delimited(b"\x08" + varint(reason.code) + b"\x12" + delimited(reason.reason.encode()))


def budget(admitted: bool) -> Iterator[object]:
    """How many fields may be read in a frame."""
    return ENDLESS if admitted else iter(range(FIELDS_AT_FIRST))


def _commands(frame: bytes, budget: Iterator[object]) -> Iterator[Command]:
    """What stands behind each length. Raises one of `UNREADABLE`, or ``Disconnect``."""
    at, end = 0, len(frame)
    for _ in budget:
        if at >= end:
            break
        size = frame[at]
        at += 1
        if size > 127:
            size, at = read_varint(frame, at - 1, SHORT)
        stop = at + size
        if stop > end:
            raise Malformed("cut off")
        yield (
            _read_command(frame, at, stop, None, 0, budget).command() if size else _PONG
        )  # of which a frame may have thousands
        at = stop
    if at < end:
        raise Malformed("too many commands")


class CentrifugeProtobuf:
    """Centrifuge Protobuf. Holds no state: one instance serves every connection."""

    name: ClassVar[str] = "centrifuge-protobuf"
    binary: ClassVar[bool] = True
    ping: ClassVar[bytes] = b"\x00"
    pong: ClassVar[bytes] = b"\x00"
    unidirectional: ClassVar[bool] = False
    omits: ClassVar[bool] = False

    def decode(self, frame: bytes, *, admitted: bool = True) -> list[Command]:
        """The commands of one frame. Raises ``Disconnect`` (bad request) if there is none, or what is no command."""
        try:
            commands = list(_commands(frame, budget(admitted)))
        except UNREADABLE as error:
            raise Disconnect(DisconnectCode.BAD_REQUEST) from error
        if not commands:
            raise Disconnect(DisconnectCode.BAD_REQUEST)
        return commands

    def encode_result(self, command_id: int, result: Result) -> bytes:
        tag, write = _RESULTS[type(result)]
        return delimited(b"\x08" + varint(command_id) + tag + delimited(write(result)))

    def encode_error(self, command_id: int, error: Error) -> bytes:
        body = b"\x08" + varint(error.code) + b"\x12" + delimited(error.message.encode())
        if error.temporary:
            body += b"\x18\x01"
        return delimited(b"\x08" + varint(command_id) + b"\x12" + delimited(body))

    def encode_push(self, channel: str, push: Push) -> bytes:
        return delimited(b"\x22" + delimited(encode_push(channel, push)))

    def encode_disconnect(self, reason: Disconnect) -> bytes:
        """The last push, where the transport itself cannot say why it ends."""
        return delimited(b"\x22" + delimited(encode_disconnect(reason)))

    def join(self, messages: Sequence[bytes]) -> bytes:
        return messages[0] if len(messages) == 1 else b"".join(messages)
