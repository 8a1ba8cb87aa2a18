"""What a client is sent and what it says, in each format; channels, replay, and the end."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.websockets import WebSocketDisconnect

from gateway.core.cluster import SendMessage, SubscribeUser, UnsubscribeUser
from gateway.errors import BrokerUnavailable, Disconnect, DisconnectCode, Error, ErrorCode
from gateway.messages import Payload, Position, Publication
from gateway.program.sockets import ClientLeft, PlainConnection
from gateway.protocols.plain import PlainText
from gateway.transports.raw import CLOSE_TIMEOUT
from tests.program.sockets.client import Client, SocketRig
from tests.session.rig import NOW
from tests.waiting import settle, until

DISCONNECT = Disconnect(4444, "go")


@pytest.fixture
async def rig() -> SocketRig:
    return await SocketRig.open()


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
async def connection(rig: SocketRig, client: Client) -> AsyncIterator[PlainConnection]:
    async with rig.sockets.attach(client.websocket, user="ann") as connection:
        yield connection
    await rig.assert_empty()


def heard(rig: SocketRig, client: Client) -> list[Any]:
    """What the client has been sent since it was last looked."""
    rig.node.hub.flush()
    messages = client.heard
    client.sent.clear()
    return messages


def _run(work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    asyncio.run(work())


async def publish_bytes(rig: SocketRig, channel: str, data: bytes) -> None:
    await rig.node.publish(rig.node.channels.resolve(channel), Publication(Payload(data), binary=True))


# — messages —


async def test_another_event_loop_is_refused_before_anything_is_sent(
    rig: SocketRig, client: Client, connection: PlainConnection
) -> None:
    rig.node.loop = asyncio.get_running_loop()
    works: tuple[Callable[[], Coroutine[Any, Any, Any]], ...] = (
        lambda: connection.send("x"),
        lambda: connection.subscribe("room"),
        lambda: connection.unsubscribe("room"),
        lambda: connection.refresh(expires=None),
        connection.close,
    )
    for work in works:
        with pytest.raises(RuntimeError, match="nothing was done"):
            await asyncio.to_thread(_run, work)
    assert heard(rig, client) == []
    assert not rig.node.hub.channels
    assert not connection.closed


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("text", ["hi", '{"a": [1]}', "null"]),
        ("json", ['"hi"', '{"a": [1]}', "null"]),
        ("bytes", [b"hi", b'{"a": [1]}', b"null"]),
    ],
)
async def test_publications_by_format(rig: SocketRig, client: Client, kind: Any, expected: list[Any]) -> None:
    async with rig.sockets.attach(client.websocket, format=kind) as connection:
        await connection.subscribe("news")
        await rig.publish("news", "hi", {"a": [1]}, None)
        assert heard(rig, client) == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("text", ["hi", '{"a":[1]}', "already"]),
        ("json", ['"hi"', '{"a":[1]}', '"already"']),
        ("bytes", [b"hi", b'{"a":[1]}', b"already", b"\xff"]),
    ],
)
async def test_sends_what_a_publication_would_look_like(
    rig: SocketRig, client: Client, kind: Any, expected: list[Any]
) -> None:
    async with rig.sockets.attach(client.websocket, format=kind) as connection:
        for value in ("hi", {"a": [1]}, Payload(b'"already"')):
            await connection.send(value)
        if kind == "bytes":
            await connection.send(b"\xff")
        else:
            with pytest.raises(TypeError, match="format='bytes'"):
                await connection.send(b"\xff")
        with pytest.raises(TypeError):
            await connection.send(object())
        assert heard(rig, client) == expected


async def test_binary_publications_are_for_connections_in_their_format(
    rig: SocketRig, client: Client, connection: PlainConnection, caplog: pytest.LogCaptureFixture
) -> None:
    raw = Client()
    async with rig.sockets.attach(raw.websocket, format="bytes") as other:
        await other.subscribe("binary:1")
        await connection.subscribe("binary:1")
        for _ in range(2):
            await publish_bytes(rig, "binary:1", b"\xff\x00")
        await rig.publish("binary:1", "text")
        assert heard(rig, raw) == [b"\xff\x00", b"\xff\x00", b"text"]
    await settle()
    assert heard(rig, client) == ["text"]
    assert not connection.closed
    [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "binary:1" in warning
    assert "format='bytes'" in warning


async def test_binary_publications_are_left_out_of_a_replay(
    rig: SocketRig, client: Client, connection: PlainConnection
) -> None:
    await rig.publish("room:1", "one")
    await publish_bytes(rig, "room:1", b"\xff")
    await rig.publish("room:1", "two")
    await connection.subscribe("room:1", replay=10)
    await rig.publish("room:1", "three")
    assert heard(rig, client) == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("kind", "said", "values"),
    [
        ("text", ["a", "ü"], ["a", "ü"]),
        ("json", ['{"a": 1}', b"2"], [{"a": 1}, 2]),
        ("bytes", [b"\xff", "ü"], [b"\xff", "ü".encode()]),
    ],
)
async def test_receives_until_the_client_leaves(
    rig: SocketRig, client: Client, kind: Any, said: list[Any], values: list[Any]
) -> None:
    async with rig.sockets.attach(client.websocket, format=kind) as connection:
        client.say(*said)
        client.leave()
        assert [value async for value in connection] == values
        assert connection.closed
        with pytest.raises(ClientLeft):
            await connection.receive()
    assert rig.node.metrics.bytes_in == sum(map(len, said))
    await rig.assert_empty()


@pytest.mark.parametrize(("kind", "said", "code"), [("text", b"a", 1003), ("json", "{", 1007)])
async def test_a_message_that_is_not_in_the_format_ends_the_connection(
    rig: SocketRig, client: Client, kind: Any, said: Any, code: int
) -> None:
    async with rig.sockets.attach(client.websocket, format=kind) as connection:
        client.say(said)
        receiving = asyncio.create_task(connection.receive())
        closing = await until(client.closing)
        assert closing
        assert closing[0] == code
        client.leave(code)
        with pytest.raises(ClientLeft) as left:
            await receiving
        assert left.value.code == code


async def test_messages_of_one_moment_are_frames_of_their_own(
    rig: SocketRig, client: Client, connection: PlainConnection
) -> None:
    other = Client()
    async with rig.sockets.attach(other.websocket) as second:
        for each in (connection, second):
            await each.subscribe("news")
        await rig.publish("news", "one", "two", "three")
        await connection.send("four")
        assert sorted(heard(rig, client)) == ["four", "one", "three", "two"]
        assert heard(rig, other) == ["one", "two", "three"]


async def test_one_encoding_serves_all(rig: SocketRig, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = []

    def encode(self: PlainText, publication: Publication) -> bytes:
        encoded.append(publication)
        return bytes(publication.data)

    monkeypatch.setattr(PlainText, "encode_data", encode)
    clients = [Client() for _ in range(5)]
    connections = [await rig.sockets.open(client.websocket) for client in clients]
    for connection in connections:
        await connection.subscribe("news")
    await rig.publish("news", 1)
    rig.node.hub.flush()
    assert [client.heard for client in clients] == [["1"]] * 5
    assert len(encoded) == 1
    assert rig.node.metrics.deliveries == 5
    for connection in connections:
        await connection.left()


async def test_a_route_that_only_sends_gives_others_their_turn(
    rig: SocketRig, client: Client, connection: PlainConnection
) -> None:
    for number in range(1000):
        await connection.send(number)
    assert len(client.heard) > 900
    assert heard(rig, client) == [str(number) for number in range(1000)]


async def test_sending_to_one_who_has_left_ends_the_block(rig: SocketRig, client: Client) -> None:
    async with rig.sockets.attach(client.websocket) as connection:
        client.error = OSError("gone")
        count = 0
        while True:
            await connection.send("x")
            count += 1
            assert count < 1000
    assert rig.node.metrics.disconnects == {DisconnectCode.WRITE_ERROR: 1}
    await rig.assert_empty()


async def test_what_is_sent_leaves_at_once(rig: SocketRig, client: Client, connection: PlainConnection) -> None:
    """Behind what is pending for the client, and ahead of whatever the route does with the socket."""
    await rig.publish("room:1", 1, 2)
    await connection.subscribe("room:1", replay=10)
    await connection.send("three")
    await client.websocket.send_text("four")
    assert client.heard == ["1", "2", "three", "four"]
    assert heard(rig, client) == ["1", "2", "three", "four"]


async def test_another_clients_leaving_is_no_end_of_the_block(rig: SocketRig, client: Client) -> None:
    other = await rig.sockets.open(Client().websocket)
    await other.left()
    with pytest.raises(ClientLeft) as left:
        async with rig.sockets.attach(client.websocket):
            await other.send("are you there?")
    assert left.value.connection is other
    assert str(left.value) == f"client {other.id} has left: 3000 connection closed"
    await rig.assert_empty()


@pytest.mark.parametrize(
    ("farewell", "closing"),
    [((), (1000, "")), ((4000,), (4000, "")), ((1013, "later"), (1013, "later")), ((4000, "x" * 123), None)],
)
async def test_closes(
    client: Client, connection: PlainConnection, farewell: tuple[Any, ...], closing: tuple[int, str] | None
) -> None:
    await connection.close(*farewell)
    assert await until(client.closing) == (closing or farewell)
    await connection.close()


@pytest.mark.parametrize("code", [1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3001, 3005, 4999])
async def test_codes_are_the_routes_own(client: Client, connection: PlainConnection, code: int) -> None:
    await connection.close(code, "since I say so")
    assert await until(client.closing) == (code, "since I say so")


async def test_the_route_learns_of_our_close_when_it_sends(client: Client, connection: PlainConnection) -> None:
    await client.websocket.send_text("before")
    await connection.close(4000)
    with pytest.raises(WebSocketDisconnect):
        await client.websocket.send_text("after")
    assert client.closing() == (4000, ""), "not before the client does: the route may end by it"
    assert client.heard == ["before"]


@pytest.mark.parametrize("code", [0, 999, 1005, 1006, 1015, 2000, 5000])
async def test_codes_that_no_server_sends(connection: PlainConnection, code: int) -> None:
    with pytest.raises(ValueError, match=f"code = {code} .*for example 4001"):
        await connection.close(code)
    assert not connection.closed


async def test_a_reason_that_no_frame_has_room_for(connection: PlainConnection) -> None:
    with pytest.raises(ValueError, match="123 bytes"):
        await connection.close(4000, "ü" * 62)
    assert not connection.closed


@pytest.mark.parametrize("closes", [False, True])
async def test_a_client_that_does_not_read_holds_no_route(rig: SocketRig, client: Client, closes: bool) -> None:
    async def route() -> None:
        async with rig.sockets.attach(client.websocket) as connection:
            client.gate = asyncio.Event()
            await connection.send("x")
            if closes:
                await connection.close()

    task = asyncio.create_task(route())
    await until(lambda: rig.acceptor.sessions == set() and client.accepted)
    await settle()
    assert not task.done()
    rig.pass_time(CLOSE_TIMEOUT + 1)
    await until(task.done)
    await task
    await rig.assert_empty()


async def test_what_was_sent_before_the_end_of_the_block_leaves(rig: SocketRig, client: Client) -> None:
    client.gate = asyncio.Event()

    async def route() -> None:
        async with rig.sockets.attach(client.websocket) as connection:
            for text in ("a", "b", "c"):
                await connection.send(text)

    task = asyncio.create_task(route())
    await until(lambda: rig.acceptor.sessions == set() and client.accepted)
    assert not task.done()
    client.gate.set()
    await task
    assert client.heard == ["a", "b", "c"]


# — channels —


async def test_hears_what_it_is_subscribed_to(rig: SocketRig, client: Client, connection: PlainConnection) -> None:
    await connection.subscribe("news")
    await connection.subscribe("news")
    await rig.publish("news", "one")
    await rig.publish("other", "two")
    assert heard(rig, client) == ["one"]
    await connection.unsubscribe("news")
    await connection.unsubscribe("news")
    await rig.publish("news", "three")
    assert heard(rig, client) == []


async def test_needs_no_permission_and_is_shown(rig: SocketRig, client: Client, connection: PlainConnection) -> None:
    await connection.subscribe("closed:1")
    watcher = await rig.connected()
    await watcher.subscribe("lobby:1")
    watcher.take()
    await connection.subscribe("lobby:1", info=["admin"])
    [join] = watcher.take()
    assert join["join"]["info"] == {"user": "ann", "client": connection.id, "chan_info": ["admin"]}
    await connection.unsubscribe("lobby:1")
    [leave] = watcher.take()
    assert leave["leave"]["info"]["client"] == connection.id
    await watcher.leave()
    assert heard(rig, client) == []


async def test_joins_and_leaves_of_others_are_not_sent(
    rig: SocketRig, client: Client, connection: PlainConnection
) -> None:
    await connection.subscribe("lobby:1")
    other = await rig.connected()
    await other.subscribe("lobby:1")
    await other.leave()
    assert heard(rig, client) == []


@pytest.mark.parametrize(
    ("channel", "code"),
    [("", ErrorCode.BAD_REQUEST), ("nowhere:1", ErrorCode.UNKNOWN_CHANNEL)],
)
async def test_channels_that_there_cannot_be(connection: PlainConnection, channel: str, code: int) -> None:
    with pytest.raises(Error) as refused:
        await connection.subscribe(channel)
    assert refused.value.code == code
    assert not connection.closed


async def test_the_limit_of_channels_holds(client: Client) -> None:
    rig = await SocketRig.open(channel_limit=2)
    async with rig.sockets.attach(client.websocket) as connection:
        await connection.subscribe("a")
        await connection.subscribe("b")
        with pytest.raises(Error) as refused:
            await connection.subscribe("c")
        assert refused.value.code == ErrorCode.LIMIT_EXCEEDED
    await rig.assert_empty()


async def test_a_broker_that_is_away(rig: SocketRig, client: Client, connection: PlainConnection) -> None:
    rig.broker.down()
    with pytest.raises(BrokerUnavailable):
        await connection.subscribe("news")
    assert not connection.closed


async def test_joins_reach_others_though_the_server_subscribes_a_plain_client(
    rig: SocketRig, client: Client, connection: PlainConnection
) -> None:
    rig.control(SubscribeUser(user="ann", channel="lobby:1"))
    await rig.settle()
    watcher = await rig.connected()
    await watcher.subscribe("lobby:1")
    watcher.take()
    second = Client()
    async with rig.sockets.attach(second.websocket, user="eve") as other:
        await other.subscribe("lobby:1")
        assert [push["join"]["info"]["user"] for push in watcher.take()] == ["eve"]
    assert [push["leave"]["info"]["user"] for push in watcher.take()] == ["eve"]
    await watcher.leave()
    assert heard(rig, client) == []
    assert not connection.closed


async def test_the_server_api_subscribes_and_unsubscribes(
    rig: SocketRig, client: Client, connection: PlainConnection
) -> None:
    rig.control(SubscribeUser(user="ann", channel="watched:1"))
    await rig.settle()
    await rig.publish("watched:1", "one")
    assert heard(rig, client) == ["one"]
    rig.control(UnsubscribeUser(user="ann", channel="watched:1", code=2000, reason="server unsubscribe"))
    await rig.publish("watched:1", "two")
    assert heard(rig, client) == []


async def test_a_client_that_leaves_amid_a_subscribe(rig: SocketRig, client: Client) -> None:
    gate = rig.broker.gate("subscribe", "news")
    async with rig.sockets.attach(client.websocket) as connection:
        subscribing = asyncio.create_task(connection.subscribe("news"))
        await gate.reached()
        await connection.close(4000, "enough")
        gate.open()
        with pytest.raises(ClientLeft) as left:
            await subscribing
        assert left.value.code == 4000
        with pytest.raises(ClientLeft):
            await connection.subscribe("other")
    assert client.closing() == (4000, "enough")
    await rig.assert_empty()


# — replay —


async def test_replays_the_newest_in_order(rig: SocketRig, client: Client, connection: PlainConnection) -> None:
    await rig.publish("room:1", *range(5))
    await connection.subscribe("room:1", replay=3)
    await connection.send("then")
    await rig.publish("room:1", 5)
    assert heard(rig, client) == ["2", "3", "4", "then", "5"]


async def test_replays_nothing_unless_it_is_asked_to(
    rig: SocketRig, client: Client, connection: PlainConnection
) -> None:
    await rig.publish("room:1", 1)
    await connection.subscribe("room:1")
    assert heard(rig, client) == []


async def test_the_channels_options_may_ask(client: Client) -> None:
    namespace = {"name": "talk", "replay": True, "history_size": 10, "history_ttl": 60}
    rig = await SocketRig.open(channel={"namespaces": [namespace]})
    await rig.publish("talk:1", 1, 2)
    quiet = Client()
    async with (
        rig.sockets.attach(client.websocket) as connection,
        rig.sockets.attach(quiet.websocket) as other,
    ):
        await connection.subscribe("talk:1")
        await other.subscribe("talk:1", replay=0)
        assert heard(rig, client) == ["1", "2"]
        assert heard(rig, quiet) == []


async def test_a_replay_needs_history(connection: PlainConnection) -> None:
    with pytest.raises(Error, match="keeps no history") as refused:
        await connection.subscribe("news", replay=1)
    assert refused.value.code == ErrorCode.NOT_AVAILABLE


@pytest.mark.parametrize("step", ["history", "read"])
async def test_what_comes_amid_a_replay_comes_once(
    rig: SocketRig, client: Client, connection: PlainConnection, step: str
) -> None:
    await rig.publish("room:1", 1, 2)
    gate = rig.broker.gate(step, "room:1")
    subscribing = asyncio.create_task(connection.subscribe("room:1", replay=10))
    await gate.reached()
    await rig.publish("room:1", 3)
    gate.open()
    await subscribing
    await rig.publish("room:1", 4)
    assert heard(rig, client) == ["1", "2", "3", "4"]


async def test_what_the_stream_brings_after_the_replay_comes_once(
    rig: SocketRig, client: Client, connection: PlainConnection
) -> None:
    """The history was read ahead of what the broker delivers, as from Redis it may be."""
    await rig.publish("room:1", 1, 2)
    top = await rig.position("room:1")
    await connection.subscribe("room:1", replay=10)
    for offset, data in ((1, b"1"), (2, b"2"), (3, b"3")):
        rig.node.on_publication("room:1", Publication(Payload(data), offset=offset, epoch=top.epoch))
    assert heard(rig, client) == ["1", "2", "3"]


@pytest.mark.parametrize("others", [False, True])
async def test_a_gap_is_passed_over_and_what_comes_after_it_arrives(
    rig: SocketRig, client: Client, connection: PlainConnection, others: bool
) -> None:
    """Offset 4 used to be lost with 2 and 3, unless somebody else was there who had no position either."""
    position = await rig.publish("room:1", 1)
    await connection.subscribe("room:1", replay=10)
    other = Client()
    async with rig.sockets.attach(other.websocket) as elsewhere:
        if others:
            await elsewhere.subscribe("room:1", replay=0)
        for offset in (4, 5, 6, 9):
            data = Payload(str(offset).encode())
            rig.node.on_publication("room:1", Publication(data, offset=offset, epoch=position.epoch))
        assert heard(rig, client) == ["1", "4", "5", "6", "9"]
        assert heard(rig, other) == (["4", "5", "6", "9"] if others else [])
    assert rig.node.hub.subscriptions == 1
    assert not connection.closed


async def test_a_gap_right_after_the_replay(rig: SocketRig, client: Client, connection: PlainConnection) -> None:
    """The history was read ahead of the stream, and what it is ahead by never comes."""
    await rig.publish("room:1", 1, 2)
    position = await rig.position("room:1")
    await connection.subscribe("room:1", replay=10)
    for offset in (1, 5, 6):
        data = Payload(str(offset).encode())
        rig.node.on_publication("room:1", Publication(data, offset=offset, epoch=position.epoch))
    assert heard(rig, client) == ["1", "2", "5", "6"]


@pytest.mark.parametrize("epoch", [None, "another"], ids=["the same epoch", "another epoch"])
async def test_a_stream_that_went_back_is_heard(
    rig: SocketRig, client: Client, connection: PlainConnection, epoch: str | None
) -> None:
    """As after a failover: what arrives is the client's, whatever its offset."""
    await rig.publish("room:1", 1, 2)
    await connection.subscribe("room:1", replay=10)
    position = await rig.publish("room:1", 3)
    for offset in (2, 3):
        data = Payload(str(offset * 10).encode())
        rig.node.on_publication("room:1", Publication(data, offset=offset, epoch=epoch or position.epoch))
    assert heard(rig, client) == ["1", "2", "3", "20", "30"]
    assert not connection.closed


