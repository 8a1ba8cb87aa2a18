import math
import re
import sys
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from gateway.config.contradictions import find_problems, find_warnings
from gateway.config.durations import Duration
from gateway.config.settings import (
    ChannelOptions,
    ClientSettings,
    EngineSettings,
    Namespace,
    RedisSettings,
    Settings,
)

durations: TypeAdapter[float] = TypeAdapter(Duration)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10),
        ("300ms", 0.3),
        ("1h30m", 5400),
        ("2d", 172800),
        ("0", 0),
        (" 1.5s ", 1.5),
        ("7", 7),
        (7, 7),
        (0.5, 0.5),
    ],
)
def test_durations(text: Any, seconds: float) -> None:
    assert durations.validate_python(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "10 s", "10x", "-1s", "1s!", -1, math.inf, math.nan, None, [1]])
def test_what_is_no_duration(text: Any) -> None:
    with pytest.raises(ValidationError):
        durations.validate_python(text)


def test_pongs_are_due_before_the_next_ping() -> None:
    with pytest.raises(ValidationError, match=r"client\.pong_timeout \(8s\) must be less than client\.ping_interval"):
        ClientSettings(ping_interval=8)
    assert ClientSettings(ping_interval=0).ping_interval == 0


def test_history_needs_size_and_ttl() -> None:
    assert ChannelOptions(history_size=1, history_ttl=1).keeps_history
    assert not ChannelOptions(history_size=1).keeps_history
    assert not ChannelOptions(history_ttl=1).keeps_history


@pytest.mark.parametrize("name", ["", "a", "a:b", "a b", "ä" * 2])
def test_namespaces_with_names_that_cannot_be(name: str) -> None:
    with pytest.raises(ValidationError):
        Namespace(name=name)


def test_a_prefix_holds_no_braces_since_they_mark_hash_tags() -> None:
    with pytest.raises(ValidationError):
        RedisSettings(prefix="a{b}")


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Settings().client.insecure = True  # type: ignore[misc]


def test_nothing_is_open_by_default() -> None:
    settings = Settings()
    options = settings.channel.without_namespace
    allowed = {name for name in ChannelOptions.model_fields if name.startswith("allow_") and getattr(options, name)}
    assert allowed == {"allow_channel_compaction"}, "which lets nobody do anything"
    client = settings.client
    opened = [
        client.insecure,
        client.allow_anonymous_connect_without_token,
        client.allowed_origins,
        settings.http_api.insecure,
        settings.http_api.key,
        settings.demo.enabled,
        settings.admin.enabled,
        settings.admin.insecure,
    ]
    assert not any(opened)
    assert settings.http_server.address == "127.0.0.1"


@pytest.mark.parametrize("pattern", ["(", "a{99999999999}", "(" * 5000])
def test_patterns_that_cannot_be_compiled_are_a_problem(pattern: str) -> None:
    settings = Settings.model_validate({"channel": {"without_namespace": {"channel_regex": pattern}}})
    assert any("is not a regular expression" in problem.text for problem in find_problems(settings))


def test_settings_made_in_code_know_the_short_form_of_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_REDIS_URL", "redis://somewhere")
    monkeypatch.setenv("GATEWAY_ENGINE__REDIS__PREFIX", "mine")
    redis = Settings(client=ClientSettings(insecure=True)).engine
    assert (redis.type, redis.redis.address, redis.redis.prefix) == ("redis", "redis://somewhere", "mine")
    assert Settings(engine=EngineSettings(type="memory")).engine.type == "memory"


@pytest.mark.parametrize(
    ("client", "warning"),
    [
        ({}, "nobody can connect"),
        ({"insecure": True}, "INSECURE.*client.insecure"),
        ({"insecure_skip_token_signature_verify": True}, "INSECURE.*client.insecure_skip"),
        ({"token": {"hmac_secret_key": "as long as openssl rand -hex 32 has it"}}, ""),
        ({"token": {"hmac_previous_secret_key": "as long as openssl rand -hex 32 has it"}}, ""),
        ({"allow_anonymous_connect_without_token": True}, ""),
        ({"user_id_http_header": "X-User"}, ""),
        ({"token": {"hmac_secret_keys": {"2027": "as long as openssl rand -hex 32 has it"}}}, ""),
        ({"token": {"jwks_public_endpoint": "https://issuer.example.com/jwks"}}, ""),
        ({"token": {"jwks_public_endpoint": "http://[::1]:9/jwks"}}, ""),
        ({"token": {"jwks_public_endpoint": "http://issuer/jwks"}}, "client.token.jwks_public_endpoint has no TLS"),
    ],
)
def test_doors_that_stand_open_or_shut_are_told(client: dict[str, Any], warning: str) -> None:
    warnings = list(find_warnings(Settings(client=ClientSettings(**client))))
    assert len(warnings) == bool(warning)
    assert not warning or re.match(warning, warnings[0])


