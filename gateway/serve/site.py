"""What of an application is served where: under a prefix, and to whom."""

from enum import Enum
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

INTERNAL = ("/api", "/apps", "/users", "/up", "/metrics", "/health", "/admin", "/docs", "/redoc", "/openapi.json")
"""For operators and backends, with all that is below. The last three describe the first."""


class Part(Enum):
    """What of the application is served on a socket."""

    WHOLE = "whole"
    CLIENTS = "clients"
    OPERATORS = "operators"

    def has(self, path: str) -> bool:
        if self is Part.WHOLE:
            return True
        internal = any(path == each or path.startswith(f"{each}/") for each in INTERNAL)
        return internal is (self is Part.OPERATORS)


class Site:
    """The application below ``prefix``, whether the proxy in front strips that or not; 404 for what is not here."""

    def __init__(self, app: ASGIApp, prefix: str, part: Part) -> None:
        self._app = app
        self._prefix = prefix
        self._part = part

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        prefix, path = self._prefix, scope["path"]
        if path == prefix or path.startswith(f"{prefix}/"):
            below = path[len(prefix) :]
        else:
            below = path
            scope["path"] = prefix + path
            scope["raw_path"] = prefix.encode() + scope["raw_path"]
        scope["root_path"] = prefix
        if self._part.has(below):
            await self._app(scope, receive, send)
        else:
            await PlainTextResponse("Not Found", 404)(scope, receive, send)  # it denies a WebSocket, too


def site(app: Any, prefix: str, part: Part) -> Any:
    """The application as it is served there; itself, if that is all of it and without a prefix."""
    return app if not prefix and part is Part.WHOLE else Site(app, prefix, part)