async def test_what_replays_cost_no_check_of_positions(rig: SocketRig, connection: PlainConnection) -> None:
    await rig.publish("room:1", 1)
    await connection.subscribe("room:1", replay=10)
    assert rig.node.hub.channels["room:1"].positions() == set()


async def test_a_gap_found_at_the_end_is_nothing(rig: SocketRig, client: Client) -> None:
    position = await rig.publish("room:1", 1)
    async with rig.sockets.attach(client.websocket) as connection:
        await connection.subscribe("room:1", replay=10)
        await connection.close()
        rig.node.on_publication("room:1", Publication(Payload(b"9"), offset=9, epoch=position.epoch))
    await rig.assert_empty()


async def test_a_stream_that_breaks_amid_a_replay_ends_the_connection(rig: SocketRig, client: Client) -> None:
    await rig.publish("room:1", 1)
    gate = rig.broker.gate("read", "room:1")
    async with rig.sockets.attach(client.websocket) as connection:
        subscribing = asyncio.create_task(connection.subscribe("room:1", replay=10))
        await gate.reached()
        rig.node.on_publication("room:1", Publication(Payload(b"9"), offset=9, epoch="another"))
        gate.open()
        with pytest.raises(ClientLeft) as left:
            await subscribing
        assert left.value.code == DisconnectCode.INSUFFICIENT_STATE
    assert client.closing() is not None
    await rig.assert_empty()


