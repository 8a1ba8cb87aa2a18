"""How the broker keeps streams: by the options of their channels, made once."""

from gateway.channels import Channels
from gateway.config.settings import Settings
from gateway.config.settings.channels import META_TTL
from gateway.core.stream_options import StreamOptionsTable

KEPT = {"channel": {"namespaces": [{"name": "kept", "history_size": 5, "history_ttl": 60}]}}


def table(**given: object) -> tuple[StreamOptionsTable, Channels]:
    settings = Settings.model_validate(given)
    return StreamOptionsTable(settings), Channels(settings.channel, pusher=settings.pusher)


def test_options_are_made_once() -> None:
    streams, channels = table(**KEPT)
    one, other = (streams.of(channels.resolve(name)) for name in ("kept:a", "kept:b"))
    assert one is other
    assert (one.history_size, one.history_ttl, one.history_meta_ttl) == (5, 60.0, META_TTL)


def test_two_kinds_in_one_namespace_are_kept_each_in_its_way() -> None:
    streams, channels = table(pusher={"enabled": True, "cache_ttl": 9})
    found = [streams.of(channels.resolve(name)) for name in ("news", "cache-a", "cache-b", "presence-a", "news")]
    assert [each.history_size for each in found] == [0, 1, 1, 0, 0]
    assert found[1] is found[2]


def test_other_settings_make_others() -> None:
    streams, channels = table(**KEPT)
    channel = channels.resolve("kept:a")
    assert streams.of(channel).unpublished_ttl == 80
    streams.reload(Settings.model_validate({"client": {"channel_position_check_delay": 100}}))
    assert streams.of(channel).unpublished_ttl == 200
