import json
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, get_origin

import pytest
import yaml
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from gateway.config.fields import fields
from gateway.config.settings import Settings
from gateway.config.sources import _example, load, schema, show
from gateway.config.weak import DEV_SECRET
from gateway.errors import SettingsError


def environment(**variables: str) -> dict[str, str]:
    return {f"GATEWAY_{name}": value for name, value in variables.items()}


def complaint(
    path: Path | None = None, flags: Mapping[str, Any] = {}, environ: Mapping[str, str] = {}, dev: bool = False
) -> str:
    with pytest.raises(SettingsError) as caught:
        load(path, flags, environ, dev=dev)
    return str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(
        'http_server = {port = 1, address = "::1"}\n'
        "[client]\nchannel_limit = 1\n"
        '[channel.without_namespace]\nhistory_size = 1\nhistory_ttl = "1m"\n'
        '[[channel.namespaces]]\nname = "room"\npresence = true\n'
    )
    return path


# — sources —


def test_defaults() -> None:
    assert load(environ={}).model_dump() == Settings().model_dump()


def test_the_environment_of_the_process_does_not_leak_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_HTTP_SERVER__PORT", "9")
    assert load(environ={}).http_server.port == 8000


def test_later_sources_win_setting_by_setting(file: Path) -> None:
    environ = environment(HTTP_SERVER__PORT="2", CLIENT__CHANNEL_LIMIT="2", CONFIG="unread.toml")
    settings = load(file, {"http_server.port": 3, "client.insecure": None}, environ)
    assert (settings.http_server.port, settings.client.channel_limit, settings.http_server.address) == (3, 2, "::1")
    assert settings.channel.without_namespace.history_ttl == 60
    assert settings.channel.namespaces[0].presence


def test_a_variable_names_the_file(file: Path) -> None:
    assert load(environ=environment(CONFIG=str(file))).http_server.port == 1


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".toml", "http_server.port = 5"),
        (".json", '{"http_server": {"port": 5}, "client": null}'),
        (".yaml", "http_server: {port: 5}"),
        (".YML", "client:\nhttp_server:\n  port: 5\n"),
    ],
)
def test_kinds_of_file(tmp_path: Path, suffix: str, text: str) -> None:
    path = tmp_path / f"settings{suffix}"
    path.write_text(text)
    assert load(path, environ={}).http_server.port == 5


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".toml", "http_server.port = 9"),
        (".json", '{"http_server": {"port": 9}}'),
        (".yaml", "http_server: {port: 9}"),
    ],
)
def test_a_mark_before_the_text_is_an_editors(tmp_path: Path, suffix: str, text: str) -> None:
    file = tmp_path / f"gateway{suffix}"
    file.write_text(f"\ufeff{text}")
    assert load(file, environ={}).http_server.port == 9


@pytest.mark.parametrize(
    ("suffix", "text", "told"),
    [
        (".json", '{"http_server": {"port": 8, "port": 9}}', '"port" is there twice in one section; keep one of them'),
        (".json", '{"client": {}, "client": {}}', '"client" is there twice'),
        (".yaml", "http_server:\n  port: 8\n  port: 9\n", '"port" is there twice in one section, in lines 2 and 3'),
        (".yaml", "client: {}\nclient: {}\n", '"client" is there twice'),
        (".yaml", "? [a]\n: 1\n", "found unhashable key"),
        (".json", "[" * 100_000, "recursion"),
        (".yaml", "a: &a\n  b: *a\n", "a section of it is within itself"),
    ],
)
def test_of_a_key_that_is_there_twice_neither_holds(tmp_path: Path, suffix: str, text: str, told: str) -> None:
    file = tmp_path / f"gateway{suffix}"
    file.write_text(text)
    assert told in complaint(file)


