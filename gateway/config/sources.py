"""Where settings come from: defaults, file, environment, flags; and what is wrong with them."""

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from gateway.config.contradictions import Problem, find_problems
from gateway.config.masking import without_secret
from gateway.config.settings import ChannelOptions, Settings
from gateway.errors import SettingsError

PREFIX = "GATEWAY_"

DEV_SECRET = "gateway-dev-secret-that-everybody-knows"  # noqa: S105  known to all: dev instances accept each other's tokens
"""Signs tokens in dev mode when no other secret is configured."""

# In a pattern "[" begins a set, so that a literal one is written "[[]".
_LOOPBACK = ("http://localhost", "http://127.0.0.1", "http://[[]::1]")

_OPEN: Mapping[str, Any] = {
    "presence": True,
    "join_leave": True,
    "force_push_join_leave": True,
    "history_size": 100,
    "history_ttl": "300s",
    "force_recovery": True,
    **{name: True for name in ChannelOptions.model_fields if name.startswith("allow_")},
}

DEV: Mapping[str, Any] = MappingProxyType(
    {
        "client.insecure": True,
        "client.allow_anonymous_connect_without_token": True,
        "client.allowed_origins": [origin + port for origin in _LOOPBACK for port in ("", ":*")],
        "client.token.hmac_secret_key": DEV_SECRET,
        "http_api.insecure": True,
        "demo.enabled": True,
        "shutdown.grace": 0,  # there is no balancer to hear of it
        **{f"channel.without_namespace.{name}": value for name, value in _OPEN.items()},
        "channel.namespaces": [{"name": "room", **_OPEN}],  # the channels of the page
    }
)
"""What dev mode opens. File, environment and flags still have the last word."""

# Kubernetes and Docker describe a service named "gateway" in variables that begin like ours.
_SERVICE_VARIABLE = re.compile(r"GATEWAY_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")


class _Loaded(Settings):
    """Settings from the values given and from nowhere else."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def load(
    path: Path | None = None,
    flags: Mapping[str, Any] = MappingProxyType({}),
    environ: Mapping[str, str] = os.environ,
    *,
    dev: bool = False,
    program: Mapping[str, Any] = MappingProxyType({}),
) -> Settings:
    """The settings in force. Raises ``SettingsError`` with every problem found, one a line.

    ``flags`` have dotted keys such as ``http_server.port``, or ``redis_url``; those that are None count as not
    given. Without ``path`` the variable GATEWAY_CONFIG names the file, if any. ``program`` is what a program wants
    unless the others say otherwise, nested as in a file.
    """
    tree = _Tree()
    tree.add(dict(_leaves(program)), "program")
    if dev:
        tree.add(DEV, "dev mode")
    if path is None and environ.get(PREFIX + "CONFIG"):
        path = Path(environ[PREFIX + "CONFIG"])
    if path is not None:
        tree.add(dict(_leaves(_read(path))), f"file {path}")
    tree.add_environment(environ)
    tree.add({key: value for key, value in flags.items() if value is not None}, "flag")
    try:
        settings = _Loaded(**tree.values)
    except ValidationError as error:
        raise SettingsError("\n".join(line for found in error.errors() for line in tree.explain(found))) from None
    problems = [*find_problems(settings), *(_dev_problems(settings) if dev else ())]
    if problems:
        raise SettingsError("\n".join(tree.describe(problem) for problem in problems))
    return settings


def show(settings: Settings) -> str:
    """The settings as YAML, secrets masked."""
    text: str = yaml.safe_dump(_masked(settings.model_dump(mode="json")), sort_keys=False, allow_unicode=True)
    return text


def schema() -> str:
    """JSON schema of the settings."""
    return json.dumps(Settings.model_json_schema(), indent=2)


# — sources —


class _Tree:
    """Values as they were given, later ones over earlier ones, and where each came from."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self._origins: dict[str, str] = {}

    def add(self, values: Mapping[str, Any], origin: str) -> None:
        """Values by dotted key. The short form of the Redis URL yields to the long one."""
        for key, value in sorted(values.items(), key=lambda item: item[0] != "redis_url"):
            if key == "redis_url":
                self._put("engine.type", "redis", origin)
                self._put("engine.redis.address", value, origin)
            else:
                self._put(key, value, origin)

    def add_environment(self, environ: Mapping[str, str]) -> None:
        """The variables that begin with GATEWAY_. An empty one counts as not set."""
        for name in sorted(environ, key=lambda name: (name != PREFIX + "REDIS_URL", name)):
            value = environ[name]
            if name.startswith(PREFIX) and name != PREFIX + "CONFIG" and value and not _is_service(name, value):
                key = name.removeprefix(PREFIX).lower().replace("__", ".")
                self.add({key: _parse(key, value)}, f"environment {name}")

    def explain(self, error: ErrorDetails) -> Iterator[str]:
        """The lines that tell of an error which pydantic found."""
        key = ".".join(map(str, error["loc"]))
        if error["type"] == "extra_forbidden":
            yield self._line(key, f"there is no such setting{self._suggest(key)}", error["input"])
        elif isinstance(error["input"], BaseModel | dict):
            for text in error["msg"].removeprefix("Value error, ").splitlines():
                yield self._line(key, text)
        else:
            text = error["msg"].removeprefix("Value error, ").replace("Input should", "should")
            if error["type"] == "model_type":
                text = "is a section, not a value"
            yield self._line(key, f"{text}; for example {_assignment(key, _example(key))}", error["input"])

    def describe(self, problem: Problem) -> str:
        value: Any = self.values
        for name in problem.key.split("."):
            value = value[int(name)] if isinstance(value, list) else value.get(name, {})
        return self._line(problem.key, problem.text, value)

    def _put(self, key: str, value: Any, origin: str) -> None:
        *sections, last = key.split(".")
        branch = self.values
        for section in sections:
            branch = branch.setdefault(section, {})
            if not isinstance(branch, dict):
                return  # a plain value stands where a section belongs, and is reported as such
        branch[last] = value
        self._origins[key] = origin

    def _origin(self, key: str) -> str:
        while key:
            if key in self._origins:
                return f" ({self._origins[key]})"
            key = key.rpartition(".")[0]
        return ""

    def _line(self, key: str, text: str, value: Any = None) -> str:
        shown = ""
        if value is not None and not isinstance(value, dict | list):
            shown = f" = {json.dumps(without_secret(key, value), default=str):.100}"
        return f"{key}{shown}{self._origin(key)}: {text}"

    def _suggest(self, key: str) -> str:
        wanted = re.sub(r"\.\d+", "", key)
        spelled = {known.replace(".", "_"): known for known in _fields()}
        for match in get_close_matches(wanted.replace(".", "_"), spelled, 1, 0.8):
            known = spelled[match]
            if self._origins.get(key, "").startswith("environment"):
                return f"; did you mean {PREFIX}{known.upper().replace('.', '__')}={_text(_example(known))}?"
            return f"; did you mean {known}, for example {_assignment(known, _example(known))}?"
        return '; "gateway config schema" lists them all'


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        match path.suffix.lower():
            case ".toml":
                values: Any = tomllib.loads(text)
            case ".json":
                values = json.loads(text)
            case ".yaml" | ".yml":
                values = yaml.safe_load(text)
            case suffix:
                raise SettingsError(f'file {path}: "{suffix}" is not known; name it .toml, .json, .yaml or .yml')
    except OSError as error:
        raise SettingsError(
            f"file {path} cannot be read: {error.strerror}; give the path of a settings file"
        ) from error
    except (tomllib.TOMLDecodeError, ValueError, yaml.YAMLError) as error:
        if isinstance(error, SettingsError):
            raise
        raise SettingsError(f"file {path} cannot be understood: {error}") from error
    if not isinstance(values, dict | None):
        raise SettingsError(f'file {path}: settings stand in sections, for example {{"http_server": {{"port": 8000}}}}')
    return values or {}


