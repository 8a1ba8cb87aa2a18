"""Settings of channels that are maps."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.config.durations import Duration
from gateway.config.settings.proxies import DEFAULT
from gateway.config.settings.section import Section

DEFAULT_PAGE, SMALLEST_PAGE, LARGEST_PAGE = 100, 100, 1000
CATCH_UP_TIMEOUT = 5.0
"""Seconds: what clients wait for the answer to one request, and a load is a few of them."""


class MapSettings(Section):
    """How the channels of a namespace keep their maps, and what clients may write into them."""

    mode: Literal["", "ephemeral", "recoverable", "persistent"] = ""
    """`ephemeral` keeps no changes, `recoverable` does, and both let keys expire; `persistent` keeps all for ever."""
    key_ttl: Duration = 0.0
    """How long a key stays after it was last published; needed unless `persistent`."""
    key_limit: int = Field(default=100_000, ge=0)
    """How many keys a channel may have; 0 is without limit."""
    max_key_length: int = Field(default=255, ge=1)
    """Longest key that may be written, in bytes."""
    stream_size: int = Field(default=0, ge=0)
    """How many changes a channel keeps for those who come back; 0 is 100."""
    stream_ttl: Duration = 0.0
    """How long it keeps them; 0 is 60 seconds."""
    meta_ttl: Duration = 0.0
    """How long a map outlives its last use; 0 is ten times stream_ttl, or a longer key_ttl."""
    default_page_size: int = Field(default=0, ge=0)
    """Entries of a page if the client does not say; 0 is 100."""
    min_page_size: int = Field(default=0, ge=0)
    """Fewest entries of a page, whatever the client says; 0 is 100."""
    max_page_size: int = Field(default=0, ge=0)
    """Most entries of a page; 0 is 1000."""
    live_transition_max_publication_limit: int = 0
    """How many changes a client may have missed when it goes live; 0 is max_page_size, a negative number no limit."""
    subscribe_catch_up_timeout: Annotated[Duration, Field(le=600)] = 0.0
    """How long a client may take to load a map; 0 is 5 seconds."""
    client_key: Literal["", "client_id", "user_id"] = ""
    """Which key a client writes: its own choice, or always that of its connection or user."""
    remove_client_on_unsubscribe: bool = False
    """Remove the key that is the client's id when it unsubscribes or leaves."""
    allow_publish_for_client: bool = False
    """Every connected user may set keys."""
    allow_publish_for_subscriber: bool = False
    """Those subscribed to the channel may set keys."""
    allow_publish_for_anonymous: bool = False
    """Users without id may, too."""
    allow_remove_for_client: bool = False
    """Every connected user may remove keys."""
    allow_remove_for_subscriber: bool = False
    """Those subscribed to the channel may remove keys."""
    allow_remove_for_anonymous: bool = False
    """Users without id may, too."""

    publish_proxy_enabled: bool = False
    """Ask a backend what clients may set."""
    publish_proxy_name: str = DEFAULT
    """Which: `default` is `channel.proxy.map_publish`, others stand in `proxies`."""
    remove_proxy_enabled: bool = False
    """Ask a backend what clients may remove."""
    remove_proxy_name: str = DEFAULT
    """Which: `default` is `channel.proxy.map_remove`."""

    @property
    def streams(self) -> bool:
        """Whether changes are kept, so that what was missed can be told."""
        return self.mode in ("recoverable", "persistent")

    @property
    def smallest_page(self) -> int:
        return self.min_page_size or SMALLEST_PAGE

    @property
    def largest_page(self) -> int:
        return self.max_page_size or LARGEST_PAGE

    def page_size(self, wanted: int) -> int:
        """How many entries a client gets at a time that asks for so many; 0 or less is as many as is usual."""
        size = wanted if wanted > 0 else self.default_page_size or DEFAULT_PAGE
        return min(max(size, self.smallest_page), self.largest_page)

    @property
    def most_changes(self) -> int:
        """How many changes one may have missed who goes live; -1 is any number."""
        limit = self.live_transition_max_publication_limit or self.largest_page
        return max(limit, -1)

    @property
    def catch_up_timeout(self) -> float:
        return self.subscribe_catch_up_timeout or CATCH_UP_TIMEOUT