def test_yaml_may_merge_sections(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    text = (
        "channel:\n  without_namespace: &same\n    presence: true\n  namespaces:\n    - name: room\n      <<: *same\n"
    )
    file.write_text(text)
    assert load(file, environ={}).channel.namespaces[0].presence


def test_null_is_not_given(tmp_path: Path) -> None:
    file = tmp_path / "gateway.json"
    file.write_text('{"http_api": {"key": null}, "client": null, "channel": {"namespaces": null}}')
    assert load(file, environ={}) == load(environ={})
    file.write_text('{"channel": {"namespaces": [{"name": "room", "presence": null}]}}')
    assert not load(file, environ={}).channel.namespaces[0].presence


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# all by default\n")
    assert load(path, environ={}).model_dump() == Settings().model_dump()


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.toml", b"port = ", "cannot be understood"),
        ("a.json", b"{", "cannot be understood"),
        ("a.yaml", b"a: [", "cannot be understood"),
        ("a.yaml", b"!!python/object/apply:os.getcwd []", "cannot be understood"),
        ("a.toml", b"\xff", "cannot be understood"),
        ("a.json", b"[1]", "settings stand in sections"),
        ("a.ini", b"", "name it .toml, .json, .yaml or .yml"),
        ("missing.toml", None, "cannot be read: No such file or directory"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: bytes | None, expected: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    text = complaint(path)
    assert text.startswith(f"file {path}")
    assert expected in text


@pytest.mark.parametrize("value", ['["https://a", "https://b"]', "https://a,https://b", " https://a  https://b "])
def test_lists_in_the_environment(value: str) -> None:
    settings = load(environ=environment(CLIENT__ALLOWED_ORIGINS=value))
    assert settings.client.allowed_origins == ("https://a", "https://b")


def test_namespaces_in_the_environment() -> None:
    settings = load(environ=environment(CHANNEL__NAMESPACES='[{"name": "room", "presence": true}]'))
    assert settings.channel.namespaces[0].presence
    assert "channel.namespaces" in complaint(environ=environment(CHANNEL__NAMESPACES="[{"))


def test_text_that_looks_like_json_stays_text() -> None:
    settings = load(environ=environment(HTTP_API__KEY="[1]", CLIENT__TOKEN__HMAC_SECRET_KEY="123"))
    assert (settings.http_api.key, settings.client.token.hmac_secret_key) == ("[1]", "123")


def test_the_short_form_of_the_redis_url() -> None:
    from_environment = load(environ=environment(REDIS_URL="redis://a")).engine
    assert (from_environment.type, from_environment.redis.address) == ("redis", "redis://a")
    assert load(flags={"redis_url": "redis://b"}, environ=environment(REDIS_URL="redis://a")).engine.redis.address == (
        "redis://b"
    )
    long = {"engine.redis.address": "redis://c", "redis_url": "redis://b"}
    assert load(flags=long, environ={}).engine.redis.address == "redis://c"
    both = environment(ENGINE__REDIS__ADDRESS="redis://c", REDIS_URL="redis://a")
    assert load(environ=both).engine.redis.address == "redis://c"


@pytest.mark.parametrize("name", ["URL", "TIMEOUT", "PORT", "HOST", "VERBOSE"])
def test_in_a_program_variables_may_be_others(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "gateway")
    environ = environment(**{name: "1"})
    assert load(environ=environ, embedded=True) == load(environ={})
    assert caplog.messages == [f"GATEWAY_{name} is none of the gateway's settings, and is ignored"]
    assert "there is no such setting" in complaint(environ=environ), "the server's own"


@pytest.mark.parametrize("name", ["HTTP_SERVER_PORT", "REDIS_PASSWORD", "CLIENT__X", "CLEINT__INSECURE", "HTTP_SERVER"])
def test_in_a_program_typing_errors_are_told(name: str) -> None:
    with pytest.raises(SettingsError, match=name.lower().partition("__")[0]):
        load(environ=environment(**{name: "1"}), embedded=True)


def test_variables_of_others_are_left_alone() -> None:
    """Kubernetes sets these in every pod beside a service named gateway or gateway-redis."""
    environ = {
        "PATH": "/bin",
        "GATEWAYS": "2",
        "GATEWAY_SERVICE_HOST": "10.0.0.1",
        "GATEWAY_SERVICE_PORT": "8000",
        "GATEWAY_SERVICE_PORT_HTTP": "8000",
        "GATEWAY_PORT": "tcp://10.0.0.1:8000",
        "GATEWAY_PORT_8000_TCP_ADDR": "10.0.0.1",
        "GATEWAY_REDIS_PORT": "tcp://10.0.0.2:6379",
        "GATEWAY_REDIS_SERVICE_HOST": "10.0.0.2",
        "GATEWAY_HTTP_SERVER__PORT": "",
    }
    assert load(environ=environ).model_dump() == Settings().model_dump()


# — what is wrong —


def test_all_problems_at_once_each_with_its_place(file: Path) -> None:
    text = complaint(
        file,
        {"http_server.port": 90000},
        environment(CLIENT__PING_INTERVAL="often", HTTP_SERVER_PORT="9", ENGINE__TYPE="rediss"),
    )
    assert sorted(text.splitlines()) == [
        'client.ping_interval = "often" (environment GATEWAY_CLIENT__PING_INTERVAL): must be a duration such as '
        '"10s", "300ms", "1h30m" or a number of seconds; for example GATEWAY_CLIENT__PING_INTERVAL=25s',
        "engine.type = \"rediss\" (environment GATEWAY_ENGINE__TYPE): should be 'memory', 'redis', 'postgres' or "
        "'broadcaster'; "
        "for example GATEWAY_ENGINE__TYPE=memory",
        "http_server.port = 90000 (flag): should be less than or equal to 65535; for example port = 8000",
        'http_server_port = "9" (environment GATEWAY_HTTP_SERVER_PORT): there is no such setting; '
        "did you mean GATEWAY_HTTP_SERVER__PORT=8000?",
    ]


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        (
            "channel.without_namespace.histroy_size",
            "channel.without_namespace.history_size, for example history_size = 100",
        ),
        ("client.pingInterval", 'client.ping_interval, for example ping_interval = "25s"'),
        ("engine.redis.adress", 'engine.redis.address, for example address = "redis://127.0.0.1:6379"'),
        ("client.allowed_origin", 'client.allowed_origins, for example allowed_origins = ["https://example.com"]'),
        ("channel.namespace", 'channel.namespaces, for example namespaces = [{name = "chat"}]'),
        ("client.insecur", "client.insecure, for example insecure = true"),
        ("client.token.audienc", 'client.token.audience, for example audience = "text"'),
    ],
)
def test_typing_errors(key: str, meant: str) -> None:
    assert complaint(flags={key: 1}) == f"{key} = 1 (flag): there is no such setting; did you mean {meant}?"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("PORT", "GATEWAY_HTTP_SERVER__PORT=8000"),
        ("HOST", "GATEWAY_HTTP_SERVER__ADDRESS=127.0.0.1"),
        ("UNISSE", "GATEWAY_UNI_SSE__ENABLED=true"),
    ],
)
def test_what_somebody_writes_for_a_flag_or_a_section(name: str, meant: str) -> None:
    text = complaint(environ=environment(**{name: "1"}))
    assert text == f'{name.lower()} = "1" (environment GATEWAY_{name}): there is no such setting; did you mean {meant}?'


