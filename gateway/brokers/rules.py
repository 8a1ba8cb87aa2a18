"""How channels keep their streams, by their names, for publishers that know nothing but a name."""

from msgspec import Struct

from gateway.brokers.base import StreamOptions


class Rule(Struct, frozen=True):
    """The channels whose names match a pattern (POSIX, advanced), unless an earlier rule has taken them."""

    pattern: str
    stream: StreamOptions
