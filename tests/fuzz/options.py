"""Channels with everything switched on, and the tokens with which a client comes in."""

from typing import Any

from gateway.auth.tokens import sign_connection, sign_subscription
from gateway.config.settings import Settings
from tests.session.rig import HISTORY, NOW, OPEN, SECRET, WRITABLE

ASKED = {f"allow_{what}_for_{who}": True for what in ("presence", "history") for who in ("client", "anonymous")}
DELTA = {"allowed_delta_types": ["fossil"], "delta_publish": True}
SHOWN = {"presence": True, "join_leave": True}
ALL: dict[str, Any] = {**OPEN, **WRITABLE, **ASKED, **SHOWN, **HISTORY, **DELTA, "allow_tags_filter": True}
WRITERS = {f"allow_{what}_for_{who}": True for what in ("publish", "remove") for who in ("client", "anonymous")}
SMALL = {"min_page_size": 2, "default_page_size": 2, "max_page_size": 4}
MAP = {"subscription_type": "map", **OPEN, "allow_tags_filter": True, **DELTA}
SHOWN_AS_MAPS = {f"map_{who}_presence_channel_prefix": f"{who}:" for who in ("clients", "users")}

NAMESPACES: list[dict[str, Any]] = [
    {"name": "room", **ALL, "force_recovery": True, "force_push_join_leave": True},
    {"name": "asked", **ALL, "allow_recovery": True, "allow_positioning": True},
    {"name": "cell", **ALL, "force_recovery": True, "force_recovery_mode": "cache", "auto_cache_recover": True},
    {"name": "replay", **ALL, "replay": True, "history_size": 3, "batch_delay": 0.2},
    {"name": "hall", **OPEN, **WRITABLE, **SHOWN_AS_MAPS, "publication_data_format": "json_object"},
    {"name": "bytes", **OPEN, **WRITABLE, "publication_data_format": "binary"},
    {"name": "dm", "allow_user_limited_channels": True, "channel_regex": "^[a-z]+$"},
    {"name": "closed", **HISTORY, "force_recovery": True},
    {"name": "board", **MAP, "map": {"mode": "persistent", **WRITERS, **SMALL, "key_limit": 20}},
    {"name": "brief", **MAP, "client_publish_debounce_interval": "300ms"}
    | {"map": {"mode": "recoverable", "key_ttl": "3s", "stream_size": 3, **WRITERS, **SMALL}},
    {"name": "cursor", **MAP}
    | {
        "map": {"mode": "ephemeral", "key_ttl": "60s", **WRITERS, **SMALL}
        | {"client_key": "client_id", "remove_client_on_unsubscribe": True}
    },
    {"name": "clients", **OPEN, "subscription_type": "map_clients", "map": {"mode": "ephemeral", "key_ttl": "60s"}},
    {"name": "users", **OPEN, "subscription_type": "map_users", "map": {"mode": "ephemeral", "key_ttl": "60s"}},
    {"name": "poll", **OPEN, "subscription_type": "shared_poll"}
    | {"shared_poll": {"mode": "versioned", "refresh_interval": "1s", "max_keys_per_connection": 5}},
    {"name": "pollless", **OPEN, "subscription_type": "shared_poll"}
    | {"shared_poll": {"mode": "versionless", "refresh_interval": "1s", "refresh_batch_size": 2}},
]
PLAIN = "news"
CHANNELS = (
    PLAIN,
    "room:1",
    "room:2",
    "asked:1",
    "cell:1",
    "replay:1",
    "hall:1",
    "bytes:1",
    "dm:ab#ann,bob",
    "#ann",
    "closed:1",
    "board:1",
    "brief:1",
    "cursor:1",
    "clients:hall:1",
    "users:hall:1",
    "poll:1",
    "pollless:1",
    "nope:1",
)
MAPS = ("board:1", "brief:1", "cursor:1")

SETTINGS = Settings(
    client={
        "token": {"hmac_secret_key": SECRET},
        "allow_anonymous_connect_without_token": True,
        "channel_limit": 12,
        "subscribe_to_user_personal_channel": {"enabled": True},
        "connect_include_server_time": True,
    },
    channel={"namespaces": NAMESPACES, "without_namespace": OPEN | WRITABLE | {"allow_tags_filter": True}},
    shared_poll={"hmac_secret_key": SECRET},
)


def _connection(user: str, ttl: float = 0, **claims: Any) -> str:
    return sign_connection(SECRET, user, ttl, NOW, **claims)


def _channel(channel: str, ttl: float = 0, **claims: Any) -> str:
    return sign_subscription(SECRET, "ann", channel, ttl, NOW, **claims)


TOKENS: dict[str, str] = {
    "@ann": _connection("ann", info={"name": "Ann"}),
    "@ann30": _connection("ann", 30),
    "@annhour": _connection("ann", 3600),
    "@annsubs": _connection("ann", 600, subs={"closed:1": {"data": {"why": 1}}, "room:2": {}}),
    "@anndesk": _connection("ann", 600, subs={"desk:7": {}}),
    "@bob": _connection("bob"),
    "@old": _connection("ann", -10),
    "@past": _connection("ann", expire_at=int(NOW) - 10),
    "@none": _connection(""),
    "@nope": _connection("ann", channels=["nope:1"]),
    "@room": _channel("room:1", info={"seat": 1}),
    "@closed": _channel("closed:1"),
    "@closed30": _channel("closed:1", 30),
    "@closedold": _channel("closed:1", -10),
    "@desk30": _channel("desk:7", 30),
    "@deskhour": _channel("desk:7", 3600),
    "@deskold": _channel("desk:7", -10),
    "@board30": _channel("board:1", 30),
    "@poll30": _channel("poll:1", 30),
    "@closedover": _channel("closed:1", override={"presence": {"value": True}, "join_leave": {"value": True}}),
}
"""By what stands for them in commands that are made up: no fuzzer hits upon a signature."""
