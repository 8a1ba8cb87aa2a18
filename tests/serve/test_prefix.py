"""A prefix behind proxies that strip it and proxies that do not; operators apart; the command line that finds both."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from gateway.config.settings import HTTPServerSettings, Settings
from gateway.errors import SettingsError
from gateway.serve.reaching import reach, websocket_url
from gateway.serve.site import INTERNAL, Part, Site, site
from tests.redis_server import RedisServer
from tests.serve.gateways import KEY, SECRET, Gateway, nginx

API = {"X-API-Key": KEY}


def connects(url: str, **options: Any) -> bool:
    try:
        with connect(url, proxy=None, **options) as client:
            client.ping().wait(10)
    except InvalidStatus as error:
        return {403: False, 404: False}[error.response.status_code]
    return True


# — a prefix —


def test_a_prefix_with_proxies_of_either_kind(tmp_path: Path) -> None:
    """As it is asked for directly, too: what the start prints answers, and the command line finds it."""
    with Gateway(tmp_path, {"root_path": "rt/"}) as gateway:
        port = gateway.port
        assert gateway.url == f"http://127.0.0.1:{port}/rt"
        assert gateway.ws_url == f"ws://127.0.0.1:{port}/rt/connection/websocket"
        gateway.write({"root_path": "rt/", "port": port})
        assert json.loads(gateway.run("publish", "news", "1")) == {}
        assert "Node" in gateway.run("info")
        listening = Gateway(tmp_path, {"root_path": "rt/", "port": port}, name="listen")
        listening.listen("news")
        with listening:
            listening.logged("subscribed to news")
        behind = f"http://127.0.0.1:{port}"
        strips = nginx(tmp_path, f"location /rt/ {{ proxy_pass {behind}/; }}", "strips")
        keeps = nginx(tmp_path, f"location /rt/ {{ proxy_pass {behind}; }}", "keeps")
        with strips as stripping, keeps as keeping:
            for front in (stripping, keeping, port):
                place = f"127.0.0.1:{front}/rt"
                assert connects(f"ws://{place}/connection/websocket")
                assert httpx.get(f"http://{place}/health/ready").json()["status"] == "ok"
                body = {"channel": "news", "data": 1}
                assert httpx.post(f"http://{place}/api/publish", json=body, headers=API).json() == {"result": {}}
        assert connects(f"ws://127.0.0.1:{port}/connection/websocket")
        assert not connects(f"ws://127.0.0.1:{port}/other/connection/websocket")
        assert not connects(f"ws://127.0.0.1:{port}/rtx/connection/websocket")


# — operators apart —


@pytest.mark.parametrize("workers", [1, 2])
def test_operators_apart(server: RedisServer, tmp_path: Path, workers: int) -> None:
    http = {"internal_port": 0, "internal_address": "127.0.0.1", "workers": workers, "root_path": "/rt"}
    with Gateway(tmp_path, http, server.url if workers > 1 else "") as gateway:
        inner = gateway.operators
        outer = f"http://127.0.0.1:{gateway.port}"
        for prefix in ("", "/rt"):
            for path in ("/health", "/health/ready", "/metrics", "/openapi.json", "/docs", "/api/info", "/admin"):
                assert httpx.get(f"{outer}{prefix}{path}").status_code == 404, path
                if path not in ("/api/info", "/admin"):
                    assert httpx.get(f"{inner.removesuffix('/rt')}{prefix}{path}").status_code == 200, path
            assert httpx.post(f"{outer}{prefix}/api/info", json={}, headers=API).status_code == 404
            assert httpx.post(f"{outer}{prefix}//api/info", json={}, headers=API).status_code == 404
            assert httpx.post(f"{outer}{prefix}/%61pi/info", json={}, headers=API).status_code == 404
            assert connects(f"ws://127.0.0.1:{gateway.port}{prefix}/connection/websocket")
        assert httpx.post(f"{inner}/api/info", json={}, headers=API).status_code == 200
        for path in ("/connection/websocket", "/api/info", "/"):
            assert not connects(f"ws{inner.removeprefix('http')}{path}")
        gateway.write({**http, "port": gateway.port, "internal_port": int(inner.split(":")[2].partition("/")[0])})
        gateway.run("publish", "news", "1")


def test_the_admin_page_is_for_operators_at_any_prefix(tmp_path: Path) -> None:
    """It is found from where it is opened, whether the proxy in front strips the prefix or not."""
    http = {"internal_port": 0, "internal_address": "127.0.0.1", "root_path": "/rt"}
    gateway = Gateway(tmp_path, http)
    gateway.start(GATEWAY_ADMIN__ENABLED="true", GATEWAY_ADMIN__PASSWORD=SECRET)
    with gateway:
        inner = gateway.ready().operators
        assert f"admin page: {inner}/admin/" in gateway.log
        behind = inner.removesuffix("/rt")
        strips = nginx(tmp_path, f"location /rt/ {{ proxy_pass {behind}/; }}", "strips")
        keeps = nginx(tmp_path, f"location /rt/ {{ proxy_pass {behind}; }}", "keeps")
        with strips as stripping, keeps as keeping:
            fronts = [f"http://127.0.0.1:{port}/rt" for port in (stripping, keeping)]
            for place in (*fronts, inner, behind):
                for method in ("GET", "HEAD"):
                    found = httpx.request(method, f"{place}/admin", follow_redirects=True)
                    assert (found.status_code, str(found.url)) == (200, f"{place}/admin/")
                    assert "script-src 'self'" in found.headers["content-security-policy"]
                token = httpx.post(f"{place}/admin/auth", json={"password": SECRET}).json()["token"]
                headers = {"Authorization": f"Bearer {token}"}
                nodes = httpx.post(f"{place}/admin/api/nodes", json={}, headers=headers).json()["result"]["nodes"]
                assert len(nodes) == 1
        for place in (f"http://127.0.0.1:{gateway.port}", gateway.url):
            assert httpx.get(f"{place}/admin/").status_code == 404
            assert httpx.post(f"{place}/admin/auth", json={}).status_code == 404


def test_what_operators_have_is_below_these_paths() -> None:
    for path in INTERNAL:
        for each in (path, f"{path}/x"):
            assert [part.has(each) for part in Part] == [True, False, True]
        assert [part.has(f"{path}x") for part in Part] == [True, True, False]
    assert [part.has("/connection/websocket") for part in Part] == [True, True, False]


def test_without_need_nothing_stands_before_the_application() -> None:
    app = object()
    assert site(app, "", Part.WHOLE) is app
    assert isinstance(site(app, "/rt", Part.WHOLE), Site)
    assert isinstance(site(app, "", Part.CLIENTS), Site)


# — the command line —


@pytest.mark.parametrize(
    ("http", "clients", "operators"),
    [
        ({}, "ws://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ({"address": ""}, "ws://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ({"address": "[::1]:9,127.0.0.1", "root_path": "rt"}, "ws://[::1]:9/rt", "http://[::1]:9/rt"),
        ({"internal_port": 9}, "ws://127.0.0.1:8000", "http://127.0.0.1:9"),
        ({"internal_port": 9, "proxy_protocol": True}, "", "http://127.0.0.1:9"),
    ],
)
def test_where_the_command_line_looks(http: dict[str, Any], clients: str, operators: str) -> None:
    settings = Settings(http_server=HTTPServerSettings.model_validate(http))
    assert reach(settings, operators=True).url == operators
    if clients:
        assert websocket_url(settings) == f"{clients}/connection/websocket"
        assert reach(settings).options == {}


def test_where_the_command_line_cannot_go(tmp_path: Path) -> None:
    behind = Settings(http_server=HTTPServerSettings(proxy_protocol=True))
    for operators, text in ((True, "or set http_server.internal_port"), (False, "give the address of one with --url$")):
        with pytest.raises(SettingsError, match=text):
            reach(behind, operators=operators)
    unix = Settings(http_server=HTTPServerSettings(address="unix:/run/g.sock"))
    assert reach(unix).options == {"unix": True, "path": "/run/g.sock"}
    with pytest.raises(SettingsError, match=r"clients of unix:/run/g\.sock are made by a proxy"):
        websocket_url(unix)
    tls = {"enabled": True, "cert_pem": str(tmp_path / "nowhere.pem"), "key_pem": "x"}
    with pytest.raises(SettingsError, match="cert_pem cannot be read: No such file"):
        reach(Settings(http_server=HTTPServerSettings.model_validate({"tls": tls})))
