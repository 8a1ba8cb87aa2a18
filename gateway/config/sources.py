"""Where settings come from: defaults, file, environment, flags; and what is wrong with them."""

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from gateway.config.centrifugo import Adopted, adopt
from gateway.config.contradictions import Problem, find_problems
from gateway.config.fields import collection_of, fields, general, holds_secrets, list_around
from gateway.config.files import leaves, nested, read_file
from gateway.config.listing import origin_of
from gateway.config.masking import MASK, without_secret
from gateway.config.places import read_places
from gateway.config.secrets import FILE, FILE_ERROR
from gateway.config.settings import ChannelOptions, Origins, Settings
from gateway.config.weak import DEV_SECRET
from gateway.errors import SettingsError

PREFIX = "GATEWAY_"

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
        "admin.enabled": True,
        "admin.insecure": True,
        "shutdown.grace": 0,  # there is no balancer to hear of it
        **{f"channel.without_namespace.{name}": value for name, value in _OPEN.items()},
        "channel.namespaces": [{"name": "room", **_OPEN}],  # the channels of the page
    }
)
"""What dev mode opens. File, environment and flags still have the last word."""

# Kubernetes and Docker describe a service named "gateway" in variables that begin like ours.
_SERVICE_VARIABLE = re.compile(r"GATEWAY_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")

_FLAGS = {"host": "http_server.address", "port": "http_server.port"}
"""What flags of `serve` are called that are no settings' names."""

log = logging.getLogger("gateway")


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
    embedded: bool = False,
) -> Settings:
    """The settings in force. Raises ``SettingsError`` with every problem found, one a line.

    ``flags`` have dotted keys such as ``http_server.port``, or ``redis_url``; those that are None count as not
    given. Without ``path`` the variable GATEWAY_CONFIG names the file, if any. ``program`` is what a program wants
    unless the others say otherwise, nested as in a file. ``embedded``: in a process that is not the gateway's alone,
    so that variables such as GATEWAY_TIMEOUT may be somebody else's.
    """
    tree = _Tree()
    tree.add(leaves(program), "program")
    if dev:
        tree.add(DEV, "dev mode")
    if path is None and environ.get(PREFIX + "CONFIG"):
        path = Path(environ[PREFIX + "CONFIG"])
    if path is not None:
        tree.add_file(path)
    tree.add_environment(environ, embedded=embedded)
    tree.add({key: value for key, value in flags.items() if value is not None}, "flag")
    return _checked(tree, dev=dev)


def _checked(tree: "_Tree", *, dev: bool) -> Settings:
    try:
        settings = _Loaded(**tree.values)
    except ValidationError as error:
        found = [line for each in error.errors() for line in tree.explain(each)]
        raise SettingsError("\n".join([*tree.missing, *found])) from None
    if tree.missing:
        raise SettingsError("\n".join(tree.missing))
    problems = [*find_problems(settings), *(_dev_problems(settings) if dev else ())]
    if problems:
        raise SettingsError("\n".join(tree.describe(problem) for problem in problems))
    settings._origins = Origins(tree.origins)
    settings._needless = tree.needless
    return settings


def translate(path: Path) -> tuple[str, Adopted, list[str]]:
    """A file of Centrifugo as one of ours, in YAML, what became of it, and why that does not start, a line each.

    Raises ``SettingsError`` for a file that cannot be read.
    """
    adopted = adopt(read_file(path), fields())
    text = _yaml(nested(adopted.values))
    tree = _Tree()
    tree.add(adopted.values, f"file {path}")
    try:
        _checked(tree, dev=False)
    except SettingsError as error:
        return text, adopted, str(error).splitlines()
    return text, adopted, []


def show(settings: Settings) -> str:
    """The settings as YAML, secrets masked."""
    return _yaml(shown(settings))