# — slow clients —


async def test_a_client_that_reads_too_slowly_is_cut_off(client: Client) -> None:
    rig = await SocketRig.open(queue_max_size=1024)
    async with rig.sockets.attach(client.websocket, format="bytes") as connection:
        client.gate = asyncio.Event()
        await connection.subscribe("news")
        for _ in range(40):
            await rig.publish("news", "x" * 100)
            rig.node.hub.flush()
        await until(lambda: connection.closed)
        client.gate.set()
        await until(lambda: client.closing())
        assert client.closing() == (DisconnectCode.SLOW, "slow")
    assert rig.node.metrics.disconnects == {DisconnectCode.SLOW: 1}
    await rig.assert_empty()


async def test_a_client_that_does_not_close_is_given_up(rig: SocketRig, client: Client) -> None:
    """Only the connection's own waiting ends; the route goes on and may say that the client has left."""

    async def route() -> list[Any]:
        async with rig.sockets.attach(client.websocket, user="ann") as connection:
            heard = [value async for value in connection]
        await rig.host.publish("news", "ann has left")
        return heard

    task = asyncio.create_task(route())
    await until(lambda: rig.node.hub.of_user("ann"))
    client.say("hi")
    await settle()
    rig.node.hub.of_user("ann")[0].disconnect(DISCONNECT)
    await until(lambda: client.closing())
    rig.pass_time(4)
    await settle()
    assert not task.done()
    rig.pass_time(2)
    assert await task == ["hi"]
    assert not task.cancelling()
    await rig.assert_empty()