def test_a_name_that_cannot_be_is_answered_in_words() -> None:
    assert complaint(flags={"channel.namespaces": [{"name": "p"}]}) == (
        'channel.namespaces.0.name = "p" (flag): must match ^[-a-zA-Z0-9_.]{2,}$ (the text before the boundary: '
        'letters, digits, `-`, `_`, `.`; at least two); for example name = "chat"'
    )


def test_keys_like_no_other() -> None:
    assert complaint(flags={"zzz": 1}) == (
        'zzz = 1 (flag): there is no such setting; "gateway config schema" lists them all'
    )


def test_typing_errors_in_namespaces(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"channel": {"namespaces": [{"name": "room", "prescence": true}, {}]}}')
    first, second = complaint(path).splitlines()
    assert first.startswith(
        f"channel.namespaces.0.prescence = true (file {path}): there is no such setting; did you mean"
    )
    assert second == f"channel.namespaces.1.name (file {path}): Field required"


@pytest.mark.parametrize("flags", [{"engine": "redis"}, {"engine": "redis", "engine.redis.prefix": "x"}])
def test_a_value_where_a_section_belongs(flags: dict[str, str]) -> None:
    assert complaint(flags=flags) == 'engine = "redis" (flag): is a section, not a value; for example [engine]'


def test_a_section_tells_its_own_contradictions() -> None:
    assert complaint(flags={"client.ping_interval": "5s"}).startswith("client (flag): client.pong_timeout (8s) must be")


