"""The routes: what the page is served with, who gets in, and what anybody else is told."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.admin import router
from gateway.config.settings import Settings
from gateway.core.node import Node
from gateway.serve.app import create_app
from tests.admin.ground import PASSWORD, SETTINGS

LOCAL = "http://127.0.0.1:8000"


@asynccontextmanager
async def running(url: str = "http://gateway.example", peer: str = "192.0.2.1", **admin: Any) -> AsyncIterator[Any]:
    """A caller from there, who names the gateway so."""
    settings = Settings.model_validate({**SETTINGS, "admin": {"enabled": True, "password": PASSWORD, **admin}})
    app = create_app(settings)
    transport = httpx.ASGITransport(app, client=(peer, 1234))
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url=url) as http:
        http.node = app.state.node  # type: ignore[attr-defined]
        http.reload = app.state.reload  # type: ignore[attr-defined]
        yield http


@pytest.fixture
async def http() -> AsyncIterator[Any]:
    async with running() as http:
        yield http


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "static"
    folder.mkdir()
    monkeypatch.setattr(router, "_STATIC", folder)
    for name in ("index.html", "page.js", "a-b.c.js", "style.css", "icon.svg", "notes.txt", ".hidden.js", "x.py"):
        (folder / name).write_text(f"this is {name}")
    (tmp_path / "outside.js").write_text("secret")
    (folder / "folder.js").mkdir()
    return folder


# — files —


@pytest.mark.parametrize(
    ("path", "name", "media_type"),
    [
        ("", "index.html", "text/html; charset=utf-8"),
        ("index.html", "index.html", "text/html; charset=utf-8"),
        ("page.js", "page.js", "text/javascript; charset=utf-8"),
        ("a-b.c.js", "a-b.c.js", "text/javascript; charset=utf-8"),
        ("style.css", "style.css", "text/css; charset=utf-8"),
        ("icon.svg", "icon.svg", "image/svg+xml"),
    ],
)
async def test_serves_the_files_of_the_page(http: Any, files: Path, path: str, name: str, media_type: str) -> None:
    answer = await http.get(f"/admin/{path}")
    assert (answer.status_code, answer.text) == (200, f"this is {name}")
    assert answer.headers["content-type"] == media_type
    assert answer.headers["cache-control"] == "no-cache"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    head = await http.head(f"/admin/{path}")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(
    "path",
    ["notes.txt", "x.py", "nothing.js", ".hidden.js", "folder.js", "..%2foutside.js", "%2e%2e/outside.js", "auth"],
)
async def test_serves_no_other_file(http: Any, files: Path, path: str) -> None:
    assert (await http.get(f"/admin/{path}")).status_code == 404


@pytest.mark.usefixtures("http")
async def test_the_page_is_there(http: Any) -> None:
    assert "<html" in (await http.get("/admin/")).text


async def test_without_slash_it_leads_to_the_page(http: Any) -> None:
    for method in ("GET", "HEAD"):
        answer = await http.request(method, "/admin")
        assert (answer.status_code, answer.headers["location"]) == (307, "admin/")


async def test_is_not_there_unless_asked_for() -> None:
    async with running(enabled=False) as http:
        assert [(await http.get(path)).status_code for path in ("/admin", "/admin/")] == [404, 404]
        assert (await http.post("/admin/auth", json={})).status_code == 404


async def test_is_not_part_of_the_documented_api(http: Any) -> None:
    assert not [path for path in (await http.get("/openapi.json")).json()["paths"] if "admin" in path]


# — log-in —


async def test_the_password_opens_the_methods(http: Any) -> None:
    asked = await http.post("/admin/auth", json={})
    assert (asked.status_code, asked.json()["error"]["message"]) == (401, "a password is needed")
    opened = await http.post("/admin/auth", json={"password": PASSWORD})
    assert opened.status_code == 200
    assert opened.headers["cache-control"] == "no-store"
    assert opened.json()["expires_in"] == 43200
    headers = {"Authorization": f"Bearer {opened.json()['token']}"}
    info = await http.post("/admin/api/info", json={}, headers=headers)
    assert [node["uid"] for node in info.json()["result"]["nodes"]] == [http.node.uid]
    assert (await http.post("/api/info", json={}, headers=headers)).status_code == 401


@pytest.mark.parametrize("authorization", ["", "Bearer x", "apikey x"])
async def test_nothing_is_told_without_a_token(http: Any, authorization: str) -> None:
    for method in ("info", "nodes", "settings", "no such"):
        answer = await http.post(f"/admin/api/{method}", json={}, headers={"Authorization": authorization})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_wrong_passwords_are_counted_and_logged(http: Any, caplog: pytest.LogCaptureFixture) -> None:
    node: Node = http.node
    for _ in range(5):
        wrong = await http.post("/admin/auth", json={"password": "guess"})
        assert (wrong.status_code, wrong.json()["error"]["message"]) == (401, "wrong password")
    for password in ("guess", PASSWORD):
        told = await http.post("/admin/auth", json={"password": password})
        assert (told.status_code, told.headers["retry-after"]) == (429, "12")
        assert "try again in 12 s" in told.json()["error"]["message"]
    assert node.metrics.refusals == {"admin_password": 5}
    [line] = [each for each in caplog.records if each.name == "gateway.refusals"]
    assert line.levelno == logging.WARNING
    assert "192.0.2.1: log-in" in line.getMessage()
    assert "guess" not in caplog.text


async def test_who_guesses_does_not_lock_others_out_behind_a_proxy() -> None:
    async with running(peer="127.0.0.1") as http:
        for _ in range(5):
            headers = {"X-Forwarded-For": "198.51.100.7"}
            await http.post("/admin/auth", json={"password": "guess"}, headers=headers)
        for address, status in (("198.51.100.7", 429), ("198.51.100.8", 200)):
            headers = {"X-Forwarded-For": address}
            answer = await http.post("/admin/auth", json={"password": PASSWORD}, headers=headers)
            assert answer.status_code == status


async def test_the_password_may_change_while_it_runs(http: Any) -> None:
    before = (await http.post("/admin/auth", json={"password": PASSWORD})).json()["token"]
    admin = {"enabled": True, "password": "another password"}
    http.reload(Settings.model_validate({**SETTINGS, "admin": admin}))
    assert (await http.post("/admin/auth", json={"password": PASSWORD})).status_code == 401
    assert (await http.post("/admin/auth", json={"password": "another password"})).status_code == 200
    headers = {"Authorization": f"Bearer {before}"}
    assert (await http.post("/admin/api/info", json={}, headers=headers)).status_code == 401


# — what a page of somebody else might try —


async def test_only_json_is_taken(http: Any) -> None:
    for path in ("/admin/auth", "/admin/api/info"):
        for kind in ("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            answer = await http.post(path, content=b"{}", headers={"Content-Type": kind})
            assert answer.status_code == 415
        asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        preflight = await http.options(path, headers=asked)
        assert preflight.status_code == 405
        assert not [name for name in preflight.headers if name.startswith("access-control")]
        fit = await http.post(path, content=b"{}", headers={"Content-Type": "Application/JSON; charset=utf-8"})
        assert fit.status_code == 401


@pytest.mark.parametrize(
    ("site", "let_in"), [("cross-site", False), ("same-site", False), ("same-origin", True), ("none", True)]
)
async def test_a_page_of_another_origin_is_not_answered(site: str, let_in: bool) -> None:
    """An application's CORS middleware may have told its browser to go on."""
    async with running(LOCAL, "127.0.0.1", insecure=True) as http:
        for path in ("/admin/auth", "/admin/api/info"):
            answer = await http.post(path, json={}, headers={"Sec-Fetch-Site": site})
            assert answer.status_code == (200 if let_in else 403)
        assert (await http.get("/admin/", headers={"Sec-Fetch-Site": site})).status_code == 200  # a link to it


