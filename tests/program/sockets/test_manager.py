"""The tutorial's connection manager: its words, and what becomes of sockets that nobody disconnects."""

import asyncio
from collections.abc import Callable

import pytest
from fastapi import FastAPI
from starlette.websockets import WebSocketDisconnect

from gateway import ConnectionManager as AppManager
from gateway import Gateway
from gateway.config.settings import Settings
from gateway.errors import BrokerUnavailable, Disconnect
from gateway.program.sockets import ConnectionManager
from tests.program.sockets.client import Client, SocketRig
from tests.waiting import until


@pytest.fixture
async def rig() -> SocketRig:
    return await SocketRig.open()


@pytest.fixture
def manager(rig: SocketRig) -> ConnectionManager:
    return ConnectionManager(rig.host)


class Route:
    """The tutorial's route, in a task of its own as a server runs it."""

    def __init__(self, rig: SocketRig, manager: ConnectionManager, user: str = "") -> None:
        self.rig, self.manager, self.user = rig, manager, user
        self.client = Client()
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        websocket, manager = self.client.websocket, self.manager
        await manager.connect(websocket, user=self.user)
        try:
            while True:
                data = await websocket.receive_text()
                if data == "crash":
                    raise ZeroDivisionError
                await manager.send_personal_message(f"You wrote: {data}", websocket)
                await manager.broadcast(f"Client says: {data}")
        except WebSocketDisconnect:
            manager.disconnect(websocket)
            await manager.broadcast("Client left the chat")

    async def connected(self) -> "Route":
        await until(lambda: self.client.websocket in self.manager.active_connections or self.task.done())
        await until(lambda: self.rig.node.hub.subscribers("broadcast") >= len(self.manager.active_connections))
        return self

    async def hears(self, *texts: str) -> None:
        await until(lambda: len(self.client.heard) >= len(texts))
        assert self.client.heard == list(texts)
        self.client.sent.clear()


async def test_the_tutorial(rig: SocketRig, manager: ConnectionManager) -> None:
    one, two = await Route(rig, manager).connected(), await Route(rig, manager).connected()
    assert manager.active_connections == [one.client.websocket, two.client.websocket]
    assert one.client.accepted
    one.client.say("hi")
    await one.hears("You wrote: hi", "Client says: hi")
    await two.hears("Client says: hi")
    one.client.leave()
    await one.task
    await two.hears("Client left the chat")
    assert one.client.heard == []
    assert manager.active_connections == [two.client.websocket]
    two.client.leave()
    await two.task
    await rig.assert_empty()


async def test_disconnects_once(rig: SocketRig, manager: ConnectionManager) -> None:
    client = Client()
    await manager.connect(client.websocket)
    manager.disconnect(client.websocket)
    manager.disconnect(client.websocket)
    manager.disconnect(Client().websocket)
    assert manager.active_connections == []
    await manager.send_personal_message("too late", client.websocket)
    await manager.broadcast("too late")
    await rig.assert_empty()
    assert client.heard == []
    assert client.closing() is None


async def test_what_was_sent_before_leaves(rig: SocketRig, manager: ConnectionManager) -> None:
    client = Client()
    await manager.connect(client.websocket)
    await manager.send_personal_message("bye", client.websocket)
    manager.disconnect(client.websocket)
    assert client.heard == ["bye"]
    await rig.assert_empty()


async def test_a_route_that_crashes_is_forgotten(rig: SocketRig, manager: ConnectionManager) -> None:
    route = await Route(rig, manager).connected()
    route.client.say("crash")
    with pytest.raises(ZeroDivisionError):
        await route.task
    await until(lambda: not manager.active_connections)
    await rig.assert_empty()


async def test_a_dead_socket_is_nobody_elses_trouble(rig: SocketRig, manager: ConnectionManager) -> None:
    dead, alive = await Route(rig, manager).connected(), await Route(rig, manager).connected()
    dead.client.error = OSError("gone")
    await manager.broadcast("one")
    await alive.hears("one")
    await until(lambda: manager.active_connections == [alive.client.websocket])
    await manager.send_personal_message("nobody", dead.client.websocket)
    await manager.broadcast("two")
    await alive.hears("two")
    for route in (dead, alive):
        route.client.leave()
        await route.task
    await rig.assert_empty()


