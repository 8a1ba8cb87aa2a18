"""What kinds of the Pusher protocol make of channels."""

from typing import Any

import pytest

from gateway.auth.permissions import may_subscribe
from gateway.channels import Channel, Channels
from gateway.config.settings import ChannelOptions, ChannelSettings, PersonalChannelSettings, PusherSettings
from gateway.kind_options import namespaces_of_apps
from tests.test_channels import Prefix

SHOP = {"id": "1", "key": "k1", "secret": "s", "namespace": "shop"}
TENANT = {"id": "2", "key": "k2", "secret": "s", "namespace": "tenants:42"}
CACHED = ["cache-x", "private-cache-x", "presence-cache-x", "private-encrypted-cache-x"]
PRESENT = ["presence-x", "presence-cache-x", "#17"]
PLAIN = ["news", "private-x", "private-encrypted-x", "privateer", "my-cache-x", "x-presence-y", "presence", "dm#17"]


def settings(**options: Any) -> ChannelSettings:
    namespaces = [{"name": name, **options} for name in ("shop", "tenants", "other")]
    return ChannelSettings.model_validate({"namespaces": namespaces, "without_namespace": options})


def pusher(**other: Any) -> PusherSettings:
    given = {"enabled": True, "namespace": "shop", "apps": [SHOP, TENANT], "cache_ttl": 9}
    return PusherSettings.model_validate({**given, **other})


def channels(options: dict[str, Any] | None = None, *routes: Prefix, **other: Any) -> Channels:
    return Channels(settings(**options or {}), routes, pusher=pusher(**other))


def changed(channel: Channel, options: dict[str, Any] | None = None) -> dict[str, Any]:
    """What is otherwise than it would be without the protocol."""
    plain = Channels(settings(**options or {})).resolve(channel.name).options
    names = ChannelOptions.model_fields.keys() | {"keeps_history"}
    return {
        name: getattr(channel.options, name) for name in names if getattr(channel.options, name) != getattr(plain, name)
    }


PRESENCE = {"presence": True, "join_leave": True}
CACHE = {
    "history_size": 1,
    "history_ttl": 9.0,
    "allow_recovery": True,
    "force_recovery_mode": "cache",
    "keeps_history": True,
}


@pytest.mark.parametrize("place", ["shop:", "tenants:42:", "tenants:43:", "shop:a:b:"])
@pytest.mark.parametrize("name", [*CACHED, *PRESENT, *PLAIN])
def test_what_kinds_take(place: str, name: str) -> None:
    expected = (PRESENCE if name in PRESENT else {}) | (CACHE if name in CACHED else {})
    for resolve in (channels().resolve, channels().resolve_for_client):
        found = resolve(place + name)
        assert changed(found) == expected
        assert found.namespace == place.partition(":")[0]


@pytest.mark.parametrize("name", [*CACHED, *PRESENT, *PLAIN])
def test_other_channels_stay_as_they_are(name: str) -> None:
    for channel in (name, f"other:{name}", f"shop:{name}:x", f"$shop:{name}"):
        assert changed(channels().resolve(channel)) == {}
    assert changed(channels(enabled=False).resolve(f"shop:{name}")) == {}


@pytest.mark.parametrize("name", [*CACHED, *PRESENT])
def test_apps_without_namespace(name: str) -> None:
    assert changed(channels(namespace="").resolve(name))


def test_a_history_that_the_namespace_has_stays() -> None:
    kept = {"history_size": 50, "history_ttl": 60, "history_meta_ttl": 70, "force_recovery": True}
    found = channels(kept).resolve("shop:cache-x")
    assert changed(found, kept) == {"allow_recovery": True, "force_recovery_mode": "cache"}


def test_offsets_last_as_long_as_what_they_are_of() -> None:
    assert changed(channels({"history_meta_ttl": 5}).resolve("shop:cache-x"))["history_meta_ttl"] == 9
    assert channels().resolve("shop:cache-x").options.history_meta_ttl == ChannelSettings().history_meta_ttl
    assert channels(cache_ttl=1e6).resolve("shop:cache-x").options.history_meta_ttl == 1e6


def test_nothing_is_cached_where_it_is_kept_for_no_time() -> None:
    assert changed(channels(cache_ttl=0).resolve("shop:cache-x")) == {}


@pytest.mark.parametrize("name", [*CACHED, *PRESENT, *PLAIN])
def test_every_channel_is_counted_where_apps_tell_how_many_there_are(name: str) -> None:
    found = channels(subscription_counts=True)
    assert PRESENCE.items() <= changed(found.resolve(f"shop:{name}")).items()
    assert changed(found.resolve(f"other:{name}")) == {}


def test_routes_take_it_too_where_apps_are() -> None:
    found = channels({}, Prefix("shop:cache-"), Prefix("other:cache-"))
    channel = found.resolve("shop:cache-x")
    assert channel.route is not None
    assert channel.options.force_recovery_mode == "cache"
    assert channel.options.history_size == 1
    assert found.resolve("other:cache-x").options.history_size == 0


@pytest.mark.parametrize("options", [{}, {"allow_user_limited_channels": True}])
@pytest.mark.parametrize("user", ["17", "7,9"])
def test_an_inbox_is_of_one_user(options: dict[str, Any], user: str) -> None:
    for name in (f"shop:#{user}", f"tenants:42:#{user}"):
        assert channels(options).resolve(name).users == frozenset({user})
    assert channels(options, namespace="").resolve(f"#{user}").users == frozenset({user})


def test_an_inbox_is_shut_to_others_and_opened_by_the_namespace_alone() -> None:
    closed, open_ = ({"allow_subscribe_for_client": each} for each in (False, True))
    assert not may_subscribe(channels(closed).resolve("shop:#17"), "17")
    assert may_subscribe(channels(open_).resolve("shop:#17"), "17")
    assert not may_subscribe(channels(open_).resolve("shop:#17"), "18")
    assert not may_subscribe(channels(open_).resolve("shop:#"), "")


def test_permissions_are_the_namespaces() -> None:
    for name in (*CACHED, *PRESENT, *PLAIN):
        given = changed(channels(subscription_counts=True).resolve(f"shop:{name}"))
        assert {each for each in given if each.startswith("allow_")} <= {"allow_recovery"}


def test_personal_channels_stay_personal() -> None:
    own = PersonalChannelSettings(enabled=True, personal_channel_namespace="shop")
    found = Channels(settings(allow_history_for_client=True), personal=own, pusher=pusher()).resolve("shop:#7:8")
    assert found.users == frozenset({"7:8"})
    assert not found.options.allow_history_for_client


def test_options_are_made_once_for_a_kind() -> None:
    found = channels()
    one, other = (found.resolve(f"shop:presence-{each}").options for each in "ab")
    assert one is other
    assert found.resolve("shop:presence-cache-a").options is not one
    assert found.resolve("tenants:presence-a").options is not one


def test_other_settings_hold_once_they_have_been_read() -> None:
    found = channels()
    assert changed(found.resolve("shop:cache-x"))["history_ttl"] == 9
    found.reload(settings(), pusher(cache_ttl=5, apps=[SHOP]))
    assert changed(found.resolve("shop:cache-x"))["history_ttl"] == 5
    assert changed(found.resolve("tenants:42:cache-x")) == {}


def test_namespaces_of_apps() -> None:
    assert namespaces_of_apps(pusher(), ":") == {"shop", "tenants"}
    assert namespaces_of_apps(PusherSettings(), ":") == {""}
