"""JSON in which a field that may be left out is null: read as if it were left out.

Serializers of other languages write ``null`` for what has no value, and JSON of Protocol Buffers makes no difference.
To be asked when a message cannot be read as it is, so that those without null pay nothing.
"""

from functools import cache
from typing import Any

import msgspec
from msgspec import DecodeError, Raw
from msgspec.inspect import (
    BoolType,
    DictType,
    IntType,
    ListType,
    NoneType,
    RawType,
    StrType,
    StructType,
    Type,
    UnionType,
    type_info,
)

_fields_of = cache(type_info)

_object = msgspec.json.Decoder(dict[str, Raw]).decode
_array = msgspec.json.Decoder(list[Raw]).decode

_EMPTY: dict[type[Type], bytes] = {
    StrType: b'""',
    IntType: b"0",
    BoolType: b"false",
    StructType: b"{}",
    DictType: b"{}",
    ListType: b"[]",
}
"""What null is among the elements of a list, or the values of a map, which cannot be left out."""


def without_nulls(data: bytes, kind: Any) -> bytes:
    """The message without those of its fields that are null. Payloads keep their bytes, null being one.

    ``kind`` is what it is to be read as. What is not of that shape stays as it is, for the decoder to refuse.
    """
    return _without(data, _fields_of(kind)) if b"null" in data else data


def _without(data: bytes, kind: Type) -> bytes:
    kind = _given(kind)
    try:
        if isinstance(kind, StructType):
            fields = {field.encode_name: field.type for field in kind.fields}
            return msgspec.json.encode(
                {
                    name: Raw(_without(bytes(value), fields[name]))
                    for name, value in _object(data).items()
                    if name in fields and (bytes(value) != b"null" or isinstance(_given(fields[name]), RawType))
                }
            )
        if isinstance(kind, DictType):
            return msgspec.json.encode(
                {name: Raw(_element(bytes(value), kind.value_type)) for name, value in _object(data).items()}
            )
        if isinstance(kind, ListType):
            return msgspec.json.encode([Raw(_element(bytes(value), kind.item_type)) for value in _array(data)])
    except DecodeError:
        pass
    return data


def _element(data: bytes, kind: Type) -> bytes:
    return _EMPTY.get(type(kind), data) if data == b"null" else _without(data, kind)


def _given(kind: Type) -> Type:
    """The kind of a value that is there."""
    if isinstance(kind, UnionType):
        return next(each for each in kind.types if not isinstance(each, NoneType))
    return kind
