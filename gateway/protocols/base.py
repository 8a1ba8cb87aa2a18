"""A wire protocol: bytes to commands, replies and pushes to bytes. No network here."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from gateway.errors import Disconnect, DisconnectCode, Error
from gateway.messages import Command, Push, Result

_T = TypeVar("_T")

FRAME_SIZE = 131072
"""Bytes of messages joined into one frame at most: popular client libraries refuse frames over 1 MiB."""

OBJECTS_AT_FIRST, FIELDS_AT_FIRST = 8192, 10240
"""What a frame of a client may have that has not been let in, in JSON and in Protobuf. Each takes a quarter of a
microsecond or more, even of two bytes. A connect request that recovers 1,000 subscriptions has 8,000 fields.
"""


class WireProtocol(Protocol):
    """One instance serves all connections that speak it; it holds no state of theirs."""

    name: ClassVar[str]
    """What operators call it: ``centrifuge-json``, ``plain-text``."""
    binary: ClassVar[bool]
    """Whether frames are binary. Then payloads in commands may be anything, and are JSON elsewhere."""
    ping: ClassVar[bytes]
    pong: ClassVar[bytes]
    """The usual bytes of a pong, so that it is known before any parsing."""
    unidirectional: ClassVar[bool]
    """Whether clients only listen: they answer no ping, and are told the session by which the API may name them."""
    omits: ClassVar[bool]
    """Whether clients go without what it cannot carry; otherwise they are sent away."""

    def decode(self, frame: bytes, *, admitted: bool = True) -> list[Command]:
        """The commands of one frame, at least one. Raises ``Disconnect`` (bad request).

        What has not been ``admitted`` yet is read as far as `OBJECTS_AT_FIRST` or `FIELDS_AT_FIRST` goes.
        """

    def encode_result(self, command_id: int, result: Result) -> bytes: ...

    def encode_error(self, command_id: int, error: Error) -> bytes:
        """Raises ``Disconnect`` where clients can be told in no other way."""

    def encode_push(self, channel: str, push: Push) -> bytes:
        """Raises ``Disconnect`` (inappropriate protocol) for data that this protocol cannot carry."""

    def join(self, messages: Sequence[bytes]) -> bytes:
        """Several messages as the payload of one frame."""


class PushForms(dict[type[Any], _T]):
    """What a protocol has for each kind of push. Raises ``Disconnect`` (inappropriate protocol) for any other."""

    def __missing__(self, kind: type[Any]) -> _T:
        raise Disconnect(DisconnectCode.INAPPROPRIATE_PROTOCOL)


class StreamProtocol(WireProtocol, Protocol):
    """One for transports that end without a word: its clients are told why by a last message."""

    def encode_disconnect(self, reason: Disconnect) -> bytes: ...


@runtime_checkable
class Numbering(Protocol):
    """A protocol whose pushes can have a number in place of the channel's name."""

    @property
    def compact(self) -> WireProtocol:
        """The protocol that is given the number as the channel of a push."""


class Wire:
    """How messages become what one kind of transport writes: a protocol and its framing.

    Subscribers that share a wire receive the same frames, so one instance is made for each pair of protocol
    and transport, and compared by identity.
    """

    __slots__ = ("_compact", "emulated", "frame", "ping", "pings_apart", "protocol")

    in_order: ClassVar[bool] = False
    """Whether what comes on several channels is told in the order in which it comes; plain clients always are."""

    def __init__(
        self, protocol: WireProtocol, frame: Callable[[bytes], Any], ping: Any = None, *, emulated: bool = False
    ) -> None:
        """``ping`` is what the transport itself has for one, in place of the protocol's."""
        self.protocol = protocol
        self.frame = frame
        """A frame's payload to what the transport's ``send`` takes."""
        self.emulated = emulated
        """Whether clients give their commands by requests of their own, to any node: they are told session and node."""
        self.pings_apart = ping is not None
        """Whether pings, and their pongs, are the transport's own, of which the client is not told."""
        self.ping = ping if self.pings_apart else frame(protocol.ping)
        self._compact: Wire | None = None

    @property
    def compact(self) -> "Wire | None":
        """The same with numbers in place of channels in what is pushed there; None if the protocol has only names."""
        if self._compact is None and isinstance(self.protocol, Numbering):
            self._compact = copy.copy(self)
            self._compact.protocol = self.protocol.compact
        return self._compact

    def pack(self, messages: Sequence[bytes]) -> Any:
        """Several messages as one frame."""
        return self.frame(self.protocol.join(messages))

    def frames(self, messages: Iterable[bytes]) -> Iterator[Any]:
        """Messages as frames of bounded size, as many as it takes."""
        part: list[bytes] = []
        size = 0
        for message in messages:
            if part and size + len(message) > FRAME_SIZE:
                yield self.pack(part)
                part, size = [], 0
            part.append(message)
            size += len(message)
        yield self.pack(part)
