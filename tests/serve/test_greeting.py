"""What comes before HTTP: PROXY headers of trusted peers, by hand and by HAProxy, with workers and without."""

import asyncio
import errno
import json
import logging
import socket
import ssl
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from websockets.sync.client import connect

from gateway import files
from gateway.limits.addresses import Proxies
from gateway.recurring import Recurring
from gateway.serve.greeting import GreetingServer
from tests.certificates import Authority
from tests.serve.gateways import Gateway, haproxy
from tests.serve.processes import Process, settings_file
from tests.waiting import until

Start = Callable[..., Process]

GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
HEADER = b"PROXY TCP4 192.0.2.1 198.51.100.7 51234 443\r\n"
HEADER2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x07\xc8\x22\x01\xbb"
LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"


def served(directory: Path, **http: Any) -> Path:
    return settings_file(directory, {"port": 0, "proxy_protocol": True, **http})


def exchange(port: int, *pieces: bytes, host: str = "127.0.0.1") -> bytes:
    """What comes back for these bytes, up to the end or the end of the head."""
    with socket.create_connection((host, port), 10) as sock:
        answer = b""
        try:
            for piece in pieces:
                sock.sendall(piece)
            while b"\r\n\r\n" not in answer and (data := sock.recv(65536)):
                answer += data
            while answer.startswith(b"HTTP/1.1 200") and (data := sock.recv(65536)):
                answer += data
        except ConnectionError:
            return b""
        return answer


def seen(answer: bytes) -> tuple[str, int]:
    head, _, body = answer.partition(b"\r\n\r\n")
    text = next((line[8:] for line in head.split(b"\r\n") if line.startswith(b"x-seen: ")), body)
    found = json.loads(text[text.index(b"{") : text.index(b"}") + 1])  # it may be chunked
    return found["client"], found["port"]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_client_is_the_one_that_the_proxy_names(start: Start, tmp_path: Path, workers: int) -> None:
    process = start(file=served(tmp_path, workers=workers)).ready()
    for request in (GET, UPGRADE):
        for header in (HEADER, HEADER2):
            assert seen(exchange(process.port, header + request)) == ("192.0.2.1", 51234)
            wire = header + request
            assert seen(exchange(process.port, *(wire[at : at + 1] for at in range(len(wire))))) == ("192.0.2.1", 51234)
        for header in (LOCAL, b"PROXY UNKNOWN\r\n"):
            assert seen(exchange(process.port, header + request))[0] == "127.0.0.1"
        forwarded = request.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n")
        assert seen(exchange(process.port, HEADER + forwarded))[0] == "192.0.2.1", "who is no proxy is not believed"
        assert seen(exchange(process.port, LOCAL + forwarded))[0] == "203.0.113.9"
    assert process.stop() == 0


def test_a_later_request_of_a_connection_is_of_the_same_client(tmp_path: Path) -> None:
    told = b"\r\nOrigin: https://evil.example\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n"
    upgrade = UPGRADE.replace(b"GET / ", b"GET /connection/websocket ").replace(b"\r\n\r\n", told)
    with (
        Gateway(tmp_path, {"proxy_protocol": True}) as gateway,
        socket.create_connection(("127.0.0.1", gateway.port), 10) as sock,
    ):
        sock.sendall(HEADER + GET.replace(b"GET / ", b"GET /nothing "))
        assert sock.recv(65536).startswith(b"HTTP/1.1 404")
        sock.sendall(upgrade)
        gateway.logged("192.0.2.1: connection refused: client.allowed_origins has no 'https://evil.example'")


def test_who_sends_no_header_is_refused(start: Start, tmp_path: Path) -> None:
    process = start(file=served(tmp_path)).ready()
    for wire in (GET, b"\x16\x03\x01" + bytes(100), HEADER.replace(b"TCP4", b"TCP5") + GET):
        assert exchange(process.port, wire) == b""
    process.logged("127.0.0.1: connection refused: it begins with no PROXY header")
    assert process.log.count("connection refused") == 1, "one line a minute"
    assert seen(exchange(process.port, HEADER + GET))[0] == "192.0.2.1"


