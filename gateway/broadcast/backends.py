"""The backend that a URL names, and what is to be known of it beyond the interface of `broadcaster`."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol
from urllib.parse import urlsplit

from broadcaster import BroadcastBackend
from broadcaster._backends.memory import MemoryBackend

from gateway.config.settings import BroadcasterSettings
from gateway.errors import SettingsError

EXAMPLE = 'engine.broadcaster.url = "postgres://user:password@127.0.0.1:5432/database"'

AS_MUCH_AS_FITS = 256 * 1024
"""Bytes of a batch where the backend knows no limit: larger ones would hold up what comes after them."""


_PACKAGES = {
    "postgres": "asyncpg",
    "postgresql": "asyncpg",
    "kafka": "aiokafka",
    "redis": "redis",
    "rediss": "redis",
    "memory": "broadcaster",
}
"""What connects with each backend."""


class Parcels(Protocol):
    """Keeps for a short time what is too large for a message."""

    async def store(self, data: bytes) -> int: ...

    async def fetch(self, parcel: int) -> bytes | None:
        """None if it is there no more."""


@dataclass(frozen=True)
class Backing:
    """A backend, not connected yet. Its messages have ``largest`` bytes at most; 0 is without limit."""

    backend: BroadcastBackend
    largest: int = 0
    parcels: Parcels | None = None


def choose(settings: BroadcasterSettings) -> Callable[[], Backing]:
    """How the backend of the URL is made, anew for each connection. Raises `SettingsError`."""
    url, name = settings.url, settings.name
    if problem := problem_of(url):
        raise SettingsError(f"engine.broadcaster.url: {problem}")
    # imported here: each needs a package of its own
    match urlsplit(url).scheme:
        case "postgres" | "postgresql":
            from gateway.broadcast.postgres import LARGEST, Postgres

            def postgres() -> Backing:
                backend = Postgres(url, name)
                return Backing(backend, LARGEST, backend)

            return postgres
        case "kafka":
            from gateway.broadcast.kafka import LARGEST as MOST
            from gateway.broadcast.kafka import Kafka

            return lambda: Backing(Kafka(url), MOST)
        case "redis" | "rediss":
            from gateway.broadcast.redis import Redis

            return lambda: Backing(Redis(url))
    return lambda: Backing(MemoryBackend(url))


def problem_of(url: str) -> str:
    """What is wrong with a URL, empty if nothing."""
    if not url:
        return f"says which backend joins the nodes; for example {EXAMPLE}"
    try:
        scheme = urlsplit(url).scheme
    except ValueError as error:
        return f"{shown(url)!r} cannot be read ({error}); write for example {EXAMPLE}"
    if scheme == "redis-stream":
        return (
            "redis-stream:// keeps all that is published and forgets nothing, until the server is full; "
            'let engine.type = "redis" join the nodes, with engine.redis.address = "redis://127.0.0.1:6379"'
        )
    if scheme not in _PACKAGES:
        return f"{shown(url)!r} names no backend: postgres://, kafka://, redis:// or memory://; for example {EXAMPLE}"
    package = _PACKAGES[scheme]
    if find_spec(package) is None:
        return f'{shown(url)!r} needs {package}, which is not installed: pip install "wsgateway[broadcaster]"'
    return ""


def shown(url: str) -> str:
    """The URL without who logs in."""
    return re.sub(r"//[^/]*@", "//***@", url)
