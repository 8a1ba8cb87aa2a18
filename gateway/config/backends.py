"""Which backends the settings ask, about which events."""

from collections.abc import Iterator, Mapping
from operator import attrgetter

from msgspec import Struct

from gateway.config.settings import ProxySettings, Settings
from gateway.config.settings.proxies import DEFAULT

CHANNEL_EVENTS: Mapping[str, str] = {
    "subscribe": "subscribe",
    "publish": "publish",
    "map_publish": "map.publish",
    "map_remove": "map.remove",
    "sub_refresh": "sub_refresh",
    "cache_empty": "cache_empty",
}
"""What happens in channels, and how the options begin by which a namespace asks about it."""

POLL_EVENT = "shared_poll_refresh"


class Asked(Struct, frozen=True):
    """One event that somebody asks a backend about."""

    event: str
    name: str
    """Name of the proxy."""
    switch: str
    """The setting that says so."""


def find_asked(settings: Settings) -> Iterator[Asked]:
    """Every event that is asked about, by whom it is."""
    for event in ("connect", "refresh"):
        if getattr(settings.client.proxy, event).enabled:
            yield Asked(event, DEFAULT, f"client.proxy.{event}.enabled")
    channel = settings.channel
    sections = ["without_namespace", *(f"namespaces.{index}" for index in range(len(channel.namespaces)))]
    for section, options in zip(sections, (channel.without_namespace, *channel.namespaces), strict=True):
        for event, option in CHANNEL_EVENTS.items():
            if attrgetter(f"{option}_proxy_enabled")(options):
                name = attrgetter(f"{option}_proxy_name")(options)
                yield Asked(event, name, f"channel.{section}.{option}_proxy_enabled")
        if options.is_polled:
            yield Asked(POLL_EVENT, options.shared_poll.proxy_name, f"channel.{section}.shared_poll.proxy_name")
    rpc = settings.rpc
    sections = ["without_namespace", *(f"namespaces.{index}" for index in range(len(rpc.namespaces)))]
    for section, methods in zip(sections, (rpc.without_namespace, *rpc.namespaces), strict=True):
        if methods.proxy_enabled:
            yield Asked("rpc", methods.proxy_name, f"rpc.{section}.proxy_enabled")


def find_backends(settings: Settings) -> Iterator[tuple[str, ProxySettings]]:
    """Those that have an address, asked or not, by where they stand in the settings."""
    client, channel = settings.client.proxy, settings.channel.proxy
    standing: dict[str, ProxySettings] = {
        "client.proxy.connect": client.connect,
        "client.proxy.refresh": client.refresh,
        **{f"channel.proxy.{event}": getattr(channel, event) for event in (*CHANNEL_EVENTS, POLL_EVENT)},
        "rpc.proxy": settings.rpc.proxy,
        **{f"proxies.{index}": each for index, each in enumerate(settings.proxies)},
    }
    yield from ((place, each) for place, each in standing.items() if each.endpoint)


def place_of(settings: Settings, event: str, name: str) -> str:
    """Where the backend stands in the settings; empty for a name that there is not."""
    if name != DEFAULT:
        return next((f"proxies.{index}" for index, each in enumerate(settings.proxies) if each.name == name), "")
    if event == "rpc":
        return "rpc.proxy"
    return f"{'channel' if event in (*CHANNEL_EVENTS, POLL_EVENT) else 'client'}.proxy.{event}"
