"""Schemas of types, made together."""

from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import pytest
from pydantic import BaseModel, ConfigDict, Field

from gateway.contracts.schemas import Schema, Schemas


class Point(NamedTuple):
    x: int
    y: int = 0


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Settled(BaseModel):
    kind: str = Field(default="a property of this name", alias="prefixItems")
    state: dict[str, Any] = Field(default={"prefixItems": 1}, examples=[{"discriminator": 2}])


class Hidden(BaseModel):
    always: int = 1
    sometimes: int = Field(default=0, exclude_if=lambda value: value == 0)


class Struct(msgspec.Struct):
    field: int


class Odd:
    pass


class Holder(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    odd: Odd


def sent(kind: Any) -> tuple[Schema, dict[str, Schema]]:
    schemas = Schemas()
    schema = schemas.sent(kind)
    return schema, schemas.make()


def test_what_is_received_has_its_defaults_what_is_sent_need_not() -> None:
    schemas = Schemas()
    coming, going = schemas.sent(Settled), schemas.received(Settled)
    shared = schemas.make()
    assert (coming, going) == (
        {"$ref": "#/components/schemas/Settled-Input"},
        {"$ref": "#/components/schemas/Settled-Output"},
    )
    assert "required" not in shared["Settled-Input"]
    assert shared["Settled-Output"]["required"] == ["prefixItems", "state"]


def test_what_may_be_left_out_when_received_is_not_required() -> None:
    schemas = Schemas()
    schemas.received(Hidden)
    assert schemas.make()["Hidden"]["required"] == ["always"]


def test_what_is_no_schema_stays_as_it_is() -> None:
    properties = sent(Settled)[1]["Settled"]["properties"]
    assert properties["prefixItems"]["type"] == "string"
    assert properties["state"]["default"] == {"prefixItems": 1}
    assert properties["state"]["examples"] == [{"discriminator": 2}]


def test_tuples_are_said_in_draft_7() -> None:
    schema, _ = sent(tuple[int, str])
    assert schema == {
        "type": "array",
        "items": [{"type": "integer"}, {"type": "string"}],
        "minItems": 2,
        "maxItems": 2,
    }
    schema, shared = sent(Point)
    point = shared.get("Point", schema)
    assert [each["type"] for each in point["items"]] == ["integer", "integer"]
    assert (point["minItems"], point["maxItems"]) == (1, 2)


def test_tuples_with_a_tail_keep_it() -> None:
    class Tail:
        @classmethod
        def __get_pydantic_json_schema__(cls, *_: Any) -> Schema:
            return {"type": "array", "prefixItems": [{"type": "integer"}], "items": {"type": "string"}}

        @classmethod
        def __get_pydantic_core_schema__(cls, *_: Any) -> Any:
            return {"type": "any"}

    assert sent(Tail)[0] == {"type": "array", "items": [{"type": "integer"}], "additionalItems": {"type": "string"}}


def test_a_discriminator_is_left_to_the_constants() -> None:
    schema, _ = sent(Annotated[Cat | Dog, Field(discriminator="kind")])
    assert list(schema) == ["oneOf"]


@pytest.mark.parametrize("kind", [Struct, "Unknown", Any])
def test_what_pydantic_does_not_know_is_anything(kind: Any) -> None:
    assert sent(kind) == ({}, {})


def test_a_field_without_schema_is_anything() -> None:
    assert sent(Holder)[1]["Holder"]["properties"]["odd"] == {"title": "Odd"}


def test_unions_hold_each_schema_once() -> None:
    schemas = Schemas()
    one = schemas.either([schemas.sent(int), schemas.received(int)])
    two = schemas.either([schemas.sent(int), schemas.sent(str)])
    anything = schemas.either([schemas.sent(int), {}])
    schemas.make()
    assert one == {"type": "integer"}
    assert two == {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    assert anything == {}
