"""The map store: what each key of a channel has now, and the latest changes in order.

A change updates the state, goes into the stream under the next offset and is handed to the channel's subscribers, by
the way of the broker's publications, as one atomic act.

Source: Centrifuge protocol, "Map data model".
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol, get_args

from msgspec import Struct
from msgspec.structs import replace

from gateway.brokers.base import IDEMPOTENCY_TTL, Claim, HistoryFilter, StreamOptions
from gateway.errors import Error, ErrorCode
from gateway.messages import Payload, Position, Publication

Mode = Literal["ephemeral", "recoverable", "persistent"]
KeyMode = Literal["", "if_new", "if_exists"]
KEY_MODES: tuple[KeyMode, ...] = get_args(KeyMode)
Reason = Literal["", "idempotency", "version", "key_exists", "key_not_found", "position_mismatch"]
"""Why a write has changed nothing; empty if it has."""

FOR_EVER = math.inf


class MapOptions(StreamOptions, frozen=True, kw_only=True):
    """How a channel keeps its map. Its stream is as those of others; ``ephemeral`` maps have none.

    A key goes ``key_ttl`` seconds after it was last published, unless that is 0; the whole map does when it has not
    been used for ``history_meta_ttl``. ``key_limit`` is how many keys it may have; 0 is without limit.
    """

    mode: Mode = "ephemeral"
    key_ttl: float = 0.0
    key_limit: int = 0

    @property
    def streams(self) -> bool:
        """Whether changes are kept in order, so that what was missed can be told."""
        return self.mode != "ephemeral"


class MapWrite(Struct, frozen=True):
    """Extras of one write. What is to hold for it to happen, and whether its subscribers may be sent patches.

    ``expected`` is the position at which the key must have been written last. A publish that ``renews``, and changes
    nothing because the key is there (``if_new``), makes the key last as long as one that does.
    """

    key_mode: KeyMode = ""
    idempotency_key: str = ""
    idempotency_ttl: float = IDEMPOTENCY_TTL
    version: int = 0
    version_epoch: str = ""
    expected: Position | None = None
    delta: bool = False
    renews: bool = False


class MapReceipt(Position, frozen=True):
    """What has become of a write, and where the map stands after it.

    With ``position_mismatch`` comes what the key has, if anything.
    """

    suppressed: Reason = ""
    current: Publication | None = None


class MapPage(NamedTuple):
    """Some entries, each with the offset of its last change; where the map stood then; more follow a ``cursor``."""

    entries: list[Publication]
    position: Position
    cursor: str = ""


NO_EXTRAS = MapWrite()

OptionsOf = Callable[[str], MapOptions | None]
"""How a channel keeps its map; None for one that is none, or that only another node's settings know."""


class MapStore(Protocol):
    """One implementation per backend. Every method may raise ``BrokerUnavailable``.

    Reading an unknown map makes its epoch, which lasts for ``unpublished_ttl``. Nothing that is overdue goes by being
    read: subscribers would not learn of it.
    """

    async def publish(
        self, channel: str, publication: Publication, options: MapOptions, write: MapWrite = NO_EXTRAS
    ) -> MapReceipt:
        """Set what ``publication.key`` has. Raises ``Error``: 106 for a key more than the map may have."""

    async def remove(self, channel: str, key: str, options: MapOptions, write: MapWrite = NO_EXTRAS) -> MapReceipt:
        """Take a key out. Subscribers are told with the tags of what it had."""

    async def read_state(self, channel: str, options: MapOptions, limit: int, cursor: str = "") -> MapPage:
        """At most ``limit`` entries after the cursor, in the order of their keys; with 0 the position alone."""

    async def read_key(self, channel: str, options: MapOptions, key: str) -> MapPage:
        """One entry, if it is there."""

    async def read_stream(
        self, channel: str, options: MapOptions, which: HistoryFilter
    ) -> tuple[list[Publication], Position]:
        """Part of the latest changes, and the position; as `Broker.history`."""

    async def verify(self, claims: Sequence[Claim]) -> list[bool]:
        """Whether each position is that of its map, or nobody can tell just now."""

    async def count(self, channel: str) -> int:
        """How many keys there are, with those that are overdue."""

    async def clear(self, channel: str) -> None:
        """Forget a map: its entries, its stream and where it stood."""

    async def sweep(self, options_of: OptionsOf) -> None:
        """Remove the keys whose time is over. Any number of nodes may do so at the same time."""


def check_write(options: MapOptions, key: str, write: MapWrite) -> None:
    """Raises ``Error`` (bad request) for what a map of this mode does not have."""
    if not key:
        raise Error(ErrorCode.BAD_REQUEST, "bad request: key must be given")
    if not options.streams and (write.version or write.expected is not None):
        raise Error(ErrorCode.BAD_REQUEST, "bad request: an ephemeral map has no versions and no positions")


def removal(key: str, time: int) -> Publication:
    """What says that a key has gone."""
    return Publication(Payload(), key=key, removed=True, time=time)


def kept(publication: Publication, offset: int) -> Publication:
    """An entry or a change as it is kept, without the marks of live ones."""
    return replace(publication, offset=offset, epoch="", exclude=None, previous=None, patchable=False)


def too_many_keys() -> Error:
    return Error(ErrorCode.LIMIT_EXCEEDED, "limit exceeded: the map has as many keys as it may have")
