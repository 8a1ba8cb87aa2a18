"""The AsyncAPI 3.0 document of a contract."""

from typing import Any

from gateway.contracts.contract import ChannelContract, Contract, Data, ProcedureContract
from gateway.contracts.schemas import Schema
from gateway.contracts.security import described
from gateway.errors import DisconnectCode, ErrorCode

Part = dict[str, Any]

_PROTOCOL = (
    "One connection carries all channels and calls, in the Centrifuge protocol (JSON): its official SDKs, such as npm "
    "`centrifuge` and PyPI `centrifuge-python`, connect here."
)

_KINDS = {
    "str": "Text without `:` and `/`.",
    "path": "Any text.",
    "int": "A whole number.",
    "float": "A number.",
    "uuid": "A UUID.",
}

_ERROR: Schema = {
    "type": "object",
    "required": ["code", "message"],
    "properties": {
        "code": {"type": "integer"},
        "message": {"type": "string"},
        "temporary": {"type": "boolean", "description": "Whether the same may succeed later."},
    },
}


def asyncapi(contract: Contract) -> Part:
    """The document. ``send`` and ``receive`` in it are what the application does."""
    channels: Part = {}
    operations: Part = {}
    if contract.connects_with is not None:
        channels["connection"], operations["connection.connect"] = _connection(contract.connects_with)
    for channel in contract.channels:
        channels[channel.name] = _channel(channel)
        operations |= _operations(channel)
    for procedure in contract.procedures:
        channels[procedure.name], operations[f"{procedure.name}.call"] = _procedure(procedure)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": contract.title, "version": contract.version},
        "defaultContentType": "application/json",
        "servers": {"gateway": _server(contract)},
        "channels": channels,
        "operations": operations,
        "components": _components(contract),
    }


def _server(contract: Contract) -> Part:
    server = {
        "host": contract.host,
        "pathname": contract.path,
        "protocol": "wss" if contract.secure else "ws",
        "description": _PROTOCOL,
        "x-disconnects": [{"code": int(each), "reason": each.reason} for each in DisconnectCode],
    }
    if not contract.security:
        return server
    return {**server, "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in contract.security]}


def _components(contract: Contract) -> Part:
    components: Part = {
        "schemas": dict(contract.schemas),
        "messages": {
            "accepted": {"summary": "What was asked is done.", "payload": {"type": "object"}},
            "error": {
                "summary": "What was asked is refused.",
                "payload": _ERROR,
                "x-errors": [
                    {"code": int(each), "message": each.message, "temporary": each.temporary} for each in ErrorCode
                ],
            },
        },
    }
    if contract.security:
        root = f"{'https' if contract.secure else 'http'}://{contract.host}/"
        components["securitySchemes"] = {name: described(each, root) for name, each in contract.security.items()}
    return components


# — channels —


def _channel(channel: ChannelContract) -> Part:
    messages: Part = {"publication": _message("publication", channel.receives)}
    if channel.sends is not None:
        messages |= {"publish": _message("publish", channel.sends), **_ANSWERS}
    if channel.joins_with is not None:
        messages |= {"subscribe": _message("subscribe", channel.joins_with.schema), **_ANSWERS}
    options = channel.options
    result: Part = {
        "address": channel.address,
        "messages": messages,
        "x-gateway": {
            "pattern": channel.pattern,
            "presence": channel.reads_presence,
            "history": channel.reads_history,
            "recovery": options.keeps_history and (options.force_recovery or options.allow_recovery),
        },
    }
    if channel.parameters:
        result["parameters"] = {name: {"description": _KINDS[kind]} for name, kind in channel.parameters.items()}
    return result


def _operations(channel: ChannelContract) -> Part:
    told = channel.descriptions
    operations = {f"{channel.name}.receive": _operation("send", channel.name, "publication", told.get("live", ""))}
    if channel.joins_with is not None:
        operations[f"{channel.name}.subscribe"] = _asked(channel.name, "subscribe", told.get("on_subscribe", ""))
    if channel.sends is not None:
        operations[f"{channel.name}.publish"] = _asked(channel.name, "publish", told.get("on_publish", ""))
    return operations


# — what belongs to no channel —


def _connection(data: Data) -> tuple[Part, Part]:
    channel = {
        "address": None,
        "description": "What comes with the connect command, as `data`.",
        "messages": {"connect": _message("connect", data.schema)},
    }
    return channel, _operation("receive", "connection", "connect", "")


def _procedure(procedure: ProcedureContract) -> tuple[Part, Part]:
    nothing: Schema = {"type": "null"}
    takes = procedure.takes.schema if procedure.takes else nothing
    channel = {
        "address": None,
        "description": f"Calls of `{procedure.method}`.",
        "messages": {
            "call": _message(procedure.method, takes),
            "result": _message("result", nothing if procedure.returns is None else procedure.returns),
            "error": _ANSWERS["error"],
        },
        "x-gateway": {"rpc": procedure.method},
    }
    operation = _operation("receive", procedure.name, "call", procedure.description)
    operation["reply"] = {
        "channel": {"$ref": f"#/channels/{procedure.name}"},
        "messages": [_reference(procedure.name, "result"), _reference(procedure.name, "error")],
    }
    return channel, operation


_ANSWERS = {name: {"$ref": f"#/components/messages/{name}"} for name in ("accepted", "error")}


def _message(name: str, payload: Schema) -> Part:
    return {"name": name, "payload": payload}


def _operation(action: str, channel: str, message: str, description: str) -> Part:
    operation: Part = {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [_reference(channel, message)],
    }
    return {**operation, "description": description} if description else operation


def _asked(channel: str, message: str, description: str) -> Part:
    """An operation that is answered with nothing but whether it is done."""
    operation = _operation("receive", channel, message, description)
    messages = [_reference(channel, name) for name in _ANSWERS]
    return {**operation, "reply": {"channel": {"$ref": f"#/channels/{channel}"}, "messages": messages}}


def _reference(channel: str, message: str) -> Part:
    return {"$ref": f"#/channels/{channel}/messages/{message}"}