async def test_a_route_that_is_busy_meanwhile_is_left_alone(rig: SocketRig, client: Client) -> None:
    busy = asyncio.Event()

    async def route() -> None:
        async with rig.sockets.attach(client.websocket) as connection:
            await connection.close(4444, "go")
            await busy.wait()
            async for _ in connection:
                raise AssertionError("nothing was said")

    task = asyncio.create_task(route())
    await until(client.closing)
    rig.pass_time(6)
    await settle()
    assert not task.done()
    busy.set()
    await task
    await rig.assert_empty()


async def test_a_route_cancelled_meanwhile_is_cancelled(rig: SocketRig, client: Client) -> None:
    async def route() -> None:
        async with rig.sockets.attach(client.websocket, user="ann") as connection:
            await connection.receive()

    task = asyncio.create_task(route())
    await until(lambda: rig.node.hub.of_user("ann"))
    rig.node.hub.of_user("ann")[0].disconnect(DISCONNECT)
    await until(lambda: client.closing())
    rig.pass_time(6)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await rig.assert_empty()


# — a position to go on from —


async def test_goes_on_from_a_position(rig: SocketRig, client: Client, connection: PlainConnection) -> None:
    first = await rig.publish("room:1", 1)
    await rig.publish("room:1", 2, 3)
    found = await connection.subscribe("room:1", since=first)
    await rig.publish("room:1", 4)
    assert heard(rig, client) == ["2", "3", "4"]
    assert found == (3, first.epoch, True)
    assert found.position == Position(3, first.epoch)


