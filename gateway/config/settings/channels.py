"""Settings of channels."""

from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field

from gateway.config.durations import Duration
from gateway.config.settings.maps import MapSettings
from gateway.config.settings.polls import PollOptions
from gateway.config.settings.proxies import DEFAULT, ChannelProxySettings
from gateway.config.settings.section import Section

META_TTL = 12 * 3600.0
"""Seconds that offset and epoch of a channel stay, once nobody uses it. Who comes back later than that, and than
history_ttl, is told that he may have missed something, even if he has not; so it is longer than a night. And it is no
longer, since a channel that was ever published to costs Redis some 180 bytes for it: with twenty new ones a second, as
where each visit or order has its own, that is 156 MB for twelve hours, but 9 GB for the month it once was."""


SubscriptionType = Literal["", "stream", "map", "map_clients", "map_users", "shared_poll"]
STREAM_TYPES: tuple[SubscriptionType, ...] = ("", "stream")
PRESENCE_TYPES: tuple[SubscriptionType, ...] = ("map_clients", "map_users")
MAP_TYPES: tuple[SubscriptionType, ...] = ("map", *PRESENCE_TYPES)


class ChannelOptions(Section):
    """What holds for the channels of one namespace."""

    subscription_type: SubscriptionType = ""
    """`map` keeps what each key has, `map_clients` and `map_users` who is elsewhere; `shared_poll` polls a backend."""
    map: MapSettings = MapSettings()
    """Of a map, how it is kept."""
    client_publish_debounce_interval: Duration = 0.0
    """In what time clients publish a key of a map at most once, which they see to by themselves."""
    map_clients_presence_channel_prefix: str = ""
    """Keep who is connected here in the channel of this name before that of the channel, of type `map_clients`."""
    map_users_presence_channel_prefix: str = ""
    """The same by users, of type `map_users`."""
    shared_poll: PollOptions = PollOptions()
    """How it is polled."""

    presence: bool = False
    """Keep who is subscribed."""
    presence_max_members: int = Field(default=5000, ge=0)
    """With how many members a client may still read presence at once, not only their number; 0 is without limit."""
    join_leave: bool = False
    """Produce join and leave messages."""
    force_push_join_leave: bool = False
    """Deliver them to every subscriber, not only on request."""
    history_size: int = Field(default=0, ge=0)
    """How many publications a channel keeps; needs history_ttl."""
    history_ttl: Duration = 0.0
    """How long it keeps them; needs history_size."""
    history_meta_ttl: Duration = 0.0
    """How long offset and epoch outlive their last use; 0 takes channel.history_meta_ttl, or a longer history_ttl."""
    force_positioning: bool = False
    """Watch every subscriber's position in the stream."""
    allow_positioning: bool = False
    """Watch it when the client asks."""
    force_recovery: bool = False
    """Let every returning subscriber recover what it missed."""
    allow_recovery: bool = False
    """Let it recover when the client asks."""
    force_recovery_mode: Literal["", "stream", "cache"] = ""
    """`stream` gives all missed publications, `cache` the newest alone."""
    auto_cache_recover: bool = False
    """Give the newest publication to every new subscriber, asked or not; needs `cache`, and force_recovery."""
    allowed_delta_types: tuple[Literal["fossil"], ...] = Field(default=(), examples=[["fossil"]])
    """Ways in which clients may ask for patches in place of publications: `["fossil"]`, or none."""
    delta_publish: bool = False
    """Let everything that is published go as patches, not only what is published with `delta`."""
    allow_tags_filter: bool = False
    """Let clients choose publications by their tags."""
    tags_filter_limit: int = Field(default=1000, ge=1)
    """How many different filters the subscribers of one channel may have on a node; others are refused (106)."""
    allow_channel_compaction: bool = True
    """Let clients ask for a number in place of the channel's name in what they are sent, as the JavaScript SDK does."""
    replay: bool = False
    """Give a new subscriber what the channel keeps, before what comes."""
    allow_subscribe_for_client: bool = False
    """Every connected user may subscribe."""
    allow_subscribe_for_anonymous: bool = False
    """Users without id may, too."""
    allow_publish_for_client: bool = False
    """Every connected user may publish."""
    allow_publish_for_subscriber: bool = False
    """Those subscribed to the channel may publish."""
    allow_publish_for_anonymous: bool = False
    """Users without id may, too."""
    allow_presence_for_client: bool = False
    """Every connected user may read presence."""
    allow_presence_for_subscriber: bool = False
    """Those subscribed to the channel may read presence."""
    allow_presence_for_anonymous: bool = False
    """Users without id may, too."""
    allow_history_for_client: bool = False
    """Every connected user may read history."""
    allow_history_for_subscriber: bool = False
    """Those subscribed to the channel may read history."""
    allow_history_for_anonymous: bool = False
    """Users without id may, too."""
    batch_delay: Annotated[Duration, Field(le=1)] = Field(default=0.0, examples=["10ms"])
    """How long publications may wait for others to leave together; without, those of one moment do."""
    allow_user_limited_channels: bool = False
    """Channels such as `dm#7,9` are open to the users named and closed to others; a personal `#7,9` is one user's."""
    channel_regex: str = ""
    """What the part after the namespace must match when a client names it; empty allows any ASCII name."""
    publication_data_format: Literal["", "json", "json_object", "binary"] = ""
    """What data must be: empty any non-empty bytes, `json`, `json_object`, or `binary` (may be empty)."""
    subscribe_proxy_enabled: bool = False
    """Ask a backend who may subscribe."""
    subscribe_proxy_name: str = DEFAULT
    """Which: `default` is `channel.proxy.subscribe`, others stand in `proxies`."""
    publish_proxy_enabled: bool = False
    """Ask a backend what clients may publish."""
    publish_proxy_name: str = DEFAULT
    """Which: `default` is `channel.proxy.publish`."""
    sub_refresh_proxy_enabled: bool = False
    """Ask a backend whether a subscription goes on whose time is over; clients cannot refresh it by a token then."""
    sub_refresh_proxy_name: str = DEFAULT
    """Which: `default` is `channel.proxy.sub_refresh`."""
    cache_empty_proxy_enabled: bool = False
    """Ask a backend to fill a cache (`force_recovery_mode = "cache"`) that has nothing for a new subscriber."""
    cache_empty_proxy_name: str = DEFAULT
    """Which: `default` is `channel.proxy.cache_empty`."""

    # — decided once for each object: every subscribe asks —

    @cached_property
    def keeps_history(self) -> bool:
        return self.history_size > 0 and self.history_ttl > 0

    @cached_property
    def is_map(self) -> bool:
        return self.subscription_type in MAP_TYPES

    @cached_property
    def shows_in_maps(self) -> bool:
        """Whether subscribers are keys somewhere, which end with them."""
        prefixes = self.map_clients_presence_channel_prefix or self.map_users_presence_channel_prefix
        return bool(prefixes) or self.map.remove_client_on_unsubscribe

    @cached_property
    def is_stream(self) -> bool:
        """Whether it is neither: then the server may subscribe clients to it."""
        return not (self.is_map or self.is_polled)

    @cached_property
    def is_polled(self) -> bool:
        return self.subscription_type == "shared_poll"


