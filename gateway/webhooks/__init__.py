"""Webhooks: what happens in an app is told to its backend, on behalf of all nodes by one of them.

Source: Pusher Channels protocol, "Webhooks".
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.apps.base import Apps
from gateway.config.settings.pusher import PusherSettings
from gateway.errors import SettingsError
from gateway.leases.base import Leases
from gateway.outbox.base import Outbox

if TYPE_CHECKING:
    from gateway.core.node import Node
    from gateway.webhooks.webhooks import Webhooks

log = logging.getLogger(__name__)


def open_webhooks(
    settings: Callable[[], PusherSettings],
    outbox: Outbox | None,
    leases: Leases,
    node: "Callable[[], Node]",
    apps: Callable[[], Apps],
) -> "Webhooks | None":
    """Those of one node, which ``node`` gives once it is made; None where there are no apps, or nobody could be told.

    ``settings`` are asked each time, but for what the outbox was made with.

    Raises ``SettingsError`` for webhooks where the engine has no outbox.
    """
    pusher = settings()
    if not pusher.enabled:
        return None
    if outbox is None:
        if any(app.webhooks for app in pusher.apps):
            raise SettingsError(
                "pusher.apps: webhooks need an engine in which the nodes keep together what they have to tell: "
                'engine.type "redis", or "memory" for one node'
            )
        log.info("pusher: webhooks of apps are not told, for the engine is neither Redis nor memory")
        return None
    from gateway.webhooks.webhooks import Webhooks  # brings the HTTP client, which most do without

    return Webhooks(outbox, leases, node, apps, lambda: settings().webhooks)
