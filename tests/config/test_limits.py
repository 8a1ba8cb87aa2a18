"""How rates are written, what contradicts them, and how long offsets and epochs are kept."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.channels import Channels
from gateway.config.contradictions import find_problems
from gateway.config.settings import ChannelOptions, ChannelSettings, Namespace, Settings
from gateway.config.settings.channels import META_TTL
from gateway.config.settings.limits import read_buckets
from gateway.config.sources import load, show
from gateway.errors import SettingsError


def publish_rate(given: Any) -> str:
    values = {"client": {"rate_limit": {"client_command": {"publish": given}}}}
    return Settings.model_validate(values).client.rate_limit.client_command.publish


def problems(**sections: Any) -> dict[str, str]:
    return {problem.key: problem.text for problem in find_problems(Settings.model_validate(sections))}


# — rates —


@pytest.mark.parametrize(
    ("text", "buckets"),
    [
        ("", []),
        ("100/second", [(100, 1)]),
        ("5/10s", [(5, 10)]),
        ("1/500ms", [(1, 0.5)]),
        ("60/1h30m", [(60, 5400)]),
        ("20/second, 50/minute", [(20, 1), (50, 60)]),
        ("20/second 1000/hour 9000/day", [(20, 1), (1000, 3600), (9000, 86400)]),
        ("7/20", [(7, 20)]),
    ],
)
def test_rates(text: str, buckets: list[tuple[int, float]]) -> None:
    assert read_buckets(text) == buckets
    assert publish_rate(text) == text


@pytest.mark.parametrize("text", ["100", "0/second", "-1/second", "1.5/second", "1/fortnight", "1/0s", "1/2d", "a/b"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no rate .*write for example \"100/second\""):
        publish_rate(text)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"enabled": True, "buckets": [{"interval": "1s", "rate": 60}]}, "60/1s"),
        ({"enabled": True, "buckets": [{"interval": "1s", "rate": 20}, {"interval": 60, "rate": 50}]}, "20/1s 50/60"),
        ({"enabled": "true", "buckets": [{"interval": "20s", "rate": 1}]}, "1/20s"),
        ({"enabled": False, "buckets": [{"interval": "1s", "rate": 60}]}, ""),
        ({"buckets": [{"interval": "1s", "rate": 60}]}, "60/1s"),
        ({"enabled": True}, ""),
    ],
)
def test_rates_as_centrifugo_has_them(given: dict[str, Any], text: str) -> None:
    assert publish_rate(given) == text


@pytest.mark.parametrize(
    "given",
    [
        {"enabled": True, "buckets": [{"rate": 60}]},
        {"enabled": True, "buckets": 5},
        {"enabled": "perhaps"},
        {"method_overrides": []},
    ],
)
def test_what_centrifugo_does_not_write_so_or_we_do_not_know(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match='must be text such as "100/second"'):
        publish_rate(given)


def test_rates_from_every_source(tmp_path: Path) -> None:
    file = tmp_path / "gateway.json"
    buckets = {"enabled": True, "buckets": [{"interval": "1s", "rate": 60}]}
    limits = {"client_command": {"enabled": True, "publish": buckets, "history": "5/minute"}}
    file.write_text(json.dumps({"client": {"rate_limit": limits}}))
    environ = {
        "GATEWAY_CLIENT__RATE_LIMIT__CLIENT_COMMAND__TOTAL": "9/second, 50/minute",
        "GATEWAY_CLIENT__RATE_LIMIT__ADDRESS_COMMAND__ENABLED": "false",
        "GATEWAY_CLIENT__ADDRESS_CONNECTION_LIMIT": "7",
    }
    settings = load(file, {}, environ)
    own = settings.client.rate_limit.client_command
    assert (own.enabled, own.publish, own.history, own.total) == (True, "60/1s", "5/minute", "9/second, 50/minute")
    assert settings.client.rate_limit.address_command.enabled is False
    assert settings.client.address_connection_limit == 7
    shown = tmp_path / "shown.yaml"
    shown.write_text(show(settings))
    assert load(shown, {}, {}) == settings


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        (
            "CLIENT_COMMAND__PUBLISH",
            "fast",
            "for example GATEWAY_CLIENT__RATE_LIMIT__CLIENT_COMMAND__PUBLISH=100/second",
        ),
        ("CLIENT_COMMAND__ENABLED", "perhaps", "COMMAND__ENABLED=true"),
    ],
)
def test_what_is_wrong_comes_with_what_would_be_right(name: str, value: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(None, {}, {f"GATEWAY_CLIENT__RATE_LIMIT__{name}": value})
    assert told in str(caught.value)


def test_limits_on_all_nodes_need_a_store() -> None:
    asked = {"client": {"rate_limit": {"redis_user_command": {"enabled": True, "default": "9/second"}}}}
    key = "client.rate_limit.redis_user_command.enabled"
    assert problems(**asked) == {key: 'needs engine.type = "redis", or "postgres"'}
    assert problems(engine={"type": "redis"}, **asked) == {}


@pytest.mark.parametrize("layer", ["client_command", "user_command", "address_command"])
def test_a_message_must_fit_into_what_bytes_are_allowed(layer: str) -> None:
    def found(**limits: Any) -> dict[str, str]:
        return problems(client={"message_size_limit": 5000, "rate_limit": {layer: limits}})

    [(key, text)] = found(enabled=True, bytes="4999/second 9000/minute").items()
    assert (key, "5000 bytes would never fit" in text) == (f"client.rate_limit.{layer}.bytes", True)
    assert found(enabled=True, bytes="5000/second") == found(enabled=False, bytes="1/second") == {}


# — offsets and epochs —


def test_offsets_are_kept_as_long_as_publications_at_least() -> None:
    settings = ChannelSettings(
        namespaces=(
            Namespace(name="short", history_size=1, history_ttl=60),
            Namespace(name="long", history_size=1, history_ttl=META_TTL + 1),
            Namespace(name="own", history_size=1, history_ttl=60, history_meta_ttl=90),
        )
    )
    channels = Channels(settings)
    kept = [channels.resolve(f"{name}:1").options.history_meta_ttl for name in ("short", "long", "own")]
    assert kept == [META_TTL, META_TTL + 1, 90]
    assert settings.meta_ttl(ChannelOptions()) == META_TTL


LONG = {"name": "long", "history_size": 1, "history_ttl": "2d"}


def test_by_default_no_history_is_too_long() -> None:
    assert problems(channel={"namespaces": [LONG]}) == {}


def test_offsets_that_would_go_before_the_publications() -> None:
    [(key, text)] = problems(channel={"namespaces": [{**LONG, "history_meta_ttl": "1d"}]}).items()
    assert key == "channel.namespaces.0.history_meta_ttl"
    assert "must not be shorter than history_ttl (172800s)" in text
    assert 'history_meta_ttl = "172800s"' in text
    [key] = problems(channel={"history_meta_ttl": "1d", "namespaces": [LONG]})
    assert key == "channel.history_meta_ttl"
    [key] = problems(channel={"history_meta_ttl": "1d", "without_namespace": {"history_size": 1, "history_ttl": "2d"}})
    assert key == "channel.history_meta_ttl"
    assert problems(channel={"history_meta_ttl": "1d", "namespaces": [{**LONG, "history_meta_ttl": "2d"}]}) == {}
    assert problems(channel={"history_meta_ttl": "2d", "namespaces": [LONG]}) == {}
