"""A closed connection is freed at once: nothing of it waits for a garbage collector, however it has ended."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.admin.recording import RecordRequest, record
from gateway.config.settings import Settings
from gateway.core.cluster import DisconnectUser
from gateway.core.node import Node
from gateway.core.recorder import Subject
from gateway.errors import DisconnectCode, ErrorCode
from gateway.messages import Payload, Publication
from gateway.serve.app import create_app
from gateway.session.taps import Taps
from tests.callers import Caller, calling
from tests.integration.tokens import SECRET, connection_token, subscription_token
from tests.leftovers import MANY, assert_freed
from tests.redis_server import RedisServer
from tests.serving import on_uvicorn
from tests.transports.sockets import client_frame
from tests.waiting import until

ROOM = {
    "presence": True,
    "join_leave": True,
    "force_push_join_leave": True,
    "history_size": 10,
    "history_ttl": 300,
    "force_recovery": True,
    "allow_subscribe_for_client": True,
    "allow_publish_for_subscriber": True,
    "allow_presence_for_subscriber": True,
    "allow_history_for_subscriber": True,
}


class Server:
    """A running gateway, and what happens to it while clients, in a thread, do theirs."""

    def __init__(self, port: int, app: Any) -> None:
        self.port = port
        self.node: Node = app.state.node
        self.drain: Callable[[], Coroutine[Any, Any, None]] = app.state.drain
        self._loop = asyncio.get_running_loop()

    def do(self, work: Coroutine[Any, Any, Any]) -> None:
        """Called by clients."""
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def call(self, clients: "Clients", *headers: bytes, path: str = "/connection/websocket") -> None:
        """Many connections, which end as the clients have it, and are forgotten by the server."""
        await asyncio.to_thread(self._call, clients, path, headers)

    def _call(self, clients: "Clients", path: str, headers: tuple[bytes, ...]) -> None:
        with calling(MANY, self.port, path, *headers) as callers:
            clients(callers, self)


Clients = Callable[[list[Caller], Server], None]


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[Server]:
    client = {"allow_anonymous_connect_without_token": True, "token": {"hmac_secret_key": SECRET}}
    given = {"client": client | options.pop("client", {}), "channel": {"without_namespace": ROOM}, **options}
    settings = Settings.model_validate(given)
    app = create_app(settings)
    async with on_uvicorn(app, settings) as port:
        yield Server(port, app)


def connect(callers: list[Caller], **request: Any) -> None:
    for each in callers:
        assert "connect" in each.ask(connect={"token": connection_token("ada"), **request})


def subscribe(callers: list[Caller], channel: str = "room") -> None:
    connect(callers)
    for each in callers:
        assert "subscribe" in each.ask(subscribe={"channel": channel})


def leave(callers: list[Caller], _server: Server) -> None:
    for each in callers:
        each.leave()


def leave_before_connect(callers: list[Caller], server: Server) -> None:
    leave(callers, server)


def leave_after_connect(callers: list[Caller], server: Server) -> None:
    connect(callers)
    leave(callers, server)


def leave_rooms(callers: list[Caller], server: Server) -> None:
    subscribe(callers)
    for each in callers:
        assert "publish" in each.ask(publish={"channel": "room", "data": {}})
        assert "presence" in each.ask(presence={"channel": "room"})
        assert "history" in each.ask(history={"channel": "room", "limit": 5})
        assert "unsubscribe" in each.ask(unsubscribe={"channel": "room"})
        assert "subscribe" in each.ask(subscribe={"channel": "room", "recover": True, "epoch": "x", "offset": 1})
    leave(callers, server)


def reset_before_connect(callers: list[Caller], _server: Server) -> None:
    for each in callers:
        each.reset()


def reset_amid_frames(callers: list[Caller], _server: Server) -> None:
    for each in callers:
        each.write(client_frame(b'{"id":1,"connect":{}}') + client_frame(b"{" * 100)[:50])
        each.hear()
        each.reset()


def reset_in_rooms(callers: list[Caller], _server: Server) -> None:
    subscribe(callers)
    for each in callers:
        each.reset()


def gone_without_close_frame(callers: list[Caller], _server: Server) -> None:
    subscribe(callers)
    for each in callers:
        each.drop()


def disconnected_by_the_server(callers: list[Caller], server: Server) -> None:
    subscribe(callers)
    code = DisconnectCode.FORCE_DISCONNECT
    server.do(server.node.cluster.command(DisconnectUser(user="ada", code=code, reason=code.reason)))
    assert {each.code() for each in callers} == {code}


def disconnected_but_deaf(callers: list[Caller], server: Server) -> None:
    """A client that does not answer the close frame."""
    subscribe(callers)
    code = DisconnectCode.FORCE_DISCONNECT
    server.do(server.node.cluster.command(DisconnectUser(user="ada", code=code, reason=code.reason)))
    for each in callers:
        each.reset()


def sent_away(callers: list[Caller], server: Server) -> None:
    subscribe(callers)
    server.do(server.drain())
    assert {each.code() for each in callers} == {DisconnectCode.SHUTDOWN}
    server.node.draining = False


def cut_off_as_slow(callers: list[Caller], server: Server) -> None:
    subscribe(callers)
    room = server.node.channels.resolve("room")
    while server.node.hub.connections:
        server.do(server.node.publish(room, Publication(Payload(b'"%s"' % (b"x" * 500_000)))))
    for each in callers:
        assert each.code() == DisconnectCode.SLOW


def reset_while_slow(callers: list[Caller], server: Server) -> None:
    subscribe(callers)
    room = server.node.channels.resolve("room")
    while not all(each.transport.behind() for each in server.node.hub.connections.values()):  # type: ignore[attr-defined]
        server.do(server.node.publish(room, Publication(Payload(b'"%s"' % (b"x" * 500_000)))))
    for each in callers:
        each.reset()


def silent(callers: list[Caller], _server: Server) -> None:
    assert {each.code() for each in callers} == {DisconnectCode.STALE}


def without_pong(callers: list[Caller], _server: Server) -> None:
    connect(callers)
    assert {each.code() for each in callers} == {DisconnectCode.NO_PONG}


def expired(callers: list[Caller], _server: Server) -> None:
    for each in callers:
        assert "connect" in each.ask(connect={"token": connection_token("ada", ttl=1.5, subs={"room": {}})})
    assert {each.code() for each in callers} == {DisconnectCode.EXPIRED}


def refused_for_an_expired_token(callers: list[Caller], server: Server) -> None:
    for each in callers:
        reply = each.ask(connect={"token": connection_token("ada", ttl=-100)})
        assert reply["error"]["code"] == ErrorCode.TOKEN_EXPIRED
    leave(callers, server)


def refused_for_a_wrong_token(callers: list[Caller], _server: Server) -> None:
    for each in callers:
        each.say(connect={"token": connection_token("ada", key="another secret of thirty-two bytes, or more")})
        assert each.code() == DisconnectCode.INVALID_TOKEN


def refused_subscriptions(callers: list[Caller], server: Server) -> None:
    connect(callers)
    for each in callers:
        assert "error" in each.ask(subscribe={"channel": "$private"})
        assert "error" in each.ask(subscribe={"channel": "unknown:name"})
        expired = subscription_token("ada", "$private", ttl=-100)
        assert "error" in each.ask(subscribe={"channel": "$private", "token": expired})
        each.say(subscribe={"channel": "$private", "token": subscription_token("another", "$private")})
        assert each.code() == DisconnectCode.INVALID_TOKEN


def server_side(callers: list[Caller], server: Server) -> None:
    for each in callers:
        token = connection_token("ada", subs={"one": {}, "two": {}})
        assert len(each.ask(connect={"token": token})["connect"]["subs"]) == 2
    leave(callers, server)


def no_json(callers: list[Caller], _server: Server) -> None:
    for each in callers:
        each.write(client_frame(b"{"))
        assert each.code() == DisconnectCode.BAD_REQUEST


def no_websocket_frames(callers: list[Caller], _server: Server) -> None:
    connect(callers)
    for each in callers:
        each.write(b"\x81\x05hello")  # not masked
        assert each.code() == 1002


WAYS: dict[Clients, dict[str, Any]] = {
    leave_before_connect: {},
    leave_after_connect: {},
    leave_rooms: {},
    reset_before_connect: {},
    reset_amid_frames: {},
    reset_in_rooms: {},
    gone_without_close_frame: {},
    disconnected_by_the_server: {},
    disconnected_but_deaf: {},
    sent_away: {"shutdown": {"drain_time": 0}},
    cut_off_as_slow: {"client": {"queue_max_size": 1024}},
    reset_while_slow: {"client": {"queue_max_size": 100_000_000}},
    silent: {"client": {"stale_close_delay": 0.2}},
    without_pong: {"client": {"ping_interval": 0.4, "pong_timeout": 0.1}},
    expired: {"client": {"expired_close_delay": 0}},
    refused_for_an_expired_token: {},
    refused_for_a_wrong_token: {},
    refused_subscriptions: {},
    server_side: {},
    no_json: {},
    no_websocket_frames: {},
}


@pytest.mark.parametrize("clients", WAYS, ids=lambda way: way.__name__)
async def test_nothing_is_left(clients: Clients) -> None:
    async with serving(**WAYS[clients]) as server:
        await assert_freed(lambda: server.call(clients))


RECORDED = [
    leave_rooms,
    reset_in_rooms,
    disconnected_by_the_server,
    without_pong,
    refused_for_a_wrong_token,
    refused_subscriptions,
    server_side,
]


@pytest.mark.parametrize("clients", RECORDED, ids=lambda way: way.__name__)
async def test_nothing_is_left_of_those_who_are_recorded_but_what_is_told(clients: Clients) -> None:
    async with serving(**WAYS[clients]) as server:
        for subject in (Subject("user", "ada"), Subject("channel", "room")):
            await record(server.node, RecordRequest(*subject))
        taps = server.node.witness
        assert isinstance(taps, Taps)

        async def call() -> None:
            await server.call(clients)
            await until(lambda: not (taps._watched or taps._connecting or taps._subscribers))
            assert any(watch.events for watch in taps.recorder.watches.values())
            for watch in taps.recorder.watches.values():
                watch.events.clear()

        await assert_freed(call)


async def test_nothing_is_left_of_a_refused_handshake() -> None:
    async with serving() as server:

        def refused(callers: list[Caller], _server: Server) -> None:
            for each in callers:
                assert each.status == 403
                each.rest()

        await assert_freed(lambda: server.call(refused, b"Origin: https://evil.example"))


async def test_nothing_is_left_of_what_is_compressed() -> None:
    async with serving(websocket={"compression": True}) as server:
        await assert_freed(lambda: server.call(leave_rooms, b"Sec-WebSocket-Extensions: permessage-deflate"))


async def test_nothing_is_left_where_redis_joins_the_nodes(server: RedisServer) -> None:
    async with serving(engine={"type": "redis", "redis": {"address": server.url}}) as gateway:
        await assert_freed(lambda: gateway.call(leave_rooms))


async def test_nothing_is_left_of_what_fails_while_redis_is_away() -> None:
    def in_vain(callers: list[Caller], gateway: Server) -> None:
        connect(callers)
        for each in callers:
            assert each.ask(subscribe={"channel": "room"})["error"]["code"] == ErrorCode.INTERNAL
        leave(callers, gateway)

    def refused(callers: list[Caller], gateway: Server) -> None:
        for each in callers:
            token = connection_token("ada", subs={"one": {}, "two": {}})
            assert each.ask(connect={"token": token})["error"]["code"] == ErrorCode.INTERNAL
        leave(callers, gateway)

    with RedisServer() as redis:
        async with serving(engine={"type": "redis", "redis": {"address": redis.url}}) as gateway:
            redis.kill()
            await until(lambda: not gateway.node.broker.health().connected)
            await assert_freed(lambda: gateway.call(in_vain))
            await assert_freed(lambda: gateway.call(refused))
