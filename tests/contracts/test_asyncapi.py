"""The document, judged by the schema of AsyncAPI 3.0 and by what stands in it."""

import json
from dataclasses import replace
from typing import Annotated, Any

import pytest
from fastapi import Depends
from fastapi.security import APIKeyCookie, HTTPBearer, OAuth2PasswordBearer, OpenIdConnect
from jsonschema import Draft7Validator

from gateway import Gateway, Settings
from gateway.contracts.asyncapi import asyncapi
from gateway.contracts.reading import contract_of
from gateway.errors import DisconnectCode, ErrorCode
from tests.contracts.program import gateway
from tests.node import PACKAGES

SPECIFICATION = PACKAGES / "node_modules" / "@asyncapi" / "specs" / "schemas" / "3.0.0.json"


@pytest.fixture(scope="module")
def document() -> Any:
    return asyncapi(contract_of(gateway._program, gateway.settings))


@pytest.fixture(scope="module")
def validator() -> Draft7Validator:
    return Draft7Validator(json.loads(SPECIFICATION.read_text()))


def follow(document: Any, reference: str) -> Any:
    for part in reference.removeprefix("#/").split("/"):
        document = document[part]
    return document


def references(part: Any) -> list[str]:
    if isinstance(part, list):
        return [each for member in part for each in references(member)]
    if not isinstance(part, dict):
        return []
    return [part["$ref"]] if "$ref" in part else [each for member in part.values() for each in references(member)]


def payload(document: Any, channel: str, message: str) -> Any:
    return document["channels"][channel]["messages"][message]["payload"]


def test_it_is_valid(document: Any, validator: Draft7Validator) -> None:
    assert [error.message for error in validator.iter_errors(document)] == []


def test_the_validator_is_a_judge(document: Any, validator: Draft7Validator) -> None:
    broken = json.loads(json.dumps(document))
    broken["operations"]["chat.publish"]["action"] = "shout"
    broken["channels"]["chat"]["messages"]["publish"]["payload"] = 5
    assert len(list(validator.iter_errors(broken))) == 2


def test_every_reference_leads_somewhere(document: Any) -> None:
    found = references(document)
    assert len(found) > 50
    for each in found:
        follow(document, each)


def test_every_schema_is_one(document: Any) -> None:
    for schema in document["components"]["schemas"].values():
        Draft7Validator.check_schema(schema)


def test_messages_of_operations_are_of_their_channels(document: Any) -> None:
    for operation in document["operations"].values():
        for part in (operation, operation.get("reply", operation)):
            channel = part["channel"]["$ref"]
            assert all(each["$ref"].startswith(f"{channel}/messages/") for each in part["messages"])


def test_the_head_says_what_it_is_and_where(document: Any) -> None:
    assert document["info"] == {"title": "Gateway", "version": "1.2.0"}
    server = document["servers"]["gateway"]
    assert (server["host"], server["pathname"], server["protocol"]) == (
        "127.0.0.1:9000",
        "/live/connection/websocket",
        "ws",
    )
    assert server["security"] == [{"$ref": "#/components/securitySchemes/token"}]
    assert len(server["x-disconnects"]) == len(DisconnectCode)
    assert len(document["components"]["messages"]["error"]["x-errors"]) == len(ErrorCode)


def test_a_channel_says_what_may_happen_in_it(document: Any) -> None:
    chat = document["channels"]["chat"]
    assert chat["address"] == "chat:{room}"
    assert chat["parameters"] == {"room": {"description": "Text without `:` and `/`."}}
    assert chat["x-gateway"] == {"pattern": "chat:{room}", "presence": True, "history": True, "recovery": True}
    assert payload(document, "chat", "publish") == {"$ref": "#/components/schemas/ChatMessage-Input"}
    assert payload(document, "chat", "publication") == {"$ref": "#/components/schemas/ChatMessage-Output"}
    assert payload(document, "chat", "subscribe") == {"$ref": "#/components/schemas/Join"}
    actions = {
        name: operation["action"]
        for name, operation in document["operations"].items()
        if operation["channel"]["$ref"] == "#/channels/chat"
    }
    assert actions == {"chat.receive": "send", "chat.subscribe": "receive", "chat.publish": "receive"}
    assert document["operations"]["chat.publish"]["description"] == "Everybody in the room hears it."


def test_events_are_one_of_several(document: Any) -> None:
    names = [each["properties"]["event"]["const"] for each in payload(document, "talk", "publish")["anyOf"]]
    assert names == ["typing", "remark", "file"]
    names = [each["properties"]["event"]["const"] for each in payload(document, "talk", "publication")["anyOf"]]
    assert names == ["arrived", "typing", "remark", "file"]


def test_what_clients_may_not_do_is_not_there(document: Any) -> None:
    assert list(document["channels"]["ticks"]["messages"]) == ["publication"]
    assert "ticks.publish" not in document["operations"]
    assert document["channels"]["ticks"]["x-gateway"]["presence"] is False


def test_a_procedure_is_an_operation_with_a_reply(document: Any) -> None:
    assert payload(document, "rooms", "result") == {"items": {"$ref": "#/components/schemas/Room"}, "type": "array"}
    assert payload(document, "adminCloseRoom", "result") == {"type": "null"}
    assert payload(document, "callDelete", "call") == {"type": "null"}
    assert document["channels"]["adminCloseRoom"]["x-gateway"] == {"rpc": "admin/close-room"}
    assert [each["$ref"] for each in document["operations"]["rooms.call"]["reply"]["messages"]] == [
        "#/channels/rooms/messages/result",
        "#/channels/rooms/messages/error",
    ]


def test_an_empty_program_has_a_document(validator: Draft7Validator) -> None:
    program = Gateway(Settings())
    document = asyncapi(contract_of(program._program, program.settings))
    assert validator.is_valid(document)
    assert document["channels"] == document["operations"] == {}
    assert "security" not in document["servers"]["gateway"]
    assert "securitySchemes" not in document["components"]


def test_security_is_what_on_connect_goes_by(validator: Draft7Validator) -> None:
    program = Gateway(Settings())
    login = OAuth2PasswordBearer(tokenUrl="login", scopes={"write": "to say something"})

    @program.on_connect
    async def connect(
        a: Annotated[str, Depends(login)],
        b: Annotated[str, Depends(program.token)],
        c: Annotated[Any, Depends(HTTPBearer())],
        d: Annotated[str, Depends(APIKeyCookie(name="session"))],
        e: Annotated[str, Depends(OpenIdConnect(openIdConnectUrl="/openid"))],
    ) -> None: ...

    contract = contract_of(program._program, program.settings)
    document = asyncapi(replace(contract, host="chat.example.com", secure=True))
    assert [error.message for error in validator.iter_errors(document)] == []
    names = ["OAuth2PasswordBearer", "ClientToken", "HTTPBearer", "APIKeyCookie", "OpenIdConnect"]
    expected = [{"$ref": f"#/components/securitySchemes/{name}"} for name in names]
    assert document["servers"]["gateway"]["security"] == expected
    schemes = document["components"]["securitySchemes"]
    flow = {"tokenUrl": "https://chat.example.com/login", "availableScopes": {"write": "to say something"}}
    assert schemes["OAuth2PasswordBearer"] == {"type": "oauth2", "flows": {"password": flow}}
    assert "connect command" in schemes["ClientToken"]["description"]
    url = "https://chat.example.com/openid"
    assert schemes["OpenIdConnect"] == {"type": "openIdConnect", "openIdConnectUrl": url}
    assert schemes["APIKeyCookie"] == {"type": "httpApiKey", "in": "cookie", "name": "session"}
