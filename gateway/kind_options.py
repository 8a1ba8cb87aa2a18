"""What the kind of a channel in the Pusher protocol takes, put on the options of its namespace or route.

For whoever comes: a channel is one, whichever protocol its subscribers speak. What they may do there is as the
namespace says.
"""

from collections.abc import Iterator

from gateway.config.settings import ChannelOptions, ChannelSettings, PusherSettings
from gateway.kinds import PUBLIC, Kind, kind_of


def namespaces_of_apps(pusher: PusherSettings, boundary: str) -> frozenset[str]:
    """The gateway's namespaces in which apps have their channels: of ``tenants:42`` that is ``tenants``."""
    found = (pusher.namespace, *map(pusher.namespace_of, pusher.apps))
    return frozenset(each.partition(boundary)[0] for each in found)


class KindOptions:
    """Which channels are an app's, and what holds there."""

    __slots__ = ("_boundary", "_counts", "_namespaces", "_ttl")

    def __init__(self, pusher: PusherSettings, channel: ChannelSettings) -> None:
        self._boundary = channel.namespace_boundary
        self._namespaces = namespaces_of_apps(pusher, self._boundary)
        self._counts, self._ttl = pusher.subscription_counts, pusher.cache_ttl

    def of(self, name: str) -> Kind | None:
        """The kind of a channel; None if nothing is to be put on its options."""
        namespace, boundary, _ = name.partition(self._boundary)
        if (namespace if boundary else "") not in self._namespaces:
            return None
        kind = kind_of(name.rpartition(self._boundary)[2])
        return None if kind == PUBLIC and not self._counts else kind

    def put_on(self, options: ChannelOptions, kind: Kind) -> ChannelOptions:
        return options.model_copy(update=dict(self._taken(options, kind)))

    def _taken(self, options: ChannelOptions, kind: Kind) -> Iterator[tuple[str, object]]:
        if kind.presence or kind.inbox or self._counts:
            yield from (("presence", True), ("join_leave", True))
        if not kind.cached:
            return
        if not options.keeps_history and self._ttl:
            yield from (("history_size", 1), ("history_ttl", self._ttl))
            if options.history_meta_ttl:
                yield "history_meta_ttl", max(options.history_meta_ttl, self._ttl)
        if options.keeps_history or self._ttl:
            yield from (("allow_recovery", True), ("force_recovery_mode", "cache"))
