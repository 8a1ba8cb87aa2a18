"""Apps of the Pusher protocol that cannot be as the settings say."""

from typing import Any

import pytest

from gateway.config.contradictions import find_problems, find_warnings
from gateway.config.settings import Settings

SECRET = "b1946ac92492d234"


def app(number: int = 1, **other: Any) -> dict[str, Any]:
    return {"id": f"90{number}", "key": f"key{number}", "secret": SECRET, "namespace": "shop", **other}


def settings(*apps: dict[str, Any], engine: str = "memory", channel: Any = None, **pusher: Any) -> Settings:
    namespaces = [{"name": name} for name in ("shop", "news")]
    return Settings.model_validate(
        {
            "pusher": {"enabled": True, "apps": apps, **pusher},
            "channel": {"namespaces": namespaces, **(channel or {})},
            "engine": {"type": engine, "broadcaster": {"url": "redis://127.0.0.1"}},
        }
    )


def problems(*apps: dict[str, Any], **other: Any) -> list[str]:
    return [f"{each.key}: {each.text}" for each in find_problems(settings(*apps, **other))]


def warnings(*apps: dict[str, Any], **other: Any) -> list[str]:
    return [each for each in find_warnings(settings(*apps, **other)) if each.startswith("pusher")]


def one(found: list[str]) -> str:
    assert len(found) == 1, found
    assert SECRET not in found[0]
    return found[0]


def test_apps_that_are_well() -> None:
    former = [{"key": "old", "secret": SECRET}]
    apps = [app(former_keys=former), app(2, namespace="news"), app(3, namespace=""), app(4, namespace="shop:eu")]
    assert problems(*apps) == []
    assert warnings(*apps) == []
    assert problems(app(namespace=None), namespace="shop") == []


def test_two_apps_with_one_id() -> None:
    assert 'pusher.apps: the app "901" has one id' in one(problems(app(), app(2, id="901", namespace="news")))


@pytest.mark.parametrize("former", [False, True])
def test_two_apps_with_one_key(former: bool) -> None:
    twice = {"former_keys": [{"key": "key1", "secret": "x"}]} if former else {"key": "key1"}
    assert 'the apps "901" and "902" have one key' in one(problems(app(), app(2, namespace="news", **twice)))


def test_a_key_twice_in_one_app() -> None:
    assert 'the app "901" has one key' in one(problems(app(former_keys=[{"key": "key1", "secret": "x"}])))


@pytest.mark.parametrize("other", ["shop", None])
def test_two_apps_in_one_namespace(other: str | None) -> None:
    said = one(problems(app(), app(2, namespace=other), namespace="shop"))
    assert 'the apps "901" and "902" have one namespace ("shop")' in said


@pytest.mark.parametrize(
    ("namespace", "why"),
    [
        ("gone", 'there is no namespace "gone" in channel.namespaces'),
        ("gone:eu", 'there is no namespace "gone" in channel.namespaces'),
        ("shop:", '"shop:" is no namespace'),
        ("shop:a b", '"shop:a b" is no namespace'),
        ("shop:#7", '"shop:#7" is no namespace'),
    ],
)
def test_namespaces_that_there_are_not(namespace: str, why: str) -> None:
    assert why in one(problems(app(namespace=namespace)))
    assert why in one(problems(app(), namespace=namespace))


def test_channels_of_apps_are_streams() -> None:
    kept = {"mode": "recoverable", "key_ttl": "60s"}
    channel = {"namespaces": [{"name": "shop", "subscription_type": "map", "map": kept}]}
    assert 'the namespace "shop" has subscription_type = "map"' in one(problems(app(), channel=channel))


@pytest.mark.parametrize(
    ("name", "sign"), [("namespace_boundary", "."), ("private_prefix", "private-"), ("user_boundary", "~")]
)
def test_signs_that_stand_in_names(name: str, sign: str) -> None:
    assert one(problems(app(), channel={name: sign})).startswith(f"channel.{name}: ")


def test_counts_are_for_apps_whose_connections_are_counted() -> None:
    counting = app(enable_subscription_counts=True)
    assert one(problems(counting)).startswith('pusher.subscription_counts: the app "901"')
    assert problems(counting, subscription_counts=True) == []


def test_an_engine_that_keeps_no_events() -> None:
    assert any(each.startswith("pusher.cache_ttl: ") for each in problems(app(), engine="broadcaster"))
    found = problems(app(), engine="broadcaster", cache_ttl=0)
    assert not any(each.startswith("pusher.") for each in found)


def test_nothing_is_wrong_with_what_is_not_served() -> None:
    wrong = [app(), app(namespace="gone", secret="secret", allowed_origins=["example.com"])]
    assert problems(*wrong, enabled=False) == []
    assert warnings(enabled=False) == []
    assert "set pusher.enabled = true" in one(warnings(*wrong, enabled=False))


def test_no_app() -> None:
    assert problems() == []
    assert "pusher.apps names none, so that nobody can connect by it, unless a program knows them" in one(warnings())


def test_origins_that_match_nothing() -> None:
    said = one(warnings(app(allowed_origins=["example.com", "https://example.com"])))
    assert 'allowed_origins of the app "901": "example.com" can match no origin' in said


def test_client_events_for_which_clients_would_be_closed() -> None:
    said = one(warnings(app(enable_client_messages=True, max_event_size=60_000)))
    assert 'app "901" allows client events for which client.message_size_limit = 65536' in said
    assert said.endswith("set that to 68192")
    assert warnings(app(max_event_size=60_000)) == []
    assert warnings(app(enable_client_messages=True, max_event_size=57_344)) == []


def test_webhooks_without_an_http_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.config.contradictions.find_spec", lambda _name: None)
    hooks: dict[str, Any] = {"webhooks": [{"url": "https://example.com/hooks"}]}
    assert one(problems(app(**hooks))) == (
        'pusher.apps: have webhooks, which need an HTTP client: pip install "wsgateway[proxy]"'
    )
    assert problems(app()) == problems(app(**hooks), enabled=False) == []


@pytest.mark.parametrize("secret", ["secret", "7f0e3c9b", "aaaaaaaaaaaaaaaa"])
def test_weak_secrets(secret: str) -> None:
    said = one(warnings(app(secret=secret)))
    assert said.startswith('pusher.apps: a secret of the app "901"')
    assert secret == "secret" or secret not in said
    assert 'a secret of the app "901"' in one(warnings(app(former_keys=[{"key": "old", "secret": secret}])))


@pytest.mark.parametrize("door", ["allow_subscribe_for_client", "allow_publish_for_anonymous"])
def test_namespaces_that_are_open_to_other_clients(door: str) -> None:
    channel = {"namespaces": [{"name": "shop", door: True}], "without_namespace": {door: True}}
    assert f'the namespace "shop:eu" has {door}' in one(warnings(app(namespace="shop:eu"), channel=channel))
    assert f"channel.without_namespace has {door}" in one(warnings(app(namespace=""), channel=channel))


def test_an_app_is_a_way_in() -> None:
    shut = "nobody can connect: give client.token"
    assert [each for each in find_warnings(settings()) if each.startswith(shut)]
    assert not [each for each in find_warnings(settings(app())) if each.startswith(shut)]
