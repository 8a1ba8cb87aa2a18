"""What code may publish, and what it is told about the rest."""

import enum
import json
import math
from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any, cast
from uuid import UUID

import pytest
from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field, field_serializer

from gateway.messages import Payload, Publication
from gateway.program.encoding import encode_data, encode_publication


class Author(BaseModel):
    name: str = Field(serialization_alias="displayName")


class Note(BaseModel):
    author: Author
    at: datetime


class Constants(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="constants")
    value: float
    text: str = ""


class Broken(BaseModel):
    value: int

    @field_serializer("value")
    def refuse(self, value: int) -> int:
        raise ValueError(f"no {value}")


@dataclass
class Point:
    x: int
    label: Any = None


class Line(Struct):
    points: list[Point]


class Colour(enum.Enum):
    RED = "red"


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "not what it holds"


class Whole(int):
    pass


class Real(float):
    pass


AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ANN = Author(name="Ann")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"text": "hi", "n": [1, 2.5, None, True]}, {"text": "hi", "n": [1, 2.5, None, True]}),
        ("hï", "hï"),
        (7, 7),
        (2**70, 2**70),
        (None, None),
        ((1, {2}), [1, [2]]),
        (AT, "2026-01-02T03:04:05Z"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.10"), "1.10"),
        (Colour.RED, "red"),
        (Point(1), {"x": 1, "label": None}),
        (Line([Point(1, Colour.RED)]), {"points": [{"x": 1, "label": "red"}]}),
        (ANN, {"displayName": "Ann"}),
        (Note(author=ANN, at=AT), {"author": {"displayName": "Ann"}, "at": "2026-01-02T03:04:05Z"}),
        ([{"by": ANN}, Point(1, ANN)], [{"by": {"displayName": "Ann"}}, {"x": 1, "label": {"displayName": "Ann"}}]),
        ({Text("key"): Text("text")}, {"key": "text"}),
        ([Whole(3), Real(1.5)], [3, 1.5]),
        (MappingProxyType({"a": deque([1])}), {"a": [1]}),
        (OrderedDict(a=1), {"a": 1}),
        ({"raw": Payload(b'{"a": 1}')}, {"raw": {"a": 1}}),
        ([math.nan, math.inf], [None, None]),
        (Constants(value=1.0, text="NaN, Infinity"), {"value": 1.0, "text": "NaN, Infinity"}),
    ],
)
def test_values(value: Any, expected: Any) -> None:
    encoded = encode_data(value)
    assert type(encoded) is Payload
    assert json.loads(encoded) == expected


def test_payload_passes_as_it_is() -> None:
    payload = Payload(b"[1,  2]")
    assert encode_data(payload) is payload


def test_encoded_when_asked() -> None:
    value = {"state": "paid"}
    encoded = encode_data(value)
    value["state"] = "refunded"
    assert encoded == b'{"state":"paid"}'


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (object(), "type object"),
        ({"a": [Point(1, iter([1]))]}, "list_iterator"),
        (Constants(value=math.nan), "tests.program.test_encoding.Constants holds NaN"),
        ([Constants(value=-math.inf)], "tests.program.test_encoding.Constants holds NaN or an infinity"),
        (Broken(value=3), "type tests.program.test_encoding.Broken .*no 3"),
        ({(1, 2): 3}, "tuple"),
        ("\ud800", "surrogates"),
        (CYCLE, "recursion"),
        (b"x", "type bytes .*Payload"),
        (bytearray(b"x"), "type bytearray .*Payload"),
        (memoryview(b"x"), "type memoryview .*Payload"),
    ],
)
def test_refused_with_what_works(value: Any, named: str) -> None:
    with pytest.raises(TypeError, match=f"(?s){named}.*what works: pydantic models") as caught:
        encode_data(value)
    assert "{'text': 'hi'}" in str(caught.value)


def test_publications() -> None:
    assert encode_publication({"a": 1}, {"k": "v"}) == Publication(Payload(b'{"a":1}'), tags={"k": "v"})
    with pytest.raises(TypeError, match="tags are text, for example"):
        encode_publication(1, cast(Any, {"n": 1}))
    assert encode_publication(b"\x00{}", {"k": "v"}) == Publication(Payload(b"\x00{}"), tags={"k": "v"}, binary=True)
    assert encode_publication(Payload(b"1")) == Publication(Payload(b"1"))
    with pytest.raises(TypeError):
        encode_publication(bytearray(b"x"))
