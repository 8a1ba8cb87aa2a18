"""The routes of the page: itself with its files, the log-in, and what it asks for.

Answers are JSON: ``{"result": …}`` or ``{"error": {"code", "message"}}``. No other origin's page can ask: a body must
be said to be JSON, for which a browser asks first, and is not answered. Where an application's CORS middleware answers
it, the browser's own word for whose page it is has to do.
"""

import re
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, RedirectResponse, Response
from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.types import Scope

from gateway.admin.login import LIFETIME, Login
from gateway.admin.methods import METHODS
from gateway.config.settings import AdminSettings
from gateway.core.node import Node
from gateway.errors import Error, ErrorCode
from gateway.limits.addresses import UNIX, read_address
from gateway.recurring import Address
from gateway.web.bodies import BODY_LIMIT, Read, body_of, json_response, reader
from gateway.web.methods import error_body
from gateway.web.pages import is_of_another, page_file

_STATIC = Path(__file__).parent / "static"
_MEDIA_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/vnd.microsoft.icon",
    ".woff2": "font/woff2",
}
_FILE = re.compile(r"\w[\w-]*(\.[\w-]+)+", re.ASCII)

_LOCAL_NAME = re.compile(r"(.+\.)?localhost\.?", re.IGNORECASE)
"""Names that are this machine's own, whatever a name server says (RFC 6761, section 6.3)."""

_FORWARDED = frozenset(("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"))
"""By which a proxy says that it is one."""

LOGIN_BYTES = 4096


class _LoginRequest(Struct):
    password: str = ""


def admin_router(
    node: Callable[[], Node], settings: Callable[[], AdminSettings], locate: Callable[[Scope], Address]
) -> APIRouter:
    """``/admin/``, its files, ``/admin/auth`` and ``/admin/api/<method>``.

    ``node`` and ``settings`` are asked for with each request; ``locate`` says where a caller is, behind the proxies
    that are trusted.
    """
    router = APIRouter(prefix="/admin", include_in_schema=False)
    login = Login(settings, lambda: node().clock(), lambda: node().wheel.clock())
    api = _API(node, login, locate)

    @router.api_route("", methods=["GET", "HEAD"])
    async def slashless() -> RedirectResponse:
        return RedirectResponse("admin/")  # relative: of what stands before nobody here knows

    @router.api_route("/", methods=["GET", "HEAD"])
    async def page(request: Request) -> Response:
        return api.misnamed(request) or _file("index.html", request)

    @router.api_route("/{name}", methods=["GET", "HEAD"])
    async def file(name: str, request: Request) -> Response:
        return _file(name, request)

    router.add_api_route("/auth", api.log_in, methods=["POST"])
    router.add_api_route("/api/{method}", api.call, methods=["POST"])
    return router


def _file(name: str, request: Request) -> FileResponse:
    path = _STATIC / name
    media_type = _MEDIA_TYPES.get(path.suffix)
    if media_type is None or not _FILE.fullmatch(name) or not path.is_file():
        raise HTTPException(404)
    return page_file(path, media_type, request)


class _API:
    """What is asked by POST."""

    def __init__(self, node: Callable[[], Node], login: Login, locate: Callable[[Scope], Address]) -> None:
        self._node = node
        self._login = login
        self._locate = locate
        self._read_login = reader(_LoginRequest)
        self._readers: dict[str, Read] = {name: reader(method.request) for name, method in METHODS.items()}

    async def log_in(self, request: Request) -> Response:
        """A token for the password."""
        if refusal := self.misnamed(request) or _unfit(request):
            return refusal
        try:
            asked: _LoginRequest = self._read_login(await body_of(request, LOGIN_BYTES))
        except Error as error:
            return json_response({"error": error_body(error)}, 400)
        login, address = self._login, self._locate(request.scope)
        if login.insecure:
            return _opened("")
        if not asked.password:  # so the page asks whether it must show a form
            return _error(401, "a password is needed")
        if wait := login.wait(address):
            return _error(429, f"too many wrong passwords: try again in {wait} s", {"Retry-After": str(wait)})
        if token := login.open(asked.password, address):
            return _opened(token)
        what = "%s: log-in to the admin page refused: the password is not admin.password"
        self._node().refusals.happened("admin_password", what, address)
        return _error(401, "wrong password")

    async def call(self, method: str, request: Request) -> Response:
        """What a method answers."""
        if refusal := self.misnamed(request) or _unfit(request):
            return refusal
        if not self._login.admits(request.headers.get("authorization", "")):
            return _error(401, "log in anew", {"WWW-Authenticate": "Bearer"})
        known = METHODS.get(method)
        if known is None:
            return json_response({"error": error_body(Error(ErrorCode.METHOD_NOT_FOUND))}, 404)
        try:
            command = self._readers[method](await body_of(request, BODY_LIMIT))
        except Error as error:
            return json_response({"error": error_body(error)}, 400)
        try:
            return json_response({"result": await known.call(self._node(), command)})
        except Error as error:
            return json_response({"error": error_body(error)})

    def misnamed(self, request: Request) -> Response | None:
        """How a request is refused that this machine's browser may have sent for a stranger's page.

        Such a page can give its own name this machine's address (DNS rebinding), and is then the same origin; but not
        another name than its own. So where nobody is asked for a password it must be one of this machine's, or an
        address. A caller who says whom it stands for may be the same browser.
        """
        host = request.headers.get("host", "")
        name = request.client.host if request.client else UNIX
        peer = read_address(name)
        near = name == UNIX or (peer is not None and peer.is_loopback) or _FORWARDED & set(request.headers.keys())
        if not (self._login.insecure and near) or _is_local(host):
            return None
        what = "%s: the admin page refused by the name %.100r"
        self._node().refusals.happened("admin_host", what, self._locate(request.scope), host)
        return _error(
            403,
            f"everybody may use this page at this machine itself (admin.insecure), so not by the name {host[:100]!r}: "
            "open it at http://127.0.0.1 or http://localhost, or set admin.password and admin.insecure = false",
        )


def _is_local(host: str) -> bool:
    """Whether a Host header is an address, or a name of this machine alone."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        ip_address(name)
    except ValueError:
        return bool(_LOCAL_NAME.fullmatch(name))
    return True


def _unfit(request: Request) -> Response | None:
    """How a body is refused that may be a form's, which any page can send, or that is another page's by its browser."""
    if is_of_another(request):
        return _error(403, "no page but the gateway's own may ask")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
        return None
    return _error(415, "send JSON, with Content-Type: application/json")


def _opened(token: str) -> Response:
    return json_response({"token": token, "expires_in": LIFETIME}, headers=_NO_STORE)


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    body: dict[str, Any] = {"code": ErrorCode.UNAUTHORIZED if status == 401 else ErrorCode.BAD_REQUEST}
    return json_response({"error": {**body, "message": message}}, status, {**_NO_STORE, **(headers or {})})


_NO_STORE = {"Cache-Control": "no-store"}
