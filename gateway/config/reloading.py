"""Settings that are read anew while the gateway runs: which of them hold at once, and which wait for a restart."""

from typing import TypeVar

from msgspec import Struct
from pydantic import BaseModel

from gateway.config.secrets import FILE
from gateway.config.settings import ChannelOptions, Namespace, Origins, PusherSettings, Settings

_CLIENT = (
    "token",
    "subscription_token",
    "allowed_origins",
    "user_id_http_header",
    "allow_anonymous_connect_without_token",
    "disallow_anonymous_connection_tokens",
    "insecure",
    "insecure_skip_token_signature_verify",
    "ping_interval",
    "pong_timeout",
    "connect_include_server_time",
    "stale_close_delay",
    "connect_timeout",
    "expired_close_delay",
    "expired_sub_close_delay",
    "channel_limit",
    "queue_max_size",
    "address_connection_limit",
    "connection_limit",
    "connection_rate_limit",
    "rate_limit",
    "user_connection_limit",
    "history_max_publication_limit",
    "recovery_max_publication_limit",
    "recovery_max_size",
)

AT_ONCE = frozenset(
    (
        *(f"client.{name}" for name in _CLIENT),
        "admin.insecure",
        "admin.password",
        "admin.secret",
        "channel.history_meta_ttl",
        "channel.max_length",
        "channel.namespaces",
        "channel.without_namespace",
        "http_api",
        "log.level",
        "pusher.activity_timeout",
        "pusher.app_ttl",
        "pusher.apps",
        "pusher.apps_file",
        "pusher.cache_ttl",
        "pusher.webhooks",
        "shared_poll.hmac_secret_key",
        "shared_poll.hmac_previous_secret_key",
        "shared_poll.hmac_previous_secret_key_valid_until",
        "shutdown.drain_rate",
        "shutdown.drain_time",
        "websocket.write_timeout",
    )
)
"""The settings, and whole sections of them, that may change under a running gateway.

Whatever is not here waits, so that nothing is said to hold that does not. These are asked for each time, or kept by a
part that has a method ``reload``, which `program.running.Running.reload` calls.
"""

Model = TypeVar("Model", bound=BaseModel)


class Change(Struct, frozen=True):
    """Settings that take the place of others, and what has changed in them: by dotted key, without values."""

    settings: Settings
    """Those that hold now: of what waits they have the old value."""
    at_once: tuple[str, ...]
    waiting: tuple[str, ...]


def compare(old: Settings, new: Settings) -> Change:
    """What holds once ``new`` have been read where ``old`` are in force."""
    at_once: list[str] = []
    waiting: list[str] = []
    settings = _merged(old, new, "", at_once, waiting)
    old_ones = {*waiting, *(key + FILE for key in waiting)}
    taken = {key: origin for key, origin in new._origins.items() if key not in old_ones}
    settings._origins = Origins(taken | {key: old._origins[key] for key in old_ones & old._origins.keys()})
    return Change(settings, tuple(at_once), tuple(waiting))


def _merged(old: Model, new: Model, prefix: str, at_once: list[str], waiting: list[str]) -> Model:
    taken: dict[str, object] = {}
    for name in type(old).model_fields:
        before, after, key = getattr(old, name), getattr(new, name), prefix + name
        if before == after:
            continue
        if isinstance(before, ChannelOptions) and (kind := _other_kind(before, after)):
            waiting.append(f"{key} ({kind})")
        elif isinstance(before, BaseModel):
            taken[name] = _merged(before, after, f"{key}.", at_once, waiting)
        elif key == "channel.namespaces":
            taken[name] = _namespaces(before, after, at_once, waiting)
        elif key == "pusher.apps" and (moved := _moved(old, new)):
            waiting.append(f"{key} (another namespace of {moved})")
        elif _may_change(key):
            at_once.append(key)
            taken[name] = after
        else:
            waiting.append(key)
    return old.model_copy(update=taken)


def _namespaces(
    before: tuple[Namespace, ...], after: tuple[Namespace, ...], at_once: list[str], waiting: list[str]
) -> tuple[Namespace, ...]:
    """Those that are gone, or of another kind, stay as they were until the restart.

    Somebody may be in their channels.
    """
    old, taken = {namespace.name: namespace for namespace in before}, []
    for namespace in after:
        was, key = old.pop(namespace.name, None), f"channel.namespaces.{namespace.name}"
        if was is not None and (kind := _other_kind(was, namespace)):
            waiting.append(f"{key} ({kind})")
            namespace = was
        elif was != namespace:
            at_once.append(key)
        taken.append(namespace)
    waiting.extend(f"channel.namespaces.{name} (removed)" for name in old)
    return (*taken, *old.values())


def _other_kind(before: ChannelOptions, after: ChannelOptions) -> str:
    """What makes channels such that subscriptions of before have no part in them; empty if nothing does."""
    if before.subscription_type != after.subscription_type:
        return "another subscription_type"
    return "another shared_poll.mode" if before.shared_poll.mode != after.shared_poll.mode else ""


def _moved(old: Model, new: Model) -> str:
    """Apps whose channels would be others while somebody is in them."""
    assert isinstance(old, PusherSettings)
    assert isinstance(new, PusherSettings)
    were = {app.id: old.namespace_of(app) for app in old.apps}
    return ", ".join(app.id for app in new.apps if were.get(app.id, old.namespace_of(app)) != old.namespace_of(app))


def _may_change(key: str) -> bool:
    while key and key not in AT_ONCE:
        key = key.rpartition(".")[0]
    return bool(key)
