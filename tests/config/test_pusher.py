"""Settings of the Pusher protocol: apps in files, and secrets that nobody is shown."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.listing import list_settings
from gateway.config.settings import PusherApp, PusherWebhook, Settings
from gateway.config.sources import load, show
from gateway.errors import SettingsError

SECRET, TOKEN = "b1946ac92492d234", "Bearer 5ee9a1"
APP: dict[str, Any] = {"id": "9001", "key": "f3c4b2a1", "secret": SECRET}


def full() -> dict[str, Any]:
    former = [{"key": "0ld", "secret": SECRET}]
    webhook = {"url": "https://user:5ee9a1@example.com/hook", "static_headers": {"Authorization": TOKEN}}
    return {**APP, "former_keys": former, "webhooks": [webhook]}


def test_no_secret_is_shown() -> None:
    settings = load(program={"pusher": {"apps": [full()]}}, environ={})
    listed = json.dumps([each.value for each in list_settings(settings)])
    for text in (show(settings), repr(settings), repr(settings.pusher), repr(settings.pusher.apps), listed):
        assert "9001" in text
        assert SECRET not in text
        assert "5ee9a1" not in text
    assert "5ee9a1" not in repr(settings.pusher.apps[0].webhooks[0])


@pytest.mark.parametrize(
    "text",
    [
        f'[{{"id": "9001", "secret": "{SECRET}"',
        f'{{"id": "9001", "secret": "{SECRET}"',
        f'"{SECRET}"',
        f'[{{"id": "9 1", "key": "k", "secret": "{SECRET}"}}]',
        f'[{{"id": "9001", "key": "k", "secret": ["{SECRET}"]}}]',
        f'[{{"id": "9001", "key": "k", "secret": "{SECRET}", "namespace": ["{SECRET}"]}}]',
    ],
)
def test_no_secret_is_shown_in_what_is_wrong(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(environ={"GATEWAY_PUSHER__APPS": text})
    assert "pusher.apps" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_apps_in_the_environment() -> None:
    settings = load(environ={"GATEWAY_PUSHER__APPS": json.dumps([full()]), "GATEWAY_PUSHER__ENABLED": "true"})
    assert settings.pusher.enabled
    assert settings.pusher.apps[0].secret == SECRET
    assert settings.pusher.apps[0].webhooks[0].static_headers == {"Authorization": TOKEN}


def test_secrets_in_files(tmp_path: Path) -> None:
    file, header = tmp_path / "secret", tmp_path / "header"
    file.write_text(f"{SECRET}\n")
    header.write_text(TOKEN)
    app = PusherApp.model_validate({"id": "1", "key": "k", "secret_file": str(file)})
    assert app.secret == SECRET
    headers = {"Authorization_file": str(header)}
    webhook = PusherWebhook.model_validate({"url": "http://a.com", "static_headers": headers})
    assert webhook.static_headers == {"Authorization": TOKEN}


def toml(apps: dict[str, Any]) -> str:
    lines = [["[[apps]]", *(f"{name} = {value!r}" for name, value in app.items())] for app in apps["apps"]]
    return "\n".join(line for each in lines for line in each)


@pytest.mark.parametrize("kind", ["json", "yaml", "toml"])
def test_apps_in_a_file(tmp_path: Path, kind: str) -> None:
    apps = {"apps": [{**APP, "id": "9002", "key": "k2", "namespace": ""}]}
    file = tmp_path / f"apps.{kind}"
    writers: dict[str, Callable[[Any], str]] = {"json": json.dumps, "yaml": yaml.safe_dump, "toml": toml}
    file.write_text(writers[kind](apps))
    settings = load(environ={}, program={"pusher": {"apps": [APP], "apps_file": str(file)}})
    assert [app.id for app in settings.pusher.apps] == ["9001", "9002"]
    assert load(environ={"GATEWAY_PUSHER__APPS_FILE": str(file)}).pusher.apps[0].secret == SECRET


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "must have a list of apps and nothing else"),
        ("{}", "must have a list of apps and nothing else"),
        (f'{{"apps": "{SECRET}"}}', "must have a list of apps and nothing else"),
        ('{"apps": [], "pusher": {"enabled": true}}', "must have a list of apps and nothing else"),
        ("[]", "settings stand in sections"),
        ('{"apps": [', "cannot be understood"),
        (f'{{"apps": ["{SECRET}"]}}', "apps.0: Input should be a valid dictionary"),
        (f'{{"apps": [{{"id": "1", "secret": "{SECRET}"}}]}}', "apps.0.key: Field required"),
        (f'{{"apps": [{{"id": "1", "key": "k", "secret": ["{SECRET}"]}}]}}', "apps.0.secret: Input should be a"),
        (f'{{"apps": [{{"id": "1", "key": "k", "secret": "s", "x": "{SECRET}"}}]}}', "apps.0.x: there is no such"),
    ],
)
def test_what_is_wrong_with_the_file(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "apps.json"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(environ={"GATEWAY_PUSHER__APPS_FILE": str(file)})
    said = str(caught.value)
    assert said.startswith("pusher.apps_file")
    assert f"file {file}" in said
    assert why in said
    assert SECRET not in said


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(SettingsError, match=r"pusher\.apps_file .*/nowhere/apps\.json cannot be read"):
        load(environ={"GATEWAY_PUSHER__APPS_FILE": "/nowhere/apps.json"})


def test_apps_of_the_file_are_looked_at_as_all_others_are(tmp_path: Path) -> None:
    file = tmp_path / "apps.json"
    file.write_text(json.dumps({"apps": [{**APP, "namespace": "gone"}]}))
    with pytest.raises(SettingsError, match='no namespace "gone"'):
        load(environ={"GATEWAY_PUSHER__APPS_FILE": str(file), "GATEWAY_PUSHER__ENABLED": "1"})


def test_the_namespace_of_an_app() -> None:
    found = Settings.model_validate({"pusher": {"namespace": "shop", "apps": [APP, {**APP, "namespace": ""}]}}).pusher
    assert [found.namespace_of(app) for app in found.apps] == ["shop", ""]


def test_an_app_that_a_program_makes_wrongly_shows_no_secret() -> None:
    with pytest.raises(ValueError, match="max_connections") as caught:
        PusherApp.model_validate({**full(), "secret": [SECRET], "max_connections": -1, "x": SECRET})
    assert SECRET not in str(caught.value)
