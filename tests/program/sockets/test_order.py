"""What one coroutine sends to one socket arrives in the order of the calls, by whichever way."""

import asyncio

import pytest

from gateway.errors import BrokerUnavailable
from gateway.program.sockets import ConnectionManager
from gateway.program.sockets.order import plain
from tests.program.sockets.client import Client, SocketRig
from tests.waiting import settle


@pytest.fixture
async def rig() -> SocketRig:
    return await SocketRig.open()


async def test_a_broadcast_comes_before_what_is_sent_after_it(rig: SocketRig) -> None:
    client, manager = Client(), ConnectionManager(rig.host)
    await manager.connect(client.websocket, user="ann", room="r")
    await manager.broadcast("one")
    await manager.send_personal_message("two", client.websocket)
    await manager.broadcast("three", room="r")
    await client.websocket.send_text("four")
    await manager.send_to_user("ann", "five")
    await manager.send_personal_message("six", client.websocket)
    await manager.broadcast("seven")
    assert client.heard == ["one", "two", "three", "four", "five", "six", "seven"]


async def test_a_broadcast_comes_before_the_close(rig: SocketRig) -> None:
    client, manager = Client(), ConnectionManager(rig.host)
    await manager.connect(client.websocket)
    await manager.broadcast("goodbye")
    await client.websocket.close(4000)
    assert [message["type"] for message in client.sent] == ["websocket.accept", "websocket.send", "websocket.close"]


async def test_publications_come_before_what_is_sent_after_them(rig: SocketRig) -> None:
    client, other = Client(), Client()
    async with rig.sockets.attach(client.websocket) as connection, rig.sockets.attach(other.websocket) as second:
        for each in (connection, second):
            await each.subscribe("a")
        await connection.subscribe("room:1", replay=10)
        await rig.host.publish("a", 1)
        await connection.send(2)
        await rig.host.broadcast(["a", "room:1"], 3)
        await client.websocket.send_text("4")
        assert client.heard == ["1", "2", "3", "3", "4"]
        assert other.heard == ["1", "3"]


async def test_what_is_sent_to_a_connection_comes_before_what_is_sent_after_it(rig: SocketRig) -> None:
    client = Client()
    async with rig.sockets.attach(client.websocket, channels=["a"]) as connection:
        await rig.host.publish("a", 1)
        await rig.host.send(connection, 2)
        await client.websocket.send_text("3")
        await rig.host.send(connection, 4)
        await client.websocket.close(4000)
    assert client.heard == ["1", "2", "3", "4"]


async def test_what_is_sent_to_a_connection_waits_for_no_broker_that_has_gone(rig: SocketRig) -> None:
    client = Client()
    async with rig.sockets.attach(client.websocket) as connection:
        rig.broker.faults["echo"] = BrokerUnavailable()
        await rig.host.send(connection, 1)
        assert client.heard == ["1"]


async def test_publications_that_wait_to_leave_together_come_in_order_too(rig: SocketRig) -> None:
    client = Client()
    rig = await SocketRig.open(channel={"without_namespace": {"batch_delay": 0.5}})
    async with rig.sockets.attach(client.websocket) as connection:
        await connection.subscribe("slow")
        await rig.host.publish("slow", 1)
        await connection.send(2)
        assert client.heard == ["1", "2"]


async def test_those_of_one_moment_leave_together(rig: SocketRig, monkeypatch: pytest.MonkeyPatch) -> None:
    packed: list[int] = []
    async with rig.sockets.attach(Client().websocket) as connection:
        await connection.subscribe("news")
        [audience] = plain(rig.node.hub, ["news"])
        pack = type(audience.key.wire).pack

        def count(wire: object, messages: list[bytes]) -> object:
            packed.append(len(messages))
            return pack(audience.key.wire, messages)

        monkeypatch.setattr(type(audience.key.wire), "pack", count)
        await asyncio.gather(*(rig.host.publish("news", number) for number in range(100)))
    assert packed == [100]


async def test_channels_keep_their_order_in_one_tick(rig: SocketRig) -> None:
    """Also where one is heard by many, and the other by this client alone."""
    client, other = Client(), Client()
    async with rig.sockets.attach(client.websocket) as connection, rig.sockets.attach(other.websocket) as second:
        await connection.subscribe("both")
        await second.subscribe("both")
        await connection.subscribe("own")
        for number in range(0, 20, 4):
            await rig.publish("both", number)
            await rig.publish("own", number + 1, number + 2)
            await rig.publish("both", number + 3)
        await settle()
        assert client.heard == [str(number) for number in range(20)]


async def test_a_channel_of_many_formats_leaves_together(rig: SocketRig) -> None:
    """Its own publications are in order without more writing."""
    clients = [Client() for _ in range(2)]
    async with (
        rig.sockets.attach(clients[0].websocket) as one,
        rig.sockets.attach(clients[1].websocket, format="json") as two,
    ):
        for each in (one, two):
            await each.subscribe("news")
        await rig.publish("news", 1, 2, 3)
        assert [client.heard for client in clients] == [[], []]
        rig.node.hub.flush()
        assert [client.heard for client in clients] == [["1", "2", "3"]] * 2


async def test_nobody_waits_where_no_plain_socket_hears(rig: SocketRig, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await rig.connected()
    await client.subscribe("news")
    await rig.host.publish("news", 1)
    async with rig.sockets.attach(Client().websocket) as connection:
        await connection.subscribe("other")
        await rig.host.publish("news", 2)
    assert rig.broker.calls["echo"] == 0
    assert client.data() == [1, 2]


async def test_a_broker_that_goes_after_it_has_accepted_is_no_failure(rig: SocketRig) -> None:
    client = Client()
    async with rig.sockets.attach(client.websocket) as connection:
        await connection.subscribe("news")
        rig.broker.faults = {"echo": BrokerUnavailable()}
        await rig.host.publish("news", 1)
        await connection.send(2)
        assert client.heard == ["1", "2"]
