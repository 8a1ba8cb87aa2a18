"""The command, and all of it together."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway import Settings
from gateway.auth.tokens import sign_connection
from gateway.config.settings import RedisSettings
from gateway.doctor.examination import Patient, examine
from gateway.doctor.finding import Level
from gateway.redis.opening import open_shards
from gateway.serve import cli
from gateway.serve.app import create_app
from tests.doctor.looking import bad, one
from tests.redis_server import RedisServer
from tests.serving import on_uvicorn

SECRET = "one of more than thirty-two letters"

GOOD = f"""
[client]
allowed_origins = ["https://a.example"]
connection_limit = 10
[client.token]
hmac_secret_key = "{SECRET}"
"""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GATEWAY_")]:
        monkeypatch.delenv(name)


def run(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(cli.app, ["doctor", *arguments], input=stdin)


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "gateway.toml"
    path.write_text(GOOD)
    return str(path)


def test_nothing_is_wrong(config: str) -> None:
    result = run("-c", config, "--origin", "https://a.example", "--token", sign_connection(SECRET, "ann"))
    assert result.exit_code == 0
    assert "OK       settings: no contradictions" in result.output
    assert "OK       origin https://a.example: pages of it may connect" in result.output
    assert 'OK       token: lets the user "ann" connect' in result.output


def test_something_should_be_otherwise() -> None:
    result = run()
    assert result.exit_code == 1
    assert "WARNING  settings: nobody can connect" in result.output


def test_something_does_not_work(config: str) -> None:
    result = run("-c", config, "--json", "--token", "-", stdin=f"{sign_connection('b' * 32, 'ann')}\n")
    assert result.exit_code == 2
    found = json.loads(result.output)
    assert found["status"] == "problem"
    assert [finding["about"] for finding in found["findings"] if finding["level"] == "problem"] == ["token"]


def test_no_token_on_stdin(config: str) -> None:
    result = run("-c", config, "--token", "-")
    assert (result.exit_code, "token" in result.output) == (0, False)


def test_settings_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("[client]\nconnection_limit = -1\n[channel.without_namespace]\nhistory_sise = 3\n")
    result = run("-c", str(path), "--json")
    assert result.exit_code == 2
    assert {finding["about"] for finding in json.loads(result.output)["findings"]} == {"settings"}
    assert "connection_limit" in result.output


def test_an_address_that_is_none(config: str) -> None:
    result = run("-c", config, "--url", "ftp://a.example")
    assert (result.exit_code, "ftp://a.example is no address" in result.output) == (2, True)


def test_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "patient.py").write_text(
        "from gateway import Gateway\n"
        "gateway = Gateway(client={'insecure': True, 'connection_limit': 10})\n"
        "gateway.channel('{kind}:lobby')\n"
        "gateway.channel('chat:{room}')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    result = run("patient:gateway", "--origin", "http://127.0.0.1:8000")
    assert result.exit_code == 1
    assert "WARNING  channel chat:{room}: some of its names, such as chat:lobby" in result.output
    assert "OK       origin http://127.0.0.1:8000: pages of it may connect" in result.output  # it is the program's own
    missing = run("patient:nobody")
    assert (missing.exit_code, "PROBLEM  settings: patient has no nobody" in missing.output) == (2, True)


# — nodes —


def patient(settings: Settings, **given: Any) -> Patient:
    return Patient(settings, "127.0.0.1:8000", **given)


def make_settings(**sections: Any) -> Settings:
    client: Any = {"token": {"hmac_secret_key": SECRET}, "connection_limit": 10}
    return Settings(client=client, http_api={"key": "one of more than sixteen letters"}, **sections)


async def test_nodes_that_know_each_other(server: RedisServer) -> None:
    settings = make_settings(engine={"type": "redis", "redis": {"address": server.url}})
    async with on_uvicorn(create_app(settings), settings) as port:
        found = await examine(patient(settings, url=f"http://127.0.0.1:{port}", token=sign_connection(SECRET, "a")))
        assert one(found, "1 of them").level is Level.OK
        listening = await examine(patient(settings))
        assert one(listening, "1 of them").level is Level.OK


async def test_nodes_that_do_not_know_each_other(server: RedisServer) -> None:
    redis: Any = {"address": server.url}
    settings = make_settings(engine={"type": "redis", "redis": redis}, http_server={"workers": 2})
    [shard] = open_shards(RedisSettings(address=server.url))
    async with on_uvicorn(create_app(settings), settings) as port:
        url = f"http://127.0.0.1:{port}"
        found = await examine(patient(settings, url=url))
        assert one(found, "knows 1, with http_server.workers = 2").level is Level.PROBLEM
        await shard.start()
        await shard.listen(shard.keys.shared("control"), lambda _: None)
        found = await examine(patient(settings, url=url))
        assert one(found, "2 listen in Redis, and the one that was asked knows 1").level is Level.WARNING
        await shard.close()
        other = make_settings(engine={"type": "redis", "redis": redis | {"prefix": "other"}})
        found = await examine(patient(other, url=url))
        assert one(found, "knows 1, and 0 listen in the Redis of these settings").level is Level.PROBLEM


async def test_a_redis_for_presence_and_other_engines(server: RedisServer) -> None:
    presence: Any = {"enabled": True, "redis": {"address": "redis://127.0.0.1:1"}}
    settings = make_settings(engine={"type": "redis", "redis": {"address": server.url}}, presence=presence)
    away = [finding for finding in await examine(patient(settings)) if finding.about == "redis 127.0.0.1:1"]
    assert [finding.remedy for finding in away] == ["start it, or correct presence.redis.address"]
    postgres: Any = {"type": "postgres", "postgres": {"dsn": "postgres://a@127.0.0.1/x"}}
    found = await examine(patient(make_settings(engine=postgres)))
    assert one(found, "postgres: looked at in the settings alone").level is Level.NOTE
    assert bad(found) == []
