"""WebSockets one way: raw and over plain ASGI, with the frames and statuses that clients see."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from gateway.auth.tokens import sign_connection
from gateway.config.settings import Settings
from gateway.errors import Disconnect, DisconnectCode
from gateway.messages import Payload, Publication
from gateway.serve.app import create_app
from gateway.transports.direct import DirectTransport
from tests.integration.tokens import SECRET, connection_token
from tests.leftovers import assert_freed
from tests.serving import Serve, on_fast_uvicorn, on_plain_uvicorn, on_uvicorn
from tests.transports.sockets import PING, TEXT, Peer, client_frame, closing, upgrade_request
from tests.transports.test_freed import Server, serving
from tests.waiting import until

PATH = "/connection/uni_websocket"
ROOM = '{"subs":{"room":{}}}'


class Gateway:
    """A running one."""

    def __init__(self, app: Any) -> None:
        self.port = 0
        self.node = app.state.node
        self.drain = app.state.drain

    @asynccontextmanager
    async def open(self, query: str = "", *headers: bytes, status: bytes = b" 101 ") -> AsyncIterator[Peer]:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", self.port))
        try:
            peer.write(upgrade_request(PATH + query, *headers))
            head = await peer.head()
            assert status in head
            assert b"sec-websocket-protocol" not in head.lower()
            yield peer
        finally:
            peer.writer.transport.abort()

    @asynccontextmanager
    async def subscriber(self) -> AsyncIterator[Peer]:
        async with self.open(asks(ROOM)) as peer:
            assert (await said(peer))["connect"]["subs"] == {"room": {}}
            yield peer

    async def publish(self, *several: Any) -> None:
        room = self.node.channels.resolve("room")
        for data in several:
            await self.node.publish(room, Publication(Payload(json.dumps(data).encode())))


def asks(request: str) -> str:
    return f"?cf_connect={quote(request)}"


async def said(peer: Peer) -> Any:
    opcode, payload = await peer.frame()
    assert opcode == TEXT
    return json.loads(payload)


@asynccontextmanager
async def running(serve: Serve, client: dict[str, Any] | None = None, **uni: Any) -> AsyncIterator[Gateway]:
    options = {"insecure": True, "ping_interval": 0, "token": {"hmac_secret_key": SECRET}, **(client or {})}
    settings = Settings.model_validate({"client": options, "uni_websocket": {"enabled": True, **uni}})
    app = create_app(settings)
    gateway = Gateway(app)
    async with serve(app, settings) as gateway.port:
        yield gateway


SERVERS = [on_uvicorn, on_fast_uvicorn, on_plain_uvicorn]


@pytest.fixture(params=SERVERS, ids=lambda serve: serve.__name__)
async def gateway(request: pytest.FixtureRequest) -> AsyncIterator[Gateway]:
    async with running(request.param) as gateway:
        yield gateway


async def test_a_request_in_the_query_or_as_the_first_message(gateway: Gateway) -> None:
    async with gateway.open() as peer, gateway.open(asks(ROOM)) as other:
        peer.write(client_frame(ROOM.encode()))
        for each in (peer, other):
            told = (await said(each))["connect"]
            assert told.keys() == {"client", "version", "subs", "session"}
        await until(lambda: gateway.node.hub.subscriptions == 2)
        await gateway.publish([1])
        for each in (peer, other):
            assert await said(each) == {"channel": "room", "pub": {"data": [1]}}
        names = {session.transport.name for session in gateway.node.hub.connections.values()}
        assert names == {"uni_websocket"}
        assert gateway.node.metrics.opened_connections == {"uni_websocket": 2}
    await until(lambda: not gateway.node.hub.connections)


@pytest.mark.parametrize("request_", ["null", "{}"])
async def test_an_empty_request(gateway: Gateway, request_: str) -> None:
    async with gateway.open(asks(request_)) as peer, gateway.open("?cf_connect=") as other:
        other.write(client_frame(request_.encode()))
        for each in (peer, other):
            assert "client" in (await said(each))["connect"]


async def test_later_messages_are_ignored(gateway: Gateway) -> None:
    async with gateway.subscriber() as peer:
        for message in (b"{", b"", ROOM.encode()):
            peer.write(client_frame(message))
        peer.write(client_frame(b"last", PING))
        assert await peer.frame() == (10, b"last")
        await gateway.publish(1)
        assert (await said(peer))["pub"]["data"] == 1
        [session] = gateway.node.hub.connections.values()
        assert gateway.node.metrics.bytes_in == len(ROOM)
        assert session.state.name == "CONNECTED"


async def test_what_is_no_request(gateway: Gateway) -> None:
    async with gateway.open(asks("{"), status=b" 400 "), gateway.open() as peer:
        peer.write(client_frame(b"{"))
        push = {"disconnect": {"code": 3501, "reason": "bad request"}}
        assert await said(peer) == push
        assert await peer.frame() == closing(3501, b"bad request")
    async with gateway.open(asks('{"token":5}'), status=b" 400 "):
        pass
    async with gateway.open(asks(ROOM), b"Origin: https://evil.net", status=b" 403 "):
        pass
    await until(lambda: not gateway.node.hub.connections)


async def test_a_request_may_be_too_large(gateway: Gateway) -> None:
    async with gateway.open() as peer:
        peer.write(client_frame(b'"%b"' % (b"x" * 65_536)))
        opcode, payload = await peer.frame()
        assert (opcode, int.from_bytes(payload[:2], "big")) == (8, 1009)


@pytest.mark.parametrize("serve", SERVERS)
async def test_in_the_query_too(serve: Serve) -> None:
    async with running(serve, {"message_size_limit": 256}) as gateway:
        async with gateway.open(asks(f'{{"name":"{"x" * 256}"}}'), status=b" 413 "):
            pass
        assert gateway.node.metrics.refusals == {"message_size": 1}


async def test_plain_http_is_told_what_is_missing(gateway: Gateway) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"http://127.0.0.1:{gateway.port}{PATH}")
        assert answer.status_code == 426


async def test_each_push_is_a_message(gateway: Gateway) -> None:
    async with gateway.subscriber() as peer:
        await gateway.publish(*range(20))
        for number in range(20):
            assert (await said(peer))["pub"]["data"] == number


@pytest.mark.parametrize("serve", SERVERS)
async def test_or_all_that_come_together_are_one(serve: Serve) -> None:
    async with running(serve, join_push_messages=True) as gateway, gateway.subscriber() as peer:
        await gateway.publish(*range(20))
        opcode, payload = await peer.frame()
        assert opcode == TEXT
        assert [json.loads(line)["pub"]["data"] for line in payload.split(b"\n")] == list(range(20))


async def test_the_reason_comes_twice(gateway: Gateway) -> None:
    async with gateway.subscriber() as peer:
        await gateway.publish(1)
        [session] = gateway.node.hub.connections.values()
        session.disconnect(Disconnect(4001, "lunch"))
        assert (await said(peer))["pub"]["data"] == 1
        assert await said(peer) == {"disconnect": {"code": 4001, "reason": "lunch"}}
        assert await peer.frame() == closing(4001, b"lunch")


@pytest.mark.parametrize("serve", SERVERS)
async def test_or_by_the_close_frame_alone(serve: Serve) -> None:
    async with running(serve, disable_disconnect_push=True) as gateway, gateway.subscriber() as peer:
        await gateway.drain()
        assert await peer.frame() == closing(3001, b"shutdown")


async def test_who_may_not_come_in(gateway: Gateway) -> None:
    token = sign_connection(SECRET, "ann", -10, gateway.node.clock())
    for request, code in (({"token": "forged"}, 3500), ({"token": token}, 3005)):
        async with gateway.open(asks(json.dumps(request))) as peer:
            assert (await said(peer))["disconnect"]["code"] == code
            opcode, payload = await peer.frame()
            assert (opcode, int.from_bytes(payload[:2], "big")) == (8, code)


@pytest.mark.parametrize("serve", SERVERS)
async def test_pings(serve: Serve) -> None:
    """Ours come with one of the WebSocket's own, whose pong no session waits for."""
    async with running(serve, {"ping_interval": 0.4, "pong_timeout": 0.2}) as gateway, gateway.open(asks("{}")) as peer:
        told = (await said(peer))["connect"]
        assert (told["ping"], "pong" in told) == (1, False)
        for _ in range(2):
            if serve is not on_plain_uvicorn:
                assert await peer.frame() == (PING, b"")
            assert await said(peer) == {}


