"""A file written for Centrifugo v6 starts the gateway, or is told what it wants that there is not."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.config import centrifugo
from gateway.config.contradictions import find_warnings
from gateway.config.fields import fields
from gateway.config.settings import Settings
from gateway.config.sources import load
from gateway.errors import SettingsError
from gateway.redis.address import ClusterSeeds, SentinelGroup, read_addresses
from gateway.serve.cli import app

ALL = Path(__file__).parent / "centrifugo" / "defaults.json"
"""Every setting of Centrifugo 6.9 at its default, as its command ``defaultconfig`` writes it."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


def loaded(file: Path, **sections: Any) -> Settings:
    file.write_text(json.dumps(sections))
    return load(file, environ={})


def complaint(file: Path, **sections: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        loaded(file, **sections)
    return str(caught.value)


def test_a_usual_file_starts_the_gateway(file: Path) -> None:
    settings = loaded(
        file,
        client={
            "token": {"hmac_secret_key": "6c1f9e0b4a7d4f0e8f3a2b1c0d9e8f7a", "audience": "app"},
            "subscription_token": {"enabled": True, "hmac_secret_key": "a7f8e9d0c1b2a3f8e0f4d7a4b0e9f1c6"},
            "allowed_origins": ["https://app.example.com"],
            "concurrency": 8,
            "presence_update_interval": "27s",
        },
        channel={
            "without_namespace": {"presence": True},
            "namespaces": [{"name": "chat", "history_size": 100, "history_ttl": "300s", "force_recovery": True}],
        },
        http_api={"key": "0d9e8f7a6c1f9e0b4a7d4f0e8f3a2b1c", "external": True},
        engine={"type": "redis", "redis": {"address": "redis://127.0.0.1:6379", "presence_ttl": "60s"}},
        websocket={"message_size_limit": 131072, "handler_prefix": "/connection/websocket"},
        shutdown={"timeout": "20s"},
        usage_stats={"disabled": True},
        log={"level": "trace"},
    )
    assert settings.client.message_size_limit == 131072
    assert settings.shutdown.drain_time == 20
    assert settings.channel.namespaces[0].force_recovery
    assert settings.log.level == "debug"
    assert any("5 settings of the file are Centrifugo's" in each for each in find_warnings(settings))


def test_backends_that_decide_are_asked_as_there(file: Path) -> None:
    backend = "http://127.0.0.1:3000/centrifugo"
    settings = loaded(
        file,
        client={"proxy": {"connect": {"enabled": True, "endpoint": f"{backend}/connect", "http_headers": ["Cookie"]}}},
        channel={"namespaces": [{"name": "chat", "subscribe_proxy_enabled": True, "subscribe_proxy_name": "chats"}]},
        rpc={"proxy": {"endpoint": f"{backend}/rpc"}, "without_namespace": {"proxy_enabled": True}},
        proxies=[{"name": "chats", "endpoint": f"{backend}/subscribe", "timeout": "3s", "grpc_metadata": ["x"]}],
    )
    assert settings.client.proxy.connect.http_headers == ("Cookie",)
    assert settings.proxies[0].timeout == 3
    assert settings.channel.namespaces[0].subscribe_proxy_name == "chats"


def test_every_setting_at_its_default_makes_no_difference(tmp_path: Path) -> None:
    settings = load(ALL, environ={})
    assert settings.channel.namespaces == ()
    assert not settings.http_api.insecure


def test_no_setting_of_ours_is_passed_over() -> None:
    for key in fields():
        general = centrifugo._general(key)
        assert not any(general in table for table in (centrifugo.MISSING, centrifugo.NEEDLESS, centrifugo.MOVED)), key


@pytest.mark.parametrize("key", centrifugo.MISSING, ids=str)
def test_what_there_is_not_stops_the_start_and_says_what_to_do(file: Path, key: str) -> None:
    *sections, last = key.replace("*.", "websocket.").replace("namespaces", "without_namespace").split(".")
    wanted: Any = {last: [{"name": "x", "enabled": True}] if key == "consumers" else "x"}
    for section in reversed(sections):
        wanted = {section: wanted}
    told = complaint(file, **wanted)
    assert centrifugo.MISSING[key] in told
    assert f"(file {file})" in told


@pytest.mark.parametrize(
    "sections",
    [
        {"consumers": [{"name": "x", "enabled": False}]},
        {"consumers": []},
        {"uni_grpc": {"enabled": False, "port": 11000}},
        {"pid_file": ""},
        {"channel": {"namespaces": [{"name": "chat", "subscription_type": "stream"}]}},
        {"map_broker": {"type": "memory", "redis": {"prefix": "x"}}},
        {"broker": {"enabled": False, "type": "nats", "nats": {"url": "nats://127.0.0.1:4222"}}},
    ],
    ids=str,
)
def test_what_is_off_stops_nothing(file: Path, sections: dict[str, Any]) -> None:
    assert loaded(file, **sections).engine.type == "memory"


def test_what_is_wanted_of_a_namespace_is_told_with_its_place(file: Path) -> None:
    told = complaint(
        file, channel={"namespaces": [{"name": "one"}, {"name": "two", "subscribe_stream_proxy_enabled": True}]}
    )
    assert "channel.namespaces.1.subscribe_stream_proxy_enabled" in told


def test_all_that_is_wrong_is_told_at_once(file: Path) -> None:
    told = complaint(file, pid_file="/run/x.pid", http_server={"prot": 1}).splitlines()
    assert len(told) == 2
    assert "pid_file" in told[0]
    assert "http_server.prot" in told[1]


def test_the_format_of_data_holds_for_all_namespaces_but_those_with_their_own(file: Path) -> None:
    namespaces = [{"name": "one"}, {"name": "two", "publication_data_format": "binary"}]
    channel = loaded(file, channel={"publication_data_format": "json", "namespaces": namespaces}).channel
    formats = [each.publication_data_format for each in (channel.without_namespace, *channel.namespaces)]
    assert formats == ["json", "json", "binary"]


@pytest.mark.parametrize(
    ("redis", "address"),
    [
        ({"address": ["10.0.0.1:6379"], "db": 3}, ("redis://10.0.0.1:6379/3",)),
        ({"db": 3}, ("redis://127.0.0.1:6379/3",)),
        ({"address": "redis://10.0.0.1:6379/2", "db": 3}, ("redis://10.0.0.1:6379/2",)),
        ({"address": ["redis://a:1", "b:2"], "db": 0}, ("redis://a:1", "b:2")),
    ],
    ids=str,
)
def test_the_database_of_redis_joins_its_addresses(file: Path, redis: dict[str, Any], address: Any) -> None:
    assert loaded(file, engine={"type": "redis", "redis": redis}).engine.redis.addresses == address


def test_a_cluster_and_sentinels_are_addresses(file: Path) -> None:
    servers = ["10.0.0.1:7000,10.0.0.2:7000", "10.1.0.1:7000"]
    settings = loaded(file, engine={"type": "redis", "redis": {"cluster_address": servers}})
    first, second = read_addresses(settings.engine.redis)
    assert isinstance(first, ClusterSeeds)
    assert [each.host for each in first.seeds] == ["10.0.0.1", "10.0.0.2"]
    assert isinstance(second, ClusterSeeds)
    redis = {"sentinel_address": ["s1:26379,s2:26379"], "sentinel_master_name": "main", "db": 1}
    [group] = read_addresses(loaded(file, engine={"type": "redis", "redis": redis}).engine.redis)
    assert isinstance(group, SentinelGroup)
    assert (group.master_name, len(group.sentinels), group.master.db) == ("main", 2, 1)


def test_presence_has_a_redis_of_its_own(file: Path) -> None:
    manager = {"enabled": True, "type": "redis", "redis": {"address": "redis://10.0.0.9:6379", "prefix": "p"}}
    settings = loaded(file, engine={"type": "redis"}, presence_manager=manager)
    assert (settings.presence.enabled, settings.presence.redis.prefix) == (True, "p")
    assert settings.presence.redis.addresses == ("redis://10.0.0.9:6379",)


def test_ours_has_the_last_word_where_both_names_stand(file: Path) -> None:
    settings = loaded(file, websocket={"message_size_limit": 1000}, client={"message_size_limit": 2000})
    assert settings.client.message_size_limit == 2000


def test_the_command_prints_a_file_of_ours(file: Path, tmp_path: Path) -> None:
    file.write_text(json.dumps({"websocket": {"message_size_limit": 1000}, "usage_stats": {"disabled": True}}))
    result = CliRunner().invoke(app, ["config", "import", str(file)])
    assert result.exit_code == 0
    ours = tmp_path / "gateway.yaml"
    ours.write_text(result.stdout)
    assert load(ours, environ={}).client.message_size_limit == 1000
    assert "websocket.message_size_limit is client.message_size_limit here" in result.stderr
    assert "usage_stats.disabled makes no difference" in result.stderr


def test_the_command_tells_what_it_leaves_out(file: Path) -> None:
    file.write_text(json.dumps({"grpc_api": {"enabled": True}, "node": {"name": "a"}}))
    result = CliRunner().invoke(app, ["config", "import", str(file)])
    assert result.exit_code == 1
    assert "MISSING grpc_api.enabled" in result.stderr
    assert "name: a" in result.stdout
    told = json.loads(CliRunner().invoke(app, ["config", "import", str(file), "--json"]).stdout)
    assert told["values"] == {"node.name": "a"}
    assert list(told["missing"]) == ["grpc_api.enabled"]


def test_import_says_what_keeps_the_printed_file_from_starting(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("proxies: [{name: billing, endpoint: 'grpc://billing:9000'}]\nclient: {pingInterval: 25s}\n")
    result = CliRunner().invoke(app, ["config", "import", str(file)])
    assert result.exit_code == 1
    told = result.stderr.splitlines()
    assert [line.partition(" ")[0] for line in told] == ["WRONG"]
    assert "client.pingInterval" in told[0]
    file.write_text("proxies: [{name: billing, endpoint: 'grpc://billing:9000'}]\n")
    result = CliRunner().invoke(app, ["config", "import", str(file), "--json"])
    assert result.exit_code == 1
    [problem] = json.loads(result.stdout)["problems"]
    assert "GRPC is not spoken" in problem