@pytest.mark.parametrize(("replay", "expected"), [(None, []), (2, ["1", "2"])])
async def test_a_position_that_cannot_be_gone_on_from(
    rig: SocketRig, client: Client, connection: PlainConnection, replay: int | None, expected: list[str]
) -> None:
    top = await rig.publish("room:1", 0, 1, 2)
    found = await connection.subscribe("room:1", since=Position(1, "another"), replay=replay)
    assert found == (3, top.epoch, False)
    assert heard(rig, client) == expected


async def test_nothing_missed(rig: SocketRig, client: Client, connection: PlainConnection) -> None:
    top = await rig.publish("room:1", 1)
    assert (await connection.subscribe("room:1", since=top)).recovered
    assert heard(rig, client) == []


async def test_who_has_seen_nothing_may_know_the_position(
    rig: SocketRig, client: Client, connection: PlainConnection
) -> None:
    top = await rig.publish("room:1", 1)
    found = await connection.subscribe("room:1", replay=0)
    assert found == (1, top.epoch, False)
    await rig.publish("room:1", 2)
    assert heard(rig, client) == ["2"]
    await connection.unsubscribe("room:1")
    await rig.publish("room:1", 3)
    assert (await connection.subscribe("room:1", since=found.position)).recovered
    assert heard(rig, client) == ["2", "3"]


