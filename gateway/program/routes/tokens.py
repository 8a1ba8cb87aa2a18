"""Clients' tokens as FastAPI has them: a security scheme, and what its own schemes see in the gateway's events."""

from collections.abc import Sequence
from typing import Any

from fastapi import HTTPException
from fastapi.dependencies.models import Dependant
from fastapi.openapi.models import APIKeyIn
from fastapi.openapi.models import HTTPBearer as BearerModel
from fastapi.security import HTTPBearer, OAuth2, OpenIdConnect
from fastapi.security.api_key import APIKeyBase
from fastapi.security.base import SecurityBase
from fastapi.security.utils import get_authorization_scheme_param
from starlette.datastructures import Headers, QueryParams
from starlette.requests import HTTPConnection

from gateway.program.routes.client import Client, EventClient, with_header


class ClientToken(SecurityBase):
    """A security scheme for HTTP routes and for the gateway's events: the token that the client has sent ::

        async def current_user(token: Annotated[str, Depends(gateway.token)]) -> User: ...

    In an event it is `Client.token`: of the command at hand, or else of the connection. Without one, and in routes,
    it is ``Authorization: Bearer``, or else the cookie or the query parameter of the names given here. Where there is
    none either, it raises ``HTTPException`` (401), or is None with ``auto_error=False``.
    """

    def __init__(
        self,
        *,
        cookie: str = "",
        query: str = "",
        scheme_name: str | None = None,
        description: str | None = None,
        auto_error: bool = True,
    ) -> None:
        places = {"the cookie": cookie, "the query parameter": query}
        also = " or ".join(["", *(f"{place} `{name}`" for place, name in places.items() if name)])
        self.model = BearerModel(
            description=description or f"As `token` of the gateway's connect command, as `Authorization: Bearer`{also}."
        )
        self.scheme_name = scheme_name or type(self).__name__
        self.auto_error = auto_error
        self._cookie, self._query = cookie, query

    async def __call__(self, connection: HTTPConnection) -> str | None:
        token = connection.token if isinstance(connection, Client) else ""
        token = token or bearer(connection)
        # where nobody has named a place, there is none: requests may well have a cookie or parameter without name
        if self._cookie:
            token = token or connection.cookies.get(self._cookie, "")
        if self._query:
            token = token or connection.query_params.get(self._query, "")
        if not token and self.auto_error:
            raise HTTPException(401, "Not authenticated", {"WWW-Authenticate": "Bearer"})
        return token or None


class TokenExpired(HTTPException):
    """The client's token is good no more, and another will do: raised by dependencies and handlers.

    To an HTTP route it is a 401 (RFC 6750, section 3.1). A client of the gateway is told so that its SDK asks the page
    for another (``getToken``), and comes back.
    """

    def __init__(self, detail: Any = "token expired") -> None:
        super().__init__(401, detail, {"WWW-Authenticate": 'Bearer error="invalid_token"'})


def bearer(connection: HTTPConnection) -> str:
    """The token of its ``Authorization`` header; empty without."""
    scheme, token = get_authorization_scheme_param(connection.headers.get("Authorization"))
    return token if scheme.lower() == "bearer" else ""


# — FastAPI's own schemes —


def security_schemes(dependant: Dependant) -> list[SecurityBase]:
    """All that a handler's dependencies go by."""
    calls: list[object] = [each.call for each in dependant.dependencies]
    deeper = [scheme for each in dependant.dependencies for scheme in security_schemes(each)]
    return [call for call in calls if isinstance(call, SecurityBase)] + deeper


def api_keys(schemes: Sequence[SecurityBase]) -> list[APIKeyBase]:
    """Those that a client's token stands for: none where another scheme takes it as ``Authorization: Bearer``."""
    if any(isinstance(each, ClientToken | HTTPBearer | OAuth2 | OpenIdConnect) for each in schemes):
        return []
    return [each for each in schemes if isinstance(each, APIKeyBase)]


def show_token(event: EventClient, keys: Sequence[APIKeyBase]) -> None:
    """Put the client's token where these look for it."""
    for key in keys:
        name = key.model.name
        match key.model.in_:
            case APIKeyIn.header:
                event.shown = Headers(raw=with_header(event.headers.raw, name, event.token))
            case APIKeyIn.cookie:
                event.cookies = {**event.cookies, name: event.token}
            case APIKeyIn.query:
                event.query_params = QueryParams({**event.query_params, name: event.token})
