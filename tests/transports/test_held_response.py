"""Streams one way whose refusals are statuses: connect is decided before the response begins."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from gateway.auth.tokens import sign_connection
from gateway.config.settings import Settings
from gateway.transports.stream_kinds import OCTETS, UNI_HTTP_STREAM, UNI_SSE, StreamKind
from tests.serving import Serve, on_plain_uvicorn, on_uvicorn
from tests.transports.streams import SECRET, Gateway, application
from tests.transports.test_http_stream import asked, post
from tests.waiting import until

KINDS = [UNI_HTTP_STREAM, UNI_SSE]
TRANSFORMS = [
    {"code": 109, "to": {"status_code": 401, "body": "come again"}},
    {"code": 3500, "to": {"status_code": 403}},
]
BODILESS = [204, 205, 304]


@asynccontextmanager
async def running(serve: Serve, transforms: Sequence[dict[str, Any]] = TRANSFORMS) -> AsyncIterator[Gateway]:
    section = {"enabled": True, "connect_code_to_http_response": {"enabled": True, "transforms": transforms}}
    client = {"token": {"hmac_secret_key": SECRET}}
    gateway = Gateway(Settings.model_validate({"client": client, "uni_sse": section, "uni_http_stream": section}))
    async with serve(application(gateway), gateway.settings) as gateway.port, gateway.http:
        yield gateway


def expired() -> str:
    return sign_connection(SECRET, "ann", ttl=-1)


@pytest.mark.parametrize("serve", [on_uvicorn, on_plain_uvicorn])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize(
    ("request_", "status", "told"),
    [
        ({"token": expired()}, 401, "come again"),
        ({"token": "none"}, 403, "invalid token"),
        ({}, 500, "Internal Server Error"),
    ],
    ids=["an error", "a disconnect", "neither is named"],
)
async def test_who_is_not_let_in(
    serve: Serve, kind: StreamKind, request_: dict[str, Any], status: int, told: str
) -> None:
    async with running(serve) as gateway:
        url = f"http://127.0.0.1:{gateway.port}{kind.path}"
        answer = await gateway.http.post(url, json=request_)
        assert (answer.status_code, answer.text) == (status, told)
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert "no-store" in answer.headers["cache-control"]
        await until(lambda: not gateway.acceptor.sessions)
        answer = await gateway.http.post(url, json=request_, headers={"Content-Type": OCTETS})
        assert answer.status_code == (400 if kind is UNI_HTTP_STREAM else status), "JSON is no Protobuf"


@pytest.mark.parametrize("serve", [on_uvicorn, on_plain_uvicorn])
@pytest.mark.parametrize("status", BODILESS)
async def test_a_status_without_body_forges_no_response(serve: Serve, status: int) -> None:
    """Who reads by the status takes what follows the head for the next response on the connection."""
    to = {"status_code": status, "body": "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nEVIL"}
    async with running(serve, [{"code": 3500, "to": to}]) as gateway:
        refused = post(UNI_SSE.path, '{"token":"none"}')
        behind = post("/nowhere", "", "Connection: close")
        async with asked(gateway, refused + behind) as answer:
            assert answer.status == status
            assert answer.headers.get("content-length") == ("0" if status == 205 else None)
            assert "transfer-encoding" not in answer.headers
            assert (await answer.rest()).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("serve", [on_uvicorn, on_plain_uvicorn])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_who_is_let_in(serve: Serve, kind: StreamKind) -> None:
    async with running(serve) as gateway:
        url = f"http://127.0.0.1:{gateway.port}{kind.path}"
        token = sign_connection(SECRET, "ann", channels=["room"])
        async with gateway.http.stream("POST", url, json={"token": token}) as response:
            assert response.status_code == 200
            lines = response.aiter_lines()
            assert '"connect"' in await anext(line async for line in lines if line)
            await gateway.publish("hello")
            assert '"hello"' in await anext(line async for line in lines if line)
        await until(lambda: not gateway.acceptor.sessions)


async def test_a_client_that_goes_before_it_is_decided() -> None:
    async with running(on_uvicorn) as gateway:
        with pytest.raises(httpx.HTTPError):
            await gateway.http.post(f"http://127.0.0.1:{gateway.port}{UNI_SSE.path}", json={}, timeout=1e-9)
        await until(lambda: not gateway.acceptor.sessions)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "later"])
async def test_a_request_behind_a_stream_keeps_nobody(kind: StreamKind, at_once: bool) -> None:
    """That the client goes is heard, though nothing is written to it."""
    behind = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
    async with running(on_uvicorn) as gateway:
        request = post(kind.path, json.dumps({"token": sign_connection(SECRET, "ann")}))
        async with asked(gateway, request + behind * at_once) as answer:
            assert answer.status == 200
            if not at_once:
                answer.writer.write(behind)
                await answer.writer.drain()
        await until(lambda: not gateway.acceptor.sessions, what="the session has ended")
