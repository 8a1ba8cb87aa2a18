"""Wrong and hostile clients: each gets its documented answer, and nobody else notices."""

import asyncio
import itertools
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import cent
import httpx
import pytest
import websockets

from tests.integration.clients.raw import RawClient, raw
from tests.integration.conftest import ConnectAPI
from tests.integration.servers import GatewayServer
from tests.integration.tokens import SECRET, connection_token, subscription_token, unsigned_token
from tests.waiting import until

AUDIENCE = "integration"
BYSTANDER = "chat:bystander"


def token(user: str = "mallory", ttl: float | None = None, key: str = SECRET, **claims: Any) -> str:
    return connection_token(user, ttl, key, **{"aud": AUDIENCE, **claims})


def channel_token(channel: str, ttl: float | None = None, key: str = SECRET, **claims: Any) -> str:
    return subscription_token(claims.pop("user", "mallory"), channel, ttl, key, aud=AUDIENCE, **claims)


@pytest.fixture
def url(impatient: GatewayServer) -> str:
    return impatient.ws_url


@pytest.fixture(autouse=True)
async def bystander(impatient: GatewayServer, api: ConnectAPI) -> AsyncIterator[RawClient]:
    """Somebody else's connection, which must get its messages before and after."""
    async with raw(impatient.ws_url, token("bystander")) as client:
        await client.command(subscribe={"channel": BYSTANDER})
        yield client
        await api(impatient).publish(cent.PublishRequest(channel=BYSTANDER, data="still there"))
        await until(lambda: pushed(client, "pub"))
        assert [push["data"] for push in pushed(client, "pub")] == ["still there"]


CONNECT = json.dumps({"id": 1, "connect": {"token": token()}})
SUBSCRIBE = json.dumps({"id": 2, "subscribe": {"channel": "chat:x"}})

CLOSED = {
    "not JSON": ([CONNECT, "good day"], 3501),
    "not JSON at first": (["good day"], 3501),
    "half JSON": ([CONNECT, '{"id":2,"subscribe":{"channel":'], 3501),
    "list": ([CONNECT, "[]"], 3501),
    "number": ([CONNECT, "17"], 3501),
    "null": ([CONNECT, "null"], 3501),
    "empty frame": ([CONNECT, ""], 3501),
    "blank frame": ([CONNECT, "\n"], 3501),
    "empty line between commands": ([CONNECT + "\n\n" + SUBSCRIBE], 3501),
    "wrong type": ([CONNECT, '{"id":2,"subscribe":{"channel":17}}'], 3501),
    "negative id": ([CONNECT, '{"id":-2,"subscribe":{"channel":"chat:x"}}'], 3501),
    "unknown command": ([CONNECT, '{"id":2,"conquer":{}}'], 3501),
    "no command": ([CONNECT, '{"id":2}'], 3501),
    "obsolete ping": ([CONNECT, '{"id":2,"ping":{}}'], 3501),
    "pong unasked": ([CONNECT, "{}"], 3501),
    "ten thousand pongs": ([CONNECT, "\n".join(["{}"] * 10_000)], 3501),
    "command before connect": ([SUBSCRIBE], 3501),
    "connect without id": ([json.dumps({"connect": {"token": token()}})], 3501),
    "second connect": ([CONNECT, CONNECT.replace('"id": 1', '"id": 2')], 3501),
    "no token": (['{"id":1,"connect":{}}'], 3501),
    "send without listener": ([CONNECT, '{"send":{"data":{}}}'], 3508),
    "empty channel": ([CONNECT, '{"id":2,"subscribe":{"channel":""}}'], 3501),
    "publish to no channel": ([CONNECT, '{"id":2,"publish":{"data":{}}}'], 3501),
    "unknown delta": ([CONNECT, '{"id":2,"subscribe":{"channel":"chat:x","delta":"xdelta"}}'], 3501),
    "refresh without token": ([CONNECT, '{"id":2,"refresh":{}}'], 3501),
    "oversized frame": ([CONNECT, "x" * 262_145], 1009),
    "not UTF-8": ([CONNECT, b"\xff\xfe{}"], 3501),
}


