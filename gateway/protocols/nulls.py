"""JSON in which a field that may be left out is null: read as if it were left out.

Serializers of other languages write ``null`` for what has no value, and JSON of Protocol Buffers makes no difference.
To be asked when a message cannot be read as it is, so that those without null pay nothing.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
from msgspec import DecodeError, Raw, Struct
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

from gateway.protocols.protobuf import ENDLESS

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

DEEPEST = 50
"""Levels that are looked into, each of which is read again for the one above it: no message has as many."""


def without_nulls(data: bytes, kind: Any, budget: Iterator[object] = ENDLESS) -> bytes:
    """The message without those of its fields that are null. Payloads keep their bytes, null being one.

    ``kind`` is what it is to be read as. What is not of that shape stays as it is, for the decoder to refuse. One item
    of the ``budget`` goes with each field and element that is looked at; when there are no more, it raises.
    """
    return _without(data, _kind(kind), DEEPEST, budget) if b"null" in data else data


def _without(data: bytes, kind: Type, levels: int, budget: Iterator[object]) -> bytes:
    if not levels:
        return data
    try:
        if isinstance(kind, StructType):
            fields = _fields_of(kind.cls)
            return msgspec.json.encode(
                {
                    name: Raw(_without(bytes(value), field, levels - 1, budget))
                    for (name, value), _ in zip(_object(data).items(), budget, strict=False)
                    if (field := fields.get(name)) and (bytes(value) != b"null" or isinstance(field, RawType))
                }
            )
        if isinstance(kind, DictType):
            element = _given(kind.value_type)
            return msgspec.json.encode(
                {
                    name: Raw(_element(bytes(value), element, levels - 1, budget))
                    for (name, value), _ in zip(_object(data).items(), budget, strict=False)
                }
            )
        if isinstance(kind, ListType):
            element = _given(kind.item_type)
            return msgspec.json.encode(
                [
                    Raw(_element(bytes(value), element, levels - 1, budget))
                    for value, _ in zip(_array(data), budget, strict=False)
                ]
            )
    except DecodeError:
        pass
    return data


def _element(data: bytes, kind: Type, levels: int, budget: Iterator[object]) -> bytes:
    return _EMPTY.get(type(kind), data) if data == b"null" else _without(data, kind, levels, budget)


@cache
def _kind(kind: Any) -> Type:
    return _given(type_info(kind))


@cache
def _fields_of(struct: type[Struct]) -> dict[str, Type]:
    """What a struct has, by the names in JSON."""
    found = _kind(struct)
    assert isinstance(found, StructType)
    return {field.encode_name: _given(field.type) for field in found.fields}


def _given(kind: Type) -> Type:
    """The kind of a value that is there."""
    if isinstance(kind, UnionType):
        return next(each for each in kind.types if not isinstance(each, NoneType))
    return kind
