"""Calls of backends: of which app they are, and whether it has signed them."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from fastapi import Request
from fastapi.responses import Response
from starlette.datastructures import QueryParams

from gateway.apps.base import App, Apps
from gateway.apps.signatures import verify_request
from gateway.config.settings.pusher import PusherApp
from gateway.core.node import Node
from gateway.errors import Error, ErrorCode
from gateway.recurring import Address
from gateway.web.api_messages import ErrorBody
from gateway.web.bodies import BODY_LIMIT, body_of, json_response

UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 401, 403, 404

IDEMPOTENCY_KEY = "x-idempotency-key"
"""Header of a call that may be repeated; see `PublishOptions`."""

_STATUS: dict[int, int] = {
    ErrorCode.BAD_REQUEST: 400,
    ErrorCode.NOT_AVAILABLE: 400,
    ErrorCode.TOO_MANY_REQUESTS: 429,
}
"""Of errors whose codes are none of HTTP."""

_ESCAPED = 6
"""Bytes that JSON may take for one."""

_SPARE = 65_536
"""Bytes of a body for all that is neither data nor a name."""

_SIGNATURE = re.compile(rb"auth_signature=[^&]*", re.IGNORECASE)


class Call(NamedTuple):
    """A call that is the app's own."""

    app: App
    body: bytes
    params: Mapping[str, str]
    """Parts of the path."""
    query: QueryParams
    idempotency_key: str = ""


async def read_call(node: Node, apps: Apps, request: Request, path: str) -> Call:
    """The call, once it is known to be the app's. ``path`` is the route's own, with its parameters in braces.

    Raises ``Error``: 401, 403 and 404, and 100 if that cannot be said just now; ``HTTPException`` for a body that is
    too large.
    """
    params, query = request.path_params, request.query_params
    # servers log it with their line of the request, and who reads it could repeat it
    request.scope["query_string"] = _SIGNATURE.sub(b"auth_signature=***", request.scope["query_string"])
    named = {name.lower(): value for name, value in query.multi_items()}
    app = await _find(apps, params.get("app_id", ""), named.get("auth_key", ""))
    body = await body_of(request, _limit(app.settings))
    sent = request.scope["path"]
    raw = request.scope.get("raw_path") or b""
    reason = verify_request(
        app,
        request.method,
        sent,
        query.multi_items(),
        body,
        node.clock(),
        raw_path=raw.partition(b"?")[0].decode("latin-1"),
        root_path=sent.removesuffix(path.format_map(params)),  # also that of a router with a prefix
    )
    if reason is not None:
        raise Error(UNAUTHORIZED, reason)
    if not app.settings.enabled:
        raise Error(FORBIDDEN, "the app is disabled")
    return Call(app, body, params, query, request.headers.get(IDEMPOTENCY_KEY, ""))


async def _find(apps: Apps, app_id: str, key: str) -> App:
    """The app with this key and id; without an id, that with the key."""
    found = await apps.find(key) if key else None
    if found is not None and app_id in ("", found.id):
        return found
    if app_id and apps.by_id(app_id) is None:
        raise Error(NOT_FOUND, "no app has this id")
    raise Error(UNAUTHORIZED, "auth_key is none of the app's keys")


def _limit(app: PusherApp) -> int:
    """Bytes of the largest body that the app can mean."""
    data = max(1, app.max_event_batch_size) * (app.max_event_size + app.max_event_name_length)
    return min(BODY_LIMIT, _SPARE + _ESCAPED * (data + app.max_event_channels * app.max_channel_name_length))


def failure(error: Error) -> Response:
    """What a call is answered that has failed."""
    status = status_of(error)
    return json_response(ErrorBody(status, error.message, error.temporary), status)


def status_of(error: Error) -> int:
    """Of HTTP; what may succeed later is 503."""
    return error.code if 400 <= error.code < 600 else _STATUS.get(error.code, 503 if error.temporary else 500)


def refused(node: Node, request: Request, name: str, error: Error) -> Response:
    """The same, for one that is nobody's, or not its app's: the log is told."""
    if status_of(error) < 500:
        caller = Address(request.client.host if request.client else "")
        node.refusals.happened("pusher_api", "%s: call of %s refused: %s", caller, name, error.message)
    return failure(error)
