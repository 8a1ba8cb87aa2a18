"""The routes of the page: what they serve, under which policy, and which names get a token."""

import time
from collections.abc import AsyncIterator

import httpx
import jwt
import pytest
from fastapi import FastAPI

from gateway.web.demo import demo_router

SECRET = "a secret that is long enough for SHA-256"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.include_router(demo_router(lambda: SECRET))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://chat.example:8000") as client:
        yield client


@pytest.mark.parametrize(
    ("path", "content_type", "part"),
    [
        ("/", "text/html; charset=utf-8", '<script type="module" src="demo/chat.js">'),
        ("/demo/chat.js", "text/javascript; charset=utf-8", "class Connection"),
        ("/demo/style.css", "text/css; charset=utf-8", "prefers-color-scheme: dark"),
        ("/demo/favicon.svg", "image/svg+xml", "<svg"),
    ],
)
async def test_serves_the_files_of_the_page(client: httpx.AsyncClient, path: str, content_type: str, part: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == content_type
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert part in answer.text


async def test_the_policy_allows_this_origin_alone(client: httpx.AsyncClient) -> None:
    policy = (await client.get("/")).headers["content-security-policy"]
    directives = {name: sources for name, *sources in (part.split() for part in policy.split(";"))}
    assert directives == {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'"],
        "connect-src": ["'self'", "ws://chat.example:8000", "wss://chat.example:8000"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": ["'none'"],
    }


@pytest.mark.parametrize("host", ["evil; script-src *", "a b", "[::1]:8000", ""])
async def test_a_strange_host_does_not_enter_the_policy(client: httpx.AsyncClient, host: str) -> None:
    policy = (await client.get("/", headers={"host": host})).headers["content-security-policy"]
    assert "connect-src 'self'; base-uri" in policy


async def test_the_page_has_nothing_inline_and_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    page = (await client.get("/")).text
    assert "<style" not in page
    assert " style=" not in page
    assert "<script>" not in page
    assert " onclick=" not in page
    assert "//" not in page.replace("<!doctype html>", "")


@pytest.mark.parametrize("path", ["/demo/index.html", "/demo/demo.py", "/demo/..%2fdemo.py", "/demo/"])
async def test_serves_no_other_file(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize(
    ("user", "name"),
    [("Ann", "Ann"), ("  Ann ", "Ann"), ("Jörg 🎉", "Jörg 🎉"), ("x" * 32, "x" * 32), ("&<script>", "&<script>")],
)
async def test_gives_a_token_for_the_name(client: httpx.AsyncClient, user: str, name: str) -> None:
    before = int(time.time())
    answer = await client.get("/demo/token", params={"user": user})
    assert answer.status_code == 200
    claims = jwt.decode(answer.json()["token"], SECRET, algorithms=["HS256"])
    assert claims["sub"] == name
    assert claims["info"] == {"name": name}
    assert before + 3600 <= claims["exp"] <= int(time.time()) + 3600


async def test_a_token_is_not_cached(client: httpx.AsyncClient) -> None:
    assert (await client.get("/demo/token?user=Ann")).headers["cache-control"] == "no-store"


@pytest.mark.parametrize("user", ["", "   ", "x" * 33, "a\nb", "a\x00b", "\u202eevil", "a\u2028b"])
async def test_refuses_other_names(client: httpx.AsyncClient, user: str) -> None:
    answer = await client.get("/demo/token", params={"user": user})
    assert answer.status_code == 400
    assert answer.json() == {"detail": "a name has 1 to 32 printable characters"}


async def test_a_missing_name_is_refused(client: httpx.AsyncClient) -> None:
    assert (await client.get("/demo/token")).status_code == 400


async def test_is_not_part_of_the_documented_api(client: httpx.AsyncClient) -> None:
    assert (await client.get("/openapi.json")).json()["paths"] == {}


def test_needs_a_secret() -> None:
    with pytest.raises(ValueError, match=r"client\.token\.hmac_secret_key"):
        demo_router(str)