@pytest.mark.parametrize("since", [7, {"offset": 1}, Position("1", "a"), Position(-1, "a"), Position(1, None)])  # type: ignore[arg-type]
async def test_what_is_no_position(connection: PlainConnection, since: Any) -> None:
    with pytest.raises(ValueError, match=r"is no position.*Position\(offset=7"):
        await connection.subscribe("room:1", since=since)


async def test_a_position_needs_history(connection: PlainConnection) -> None:
    with pytest.raises(Error, match="keeps no history"):
        await connection.subscribe("news", since=Position(1, "a"))


# — messages: the route takes what is published —


async def test_the_route_takes_what_is_published(rig: SocketRig, client: Client) -> None:
    """A protocol of its own, with positions, by which a page goes on after it has been away."""
    first = await rig.publish("room:1", {"n": 1})
    await rig.publish("room:1", {"n": 2}, {"n": 3})

    async def route() -> None:
        async with rig.sockets.attach(client.websocket, format="json") as connection:
            hello = await connection.receive()
            await connection.subscribe("room:1", since=Position(hello["offset"], hello["epoch"]))
            async for message in connection.messages():
                told = {"offset": message.offset, "epoch": message.epoch, "recovered": message.recovered}
                await connection.send({**told, "data": message.data})

    running = asyncio.create_task(route())
    client.say(json.dumps({"offset": first.offset, "epoch": first.epoch}))
    await until(lambda: len(client.heard) == 2)
    await rig.publish("room:1", {"n": 4})
    await until(lambda: len(client.heard) == 3)
    assert [json.loads(each) for each in client.heard] == [
        {"offset": offset, "epoch": first.epoch, "recovered": offset < 4, "data": {"n": offset}} for offset in (2, 3, 4)
    ]
    client.leave()
    await running
    await rig.assert_empty()


