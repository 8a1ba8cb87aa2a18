"""Secrets that stand in files: variables and keys that end in ``_file``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.config.reference import reference
from gateway.config.secrets import LARGEST, may_be_file
from gateway.config.settings import RedisSettings, Settings, TokenSettings
from gateway.config.sources import load, schema, show
from gateway.errors import SettingsError


def complaint(flags: Mapping[str, Any] = {}, environ: Mapping[str, str] = {}) -> str:
    with pytest.raises(SettingsError) as caught:
        load(flags=flags, environ=environ)
    return str(caught.value)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("from the file\n")
    return path


def test_every_secret_may_stand_in_a_file(secret: Path) -> None:
    names = [
        "HTTP_API__KEY",
        "CLIENT__TOKEN__HMAC_SECRET_KEY",
        "CLIENT__SUBSCRIPTION_TOKEN__HMAC_PREVIOUS_SECRET_KEY",
        "ENGINE__REDIS__SENTINEL_PASSWORD",
        "ENGINE__POSTGRES__DSN",
        "ENGINE__BROADCASTER__URL",
        "ENGINE__REDIS__TLS__KEY_PEM",
    ]
    settings = load(environ={f"GATEWAY_{name}_FILE": str(secret) for name in names})
    for name in names:
        value: Any = settings
        for part in name.lower().split("__"):
            value = getattr(value, part)
        assert value == "from the file", name


def test_an_address_may_stand_in_a_file_since_a_password_may_stand_in_it(
    secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret.write_text("redis://:pw@a:1, redis://:pw@b:1\n")
    settings = load(environ={"GATEWAY_REDIS_URL_FILE": str(secret)})
    assert (settings.engine.type, settings.engine.redis.addresses) == ("redis", ("redis://:pw@a:1", "redis://:pw@b:1"))
    monkeypatch.setenv("GATEWAY_REDIS_URL_FILE", str(secret))
    assert Settings().engine == settings.engine


def test_a_file_of_settings_may_name_files(secret: Path, tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(f"http_api:\n  key_file: {secret}\n  keys:\n    billing_file: {secret}\n    jobs: plain\n")
    api = load(file, environ={}).http_api
    assert (api.key, api.keys) == ("from the file", {"billing": "from the file", "jobs": "plain"})


def test_a_table_of_keys_in_the_environment(secret: Path) -> None:
    environ = {
        "GATEWAY_HTTP_API__KEYS": '{"a": "1"}',
        "GATEWAY_HTTP_API__KEYS__B": "2",
        "GATEWAY_HTTP_API__KEYS__C_FILE": str(secret),
    }
    assert load(environ=environ).http_api.keys == {"a": "1", "b": "2", "c": "from the file"}


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_newlines_at_the_end_are_the_editors(secret: Path, end: str) -> None:
    secret.write_bytes(b"\xef\xbb\xbf key " + end.encode())
    assert load(environ={"GATEWAY_HTTP_API__KEY_FILE": str(secret)}).http_api.key == " key "


def test_a_value_in_one_source_and_a_file_in_another_are_one_setting(secret: Path, tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text('[http_api]\nkey = "plain"\n')
    assert load(file, environ={"GATEWAY_HTTP_API__KEY_FILE": str(secret)}).http_api.key == "from the file"
    file.write_text('[http_api]\nkey_file = "/nowhere"\n')
    assert load(file, environ={"GATEWAY_HTTP_API__KEY": "plain"}).http_api.key == "plain"
    environ = {"GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY_FILE": str(secret)}
    assert load(environ=environ, dev=True).client.token.hmac_secret_key == "from the file"


def test_both_in_one_source_are_an_error(secret: Path) -> None:
    environ = {"GATEWAY_HTTP_API__KEY": "plain", "GATEWAY_HTTP_API__KEY_FILE": str(secret)}
    told = complaint(environ=environ)
    assert told == (
        "http_api.key_file (environment GATEWAY_HTTP_API__KEY_FILE): key and key_file are both given; keep one of them"
    )
    with pytest.raises(SettingsError, match="password and password_file are both given"):
        load(flags={"redis_url": "redis://a:1", "engine.redis.password": "a", "engine.redis.password_file": "b"})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xff\xfe", "is not text in UTF-8"),
        (b"x" * (LARGEST + 1), f"has more than {LARGEST} bytes"),
    ],
)
def test_files_that_hold_no_secret(tmp_path: Path, content: bytes | None, expected: str) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    for key in ("http_api.key_file", "http_api.keys.billing_file", "client.token.hmac_secret_key_file"):
        told = complaint({key: str(path)})
        assert told.startswith(f'{key} (flag): "{path}" ')
        assert expected in told


def test_a_directory_and_what_is_no_path(tmp_path: Path) -> None:
    assert "Is a directory" in complaint({"http_api.key_file": str(tmp_path)})
    assert "not text" in complaint({"http_api.key_file": "a\0b"})
    assert 'for example key_file = "/run/secrets/key"' in complaint({"http_api.key_file": 5})


def test_all_that_is_wrong_in_a_section_is_told(tmp_path: Path) -> None:
    told = complaint({"http_api.key_file": "/nowhere/1", "http_api.keys.a_file": "/nowhere/2"})
    assert [line.partition(" ")[0] for line in told.splitlines()] == ["http_api.key_file", "http_api.keys.a_file"]


def test_what_is_no_secret_has_no_file() -> None:
    assert "there is no such setting; did you mean client.token.issuer" in complaint({"client.token.issuer_file": "a"})


def test_what_is_a_setting_by_itself_stays_one() -> None:
    fields = RedisSettings.model_fields
    assert not may_be_file("password", fields["password"], fields)
    assert not may_be_file("password_file", fields["password_file"], fields)
    redis = load(environ={"GATEWAY_ENGINE__REDIS__PASSWORD_FILE": "/read/later"}).engine.redis
    assert (redis.password, redis.password_file) == ("", "/read/later")


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("http_api.keys", "text", 'must be a section; for example keys = {name = "text"}'),
        ("http_api.keys.billing", 5, 'should be a valid string; for example billing = "text"'),
        ("http_api.keys.billing", "", "should have at least 1 character"),
        ("http_api.keys.a b", "text", 'a name has letters, digits, "-" and "_"'),
        ("client.token.keys.a", "text", "there is no such setting"),
    ],
)
def test_tables_of_keys_that_cannot_be(key: str, value: Any, text: str) -> None:
    told = complaint({key: value})
    assert text in told
    assert str(value) not in told.partition(": ")[0] or value == ""


def test_a_key_of_two_kinds_needs_two_names() -> None:
    flags = {"client.token.hmac_secret_keys.a": "x" * 32, "client.token.rsa_public_keys.a": "x"}
    assert 'client.token (flag): two keys are named "a"' in complaint(flags)


def test_the_first_secret_signs() -> None:
    assert TokenSettings().signing_secret == ""
    assert TokenSettings(hmac_secret_keys={"a": "1", "b": "2"}).signing_secret == "1"
    assert TokenSettings(hmac_secret_key="0", hmac_secret_keys={"a": "1"}).signing_secret == "0"


def test_the_schema_and_the_page_know_the_files() -> None:
    assert '"hmac_secret_key_file"' in schema()
    assert "password_file_file" not in schema()
    assert "| `hmac_secret_key`, `hmac_secret_key_file` |" in reference()


def test_a_repr_of_keys_shows_none() -> None:
    settings = load(
        environ={"GATEWAY_HTTP_API__KEYS__A": "hidden", "GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEYS__B": "hidden"}
    )
    assert "hidden" not in repr(settings)
    assert "hidden" not in show(settings)
