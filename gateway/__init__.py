"""A horizontally scaled WebSocket gateway for FastAPI."""

from typing import TYPE_CHECKING, Any

from gateway.version import __version__

if TYPE_CHECKING:
    from gateway.embedded import Gateway
    from gateway.errors import BrokerUnavailable, Disconnect, DisconnectCode, Error, ErrorCode
    from gateway.manager import ConnectionManager
    from gateway.publisher import Publisher
    from gateway.routes.channel import ChannelRoute
    from gateway.routes.client import Client
    from gateway.routes.returns import HANDLED, Credentials, Grant, Handled, Message
    from gateway.settings import Settings

_HOMES = {
    "BrokerUnavailable": "errors",
    "ChannelRoute": "routes.channel",
    "Client": "routes.client",
    "ConnectionManager": "manager",
    "Credentials": "routes.returns",
    "Disconnect": "errors",
    "DisconnectCode": "errors",
    "Error": "errors",
    "ErrorCode": "errors",
    "Gateway": "embedded",
    "Grant": "routes.returns",
    "HANDLED": "routes.returns",
    "Handled": "routes.returns",
    "Message": "routes.returns",
    "Publisher": "publisher",
    "Settings": "settings",
}

__all__ = [
    "HANDLED",
    "BrokerUnavailable",
    "ChannelRoute",
    "Client",
    "ConnectionManager",
    "Credentials",
    "Disconnect",
    "DisconnectCode",
    "Error",
    "ErrorCode",
    "Gateway",
    "Grant",
    "Handled",
    "Message",
    "Publisher",
    "Settings",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Public names are read when first asked for: the parts of the package must not import the whole."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
