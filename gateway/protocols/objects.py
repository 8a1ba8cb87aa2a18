"""Publications for the program itself, which wants no bytes of them."""

from collections.abc import Sequence
from typing import Any, ClassVar

from gateway.errors import Disconnect, DisconnectCode, Error
from gateway.messages import Command, Publication, Push, Result
from gateway.protocols.base import Wire


class Delivery(bytes):
    """A publication on its way through the hub, which takes bytes."""

    channel: str
    publication: Publication
    recovered = False
    """Whether it was published before it was subscribed to."""

    @classmethod
    def of(cls, channel: str, publication: Publication, data: bytes) -> "Delivery":
        delivery = cls(data)
        delivery.channel, delivery.publication = channel, publication
        return delivery


class _Objects:
    """A wire protocol that leaves publications as they are, and has nothing else."""

    name: ClassVar[str] = "plain-objects"
    binary: ClassVar[bool] = True
    unidirectional: ClassVar[bool] = True
    omits: ClassVar[bool] = False
    ping: ClassVar[bytes] = b""
    pong: ClassVar[bytes] = b""

    def decode(self, frame: bytes, *, admitted: bool = True) -> list[Command]:
        raise Disconnect(DisconnectCode.BAD_REQUEST)

    def encode_result(self, command_id: int, result: Result) -> bytes:
        raise Disconnect(DisconnectCode.INAPPROPRIATE_PROTOCOL)

    def encode_error(self, command_id: int, error: Error) -> bytes:
        raise Disconnect(DisconnectCode.INAPPROPRIATE_PROTOCOL)

    def encode_push(self, channel: str, push: Push) -> bytes:
        assert isinstance(push, Publication), "it has asked for nothing else"
        return Delivery.of(channel, push, push.data)

    def join(self, messages: Sequence[bytes]) -> bytes:
        return b"".join(messages)


class _ObjectWire(Wire):
    __slots__ = ()

    in_order = True

    def pack(self, messages: Sequence[bytes]) -> Any:
        return messages


OBJECTS = _ObjectWire(_Objects(), lambda payload: payload)
