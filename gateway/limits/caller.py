"""Who is calling, for limits whose declaration does not say what their key is."""

from starlette.authentication import BaseUser
from starlette.requests import HTTPConnection

from gateway.limits.addresses import network_of


def caller(connection: HTTPConnection) -> str:
    """``user:`` and the user's id if the connection has one, else ``ip:`` and the address it comes from.

    The user is that of a gateway's ``Client``, else what a middleware left as ``scope["user"]``. Of an IPv6
    address only the network counts (64 bits), since whoever has one has all of it. Behind a proxy the address is
    the proxy's, unless the server is told to trust its headers (uvicorn: ``--forwarded-allow-ips``).
    """
    if user := _user(connection):
        return f"user:{user}"
    return f"ip:{network_of(connection.client.host if connection.client else '').name}"


def _user(connection: HTTPConnection) -> str:
    # Starlette's own property fails without its middleware; a class that has another one knows its user.
    if type(connection).user is not HTTPConnection.user:
        return str(connection.user or "")
    user = connection.scope.get("user")
    if isinstance(user, BaseUser):
        return _identity(user) if user.is_authenticated else ""
    return user if isinstance(user, str) else ""


def _identity(user: BaseUser) -> str:
    try:
        return user.identity
    except NotImplementedError:  # many a class stops at the display name
        return user.display_name
