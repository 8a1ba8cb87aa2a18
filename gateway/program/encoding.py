"""Data of the application's code as JSON, once, on its way to a channel."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import MsgspecError, Raw
from msgspec.json import Decoder, Encoder
from pydantic import BaseModel

from gateway.messages import Payload, Publication

_ADVICE = (
    "what works: pydantic models, dataclasses, msgspec structs, dict, list, tuple, set, str, numbers, bool, None, "
    "datetime, UUID, Decimal and enums, also within each other; for example {'text': 'hi'}"
)

_SUBCLASSED: tuple[tuple[type[Any], Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (Mapping, dict),
    (deque, list),
)
"""What msgspec takes in the exact type only, and how to make that."""

_BYTES = (bytes, bytearray, memoryview)

_check = Decoder(Raw).decode


def encode_data(value: Any) -> Payload:
    """The value as JSON. Raises ``TypeError`` for what JSON cannot say; NaN and infinities become null.

    A ``Payload`` is JSON already and passes as it is, as a part of a value too. Pydantic models go by their aliases.
    Other bytes are refused: they are no text, and what takes them sends them as a binary publication.
    """
    if isinstance(value, _BYTES):
        if isinstance(value, Payload):
            return value
        raise _refused(value, "bytes are not JSON; wrap what is JSON already as Payload(data)")
    try:
        return Payload(_encode(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise _refused(value, str(error)) from error


def is_text(value: object) -> bool:
    """Whether it is a text that can be sent: half of a surrogate pair has no UTF-8."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def encode_publication(value: Any, tags: dict[str, str] | None = None) -> Publication:
    """A publication of any value; ``bytes`` make a binary one. Raises ``TypeError``, as ``encode_data`` does."""
    if tags and not all(is_text(text) for tag in tags.items() for text in tag):
        raise TypeError(f"tags are text, for example tags={{'lang': 'en'}}, not {tags!r}")
    if isinstance(value, bytes) and not isinstance(value, Payload):
        return Publication(Payload(value), tags=tags, binary=True)
    return Publication(encode_data(value), tags=tags)


def _convert(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return Raw(_dump(value))
    if isinstance(value, Payload):
        return Raw(value)
    for kind, convert in _SUBCLASSED:
        if isinstance(value, kind):
            return convert(value)
    raise TypeError(f"JSON has nothing for {_name(value)}")


def _dump(model: BaseModel) -> bytes:
    data = model.model_dump_json(by_alias=True).encode()
    if b"NaN" in data or b"Infinity" in data:  # or a string, or what ser_json_inf_nan="constants" makes
        try:
            _check(data)
        except MsgspecError as error:
            raise TypeError(f"{_name(model)} holds NaN or an infinity, which JSON has not") from error
    return data


_encode = Encoder(enc_hook=_convert).encode


def _name(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _refused(value: Any, reason: str) -> TypeError:
    return TypeError(f"data of type {_name(value)} cannot be published as JSON: {reason}; {_ADVICE}")
