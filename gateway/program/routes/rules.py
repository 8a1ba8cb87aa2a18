"""Routes and namespaces as rules that a database can follow: the same that `Channels` goes by."""

import re
from collections.abc import Iterator, Sequence

from gateway.brokers.base import StreamOptions
from gateway.brokers.rules import Rule
from gateway.config.settings import ChannelOptions, Settings
from gateway.kind_options import KindOptions, namespaces_of_apps
from gateway.kinds import CACHED, Kind
from gateway.program.routes.route import Route


def stream_rules(settings: Settings, routes: Sequence[Route]) -> list[Rule]:
    """In the order in which names are looked up: routes, then namespaces, then what is without."""
    found = [*_of_routes(settings, routes), *_of_namespaces(settings)]
    if settings.pusher.enabled:
        found = [each for pattern, options in found for each in _with_cached(settings, pattern, options)]
    return [Rule(pattern, _stream(settings, options)) for pattern, options in found]


def _of_routes(settings: Settings, routes: Sequence[Route]) -> Iterator[tuple[str, ChannelOptions]]:
    """Private and personal channels are a route's only if it names them."""
    channel = settings.channel
    private, boundary, personal = map(
        re.escape, (channel.private_prefix, channel.namespace_boundary, channel.user_boundary)
    )
    for route in routes:
        # Parameters have no names there.
        expression = re.sub(r"\?P<\w+>", "", route.expression)
        guard = "" if route.text.startswith(channel.private_prefix) else f"(?!{private})"
        if channel.namespace_boundary + channel.user_boundary not in channel.namespace_boundary + route.text:
            guard += f"(?!{personal})(?!.*{boundary}{personal})"
        yield f"^{guard}(?:{expression})$", route.options


def _of_namespaces(settings: Settings) -> Iterator[tuple[str, ChannelOptions]]:
    channel, personal = settings.channel, settings.client.subscribe_to_user_personal_channel
    private, boundary = re.escape(channel.private_prefix), re.escape(channel.namespace_boundary)
    if personal.enabled and not personal.personal_channel_namespace:
        # all behind the boundary is the user's, whatever it looks like
        yield f"^{re.escape(channel.user_boundary)}", channel.without_namespace
    for namespace in channel.namespaces:
        yield f"^(?:{private})?{re.escape(namespace.name)}{boundary}", namespace
    yield f"^(?!.*{boundary}).", channel.without_namespace


def _with_cached(settings: Settings, pattern: str, options: ChannelOptions) -> Iterator[tuple[str, ChannelOptions]]:
    """The cache channels of apps among those of a pattern, then all of them."""
    boundary = re.escape(settings.channel.namespace_boundary)
    namespaces = sorted(namespaces_of_apps(settings.pusher, settings.channel.namespace_boundary))
    places = "|".join(f"{re.escape(each)}{boundary}(.*{boundary})?" if each else "" for each in namespaces)
    cached = KindOptions(settings.pusher, settings.channel).put_on(options, Kind("public", cached=True))
    yield f"^(?=({places})({'|'.join(CACHED)})(?!.*{boundary})){pattern[1:]}", cached
    yield pattern, options


def _stream(settings: Settings, options: ChannelOptions) -> StreamOptions:
    return StreamOptions(options.history_size, options.history_ttl, settings.channel.meta_ttl(options))
