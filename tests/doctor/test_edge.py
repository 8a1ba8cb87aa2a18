"""A running gateway, through a real nginx and through things that are no gateway."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from gateway import Settings
from gateway.auth.tokens import sign_connection
from gateway.doctor import edge as edge_module
from gateway.doctor.edge import Edge
from gateway.doctor.finding import Finding, Level
from gateway.doctor.http import Address, upgrade
from gateway.errors import SettingsError
from gateway.serve.app import create_app
from tests.certificates import Authority
from tests.doctor.looking import bad, one, texts
from tests.doctor.nginx import GOOD, nginx
from tests.ports import free_port
from tests.serving import on_uvicorn

SECRET = "a" * 32
TOKEN = sign_connection(SECRET, "ann")


def make_settings(**sections: Any) -> Settings:
    client = {"token": {"hmac_secret_key": SECRET}, "allowed_origins": ["https://a.example"]} | sections.pop(
        "client", {}
    )
    return Settings(
        client=client, http_api={"key": "one of more than sixteen letters"}, uni_sse={"enabled": True}, **sections
    )


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[int]:
    async with on_uvicorn(create_app(settings), settings) as port:
        yield port


async def look(
    port: int,
    settings: Settings | None = None,
    *,
    origin: str = "",
    token: str = TOKEN,
    idle: bool = False,
    path: str = "",
) -> list[Finding]:
    edge = Edge(settings or make_settings(), Address.of(f"ws://127.0.0.1:{port}{path}"), origin, token)
    return await edge.run(idle=idle)


# — addresses —


def test_addresses_in_all_their_forms() -> None:
    for url in ("wss://a.example/x/connection/websocket", "https://a.example/x/", "wss://a.example/x"):
        address = Address.of(url)
        assert (address.http, address.websocket) == (
            "https://a.example/x",
            "wss://a.example/x/connection/websocket",
        )
    assert Address.of("127.0.0.1:8000").websocket == "ws://127.0.0.1:8000/connection/websocket"
    assert Address.of("ws://[::1]").authority == "[::1]"
    assert Address.of("ws://[::1]:81").authority == "[::1]:81"


@pytest.mark.parametrize("url", ["ftp://a.example", "http://", "http://a:99999", "ws://a:b", "http://[::"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(SettingsError, match="is no address; write for example wss://"):
        Address.of(url)


# — a gateway, and nginx before it —


async def test_a_gateway_by_itself() -> None:
    async with running(make_settings()) as port:
        found = await look(port, origin="https://a.example")
        assert bad(found) == []
        assert texts(found) == [
            "ok",
            "a WebSocket opens",
            "a client is let in",
            "how long it may be silent was not looked at",
            "events come when they are sent",
        ]


async def test_behind_nginx_as_it_should_be(tmp_path: Path) -> None:
    async with running(make_settings()) as port:
        with nginx(tmp_path, port) as front:
            found = await look(front)
    assert bad(found) == []
    assert one(found, "a WebSocket opens, through nginx").level is Level.OK


async def test_nginx_that_drops_upgrade(tmp_path: Path) -> None:
    async with running(make_settings()) as port:
        with nginx(tmp_path, port, "proxy_buffering off;") as front:
            found = one(bad(await look(front)), "no WebSocket opens, through nginx")
    assert "lost its Upgrade on the way" in found.text or "does not arrive as it was sent" in found.text
    assert 'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";' in found.remedy


async def test_nginx_that_collects_what_a_stream_sends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_module, "AT_ONCE", 1.0)
    buffering = GOOD.replace("proxy_buffering off;", "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;")
    packing = "gzip on; gzip_proxied any; gzip_types text/event-stream; gzip_min_length 0;"
    async with running(make_settings()) as port:
        with nginx(tmp_path, port, buffering + packing) as front:
            [found] = bad(await look(front))
    assert found.text == "nothing of a stream has come within 1 s: something in between collects it first"
    assert "proxy_buffering off" in found.remedy


async def test_nginx_that_waits_too_short_a_time(tmp_path: Path) -> None:
    settings = make_settings(client={"ping_interval": 20, "pong_timeout": 5})
    async with running(settings) as port:
        with nginx(tmp_path, port, GOOD + "proxy_read_timeout 1s;") as front:
            [found] = bad(await look(front, settings, idle=True))
    assert "silent is cut after" in found.text
    assert found.text.endswith("pings come every 20 s")
    assert "proxy_read_timeout" in found.remedy


async def test_silence_that_lasts_until_the_ping() -> None:
    settings = make_settings(client={"ping_interval": 1, "pong_timeout": 0.5})
    async with running(settings) as port:
        found = await look(port, settings, idle=True)
    assert one(found, "may be silent for the 1 s between two pings").level is Level.OK


async def test_a_ping_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_module, "GRACE", -24.5)
    async with running(make_settings()) as port:
        [found] = bad(await look(port, idle=True))
    assert found.text == "no ping has come within 0.5 s"


async def test_a_gateway_without_pings() -> None:
    settings = make_settings(client={"ping_interval": 0, "pong_timeout": 0})
    async with running(settings) as port:
        [found] = bad(await look(port, settings))
    assert found.text == "no pings keep connections alive"


# — who is not let in —


async def test_an_origin_that_is_refused() -> None:
    async with running(make_settings()) as port:
        found = await look(port, origin="https://b.example")
    refused = one(found, "no WebSocket opens")
    assert "the origin https://b.example is refused" in refused.text


async def test_tokens_that_are_refused() -> None:
    expired = sign_connection(SECRET, "ann", 60, 1_600_000_000)
    async with running(make_settings()) as port:
        assert one(await look(port, token=expired), "the client is refused: token expired (109)").level is Level.PROBLEM
        sent_away = one(await look(port, token="nonsense"), "the client is sent away")
        assert (sent_away.level, sent_away.text) == (Level.PROBLEM, "the client is sent away: invalid token (3500)")
        nobody = one(await look(port, token=""), "nobody is let in without a token, and none is given")
        assert (nobody.level, nobody.remedy) == (Level.NOTE, "give one with --token")


async def test_a_path_that_leads_elsewhere() -> None:
    async with running(make_settings()) as port:
        found = await look(port, path="/prefix")
    assert one(found, "there is nothing at /prefix/connection/websocket").level is Level.PROBLEM
    assert one(found, "it does not tell how it is").level is Level.NOTE


# — what the node says of itself —


async def test_a_node_that_is_stopping_and_warns() -> None:
    settings = make_settings()
    app = create_app(settings)
    async with on_uvicorn(app, settings) as port:
        app.state.node.warnings.append("this process is one of 2 workers")
        app.state.node.draining = True
        found = await look(port)
    assert one(found, "one of 2 workers").level is Level.WARNING
    assert one(found, "the node is draining").level is Level.WARNING
    assert one(found, "takes no more connections").level is Level.PROBLEM


async def test_a_node_without_its_broker(server_address: str) -> None:
    settings = make_settings(engine={"type": "redis", "redis": {"address": server_address}})
    async with running(settings) as port:
        found = await look(port, settings)
    assert [finding.level for finding in found if "/health/ready" in finding.about] == [Level.PROBLEM]


@pytest.fixture
def server_address() -> str:
    return f"redis://127.0.0.1:{free_port()}"


async def test_nodes_that_it_knows() -> None:
    async with running(make_settings()) as port:
        address = Address.of(f"http://127.0.0.1:{port}")
        assert await Edge(make_settings(), address, "", "").count_nodes() == 1
        wrong = make_settings().model_copy(update={"http_api": Settings(http_api={"key": "x"}).http_api})
        assert await Edge(wrong, address, "", "").count_nodes() is None
        assert await Edge(Settings(), address, "", "").count_nodes() is None


# — what is no gateway —


@asynccontextmanager
async def answering(*answers: bytes, hold: bool = False, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A port that answers each request with the next of these, the last again and again."""
    left = list(answers)
    done = asyncio.Event()

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(left.pop(0) if len(left) > 1 else left[0])
            await writer.drain()
            if hold:
                await done.wait()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(reply, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        done.set()
        server.close()


def plain(status: str, *headers: str, version: str = "HTTP/1.1") -> bytes:
    return "\r\n".join([f"{version} {status}", "Content-Length: 0", "Connection: close", *headers, "", ""]).encode()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (plain("502 Bad Gateway", "Server: nginx"), "no WebSocket opens, through nginx: what stands before"),
        (plain("504 Gateway Timeout"), "got no answer"),
        (plain("503 Unavailable"), "takes no more connections"),
        (plain("429 Too Many"), "too many connections"),
        (plain("426 Upgrade Required"), "lost its Upgrade"),
        (plain("400 Bad Request"), "does not arrive as it was sent (400)"),
        (
            plain("301 Moved", "Location: https://a.example/"),
            "sent elsewhere, which WebSockets do not follow (301, https",
        ),
        (plain("200 OK"), "it is answered 200"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "speaks no HTTP"),
        (b"HTTP/1.1 what\r\n\r\n", "speaks no HTTP"),
        (b"", "closed without an answer"),
        (b"x" * 100_000, "speaks no HTTP"),
    ],
)
async def test_answers_that_open_no_websocket(answer: bytes, text: str) -> None:
    settings = Settings()
    async with answering(answer) as port:
        found = await look(port, settings)
    assert one(found, text).level is Level.PROBLEM


