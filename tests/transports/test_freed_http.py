"""Nothing is left of HTTP requests and event streams that are over."""

import asyncio
import json
import socket
import struct
from collections.abc import Callable
from typing import Any, BinaryIO
from urllib.parse import quote

import pytest

from gateway.config.settings import Settings
from gateway.core.cluster import DisconnectUser
from gateway.errors import DisconnectCode
from gateway.serve.app import create_app
from tests.callers import read_head
from tests.integration.tokens import SECRET, connection_token
from tests.leftovers import MANY, assert_freed
from tests.serving import on_plain_uvicorn, on_uvicorn

KEY = "an API key"

SETTINGS = Settings.model_validate(
    {
        "client": {"token": {"hmac_secret_key": SECRET}, "allowed_origins": ["https://page.example"]},
        "http_api": {"key": KEY},
        **{each: {"enabled": True} for each in ("http_stream", "sse", "uni_http_stream", "uni_sse")},
        "channel": {"without_namespace": {"presence": True, "history_size": 5, "history_ttl": 60}},
    }
)


class Request:
    """One connection with a request on it."""

    def __init__(self, port: int, text: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.file: BinaryIO = self._socket.makefile("rb")
        self._socket.sendall(text.encode())

    def status(self) -> int:
        return read_head(self.file)

    def close(self, *, reset: bool = False) -> None:
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.file.close()
        self._socket.close()


def post(path: str, body: str, *, key: str = KEY, close: bool = True) -> str:
    closing = "Connection: close\r\n" if close else ""
    return (
        f"POST {path} HTTP/1.1\r\nHost: test\r\nX-API-Key: {key}\r\n{closing}Content-Length: {len(body)}\r\n\r\n{body}"
    )


def answered(text: str, status: int) -> Callable[[int], None]:
    def call(port: int) -> None:
        request = Request(port, text)
        assert request.status() == status
        request.file.read()
        request.close()

    return call


def kept_alive(*, reset: bool) -> Callable[[int], None]:
    def call(port: int) -> None:
        request = Request(port, post("/api/info", "{}", close=False))
        assert request.status() == 200
        request.close(reset=reset)

    return call


def given_up(port: int) -> None:
    Request(port, post("/api/info", "{}")[:-1]).close(reset=True)


def pipelined(port: int) -> None:
    Request(port, post("/api/info", "{}", close=False) * 3).close(reset=True)


REQUESTS = {
    "published": answered(post("/api/publish", '{"channel":"room","data":{}}'), 200),
    "error": answered(post("/api/publish", '{"channel":"unknown:room","data":{}}'), 200),
    "batch": answered(post("/api/batch", '{"commands":[{"publish":{"channel":"room","data":1}},{"none":{}}]}'), 200),
    "no key": answered(post("/api/info", "{}", key="wrong"), 401),
    "no json": answered(post("/api/info", "{"), 400),
    "no path": answered(post("/nowhere", "{}"), 404),
    "no http": answered("GARBAGE\r\n\r\n", 400),
    "kept alive": kept_alive(reset=False),
    "kept alive and reset": kept_alive(reset=True),
    "given up": given_up,
    "pipelined": pipelined,
    "health": answered("GET /health/ready HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n", 200),
    "metrics": answered("GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n", 200),
}


@pytest.mark.parametrize("call", REQUESTS.values(), ids=REQUESTS)
async def test_nothing_is_left_of_requests(call: Callable[[int], None]) -> None:
    async with on_uvicorn(create_app(SETTINGS), SETTINGS) as port:
        await assert_freed(lambda: asyncio.to_thread(_repeat, call, port))


def _repeat(call: Callable[[int], None], port: int) -> None:
    for _ in range(MANY):
        call(port)


KINDS = "http_stream", "sse", "uni_http_stream", "uni_sse"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["close", "reset", "server", "refused", "forbidden", "commanded"])
@pytest.mark.parametrize("serve", [on_uvicorn, on_plain_uvicorn])
async def test_nothing_is_left_of_streams(serve: Any, end: str, kind: str) -> None:
    if end == "commanded" and kind.startswith("uni_"):
        return
    app = create_app(SETTINGS)
    async with serve(app, SETTINGS) as port:
        loop = asyncio.get_running_loop()

        def disconnect() -> None:
            code = DisconnectCode.FORCE_DISCONNECT
            work = app.state.node.cluster.command(DisconnectUser(user="ada", code=code, reason=code.reason))
            asyncio.run_coroutine_threadsafe(work, loop).result(10)

        def streams() -> None:
            opened = [Request(port, _stream(kind, end)) for _ in range(MANY)]
            for each in opened:
                assert each.status() == (403 if end == "forbidden" else 200)
                if end not in ("refused", "forbidden"):
                    told = _until(each, b"connect")
                    if end == "commanded":
                        _command(port, told)
                        _until(each, b'"id":2')
            if end == "server":
                disconnect()
            for each in opened:
                if end in ("server", "refused"):
                    _until(each, b"disconnect")
                each.close(reset=end == "reset")

        await assert_freed(lambda: asyncio.to_thread(streams), only="" if serve is on_uvicorn else "gateway.")


def _until(stream: Request, word: bytes) -> bytes:
    """The line with this word in it."""
    while word not in (line := stream.file.readline()):
        assert line, f"{word!r} has not come"
    return line


def _command(port: int, told: bytes) -> None:
    """Give a command to the session that the connect reply tells of."""
    connected = json.loads(told.removeprefix(b"data: "))["connect"]
    body = {"session": connected["session"], "node": connected["node"], "data": '{"id":2,"presence":{"channel":"x"}}'}
    answered(post("/emulation", json.dumps(body)), 204)(port)


def _stream(kind: str, end: str) -> str:
    key = "a key of somebody else, of thirty-two bytes" if end == "refused" else SECRET
    token = connection_token("ada", key=key, subs={"room": {}})
    origin = "Origin: https://evil.example\r\n" if end == "forbidden" else ""
    request = json.dumps({"token": token} if kind.startswith("uni_") else {"id": 1, "connect": {"token": token}})
    if kind.endswith("http_stream"):
        return (
            f"POST /connection/{kind} HTTP/1.1\r\nHost: test\r\n{origin}Content-Length: {len(request)}\r\n\r\n{request}"
        )
    return f"GET /connection/{kind}?cf_connect={quote(request)} HTTP/1.1\r\nHost: test\r\n{origin}\r\n"
