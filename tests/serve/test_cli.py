"""The command line, in process against scripted servers, and as a process against the real one."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

import jwt
import pytest
import yaml
from typer.testing import CliRunner, Result
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from gateway import __version__
from gateway.config.settings import Settings
from gateway.config.sources import load
from gateway.config.weak import DEV_SECRET
from gateway.serve import cli
from gateway.serve.app import create_app
from gateway.serve.listening import ServeError
from tests import forked
from tests.redis_server import RedisServer
from tests.redis_topologies import SentinelTopology

SECRET = "a-secret-of-sufficient-length-for-hs256"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GATEWAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("gateway.serve.listen.FIRST_PAUSE", 0.01)


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments), env=environment)


def claims(token: str, secret: str = SECRET) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(token.strip(), secret, algorithms=["HS256"], options={"verify_aud": False})
    return found


# — the whole —


def test_the_version_is_shown() -> None:
    assert run("--version").output == f"gateway {__version__}\n"


def test_redis_of_another_kind_is_told_without_a_traceback() -> None:
    with RedisServer() as server:
        address = f"127.0.0.1:{server.port}"
        ended = forked.run("gateway", ["serve", "--port", "0", "--redis-url", f"redis+cluster://{address}"])
    assert ended.returncode == 2
    assert f"is no part of a cluster; write its address as redis://{address}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_help_names_every_command() -> None:
    output = run("--help").output
    assert all(name in output for name in ("serve", "token", "publish", "listen", "info", "config", "bench"))


def test_the_module_runs_the_command_line() -> None:
    done = subprocess.run([sys.executable, "-m", "gateway", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"gateway {__version__}\n"


# — serve —


def test_serve_takes_its_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[tuple[Settings, Any, Any]] = []
    monkeypatch.setattr(cli, "serve", lambda *given: served.append(given))
    flags = ["--host", "::1", "--port", "81", "--workers", "2", "--redis-url", "redis://r:1"]
    assert run("serve", *flags, GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY=SECRET).exit_code == 0
    [(settings, factory, reload)] = served
    assert factory is create_app
    assert (reload.func, reload.args[1]["http_server.workers"]) == (load, 2)
    assert (settings.http_server.address, settings.http_server.port, settings.http_server.workers) == ("::1", 81, 2)
    assert (settings.engine.type, settings.engine.redis.address) == ("redis", "redis://r:1")


def test_serve_tells_bad_settings_and_failures_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = run("serve", "--dev", "--host", "0.0.0.0")
    assert (bad.exit_code, bad.stderr.count("\n")) == (2, 1)
    assert "loopback" in bad.stderr

    def fail(*_: object) -> None:
        raise ServeError("cannot listen")

    monkeypatch.setattr(cli, "serve", fail)
    failed = run("serve", "--dev")
    assert (failed.exit_code, failed.stderr) == (1, "gateway: cannot listen\n")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_address_of_another_kind_ends_serve_in_words(shared_group: SentinelTopology, workers: str) -> None:
    place = shared_group.sentinels[0].address
    environment = {**os.environ, "GATEWAY_REDIS_URL": f"redis://{place}"}
    done = forked.run("gateway", ["serve", "--dev", "--port", "0", "--workers", workers], environment)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if "INFO" not in line and "INSECURE" not in line]
    right = f"redis+sentinel://{place}?sentinel_master_name=mymaster"
    assert lines == [
        f"gateway: the server at {place} is a Sentinel; write its address as {right} "
        "(engine.redis.address, for short GATEWAY_REDIS_URL)"
    ]


# — token —


def test_a_connection_token_is_minted() -> None:
    result = run("token", "--user", "7", "--ttl", "10m", GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY=SECRET)
    found = claims(result.output)
    assert found["sub"] == "7"
    assert found["exp"] - found["iat"] == 600
    assert "channel" not in found


def test_a_subscription_token_is_minted() -> None:
    result = run("token", "-u", "7", "--channel", "$a", "--ttl", "0", GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY=SECRET)
    found = claims(result.output)
    assert (found["sub"], found["channel"]) == ("7", "$a")
    assert "exp" not in found


def test_tokens_of_another_issuer_are_not_minted() -> None:
    endpoint = "https://issuer.example.com/jwks"
    result = run("token", "--user", "7", GATEWAY_CLIENT__TOKEN__JWKS_PUBLIC_ENDPOINT=endpoint)
    assert result.exit_code == 2
    assert "client.token.jwks_public_endpoint is set, so that only its issuer can sign tokens" in result.output


def test_tokens_meet_what_the_settings_require(tmp_path: Path) -> None:
    file = tmp_path / "gateway.json"
    token = {"hmac_secret_key": SECRET, "issuer": "me", "audience": "you", "user_id_claim": "uid"}
    subscription = {"enabled": True, "hmac_secret_key": SECRET[::-1]}
    file.write_text(json.dumps({"client": {"token": token, "subscription_token": subscription}}))
    found = claims(run("token", "-u", "7", "-c", str(file)).output)
    assert (found["iss"], found["aud"], found["uid"]) == ("me", "you", "7")
    assert claims(run("token", "-u", "7", "--channel", "a", "-c", str(file)).output, SECRET[::-1])["channel"] == "a"


def test_dev_mode_has_a_secret() -> None:
    assert claims(run("token", "-u", "7", "--dev").output, DEV_SECRET)["sub"] == "7"


def test_without_secret_it_is_told_what_to_set() -> None:
    result = run("token", "-u", "7")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY" in result.stderr


def test_a_life_time_must_be_a_duration() -> None:
    result = run("token", "-u", "7", "--ttl", "soon", "--dev")
    assert result.exit_code == 2
    assert "--ttl" in result.stderr


def test_a_token_may_be_json() -> None:
    result = run("token", "-u", "7", "--ttl", "1m", "--json", GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY=SECRET)
    found = json.loads(result.stdout)
    assert claims(found.pop("token"))["exp"] == found.pop("expire_at")
    assert found == {"user": "7", "channel": None}
    endless = run("token", "-u", "7", "--ttl", "0", "--channel", "a", "--dev", "--json")
    assert {**json.loads(endless.stdout), "token": ""} == {"token": "", "user": "7", "channel": "a", "expire_at": 0}


def test_named_secrets_sign() -> None:
    keys = {"GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEYS__A": SECRET, "GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEYS__B": "other"}
    assert claims(run("token", "-u", "7", **keys).output)["sub"] == "7"


@pytest.mark.parametrize("command", [["token", "-u", "7", "--channel", ""], ["publish", "", "1"], ["listen", ""]])
def test_a_channel_has_a_name(command: list[str]) -> None:
    result = run(*command, "--dev")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "a channel has a name" in result.stderr


def test_a_failure_is_json_where_that_is_asked_for() -> None:
    result = run("token", "-u", "7", "--json")
    told = json.loads(result.stdout)["error"]
    assert told["exit_code"] == result.exit_code == 2
    assert result.stderr == f"gateway: {told['message']}\n"


# — publish and info, against a scripted API —


class Api(ThreadingHTTPServer):
    """Answers each call with the next of its answers and keeps what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), ApiHandler)
        self.answers: list[tuple[int, bytes]] = []
        self.asked: list[tuple[str, str | None, bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class ApiHandler(BaseHTTPRequestHandler):
    server: Api

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, self.headers["X-API-Key"], body))
        status, answer = self.server.answers.pop(0)
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_json_is_published_as_it_stands(api: Api) -> None:
    api.answers = [(200, b'{"result":{"offset":1,"epoch":"e"}}')]
    result = run("publish", "chat:a", '{"n":12345678901234567890, "a":1.10}', "--url", api.url + "/", "--key", "k")
    assert (result.exit_code, result.stdout, result.stderr) == (0, '{"offset":1,"epoch":"e"}\n', "")
    body = b'{"channel":"chat:a","data":{"n":12345678901234567890, "a":1.10}}'
    assert api.asked == [("/api/publish", "k", body)]