class Namespace(ChannelOptions):
    """Options of the channels whose names begin with `name:`."""

    name: str = Field(pattern=r"^[-a-zA-Z0-9_.]{2,}$", examples=["chat"])
    """The text before the boundary: letters, digits, `-`, `_`, `.`; at least two."""


class ChannelSettings(Section):
    """Names of channels and what holds for them."""

    max_length: int = Field(default=255, ge=1)
    """Longest name that a client may use, in bytes."""
    namespace_boundary: str = Field(default=":", min_length=1)
    """Ends the namespace in a name."""
    private_prefix: str = Field(default="$", min_length=1)
    """Begins names that need a subscription token."""
    user_boundary: str = Field(default="#", min_length=1)
    """Begins the user list of a user-limited channel."""
    user_separator: str = Field(default=",", min_length=1)
    """Stands between users."""
    history_meta_ttl: Annotated[Duration, Field(gt=0)] = META_TTL
    """How long offset and epoch of a channel outlive its last use, once something has been published."""
    proxy: ChannelProxySettings = ChannelProxySettings()
    """Backends that decide what happens in channels."""
    without_namespace: ChannelOptions = ChannelOptions()
    """Options of the channels without namespace."""
    namespaces: tuple[Namespace, ...] = ()
    """Options by namespace."""

    def meta_ttl(self, options: ChannelOptions) -> float:
        """How long offset and epoch outlive the last use: never shorter than what they are the offset and epoch of."""
        return options.history_meta_ttl or max(self.history_meta_ttl, options.history_ttl)


class PersonalChannelSettings(Section):
    """A server-side subscription for each user, to a channel of its own."""

    enabled: bool = False
    """Subscribe each connection with a user to `#user`."""
    personal_channel_namespace: str = ""
    """Namespace of these channels."""
    single_connection: bool = False
    """Keep only the newest connection of a user; needs presence on the channel."""
