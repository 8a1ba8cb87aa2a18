"""The settings as a page: docs/settings.md is what `gateway config reference` prints."""

import json
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway.config.secrets import FILE, may_be_file
from gateway.config.settings import Settings

HEAD = """# Settings

<!-- gateway config reference > docs/settings.md -->

In a file (`--config FILE` or `GATEWAY_CONFIG`: TOML, JSON or YAML) a heading below is a section, `[client.token]`. In
the environment it is part of the name: `GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY`. In a program it is what `Gateway`
takes: `Gateway(client={"token": {"hmac_secret_key": "…"}})`; file and environment have the last word.
`GATEWAY_REDIS_URL` is short for `engine.type = "redis"` with that `engine.redis.address`.

Where a setting has a second name, as `key` and `key_file`, that is the path of a file which holds the value alone
(`GATEWAY_HTTP_API__KEY_FILE`), read when settings are read. In a table of keys each has one too: `keys.billing` and
`keys.billing_file`. [Secrets and reloading](secrets.md) has more.

Durations are written `"300ms"`, `"10s"`, `"1h30m"`, or as a number of seconds. `gateway config check` says what is
wrong and what would be right, `gateway config show` what holds. What `channel.without_namespace` has,
`gateway.channel(…)` takes, too, save `channel_regex`, for there the pattern says which names there are, proxies, for
there handlers decide, and what is of [maps](maps.md) and [shared polls](shared_poll.md), which only the settings make.
"""


def reference() -> str:
    """Every setting with its default and meaning, in Markdown."""
    shown: dict[type[BaseModel], str] = {}
    return "\n".join([HEAD, *_sections(Settings, "", shown)])


def _sections(model: type[BaseModel], key: str, shown: dict[type[BaseModel], str]) -> Iterator[str]:
    base = next((each for each in shown if issubclass(model, each)), None)
    known = base.model_fields if base else {}
    fields = {
        name: each
        for name, each in model.model_fields.items()
        if name not in known or each.default != known[name].default
    }
    values = {name: each for name, each in fields.items() if _section_of(each) is None}
    if base is not None and not values:
        yield f"## {key}\n\n{model.__doc__} It has all of `{shown[base]}`.\n"
    elif values:
        yield f"## {key}\n\n{model.__doc__}" + (f" Beside these, it has all of `{shown[base]}`." if base else "")
        yield "\n| setting | default | meaning |\n|---|---|---|"
        for name, each in values.items():
            file = f", `{name}{FILE}`" if may_be_file(name, each, fields) else ""
            yield f"| `{name}`{file} | {_default(each)} | {each.description} |"
        yield ""
        shown[model] = key
    for name, each in fields.items():
        section = _section_of(each)
        if section is not None:
            plural = "" if section is each.annotation else "[]"
            yield from _sections(section, f"{key}.{name}{plural}".lstrip("."), shown)


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a setting is, or has many of."""
    kinds = (field.annotation, *get_args(field.annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.default
    return f"`{json.dumps(_duration(value) if isinstance(value, float) else value)}`"


def _duration(seconds: float) -> str | int:
    for unit, length in (("h", 3600), ("m", 60)):
        if seconds and not seconds % length:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s" if seconds else 0