def test_text_is_published_as_a_string_and_said_so(api: Api) -> None:
    api.answers = [(200, b'{"result":{}}')]
    result = run("publish", "a", 'say "hi"', "--url", api.url, GATEWAY_HTTP_API__KEY="secret-key")
    assert (result.exit_code, result.stderr) == (0, "not JSON, sent as a string\n")
    assert api.asked == [("/api/publish", "secret-key", rb'{"channel":"a","data":"say \"hi\""}')]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ((401, b""), "refuses the API key"),
        ((500, b""), "answers with HTTP 500; give its address with --url\n"),
        ((200, b"<html>"), "; give its address with --url"),
        ((200, b"[]"), "its answer is no object; give its address with --url"),
        ((200, b'{"error":{"code":102,"message":"unknown channel"}}'), "publish: unknown channel (102)"),
    ],
)
def test_a_publish_that_fails_is_told(api: Api, answer: tuple[int, bytes], text: str) -> None:
    api.answers = [answer]
    result = run("publish", "a", "1", "--url", api.url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert text in result.stderr


@pytest.mark.parametrize("path", ["", "/", "/api", "/api/publish", "/connection/websocket"])
@pytest.mark.parametrize("scheme", ["http://", "ws://", ""])
def test_the_address_may_be_any_that_is_printed(api: Api, scheme: str, path: str) -> None:
    api.answers = [(200, b'{"result":{}}')]
    result = run("publish", "a", "1", "--url", f"{scheme}127.0.0.1:{api.server_port}{path}")
    assert (result.exit_code, api.asked[0][0]) == (0, "/api/publish")


def test_a_key_may_be_one_of_several(api: Api) -> None:
    api.answers = [(200, b'{"result":{}}')]
    assert run("publish", "a", "1", "--url", api.url, GATEWAY_HTTP_API__KEYS__BILLING="a named key").exit_code == 0
    assert api.asked[0][1] == "a named key"


def test_a_key_that_no_header_can_have_is_told() -> None:
    result = run("publish", "a", "1", "--url", "127.0.0.1:1", "--key", "鍵")
    assert (result.exit_code, "cannot be sent" in result.stderr) == (1, True)


def test_a_password_in_the_address_stays_out_of_failures() -> None:
    result = run("publish", "a", "1", "--url", "http://u:hidden@127.0.0.1:1")
    assert (result.exit_code, "hidden" in result.output) == (1, False)


def test_the_address_comes_from_the_settings() -> None:
    result = run("publish", "a", "1", GATEWAY_HTTP_SERVER__PORT="1")
    assert result.exit_code == 1
    assert result.stderr.startswith("gateway: http://127.0.0.1:1 does not answer")


def test_nodes_are_shown(api: Api) -> None:
    api.answers = [(200, b'{"result":{"nodes":[{"name":"node-a","num_clients":42}]}}')]
    result = run("info", "--url", api.url)
    assert result.exit_code == 0
    assert "node-a" in result.output
    assert "42" in result.output


def test_nodes_may_be_json(api: Api) -> None:
    api.answers = [(200, b'{"result":{"nodes":[{"name":"node-a"}]}}'), (200, b'{"result":{"nodes":null}}')]
    assert json.loads(run("info", "--url", api.url, "--json").stdout) == {"nodes": [{"name": "node-a"}]}
    assert run("info", "--url", api.url).exit_code == 0


# — listen, against a scripted server —

Script = Callable[[ServerConnection], None]

CONNECTED = '{"id":1,"connect":{"client":"c","pong":true}}'
SUBSCRIBED = '{"id":2,"subscribe":{}}'


class Scripted:
    """A WebSocket server that plays a script for each connection in turn, then ends with 3500."""

    def __init__(self) -> None:
        self.scripts: list[Script] = []
        self.commands: list[list[dict[str, Any]]] = []
        self.pongs: list[str | bytes] = []
        self._server = serve(self._handle, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()

    def _handle(self, connection: ServerConnection) -> None:
        self.commands.append([json.loads(line) for line in str(connection.recv()).splitlines()])
        if self.scripts:
            self.scripts.pop(0)(connection)
        connection.close(3500, "invalid token")


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    server = Scripted()
    yield server
    server.close()


def says(*messages: str, code: int = 3001) -> Script:
    def play(connection: ServerConnection) -> None:
        for message in messages:
            connection.send(message)
        connection.close(code, "as scripted")

    return play


def test_publications_are_printed_one_a_line(scripted: Scripted) -> None:
    recovered = '{"id":2,"subscribe":{"publications":[{"data":{"n":0}}]}}'
    first = '{"push":{"channel":"a","pub":{"data":{"n":1}}}}'
    second = '{"push":{"channel":"a","pub":{"data":"two"}}}'
    scripted.scripts = [says(f"{CONNECTED}\n{recovered}", first, second, code=3500)]
    result = run("listen", "a", "--url", scripted.url, "--dev", "--user", "7")
    assert result.stdout == '{"n":0}\n{"n":1}\n"two"\n'
    assert result.exit_code == 1
    assert result.stderr == "subscribed to a\ngateway: closed by the server: as scripted (3500)\n"
    [[connecting, subscribing]] = scripted.commands
    assert claims(connecting["connect"]["token"], DEV_SECRET)["sub"] == "7"
    assert claims(subscribing["subscribe"]["token"], DEV_SECRET)["channel"] == "a"


def test_it_returns_when_it_may(scripted: Scripted) -> None:
    temporary = '{"id":1,"error":{"code":100,"message":"internal","temporary":true}}'
    unsubscribed = '{"push":{"channel":"a","unsubscribe":{"code":2500,"reason":"insufficient state"}}}'

    def vanish(connection: ServerConnection) -> None:
        connection.socket.shutdown(2)

    scripted.scripts = [says(CONNECTED, SUBSCRIBED), says(temporary), says(CONNECTED, SUBSCRIBED, unsubscribed), vanish]
    result = run("listen", "a", "--url", scripted.url, "--dev")
    assert len(scripted.commands) == 5
    assert "closed: as scripted (3001)" in result.stderr
    assert "closed: connection lost (1006)" in result.stderr
    assert result.stderr.endswith("gateway: closed by the server: invalid token (3500)\n")


def test_pings_are_answered_when_asked_for(scripted: Scripted) -> None:
    def ping(connection: ServerConnection) -> None:
        connection.send(CONNECTED)
        connection.send("{}")
        scripted.pongs.append(connection.recv(timeout=5))

    def ping_without_pong(connection: ServerConnection) -> None:
        connection.send('{"id":1,"connect":{"client":"c"}}')
        connection.send("{}")
        connection.close(3001, "shutdown")
        scripted.pongs.extend(connection)

    scripted.scripts = [ping_without_pong, ping]
    run("listen", "a", "--url", scripted.url, "--dev")
    assert scripted.pongs == ["{}"]


@pytest.mark.parametrize(("flags", "shown"), [(["--verbose"], True), ([], False)])
def test_joins_and_leaves_are_told_when_asked_for(scripted: Scripted, flags: list[str], shown: bool) -> None:
    join = '{"push":{"channel":"a","join":{"info":{"user":"7","client":"c1"}}}}'
    leave = '{"push":{"channel":"a","leave":{"info":{"user":"","client":"c2"}}}}'
    scripted.scripts = [says(CONNECTED, join, leave, code=3500)]
    result = run("listen", "a", "--url", scripted.url, "--dev", *flags)
    assert ("7 joins (c1)\nanonymous leaves (c2)\n" in result.stderr) is shown


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ('{"id":1,"error":{"code":101,"message":"unauthorized"}}', "connect: unauthorized (101)"),
        ('{"id":2,"error":{"code":103,"message":"permission denied"}}', "subscribe: permission denied (103)"),
        ('{"push":{"unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}', "server unsubscribe (2000)"),
    ],
)
def test_it_ends_when_it_may_not_return(scripted: Scripted, message: str, text: str) -> None:
    scripted.scripts = [says(message)]
    result = run("listen", "a", "--url", scripted.url, "--dev")
    assert (result.exit_code, len(scripted.commands)) == (1, 1)
    assert text in result.stderr


