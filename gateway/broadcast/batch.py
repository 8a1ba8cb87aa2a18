"""What goes over a line: batches of messages, as text, for some backends carry nothing else.

A batch is base64 of msgpack. Anything that changes what is there takes a new version, understood one release before
it is sent; new fields may be added at the end.
"""

from base64 import b64decode, b64encode
from binascii import Error as NotBase64

from msgspec import MsgspecError, Struct, field

from gateway.messages import pack, unpacker

VERSION = 1


class Message(Struct, array_like=True):
    """``kind`` and ``name`` say who takes it. Where its data are too large, they lie in the ``parcel``."""

    kind: str
    name: str
    data: bytes = b""
    parcel: int = 0

    @property
    def size(self) -> int:
        """Bytes of it in a batch, at most."""
        return len(self.data) + len(self.name.encode(errors="replace")) + _OVERHEAD


class Batch(Struct, array_like=True):
    """Messages of one sender, which numbers its batches, and says when it sent this, by a clock of its own."""

    version: int
    sender: str
    number: int
    sent_at: float
    messages: list[Message] = field(default_factory=list)


_OVERHEAD = 32
"""Bytes around the name and the data of a message, or what is around all of a batch's, at most."""

_HEAD = 64

_decode = unpacker(Batch).decode


def room(largest: int) -> int:
    """Bytes of messages in a batch whose text has ``largest`` bytes at most."""
    return largest * 3 // 4 - _HEAD


def encode(batch: Batch) -> str:
    return b64encode(pack(batch)).decode()


def decode(text: str | bytes) -> Batch | None:
    """None for what is no batch, or one of another release."""
    try:
        batch = _decode(b64decode(text, validate=True))
    except (MsgspecError, NotBase64, ValueError):
        return None
    return batch if batch.version == VERSION else None