async def test_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("gateway", "127.0.0.1"))
    context.set_alpn_protocols(["h2", "http/1.1"])  # with h2 there would be no head to read
    async with answering(plain("200 OK"), tls=context) as port:
        address = Address.of(f"wss://127.0.0.1:{port}")
        [untrusted] = bad(await Edge(Settings(), address, "", "").run(idle=False))
        assert "certificate verify failed" in untrusted.text
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
        assert (await upgrade(address, "", 5)).status == 200


async def test_http_of_old() -> None:
    async with answering(plain("200 OK", "Server: old", version="HTTP/1.0")) as port:
        found = await look(port, Settings())
    assert one(found, "old speaks HTTP/1.0, in which there are no WebSockets").level is Level.PROBLEM


async def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_module, "ANSWER", 0.2)
    async with answering(b"", hold=True) as port:
        assert one(await look(port, Settings()), "no answer within 0.2 s").level is Level.PROBLEM
    assert one(await look(free_port(), Settings()), "Connect call failed").level is Level.PROBLEM


@asynccontextmanager
async def speaking(say: Callable[[ServerConnection], Awaitable[None]]) -> AsyncIterator[int]:
    """A port with WebSockets that are no gateway's."""
    async with serve(say, "127.0.0.1", 0) as server:
        yield next(iter(server.sockets)).getsockname()[1]