async def test_messages_say_what_they_are(rig: SocketRig, connection: PlainConnection) -> None:
    messages = connection.messages()
    await connection.subscribe("news")
    await connection.subscribe("any:1")
    await rig.host.publish("news", {"a": 1}, tags={"lang": "en"})
    await publish_bytes(rig, "any:1", b"\xff")
    one, two = [await anext(messages) for _ in range(2)]
    assert (one.channel, one.data, one.payload, one.offset, one.tags, one.recovered) == (
        *("news", {"a": 1}, b'{"a":1}', 0),
        *({"lang": "en"}, False),
    )
    assert (two.channel, two.data, two.offset, two.binary) == ("any:1", b"\xff", 1, True)


async def test_messages_of_several_channels_come_in_order(rig: SocketRig, connection: PlainConnection) -> None:
    messages = connection.messages()
    for channel in ("a", "b"):
        await connection.subscribe(channel)
    for number, channel in enumerate("abaab"):
        await rig.publish(channel, number)
    assert [(await anext(messages)).data for _ in range(5)] == [0, 1, 2, 3, 4]


async def test_what_came_before_the_call_is_the_clients(
    rig: SocketRig, client: Client, connection: PlainConnection
) -> None:
    await rig.publish("room:1", 1, 2)
    await connection.subscribe("news")
    await rig.publish("news", "before")
    await connection.subscribe("room:1", replay=10)
    messages = connection.messages()
    assert heard(rig, client) == ["before"]
    await rig.publish("news", "after")
    await rig.publish("room:1", 3)
    assert [(await anext(messages)).data for _ in range(4)] == [1, 2, "after", 3]
    assert heard(rig, client) == []
    await connection.send("own")
    assert heard(rig, client) == ["own"]


async def test_what_is_sent_to_the_connection_alone_is_the_routes_from_the_call_on(
    rig: SocketRig, client: Client, connection: PlainConnection
) -> None:
    await connection.subscribe("news")
    rig.control(SendMessage(client=connection.id, data=Payload(b'"before"')))
    messages = connection.messages()
    assert heard(rig, client) == ["before"]
    await rig.publish("news", 1)
    await rig.host.send(connection, {"for": "you"})
    one, two = [await anext(messages) for _ in range(2)]
    assert [(each.channel, each.data, each.recovered) for each in (one, two)] == [
        ("news", 1, False),
        ("", {"for": "you"}, False),
    ]
    assert heard(rig, client) == []


async def test_what_the_history_has_is_not_taken_twice(
    rig: SocketRig, client: Client, connection: PlainConnection
) -> None:
    await rig.publish("room:1", 1, 2)
    top = await rig.position("room:1")
    await connection.subscribe("room:1", replay=10)
    messages = connection.messages()
    for offset in (1, 2, 3):
        data = Payload(str(offset).encode())
        rig.node.on_publication("room:1", Publication(data, offset=offset, epoch=top.epoch))
    assert [(await anext(messages)).offset for _ in range(3)] == [1, 2, 3]


async def test_the_route_may_read_beside_it(rig: SocketRig, client: Client, connection: PlainConnection) -> None:
    messages = connection.messages()
    await connection.subscribe("news")
    taking = asyncio.ensure_future(anext(messages))
    await settle()
    client.say("one")
    await settle()
    assert await connection.receive() == "one"
    reading = asyncio.create_task(connection.receive())
    await rig.publish("news", 1)
    assert (await taking).data == 1
    taking = asyncio.ensure_future(anext(messages))
    client.say("two")
    assert await reading == "two"
    client.say("three")
    client.leave()
    assert [text async for text in connection] == ["three"]
    with pytest.raises(StopAsyncIteration):
        await taking


@pytest.mark.parametrize("closes", [False, True])
async def test_messages_end_with_the_connection(
    rig: SocketRig, client: Client, connection: PlainConnection, closes: bool
) -> None:
    messages = connection.messages()
    taking = asyncio.ensure_future(anext(messages))
    await settle()
    if closes:
        await connection.close(4000)
    else:
        client.leave(1001)
    with pytest.raises(StopAsyncIteration):
        await taking
    assert connection.closed
    client.leave(4000)
    with pytest.raises(ClientLeft) as left:
        await connection.receive()
    assert left.value.code == (4000 if closes else 1001)


@pytest.mark.parametrize("said", [["one"], ["one", "two", "three"]])
async def test_messages_end_with_a_client_whose_words_nobody_reads(
    rig: SocketRig, client: Client, said: list[str]
) -> None:
    async with rig.sockets.attach(client.websocket) as connection:
        taking = asyncio.ensure_future(anext(connection.messages()))
        client.say(*said)
        client.leave(1001)
        with pytest.raises(StopAsyncIteration):
            await taking
        assert connection.closed
        assert [text async for text in connection] == said
    await rig.assert_empty()


