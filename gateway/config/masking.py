"""Secrets among settings: which names hold one, and how an address is shown without."""

import re
from collections.abc import Mapping
from typing import Any

MASK = "***"

_KEY_OF_MAP = r"(?!(?<=client_)key$|key_ttl|key_limit|key_length)"
_SECRET = re.compile(rf"(secret|password|static_headers|(?<!public_){_KEY_OF_MAP}key)(?!\w*_valid_until)")
_NEXT_ADDRESS = re.compile(r"(,\s*)(?=[a-z+]+://)", re.IGNORECASE)
_CUT = re.compile(r":(?![0-9a-fA-F:.]*\]?(?::\d+)?(?:[/?#]|$))[^/?#]*")
"""Of an address that a comma in its password has cut in two: what stands for a port, and is none."""

_PARAMETER = re.compile(r"((?:pass\w*|pwd)=)[^&]*", re.IGNORECASE)


def is_secret(name: str) -> bool:
    """Whether a setting of this name holds a secret."""
    return bool(_SECRET.search(name))


def without_secret(key: str, value: Any) -> Any:
    """A setting's value without the secret that it is, or has in it; ``key`` is its name."""
    if value and is_secret(key):
        return MASK
    if isinstance(value, list | tuple):
        return [without_secret(key, each) for each in value]
    if isinstance(value, Mapping):
        return {name: without_secret(f"{key}.{name}", each) for name, each in value.items()}
    if isinstance(value, str) and "PRIVATE KEY-----" in value:  # some have it in one file with its certificate
        return MASK
    hides = isinstance(value, str) and ("://" in value or key.endswith(("address", "dsn", "url")))
    return masked(value) if hides else value


def masked(text: str) -> str:
    """Addresses without their secrets, however they are written: several are separated by commas."""
    return "".join(map(_masked, _NEXT_ADDRESS.split(text)))


def _masked(address: str) -> str:
    scheme, separator, rest = address.partition("://") if "://" in address else ("", "", address)
    _, at, place = rest.rpartition("@")
    place = f"{MASK}@{place}" if at else _CUT.sub(f":{MASK}", place)
    return scheme + separator + _PARAMETER.sub(rf"\1{MASK}", place)
