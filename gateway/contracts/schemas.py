"""JSON schemas of the types of a program, made together: what several of them use stands there once."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaWarningKind
from pydantic_core import core_schema

Schema = dict[str, Any]
"""A JSON schema (draft 7); an empty one allows anything."""

REFERENCE = "#/components/schemas/"
"""Begins the references to what is shared."""


class Schemas:
    """Schemas that are empty until all are known, and then filled in by `make`."""

    def __init__(self) -> None:
        self._wanted: list[tuple[Schema, JsonSchemaMode, TypeAdapter[Any]]] = []
        self._unions: list[tuple[Schema, Sequence[Schema]]] = []

    def sent(self, kind: Any) -> Schema:
        """Of what clients send: it is validated."""
        return self._add(kind, "validation")

    def received(self, kind: Any) -> Schema:
        """Of what clients receive: it has been serialised, so that defaults are always there."""
        return self._add(kind, "serialization")

    def either(self, schemas: Sequence[Schema]) -> Schema:
        """Of what may be one or the other; of nothing known, without schemas."""
        schema: Schema = {}
        self._unions.append((schema, schemas))
        return schema

    def make(self) -> dict[str, Schema]:
        """Fill in all schemas. Returns what they refer to, by name."""
        inputs = [(number, mode, adapter) for number, (_, mode, adapter) in enumerate(self._wanted)]
        made, shared = TypeAdapter.json_schemas(inputs, ref_template=REFERENCE + "{model}", schema_generator=_Generator)
        for number, (schema, mode, _) in enumerate(self._wanted):
            schema.update(_in_draft_7(made[number, mode]))
        for schema, members in self._unions:
            schema.update(_union(members))
        return {name: _in_draft_7(each) for name, each in shared.get("$defs", {}).items()}

    def _add(self, kind: Any, mode: JsonSchemaMode) -> Schema:
        schema: Schema = {}
        # a type that pydantic does not know may be published as well: it is anything
        with suppress(PydanticSchemaGenerationError):
            adapter = TypeAdapter(kind)
            if adapter.pydantic_complete or adapter.rebuild(raise_errors=False):
                self._wanted.append((schema, mode, adapter))
        return schema


def _union(members: Sequence[Schema]) -> Schema:
    different = [each for number, each in enumerate(members) if each not in members[:number]]
    if not all(different):  # one of them is anything
        return {}
    return {"anyOf": different} if len(different) > 1 else dict(*different)


class _Generator(GenerateJsonSchema):
    """Says what the gateway's encoder does; a type without schema is anything."""

    def emit_warning(self, kind: JsonSchemaWarningKind, detail: str) -> None:
        """Nobody who reads a document can do anything about it."""

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        if self.mode == "serialization" and field["type"] != "typed-dict-field":
            return field.get("serialization_exclude_if") is None
        return super().field_is_required(field, total)

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Schema:
        return {}


def _in_draft_7(schema: Any) -> Any:
    """The schema without what draft 2020-12 and OpenAPI say in another way."""
    if isinstance(schema, list):
        return [_in_draft_7(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    result = {}
    for key, value in schema.items():
        if key in _BY_NAME:
            result[key] = {name: _in_draft_7(each) for name, each in value.items()}
        else:
            result[key] = value if key in _VALUES else _in_draft_7(value)
    if "prefixItems" in result:
        if "items" in result:
            result["additionalItems"] = result["items"]
        result["items"] = result.pop("prefixItems")
    result.pop("discriminator", None)  # AsyncAPI's is another, and the constants say as much
    return result


_BY_NAME = ("properties", "patternProperties")
_VALUES = ("default", "const", "enum", "examples")