async def test_a_websocket_that_breaks_off() -> None:
    upgraded = plain("101 Switching Protocols", "Upgrade: websocket")
    async with answering(plain("200 OK"), upgraded, plain("500 Broken")) as port:
        found = await look(port, Settings())
    assert one(found, "the connection broke off").level is Level.PROBLEM


async def test_a_websocket_that_is_cut_before_an_answer() -> None:
    async def cut(socket: ServerConnection) -> None:
        socket.transport.abort()

    async with speaking(cut) as port:
        found = await look(port, Settings())
    assert one(found, "the connection was cut before a client was answered").level is Level.PROBLEM


@pytest.mark.parametrize("answer", ["hello", "[]", "{}", "\n", '{"connect":{}}'])
async def test_a_websocket_of_something_else(answer: str) -> None:
    async def say(socket: ServerConnection) -> None:
        await socket.send(answer)
        await socket.wait_closed()

    async with speaking(say) as port:
        found = await look(port, Settings())
    assert one(found, "what answers is no gateway").level is Level.PROBLEM


async def test_publications_are_not_taken_for_pings() -> None:
    async def say(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send('{"id":1,"connect":{"client":"x","ping":1}}\n{"push":{}}')
        await socket.send('{"push":{}}')
        await socket.close()

    async with speaking(say) as port:
        found = await look(port, Settings(), idle=True)
    assert one(found, "a connection that is silent is cut after").level is Level.PROBLEM


async def test_a_host_that_is_none() -> None:
    edge = Edge(Settings(), Address.of(f"ws://{'a' * 70}.example"), "", "")
    assert bad(await edge.run(idle=False))[0].level is Level.PROBLEM
    assert await Edge(make_settings(), Address.of("ws://a b"), "", "").count_nodes() is None


async def test_a_websocket_that_holds_back_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_module, "ANSWER", 0.3)

    async def hold(socket: ServerConnection) -> None:
        await socket.wait_closed()

    async with speaking(hold) as port:
        found = await look(port, Settings())
    assert one(found, "what a client sends is not answered within 0.3 s").level is Level.PROBLEM


async def test_streams_that_are_not_served_or_break_off() -> None:
    settings = make_settings()
    unserved = settings.model_copy(update={"uni_sse": Settings().uni_sse})
    async with running(unserved) as port:
        assert one(await look(port, settings), "is answered 404").level is Level.PROBLEM
    for answer, text in ((b"", "the connection was closed without an answer"), (plain("200 OK"), "the stream ended")):
        async with answering(plain("200 OK"), plain("200 OK"), answer) as port:
            every = [finding for finding in await look(port, settings) if "uni_sse" in finding.about]
        assert one(every, text).level is Level.PROBLEM


async def test_the_streams_of_sdks() -> None:
    settings = make_settings(sse={"enabled": True})
    async with running(settings) as port:
        every = await look(port, settings)
    fine = [finding.about for finding in every if "events come when they are sent" in finding.text]
    assert [about.rpartition("/")[2] for about in fine] == ["uni_sse", "sse"]


async def test_streams_that_come_compressed() -> None:
    packed = plain("200 OK", "Content-Encoding: gzip").replace(b"Content-Length: 0\r\n", b"") + b"\x1f\x8b"
    async with answering(plain("200 OK"), plain("200 OK"), packed, hold=True) as port:
        assert one(await look(port, make_settings()), "events come when they are sent").level is Level.OK
