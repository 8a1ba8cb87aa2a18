"""Excerpts: what may be shown of messages and payloads. At most 512 bytes of JSON, without the secrets in it."""

import logging
import re
from itertools import islice
from typing import Any

import msgspec
from msgspec import Raw, Struct

from gateway.config.masking import MASK, is_secret

SHOWN = 512
"""Bytes of an excerpt at most."""

READ = 2048
"""Bytes of a payload that is looked into; of a larger one, its size is told."""

SOME = 10
"""Entries that are shown of a message's list."""

_SECRET = re.compile(r"token|jwt|auth(?!or)|authoriz|cookie|session|pass(?:$|w|phrase|code)|pwd|credential")
"""Names that hold a secret in messages, beside those of settings."""

_TOKEN = re.compile(r"eyJ[\w-]{8,}[\w.-]*|(?<=[Bb]earer )[\w.~+/-]{8,}=*|(?<=://)[^\s/@:]*:[^\s/@]+(?=@)")
"""A JWT, or a part of one, wherever it stands; another bearer's token; user and password of an address."""

_MORE = "…"

log = logging.getLogger(__name__)

_read = msgspec.json.Decoder().decode
_write = msgspec.json.Encoder().encode


def excerpt(value: object) -> str:
    """What is shown of a message of ours, or of a payload; empty if there is none."""
    try:
        shown = _shown(value)
        text = b"" if shown is None else _write(shown)
    except Exception:  # it must not, but what is recorded goes on
        log.exception("an excerpt could not be made")
        return ""
    if len(text) > SHOWN:
        text = text[: SHOWN - len(_MORE.encode())]
        return text.decode(errors="ignore") + _MORE
    return text.decode()


def _shown(value: Any) -> Any:
    """A message's fields that say something, its payloads read."""
    match value:
        case bytes() | Raw():
            return _payload(bytes(value))
        case Struct():
            fields = {name: getattr(value, name) for name in value.__struct_fields__}
            return {name: MASK if hides(name) else _shown(each) for name, each in fields.items() if each}
        case dict():
            shown = {key: MASK if hides(key) else _shown(each) for key, each in islice(value.items(), SOME)}
            return shown | ({_MORE: len(value) - SOME} if len(value) > SOME else {})
        case list() | tuple():
            return [*map(_shown, value[:SOME]), *([f"{_MORE} {len(value) - SOME}"] if len(value) > SOME else [])]
        case str():
            return _text(value)
    return value


def _payload(data: bytes) -> Any:
    if len(data) > READ:
        return f"{len(data)} bytes"
    try:
        return _masked(_read(data)) if data else None
    except (ValueError, RecursionError):
        return f"{len(data)} bytes, not JSON"


def _masked(value: Any) -> Any:
    """Somebody's JSON without the secrets in it."""
    match value:
        case dict():
            return {key: MASK if hides(key) else _masked(each) for key, each in value.items()}
        case list():
            return [_masked(each) for each in value]
        case str():
            return _text(value)
    return value


def _text(text: str) -> str:
    """A string, which may be JSON in its turn."""
    if len(text) > READ:
        return f"{len(text)} characters"
    if text.lstrip()[:1] in ("{", "[", '"'):
        try:
            return _write(_masked(_read(text))).decode()
        except (ValueError, RecursionError):
            if hides(text):
                return MASK
    return _TOKEN.sub(MASK, text)


def hides(name: str) -> bool:
    """Whether what has this name is not to be shown."""
    name = name.lower()
    return is_secret(name) or bool(_SECRET.search(name))
