"""Which settings may change under a running gateway."""

from typing import Any

import pytest

from gateway.config.reloading import AT_ONCE, compare
from gateway.config.settings import Settings


def settings(**sections: Any) -> Settings:
    return Settings.model_validate(sections)


def changed(old: dict[str, Any], new: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    change = compare(settings(**old), settings(**new))
    return change.at_once, change.waiting


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("client", "allowed_origins", ["https://a.com"]),
        ("client", "connection_limit", 7),
        ("client", "token", {"hmac_secret_key": "a"}),
        ("admin", "password", "a"),
        ("admin", "secret", "a"),
        ("admin", "insecure", True),
        ("http_api", "key", "a"),
        ("http_api", "keys", {"a": "b"}),
        ("channel", "max_length", 9),
        ("channel", "without_namespace", {"presence": True}),
        ("shutdown", "drain_rate", 9),
        ("websocket", "write_timeout", 9),
    ],
)
def test_what_holds_at_once(section: str, name: str, value: Any) -> None:
    inner = f".{next(iter(value))}" if isinstance(value, dict) and name != "keys" else ""
    new = settings(**{section: {name: value}})
    change = compare(settings(), new)
    assert (change.at_once, change.waiting) == ((f"{section}.{name}{inner}",), ())
    assert change.settings == new


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("engine", "type", "redis"),
        ("admin", "enabled", True),
        ("node", "name", "n"),
        ("http_server", "port", 1),
        ("client", "message_size_limit", 1024),
        ("websocket", "compression", True),
        ("channel", "private_prefix", "%"),
        ("client", "subscribe_to_user_personal_channel", {"enabled": True}),
    ],
)
def test_what_waits_keeps_its_value(section: str, name: str, value: Any) -> None:
    inner = f".{next(iter(value))}" if isinstance(value, dict) else ""
    change = compare(settings(), settings(**{section: {name: value}}, http_api={"key": "k"}))
    assert (change.at_once, change.waiting) == (("http_api.key",), (f"{section}.{name}{inner}",))
    assert change.settings == settings(http_api={"key": "k"})


def test_namespaces_come_and_change_but_go_with_a_restart() -> None:
    old = {"channel": {"namespaces": [{"name": "aa"}, {"name": "bb"}, {"name": "cc"}]}}
    new = {"channel": {"namespaces": [{"name": "dd"}, {"name": "bb", "presence": True}, {"name": "cc"}]}}
    change = compare(settings(**old), settings(**new))
    assert change.at_once == ("channel.namespaces.dd", "channel.namespaces.bb")
    assert change.waiting == ("channel.namespaces.aa (removed)",)
    assert [(each.name, each.presence) for each in change.settings.channel.namespaces] == [
        ("dd", False),
        ("bb", True),
        ("cc", False),
        ("aa", False),
    ]


def test_the_same_is_no_change() -> None:
    assert changed({}, {}) == ((), ())


def test_every_name_is_that_of_a_setting() -> None:
    known = {"log.level"}  # in a section of its own
    for key in set(AT_ONCE) - known:
        model: Any = Settings
        for name in key.split("."):
            model = model.model_fields[name].annotation


POLLED = {"subscription_type": "shared_poll", "shared_poll": {"mode": "versioned"}}


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (POLLED, {}, "subscription_type"),
        ({}, POLLED, "subscription_type"),
        (POLLED, POLLED | {"shared_poll": {"mode": "versionless"}}, "shared_poll.mode"),
    ],
    ids=["no longer polled", "polled", "mode"],
)
def test_channels_become_of_another_kind_with_a_restart(
    before: dict[str, Any], after: dict[str, Any], kind: str
) -> None:
    old = {"namespaces": [{"name": "aa", **before}, {"name": "bb"}], "without_namespace": before}
    new = {"namespaces": [{"name": "bb"}, {"name": "aa", **after, "presence": True}], "without_namespace": after}
    secret = {"shared_poll": {"hmac_secret_key": "s"}}
    change = compare(settings(channel=old, **secret), settings(channel=new, **secret))
    keys = ("channel.without_namespace", "channel.namespaces.aa")
    assert (change.at_once, set(change.waiting)) == ((), {f"{key} (another {kind})" for key in keys})
    assert change.settings.channel.without_namespace == settings(channel=old).channel.without_namespace
    assert {each.name: each for each in change.settings.channel.namespaces} == {
        each.name: each for each in settings(channel=old).channel.namespaces
    }


def pusher(*apps: dict[str, Any], **other: Any) -> dict[str, Any]:
    return {"pusher": {"apps": [{"key": each["id"], "secret": "s", **each} for each in apps], **other}}


@pytest.mark.parametrize(
    ("name", "value"), [("activity_timeout", 30), ("app_ttl", 9), ("cache_ttl", 9), ("webhooks", {"batch_size": 9})]
)
def test_what_holds_at_once_of_the_pusher_protocol(name: str, value: Any) -> None:
    inner = ".batch_size" if name == "webhooks" else ""
    assert changed({}, {"pusher": {name: value}}) == ((f"pusher.{name}{inner}",), ())


@pytest.mark.parametrize(("name", "value"), [("enabled", True), ("namespace", "a"), ("subscription_counts", True)])
def test_what_waits_of_the_pusher_protocol(name: str, value: Any) -> None:
    assert changed({}, {"pusher": {name: value}}) == ((), (f"pusher.{name}",))


def test_apps_come_and_go_at_once() -> None:
    one, other = {"id": "1"}, {"id": "2", "namespace": "a"}
    for old, new in [((), (one,)), ((one,), ()), ((one,), ({**one, "max_connections": 7}, other))]:
        change = compare(settings(**pusher(*old)), settings(**pusher(*new)))
        assert (change.at_once, change.waiting) == (("pusher.apps",), ())
        assert change.settings == settings(**pusher(*new))


@pytest.mark.parametrize(
    ("old", "new"), [({"namespace": "a"}, {"namespace": "b"}), ({}, {"namespace": "b"}), ({"namespace": "a"}, {})]
)
def test_apps_do_not_move_under_those_who_are_there(old: dict[str, Any], new: dict[str, Any]) -> None:
    before = settings(**pusher({"id": "1", **old}))
    change = compare(before, settings(**pusher({"id": "1", **new}, {"id": "2", "namespace": "c"})))
    assert (change.at_once, change.waiting) == ((), ("pusher.apps (another namespace of 1)",))
    assert change.settings == before
    assert changed(pusher({"id": "1"}), pusher({"id": "1", "namespace": ""}))[0] == ("pusher.apps",)