async def test_messages_end_also_if_somebody_has_read_until_now(client: Client, connection: PlainConnection) -> None:
    reading = asyncio.create_task(connection.receive())
    await settle()
    taking = asyncio.ensure_future(anext(connection.messages()))
    client.say("one")
    assert await reading == "one"
    client.leave()
    with pytest.raises(StopAsyncIteration):
        await taking


async def test_what_nobody_reads_is_bounded(client: Client) -> None:
    rig = await SocketRig.open(queue_max_size=2048)
    async with rig.sockets.attach(client.websocket) as connection:
        taking = asyncio.ensure_future(anext(connection.messages()))
        for _ in range(10):
            client.say("x" * 100)
            await settle()
        with pytest.raises(StopAsyncIteration):
            await taking
        assert client.closing() == (1008, "nobody reads what you send")
    await rig.assert_empty()


async def test_who_reads_the_websocket_goes_on_after_the_block(rig: SocketRig, client: Client) -> None:
    async with rig.sockets.attach(client.websocket) as connection:
        taking = asyncio.ensure_future(anext(connection.messages()))
        await settle()
        reading = asyncio.create_task(client.websocket.receive_text())
        await settle()
    with pytest.raises(StopAsyncIteration):
        await taking
    client.say("yours")
    assert await reading == "yours"


async def test_a_route_that_does_not_take_its_messages_is_cut_off(client: Client) -> None:
    rig = await SocketRig.open(queue_max_size=1024)
    async with rig.sockets.attach(client.websocket) as connection:
        connection.messages()
        await connection.subscribe("news")
        for _ in range(20):
            await rig.publish("news", "x" * 100)
            rig.node.hub.flush()
        await until(lambda: connection.closed)
    assert client.closing() == (DisconnectCode.SLOW, "slow")
    await rig.assert_empty()


async def test_after_the_block_the_websocket_is_the_routes_again(rig: SocketRig, client: Client) -> None:
    async with rig.sockets.attach(client.websocket) as connection:
        taking = asyncio.ensure_future(anext(connection.messages()))
        await settle()
    with pytest.raises(StopAsyncIteration):
        await taking
    client.say("yours", b"yours, too")
    assert await client.websocket.receive_text() == "yours"
    assert await client.websocket.receive_bytes() == b"yours, too"


# — the websocket itself —


@pytest.mark.parametrize(
    ("kind", "said", "read"),
    [
        ("text", "a", lambda websocket: websocket.receive_text()),
        ("json", b'{"a":1}', lambda websocket: websocket.receive_json()),
        ("bytes", "a", lambda websocket: websocket.receive_bytes()),
    ],
)
async def test_the_websocket_receives_as_the_connection_does(
    rig: SocketRig, client: Client, kind: Any, said: Any, read: Any
) -> None:
    async with rig.sockets.attach(client.websocket, format=kind) as connection:
        client.say(said, said)
        assert await read(client.websocket) == await connection.receive()
    assert rig.node.metrics.bytes_in == 2 * len(said)


@pytest.mark.parametrize(("kind", "said", "code"), [("text", b"a", 1003), ("json", "{", 1007)])
async def test_the_websocket_receives_nothing_that_is_not_in_the_format(
    rig: SocketRig, client: Client, kind: Any, said: Any, code: int
) -> None:
    async with rig.sockets.attach(client.websocket, format=kind):
        client.say(said)
        receiving = asyncio.create_task(client.websocket.receive_text())
        closing = await until(client.closing)
        assert closing
        assert closing[0] == code
        client.leave(code)
        await receiving
    await rig.assert_empty()


async def test_the_websocket_receives_nothing_after_our_close(client: Client, connection: PlainConnection) -> None:
    await connection.close(4000)
    client.say("too late")
    client.leave(4000)
    with pytest.raises(WebSocketDisconnect) as left:
        await client.websocket.receive_text()
    assert left.value.code == 4000
    assert [text async for text in connection] == []


# — the end, moved —


async def test_its_time_can_be_moved(rig: SocketRig, client: Client) -> None:
    async with rig.sockets.attach(client.websocket, token=rig.token("ann", ttl=30)) as connection:
        await connection.refresh(expires=datetime.fromtimestamp(NOW + 60, UTC))
        rig.pass_time(59)
        assert not connection.closed
        await connection.refresh(expires=None)
        rig.pass_time(100)
        assert not connection.closed
        await connection.refresh(expires=NOW)
        assert await until(client.closing) == (4001, "token expired")
        with pytest.raises(ClientLeft):
            await connection.refresh(expires=None)
    await rig.assert_empty()


@pytest.mark.parametrize("kind", ["text", "json"])
async def test_the_end_of_a_stream_is_an_object(rig: SocketRig, client: Client, kind: Any) -> None:
    async with rig.sockets.attach(client.websocket, format=kind) as connection:
        await connection.subscribe("room:1")
        await rig.host.publish("room:1", None, tags={"stream": "done"})
        assert heard(rig, client) == ['{"stream":"done"}']