@pytest.mark.parametrize(("frames", "code"), CLOSED.values(), ids=CLOSED)
async def test_protocol_violations_end_the_connection(url: str, frames: list[str | bytes], code: int) -> None:
    async with raw(url) as client:
        for frame in frames:
            await client.send(frame)
        assert (await client.closed())[0] == code


INVALID_TOKENS = {
    "forged": token(key="another-secret-of-more-than-32-bytes"),
    "algorithm none": unsigned_token("mallory", AUDIENCE),
    "wrong audience": token(aud="others"),
    "no audience": connection_token("mallory"),
    "not a token": "abc",
    "not even nearly": "a.b.c",
    "for a channel": channel_token("chat:x"),
    "changed": ".".join([token().split(".")[0], token("admin").split(".")[1], token().split(".")[2]]),
}


@pytest.mark.parametrize("bad", INVALID_TOKENS.values(), ids=INVALID_TOKENS)
async def test_invalid_tokens_end_the_connection(url: str, bad: str) -> None:
    async with raw(url) as client:
        await client.send(json.dumps({"id": 1, "connect": {"token": bad}}))
        assert await client.closed() == (3500, "invalid token")
        assert client.replies == {}


@pytest.mark.parametrize(
    ("late", "error"),
    [
        (token(ttl=-10), {"code": 109, "message": "token expired"}),
        (token(expire_at=1), {"code": 110, "message": "expired"}),
    ],
    ids=["token", "connection"],
)
async def test_expired_tokens_are_answered_by_an_error(url: str, late: str, error: dict[str, Any]) -> None:
    async with raw(url) as client:
        assert await client.command(connect={"token": late}) == {"id": 1, "error": error}


async def test_a_client_that_was_refused_does_not_stay(url: str) -> None:
    async with raw(url) as client:
        await client.command(connect={"token": token(ttl=-10)})
        await client.closed()


async def test_a_client_that_was_refused_has_nothing_more_to_say(url: str) -> None:
    async with raw(url) as client:
        await client.command(connect={"token": token(ttl=-10)})
        await client.send(CONNECT)
        assert (await client.closed(deadline=3.0))[0] == 3501


DENIED = {"code": 103, "message": "permission denied"}
BAD = {"code": 107, "message": "bad request"}
UNKNOWN = {"code": 102, "message": "unknown channel"}
UNAVAILABLE = {"code": 108, "message": "not available"}

REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "subscribe without right": ({"subscribe": {"channel": "closed:x"}}, DENIED),
    "subscribe to private without token": ({"subscribe": {"channel": "$chat:x"}}, DENIED),
    "subscribe outside namespaces": ({"subscribe": {"channel": "x"}}, DENIED),
    "subscription token forged": (
        {"subscribe": {"channel": "chat:x", "token": channel_token("chat:x", key="another-secret-of-32-bytes-or-so")}},
        DENIED,
    ),
    "subscription token not a token": ({"subscribe": {"channel": "chat:x", "token": "abc"}}, DENIED),
    "subscription token expired": (
        {"subscribe": {"channel": "chat:x", "token": channel_token("chat:x", ttl=-10)}},
        {"code": 109, "message": "token expired"},
    ),
    "unknown namespace": ({"subscribe": {"channel": "nowhere:x"}}, UNKNOWN),
    "channel too long": ({"subscribe": {"channel": "chat:" + "x" * 251}}, BAD),
    "channel not ASCII": ({"subscribe": {"channel": "chat:ü"}}, BAD),
    "tags filter not allowed": (
        {"subscribe": {"channel": "chat:x", "tf": {"key": "a", "cmp": "ex"}}},
        {"code": 107, "message": "bad request: the channel takes no tags filter"},
    ),
    "map subscription": ({"subscribe": {"channel": "chat:x", "type": 1}}, DENIED),
    "publish without right": ({"publish": {"channel": "closed:x", "data": {}}}, DENIED),
    "publish as a stranger": ({"publish": {"channel": "plain:x", "data": {}}}, DENIED),
    "publish nothing": ({"publish": {"channel": "chat:x"}}, BAD),
    "publish to unknown namespace": ({"publish": {"channel": "nowhere:x", "data": {}}}, UNKNOWN),
    "presence where there is none": ({"presence": {"channel": "plain:x"}}, UNAVAILABLE),
    "presence without right": ({"presence": {"channel": "closed:x"}}, DENIED),
    "presence stats where there is none": ({"presence_stats": {"channel": "plain:x"}}, UNAVAILABLE),
    "history where there is none": ({"history": {"channel": "plain:x"}}, UNAVAILABLE),
    "history without right": ({"history": {"channel": "closed:x"}}, DENIED),
    "history of another epoch": (
        {"history": {"channel": "chat:x", "limit": 1, "since": {"offset": 1, "epoch": "elsewhere"}}},
        {"code": 112, "message": "unrecoverable position"},
    ),
    "history backwards from nowhere": (
        {"history": {"channel": "chat:x", "limit": 1, "since": {"offset": 0}, "reverse": True}},
        BAD,
    ),
    "rpc": ({"rpc": {"method": "fly", "data": {}}}, {"code": 108, "message": "not available"}),
    "refresh of a subscription one has not": (
        {"sub_refresh": {"channel": "chat:x", "token": channel_token("chat:x")}},
        DENIED,
    ),
}


