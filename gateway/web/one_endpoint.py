"""The server API as one endpoint: ``POST /api`` takes commands one behind the other, each with its method's name.

So clients call that are older than an endpoint for each method. Source: Centrifuge protocol, "Legacy single endpoint".
"""

import asyncio
import json
import re
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Request
from fastapi.responses import Response
from msgspec import Meta, Raw, Struct, field

from gateway.core.node import Node
from gateway.core.tasks import CHUNK
from gateway.errors import Error, ErrorCode
from gateway.protocols.centrifuge_json import encode
from gateway.web.bodies import reader
from gateway.web.methods import METHODS, READERS, error_body, measured

NUMBERS = (
    "publish",
    "broadcast",
    "unsubscribe",
    "disconnect",
    "presence",
    "presence_stats",
    "history",
    "history_remove",
    "channels",
    "info",
    "rpc",
    "subscribe",
    "refresh",
)
"""Methods by the numbers that stand for them, from 0 on."""

LATER = {
    33: "map_publish",
    34: "map_remove",
    35: "map_read_state",
    36: "map_read_stream",
    37: "map_stats",
    38: "map_clear",
    39: "shared_poll_publish",
}
"""Those that came later, and have numbers of their own."""

# numbers are not to be read, which takes quadratic time for long ones, but found the end of
_scan = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode

_SPACE = re.compile(r"[ \t\r\n]*")


class OneCommand(Struct):
    """Call a method by its name, in letters of either case, or by its number."""

    id: Annotated[int, Meta(ge=0, le=2**32 - 1)] = 0
    method: str | int = ""
    params: Raw = field(default_factory=Raw)


_read = reader(OneCommand)


def read_commands(body: bytes) -> list[OneCommand]:
    """The commands of a body, one at least. Raises ``Error`` (bad request) unless all of them can be read."""
    commands: list[OneCommand] = []
    try:
        text = body.decode()
        position = _begin(text, 0)
        while position < len(text) or not commands:
            _, end = _scan(text, position)
            commands.append(_known(_read(text[position:end].encode())))
            position = _begin(text, end)
    except (ValueError, RecursionError) as error:
        raise Error(ErrorCode.BAD_REQUEST, f"bad request: the body is not JSON: {error}") from None
    return commands


def _begin(text: str, position: int) -> int:
    """Where the next command stands."""
    space = _SPACE.match(text, position)
    assert space is not None
    return space.end()


def _known(command: OneCommand) -> OneCommand:
    if isinstance(command.method, str) and command.method and command.method.lower() not in METHODS:
        raise Error(ErrorCode.BAD_REQUEST, f"bad request: there is no method {command.method!r:.100}")
    return command


def one_endpoint(node: Callable[[], Node]) -> Callable[[Any, Request], Any]:
    """Answers commands in their order, a line each."""

    async def answer(commands: list[OneCommand], _request: Request) -> Response:
        replies: list[bytes] = []
        for count, command in enumerate(commands, 1):
            replies.append(encode(await _reply(node(), command)))
            if count % CHUNK == 0:
                await asyncio.sleep(0)
        return Response(b"\n".join(replies), media_type="application/json")

    return answer


async def _reply(node: Node, command: OneCommand) -> dict[str, Any]:
    reply: dict[str, Any] = {"id": command.id} if command.id else {}
    try:
        name = _name(command.method)
        params = bytes(command.params)
        request = READERS[name](b"{}" if params in (b"", b"null") else params)
        return {**reply, "result": await measured(node, name, request)}
    except Error as error:
        return {**reply, "error": error_body(error)}


def _name(method: str | int) -> str:
    if isinstance(method, str):
        if not method:
            raise Error(ErrorCode.BAD_REQUEST, "bad request: method must be given")
        return method.lower()
    if 0 <= method < len(NUMBERS):
        return NUMBERS[method]
    if method not in LATER:
        raise Error(ErrorCode.METHOD_NOT_FOUND)
    return LATER[method]
