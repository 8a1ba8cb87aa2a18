"""What the OpenAPI document and the page say of the server API is so."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import pytest_asyncio

from gateway.web import api_messages
from gateway.web.api_document import BATCH, EXAMPLES, ONE, Example
from gateway.web.methods import METHODS
from gateway.web.one_endpoint import OneCommand
from tests.web.conftest import BACKEND, KEY, POLLS, SETTINGS, running

SHOWN = {**EXAMPLES, "batch": BATCH, "commands": ONE}
REQUESTS: dict[str, type[Any]] = {
    **{name: method.request for name, method in METHODS.items()},
    "batch": api_messages.BatchRequest,
    "commands": OneCommand,
}
PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
CHAT = {"name": "chat", "history_size": 10, "history_ttl": "60s", "presence": True}
PRICE = {"name": "price", "subscription_type": "shared_poll"} | {
    "shared_poll": {"mode": "versioned", "publish_enabled": True}
}
BOARD = {"name": "board", "subscription_type": "map", "map": {"mode": "persistent"}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operations() -> dict[str, Any]:
    """The document, by the names of the methods."""
    async with running(SETTINGS) as api:
        paths = (await api.http.get("/openapi.json")).json()["paths"]
    return {name: paths["/api" if name == "commands" else f"/api/{name}"]["post"] for name in REQUESTS}


def content(part: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = part["content"]["application/json"]
    return found


@pytest.mark.parametrize("name", REQUESTS)
def test_every_method_has_an_example_that_is_what_its_schema_says(operations: dict[str, Any], name: str) -> None:
    described = operations[name]
    asked, answered = content(described["requestBody"]), content(described["responses"]["200"])
    for part in (asked, answered):
        jsonschema.Draft202012Validator.check_schema(part["schema"])
        jsonschema.validate(part["example"], part["schema"])
        assert part["example"].keys() <= part["schema"].get("properties", {}).keys()
    assert list(asked["schema"].get("properties", ())) == list(REQUESTS[name].__struct_fields__)
    assert "Error-Mode" in str(described.get("parameters", "")) or name in ("batch", "commands")


def test_every_method_is_told_by_a_sentence_of_its_own(operations: dict[str, Any]) -> None:
    told = [operations[name]["summary"] for name in REQUESTS]
    assert len(set(told)) == len(told)


@pytest.mark.parametrize("name", SHOWN)
def test_examples_name_fields_that_there_are(name: str) -> None:
    """A schema lets others pass."""
    strict = msgspec.defstruct("Strict", _fields(REQUESTS[name]), forbid_unknown_fields=True, kw_only=True)
    msgspec.convert(SHOWN[name].request, strict)


def _fields(kind: type[Any]) -> list[tuple[str, Any, Any]]:
    return [(field.name, Any, None) for field in msgspec.structs.fields(kind)]


@pytest.mark.parametrize("name", SHOWN)
async def test_examples_are_answered_so(name: str) -> None:
    async with running({**SETTINGS, **POLLS, "channel": {"namespaces": [CHAT, BOARD, PRICE], **BACKEND}}) as api:
        example: Example = SHOWN[name]
        if name == "history":
            for n in range(7):
                await api.result("publish", channel="chat:lobby", data={"n": n})
            position = await api.result("history", channel="chat:lobby")
            example.request["since"] = {"offset": 6, "epoch": position["epoch"]}
        if name == "map_read_stream":
            for n in range(7):
                position = await api.result("map_publish", channel="board:1", key="ann", data={"x": n})
            example.request["since_epoch"] = position["epoch"]
        path = "/api" if name == "commands" else f"/api/{name}"
        response = await api.http.post(path, json=example.request, headers={"X-API-Key": KEY})
        answer = response.json()
    assert response.status_code == 200
    if name == "rpc":  # is for extensions
        assert answer["error"]["code"] == 104
    else:
        shown = example.result if name in ("batch", "commands") else {"result": example.result}
        assert answer.keys() == shown.keys()


@pytest.mark.parametrize("name", METHODS)
def test_the_page_names_every_field(name: str) -> None:
    [row] = re.findall(rf"^\| `{name}` \|(.*)\|(.*)\|$", PAGE, re.MULTILINE)
    fields, result = row
    named = re.findall(r"`(\w+)`", fields)
    if name == "broadcast":
        named.remove("publish")  # for what they share
        named += [field for field in METHODS["publish"].request.__struct_fields__ if field != "channel"]
    assert set(named) == set(METHODS[name].request.__struct_fields__)
    assert {f"`{field}`" for field in METHODS[name].result.__struct_fields__} <= set(re.findall(r"`\w+`", result))


def test_the_page_shows_answers_as_they_are() -> None:
    for shown in re.findall(r"^\{.*\}$", PAGE, re.MULTILINE):
        assert json.dumps(json.loads(shown), separators=(",", ":")) == shown
