"""Maps that cannot be as the settings say."""

from typing import Any

import pytest

from gateway.config.contradictions import find_problems
from gateway.config.settings import Settings

KEPT = {"mode": "recoverable", "key_ttl": "60s"}


def problems(*namespaces: dict[str, Any], **settings: Any) -> list[str]:
    named = [{"name": f"n{number}", **each} for number, each in enumerate(namespaces)]
    found = Settings.model_validate({"channel": {"namespaces": named}, **settings})
    return [each.key.removeprefix("channel.namespaces.0.") for each in find_problems(found)]


def a_map(**options: Any) -> dict[str, Any]:
    return {"subscription_type": "map", "map": options}


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "ephemeral", "key_ttl": "60s"},
        {**KEPT, "stream_size": 10, "stream_ttl": "5s", "meta_ttl": "1h"},
        {"mode": "persistent", "stream_size": 10, "min_page_size": 10, "default_page_size": 20, "max_page_size": 20},
    ],
    ids=str,
)
def test_maps_that_are_well(options: dict[str, Any]) -> None:
    assert problems(a_map(**options)) == []


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({}, "map.mode"),
        ({"mode": "recoverable"}, "map.key_ttl"),
        ({"mode": "persistent", "key_ttl": "60s"}, "map.key_ttl"),
        ({"mode": "persistent", "meta_ttl": "60s"}, "map.meta_ttl"),
        ({"mode": "ephemeral", "key_ttl": "60s", "stream_size": 1}, "map.stream_size"),
        ({**KEPT, "meta_ttl": "59s"}, "map.meta_ttl"),
        ({**KEPT, "stream_ttl": "10s", "key_ttl": "1s", "meta_ttl": "9s"}, "map.meta_ttl"),
        ({**KEPT, "default_page_size": 50}, "map.default_page_size"),
        ({**KEPT, "max_page_size": 50}, "map.max_page_size"),
    ],
    ids=str,
)
def test_what_a_mode_cannot_have(options: dict[str, Any], key: str) -> None:
    assert problems(a_map(**options)) == [key]


def test_a_backend_and_an_option_do_not_both_choose_keys() -> None:
    asked = {"remove_proxy_enabled": True, "remove_proxy_name": "other"}
    proxies = [{"name": "other", "endpoint": "http://127.0.0.1/"}]
    assert problems(a_map(**KEPT, **asked), proxies=proxies) == []
    assert problems(a_map(**KEPT, **asked, client_key="user_id"), proxies=proxies) == ["map.remove_proxy_enabled"]
    assert problems(a_map(**KEPT, **asked)) == ["map.remove_proxy_name"]


def test_options_of_streams_and_of_maps_are_not_mixed() -> None:
    assert problems({**a_map(**KEPT), "history_size": 5, "history_ttl": "5s"}) == ["history_size"]
    assert problems({"map": {"mode": "ephemeral"}}) == ["map.mode"]


@pytest.mark.parametrize("kind", ["map_clients", "map_users"])
def test_presence_is_kept_where_it_ends_by_itself(kind: str) -> None:
    watched: dict[str, Any] = {f"{kind}_presence_channel_prefix": "n1:"}
    good = {"subscription_type": kind, "map": {"mode": "ephemeral", "key_ttl": "60s"}}
    assert problems(watched, good) == []
    assert problems(watched) == [f"{kind}_presence_channel_prefix"]
    assert problems(watched, a_map(**KEPT)) == [f"{kind}_presence_channel_prefix"]
    assert problems({"subscription_type": kind, "map": {"mode": "persistent"}}) == ["map.mode"]
    assert problems({"subscription_type": kind, "map": {"mode": "ephemeral", "key_ttl": "30s"}}) == ["map.key_ttl"]


def test_engines_that_keep_no_maps_say_so() -> None:
    postgres = {"type": "postgres", "postgres": {"dsn": "postgres://u:p@127.0.0.1/app"}}
    assert problems(a_map(**KEPT), engine=postgres) == ["subscription_type"]
    broadcaster = {"type": "broadcaster", "broadcaster": {"url": "memory://"}}
    assert problems(a_map(**KEPT), engine=broadcaster) == ["subscription_type"]


def test_what_is_no_secret_is_shown() -> None:
    shown = repr(Settings.model_validate({"channel": {"namespaces": [{"name": "xx", **a_map(**KEPT)}]}}))
    assert "key_ttl=60.0" in shown