@pytest.mark.parametrize(("command", "error"), REFUSED.values(), ids=REFUSED)
async def test_refused_commands_leave_the_connection(url: str, command: dict[str, Any], error: dict[str, Any]) -> None:
    async with raw(url, token()) as client:
        assert (await client.command(**command))["error"] == error
        assert "subscribe" in await client.command(subscribe={"channel": "chat:fine"})


async def test_the_longest_channel_is_fine(url: str) -> None:
    async with raw(url, token()) as client:
        assert "subscribe" in await client.command(subscribe={"channel": "chat:" + "x" * 250})


async def test_nobody_subscribes_twice_or_without_end(url: str) -> None:
    async with raw(url, token()) as client:
        await client.command(subscribe={"channel": "plain:0"})
        again = await client.command(subscribe={"channel": "plain:0"})
        assert again["error"] == {"code": 105, "message": "already subscribed"}
        for number in range(1, 128):
            assert "subscribe" in await client.command(subscribe={"channel": f"plain:{number}"})
        more = await client.command(subscribe={"channel": "plain:128"})
        assert more["error"] == {"code": 106, "message": "limit exceeded"}


@pytest.mark.parametrize(
    "foreign",
    [channel_token("chat:y"), channel_token("chat:x", user="alice"), channel_token("chat:x", client="another")],
    ids=["channel", "user", "client"],
)
async def test_tokens_of_others_end_the_connection(url: str, foreign: str) -> None:
    async with raw(url, token()) as client:
        await client.send(json.dumps({"id": 7, "subscribe": {"channel": "chat:x", "token": foreign}}))
        assert (await client.closed())[0] == 3500


async def test_ten_thousand_commands_in_a_frame_are_answered_in_order(
    impatient: GatewayServer, url: str, bystander: RawClient
) -> None:
    async with raw(url, token()) as client:
        await client.send("\n".join(f'{{"id":{number},"rpc":{{}}}}' for number in range(10, 10_010)))
        await client.reply(10_009)
        answered = [number for number in client.replies if number >= 10]
        assert answered == list(range(10, 10_010))


async def test_a_client_that_never_reads_is_dropped(
    impatient: GatewayServer, url: str, api: ConnectAPI, name: str
) -> None:
    channel = f"chat:{name}"
    call = api(impatient)

    async def subscribers() -> int:
        return (await call.presence_stats(cent.PresenceStatsRequest(channel=channel))).num_clients

    requests = [cent.PublishRequest(channel=channel, data="x" * 20_000) for _ in range(10)]
    async with raw(url, token("reader")) as reader:
        await reader.command(subscribe={"channel": channel})
        deaf = await deaf_client(impatient.port, channel)
        try:
            await until(lambda: len(pushed(reader, "join")) == 2)
            for rounds in itertools.count(1):
                await call.batch(cent.BatchRequest(requests=requests))
                await all_arrive(reader, 10 * rounds)
                if await subscribers() == 1:
                    break
                assert rounds < 200, "40 MB wait for a client that reads nothing, and it is still there"
            assert 'code="3008"' in await metrics(impatient)
        finally:
            deaf.close()


