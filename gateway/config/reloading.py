"""Settings that are read anew while the gateway runs: which of them hold at once, and which wait for a restart."""

from typing import TypeVar

from msgspec import Struct
from pydantic import BaseModel

from gateway.config.settings import Namespace, Settings

AT_ONCE = {
    "client": True,
    "client.channel_position_check_delay": False,
    "client.channel_position_max_time_lag": False,
    "client.connecting_limit": False,
    "client.message_size_limit": False,  # the server's parsers have it
    "client.message_timeout": False,
    "client.subscribe_to_user_personal_channel": False,  # names of channels are made of it
    "channel.history_meta_ttl": True,
    "channel.max_length": True,
    "channel.namespaces": True,
    "channel.without_namespace": True,
    "http_api": True,
    "log.level": True,
    "shutdown": True,
    "websocket.write_timeout": True,
}
"""By name, of a setting or a section, whether it may change under a running gateway: of several the longest counts.

Whatever has no name here waits. What keeps something made of such settings has a method ``reload``, which
`program.gateway.Running` calls.
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
    return Change(settings, tuple(at_once), tuple(waiting))


def _merged(old: Model, new: Model, prefix: str, at_once: list[str], waiting: list[str]) -> Model:
    taken: dict[str, object] = {}
    for name in type(old).model_fields:
        before, after, key = getattr(old, name), getattr(new, name), prefix + name
        if before == after:
            continue
        if isinstance(before, BaseModel):
            taken[name] = _merged(before, after, f"{key}.", at_once, waiting)
        elif key == "channel.namespaces":
            taken[name] = _with_those_gone(before, after, at_once, waiting)
        elif _may_change(key):
            at_once.append(key)
            taken[name] = after
        else:
            waiting.append(key)
    return old.model_copy(update=taken)


def _with_those_gone(
    before: tuple[Namespace, ...], after: tuple[Namespace, ...], at_once: list[str], waiting: list[str]
) -> tuple[Namespace, ...]:
    """Namespaces that are no more stay until the restart: somebody may be in their channels."""
    names = {namespace.name for namespace in after}
    gone = tuple(namespace for namespace in before if namespace.name not in names)
    waiting.extend(f"channel.namespaces.{namespace.name} (removed)" for namespace in gone)
    at_once.extend(f"channel.namespaces.{namespace.name}" for namespace in after if namespace not in before)
    return (*after, *gone)


def _may_change(key: str) -> bool:
    while key:
        if key in AT_ONCE:
            return AT_ONCE[key]
        key = key.rpartition(".")[0]
    return False
