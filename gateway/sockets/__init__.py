"""Plain WebSockets of the application's own routes, in the gateway's channels."""

from gateway.sockets.attaching import Attachment, Options, Sockets
from gateway.sockets.connection import ClientLeft, Connection
from gateway.sockets.manager import ConnectionManager

__all__ = ["Attachment", "ClientLeft", "Connection", "ConnectionManager", "Options", "Sockets"]