def test_keys_that_are_fetched_take_the_place_of_others() -> None:
    endpoint = {"jwks_public_endpoint": "https://issuer.example.com/jwks"}
    secrets = {"hmac_secret_keys": {"2027": "as long as openssl rand -hex 32 has it"}}
    client = {"token": endpoint, "subscription_token": {"enabled": True, **secrets, **endpoint}}
    (told,) = find_warnings(Settings.model_validate({"client": client}))
    assert told.startswith("client.subscription_token.hmac_secret_keys is not used, for with jwks_public_endpoint only")


@pytest.mark.parametrize(
    ("token", "key", "text"),
    [
        (
            {"jwks_public_endpoint": "issuer/jwks"},
            "client.token.jwks_public_endpoint",
            "is no address of http or https",
        ),
        ({"jwks_public_endpoint": "https://{{x}}/"}, "client.token.jwks_public_endpoint", "has {{x}}, and no pattern"),
        (
            {"jwks_public_endpoint": "https://{{x}}/", "issuer_regex": "(?P<x>.*)"},
            "client.token.issuer_regex",
            "has in its group x more than a list of words",
        ),
    ],
)
def test_endpoints_that_cannot_be_used(token: dict[str, str], key: str, text: str) -> None:
    (problem,) = find_problems(Settings.model_validate({"client": {"token": token}}))
    assert problem.key == key
    assert problem.text.startswith(text)


def test_the_page_for_trying_out_cannot_sign_for_another_issuer() -> None:
    token = {"jwks_public_endpoint": "https://issuer.example.com/jwks", "hmac_secret_key": "s"}
    settings = Settings.model_validate({"client": {"token": token}, "demo": {"enabled": True}})
    (problem,) = find_problems(settings)
    assert problem.key == "demo.enabled"
    assert "which jwks_public_endpoint takes the place of" in problem.text


def test_a_page_for_operators_that_is_open_is_told() -> None:
    client = {"token": {"hmac_secret_key": "as long as openssl rand -hex 32 has it"}}
    for enabled in (True, False):
        settings = Settings.model_validate({"client": client, "admin": {"enabled": enabled, "insecure": True}})
        assert ["(admin.insecure)" in line for line in find_warnings(settings)] == [True] * enabled


def test_a_redis_that_is_not_used_is_told() -> None:
    settings = Settings(client=ClientSettings(user_id_http_header="X-User"))
    idle = settings.model_copy(update={"engine": EngineSettings(redis=RedisSettings(address="redis://a"))})
    assert [line.partition(",")[0] for line in find_warnings(idle)] == ["engine.redis is set and not used"]
    used = settings.model_copy(update={"engine": EngineSettings(type="redis", redis=idle.engine.redis)})
    assert not list(find_warnings(used))


def test_without_the_library_of_postgres_its_address_is_looked_at_by_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.model_validate({"engine": {"type": "postgres", "postgres": {"dsn": "nonsense"}}})
    assert [problem.key for problem in find_problems(settings)] == ["engine.postgres.dsn"]
    monkeypatch.setitem(sys.modules, "gateway.postgres.database", None)
    assert not list(find_problems(settings))


@pytest.mark.parametrize("name", ["uni_sse", "uni_http_stream"])
def test_a_status_without_body_is_given_none(name: str) -> None:
    transforms = [{"code": code, "to": {"status_code": code, "body": "no"}} for code in (403, 204, 205, 304)]
    transforms.append({"code": 1, "to": {"status_code": 204}})
    settings = Settings.model_validate({name: {"connect_code_to_http_response": {"transforms": transforms}}})
    problems = list(find_problems(settings))
    assert [each.key for each in problems] == [
        f"{name}.connect_code_to_http_response.transforms.{index}.to.body" for index in (1, 2, 3)
    ]
    assert "a response with status 204 has none" in problems[0].text


@pytest.mark.parametrize("deep", [False, True])
def test_what_is_decided_once_for_options_is_decided_anew_for_a_copy(deep: bool) -> None:
    options = ChannelOptions(history_size=1, history_ttl=1)
    assert options.keeps_history
    assert options.is_stream
    copied = options.model_copy(update={"history_size": 0, "subscription_type": "map"}, deep=deep)
    assert (copied.keeps_history, copied.is_stream, copied.is_map) == (False, False, True)
    assert options.keeps_history
    assert options == ChannelOptions(history_size=1, history_ttl=1)
    assert "keeps_history" not in repr(options) + str(options.model_dump())