@pytest.mark.parametrize(
    "flags",
    [
        {"client.token.hmac_secret": "hush"},
        {"client.token.hmac_secret_key": b"\xffhush"},
        {"client.token.hmac_secret_key": ["hush"]},
        {"http_api.keys": "hush"},
        {"engine.redis.adress": "redis://user:hush/@h@host"},
    ],
)
def test_secrets_stay_out_of_complaints(flags: dict[str, Any]) -> None:
    assert "hush" not in complaint(flags=flags)


def test_a_secret_of_the_wrong_type_stays_out_too() -> None:
    assert complaint(flags={"http_api.key": 4711}) == (
        'http_api.key = "***" (flag): should be a valid string; for example key = "text"'
    )
    assert "_until = -1" in complaint(flags={"client.token.hmac_previous_secret_key_valid_until": -1})


def test_long_values_are_cut() -> None:
    assert len(complaint(flags={"client.token.rsa_public_key": "x" * 10_000})) < 400


WITHOUT = "channel.without_namespace."
TWICE = [{"code": code, "to": {"status_code": 401}} for code in (109, 3500, 109)]
HISTORY = {WITHOUT + "history_size": 1, WITHOUT + "history_ttl": "1s"}


@pytest.mark.parametrize(
    ("flags", "key", "text"),
    [
        ({WITHOUT + "history_size": 5}, WITHOUT + "history_size = 5", "needs history_ttl, for example"),
        ({WITHOUT + "history_ttl": "5s"}, WITHOUT + 'history_ttl = "5s"', "needs history_size, for example"),
        ({WITHOUT + "force_recovery": True}, WITHOUT + "force_recovery = true", "needs history, for example"),
        ({WITHOUT + "allow_recovery": True}, WITHOUT + "allow_recovery = true", "needs history"),
        ({WITHOUT + "force_positioning": True}, WITHOUT + "force_positioning = true", "needs history"),
        ({WITHOUT + "allow_positioning": True}, WITHOUT + "allow_positioning = true", "needs history"),
        ({WITHOUT + "allow_history_for_client": True}, WITHOUT + "allow_history_for_client = true", "needs history"),
        (
            HISTORY | {WITHOUT + "force_recovery_mode": "cache"},
            WITHOUT + 'force_recovery_mode = "cache"',
            "needs recovery, for example force_recovery = true",
        ),
        (
            {WITHOUT + "allowed_delta_types": ["fossil"]},
            WITHOUT + "allowed_delta_types",
            "needs history, for patches are made of it; for example history_size = 1",
        ),
        (
            {WITHOUT + "allowed_delta_types": ["xdelta"]},
            WITHOUT + 'allowed_delta_types.0 = "xdelta"',
            "should be 'fossil'; for example allowed_delta_types = [\"fossil\"]",
        ),
        (
            {WITHOUT + "delta_publish": True},
            WITHOUT + "delta_publish = true",
            'needs allowed_delta_types = ["fossil"]',
        ),
        (
            {WITHOUT + "auto_cache_recover": True},
            WITHOUT + "auto_cache_recover = true",
            'needs force_recovery = true and force_recovery_mode = "cache"',
        ),
        (
            {WITHOUT + "force_push_join_leave": True},
            WITHOUT + "force_push_join_leave = true",
            "needs join_leave = true",
        ),
        (
            {WITHOUT + "allow_presence_for_subscriber": True},
            WITHOUT + "allow_presence_for_subscriber = true",
            "needs presence = true",
        ),
        ({WITHOUT + "channel_regex": "("}, WITHOUT + 'channel_regex = "("', '"(" is not a regular expression'),
        (
            {"channel.namespaces": [{"name": "aa"}, {"name": "aa"}]},
            'channel.namespaces.1.name = "aa"',
            '"aa" is there twice',
        ),
        (
            {"channel.namespaces": [{"name": "aa", "force_recovery": True}]},
            "channel.namespaces.0.force_recovery = true",
            "needs history",
        ),
        (
            {"prometheus.directory": "/" + "x" * 80},
            'prometheus.directory = "/' + "x" * 80 + '"',
            "is longer than 80 bytes",
        ),
        ({"http_server.workers": 2}, "http_server.workers = 2", "2 workers cannot share memory: let Redis"),
        ({"demo.enabled": True}, "demo.enabled = true", "the page needs tokens: set client.token.hmac_secret_key"),
        ({"admin.enabled": True}, "admin.enabled = true", 'needs admin.password: take the output of "openssl rand'),
        ({"client.token.issuer_regex": "["}, 'client.token.issuer_regex = "["', '"[" is not a regular expression'),
        (
            {"client.subscription_token.audience_regex": "["},
            'client.subscription_token.audience_regex = "["',
            '"[" is not a regular expression',
        ),
        (
            {"client.token.rsa_public_key": "nonsense"},
            'client.token.rsa_public_key = "nonsense"',
            "is not a public key; expected PEM",
        ),
        *(
            (
                {f"{stream}.connect_code_to_http_response.transforms": TWICE},
                f"{stream}.connect_code_to_http_response.transforms.2.code = 109",
                "109 is there twice; keep one of the two",
            )
            for stream in ("uni_sse", "uni_http_stream")
        ),
        (
            {
                "client.proxy.connect.enabled": True,
                "client.proxy.connect.endpoint": "http://127.0.0.1:3000/connect",
                "client.proxy.connect.http.status_to_code_transforms": [
                    {"status_code": 403, "to_error": {"code": code}} for code in (403, 404)
                ],
            },
            "client.proxy.connect.http.status_to_code_transforms.1.status_code = 403",
            "403 is there twice; keep one of the two",
        ),
    ],
)
def test_contradictions(flags: dict[str, Any], key: str, text: str) -> None:
    found = complaint(flags=flags)
    assert found.startswith(f"{key} (flag): {text}")
    assert "\n" not in found