def test_who_is_not_trusted_is_refused(start: Start, tmp_path: Path) -> None:
    process = start(file=served(tmp_path, forwarded_allow_ips="10.0.0.0/8,::1", address="127.0.0.1,[::1]")).ready()
    assert exchange(process.port, HEADER + GET) == b""
    process.logged("a PROXY header is taken from http_server.forwarded_allow_ips alone")
    other = int(process.log.split("listening on http://[::1]:")[1].split(",")[0])
    assert seen(exchange(other, HEADER + GET, host="::1"))[0] == "192.0.2.1"


def test_a_header_that_does_not_end_has_an_end(start: Start, tmp_path: Path) -> None:
    file = served(tmp_path)
    settings = json.loads(file.read_text())
    settings["client"]["message_timeout"] = "0.2s"
    file.write_text(json.dumps(settings))
    process = start(file=file).ready()
    for begun in (b"", b"PROXY TCP4 ", HEADER2[:14], HEADER2[:20]):
        assert exchange(process.port, begun) == b""
    process.logged("no whole PROXY header in 0.2 s")


def test_operators_come_without_a_header(start: Start, tmp_path: Path) -> None:
    process = start(file=served(tmp_path, internal_port=0)).ready()
    inner = process.log.split("for operators: ")[1].split()[0]
    assert httpx.get(f"{inner}/health/x").json()["client"] == "127.0.0.1"


