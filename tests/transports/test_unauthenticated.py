"""Clients that have not been let in: what they can make the server keep, and what becomes of them meanwhile."""

import asyncio
import json
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from gateway import Gateway, Settings
from gateway.session import Session
from gateway.session.base import NOWHERE
from gateway.transports.base import UNAUTHENTICATED
from gateway.transports.direct import DirectTransport
from gateway.transports.raw import QUEUED
from gateway.transports.sipping import SIP
from gateway.transports.uvicorn_websocket import WebSocketProtocol
from tests.serving import Serve, on_plain_uvicorn, on_uvicorn
from tests.transports.sockets import CLOSE, CONTINUATION, PING, PONG, Peer, client_frame, closing, upgrade_request
from tests.waiting import until

PATH = "/connection/websocket"
CONNECT = client_frame(b'{"id":1,"connect":{}}')
FAREWELL = client_frame(struct.pack("!H", 1000), CLOSE)
FLOOD = 4 * 1024 * 1024


class House:
    """A gateway whose program lets nobody in before the test says so."""

    def __init__(self) -> None:
        self.asked = 0
        self.decide = asyncio.Event()
        self.gateway = Gateway(
            Settings(client={"message_size_limit": 4 * UNAUTHENTICATED, "ping_interval": 0, "pong_timeout": 0})
        )

        @self.gateway.on_connect
        async def connect() -> str:
            self.asked += 1
            await self.decide.wait()
            return "ann"

    @property
    def sessions(self) -> list[Session]:
        return list(self.gateway.running.acceptor.sessions)

    def raw(self) -> tuple[DirectTransport, WebSocketProtocol]:
        """The one client's transport and connection."""
        [session] = self.sessions
        transport = session.transport
        assert isinstance(transport, DirectTransport)
        connection = transport._connection
        assert isinstance(connection, WebSocketProtocol)
        return transport, connection

    def kept(self) -> int:
        """Bytes of what waits, and of what is unfinished, for the one client."""
        transport, connection = self.raw()
        return sum(map(len, transport._waiting or ())) + connection._parser.kept

    def holds(self) -> bool:
        """Not where the session has ended, which has no transport any more."""
        return self.sessions[0].transport is not NOWHERE and self.raw()[1]._held


@asynccontextmanager
async def house(serve: Serve = on_uvicorn) -> AsyncIterator[tuple[House, Callable[[], Any]]]:
    """And how one connects to it."""
    house = House()
    app = FastAPI()
    app.include_router(house.gateway.router)
    peers: list[Peer] = []
    async with serve(app, house.gateway.settings) as port:

        async def peer(*headers: bytes) -> Peer:
            peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
            peers.append(peer)
            await peer.upgrade(PATH, *headers)
            return peer

        try:
            yield house, peer
        finally:
            house.decide.set()
            for each in peers:
                each.writer.transport.abort()


def commands(count: int, size: int = 0) -> bytes:
    """Commands with the ids from 2 on, each in a frame of its own."""
    frames = [b'{"id":%d,"rpc":{"method":"none","data":"%b"}}' % (number + 2, b"x" * size) for number in range(count)]
    return b"".join(map(client_frame, frames))


async def answers(peer: Peer, count: int) -> list[int]:
    """Ids of so many replies."""
    ids: list[int] = []
    while len(ids) < count:
        _, payload = await peer.frame()
        ids += [json.loads(line)["id"] for line in payload.split(b"\n")]
    return ids


