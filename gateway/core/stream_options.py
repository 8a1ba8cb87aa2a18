"""How the broker keeps streams and maps, by the options of their channels."""

from gateway.brokers.base import StreamOptions
from gateway.channels import Channel
from gateway.config.settings import ChannelOptions, Settings
from gateway.maps.base import FOR_EVER, MapOptions


class StreamOptionsTable:
    """One value for all channels of the same options, made when it is first asked for."""

    __slots__ = ("_found", "_unpublished_ttl")

    def __init__(self, settings: Settings) -> None:
        self._found: dict[ChannelOptions, StreamOptions] = {}
        self.reload(settings)

    def reload(self, settings: Settings) -> None:
        # until those who have read it are looked at for the first time, and some
        self._unpublished_ttl = max(60.0, 2 * settings.client.channel_position_check_delay)
        self._found.clear()

    def of(self, channel: Channel) -> StreamOptions:
        options = channel.options
        found = self._found.get(options)
        if found is None:
            make = _map_options if options.is_map else _stream_options
            found = self._found[options] = make(options, self._unpublished_ttl)
        return found


def _stream_options(options: ChannelOptions, unpublished_ttl: float) -> StreamOptions:
    ttl, meta_ttl = options.history_ttl, options.history_meta_ttl
    return StreamOptions(options.history_size, ttl, meta_ttl, unpublished_ttl, options.delta_publish)


def _map_options(options: ChannelOptions, unpublished_ttl: float) -> MapOptions:
    """How the channels of a namespace keep their maps."""
    found = options.map
    assert found.mode, "checked at the start"
    ttl = found.stream_ttl or 60.0
    life = found.meta_ttl or max(10 * ttl, found.key_ttl)
    return MapOptions(
        history_size=(found.stream_size or 100) if found.streams else 0,
        history_ttl=ttl if found.streams else 0.0,
        history_meta_ttl=FOR_EVER if found.mode == "persistent" else life,
        unpublished_ttl=unpublished_ttl,
        delta_publish=options.delta_publish,
        mode=found.mode,
        key_ttl=found.key_ttl,
        key_limit=found.key_limit,
    )
