"""Proxies: a backend decides events over HTTP. Nothing of it is imported where no backend has an address.

Source: Centrifuge protocol, "Proxy events over HTTP".
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.config.backends import find_backends
from gateway.config.settings import Settings

if TYPE_CHECKING:
    from gateway.core.node import Node
    from gateway.proxies.proxies import Proxies


def open_proxies(settings: Settings, node: "Callable[[], Node]") -> "Proxies | None":
    """Those of one node, which ``node`` gives once it is made; None where no backend has an address."""
    if not any(find_backends(settings)):
        return None
    from gateway.proxies.proxies import Proxies  # brings the HTTP client, which most do without

    return Proxies(settings, node)