@pytest.mark.parametrize("size", [0, 1000, 60_000])
async def test_while_connect_is_decided_no_more_is_read_than_the_bound(size: int) -> None:
    async with house() as (gateway, connect):
        peer: Peer = await connect()
        peer.write(CONNECT)
        await until(lambda: gateway.asked)
        count = 40 * (QUEUED // (size + 128))
        peer.write(commands(count, size))
        await until(gateway.holds)
        assert gateway.kept() <= QUEUED + SIP + 100
        gateway.decide.set()
        assert await answers(peer, count + 1) == list(range(1, count + 2)), "all of it, in order"
        assert not gateway.holds()


@pytest.mark.parametrize("size", [0, 60_000])
async def test_what_comes_together_with_connect_is_bounded_too(size: int) -> None:
    """Either the connection is held, or so much came in one read that it is over."""
    async with house() as (gateway, connect):
        peer: Peer = await connect()
        peer.write(CONNECT + commands(FLOOD // (size + 128), size))
        await until(lambda: not gateway.sessions or gateway.holds())
        if gateway.sessions:
            assert gateway.kept() <= 2 * QUEUED + SIP


@pytest.mark.parametrize("serve", [on_uvicorn, on_plain_uvicorn])
async def test_until_then_messages_are_small_whatever_the_setting_says(serve: Serve) -> None:
    async with house(serve) as (gateway, connect):
        peer: Peer = await connect()
        peer.write(client_frame(b'{"id":1,"connect":{}}'.ljust(UNAUTHENTICATED + 1)))
        assert await peer.frame() == closing(1009, b"message is too big")
        assert not gateway.asked
        peer = await connect()
        peer.write(client_frame(b'{"id":1,"connect":{}}'.ljust(UNAUTHENTICATED)))
        gateway.decide.set()
        assert await answers(peer, 1) == [1]
        peer.write(commands(1, 3 * UNAUTHENTICATED))
        assert await answers(peer, 1) == [2]


async def test_fragments_count_together() -> None:
    async with house() as (_, connect):
        peer: Peer = await connect()
        peer.write(client_frame(b" " * (UNAUTHENTICATED // 2), fin=False))
        for _ in range(2):
            peer.write(client_frame(b" " * (UNAUTHENTICATED // 3), CONTINUATION, fin=False))
        assert await peer.frame() == closing(1009, b"message is too big")


async def test_a_compressed_message_counts_as_what_it_becomes() -> None:
    async with compressing() as peer:
        compressor = zlib.compressobj(wbits=-15)
        bomb = compressor.compress(b" " * FLOOD) + compressor.flush(zlib.Z_SYNC_FLUSH)
        frame = bytearray(client_frame(bomb[:-4]))
        frame[0] |= 0x40
        peer.write(bytes(frame))
        assert await peer.frame() == closing(1009, b"message is too big")


@asynccontextmanager
async def compressing() -> AsyncIterator[Peer]:
    gateway = Gateway(Settings(websocket={"compression": True}))
    app = FastAPI()
    app.include_router(gateway.router)
    async with on_uvicorn(app, gateway.settings) as port:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
        peer.write(upgrade_request(PATH, b"Sec-WebSocket-Extensions: permessage-deflate"))
        assert b"permessage-deflate" in await peer.head()
        yield peer
        peer.writer.transport.abort()


@pytest.mark.parametrize("segments", [1, 2])
async def test_one_who_says_goodbye_while_it_is_decided_leaves_nothing(segments: int) -> None:
    async with house() as (gateway, connect):
        peer: Peer = await connect()
        if segments == 1:
            peer.write(CONNECT + FAREWELL)
        else:
            peer.write(CONNECT)
            await until(lambda: gateway.asked)
            peer.write(FAREWELL)
        assert await peer.frame() == closing(1000)
        await until(lambda: not gateway.sessions)
        gateway.decide.set()
        node = gateway.gateway.running.node
        await until(lambda: not node.hub.connections)
        assert node.hub.subscriptions == 0


async def test_one_who_is_gone_while_it_is_decided_is_noticed() -> None:
    async with house() as (gateway, connect):
        peer: Peer = await connect()
        peer.write(CONNECT)
        await until(lambda: gateway.asked)
        peer.reset()
        await until(lambda: not gateway.sessions)
        peer = await connect()
        peer.write(CONNECT)
        await until(lambda: gateway.asked == 2)
        peer.writer.write_eof()
        await until(lambda: not gateway.sessions)


async def test_pings_are_answered_while_it_is_decided() -> None:
    async with house() as (gateway, connect):
        peer: Peer = await connect()
        peer.write(CONNECT)
        await until(lambda: gateway.asked)
        peer.write(client_frame(b"here?", PING))
        assert await peer.frame() == (PONG, b"here?")
        assert gateway.kept() == 0
