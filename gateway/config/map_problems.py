"""What is wrong with maps: modes that cannot have what they are given, presence that nobody would keep."""

from collections.abc import Iterator

from gateway.config.settings import ChannelOptions, Settings
from gateway.config.settings.channels import PRESENCE_TYPES
from gateway.config.settings.maps import MapSettings

Problem = tuple[str, str]
"""A setting, and what would be right."""

_NO_MAP = MapSettings()

TICK = 27.0
"""Seconds between two times that a node says who is still present."""

_STREAM_OPTIONS = (
    "history_size",
    "force_recovery",
    "allow_recovery",
    "force_positioning",
    "allow_positioning",
    "replay",
    "force_recovery_mode",
    "auto_cache_recover",
)


def find_map_problems(settings: Settings) -> Iterator[Problem]:
    channel = settings.channel
    keys = ["without_namespace", *(f"namespaces.{index}" for index in range(len(channel.namespaces)))]
    sections = [*zip(keys, (channel.without_namespace, *channel.namespaces), strict=True)]
    for key, options in sections:
        yield from ((f"channel.{key}.{name}", text) for name, text in find_problems_of(settings, options))


def find_problems_of(settings: Settings, options: ChannelOptions) -> Iterator[Problem]:
    """Those of one namespace, or of a route of the program."""
    if options.is_map:
        yield from _mode_problems(options)
        yield from _key_problems(options.map)
        if settings.engine.type not in ("memory", "redis"):
            yield (
                "subscription_type",
                f'engine.type = "{settings.engine.type}" keeps no maps; let engine.type = "redis" join the nodes, '
                "or leave it out",
            )
    elif options.map != _NO_MAP:
        given = next(name for name, value in options.map if value != getattr(_NO_MAP, name))
        yield f"map.{given}", 'needs subscription_type = "map", "map_clients" or "map_users"'
    yield from _presence_problems(settings, options)


def _mode_problems(options: ChannelOptions) -> Iterator[Problem]:
    found = options.map
    if not found.mode:
        yield "map.mode", 'is needed, for example map = {mode = "recoverable", key_ttl = "60s"}'
        return
    if found.mode == "persistent" and found.key_ttl:
        yield "map.key_ttl", 'must be 0, for a persistent map has no end; or set map.mode = "recoverable"'
    elif found.mode != "persistent" and not found.key_ttl:
        yield "map.key_ttl", f'is needed for mode = "{found.mode}", for example key_ttl = "60s"'
    if not found.streams:
        for name in ("stream_size", "stream_ttl", "meta_ttl"):
            if getattr(found, name):
                yield f"map.{name}", 'must be 0, for an ephemeral map keeps no changes; or set map.mode = "recoverable"'
    elif found.meta_ttl:
        yield from _meta_problems(found)
    yield from _page_problems(found)
    if options.subscription_type in PRESENCE_TYPES:
        yield from _kept_problems(found)
    for name in _STREAM_OPTIONS:
        if getattr(options, name):
            yield name, "is for streams; a map says by map.mode what it keeps"


def _key_problems(found: MapSettings) -> Iterator[Problem]:
    for what in ("publish", "remove"):
        if found.client_key and getattr(found, f"{what}_proxy_enabled"):
            text = f'cannot stand beside client_key = "{found.client_key}": only one may choose keys'
            yield f"map.{what}_proxy_enabled", text


def _page_problems(found: MapSettings) -> Iterator[Problem]:
    if 0 < found.default_page_size < found.smallest_page:
        yield "map.default_page_size", f"must not be less than min_page_size, which is {found.smallest_page}"
    if (found.default_page_size or found.smallest_page) > found.largest_page:
        yield "map.max_page_size", "must not be less than default_page_size and min_page_size"


def _kept_problems(found: MapSettings) -> Iterator[Problem]:
    """Presence that would not end, or end too early."""
    if found.mode == "persistent":
        yield "map.mode", 'must be "ephemeral" or "recoverable": who is present must end by itself'
    if 0 < found.key_ttl < 2 * TICK:
        yield "map.key_ttl", f'must be at least {2 * TICK:g}s, for presence is renewed every {TICK:g}s; take "60s"'


def _meta_problems(found: MapSettings) -> Iterator[Problem]:
    if found.mode == "persistent":
        yield "map.meta_ttl", "must be 0, for a persistent map has no end"
    elif found.meta_ttl < max(found.stream_ttl or 60.0, found.key_ttl):
        yield "map.meta_ttl", "must not be shorter than stream_ttl and key_ttl, which it is to outlive"


def _presence_problems(settings: Settings, options: ChannelOptions) -> Iterator[Problem]:
    """Channels of presence that are no such channels."""
    channel = settings.channel
    for kind in PRESENCE_TYPES:
        name = f"{kind}_presence_channel_prefix"
        prefix: str = getattr(options, name)
        if not prefix:
            continue
        namespace, boundary, _ = prefix.partition(channel.namespace_boundary)
        known = {each.name: each for each in channel.namespaces}
        found = known.get(namespace) if boundary else channel.without_namespace
        if found is None or found.subscription_type != kind:
            example = (
                f'{{"name": "online", "subscription_type": "{kind}", "map": {{"mode": "ephemeral", "key_ttl": "60s"}}}}'
            )
            yield (
                name,
                f'"{prefix}" must begin with a namespace of that type, for example "online:" with {example} in '
                "channel.namespaces",
            )
