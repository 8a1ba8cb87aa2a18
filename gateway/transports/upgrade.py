"""Requests that come to where WebSockets are opened and open none: what is said to whoever has to mend that."""

from collections.abc import Callable, Sequence
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.transports.base import Acceptor

WEBSOCKET_PATHS = ("/connection/websocket", "/connection/websocket/")
"""Where they are opened. A router would send the second away to the first, where no WebSocket follows."""

CURE = (
    "A proxy that stands in front must pass WebSockets on. nginx: proxy_http_version 1.1; "
    'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; '
    "HAProxy, Caddy, Traefik and Envoy pass them on as they are, the latter with upgrade_configs."
)

PREFIX = "If a proxy in front leaves a prefix of its own before it: name that in the setting"

OLD = "It has come as HTTP/1.0, which knows no Upgrade: so nginx speaks unless it is told proxy_http_version 1.1."
MISSING = "The request has no header Upgrade: websocket."
PASSED_OVER = "A WebSocket is opened by GET, with Connection: Upgrade and without a body, when no answer is due before."


class UpgradeNeeded:
    """A raw ASGI application that answers plain HTTP where a WebSocket is opened."""

    def __init__(self, acceptor: Callable[[], Acceptor]) -> None:
        self._acceptor = acceptor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        version = scope["http_version"]
        found = _found(scope)
        text = "%s: no WebSocket is opened at %s: %s"
        acceptor = self._acceptor()
        acceptor.refusals.happened("upgrade", text, acceptor.address(scope), scope["path"], found)
        headers = {"upgrade": "websocket", "connection": "upgrade"} if version.startswith("1.") else {}  # no HTTP/2 has
        body = f"This address opens WebSockets. {found}\n{CURE}\n"
        await PlainTextResponse(body, HTTPStatus.UPGRADE_REQUIRED, headers)(scope, receive, send)


class Nowhere:
    """A raw ASGI application that answers a WebSocket at a path where none is opened; all else is ``otherwise``'s."""

    def __init__(self, acceptor: Acceptor, otherwise: ASGIApp, paths: Sequence[str], prefix: str = "") -> None:
        """``paths`` are those where they are opened, below ``prefix``, which is http_server.root_path."""
        self._acceptor = acceptor
        self._otherwise = otherwise
        self._places = " or ".join(prefix + path for path in paths)
        self._setting = "http_server.root_path" + (f", which is {prefix} now" if prefix else "")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await self._otherwise(scope, receive, send)
            return
        path, places = scope["path"][:100], self._places
        text = "%s: no WebSocket is opened at %r, but at %s; a prefix that a proxy leaves stands in %s"
        address = self._acceptor.address(scope)
        self._acceptor.refusals.happened("path", text, address, path, places, self._setting, reason=path)
        body = f"No WebSocket is opened at {path!a}, but at {places}.\n{PREFIX} {self._setting}.\n"
        await PlainTextResponse(body, HTTPStatus.NOT_FOUND)(scope, receive, send)


def _found(scope: Scope) -> str:
    """What is wrong with the request."""
    offered = "websocket" in Headers(scope=scope).get("upgrade", "").lower()
    if scope["http_version"] == "1.0":
        return OLD if offered else f"{MISSING} {OLD}"
    return PASSED_OVER if offered else MISSING