PERSONAL = "client.subscribe_to_user_personal_channel."


def test_personal_channels_need_their_namespace_and_presence() -> None:
    unknown = {PERSONAL + "enabled": True, PERSONAL + "personal_channel_namespace": "me"}
    assert 'there is no namespace "me" in channel.namespaces; add one' in complaint(flags=unknown)
    single = {PERSONAL + "enabled": True, PERSONAL + "single_connection": True}
    assert "single_connection = true (flag): needs presence = true in channel.without_namespace" in complaint(
        flags=single
    )
    named = single | unknown | {"channel.namespaces": [{"name": "me"}]}
    assert 'needs presence = true in the namespace "me"' in complaint(flags=named)
    present = named | {"channel.namespaces": [{"name": "me", "presence": True}]}
    assert load(flags=present, environ={}).client.subscribe_to_user_personal_channel.enabled


@pytest.mark.parametrize(
    "flags",
    [
        HISTORY | {WITHOUT + "force_recovery": True, WITHOUT + "force_recovery_mode": "cache"},
        HISTORY | {WITHOUT + "allow_history_for_client": True, WITHOUT + "force_recovery_mode": "stream"},
        {WITHOUT + "join_leave": True, WITHOUT + "allow_presence_for_client": True},
        {"http_server.workers": 2, "redis_url": "redis://a"},
        {PERSONAL + "enabled": False, PERSONAL + "personal_channel_namespace": "me"},
    ],
)
def test_what_goes_together(flags: dict[str, Any]) -> None:
    load(flags=flags, environ={})


# — dev mode —


