"""Settings of the gateways under test."""

from typing import Any

from tests.integration.tokens import API_KEY, SECRET

CHAT: dict[str, Any] = {
    "presence": True,
    "join_leave": True,
    "force_push_join_leave": True,
    "history_size": 100,
    "history_ttl": "300s",
    "force_recovery": True,
    "allow_subscribe_for_client": True,
    "allow_subscribe_for_anonymous": True,
    "allow_publish_for_client": True,
    "allow_presence_for_client": True,
    "allow_history_for_client": True,
}
"""Everything on, and open to every user."""

WRITTEN: dict[str, Any] = {
    f"allow_{what}_for_{who}": True for what in ("publish", "remove") for who in ("client", "anonymous")
}
MAP: dict[str, Any] = {"subscription_type": "map", "allow_subscribe_for_client": True}
EPHEMERAL: dict[str, Any] = {"mode": "ephemeral", "key_ttl": "60s", **WRITTEN}
PERSISTENT: dict[str, Any] = {"mode": "persistent", **WRITTEN}

MAPS: list[dict[str, Any]] = [
    {"name": "streamless", **MAP, "map": EPHEMERAL},
    {"name": "debounced", **MAP, "map": EPHEMERAL, "client_publish_debounce_interval": "300ms"},
    {"name": "positioned", **MAP, "map": PERSISTENT},
    {"name": "smallstream", **MAP, "map": {**PERSISTENT, "stream_size": 2, "stream_ttl": "60s"}},
    {"name": "mapdelta", **MAP, "map": PERSISTENT, "allowed_delta_types": ["fossil"], "delta_publish": True},
    {"name": "tagged", **MAP, "map": PERSISTENT, "allow_tags_filter": True},
    {"name": "shortttl", **MAP, "map": {**EPHEMERAL, "key_ttl": "3s"}},
    {"name": "clientkey", **MAP, "map": {**EPHEMERAL, "client_key": "client_id"}},
    {"name": "mapclosed", "subscription_type": "map", "map": PERSISTENT},
    {"name": "prestest", **MAP, "map": EPHEMERAL, "map_clients_presence_channel_prefix": "prescli:"}
    | {"map_users_presence_channel_prefix": "presuse:"},
    {"name": "prescli", **MAP, "subscription_type": "map_clients", "map": EPHEMERAL},
    {"name": "presuse", **MAP, "subscription_type": "map_users", "map": EPHEMERAL},
]
"""Those of the SDK's own tests, and more."""

NAMESPACES: list[dict[str, Any]] = [
    *MAPS,
    {"name": "chat", **CHAT},
    {"name": "short", **CHAT, "history_size": 2},
    {"name": "plain", "allow_subscribe_for_client": True, "allow_publish_for_subscriber": True},
    {"name": "flow", **CHAT, "allowed_delta_types": ["fossil"], "delta_publish": True},
    {"name": "picked", **CHAT, "allow_tags_filter": True},
    {"name": "cell", **CHAT, "force_recovery_mode": "cache", "auto_cache_recover": True}
    | {"allowed_delta_types": ["fossil"], "delta_publish": True},
    {"name": "closed", "presence": True, "history_size": 10, "history_ttl": "300s"},
]
"""``plain`` keeps nothing; nobody may do anything in ``closed`` without a token."""

SETTINGS: dict[str, Any] = {
    "client": {"token": {"hmac_secret_key": SECRET}, "allowed_origins": ["http://127.0.0.1:*"]},
    "http_api": {"key": API_KEY},
    "channel": {"namespaces": NAMESPACES},
    "http_stream": {"enabled": True},
    "sse": {"enabled": True},
}

IMPATIENT: dict[str, Any] = {
    **SETTINGS,
    "client": {
        "token": {"hmac_secret_key": SECRET, "audience": "integration"},
        "stale_close_delay": "1s",
        "message_timeout": "1s",
        "message_size_limit": 262144,
    },
}
"""Short deadlines, and an audience that every token has to name."""

PINGING: dict[str, Any] = {
    **SETTINGS,
    "client": {"token": {"hmac_secret_key": SECRET}, "ping_interval": "1s", "pong_timeout": "500ms"},
}
"""A ping each second."""


def on_redis(url: str, prefix: str = "gateway") -> dict[str, Any]:
    """On this Redis; gateways of another prefix see nothing of these."""
    return {**SETTINGS, "engine": {"type": "redis", "redis": {"address": url, "prefix": prefix}}}
