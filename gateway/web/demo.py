"""The page at /: chat rooms in the browser, with a connection token for whoever asks."""

from collections.abc import Callable
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse

from gateway.auth.tokens import sign_connection
from gateway.web.pages import page_file

_STATIC = Path(__file__).parent / "static"
_MEDIA_TYPES = {
    "chat.js": "text/javascript",
    "style.css": "text/css",
    "favicon.svg": "image/svg+xml",
}
_TOKEN_TTL = 3600
_MAX_NAME_LENGTH = 32


def demo_router(secret: Callable[[], str]) -> APIRouter:
    """Build the routes of the page: ``/``, its files and ``/demo/token``.

    ``secret`` tells ``client.token.hmac_secret_key``, for each token anew: it signs what the connections are verified
    with. Everybody who reaches these routes may connect under any name, so include them only where the demo is
    enabled. Raises ``ValueError`` without a secret.
    """
    if not secret():
        raise ValueError('the demo needs client.token.hmac_secret_key, for example "openssl rand -hex 32" prints one')
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def page(request: Request) -> FileResponse:
        return page_file(_STATIC / "index.html", "text/html", request)

    @router.get("/demo/token")
    async def token(user: str = "") -> JSONResponse:
        name = user.strip()
        if not 1 <= len(name) <= _MAX_NAME_LENGTH or not name.isprintable():
            raise HTTPException(400, f"a name has 1 to {_MAX_NAME_LENGTH} printable characters")
        signed = sign_connection(secret(), name, ttl=_TOKEN_TTL, info={"name": name})
        return JSONResponse({"token": signed}, headers={"Cache-Control": "no-store"})

    @router.get("/demo/{name}")
    async def file(name: str, request: Request) -> FileResponse:
        if name not in _MEDIA_TYPES:
            raise HTTPException(404)
        return page_file(_STATIC / name, _MEDIA_TYPES[name], request)

    return router