def _leaves(values: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        elif value is not None:  # a section with nothing but comments
            yield f"{prefix}{key}", value


def _is_service(name: str, value: str) -> bool:
    return bool(_SERVICE_VARIABLE.fullmatch(name) or (name.endswith("_PORT") and _SERVICE_ADDRESS.match(value)))


def _parse(key: str, text: str) -> Any:
    """Lists come as JSON, or simple ones separated by commas or spaces; the rest is left to the model."""
    field = _fields().get(key)
    if field is None or get_origin(field.annotation) is not tuple:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text if text.startswith("[") else re.split(r"[,\s]+", text.strip())


# — what may be written —


@cache
def _fields() -> dict[str, FieldInfo]:
    """Every setting by dotted key; options of a namespace under channel.namespaces."""
    return dict(_walk(Settings, ""))


def _walk(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        section = next((kind for kind in (field.annotation, *get_args(field.annotation)) if _is_section(kind)), None)
        if section is None or section is not field.annotation:
            yield prefix + name, field
        if section is not None:
            yield from _walk(section, f"{prefix}{name}.")


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _example(key: str) -> Any:
    """A correct value: the default, or one that does something where the default does nothing."""
    field = _fields().get(re.sub(r"\.\d+", "", key))
    if field is None:
        return {}
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    if choices:
        return next(choice for choice in choices if choice)
    if field.annotation is bool:
        return True
    if field.annotation is float:
        return f"{field.default or 300:g}s"
    if key == "channel.namespaces":
        return [{"name": "chat"}]
    if get_origin(field.annotation) is tuple:
        return ["https://example.com"]
    if field.annotation is int:
        return field.default or 100
    return "text" if field.is_required() else field.default or "text"


def _assignment(key: str, value: Any) -> str:
    name = key.rpartition(".")[2]
    return f"[{key}]" if value == {} else f"{name} = {json.dumps(value)}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


# — what must not be shown —


def _masked(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    return {
        name: _masked(value, f"{prefix}{name}.") if isinstance(value, dict) else without_secret(prefix + name, value)
        for name, value in values.items()
    }


# — dev mode —


def _dev_problems(settings: Settings) -> Iterator[Problem]:
    server = settings.http_server
    if not _is_loopback(server.address):
        yield Problem(
            "http_server.address",
            f'"{server.address}" is not a loopback address, and dev mode lets everybody in: '
            'set address = "127.0.0.1", or leave dev mode',
        )


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return address == "localhost"