def test_dev_mode_opens_everything_on_loopback() -> None:
    settings = load(environ={}, dev=True)
    options = settings.channel.without_namespace
    assert settings.client.insecure
    assert settings.client.allow_anonymous_connect_without_token
    assert settings.http_api.insecure
    assert settings.demo.enabled
    assert settings.admin.enabled
    assert settings.admin.insecure
    assert settings.client.token.hmac_secret_key == DEV_SECRET
    assert settings.shutdown.grace == 0
    assert options.allow_history_for_anonymous
    assert options.allow_user_limited_channels
    assert (options.history_size, options.history_ttl, options.force_recovery) == (100, 300, True)
    assert options.presence
    assert options.force_push_join_leave


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_dev_mode_lets_pages_of_this_machine_in(host: str) -> None:
    patterns = load(environ={}, dev=True).client.allowed_origins
    for origin, known in ((f"http://{host}", True), (f"http://{host}:3000", True), (f"http://{host}.example", False)):
        assert any(fnmatchcase(origin, pattern) for pattern in patterns) == known


def test_what_is_configured_wins_over_dev_mode(file: Path) -> None:
    environ = environment(CLIENT__TOKEN__HMAC_SECRET_KEY="own", DEMO__ENABLED="false")
    settings = load(file, {"client.insecure": False}, environ, dev=True)
    assert (settings.client.token.hmac_secret_key, settings.demo.enabled, settings.client.insecure) == (
        "own",
        False,
        False,
    )
    assert settings.channel.without_namespace.history_size == 1


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"])
def test_loopback_addresses(address: str) -> None:
    assert load(flags={"http_server.address": address}, environ={}, dev=True).http_server.address == address


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.1", "example.com", "", "localhost.example.com"])
def test_dev_mode_refuses_other_addresses(address: str) -> None:
    text = complaint(environ={}, flags={"http_server.address": address}, dev=True)
    assert "is not a loopback address" in text
    assert 'set address = "127.0.0.1"' in text


# — what is in force —


def test_what_is_shown_can_be_read_back_but_for_secrets() -> None:
    settings = load(
        flags={
            "client.token.hmac_secret_key": "hush",
            "client.token.hmac_previous_secret_key": "hush",
            "http_api.key": "hush",
            "redis_url": "redis://user:hush@host/1",
            "channel.namespaces": [{"name": "room"}],
        },
        environ={},
    )
    text = show(settings)
    assert "hush" not in text
    shown = yaml.safe_load(text)
    assert shown["http_api"]["key"] == "***"
    assert shown["engine"]["redis"]["address"] == "redis://***@host/1"
    assert shown["channel"]["namespaces"][0]["name"] == "room"
    assert yaml.safe_load(show(Settings())) == json.loads(Settings().model_dump_json())


def test_the_schema_describes_every_setting() -> None:
    found = json.loads(schema())
    assert found["properties"]["engine"]["description"] == "Broker and presence."
    client = found["$defs"]["ClientSettings"]["properties"]
    assert client["channel_limit"]["description"] == "Most subscriptions of a connection."
    assert {kind["type"] for kind in client["ping_interval"]["anyOf"]} == {"number", "string"}
    undescribed = [
        name
        for section in found["$defs"].values()
        for name, setting in section["properties"].items()
        if "description" not in setting
    ]
    assert undescribed == []


# — examples —


@pytest.mark.parametrize(
    ("suffix", "text", "told"),
    [
        (
            ".yaml",
            "channel:\n  namespaces:\n    room: {}\n",
            'must be a list; for example namespaces: [{"name": "chat"}]',
        ),
        (".json", '{"channel": {"namespaces": 5}}', 'must be a list; for example "namespaces": [{"name": "chat"}]'),
        (".toml", "[channel]\nnamespaces = 5", 'must be a list; for example namespaces = [{name = "chat"}]'),
        (".toml", '[client]\nallowed_origins = "a"', 'for example allowed_origins = ["https://example.com"]'),
        (".json", '{"client": {"insecure": 5}}', 'for example "insecure": true'),
        (".yaml", "client: {insecure: 5}", "for example insecure: true"),
    ],
)
def test_examples_are_written_as_the_file_is(tmp_path: Path, suffix: str, text: str, told: str) -> None:
    file = tmp_path / f"gateway{suffix}"
    file.write_text(text)
    assert told in complaint(file)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("CHANNEL__NAMESPACES", "room", 'GATEWAY_CHANNEL__NAMESPACES=[{"name": "chat"}]'),
        ("CHANNEL__NAMESPACES", '{"name": "room"}', 'GATEWAY_CHANNEL__NAMESPACES=[{"name": "chat"}]'),
        ("CHANNEL__NAMESPACES__0__NAME", "room", 'GATEWAY_CHANNEL__NAMESPACES=[{"name": "chat"}]'),
        ("CLIENT__ALLOWED_ORIGINS", "[x", 'GATEWAY_CLIENT__ALLOWED_ORIGINS=["https://example.com"]'),
        ("CLIENT__INSECURE", "enabled", "GATEWAY_CLIENT__INSECURE=true"),
        ("ENGINE", "redis", "GATEWAY_ENGINE__TYPE=memory"),
        ("HTTP_SERVER__PORT", "x", "GATEWAY_HTTP_SERVER__PORT=8000"),
        ("HTTP_API__KEYS", "x", 'GATEWAY_HTTP_API__KEYS={"name": "text"}'),
    ],
)
def test_examples_are_variables_where_these_were_given(name: str, value: str, told: str) -> None:
    assert f"for example {told}" in complaint(environ=environment(**{name: value}))


