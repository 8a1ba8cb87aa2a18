"""Apps of the Pusher protocol, each for something else, and the settings of gateways that have them all."""

from typing import Any

import pusher
from msgspec import Struct

from tests.integration.servers import Server
from tests.integration.settings import CHAT, SETTINGS

MASTER = "ZW5jcnlwdGlvbi1rZXktb2YtMzItYnl0ZXMtZm9yLXU="
"""What the application encrypts with; no gateway knows it."""


class App(Struct, frozen=True):
    """What a backend and its pages have to know of an app."""

    id: str
    key: str
    secret: str

    def backend(self, server: Server, **options: Any) -> pusher.Pusher:
        """PyPI ``pusher``, which calls this server."""
        return pusher.Pusher(
            self.id,
            self.key,
            self.secret,
            ssl=False,
            host=server.host,
            port=server.port,
            encryption_master_key_base64=MASTER,
            **options,
        )


MAIN = App("9001", "k3y0example", "s3cr3t-example")
"""With everything on."""
FORMER = App("9001", "k3y0former", "s3cr3t-former")
"""The same by a key that is being replaced."""
PLAIN = App("9002", "k3y0plain", "s3cr3t-plain")
"""As it comes: no client events, no watchlists, no counts."""
DISABLED = App("9003", "k3y0disabled", "s3cr3t-disabled")
SMALL = App("9004", "k3y0small", "s3cr3t-small")
"""For two connections."""
ELSEWHERE = App("9005", "k3y0elsewhere", "s3cr3t-elsewhere")
"""For pages of another site alone, and three members of a channel."""
CROWDED = App("9006", "k3y0crowded", "s3cr3t-crowded")
"""For many members, and large ones."""
STRICT = App("9007", "k3y0strict", "s3cr3t-strict")
"""For connections that say at once who they are."""
SHARED = App("9008", "k3y0shared", "s3cr3t-shared")
"""In a namespace where clients of Centrifugo may do everything."""
UNKNOWN = App("9999", "k3y0unknown", "s3cr3t-unknown")
"""No gateway has it."""

EVERYTHING: dict[str, Any] = {
    "enable_client_messages": True,
    "enable_watchlists": True,
    "enable_subscription_counts": True,
    "former_keys": [{"key": FORMER.key, "secret": FORMER.secret}],
}
MORE: dict[App, dict[str, Any]] = {
    PLAIN: {},
    DISABLED: {"enabled": False},
    SMALL: {"max_connections": 2},
    ELSEWHERE: {"allowed_origins": ["https://elsewhere.example"], "max_presence_members": 3},
    CROWDED: {"max_presence_members": 5000, "max_presence_member_size": 16_384},
    STRICT: {"authorization_timeout": "1s"},
    SHARED: {"namespace": "chat", "enable_client_messages": True},
}


def _described(app: App, **more: Any) -> dict[str, Any]:
    return {"id": app.id, "key": app.key, "secret": app.secret, "namespace": f"app{app.id}"} | more


def settings(redis: str, webhooks: str, prefix: str = "pusher") -> dict[str, Any]:
    """Of gateways on this Redis that tell webhooks there."""
    apps = [_described(MAIN, **EVERYTHING, webhooks=[{"url": webhooks}])]
    apps += [_described(app, **more) for app, more in MORE.items()]
    namespaces = [{"name": each["namespace"]} for each in apps if each["namespace"] != "chat"]
    return {
        **SETTINGS,
        "channel": {"namespaces": [*namespaces, {"name": "chat", **CHAT}]},
        "engine": {"type": "redis", "redis": {"address": redis, "prefix": prefix}},
        "pusher": {
            "enabled": True,
            "apps": apps,
            "activity_timeout": "30s",
            "subscription_counts": True,
            "webhooks": {"vacated_delay": "1s", "batch_size": 10},
        },
    }
