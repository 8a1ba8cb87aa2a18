"""The settings in force, one by one: their values without secrets, and where each comes from."""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from gateway.config.masking import without_secret
from gateway.config.secrets import FILE
from gateway.config.settings import ChannelOptions, Settings


class Setting(Struct, frozen=True):
    """One of them, as JSON has it. Of a namespace those are told that differ from the default."""

    key: str
    value: Any
    default: bool
    """Whether it is what it would be if nobody had given it."""
    origin: str
    """``file PATH``, ``environment NAME``, ``flag``, ``dev mode``, ``program`` or ``default``."""


def list_settings(settings: Settings) -> list[Setting]:
    """All of them, in the order in which they are documented."""
    defaults = Settings.model_construct().model_dump(mode="json")
    found = []
    for key, value, default in _leaves(settings.model_dump(mode="json"), defaults, ""):
        origin = origin_of(settings._origins, key) or ("default" if value == default else "program")
        found.append(Setting(key, without_secret(key, value), value == default, origin))
    return found


def origin_of(origins: Mapping[str, str], key: str) -> str:
    """Where a setting comes from, be it by its file, or as a part of what was given as one; empty if nobody knows."""
    while key:
        for each in (key, key + FILE):
            if each in origins:
                return origins[each]
        key = key.rpartition(".")[0]
    return ""


def _leaves(values: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any, Any]]:
    for name, value in values.items():
        key, default = prefix + name, defaults.get(name)
        if key == "channel.namespaces" and value:
            for index, namespace in enumerate(value):
                yield f"{key}.{index}.name", namespace.pop("name"), None
                given = {each: option for each, option in namespace.items() if option != _OPTIONS[each]}
                yield from _leaves(given, {}, f"{key}.{index}.")
        elif isinstance(value, dict) and value:
            yield from _leaves(value, default or {}, f"{key}.")
        else:
            yield key, value, default


_OPTIONS = ChannelOptions().model_dump(mode="json")
