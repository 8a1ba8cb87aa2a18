"""What addresses of Redis mean, and what is said of those that mean nothing."""

import re
import ssl
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.config.masking import masked
from gateway.config.settings import RedisSettings, Settings
from gateway.errors import SettingsError
from gateway.redis.address import ClusterSeeds, Place, SentinelGroup, read_addresses
from gateway.redis.endpoint import Endpoint
from gateway.redis.opening import open_shards


def read(address: Any, **options: Any) -> Place:
    [place] = read_addresses(RedisSettings(address=address, **options))
    return place


@pytest.mark.parametrize(
    ("address", "endpoint"),
    [
        ("redis://h", Endpoint("h")),
        (" redis://h:7000 ", Endpoint("h", 7000)),
        ("redis.example:7000", Endpoint("redis.example", 7000)),
        ("redis://", Endpoint()),
        ("REDIS://h", Endpoint("h")),
        ("redis://u:p%40@h:1/3", Endpoint("h", 1, username="u", password="p@", db=3)),
        ("redis://:p%3A%2F%23@h", Endpoint("h", password="p:/#")),
        ("redis://:p@2@h", Endpoint("h", password="p@2")),
        ("redis://h?password=p%40&user=u&db=4", Endpoint("h", username="u", password="p@", db=4)),
        (":p%40@h:1", Endpoint("h", 1, password="p@")),
        ("redis://[::1]:7000", Endpoint("::1", 7000)),
        ("[2001:db8::1]", Endpoint("2001:db8::1")),
        ("unix:///run/redis.sock?db=2", Endpoint(path="/run/redis.sock", db=2)),
        ("unix:///run/a%20b.sock?password=p", Endpoint(path="/run/a b.sock", password="p")),
        ("redis://användare:lösen@h", Endpoint("h", username="användare", password="lösen")),
    ],
)
def test_one_server(address: str, endpoint: Endpoint) -> None:
    assert read(address) == endpoint


def test_what_the_address_does_not_say_the_settings_do(tmp_path: Path) -> None:
    options = {"user": "u", "password": "p"}
    assert read("redis://h", **options) == Endpoint("h", username="u", password="p")
    assert read("redis://other:secret@h", **options) == Endpoint("h", username="other", password="secret")
    file = tmp_path / "password"
    file.write_text("first\n")
    endpoint = read("redis://h", password_file=str(file))
    assert isinstance(endpoint, Endpoint)
    assert endpoint.handshake()[0] == ("AUTH", "first")
    file.write_text("second\n")
    assert endpoint.handshake()[0] == ("AUTH", "second"), "read at each attempt"
    file.unlink()
    with pytest.raises(OSError, match="password"):
        endpoint.handshake()
    assert replace(endpoint, password="given").handshake()[0] == ("AUTH", "given")


def test_a_cluster() -> None:
    login = Endpoint("h1", 7001, username="u", password="p")
    expected = ClusterSeeds((login, replace(login, host="h2", port=7002), replace(login, host="::1", port=6379)))
    assert read("redis+cluster://u:p@h1:7001?addr=h2:7002&addr=[::1]") == expected
    secure = read("rediss+cluster://h1")
    assert isinstance(secure, ClusterSeeds)
    assert secure.seeds[0].tls is not None


def test_a_group_behind_sentinel() -> None:
    place = read("redis+sentinel://u:p@s1?sentinel_master_name=mymaster&sentinel_password=sp&addr=s2:26380&db=2")
    sentinel = Endpoint("s1", 26379, password="sp")
    sentinels = (sentinel, replace(sentinel, host="s2", port=26380))
    assert place == SentinelGroup("mymaster", sentinels, Endpoint(username="u", password="p", db=2))
    options = {"sentinel_master_name": "mymaster", "sentinel_user": "su", "sentinel_password": "sp"}
    named = read("redis+sentinel://s1", **options)
    assert named == SentinelGroup("mymaster", (replace(sentinel, username="su"),), Endpoint())


@pytest.mark.parametrize(
    "address",
    ["redis://a:1,redis://b:2", "redis://a:1, b:2", ("redis://a:1", "b:2"), '["redis://a:1", "redis://b:2"]'],
)
def test_several_are_shards(address: Any) -> None:
    assert read_addresses(RedisSettings(address=address)) == [Endpoint("a", 1), Endpoint("b", 2)]


# — TLS —


def context(address: str) -> ssl.SSLContext:
    endpoint = read(address)
    assert isinstance(endpoint, Endpoint)
    assert endpoint.tls is not None
    return endpoint.tls


