"""A horizontally scaled WebSocket gateway for FastAPI."""

from typing import TYPE_CHECKING, Any

from gateway.version import __version__

if TYPE_CHECKING:
    from gateway.config.settings import Settings
    from gateway.errors import BrokerUnavailable, Disconnect, DisconnectCode, Error, ErrorCode
    from gateway.messages import Position, Receipt
    from gateway.program.errors import ChannelError
    from gateway.program.gateway import Gateway
    from gateway.program.manager import ConnectionManager
    from gateway.program.publisher import Publisher
    from gateway.program.routes.channel import ChannelRoute
    from gateway.program.routes.client import Client
    from gateway.program.routes.returns import HANDLED, Credentials, Grant, Handled, Message
    from gateway.program.routes.tokens import ClientToken, TokenExpired
    from gateway.program.sockets import ChannelMessage, ClientLeft, PlainConnection

_HOMES = {
    "BrokerUnavailable": "errors",
    "ChannelError": "program.errors",
    "ChannelMessage": "program.sockets",
    "ChannelRoute": "program.routes.channel",
    "Client": "program.routes.client",
    "ClientLeft": "program.sockets",
    "ClientToken": "program.routes.tokens",
    "ConnectionManager": "program.manager",
    "Credentials": "program.routes.returns",
    "Disconnect": "errors",
    "DisconnectCode": "errors",
    "Error": "errors",
    "ErrorCode": "errors",
    "Gateway": "program.gateway",
    "Grant": "program.routes.returns",
    "HANDLED": "program.routes.returns",
    "Handled": "program.routes.returns",
    "Message": "program.routes.returns",
    "PlainConnection": "program.sockets",
    "Position": "messages",
    "Publisher": "program.publisher",
    "Receipt": "messages",
    "Settings": "config.settings",
    "TokenExpired": "program.routes.tokens",
}

__all__ = [
    "HANDLED",
    "BrokerUnavailable",
    "ChannelError",
    "ChannelMessage",
    "ChannelRoute",
    "Client",
    "ClientLeft",
    "ClientToken",
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
    "PlainConnection",
    "Position",
    "Publisher",
    "Receipt",
    "Settings",
    "TokenExpired",
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
