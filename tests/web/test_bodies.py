"""Bodies of requests that offer an upgrade, on servers that are not ours."""

import asyncio
import json
from contextlib import suppress

import pytest

from gateway.config.settings import Settings
from gateway.serve.app import create_app
from gateway.transports.hint import BODIES
from tests.serving import on_plain_uvicorn
from tests.web.conftest import KEY, SETTINGS

OURS = "gateway.transports.uvicorn_dispatch:first_protocol"


def publish(data: str) -> bytes:
    body = json.dumps({"channel": "kept:a", "data": data})
    head = f"POST /api/publish HTTP/1.1\r\nHost: test\r\nX-API-Key: {KEY}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n{body}".encode()


async def talk(port: int, *segments: bytes) -> bytes:
    """All that is answered until the server closes, or nothing more is due."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answered = b""
    for segment in segments:
        writer.write(segment)
        with suppress(asyncio.IncompleteReadError):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            length = int(head.lower().partition(b"content-length: ")[2].split()[0])
            answered += head + await reader.readexactly(length)
    writer.close()
    return answered


async def test_uvicorns_class_loses_them_and_the_caller_is_told(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings.model_validate(SETTINGS)
    smuggled = publish("smuggled").replace(b"Connection: Upgrade\r\n", b"")
    async with on_plain_uvicorn(create_app(settings), settings, "httptools") as port:
        answered = await talk(port, publish(smuggled.decode()), smuggled)
    assert answered.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in answered
    assert f"--http {OURS}".encode() in answered
    assert answered.count(b"HTTP/1.1 ") == 1
    assert BODIES in caplog.messages


@pytest.mark.parametrize("http", ["h11", OURS])
async def test_others_do_not(http: str, caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings.model_validate(SETTINGS)
    async with on_plain_uvicorn(create_app(settings), settings, http) as port:
        answered = await talk(port, publish("one"), publish("two"))
    assert answered.count(b'"offset":') == 2
    assert BODIES not in caplog.messages
