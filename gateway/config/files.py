"""Settings files: TOML, JSON or YAML, told apart by their names."""

import json
import tomllib
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from gateway.errors import SettingsError


def read_file(path: Path) -> dict[str, Any]:
    """What stands in a file, by dotted key; nothing, in one that is empty. Raises ``SettingsError``."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors of Windows put a mark before it
        match path.suffix.lower():
            case ".toml":
                values: Any = tomllib.loads(text)
            case ".json":
                values = json.loads(text, object_pairs_hook=_object) if text.strip() else {}
            case ".yaml" | ".yml":
                values = yaml.load(text, _Loader)  # noqa: S506  it is a safe one
            case suffix:
                raise SettingsError(f'file {path}: "{suffix}" is not known; name it .toml, .json, .yaml or .yml')
    except OSError as error:
        raise SettingsError(
            f"file {path} cannot be read: {error.strerror}; give the path of a settings file"
        ) from error
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        if isinstance(error, SettingsError):
            raise
        raise SettingsError(f"file {path} cannot be understood: {error}") from error
    if not isinstance(values, dict | None):
        raise SettingsError(f'file {path}: settings stand in sections, for example {{"http_server": {{"port": 8000}}}}')
    try:
        return leaves(values or {})
    except RecursionError as error:
        raise SettingsError(f"file {path} cannot be understood: a section of it is within itself") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Of a key that is there twice one would hold, and nobody would know which."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f'"{key}" is there twice in one section; keep one of them')
        found[key] = value
    return found


class _Loader(yaml.SafeLoader):
    """As it is, but that a key stands once in its section, as in TOML."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if isinstance(key, Hashable):
                if key in lines:
                    raise ValueError(f'"{key}" is there twice in one section, in lines {lines[key]} and {line}')
                lines[key] = line
        return super().construct_mapping(node, deep)


def leaves(values: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """The values by dotted key. What is null counts as not given, as a section with nothing but comments is."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            found.update(leaves(value, f"{prefix}{key}."))
        elif value is not None:
            found[f"{prefix}{key}"] = value
    return found


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """The reverse of `leaves`."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        *sections, last = key.split(".")
        branch = found
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[last] = value
    return found
