"""The fields of the settings, by the dotted keys that these are given by."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway.config.masking import is_secret
from gateway.config.settings import Settings

_NAMED = re.compile(r"(\bkeys|\bstatic_headers)\.[^.]+|\.\d+")
"""What stands in a key for one of many: the name of a key or of a header, the number of a namespace."""


@cache
def fields() -> dict[str, FieldInfo]:
    """Every setting by dotted key; options of a namespace under channel.namespaces."""
    return dict(_walk(Settings, ""))


def general(key: str) -> str:
    """The key of the field, without what names one of many."""
    return _NAMED.sub(r"\1", key)


def _walk(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        section = next((kind for kind in (field.annotation, *get_args(field.annotation)) if _is_section(kind)), None)
        if section is None or section is not field.annotation:
            yield prefix + name, field
        if section is not None:
            yield from _walk(section, f"{prefix}{name}.")


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def collection_of(key: str) -> Any:
    """What a setting is made of, if it is made of several: ``tuple`` or ``dict``."""
    field = fields().get(key)
    return None if field is None else get_origin(field.annotation)


def list_around(key: str) -> str:
    """The setting of many values that this is a part of; empty if there is none."""
    names = general(key).split(".")
    outer = (".".join(names[:depth]) for depth in range(1, len(names)))
    return next((each for each in outer if collection_of(each) is tuple), "")


def holds_secrets(key: str) -> bool:
    """Whether it is a list whose entries have some: what stands in its place may be such an entry, cut in pieces."""
    name = general(key)
    return collection_of(name) is tuple and any(is_secret(each) for each in fields() if each.startswith(f"{name}."))