async def test_nobody_is_asked_where_it_is_insecure() -> None:
    async with running(LOCAL, "127.0.0.1", password="", insecure=True) as http:
        assert (await http.post("/admin/auth", json={})).json() == {"token": "", "expires_in": 43200}
        assert (await http.post("/admin/api/info", json={})).status_code == 200


@pytest.mark.parametrize(
    ("peer", "host", "forwarded", "let_in"),
    [
        ("127.0.0.1", "127.0.0.1:8000", "", True),
        ("127.0.0.1", "localhost:8000", "", True),
        ("127.0.0.1", "LOCALHOST", "", True),
        ("127.0.0.1", "app.localhost:8000", "", True),
        ("::1", "[::1]:8000", "", True),
        ("127.0.0.1", "192.168.0.7:8000", "", True),
        ("127.0.0.1", "evil.example", "", False),
        ("127.0.0.1", "evil.example:8000", "", False),
        ("127.0.0.1", "localhost.evil.example", "", False),
        ("127.0.0.1", "127.0.0.1.evil.example", "", False),
        ("127.0.0.1", "", "", False),
        ("::1", "evil.example", "", False),
        ("::ffff:127.0.0.1", "evil.example", "", False),
        ("unix", "evil.example", "", False),
        ("unix", "localhost", "", True),
        ("198.51.100.7", "evil.example", "X-Forwarded-For: 198.51.100.7", False),
        ("172.17.0.1", "evil.example", "X-Real-IP: 198.51.100.7", False),
        ("172.17.0.1", "evil.example", "Forwarded: for=198.51.100.7", False),
        ("192.0.2.1", "devbox:8000", "", True),
    ],
)
async def test_a_name_that_is_given_this_machines_address_is_refused(
    peer: str, host: str, forwarded: str, let_in: bool
) -> None:
    """DNS rebinding. The page may say that it comes from elsewhere, too."""
    async with running(peer=peer, password="", insecure=True) as http:
        headers = {"Host": host, **dict([forwarded.split(": ")] if forwarded else [])}
        answers = [
            await http.get("/admin/", headers=headers),
            await http.post("/admin/auth", json={}, headers=headers),
            await http.post("/admin/api/info", json={}, headers=headers),
        ]
        assert [each.status_code for each in answers] == [200 if let_in else 403] * 3
        if not let_in:
            assert "http://127.0.0.1" in answers[1].json()["error"]["message"]
            assert http.node.metrics.refusals == {"admin_host": 3}


