"""Plain WebSockets of the application's own routes, in the gateway's channels."""

from gateway.program.sockets.attaching import Attachment, Options, Sockets
from gateway.program.sockets.connection import ClientLeft, PlainConnection
from gateway.program.sockets.inbox import ChannelMessage
from gateway.program.sockets.manager import ConnectionManager

__all__ = [
    "Attachment",
    "ChannelMessage",
    "ClientLeft",
    "Connection",
    "ConnectionManager",
    "Options",
    "PlainConnection",
    "Sockets",
]

Connection = PlainConnection
"""What programs call it."""
