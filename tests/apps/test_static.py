"""Apps that the settings name."""

from typing import Any

import pytest

from gateway.apps.static import StaticApps
from gateway.config.settings import PusherSettings


def app(number: int = 1, **other: Any) -> dict[str, Any]:
    return {"id": f"90{number}", "key": f"key{number}", "secret": f"secret{number}", "namespace": f"n{number}", **other}


def settings(*apps: dict[str, Any], **other: Any) -> PusherSettings:
    return PusherSettings.model_validate({"apps": apps, **other})


FORMER: dict[str, Any] = {"former_keys": [{"key": "old", "secret": "former"}]}


async def test_apps_are_found_by_all_that_they_have() -> None:
    apps = StaticApps(settings(app(**FORMER), app(2, namespace=None), app(3, namespace="n1:eu"), namespace="shop"))
    first = apps.known("key1")
    assert first is not None
    assert first.id == "901"
    assert first is apps.known("old") is await apps.find("old") is apps.by_id("901")
    assert (first.secret("key1"), first.secret("old"), first.secret("key2")) == ("secret1", "former", None)
    assert apps.known("nobody") is apps.by_id("1") is await apps.find("nobody") is None
    second = apps.known("key2")
    assert second is not None
    assert second.names.inside("news") == "shop:news"


@pytest.mark.parametrize(
    ("channel", "app_id"),
    [
        ("n1:news", "901"),
        ("n1:#17", "901"),
        ("n1:eu:news", "903"),
        ("news", "902"),
        ("#17", "902"),
        ("n1:us:news", None),
        ("other:news", None),
        ("n1", "902"),
    ],
)
def test_apps_by_channel(channel: str, app_id: str | None) -> None:
    apps = StaticApps(settings(app(), app(2, namespace=""), app(3, namespace="n1:eu")))
    found = apps.of_channel(channel)
    assert (found and found.id) == app_id


def test_another_boundary() -> None:
    found = StaticApps(settings(app()), "/").of_channel("n1/news")
    assert found is not None
    assert found.names.inside("news") == "n1/news"


def test_who_is_connected_goes_by_new_settings() -> None:
    apps = StaticApps(settings(app(**FORMER), app(2)))
    first, second = apps.by_id("901"), apps.by_id("902")
    assert first is not None
    assert second is not None
    apps.reload(settings(app(key="new", max_connections=7), app(3)))
    assert apps.by_id("901") is first is apps.known("new") is apps.of_channel("n1:x")
    assert first.settings.max_connections == 7
    assert apps.known("old") is apps.known("key1") is None
    assert apps.by_id("902") is apps.known("key2") is apps.of_channel("n2:x") is None
    assert not second.settings.enabled
    assert apps.known("key3") is apps.of_channel("n3:x") is not None


def test_keys_may_go_from_one_app_to_another() -> None:
    apps = StaticApps(settings(app(), app(2)))
    apps.reload(settings(app(key="key2"), app(2, key="key1")))
    assert apps.known("key2") is apps.by_id("901")
    assert apps.known("key1") is apps.by_id("902")


def test_an_app_in_another_namespace_is_another_app() -> None:
    apps = StaticApps(settings(app()))
    before = apps.by_id("901")
    apps.reload(settings(app(namespace="n9")))
    after = apps.by_id("901")
    assert before is not None
    assert after is not None
    assert before is not after is apps.known("key1")
    assert not before.settings.enabled
    assert (before.names.inside("x"), after.names.inside("x")) == ("n1:x", "n9:x")
    assert apps.of_channel("n1:x") is None