async def test_with_a_password_any_name_will_do() -> None:
    async with running("http://evil.example", "127.0.0.1") as http:
        assert (await http.post("/admin/auth", json={"password": PASSWORD})).status_code == 200


# — bodies —


@pytest.mark.parametrize(
    ("method", "body", "what"),
    [
        ("info", b"", "not JSON"),
        ("info", b"{", "not JSON"),
        ("info", b'"\xff"', "not UTF-8"),
        ("connections", b"[]", "Expected `object`"),
        ("connections", b'{"limit": 201}', "<= 200"),
        ("connections", b'{"limit": "many"}', "limit"),
        ("publish", b'{"channel": 7}', "channel"),
    ],
)
async def test_what_is_no_body_of_the_method(method: str, body: bytes, what: str) -> None:
    async with running(LOCAL, "127.0.0.1", insecure=True) as http:
        headers = {"Content-Type": "application/json"}
        answer = await http.post(f"/admin/api/{method}", content=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, 107)
        assert what in answer.json()["error"]["message"]


async def test_other_answers() -> None:
    async with running(LOCAL, "127.0.0.1", insecure=True) as http:
        assert (await http.post("/admin/api/dance", json={})).status_code == 404
        refused = await http.post("/admin/api/history", json={"channel": "news"})
        assert (refused.status_code, refused.json()) == (200, {"error": {"code": 108, "message": "not available"}})
        headers = {"Content-Type": "application/json"}
        assert (await http.post("/admin/auth", content=b"{", headers=headers)).status_code == 400
        assert (await http.post("/admin/auth", content=b" " * 5000, headers=headers)).status_code == 413
