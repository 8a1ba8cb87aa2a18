"""Webhooks: what happens in an app is told to its backend, on behalf of all nodes by one of them.

Source: Pusher Channels protocol, "Webhooks".
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.apps.base import Apps
from gateway.config.settings.pusher import PusherSettings
from gateway.leases.base import Leases
from gateway.outbox.base import Outbox

if TYPE_CHECKING:
    from gateway.core.node import Node
    from gateway.webhooks.webhooks import Webhooks

log = logging.getLogger(__name__)


def open_webhooks(
    settings: PusherSettings,
    outbox: Outbox | None,
    leases: Leases,
    node: "Callable[[], Node]",
    apps: Callable[[], Apps],
    *,
    unnamed: bool = False,
) -> "Webhooks | None":
    """Those of one node, which ``node`` gives once it is made; None where there are no apps, or nobody could be told.

    ``unnamed`` says that there may be apps which the settings do not name.

    Apps of the settings that have webhooks are refused at the start where the engine has no outbox, or there is no HTTP
    client.
    """
    if not settings.enabled:
        return None
    if outbox is None:
        log.info("pusher: webhooks of apps are not told, for the engine is neither Redis nor memory")
        return None
    try:
        from gateway.webhooks.webhooks import Webhooks  # by way of an extra, which most do without
    except ImportError:
        log.info('pusher: webhooks of apps are not told, for want of an HTTP client: pip install "wsgateway[proxy]"')
        return None
    return Webhooks(outbox, leases, node, apps, unnamed=unnamed)
