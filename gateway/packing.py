"""Messages as msgpack, for nodes among themselves. Never pickle: Redis is not to run code in a node."""

from typing import Any, TypeVar

from msgspec.msgpack import Decoder, Encoder

from gateway.messages import Payload

_Message = TypeVar("_Message")


def _to_wire(value: Any) -> bytes:
    assert isinstance(value, Payload)
    return bytes(value)


def _from_wire(kind: type, value: Any) -> Any:
    return kind(value)


pack = Encoder(enc_hook=_to_wire).encode


def unpacker(kind: type[_Message]) -> Decoder[_Message]:
    """A decoder for one kind of message. Raises ``msgspec.DecodeError``."""
    return Decoder(kind, dec_hook=_from_wire)
