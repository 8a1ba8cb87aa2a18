"""Settings one by one, with their origin, and never a secret."""

import json
import pickle
from pathlib import Path
from typing import Any

from gateway.config.listing import Setting, list_settings
from gateway.config.reloading import compare
from gateway.config.settings import AsyncAPISettings, Settings
from gateway.config.sources import load


def listed(settings: Settings) -> dict[str, Setting]:
    return {each.key: each for each in list_settings(settings)}


def of(settings: Settings, *keys: str) -> list[tuple[Any, bool, str]]:
    found = listed(settings)
    return [(found[key].value, found[key].default, found[key].origin) for key in keys]


def written(tmp_path: Path, values: dict[str, Any]) -> Path:
    file = tmp_path / "gateway.json"
    file.write_text(json.dumps(values))
    return file


def test_each_source_is_named(tmp_path: Path) -> None:
    file = written(tmp_path, {"client": {"channel_limit": 7, "ping_interval": "30s"}, "engine": {"type": "memory"}})
    settings = load(
        file,
        {"http_server.port": 9},
        {"GATEWAY_CLIENT__PONG_TIMEOUT": "3s"},
        dev=True,
        program={"node": {"name": "blue"}, "client": {"channel_limit": 1}},
    )
    assert of(
        settings,
        "node.name",
        "client.channel_limit",
        "client.ping_interval",
        "client.pong_timeout",
        "http_server.port",
        "client.insecure",
        "engine.type",
        "shutdown.drain_rate",
    ) == [
        ("blue", False, "program"),
        (7, False, f"file {file}"),
        (30.0, False, f"file {file}"),
        (3.0, False, "environment GATEWAY_CLIENT__PONG_TIMEOUT"),
        (9, False, "flag"),
        (True, False, "dev mode"),
        ("memory", True, f"file {file}"),
        (100, True, "default"),
    ]


def test_the_short_form_and_a_file_are_origins_too(tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("a key that nobody is to see")
    settings = load(
        environ={"GATEWAY_REDIS_URL": "redis://bob:pass@10.0.0.1", "GATEWAY_HTTP_API__KEY_FILE": str(secret)}
    )
    assert of(settings, "engine.type", "engine.redis.address", "http_api.key") == [
        ("redis", False, "environment GATEWAY_REDIS_URL"),
        ("redis://***@10.0.0.1", False, "environment GATEWAY_REDIS_URL"),
        ("***", False, "environment GATEWAY_HTTP_API__KEY_FILE"),
    ]


def test_no_secret_is_told() -> None:
    secrets = {
        "admin": {"password": "open sesame 1", "secret": "open sesame 2"},
        "http_api": {"key": "open sesame 3", "keys": {"billing": "open sesame 4"}},
        "client": {"token": {"hmac_secret_key": "open sesame 5", "hmac_secret_keys": {"2027": "open sesame 6"}}},
    }
    settings = Settings.model_validate(secrets)
    assert "open sesame" not in repr(list_settings(settings))
    assert (
        of(settings, "http_api.keys.billing", "client.token.hmac_secret_keys.2027", "admin.secret")
        == [("***", False, "program")] * 3
    )


def test_a_certificate_with_its_key_in_one_is_a_secret() -> None:
    pem = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIopen\n-----END RSA PRIVATE KEY-----\n"
    tls = {"enabled": True, "cert_pem": pem + key, "key_pem": key, "client_ca_pem": pem}
    found = listed(Settings.model_validate({"http_server": {"tls": tls}}))
    assert [found[f"http_server.tls.{name}"].value for name in ("cert_pem", "client_ca_pem")] == ["***", pem]


def test_of_namespaces_what_differs_is_told(tmp_path: Path) -> None:
    namespaces = [{"name": "chat", "presence": True}, {"name": "news", "history_size": 5, "history_ttl": "1m"}]
    file = written(tmp_path, {"channel": {"namespaces": namespaces}})
    found = [each for each in list_settings(load(file, environ={})) if each.key.startswith("channel.namespaces")]
    assert [(each.key.removeprefix("channel.namespaces."), each.value) for each in found] == [
        ("0.name", "chat"),
        ("0.presence", True),
        ("1.name", "news"),
        ("1.history_size", 5),
        ("1.history_ttl", 60.0),
    ]
    assert {(each.default, each.origin) for each in found} == {(False, f"file {file}")}
    assert of(Settings(), "channel.namespaces") == [([], True, "default")]


def test_origins_stay_when_settings_are_changed_and_handed_on(tmp_path: Path) -> None:
    settings = load(environ={"GATEWAY_NODE__NAME": "blue"})
    changed = settings.model_copy(update={"asyncapi": AsyncAPISettings(enabled=False)})
    for each in (changed, pickle.loads(pickle.dumps(changed))):  # noqa: S301  our own, as workers get them
        assert of(each, "node.name", "asyncapi.enabled") == [
            ("blue", False, "environment GATEWAY_NODE__NAME"),
            (False, False, "program"),
        ]


def test_after_a_reload_what_waits_has_the_origin_that_it_had() -> None:
    old = load(environ={"GATEWAY_NODE__NAME": "blue", "GATEWAY_CLIENT__CHANNEL_LIMIT": "7"})
    new = load(flags={"node.name": "green", "client.channel_limit": 8, "http_api.key": "x"}, environ={})
    settings = compare(old, new).settings
    assert of(settings, "node.name", "client.channel_limit", "http_api.key") == [
        ("blue", False, "environment GATEWAY_NODE__NAME"),
        (8, False, "flag"),
        ("***", False, "flag"),
    ]


def test_settings_are_the_same_wherever_they_come_from() -> None:
    assert load(flags={"node.name": "blue"}, environ={}) == load(environ={"GATEWAY_NODE__NAME": "blue"})
    assert load(flags={"node.name": "blue"}, environ={}) != load(environ={})