@pytest.mark.parametrize("serve", SERVERS)
async def test_who_reads_nothing_is_cut_off(serve: Serve) -> None:
    async with running(serve, {"queue_max_size": 1024}) as gateway, gateway.subscriber() as peer:
        peer.stop_reading()
        while gateway.node.hub.connections:
            await gateway.publish("x" * 500_000)
            await asyncio.sleep(0)
        assert gateway.node.metrics.refusals["slow_client"] == 1


async def test_messages_may_be_compressed() -> None:
    settings = Settings.model_validate(
        {
            "client": {"insecure": True},
            "websocket": {"compression": True},
            "uni_websocket": {"enabled": True},
        }
    )
    app = create_app(settings)
    gateway = Gateway(app)
    offer = b"Sec-WebSocket-Extensions: permessage-deflate"
    async with on_uvicorn(app, settings) as gateway.port, gateway.open(asks(ROOM), offer) as peer:
        await peer.frame()
        await gateway.publish("x" * 1000, "y" * 1000)
        for _ in range(2):
            opcode, payload = await peer.frame()
            assert opcode == TEXT | 0x40
            assert len(payload) < 100


async def test_on_our_server_nothing_is_between() -> None:
    async with running(on_uvicorn) as gateway, gateway.subscriber():
        [session] = gateway.node.hub.connections.values()
        assert isinstance(session.transport, DirectTransport)


# — freed —


def asked_for(callers: list[Any], request: dict[str, Any]) -> None:
    for each in callers:
        each.write(client_frame(json.dumps(request).encode()))


@pytest.mark.parametrize("end", ["leave", "reset", "server", "refused", "nothing"])
async def test_nothing_is_left(end: str) -> None:
    async with serving(uni_websocket={"enabled": True}) as server:

        def clients(callers: list[Any], server: Server) -> None:
            if end == "refused":
                asked_for(callers, {"token": "forged"})
                assert {each.code() for each in callers} == {DisconnectCode.INVALID_TOKEN}
                return
            if end != "nothing":
                asked_for(callers, {"token": connection_token("ada"), "subs": {"room": {}}})
                for each in callers:
                    assert each.hear()
                    each.text("ignored")
            if end == "server":
                server.do(server.drain())
                assert {each.code() for each in callers} == {DisconnectCode.SHUTDOWN}
                server.node.draining = False
                return
            for each in callers:
                (each.reset if end == "reset" else each.leave)()

        await assert_freed(lambda: server.call(clients, path=PATH))
