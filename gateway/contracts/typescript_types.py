"""TypeScript types of JSON schemas."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gateway.contracts.names import Names, pascal
from gateway.contracts.schemas import REFERENCE, Schema

_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")

_SIMPLE = {"string": "string", "number": "number", "integer": "number", "boolean": "boolean", "null": "null"}

UNKNOWN = "unknown"


class Types:
    """The types that schemas refer to, with a name each."""

    def __init__(self, schemas: Mapping[str, Schema], names: Names) -> None:
        self._schemas = schemas
        self._names = {name: names.take(pascal(name), "Type" + pascal(name)) for name in schemas}

    def declarations(self) -> dict[str, str]:
        """Interfaces and types, by name."""
        return {self._names[name]: self._declaration(name, schema) for name, schema in self._schemas.items()}

    def expression(self, schema: Any) -> str:
        """The type of a schema, in one line."""
        if not isinstance(schema, dict):
            return UNKNOWN
        if reference := schema.get("$ref"):
            return self._names[reference.removeprefix(REFERENCE)]
        for key, render in self._renderers():
            if key in schema:
                return render(schema)
        return UNKNOWN

    def _renderers(self) -> tuple[tuple[str, Callable[[Schema], str]], ...]:
        """How a schema is rendered, by the first of these keys that it has."""
        return (
            ("const", lambda schema: _literal(schema["const"])),
            ("enum", lambda schema: _union(map(_literal, schema["enum"]))),
            ("anyOf", lambda schema: _union(map(self.expression, schema["anyOf"]))),
            ("oneOf", lambda schema: _union(map(self.expression, schema["oneOf"]))),
            ("allOf", lambda schema: " & ".join(f"({self.expression(each)})" for each in schema["allOf"])),
            ("type", self._by_type),
        )

    def _by_type(self, schema: Schema) -> str:
        kind = schema["type"]
        if isinstance(kind, list):
            return _union(self._by_type({**schema, "type": each}) for each in kind)
        if kind == "array":
            return self._array(schema)
        if kind == "object":
            return self._object(schema)
        return _SIMPLE.get(kind, UNKNOWN)

    def _array(self, schema: Schema) -> str:
        items = schema.get("items")
        if not isinstance(items, list):
            return _array_of(self.expression(items))
        needed = schema.get("minItems", 0)
        members = [self.expression(each) for each in items]
        members = [each if number < needed else f"({each})?" for number, each in enumerate(members)]
        if schema.get("maxItems") != len(items):
            members.append(f"...{_array_of(self.expression(schema.get('additionalItems')))}")
        return f"[{', '.join(members)}]"

    def _object(self, schema: Schema) -> str:
        if schema.get("properties"):
            members = [text for _, text in self._members(schema)]
            return f"{{ {'; '.join(members)} }}"
        if schema.get("additionalProperties") is False and "patternProperties" not in schema:
            return "{ [key: string]: never }"
        patterns = schema.get("patternProperties", {}).values()
        value = _union(map(self.expression, patterns or [schema.get("additionalProperties")]))
        keys = schema.get("propertyNames", {})
        if "enum" in keys or "const" in keys or "$ref" in keys:
            return f"{{ [key in {self.expression(keys)}]?: {value} }}"
        return f"{{ [key: string]: {value} }}"

    def _members(self, schema: Schema) -> Iterable[tuple[Schema, str]]:
        required = schema.get("required", ())
        for name, each in schema["properties"].items():
            mark = "" if name in required else "?"
            yield each, f"{property_name(name)}{mark}: {self.expression(each)}"
        if schema.get("additionalProperties", False) is not False:
            yield {}, f"[key: string]: {UNKNOWN}"

    def _declaration(self, name: str, schema: Schema) -> str:
        head = comment(schema.get("description", ""))
        if schema.get("type") == "object" and schema.get("properties"):
            members = "".join(comment(_remark(each), "  ") + f"  {text};\n" for each, text in self._members(schema))
            return f"{head}export interface {self._names[name]} {{\n{members}}}\n"
        return f"{head}export type {self._names[name]} = {self.expression(schema)};\n"


def comment(text: str, indent: str = "") -> str:
    """A doc comment, or nothing for no text."""
    lines = text.strip().replace("*/", "*\\/").splitlines()
    if len(lines) < 2:
        return f"{indent}/** {lines[0]} */\n" if lines else ""
    body = "".join(f"{indent} * {line}".rstrip() + "\n" for line in lines)
    return f"{indent}/**\n{body}{indent} */\n"


def property_name(name: str) -> str:
    return name if _IDENTIFIER.fullmatch(name) else json.dumps(name)


def _remark(schema: Schema) -> str:
    """What is worth saying of a property."""
    description = schema.get("description", "")
    return f"{description}\nFormat: {schema['format']}.".strip() if "format" in schema else description


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, dict):
        return f"{{ {'; '.join(f'{property_name(name)}: {_literal(each)}' for name, each in value.items())} }}"
    return json.dumps(value)


def _union(members: Iterable[str]) -> str:
    different = list(dict.fromkeys(members))
    return UNKNOWN if UNKNOWN in different else " | ".join(different) or UNKNOWN


def _array_of(item: str) -> str:
    return f"{item}[]" if _IDENTIFIER.fullmatch(item) else f"({item})[]"
