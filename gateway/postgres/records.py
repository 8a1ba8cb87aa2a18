"""What a notification holds: a number, and behind a colon, in Base64, messages with their topics."""

from base64 import b64decode
from collections.abc import Iterator
from struct import Struct

_LENGTH = Struct(">i")
_NUMBER = Struct(">q")

Record = tuple[str, bytes | int]
"""A topic with a message, or with the number under which a long one lies."""


def read_records(payload: str) -> Iterator[Record]:
    """The messages of a notification, in order. Raises ``ValueError`` for what is none of ours."""
    data = b64decode(payload.partition(":")[2])
    at = 0
    while at < len(data):
        topic, at = _read(data, at)
        (length,) = _LENGTH.unpack_from(data, at)
        if length < 0:
            yield topic.decode(), _NUMBER.unpack_from(data, at + 4)[0]
            at += 12
        else:
            message, at = _read(data, at)
            yield topic.decode(), message


def _read(data: bytes, at: int) -> tuple[bytes, int]:
    (length,) = _LENGTH.unpack_from(data, at)
    start = at + 4
    return data[start : start + length], start + length