@pytest.mark.parametrize(
    "message", ["no json", "[]", '{"id":3,"push":{"pub":{}}}', '{"error":{"code":1,"message":"no id"}}', '"text"', "5"]
)
def test_what_is_no_gateway_is_told(scripted: Scripted, message: str) -> None:
    scripted.scripts = [says(message)]
    result = run("listen", "a", "--url", scripted.url, "--dev")
    assert (result.exit_code, len(scripted.commands)) == (1, 1)
    assert f"does not speak as a gateway does: {message}" in result.stderr


def test_publications_may_be_whole(scripted: Scripted) -> None:
    publication = '{"push":{"channel":"a","pub":{"data":{"n":1},"offset":7}}}'
    join = '{"push":{"channel":"a","join":{"info":{"user":"7","client":"c1"}}}}'
    scripted.scripts = [says(CONNECTED, SUBSCRIBED, publication, join, code=3500)]
    result = run("listen", "a", "--url", scripted.url, "--dev", "--json", "--verbose")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"publication": {"data": {"n": 1}, "offset": 7}},
        {"join": {"user": "7", "client": "c1"}},
        {"error": {"message": "closed by the server: as scripted (3500)", "exit_code": 1}},
    ]


class Refusing(ThreadingHTTPServer):
    """Answers each handshake with the next of its statuses."""

    def __init__(self, *statuses: int) -> None:
        super().__init__(("127.0.0.1", 0), RefusingHandler)
        self.statuses = list(statuses)


class RefusingHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Refusing

    def do_GET(self) -> None:
        if status := self.server.statuses.pop(0) if self.server.statuses else 410:
            self.send_error(status)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("statuses", "text"),
    [
        ([403], "answers with HTTP 403: it, or something in front of it, does not let you in"),
        ([404], "give its own with --url"),
        ([426], "lets no WebSocket through"),
        ([418], "it will not have this connection"),
        ([499], "it will not have this connection"),
        ([200], "answers with HTTP 200: it speaks no WebSocket there"),
        ([0, 503, 429, 502, 401], "answers with HTTP 401: something in front of it wants to know who you are"),
    ],
)
def test_what_is_refused_for_good_is_not_asked_for_again(statuses: list[int], text: str) -> None:
    with Refusing(*statuses) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            result = run("listen", "a", "--url", f"127.0.0.1:{server.server_port}", "--dev")
        finally:
            server.shutdown()
            thread.join()
    assert (result.exit_code, server.statuses) == (1, [])
    assert text in result.stderr.splitlines()[-1]
    assert len(result.stderr.splitlines()) == len(statuses)


def test_an_answer_that_is_no_http_is_not_asked_for_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as sock:
                sock.recv(65536)
                sock.sendall(b"SSH-2.0-OpenSSH\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        result = run("listen", "a", "--url", f"127.0.0.1:{server.getsockname()[1]}", "--dev")
        thread.join()
    assert (result.exit_code, "does not speak WebSocket" in result.stderr) == (1, True)


@pytest.mark.parametrize("command", [["listen", "a"], ["publish", "a", "1"], ["info"], ["bench"]])
def test_an_address_that_is_none_is_told(command: list[str]) -> None:
    result = run(*command, "--url", "ftp://example.com", "--dev")
    assert result.exit_code == 2
    assert "ftp://example.com is not an address such as http://127.0.0.1:8000 or wss://" in result.stderr


# — config —


def test_settings_are_checked(tmp_path: Path) -> None:
    result = run("config", "check", GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY=SECRET)
    assert result.output == "The settings are correct.\n"
    result = run("config", "check")
    assert "nobody can connect: give client.token.hmac_secret_key" in result.stderr
    assert result.stdout == "The settings are correct.\n"
    file = tmp_path / "gateway.toml"
    file.write_text("[http_server]\nprot = 1\n")
    result = run("config", "check", "--config", str(file))
    assert result.exit_code == 2
    assert re.match(r"gateway: http_server\.prot = 1 .*did you mean http_server\.port", result.stderr)


def test_a_check_may_be_strict_and_json() -> None:
    weak = {"GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY": "change-me"}
    assert run("config", "check", **weak).exit_code == 0
    strict = run("config", "check", "--strict", "--json", **weak)
    found = json.loads(strict.stdout)
    assert (strict.exit_code, strict.stderr, found["correct"], found["problems"]) == (1, "", True, [])
    assert found["warnings"][0].startswith("client.token.hmac_secret_key is a word that everybody knows")
    wrong = run("config", "check", "--json", GATEWAY_PORT="x", GATEWAY_HTTP_SERVER__PORT="y")
    assert wrong.exit_code == 2
    assert len(json.loads(wrong.stdout)["problems"]) == 2


def test_settings_may_be_shown_as_json() -> None:
    shown = json.loads(run("config", "show", "--json", GATEWAY_HTTP_API__KEYS__A=SECRET).stdout)
    assert shown["http_api"]["keys"] == {"a": "***"}
    schema = json.loads(run("config", "schema", "--json").stdout)
    assert json.loads(run("config", "reference", "--json").stdout) == schema


def test_settings_may_be_shown_with_their_origins() -> None:
    given = {"GATEWAY_HTTP_API__KEYS__A": SECRET, "GATEWAY_NODE__NAME": "blue"}
    lines = run("config", "show", "--origins", **given).stdout.splitlines()
    assert 'node.name = "blue"  # environment GATEWAY_NODE__NAME' in lines
    assert 'http_api.keys.a = "***"  # environment GATEWAY_HTTP_API__KEYS__A' in lines
    assert "http_server.port = 8000  # default" in lines
    listed = json.loads(run("config", "show", "--origins", "--json", **given).stdout)["settings"]
    assert len(listed) == len(lines)
    assert listed[0] == {
        "key": "node.name",
        "value": "blue",
        "default": False,
        "origin": "environment GATEWAY_NODE__NAME",
    }


def test_the_sql_is_that_of_postgres() -> None:
    dsn = {"GATEWAY_ENGINE__TYPE": "postgres", "GATEWAY_ENGINE__POSTGRES__DSN": "postgres://127.0.0.1/app"}
    text = run("config", "sql", "--schema", "mine", **dsn).stdout
    assert "CREATE TABLE" in text
    assert json.loads(run("config", "sql", "--schema", "mine", "--json", **dsn).stdout)["sql"] == text.removesuffix(
        "\n"
    )
    wrong = run("config", "sql", **{**dsn, "GATEWAY_ENGINE__POSTGRES__DSN": "host=a password=hidden"})
    assert (wrong.exit_code, "hidden" in wrong.output) == (2, False)
    assert 'engine.type must be "postgres"' in run("config", "sql").stderr


def test_settings_are_shown_without_secrets() -> None:
    result = run("config", "show", GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY=SECRET)
    assert yaml.safe_load(result.output)["http_server"]["port"] == 8000
    assert SECRET not in result.output


def test_the_reference_is_markdown() -> None:
    assert run("config", "reference").output.startswith("# Settings\n")


def test_the_schema_is_json() -> None:
    assert "http_server" in json.loads(run("config", "schema").output)["properties"]


# — everything real —


def wait_for_line(stream: IO[str], pattern: str) -> re.Match[str]:
    seen = []
    for line in stream:
        seen.append(line)
        if match := re.search(pattern, line):
            return match
    raise AssertionError(f"no line like {pattern!r} in {seen}")


@contextmanager
def start(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "gateway", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def interrupt(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    return process.returncode


def test_what_a_client_publishes_is_heard() -> None:
    with start("serve", "--dev", "--port", "0") as server:
        assert server.stderr is not None
        wait_for_line(server.stderr, "INSECURE")
        url = wait_for_line(server.stderr, r"ready on .*(ws://\S+)")[1]
        with start("listen", "lobby", "--dev", "--url", url) as listener:
            assert listener.stderr is not None
            assert listener.stdout is not None
            wait_for_line(listener.stderr, "subscribed to lobby")
            with connect(url, proxy=None) as client:
                client.send('{"id":1,"connect":{}}\n{"id":2,"publish":{"channel":"lobby","data":{"text":"hi"}}}')
                wait_for_line(listener.stdout, r'{"text":"hi"}')
            assert interrupt(listener) == 0
        assert interrupt(server) == 0


def test_listening_waits_for_a_server() -> None:
    with start("listen", "lobby", "--dev", "--url", "ws://127.0.0.1:1") as listener:
        assert listener.stderr is not None
        wait_for_line(listener.stderr, "ws://127.0.0.1:1/connection/websocket: ")
        assert interrupt(listener) == 0


def test_text_that_is_none_is_told() -> None:
    result = CliRunner().invoke(cli.app, ["token", "--dev", "--user", "\udcff"])
    assert result.exit_code == 2
    assert "cannot be used" in result.output
