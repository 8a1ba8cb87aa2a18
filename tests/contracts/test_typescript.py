"""TypeScript of schemas, and the file as a whole."""

from typing import Annotated, Any, Literal

import pytest
from fastapi import Body
from pydantic import BaseModel, ConfigDict, Field

from gateway import Gateway, Settings
from gateway.contracts.names import Names
from gateway.contracts.reading import contract_of
from gateway.contracts.schemas import Schema, Schemas
from gateway.contracts.typescript import typescript
from gateway.contracts.typescript_types import Types, comment


def expression(schema: Any) -> str:
    return Types({"A_b": {}}, Names()).expression(schema)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({}, "unknown"),
        (True, "unknown"),
        (None, "unknown"),
        ({"type": "string"}, "string"),
        ({"type": "integer"}, "number"),
        ({"type": "null"}, "null"),
        ({"type": "file"}, "unknown"),
        ({"type": ["string", "null"]}, "string | null"),
        ({"const": "a"}, '"a"'),
        ({"const": None}, "null"),
        ({"const": [1, {"a": True}]}, "[1, { a: true }]"),
        ({"enum": ["a", 1, None]}, '"a" | 1 | null'),
        ({"$ref": "#/components/schemas/A_b"}, "AB"),
        ({"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "integer"}]}, "string | number"),
        ({"oneOf": [{"type": "string"}, {}]}, "unknown"),
        ({"allOf": [{"$ref": "#/components/schemas/A_b"}, {"type": "object"}]}, "(AB) & ({ [key: string]: unknown })"),
        ({"type": "array"}, "unknown[]"),
        ({"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "null"}]}}, "(string | null)[]"),
        ({"type": "array", "items": [{"type": "string"}], "minItems": 1, "maxItems": 1}, "[string]"),
        ({"type": "array", "items": [{"type": "string"}], "maxItems": 1}, "[(string)?]"),
        (
            {"type": "array", "items": [{"type": "string"}], "minItems": 1, "additionalItems": {"type": "null"}},
            "[string, ...null[]]",
        ),
        ({"type": "object"}, "{ [key: string]: unknown }"),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "{ [key: string]: number }"),
        ({"type": "object", "additionalProperties": False}, "{ [key: string]: never }"),
        (
            {"type": "object", "patternProperties": {"^a": {"type": "number"}, "^b": {"type": "string"}}},
            "{ [key: string]: number | string }",
        ),
        (
            {"type": "object", "propertyNames": {"enum": ["a"]}, "additionalProperties": {"type": "number"}},
            '{ [key in "a"]?: number }',
        ),
        (
            {"type": "object", "propertyNames": {"pattern": "x"}, "additionalProperties": {"type": "number"}},
            "{ [key: string]: number }",
        ),
        (
            {"type": "object", "properties": {"a": {"type": "string"}, "b-c": {}}, "required": ["b-c"]},
            '{ a?: string; "b-c": unknown }',
        ),
    ],
)
def test_a_schema_is_a_type(schema: Schema, text: str) -> None:
    assert expression(schema) == text


class Tree(BaseModel):
    """A tree,
    with leaves."""

    model_config = ConfigDict(extra="allow")

    leaves: Annotated[list["Tree"], Field(description="More */ of them.")]
    when: Annotated[str, Field(json_schema_extra={"format": "date-time"})] = ""


def declared(kind: Any) -> str:
    schemas = Schemas()
    schemas.sent(kind)
    return "".join(Types(schemas.make(), Names()).declarations().values())


def test_a_model_is_an_interface() -> None:
    assert declared(Tree) == (
        "/**\n * A tree,\n * with leaves.\n */\n"
        "export interface Tree {\n"
        "  /** More *\\/ of them. */\n"
        "  leaves: Tree[];\n"
        "  /** Format: date-time. */\n"
        "  when?: string;\n"
        "  [key: string]: unknown;\n"
        "}\n"
    )


def test_models_of_one_name_are_told_apart() -> None:
    types = Types({"Page_int_": {}, "Page-int": {}, "1": {}}, Names(["PageInt"]))
    assert list(types.declarations()) == ["TypePageInt", "TypePageInt2", "Type"]


def test_comments_are_short_where_they_can_be() -> None:
    assert [comment(""), comment(" a "), comment("a\n\nb", "  ")] == [
        "",
        "/** a */\n",
        "  /**\n   * a\n   *\n   * b\n   */\n",
    ]


Level = Literal["low", "high"]


def gateway() -> Gateway:
    return Gateway(Settings())


def rendered(gateway: Gateway) -> str:
    return typescript(contract_of(gateway._program, gateway.settings))


def test_a_program_of_nothing_is_the_head() -> None:
    assert rendered(gateway()) == (
        "// Made by `gateway client --typescript`. When the program changes, make it anew.\n"
        'import type * as SDK from "centrifuge";\n'
    )


def test_a_procedure_is_a_function() -> None:
    program = gateway()

    @program.rpc("set-level")
    async def set_level(level: Annotated[Level, Body()]) -> list[Level]:
        """Set it."""
        return [level]

    @program.rpc("reset")
    async def reset() -> None: ...

    head, *functions = rendered(program).split("\n\n")
    assert head.count("\n") == 1
    assert functions == [
        "/** Set it. */\n"
        'export async function setLevel(client: SDK.Centrifuge, data: "low" | "high"): '
        'Promise<("low" | "high")[]> {\n'
        '  return (await client.rpc("set-level", data)).data ?? null;\n}',
        'export async function reset(client: SDK.Centrifuge): Promise<void> {\n  await client.rpc("reset", null);\n}\n',
    ]


def test_a_channel_is_a_function_and_a_type() -> None:
    program = gateway()
    route = program.channel("a`$(b):{x}:{y:path}:{z:float}", message=Tree, presence=True, allow_publish_for_client=True)

    @route.on_subscribe
    async def join(x: str, y: str, z: float, level: Annotated[Level, Body()] = "low") -> None:
        """Come in."""

    @route.on_presence
    async def look() -> None: ...

    text = rendered(program)
    assert text.endswith(
        "/** A subscription to a`$(b):{x}:{y:path}:{z:float}. */\n"
        "export type ABSubscription =\n"
        "  TypedSubscription<TreeOutput> &\n"
        "  TypedPublish<TreeInput> &\n"
        "  TypedPresence &\n"
        '  { setData(data: "low" | "high"): void };\n\n'
        "/** Come in. */\n"
        "export function aB(\n"
        "  client: SDK.Centrifuge,\n"
        "  params: { x: string; y: string; z: number },\n"
        '  options?: Partial<TypedOptions<"low" | "high">>,\n'
        "): ABSubscription {\n"
        '  return subscription(client, "a`$(b):" + part(params.x) + ":" + String(params.y) + ":" + part(params.z), '
        "options) as unknown as ABSubscription;\n}\n"
    )


def test_a_channel_without_parameters_needs_no_check_of_them() -> None:
    program = gateway()
    program.channel("news")
    text = rendered(program)
    assert "function part(" not in text
    assert 'subscription(client, "news", options)' in text


async def greeted(level: Annotated[Level, Body()]) -> None: ...
async def perhaps(level: Annotated[Level, Body()] = "low") -> None: ...


@pytest.mark.parametrize(("connect", "mark"), [(greeted, ""), (perhaps, "?")])
def test_what_comes_with_a_connect_is_an_option_of_clients(connect: Any, mark: str) -> None:
    program = gateway()
    program.on_connect(connect)
    assert f'  | {{ data{mark}: "low" | "high"; getData?: null }}\n' in rendered(program)
