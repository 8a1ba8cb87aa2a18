"""Streams one way whose refusals are statuses: connect is decided before the response begins."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from gateway.auth.tokens import sign_connection
from gateway.config.settings import Settings
from gateway.transports.stream_kinds import OCTETS, UNI_HTTP_STREAM, UNI_SSE, StreamKind
from tests.serving import Serve, on_plain_uvicorn, on_uvicorn
from tests.transports.streams import SECRET, Gateway, application
from tests.waiting import until

KINDS = [UNI_HTTP_STREAM, UNI_SSE]
TRANSFORMS = [
    {"code": 109, "to": {"status_code": 401, "body": "come again"}},
    {"code": 3500, "to": {"status_code": 403}},
]


@asynccontextmanager
async def running(serve: Serve) -> AsyncIterator[Gateway]:
    section = {"enabled": True, "connect_code_to_http_response": {"enabled": True, "transforms": TRANSFORMS}}
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
