"""What `Gateway.channel` takes by keyword."""

from collections.abc import Sequence
from typing import Literal, TypedDict

Who = Literal["subscribers", "anyone"]
"""Whose command a handler decides: that of clients subscribed to the channel, or of any that is connected."""

SUBSCRIBERS: Who = "subscribers"


class MapKeywords(TypedDict, total=False):
    """`settings.MapSettings`, for editors and type checkers, as in ``map={"mode": "persistent"}``."""

    mode: Literal["", "ephemeral", "recoverable", "persistent"]
    key_ttl: float | str
    key_limit: int
    max_key_length: int
    stream_size: int
    stream_ttl: float | str
    meta_ttl: float | str
    default_page_size: int
    min_page_size: int
    max_page_size: int
    live_transition_max_publication_limit: int
    subscribe_catch_up_timeout: float | str
    client_key: Literal["", "client_id", "user_id"]
    remove_client_on_unsubscribe: bool
    allow_publish_for_client: bool
    allow_publish_for_subscriber: bool
    allow_publish_for_anonymous: bool
    allow_remove_for_client: bool
    allow_remove_for_subscriber: bool
    allow_remove_for_anonymous: bool


class Options(TypedDict, total=False):
    """`settings.ChannelOptions`, for editors and type checkers; `Gateway.channel` says what is not among them."""

    map: MapKeywords
    client_publish_debounce_interval: float | str
    map_clients_presence_channel_prefix: str
    map_users_presence_channel_prefix: str
    presence: bool
    presence_max_members: int
    join_leave: bool
    force_push_join_leave: bool
    history_size: int
    history_ttl: float | str
    history_meta_ttl: float | str
    force_positioning: bool
    allow_positioning: bool
    force_recovery: bool
    allow_recovery: bool
    force_recovery_mode: Literal["", "stream", "cache"]
    auto_cache_recover: bool
    allowed_delta_types: Sequence[Literal["fossil"]]
    delta_publish: bool
    allow_tags_filter: bool
    tags_filter_limit: int
    allow_channel_compaction: bool
    replay: bool
    allow_subscribe_for_client: bool
    allow_subscribe_for_anonymous: bool
    allow_publish_for_client: bool
    allow_publish_for_subscriber: bool
    allow_publish_for_anonymous: bool
    allow_presence_for_client: bool
    allow_presence_for_subscriber: bool
    allow_presence_for_anonymous: bool
    allow_history_for_client: bool
    allow_history_for_subscriber: bool
    allow_history_for_anonymous: bool
    batch_delay: float | str
    allow_user_limited_channels: bool
    publication_data_format: Literal["", "json", "json_object", "binary"]
