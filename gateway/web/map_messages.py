"""Requests and results of the server API that are about maps. Source: Centrifuge protocol, "Server API" of maps."""

from typing import Any

from msgspec import Raw, Struct, field

from gateway.messages import Offset
from gateway.web.api_messages import ChannelRequest, Limit, Version


class MapPublishRequest(Struct, kw_only=True):
    """Set what a key of a map has; with ``key_mode`` only a new key (if_new), or only one that is there (if_exists)."""

    channel: str = ""
    key: str = ""
    data: Raw = field(default_factory=Raw)
    b64data: str = ""
    tags: dict[str, str] | None = None
    idempotency_key: str = ""
    delta: bool = False
    version: Version = 0
    version_epoch: str = ""
    key_mode: str = ""


class MapRemoveRequest(Struct, kw_only=True):
    """Take a key out of a map."""

    channel: str = ""
    key: str = ""
    idempotency_key: str = ""


class MapReadStateRequest(Struct, kw_only=True):
    """Read a map: its position with ``limit`` 0, all entries with -1, else a page of at most 1000; or one ``key``."""

    channel: str = ""
    limit: Limit = 0
    cursor: str = ""
    key: str = ""
    revision_offset: Offset = 0
    revision_epoch: str = ""


class MapReadStreamRequest(Struct, kw_only=True):
    """Read the latest changes of a map; ``limit`` -1 is all that are kept, 0 the position alone."""

    channel: str = ""
    limit: Limit = 0
    since_offset: Offset = 0
    since_epoch: str = ""
    reverse: bool = False


class MapStatsRequest(ChannelRequest, kw_only=True):
    """Count the keys of a map."""


class MapClearRequest(ChannelRequest, kw_only=True):
    """Take all keys out of a map; its subscribers load it again."""


# — results —


class MapWriteResult(Struct, omit_defaults=True):
    """Where the map stands. What was ``suppressed`` has changed nothing."""

    offset: Offset = 0
    epoch: str = ""
    suppressed: bool = False
    suppress_reason: str = ""


class MapStateResult(Struct, omit_defaults=True):
    """There are more entries, from ``cursor`` on, if it is given."""

    entries: list[Any] | Raw
    offset: Offset = 0
    epoch: str = ""
    cursor: str = ""


class MapStreamResult(Struct, omit_defaults=True):
    entries: list[Any] | Raw
    offset: Offset = 0
    epoch: str = ""


class MapStatsResult(Struct):
    num_keys: int
