"""Ending connections: a user's, on all nodes, by order of its backend; and those to apps that are gone.

Source: Pusher Channels protocol, "Terminating user connections".
"""

import logging

from msgspec import DecodeError, Struct
from msgspec.json import Decoder, encode

from gateway.apps.base import Apps
from gateway.core.node import Node
from gateway.errors import Disconnect
from gateway.session.pusher.replies import DISABLED, RECONNECT, UNAUTHORIZED, UNKNOWN_KEY
from gateway.session.pusher.session import AppSession

NOTICE = "pusher_terminate"
"""To every node: JSON with the ids of an app and of the user."""

log = logging.getLogger(__name__)


class _Terminate(Struct):
    app: str
    user: str


_terminate = Decoder(_Terminate).decode


def notice(app: str, user: str) -> str:
    """What the nodes are told."""
    return encode(_Terminate(app, user)).decode()


def listen(node: Node) -> None:
    """Do what other nodes, or this one, are told."""

    def told(argument: str) -> None:
        try:
            found = _terminate(argument)
        except DecodeError:
            log.warning("a notice to end connections cannot be read")
            return
        terminate(node, found.app, found.user)

    node.cluster.listeners[NOTICE] = told


def terminate(node: Node, app: str, user: str) -> None:
    """End the connections here that are signed in to the app as the user."""
    for connection in node.hub.of_user(user) if user else ():
        if isinstance(connection, AppSession) and connection.app.id == app:
            connection.disconnect(Disconnect(UNAUTHORIZED, "ended by the application"))


def close_gone(node: Node, apps: Apps) -> None:
    """End the connections here to apps that are disabled, or that there are no more, since others were named."""
    for connection in list(node.hub.connections.values()):
        if not isinstance(connection, AppSession) or connection.app.settings.enabled:
            continue
        now = apps.by_id(connection.app.id)
        if now is None:
            reason = Disconnect(UNKNOWN_KEY, "there is no such app any more")
        elif now.settings.enabled:
            reason = Disconnect(RECONNECT, "the app has moved")
        else:
            reason = Disconnect(DISABLED, "the app is disabled")
        connection.disconnect(reason)