async def test_users(rig: SocketRig, manager: ConnectionManager) -> None:
    """By whatever name: it becomes part of a channel's."""
    name = "Zoë:1#2"
    twice = [await Route(rig, manager, name).connected() for _ in range(2)]
    other = await Route(rig, manager, "Zoë").connected()
    await manager.send_to_user("for you", name)
    for route in twice:
        await route.hears("for you")
    await manager.broadcast("for all")
    for route in [*twice, other]:
        await route.hears("for all")
    for route in [*twice, other]:
        assert rig.node.hub.of_user(route.user)
        route.client.leave()
        await route.task
    await rig.assert_empty()


async def test_what_a_user_is_sent_is_not_for_clients_of_sdks(rig: SocketRig, manager: ConnectionManager) -> None:
    await manager.connect(Client().websocket, user=7)
    client = await rig.connected("eve")
    names = [name for name in rig.node.hub.channels if name != manager.channel]
    assert names == ["$broadcast/7"]
    assert await client.refused("subscribe", channel=names[0]) == 103


async def test_a_token_names_the_user(rig: SocketRig, manager: ConnectionManager) -> None:
    client = Client()
    await manager.connect(client.websocket, token=rig.token("ann"), format="json")
    await manager.send_to_user({"n": 1}, "ann")
    rig.node.hub.flush()
    assert client.heard == ['{"n": 1}']


async def test_other_managers_are_other_rooms(rig: SocketRig, manager: ConnectionManager) -> None:
    other = ConnectionManager(rig.host, channel="room:7")
    clients = [Client(), Client()]
    await manager.connect(clients[0].websocket)
    await other.connect(clients[1].websocket)
    await manager.broadcast("one")
    await other.broadcast("two")
    rig.node.hub.flush()
    assert [client.heard for client in clients] == [["one"], ["two"]]


@pytest.mark.parametrize("home", [FastAPI, lambda: Gateway(Settings())])
def test_two_managers_of_one_name_would_be_one_room(home: Callable[[], FastAPI | Gateway]) -> None:
    first, other = home(), home()
    users, elsewhere = AppManager(first), AppManager(other)
    with pytest.raises(ValueError, match=r"'broadcast'.*for example ConnectionManager\(app, \"admins\"\)"):
        AppManager(first)
    admins = AppManager(first, "admins")
    assert admins._gateway is users._gateway is not elsewhere._gateway


async def test_connects_once(rig: SocketRig, manager: ConnectionManager) -> None:
    client = Client()
    for _ in range(2):
        await manager.connect(client.websocket)
    await manager.broadcast("one")
    rig.node.hub.flush()
    assert client.heard == ["one"]
    manager.disconnect(client.websocket)
    await rig.assert_empty()


async def test_what_a_route_sends_by_either_way_keeps_its_order(rig: SocketRig, manager: ConnectionManager) -> None:
    client = Client()
    await manager.connect(client.websocket)
    await manager.send_personal_message("one", client.websocket)
    await client.websocket.send_text("two")
    await manager.send_personal_message("three", client.websocket)
    await client.websocket.close(4003)
    assert client.heard == ["one", "two", "three"]
    assert client.closing() == (4003, "")
    manager.disconnect(client.websocket)
    await rig.assert_empty()


async def test_a_connect_that_fails_leaves_nothing(rig: SocketRig, manager: ConnectionManager) -> None:
    rig.broker.down()
    with pytest.raises(BrokerUnavailable):
        await manager.connect(Client().websocket)
    assert manager.active_connections == []
    await rig.assert_empty()


async def test_a_client_that_is_disconnected_amid_connect(rig: SocketRig, manager: ConnectionManager) -> None:
    gate = rig.broker.gate("subscribe", "broadcast")
    route = Route(rig, manager, "ann")
    await gate.reached()
    rig.node.hub.of_user("ann")[0].disconnect(Disconnect(4444))
    gate.open()
    await until(lambda: route.client.closing())
    route.client.leave()
    await route.task
    await rig.assert_empty()
