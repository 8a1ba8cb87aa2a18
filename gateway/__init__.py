"""A horizontally scaled WebSocket gateway for FastAPI."""

from typing import TYPE_CHECKING, Any

from gateway.version import __version__

if TYPE_CHECKING:
    from gateway.config.settings import Settings
    from gateway.config.settings.pusher import PusherApp
    from gateway.errors import BrokerUnavailable, Disconnect, DisconnectCode, Error, ErrorCode
    from gateway.limits.limit import Quota, RateLimit
    from gateway.maps.base import MapReceipt
    from gateway.messages import Position, Receipt
    from gateway.program.errors import ChannelError
    from gateway.program.gateway import Gateway
    from gateway.program.manager import ConnectionManager
    from gateway.program.maps import MapHandle
    from gateway.program.publisher import Publisher
    from gateway.program.pusher import PusherUser
    from gateway.program.routes.channel import ChannelRoute
    from gateway.program.routes.client import Client
    from gateway.program.routes.handle import ChannelHandle
    from gateway.program.routes.listening import Listener
    from gateway.program.routes.named_events import ChannelEvent
    from gateway.program.routes.returns import HANDLED, Credentials, Grant, Handled, Message
    from gateway.program.routes.router import ChannelRouter, Inclusion
    from gateway.program.routes.streams import Stream
    from gateway.program.routes.tokens import ClientToken, TokenExpired
    from gateway.program.sockets import ChannelMessage, ClientLeft, Connection
    from gateway.program.typed import ClientInfo, Publication

_HOMES = {
    "BrokerUnavailable": "errors",
    "ChannelError": "program.errors",
    "ChannelEvent": "program.routes.named_events",
    "ChannelHandle": "program.routes.handle",
    "ChannelMessage": "program.sockets",
    "ChannelRoute": "program.routes.channel",
    "ChannelRouter": "program.routes.router",
    "Client": "program.routes.client",
    "ClientLeft": "program.sockets",
    "ClientToken": "program.routes.tokens",
    "ClientInfo": "program.typed",
    "Connection": "program.sockets",
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
    "Inclusion": "program.routes.router",
    "Listener": "program.routes.listening",
    "MapHandle": "program.maps",
    "MapReceipt": "maps.base",
    "Message": "program.routes.returns",
    "Position": "messages",
    "Publication": "program.typed",
    "Publisher": "program.publisher",
    "PusherApp": "config.settings.pusher",
    "PusherUser": "program.pusher",
    "Quota": "limits.limit",
    "RateLimit": "limits.limit",
    "Receipt": "messages",
    "Settings": "config.settings",
    "Stream": "program.routes.streams",
    "TokenExpired": "program.routes.tokens",
}

__all__ = [
    "HANDLED",
    "BrokerUnavailable",
    "ChannelError",
    "ChannelEvent",
    "ChannelHandle",
    "ChannelMessage",
    "ChannelRoute",
    "ChannelRouter",
    "Client",
    "ClientInfo",
    "ClientLeft",
    "ClientToken",
    "Connection",
    "ConnectionManager",
    "Credentials",
    "Disconnect",
    "DisconnectCode",
    "Error",
    "ErrorCode",
    "Gateway",
    "Grant",
    "Handled",
    "Inclusion",
    "Listener",
    "MapHandle",
    "MapReceipt",
    "Message",
    "Position",
    "Publication",
    "Publisher",
    "PusherApp",
    "PusherUser",
    "Quota",
    "RateLimit",
    "Receipt",
    "Settings",
    "Stream",
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