def test_tls_by_the_url() -> None:
    strict = context("rediss://h")
    assert (strict.check_hostname, strict.verify_mode) == (True, ssl.CERT_REQUIRED)
    for none in ("none", "CERT_NONE"):
        lax = context(f"rediss://h?ssl_cert_reqs={none}")
        assert (lax.check_hostname, lax.verify_mode) == (False, ssl.CERT_NONE)
    optional = context("rediss://h?ssl_cert_reqs=optional")  # which to a client is required
    assert (optional.check_hostname, optional.verify_mode) == (True, ssl.CERT_REQUIRED)
    nameless = context("rediss://h?ssl_check_hostname=false")
    assert (nameless.check_hostname, nameless.verify_mode) == (False, ssl.CERT_REQUIRED)
    plain = read("redis://h")
    assert isinstance(plain, Endpoint)
    assert plain.tls is None


def test_tls_by_the_settings() -> None:
    tls = {"enabled": True, "insecure_skip_verify": True, "server_name": "redis.internal"}
    endpoint = read("redis://h", tls=tls)
    assert isinstance(endpoint, Endpoint)
    assert endpoint.tls is not None
    assert endpoint.server_name == "redis.internal"
    group = read("redis+sentinel://s1?sentinel_master_name=m", sentinel_tls={"enabled": True})
    assert isinstance(group, SentinelGroup)
    assert (group.sentinels[0].tls is None, group.master.tls is None) == (False, True)


# — refusals —


@pytest.mark.parametrize(
    "address",
    [
        "",
        "http://h",
        "redis:/h",
        "redis//h",
        "redis+tls://h",
        "redis://h:port",
        "redis://h:99999",
        "redis://h/abc",
        "redis://h/-1",
        "redis://h/0/1",
        "redis://user:secret#2@h",
        "redis://:secret/2@h",
        "redis://:secret?2@h",
        "redis://:p%zzsecret@h h",
        "::1",
        "redis://::1:6379",
        "redis://h?colour=red",
        "redis://h?socket_timeout=5",
        "redis://h?db=1&db=2",
        "rediss://u:secret@h?ssl_ca_certs=/no/such/file",
        "rediss://u:secret@h?ssl_ca_data=x",
        "rediss://h?ssl_cert_reqs=sometimes",
        "unix:/run/redis.sock",
        "unix://run/redis.sock",
        "/run/redis.sock",
        "redis+sentinel://a:26379",
        "redis+sentinel://a?sentinel_master_name=m&addr=b:port",
        "redis+cluster://h/1",
        "redis://a:6379,",
        "'redis://h'",
    ],
)
def test_an_address_that_is_none_is_named_with_the_right_forms(address: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_addresses(RedisSettings(address=address))
    text = str(caught.value)
    assert "engine.redis.address" in text
    assert "redis://127.0.0.1:6379/0" in text
    assert "redis+cluster://" in text
    assert "secret" not in text


@pytest.mark.parametrize("address", ["redis:/h", "rediss//h", "redis+sentinel:/h", "unix:/run/redis.sock"])
def test_a_scheme_without_its_two_slashes_is_said_to_be_so(address: str) -> None:
    with pytest.raises(SettingsError, match=re.escape("(what comes first ends with ://, ")):
        read_addresses(RedisSettings(address=address))


def test_a_host_may_be_called_as_a_scheme() -> None:
    [place] = read_addresses(RedisSettings(address="redis/3"))
    assert isinstance(place, Endpoint)
    assert (place.host, place.db) == ("redis", 3)


def test_quotation_marks_are_told() -> None:
    with pytest.raises(SettingsError, match="quotation marks"):
        read_addresses(RedisSettings(address="'redis://h'"))


def test_a_scheme_that_is_none_is_named_whole() -> None:
    with pytest.raises(SettingsError, match=re.escape("(redis+unix://... is no form of address)")):
        read_addresses(RedisSettings(address="redis+unix:///run/redis.sock"))


@pytest.mark.parametrize(
    "address",
    [
        "redis://user:secret@h",
        "redis://:secret@h:1/2",
        "redis://u:secret@2@h",
        "redis://:secret/3@h",
        "user:secret@h",
        "redis://h?password=secret&db=1",
        "redis+sentinel://:secret@h?sentinel_password=secret&addr=b",
        "redis://:secret secret@h",
        "redis://:secret,secret@h",
        "redis://:secret@h,redis://u:secret@i?password=secret",
        "redis://h?Password=secret&pass=secret",
        "unix://:secret@/run/h.sock?password=secret",
    ],
)
def test_no_secret_is_shown(address: str) -> None:
    assert "secret" not in masked(address)
    assert "h" in masked(address)
    for kept in (repr(RedisSettings(address=address)), repr(RedisSettings(address=[address, address]))):
        assert "secret" not in kept


def test_no_secret_is_in_the_repr_of_what_is_made_of_it() -> None:
    settings = RedisSettings(address="redis://u:secret@h", password="secret", sentinel_password="secret")
    assert (
        "secret"
        not in f"{settings!r} {settings} {read_addresses(settings)} {[vars(shard) for shard in open_shards(settings)]}"
    )
    keys = Settings(client={"token": {"hmac_secret_key": "known"}}, http_api={"key": "known"})
    assert "known" not in repr(keys)