def test_by_a_unix_socket_every_proxy_is_trusted(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "g.sock"
    start(file=served(tmp_path, address=f"unix:{path}", forwarded_allow_ips="")).ready()
    with haproxy(tmp_path, f"unix@{path} send-proxy-v2") as port:
        assert httpx.get(f"http://127.0.0.1:{port}/").json()["client"] == "127.0.0.1"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(LOCAL + GET)
        assert b'"client": "unix"' in sock.makefile("rb").read()


@pytest.mark.parametrize("workers", [1, 2])
def test_haproxy(start: Start, tmp_path: Path, workers: int) -> None:
    """Its checks, which are LOCAL, too; the client's address and port are those of the client's own socket."""
    process = start(file=served(tmp_path, workers=workers)).ready()
    for option, mode in product(("send-proxy", "send-proxy-v2"), ("http", "tcp")):
        backend = f"127.0.0.1:{process.port} {option} check inter 100ms"
        with haproxy(tmp_path, backend, mode, f"{option}-{mode}") as port:
            found = httpx.get(f"http://127.0.0.1:{port}/").json()
            assert found["client"] == "127.0.0.1"
            with connect(f"ws://127.0.0.1:{port}/", proxy=None) as websocket:
                assert websocket.response is not None
                told = json.loads(websocket.response.headers["x-seen"])
                assert (told["client"], told["port"]) == websocket.local_address[:2]
    assert "refused" not in process.log


@pytest.mark.parametrize("workers", [1, 2])
def test_tls_begins_behind_the_header(start: Start, tmp_path: Path, workers: int) -> None:
    """Also where both come in one piece: nothing of TLS is read with the header."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue("gateway", "127.0.0.1")
    tls = {"enabled": True, "cert_pem": str(certificate), "key_pem": str(key)}
    process = start(file=served(tmp_path, workers=workers, tls=tls))
    process.logged("ready on https://127.0.0.1:")
    target = int(process.log.split("ready on https://127.0.0.1:")[1].split()[0])
    trust = ssl.create_default_context(cafile=str(authority.path))
    for option in ("send-proxy", "send-proxy-v2"):
        with haproxy(tmp_path, f"127.0.0.1:{target} {option}", "tcp", option) as port:
            with connect(f"wss://127.0.0.1:{port}/", ssl=trust, proxy=None) as websocket:
                assert websocket.response is not None
                told = json.loads(websocket.response.headers["x-seen"])
                assert (told["client"], told["port"]) == websocket.local_address[:2]
                assert told["scheme"] == "wss"
            assert httpx.get(f"https://127.0.0.1:{port}/", verify=trust).json()["scheme"] == "https"
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = trust.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    with socket.create_connection(("127.0.0.1", target), 10) as sock:
        sock.sendall(HEADER + outgoing.read())
        assert sock.recv(1) == b"\x16", "the server's part of the handshake"


# — the parts —


class Listening:
    """Stands for a listening socket with these failures, one for each time."""

    def __init__(self, *failures: OSError) -> None:
        self.failures = list(failures)
        self._real = socket.create_server(("127.0.0.1", 0))
        self.fileno, self.getsockname = self._real.fileno, self._real.getsockname
        self.setblocking, self.listen, self.close = self._real.setblocking, self._real.listen, self._real.close

    def accept(self) -> Any:
        if self.failures:
            raise self.failures.pop(0)
        return self._real.accept()


def greeting(sock: Listening, protocol: Callable[..., Any]) -> GreetingServer:
    refusals = Recurring(logging.getLogger("gateway.refusals"), asyncio.get_running_loop().time)
    return GreetingServer(cast(Any, sock), protocol, Proxies("127.0.0.1"), None, 5.0, set(), refusals)


class Closing(asyncio.Protocol):
    """Ends each connection as it begins."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(None)


@pytest.mark.parametrize("spared", [False, True])
async def test_the_last_files_are_for_operators(monkeypatch: pytest.MonkeyPatch, *, spared: bool) -> None:
    monkeypatch.setattr(files, "exhausted", lambda number: True)
    greeted: set[asyncio.Task[None]] = set()
    refusals, made = Recurring(logging.getLogger("gateway.refusals"), asyncio.get_running_loop().time), Closing()
    ours, theirs = socket.socketpair()
    with ours, socket.socket() as listening:
        server = GreetingServer(listening, lambda _: made, None, None, 5.0, greeted, refusals, spared=spared)
        server.greet(theirs)
        assert bool(greeted) is spared
        if spared:
            await asyncio.wait_for(made.ended, 10)
        assert theirs.fileno() < 0


async def test_without_descriptors_it_rests(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("gateway.serve.greeting.REST", 0.0)
    made: list[object] = []

    def protocol(client: object) -> asyncio.Protocol:
        made.append(client)
        return asyncio.Protocol()

    sock = Listening(OSError(errno.EMFILE, "Too many open files"), ConnectionAbortedError())
    server = greeting(sock, protocol)
    server.start(10)
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    writer.write(HEADER)
    await until(lambda: made)
    assert made == [("192.0.2.1", 51234)]
    assert "no connection is accepted: Too many open files" in caplog.text
    server.close()
    server.close()
    assert not server.is_serving()
    await server.wait_closed()
    writer.close()
    del reader


async def test_who_closes_while_it_rests_accepts_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    sock = Listening(OSError(errno.ENFILE, "none"))
    server = greeting(sock, lambda _client: asyncio.Protocol())
    server.start(10)
    _, writer = await asyncio.open_connection(*sock.getsockname())
    await until(lambda: not sock.failures)
    server.close()
    assert server._resting is not None
    assert server._resting.cancelled()
    writer.close()


async def test_what_else_goes_wrong_is_not_hidden() -> None:
    sock = Listening(OSError(errno.EINVAL, "no listening socket"))
    server = greeting(sock, lambda _client: asyncio.Protocol())
    with pytest.raises(OSError, match="no listening socket"):
        server.accept()
    sock.close()


async def test_who_goes_before_the_header_is_whole_is_no_refusal(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    sock = Listening()
    server = greeting(sock, lambda _client: asyncio.Protocol())
    server.start(10)
    _, writer = await asyncio.open_connection(*sock.getsockname())
    writer.write(b"PROXY ")
    writer.close()
    await until(lambda: "is gone before its connection began" in caplog.text)
    assert not server._refusals.counts
    server.close()