@pytest.mark.parametrize(("key", "field"), fields().items(), ids=fields())
def test_every_example_would_do(key: str, field: FieldInfo) -> None:
    """Also of what has no default, which is given in lists alone: there each wrong value is told with one."""
    kind: Any = Annotated[field.annotation, field]
    TypeAdapter[Any](kind).validate_python(_example(key))


REQUIRED = [key for key, field in fields().items() if field.is_required()]


def one_of_each(key: str, value: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Sections with one entry in each list, down to the one that has the setting ``key``: that is ``value``."""
    name, _, rest = key.removeprefix(place).lstrip(".").partition(".")
    place = f"{place}.{name}".lstrip(".")
    if not rest:
        return dict(value)
    within = one_of_each(key, value, place)
    return {name: [within] if get_origin(getattr(fields().get(place), "annotation", None)) is tuple else within}


@pytest.mark.parametrize("key", REQUIRED)
def test_what_is_required_is_told_with_an_example(key: str, tmp_path: Path) -> None:
    name = key.rpartition(".")[2]
    file = tmp_path / "gateway.json"
    place = re.escape(key).replace(r"\.", r"(\.\d+)?\.")
    for wrong in ("", 0, None):
        file.write_text(json.dumps(one_of_each(key, {} if wrong is None else {name: wrong})))
        told = [line for line in complaint(file).splitlines() if re.match(rf"{place}\b", line)]
        assert told, "by its place"
        assert wrong is None or f'; for example "{name}": ' in told[0]


@pytest.mark.parametrize("key", REQUIRED)
def test_a_variable_for_one_of_a_list_is_answered_with_the_list(key: str) -> None:
    given = f"GATEWAY_{key.upper().replace('.', '_')}"
    example = complaint(environ={given: "1"}).partition("did you mean ")[2].removesuffix("?")
    name, _, value = example.partition("=")
    assert key.startswith(name.removeprefix("GATEWAY_").lower().replace("__", "."))
    assert isinstance(json.loads(value), list)


@pytest.mark.parametrize("text", ["null", '"null"', " null "])
def test_null_is_an_origin_too(text: str) -> None:
    assert load(environ=environment(CLIENT__ALLOWED_ORIGINS=text)).client.allowed_origins == ("null",)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("not-an-ip", "is no address"),
        ("10.0.0.0/33", "is no address"),
        ("127.0.0.1, haproxy", "is no address"),
        ("10.0.0.1/8", "has host bits set"),
    ],
)
def test_proxies_are_addresses(value: str, why: str) -> None:
    told = complaint(environ=environment(HTTP_SERVER__FORWARDED_ALLOW_IPS=value))
    assert f'"{value.split(", ")[-1]}" {why}; write addresses or networks' in told


@pytest.mark.parametrize("value", ["*", "127.0.0.1", "10.0.0.0/8,fd00::/8 , ::1"])
def test_proxies_that_are_some(value: str) -> None:
    environ = environment(HTTP_SERVER__FORWARDED_ALLOW_IPS=value)
    assert load(environ=environ).http_server.forwarded_allow_ips == value
