"""How the server API is described: a schema and an example for each method, in the application's OpenAPI document."""

from typing import Any

import msgspec
from msgspec import Struct

from gateway.web import api_messages as api

Document = dict[str, Any]


class Example(Struct, frozen=True):
    """A request as a backend may send it, and what it may be answered."""

    request: Document
    result: Document


_POSITION = {"offset": 7, "epoch": "b1fd3af2"}
_ANN = {"user": "ann"}

EXAMPLES: dict[str, Example] = {
    "publish": Example(
        {"channel": "chat:lobby", "data": {"text": "hello"}, "tags": {"lang": "en"}, "idempotency_key": "message-7"},
        _POSITION,
    ),
    "broadcast": Example(
        {"channels": ["chat:lobby", "nowhere:a"], "data": {"text": "hello"}},
        {"responses": [{"result": _POSITION}, {"error": {"code": 102, "message": "unknown channel"}}]},
    ),
    "subscribe": Example(
        {**_ANN, "channel": "chat:lobby", "info": {"role": "guest"}, "override": {"force_recovery": {"value": True}}},
        {},
    ),
    "unsubscribe": Example({**_ANN, "channel": "chat:lobby"}, {}),
    "disconnect": Example({**_ANN, "disconnect": {"code": 4501, "reason": "signed out"}}, {}),
    "refresh": Example({**_ANN, "expire_at": 1924992000}, {}),
    "block_user": Example({"user": "mallory", "expire_at": 1924992000}, {}),
    "unblock_user": Example({"user": "mallory"}, {}),
    "blocked_users": Example({"limit": 100}, {"users": [{"user": "mallory", "expire_at": 1924992000}]}),
    "presence": Example(
        {"channel": "chat:lobby"},
        {
            "presence": {
                "93a1c6d2-8a4c-4a4e-9c0e-52a1a9ddf2f1": {
                    **_ANN,
                    "client": "93a1c6d2-8a4c-4a4e-9c0e-52a1a9ddf2f1",
                    "conn_info": {"name": "Ann"},
                }
            }
        },
    ),
    "presence_stats": Example({"channel": "chat:lobby"}, {"num_clients": 2, "num_users": 1}),
    "history": Example(
        {"channel": "chat:lobby", "limit": 1, "since": {"offset": 6, "epoch": "b1fd3af2"}},
        {"publications": [{"data": {"text": "hello"}, "offset": 7, "tags": {"lang": "en"}}], **_POSITION},
    ),
    "history_remove": Example({"channel": "chat:lobby"}, {}),
    "channels": Example({"pattern": "chat:*"}, {"channels": {"chat:lobby": {"num_clients": 2}}}),
    "info": Example(
        {},
        {
            "nodes": [
                {
                    "uid": "0b1c7a3e-2f0f-4a57-8f5c-94c33e1c1d1b",
                    "name": "0b1c7a3e",
                    "version": "0.2.0",
                    "num_clients": 2,
                    "num_users": 1,
                    "num_subs": 2,
                    "num_channels": 1,
                    "uptime": 3600,
                }
            ]
        },
    ),
    "map_publish": Example(
        {"channel": "board:1", "key": "ann", "data": {"x": 4}, "key_mode": "if_new"},
        {**_POSITION, "suppressed": True, "suppress_reason": "key_exists"},
    ),
    "map_remove": Example({"channel": "board:1", "key": "ann"}, _POSITION),
    "map_read_state": Example(
        {"channel": "board:1", "limit": 1},
        {
            "entries": [{"key": "ann", "data": {"x": 4}, "offset": 7, "time": 1795943095698}],
            **_POSITION,
            "cursor": "ann",
        },
    ),
    "map_read_stream": Example(
        {"channel": "board:1", "limit": 1, "since_offset": 6, "since_epoch": "b1fd3af2"},
        {"entries": [{"key": "ann", "data": {"x": 4}, "offset": 7, "time": 1795943095698}], **_POSITION},
    ),
    "map_stats": Example({"channel": "board:1"}, {"num_keys": 3}),
    "map_clear": Example({"channel": "board:1"}, {}),
    "shared_poll_publish": Example(
        {"channel": "price:all", "key": "AAA", "version": 5, "data": {"eur": 6}, "epoch": "e1"},
        {},
    ),
    "rpc": Example({"method": "weather", "params": {"city": "Graz"}}, {}),
}

BATCH = Example(
    {
        "commands": [
            {"publish": {"channel": "chat:lobby", "data": {"text": "hello"}}},
            {"presence_stats": {"channel": "chat:lobby"}},
        ],
        "parallel": True,
    },
    {"replies": [{"publish": _POSITION}, {"presence_stats": {"num_clients": 2, "num_users": 1}}]},
)

ONE = Example(
    {"id": 1, "method": "publish", "params": {"channel": "chat:lobby", "data": {"text": "hello"}}},
    {"id": 1, "result": _POSITION},
)

_ERROR_MODE = {
    "name": "X-Centrifugo-Error-Mode",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "enum": ["transport"]},
    "description": "`transport` tells errors by HTTP status; the setting http_api.error_mode does so for all",
}


def described(name: str, request: type[Any], answer: Document, example: Example) -> dict[str, Any]:
    """What `add_api_route` takes beside path, endpoint and methods."""
    error = _json(schema(api.ErrorBody), {"code": 102, "message": "unknown channel"})
    extra: Document = {"requestBody": {"required": True, "content": _json(schema(request), example.request)}}
    if name in EXAMPLES:
        extra["parameters"] = [_ERROR_MODE]
    doc = (request.__doc__ or name).strip()
    return {
        "name": name,
        "summary": doc.splitlines()[0],
        "description": doc,
        "responses": {
            200: {"description": "The result or an error", "content": _json(answer, example.result)},
            400: {"description": "The body is not a request of this method"},
            401: {"description": "Wrong or missing API key"},
            403: {"description": "A page of another origin calls, while nobody is asked for a key"},
            413: {"description": "The body is larger than 16 MiB"},
            **(
                {"default": {"description": "An error, if told by status", "content": error}}
                if name in EXAMPLES
                else {}
            ),
        },
        "openapi_extra": extra,
    }


def envelope(result: type[Any]) -> Document:
    """Of an answer: one of both."""
    return {"type": "object", "properties": {"result": schema(result), "error": schema(api.ErrorBody)}}


def wrapped(example: Example) -> Example:
    return Example(example.request, {"result": example.result})


def schema(kind: type[Any]) -> Document:
    """JSON schema of a message, complete in itself: a router cannot add components to the document."""
    (found,), components = msgspec.json.schema_components(
        [kind], schema_hook=lambda _payload: {"description": "any JSON"}, ref_template="{name}"
    )

    def inline(value: Any) -> Any:
        if isinstance(value, dict):
            reference = value.get("$ref")
            return inline(components[reference]) if reference else {key: inline(each) for key, each in value.items()}
        return [inline(each) for each in value] if isinstance(value, list) else value

    complete: Document = inline(found)
    return complete


def _json(schema: Document, example: Any) -> Document:
    return {"application/json": {"schema": schema, "example": example}}