def _yaml(values: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return text


def shown(settings: Settings) -> dict[str, Any]:
    """The settings as JSON has them, secrets masked."""
    return _masked(settings.model_dump(mode="json"))


def schema() -> str:
    """JSON schema of the settings."""
    return json.dumps(Settings.model_json_schema(), indent=2)


# — sources —


class _Tree:
    """Values as they were given, later ones over earlier ones, and where each came from."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.missing: list[str] = []
        """What a file wants that there is not, a line each."""
        self.needless = 0

    def add_file(self, path: Path) -> None:
        """A file, which may be Centrifugo's."""
        given = read_file(path)
        adopted = adopt(given, fields())
        self.add(adopted.values, f"file {path}")
        self.needless = len(adopted.needless)
        for key, instead in adopted.missing.items():
            self.origins.setdefault(key, f"file {path}")
            self.missing.append(self._line(key, instead, given.get(key)))

    def add(self, values: Mapping[str, Any], origin: str) -> None:
        """Values by dotted key. The short form of the Redis URL yields to the long one."""
        for key, value in sorted(values.items(), key=lambda item: item[0].removesuffix(FILE) != "redis_url"):
            if key in ("redis_url", "redis_url" + FILE):
                self._put("engine.type", "redis", origin)
                self._put(key.replace("redis_url", "engine.redis.address"), value, origin)
            else:
                self._put(key, value, origin)

    def add_environment(self, environ: Mapping[str, str], *, embedded: bool) -> None:
        """The variables that begin with GATEWAY_. An empty one counts as not set."""
        for name in sorted(environ, key=lambda name: (not name.startswith(PREFIX + "REDIS_URL"), name)):
            value = environ[name]
            if name.startswith(PREFIX) and name != PREFIX + "CONFIG" and value and not _is_service(name, value):
                key = name.removeprefix(PREFIX).lower().replace("__", ".")
                if embedded and self._is_foreign(key):
                    log.debug("%s is none of the gateway's settings, and is ignored", name)
                    continue
                parsed = _parse(key, value)
                table = collection_of(key) is dict and isinstance(parsed, dict)
                self.add(leaves({key: parsed}) if table else {key: parsed}, f"environment {name}")

    def explain(self, error: ErrorDetails) -> Iterator[str]:
        """The lines that tell of an error which pydantic found."""
        key = ".".join(map(str, error["loc"]))
        if error["type"] == FILE_ERROR:
            yield self._line(key, error["msg"])
        elif error["loc"][-1] == "[key]":
            yield self._line(key.removesuffix(".[key]"), 'a name has letters, digits, "-" and "_"')
        elif error["type"] == "extra_forbidden":
            yield self._line(key, f"there is no such setting{self._suggest(key)}", error["input"])
        elif error["type"] in ("tuple_type", "dict_type"):
            what = "a list" if error["type"] == "tuple_type" else "a section"
            yield self._line(key, f"must be {what}; for example {self._example(key)}", error["input"])
        elif isinstance(error["input"], BaseModel | dict):
            for text in error["msg"].removeprefix("Value error, ").splitlines():
                yield self._line(key, text)
        else:
            text = error["msg"].removeprefix("Value error, ").replace("Input should", "should")
            if error["type"] == "model_type":
                text = "is a section, not a value"
            elif error["type"] == "string_pattern_mismatch":
                text = f"must match {error['ctx']['pattern']}{_meaning(key)}"
            yield self._line(key, f"{text}; for example {self._example(key)}", error["input"])

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
        other = last.removesuffix(FILE) if last.endswith(FILE) else last + FILE
        if other in branch and not self._is_of(origin, key.removesuffix(last) + other):
            del branch[other]  # a value and its file are one setting, of which a later source has the last word
        branch[last] = value
        self.origins[key] = origin

    def _is_of(self, origin: str, key: str) -> bool:
        """Whether the setting is of that source."""
        return self.origins.get(key, "").partition(" ")[0] == origin.partition(" ")[0]

    def _is_foreign(self, key: str) -> bool:
        """Whether a variable is another program's: it names no section of ours, and looks like no setting."""
        known = key in Settings.model_fields or key.removesuffix(FILE) == "redis_url"
        return not known and "." not in key and not _meant(key)

    def _origin(self, key: str) -> str:
        inside = {origin for each, origin in self.origins.items() if each.startswith(key + ".")}
        if len(inside) == 1:
            return f" ({inside.pop()})"
        origin = origin_of(self.origins, key)
        return f" ({origin})" if origin else ""

    def _line(self, key: str, text: str, value: Any = None) -> str:
        shown = ""
        if value is not None and not isinstance(value, dict | list):
            value = MASK if holds_secrets(key) else without_secret(key, value)
            shown = f" = {json.dumps(value, default=str):.100}"
        return f"{key}{shown}{self._origin(key)}: {text}"

    def _suggest(self, key: str) -> str:
        known = _meant(key) or _FLAGS.get(key) or next(iter(get_close_matches(key, Settings.model_fields, 1, 0.8)), "")
        if not known:
            return '; "gateway config schema" lists them all'
        if self.origins.get(key, "").startswith("environment"):
            return f"; did you mean {self._example(known, key)}?"
        return f"; did you mean {known}, for example {self._example(known, key)}?"

    def _example(self, key: str, given: str = "") -> str:
        """How a correct value is written where the setting was given, by the name ``given`` or its own."""
        origin = self._origin(given or key)
        key = re.sub(r"\.\d+$", "", key)  # one of a list: all of it is shown
        value, name = _example(key), key.rpartition(".")[2]
        if origin.startswith(" (environment"):
            inner = key if value != {} else next((each for each in fields() if each.startswith(f"{key}.")), key)
            inner = list_around(inner) or inner  # a list is one variable, whole
            return _variable(inner, _example(inner))
        if value == {}:
            return f"[{key}]"
        if origin.endswith(".json)"):
            return f'"{name}": {json.dumps(value)}'
        if origin.endswith((".yaml)", ".yml)")):
            return f"{name}: {json.dumps(value)}"
        return f"{name} = {_toml(value)}"


def _meant(key: str) -> str:
    """The setting that a key which there is not looks most like; empty if there is none."""
    wanted = general(key)
    spelled = {known.replace(".", "_"): known for known in fields()}
    return next((spelled[match] for match in get_close_matches(wanted.replace(".", "_"), spelled, 1, 0.8)), "")


def _is_service(name: str, value: str) -> bool:
    return bool(_SERVICE_VARIABLE.fullmatch(name) or (name.endswith("_PORT") and _SERVICE_ADDRESS.match(value)))


def _parse(key: str, text: str) -> Any:
    """Lists come as JSON, or simple ones separated by commas or spaces; the rest is left to the model."""
    kind = collection_of(key)
    if kind not in (tuple, dict):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text if kind is dict or text.startswith("[") else re.split(r"[,\s]+", text.strip())
    if kind is dict or isinstance(value, list | dict):
        return value
    return [value if isinstance(value, str) else text.strip()]  # null is an origin, too


# — what may be written —


def _example(key: str) -> Any:
    """A correct value: the default, or one that does something where the default does nothing."""
    field = fields().get(general(key))
    if field is None:
        return {}
    if get_origin(field.annotation) is dict:
        return {"name": "text"} if key == general(key) else "text"
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    if choices:
        return next(choice for choice in choices if choice)
    if field.examples:
        return field.examples[0]
    kinds = (field.annotation, *get_args(field.annotation))
    default = None if field.is_required() else field.default
    if bool in kinds:
        return True
    if field.annotation is float:
        return f"{default or 300:g}s"
    if key == "channel.namespaces":
        return [{"name": "chat"}]
    if get_origin(field.annotation) is tuple:
        return ["https://example.com"]
    if int in kinds:
        return default or 100
    return default or "text"


def _meaning(key: str) -> str:
    field = fields().get(general(key))
    text = field.description if field else None
    return f" ({text[0].lower()}{text[1:].rstrip('.')})" if text else ""


def _variable(key: str, value: Any) -> str:
    return f"{PREFIX}{key.upper().replace('.', '__')}={value if isinstance(value, str) else json.dumps(value)}"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(each)}" for name, each in value.items()) + "}"
    return f"[{', '.join(map(_toml, value))}]" if isinstance(value, list | tuple) else json.dumps(value)


# — what must not be shown —


def _masked(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    return {
        name: _masked(value, f"{prefix}{name}.") if isinstance(value, dict) else without_secret(prefix + name, value)
        for name, value in values.items()
    }


# — dev mode —


def _dev_problems(settings: Settings) -> Iterator[Problem]:
    server = settings.http_server
    for key, written in (("address", server.address), ("internal_address", server.internal_address or "127.0.0.1")):
        for place in read_places(written, 0):
            if not place.is_loopback:
                yield Problem(
                    f"http_server.{key}",
                    f'"{place.host}" is not a loopback address, and dev mode lets everybody in: '
                    'set address = "127.0.0.1", or leave dev mode',
                )
