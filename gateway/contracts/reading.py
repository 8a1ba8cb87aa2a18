"""Reads the contract of a program from its routes: the one place that does."""

import inspect
import re
from collections.abc import Callable
from types import NoneType
from typing import Any, Union, get_args, get_origin

from fastapi.security.base import SecurityBase

from gateway.config.places import authority
from gateway.config.settings import Settings, TokenSettings
from gateway.contracts.contract import PATH, ChannelContract, Contract, Data, ProcedureContract
from gateway.contracts.names import Names, camel, pascal
from gateway.contracts.schemas import Schema, Schemas
from gateway.program.routes.channel import ChannelRoute
from gateway.program.routes.handlers import Handler
from gateway.program.routes.patterns import Pattern
from gateway.program.routes.program import Procedure, Program
from gateway.program.routes.returns import Handled, Message
from gateway.program.routes.signatures import members, returned, yielded

_NO_DATA = Data({"type": "null"}, required=False)

OURS = ("connection", "part", "subscription")
"""Names that documents and generated clients need for themselves."""


def contract_of(program: Program, settings: Settings) -> Contract:
    """The contract of all that has been declared so far, but for maps, whose subscriptions are of another kind."""
    schemas, names = Schemas(), Names(OURS)
    streams = [route for route in program.channels if not route.options.is_map]
    channels = [_channel(route, settings, schemas, names) for route in streams]
    procedures = [_procedure(*each, schemas, names) for each in program.procedures.items()]
    connect, server = program.handlers.get("on_connect"), settings.http_server
    wanted = settings.asyncapi
    return Contract(
        title=wanted.title or getattr(program.app, "title", "") or "Gateway",
        version=wanted.version or getattr(program.app, "version", "") or "0.1.0",
        host=next((authority(place.host, place.port) for place in server.places if not place.path), "localhost"),
        path=server.root_path.rstrip("/") + PATH,
        security=_security(connect, settings.client.token),
        connects_with=_data(connect, schemas),
        channels=channels,
        procedures=procedures,
        schemas=schemas.make(),
    )


def _channel(route: ChannelRoute[Any], settings: Settings, schemas: Schemas, names: Names) -> ChannelContract:
    options, insecure = route.options, settings.client.insecure
    publishes = options.allow_publish_for_client or options.allow_publish_for_subscriber or insecure
    reads_presence = options.allow_presence_for_client or options.allow_presence_for_subscriber or insecure
    reads_history = options.allow_history_for_client or options.allow_history_for_subscriber or insecure
    return ChannelContract(
        name=_name(route.pattern, names),
        pattern=route.pattern.text,
        parameters=route.pattern.types,
        options=options,
        descriptions=_descriptions(route),
        sends=_sends(route, publishes, schemas),
        receives=_receives(route, publishes, schemas),
        joins_with=_data(route.handlers.get("on_subscribe"), schemas),
        reads_presence=options.presence and (reads_presence or "on_presence" in route.handlers),
        reads_history=options.keeps_history and (reads_history or "on_history" in route.handlers),
    )


def _descriptions(route: ChannelRoute[Any]) -> dict[str, str]:
    """What the handlers say of themselves, by event; of the channel's own events, together."""
    found = {event: _description(each.call) for event, each in route.handlers.items()}
    named = [(each.name, _description(each.handler.call)) for each in route.named_events if each.handler]
    if named:
        found["on_publish"] = "\n".join(f"`{name}`: {text}" for name, text in named if text)
    return {event: text for event, text in found.items() if text}


def _sends(route: ChannelRoute[Any], publishes: bool, schemas: Schemas) -> Schema | None:
    if named := [each for each in route.named_events if each.handler]:
        sent = [(each, _data(each.handler, schemas) or _NO_DATA) for each in named]
        return schemas.either([each.schema(data.schema, data.required) for each, data in sent])
    handler = route.handlers.get("on_publish")
    if handler is None and not publishes:
        return None
    kind = handler.takes if handler else route.message
    return {} if kind is None else schemas.sent(kind)


def _receives(route: ChannelRoute[Any], publishes: bool, schemas: Schemas) -> Schema:
    """Of what the program says it is, or else of what the handlers may publish."""
    if route.message is not None:
        return schemas.received(route.message)
    found = [
        each.schema(schemas.received(each.receives) if each.receives else _NO_DATA.schema)
        for each in route.named_events
    ]
    if handler := route.handlers.get("on_publish"):
        found += _published(handler, schemas)
    elif publishes and not route.named_events:
        found.append({})
    for event in ("live", "on_cache_empty"):
        if handler := route.handlers.get(event):
            kind = yielded(handler.call) if event == "live" else _without_none(returned(handler.call))
            found.append({} if kind is None else schemas.received(kind))
    return schemas.either(found or [{}])


def _published(handler: Handler, schemas: Schemas) -> list[Schema]:
    """What ``on_publish`` returns, and what it takes where that is published."""
    kinds = [get_args(each)[0] if get_origin(each) is Message else each for each in members(returned(handler.call))]
    result = [each for each in kinds if each not in (None, NoneType, bool, Message, Handled, Any)]
    found = [schemas.received(_joined(result))] if result else []
    if any(each in (None, NoneType, bool, Message) for each in kinds):
        found.append({} if handler.takes is None else schemas.received(handler.takes))
    return found


def _procedure(method: str, procedure: Procedure, schemas: Schemas, names: Names) -> ProcedureContract:
    handler = procedure.handler
    kind = returned(handler.call)
    return ProcedureContract(
        name=names.take(camel(method), "call" + pascal(method)),
        method=method,
        description=_description(handler.call),
        takes=_data(handler, schemas),
        returns=None if kind is NoneType else {} if kind is None else schemas.received(kind),
    )


def _data(handler: Handler | None, schemas: Schemas) -> Data | None:
    if handler is None or handler.takes is None:
        return None
    return Data(schemas.sent(handler.takes), handler.needs_data)


def _without_none(kind: Any) -> Any:
    kinds = [each for each in members(kind) if each not in (None, NoneType)]
    return _joined(kinds) if kinds else None


def _joined(kinds: list[Any]) -> Any:
    return Union[tuple(kinds)]  # noqa: UP007  of a list


def _name(pattern: Pattern, names: Names) -> str:
    """``chatTyping`` for ``chat:{room}:typing``, or else ``chatTypingByRoom``."""
    parameters = "".join(map(pascal, pattern.types))
    if words := camel(re.sub(r"{.*?}", " ", pattern.text)):
        return names.take(words, f"{words}By{parameters}" if parameters else "", f"{words}Channel")
    return names.take(camel(parameters), "channel")


def _description(call: Callable[..., Any]) -> str:
    """The docstring of a function; objects that can be called speak of their class, not of this use."""
    return (inspect.getdoc(call) or "") if inspect.isroutine(call) else ""


def _security(connect: Handler | None, token: TokenSettings) -> dict[str, SecurityBase | None]:
    """What ``on_connect`` goes by, and the token that the gateway verifies, or that the handler may look at."""
    schemes = {each.scheme_name: each for each in connect.schemes} if connect else {}
    verifies = token.hmac_secret_key or token.rsa_public_key or token.ecdsa_public_key
    return {"token": None, **schemes} if verifies or (connect and not schemes) else {**schemes}
