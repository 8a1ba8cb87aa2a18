"""Settings of rate limits: how much one connection, one user and one address may ask for.

Names and meaning follow Centrifugo PRO's ``client.rate_limit``, where the option exists there.
"""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from gateway.config.durations import parse_duration
from gateway.config.settings.section import Section

LONGEST_INTERVAL = 86400.0
"""Seconds of a bucket: as long as what an address has spent may have to be remembered."""

_BUCKET = re.compile(r"([1-9]\d{0,11})/(second|minute|hour|day|\S*[a-z\d])")
_WORDS = {"second": "1s", "minute": "1m", "hour": "1h", "day": "1d"}

_EXAMPLE = '"100/second", or "100/second 1000/minute" for both at once'


def read_buckets(text: str) -> list[tuple[int, float]]:
    """Each bucket's tokens, and the seconds in which it fills: ``"100/second 5/10s"``. Raises ``ValueError``."""
    found = []
    for word in text.replace(",", " ").split():
        matched = _BUCKET.fullmatch(word)
        try:
            if matched is None:
                raise ValueError("a number, a slash and a time are needed")
            interval = float(parse_duration(_WORDS.get(matched[2], matched[2])))
            if not 0 < interval <= LONGEST_INTERVAL:
                raise ValueError("the time must be longer than nothing, and a day at most")
        except ValueError as error:
            raise ValueError(f"{word!r} is no rate ({error}); write for example {_EXAMPLE}") from None
        found.append((int(matched[1]), interval))
    return found


def _as_text(value: Any) -> Any:
    """Buckets in Centrifugo's form, ``{"enabled": true, "buckets": [{"interval": "1s", "rate": 60}]}``, as text."""
    if not isinstance(value, dict):
        return value
    try:
        if value.keys() - {"enabled", "buckets"} or str(value.get("enabled", True)).lower() not in ("true", "false"):
            raise KeyError
        words = [f"{bucket['rate']}/{bucket['interval']}" for bucket in value.get("buckets", ())]
    except (KeyError, TypeError):
        shape = '{"enabled": true, "buckets": [{"interval": "1s", "rate": 100}]}'
        raise ValueError(f"must be text such as {_EXAMPLE}, or {shape}") from None
    return " ".join(words) if str(value.get("enabled", True)).lower() == "true" else ""


def _check(text: str) -> str:
    read_buckets(text)
    return text


Buckets = Annotated[str, BeforeValidator(_as_text), AfterValidator(_check), Field(examples=["100/second"])]
"""``"100/second"``: so many at once, which come back steadily; of several each must allow it; empty is no limit."""


class CommandRates(Section):
    """How often each command may be given."""

    dry_run: bool = False
    """Only count what would be refused."""
    default: Buckets = ""
    """Rate of each command that has none below."""
    subscribe: Buckets = ""
    """Rate of `subscribe`."""
    publish: Buckets = ""
    """Rate of `publish`."""
    history: Buckets = ""
    """Rate of `history`."""
    presence: Buckets = ""
    """Rate of `presence`."""
    presence_stats: Buckets = ""
    """Rate of `presence_stats`."""
    refresh: Buckets = ""
    """Rate of `refresh`."""
    sub_refresh: Buckets = ""
    """Rate of `sub_refresh`."""
    rpc: Buckets = ""
    """Rate of `rpc`."""


class SharedCommandLimits(CommandRates):
    """How often each command may be given by one user on all nodes. Kept by the engine: Redis or PostgreSQL."""

    enabled: bool = False
    """Ask Redis, or PostgreSQL, before each of these commands; while it is away all is allowed."""
    connect: Buckets = ""
    """Rate of `connect`."""


class UserCommandLimits(SharedCommandLimits):
    """How often each command may be given by one user on this node; who has no user counts by address."""

    enabled: bool = False
    """Hold users to these rates."""
    total: Buckets = ""
    """Rate of all commands together."""
    unsubscribe: Buckets = ""
    """Rate of `unsubscribe`, which counts in `total` but is never refused."""
    bytes: Buckets = ""
    """Bytes of commands, such as `1000000/second`."""


class ClientCommandLimits(CommandRates):
    """How often each command may be given on one connection."""

    enabled: bool | None = None
    """`true` holds for all; by default only for clients whose address is of the public Internet; `false` for none."""
    total: Buckets = "1000/second 18000/minute"
    """Rate of all commands together, but for `connect`."""
    unsubscribe: Buckets = ""
    """Rate of `unsubscribe`, which counts in `total` but is never refused."""
    bytes: Buckets = ""
    """Bytes of commands, such as `1000000/second`."""


class AddressCommandLimits(ClientCommandLimits):
    """The same for all connections of one address on this node: an IPv4 address, or a /64 of IPv6."""

    total: Buckets = "20000/second 240000/minute"
    """Rate of all commands together, but for `connect`."""
    connect: Buckets = "1000/second 6000/minute"
    """Rate of new connections; over it the handshake is answered with HTTP 429 and Retry-After. Commands by HTTP for
    sessions that no other node has may be as many."""


class ClientErrorLimits(Section):
    """How many commands of one connection may fail before it is closed with 3508, and stays away."""

    enabled: bool | None = None
    """`true` holds for all; by default only for clients whose address is of the public Internet; `false` for none."""
    dry_run: bool = False
    """Only count what would be closed."""
    total: Buckets = "500/10s"
    """Rate of errors in replies, but for internal ones (100)."""


class RateLimitSettings(Section):
    """How much one connection, one user and one address may ask for; more is answered with error 111."""

    client_command: ClientCommandLimits = ClientCommandLimits()
    """Commands of a connection."""
    user_command: UserCommandLimits = UserCommandLimits()
    """Commands of a user on this node."""
    redis_user_command: SharedCommandLimits = SharedCommandLimits()
    """Commands of a user on all nodes."""
    address_command: AddressCommandLimits = AddressCommandLimits()
    """Commands and new connections of an address on this node."""
    client_error: ClientErrorLimits = ClientErrorLimits()
    """Errors of a connection."""
