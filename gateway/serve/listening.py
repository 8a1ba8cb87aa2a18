"""Where the gateway listens: binding the port, and telling the place."""

import logging
import socket
import sys
from typing import Any

from gateway.config.settings import Settings
from gateway.serve.systemd import notify

USER_TIMEOUT = 30_000
"""Milliseconds after which the kernel gives up a peer that acknowledges nothing; by default 15 minutes."""

log = logging.getLogger("gateway.serve.listening")


class ServeError(Exception):
    """The gateway cannot be served. The text is for the operator."""


def bind(address: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket bound to the port; `shared` lets other sockets of this user bind it as well.

    Raises `ServeError`, also when another program shares the port already.
    """
    try:
        host = address.strip("[]") or None  # in brackets as in a URL, such as we log
        family, *_, name = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # Bound without SO_REUSEPORT first: with it, two gateways would share one port and nobody would know.
        sock = _bind(family, name, shared=False)
        if shared:
            name = sock.getsockname()
            sock.close()
            sock = _bind(family, name, shared=True)
    except (OSError, UnicodeError) as error:
        raise ServeError(
            f"cannot listen on {address}:{port}: {getattr(error, 'strerror', None) or 'no such address'}; "
            "choose another place with --host and --port (http_server.address, http_server.port)"
        ) from error
    return sock


def _bind(family: int, name: Any, *, shared: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if sys.platform == "linux":  # pragma: no branch  tested there; accepted connections inherit it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT)
        sock.bind(name)
    except OSError:
        sock.close()
        raise
    return sock


def bind_beside(listener: socket.socket) -> socket.socket:
    """Another socket on the port of one that is shared: the kernel spreads connections over those that listen."""
    return _bind(listener.family, listener.getsockname(), shared=True)


def announce(settings: Settings, listener: socket.socket) -> None:
    """Tell, in the log and to systemd, that the gateway is ready."""
    address, port = listener.getsockname()[:2]
    place = reachable(address, port) + settings.http_server.root_path
    notify("READY=1")
    log.info("ready on http://%s and ws://%s/connection/websocket", place, place)


def reachable(address: str, port: int) -> str:
    """``host:port`` under which this machine reaches what is bound there."""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104  not bound
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