async def all_arrive(client: RawClient, count: int) -> None:
    await until(lambda: len(pushed(client, "pub")) == count)
    assert [push["offset"] for push in pushed(client, "pub")] == list(range(1, count + 1))


def pushed(client: RawClient, kind: str) -> list[dict[str, Any]]:
    return [push[kind] for push in client.pushes if kind in push]


async def metrics(server: GatewayServer) -> str:
    async with httpx.AsyncClient() as http:
        return (await http.get(f"{server.url}/metrics")).text


@asynccontextmanager
async def tcp(server: GatewayServer) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that speaks no protocol yet."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def handshake(*headers: str) -> bytes:
    lines = [
        "GET /connection/websocket HTTP/1.1",
        "Host: 127.0.0.1",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def text_frame(text: str) -> bytes:
    """A client's text frame of less than 64 KiB, masked with zeros."""
    payload = text.encode()
    length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    return b"\x81" + length + bytes(4) + payload


async def deaf_client(port: int, channel: str) -> socket.socket:
    """Subscribes to the channel and reads nothing after the handshake."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    response = b""
    await loop.sock_connect(connection, ("127.0.0.1", port))
    commands = [{"id": 1, "connect": {"token": token("deaf")}}, {"id": 2, "subscribe": {"channel": channel}}]
    frame = text_frame("\n".join(json.dumps(command) for command in commands))
    await loop.sock_sendall(connection, handshake())
    while not response.endswith(b"\r\n\r\n"):
        response += await loop.sock_recv(connection, 1)
    await loop.sock_sendall(connection, frame)
    return connection


async def test_a_client_that_says_nothing_is_stale(url: str) -> None:
    async with raw(url) as client:
        assert await client.closed() == (3502, "stale")


async def test_a_client_that_answers_no_ping_is_gone(pinging: GatewayServer) -> None:
    async with raw(pinging.ws_url, token(), pong=False) as client:
        assert await client.closed() == (3012, "no pong")


@asynccontextmanager
async def upgraded(
    server: GatewayServer, *headers: str
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, str]]:
    """A WebSocket of which the test writes the frames itself; the last is the server's response."""
    async with tcp(server) as (reader, writer), asyncio.timeout(10):
        writer.write(handshake(*headers))
        response = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert response.startswith("http/1.1 101 ")
        yield reader, writer, response


@pytest.mark.parametrize("sent", [b"", handshake()[:60]], ids=["nothing", "half"])
async def test_a_handshake_is_not_waited_for(impatient: GatewayServer, sent: bytes) -> None:
    async with tcp(impatient) as (reader, writer), asyncio.timeout(10):
        writer.write(sent)
        await reader.read(-1)


HALF_SENT = {
    "half a frame": text_frame(SUBSCRIBE)[:20],
    "half a frame header": b"\x81",
    "a message without its end": b"\x01" + text_frame(SUBSCRIBE)[1:],
}


@pytest.mark.parametrize("half", HALF_SENT.values(), ids=HALF_SENT)
async def test_half_a_message_is_not_waited_for(impatient: GatewayServer, half: bytes) -> None:
    async with upgraded(impatient) as (reader, writer, _):
        writer.write(text_frame(CONNECT))
        assert b'"connect":' in await reader.read(1024)
        writer.write(half)
        await reader.read(-1)


async def test_an_empty_subprotocol_header_is_accepted(impatient: GatewayServer) -> None:
    async with upgraded(impatient, "Sec-WebSocket-Protocol:") as (reader, writer, response):
        assert "sec-websocket-protocol" not in response
        writer.write(text_frame(CONNECT))
        assert b'"connect":' in await reader.read(1024)


async def test_pages_of_foreign_origins_are_refused(url: str) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with raw(url, origin="https://evil.example"):
            pass
    assert refused.value.response.status_code == 403
