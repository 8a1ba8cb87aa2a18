"""The tutorial's connection manager: its words, and what becomes of sockets that nobody disconnects."""

import asyncio
import warnings
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.exceptions import WebSocketException
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from gateway import ConnectionManager as AppManager
from gateway import Gateway
from gateway.config.settings import Settings
from gateway.errors import BrokerUnavailable, Disconnect
from gateway.program.engine import Engine
from gateway.program.sockets import ConnectionManager
from gateway.testing import Disconnected, Kit
from tests.program.sockets.client import Client, SocketRig
from tests.waiting import until

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have another HTTP client
    from fastapi.testclient import TestClient


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
    await manager.send_to_user(name, "for you")
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
    await manager.send_to_user("ann", {"n": 1})
    assert client.heard == ['{"n":1}']


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


async def test_a_connect_without_broker_closes_with_1013_and_leaves_nothing(
    rig: SocketRig, manager: ConnectionManager, caplog: pytest.LogCaptureFixture
) -> None:
    rig.broker.down()
    client = Client()
    with pytest.raises(WebSocketException) as refused:
        await manager.connect(client.websocket)
    assert (refused.value.code, refused.value.reason) == (1013, "try again later")
    assert client.accepted, "so that a page sees the code"
    assert "/ws closed with 1013, for the broker is away" in caplog.text
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


# — rooms and users —


async def test_rooms_need_not_be_declared(rig: SocketRig, manager: ConnectionManager) -> None:
    red, blue, nowhere = Client(), Client(), Client()
    names = ["red", "Zoë's: #1/2"]
    for client, room in ((red, names[0]), (blue, names[1]), (nowhere, None)):
        await manager.connect(client.websocket, room=room)
    await manager.broadcast("for red", room="red")
    await manager.broadcast("for blue", room=names[1])
    await manager.broadcast("for all")
    await manager.broadcast("for nobody", room="empty")
    assert (red.heard, blue.heard, nowhere.heard) == (["for red", "for all"], ["for blue", "for all"], ["for all"])
    assert [manager.rooms(each.websocket) for each in (red, blue, nowhere)] == [[names[0]], [names[1]], []]
    for client in (red, blue, nowhere):
        manager.disconnect(client.websocket)
        assert manager.rooms(client.websocket) == []
    await rig.assert_empty()


async def test_rooms_of_a_channel_with_a_namespace_need_not_be_declared_either() -> None:
    rig = await SocketRig.open(channel={"namespaces": [{"name": "chat"}]})
    client, manager, other = Client(), ConnectionManager(rig.host, "chat:1"), ConnectionManager(rig.host, "chat")
    await manager.connect(client.websocket, room="r", user="ann")
    assert manager.rooms(client.websocket) == ["r"]
    await manager.broadcast("for all")
    await manager.broadcast("for the room", room="r")
    await manager.send_to_user("ann", "for ann")
    await other.broadcast("for a room of others", room="r")
    assert client.heard == ["for all", "for the room", "for ann"]
    assert [name for name in rig.node.hub.channels if ":" in name] == ["chat:1"]
    manager.disconnect(client.websocket)
    await rig.assert_empty()


async def test_a_socket_may_be_in_many_rooms(rig: SocketRig, manager: ConnectionManager) -> None:
    client = Client()
    await manager.connect(client.websocket, room="a")
    await manager.connect(client.websocket, room="b")
    await manager.join(client.websocket, 3)
    assert manager.rooms(client.websocket) == ["a", "b", "3"]
    await manager.leave(client.websocket, "a")
    await manager.leave(client.websocket, "never joined")
    for room in ("a", "b", 3):
        await manager.broadcast(room, room=room)
    assert client.heard == ["b", "3"]
    with pytest.raises(ValueError, match=r"await manager.connect\(websocket, room='a'\)"):
        await manager.join(Client().websocket, "a")
    await manager.leave(Client().websocket, "a")
    manager.disconnect(client.websocket)
    await rig.assert_empty()


async def test_who_is_in_a_room(rig: SocketRig, manager: ConnectionManager) -> None:
    """Whatever the options of channels say; sockets that are nobody's are not listed."""
    for user, room in (("ann", "a"), ("ann", "a"), ("bob", "a"), ("eve", "b"), (None, "a"), ("joe", None)):
        await manager.connect(Client().websocket, user=user, room=room)
    assert await manager.users("a") == ["ann", "bob"]
    assert await manager.users("b") == ["eve"]
    assert await manager.users("empty") == []
    assert list(rig.presence._channels) == ["$broadcast/rooms/a", "$broadcast/rooms/b"], "it costs nobody else"
    first = manager.active_connections[0]
    await manager.leave(first, "a")
    assert await manager.users("a") == ["ann", "bob"]
    for websocket in manager.active_connections:
        manager.disconnect(websocket)
    await rig.assert_empty()


async def test_who_has_been_disconnected_is_in_no_room(rig: SocketRig, manager: ConnectionManager) -> None:
    one, two = Client(), Client()
    for client, user in ((one, "ann"), (two, "bob")):
        await manager.connect(client.websocket, user=user, room="r")
    manager.disconnect(one.websocket)
    assert await manager.users("r") == ["bob"]
    two.leave()
    with pytest.raises(WebSocketDisconnect):
        await two.websocket.receive_text()
    assert await manager.users("r") == []
    await rig.assert_empty()


async def test_one_socket_may_be_left_out(rig: SocketRig, manager: ConnectionManager) -> None:
    one, two = Client(), Client()
    for client in (one, two):
        await manager.connect(client.websocket, room="r")
    await manager.broadcast("from one", exclude=one.websocket)
    await manager.broadcast("in the room", room="r", exclude=one.websocket)
    await manager.broadcast("from somebody else", exclude=Client().websocket)
    assert one.heard == ["from somebody else"]
    assert two.heard == ["from one", "in the room", "from somebody else"]


async def test_the_user_comes_first(manager: ConnectionManager) -> None:
    with pytest.raises(TypeError, match="send_to_user\\(7, message\\)"):
        await manager.send_to_user({"text": "hi"}, "ann")  # type: ignore[arg-type]


async def test_a_socket_is_told_from_what_is_none(manager: ConnectionManager) -> None:
    """Arguments in the wrong order would reach nobody, and nobody would know."""
    websocket = Client().websocket
    await manager.connect(websocket)
    wrong: list[Callable[[Any], Awaitable[None]]] = [
        lambda each: manager.send_personal_message(websocket, each),
        lambda each: manager.broadcast("hi", exclude=each),
        lambda each: manager.join(each, "a"),
        lambda each: manager.leave(each, "a"),
    ]
    for call in wrong:
        for each in ("ann", [websocket]):
            with pytest.raises(TypeError, match="one WebSocket is wanted, as the route has it, not "):
                await call(each)


async def test_a_room_has_one_name(manager: ConnectionManager) -> None:
    client = Client()
    with pytest.raises(TypeError, match=r"for example 'lobby', not \['a', 'b'\]"):
        await manager.connect(client.websocket, room=["a", "b"])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a room is named by"):
        await manager.users(client.websocket)  # type: ignore[arg-type]
    assert manager.active_connections == []


class Room(str, Enum):  # noqa: UP042  as FastAPI's documentation writes path parameters
    LOBBY = "lobby"


async def test_a_room_may_be_one_of_an_enum(manager: ConnectionManager) -> None:
    client = Client()
    await manager.connect(client.websocket, room=Room.LOBBY, user="ann")
    await manager.broadcast("hi", room="lobby")
    assert client.heard == ["hi"]
    assert manager.rooms(client.websocket) == ["lobby"]
    assert await manager.users(Room.LOBBY) == ["ann"]


async def test_rooms_and_users_of_one_name_are_apart(manager: ConnectionManager) -> None:
    client = Client()
    await manager.connect(client.websocket, user="rooms/a")
    await manager.broadcast("for a room", room="a")
    await manager.broadcast("for another", room="")
    assert client.heard == []


# — for an application as it stands —


@pytest.mark.parametrize("arguments", [(), ("lobby",)])
def test_says_what_it_is_made_of(arguments: Any) -> None:
    with pytest.raises(TypeError, match=r"write manager = ConnectionManager\(app\)"):
        AppManager(*arguments)


def application(app: FastAPI | None = None, manager: AppManager | None = None) -> FastAPI:
    """The tutorial's, with the two lines changed."""
    app = app or FastAPI()
    manager = manager or AppManager(app)

    @app.websocket("/ws/{client_id}")
    async def websocket_endpoint(websocket: WebSocket, client_id: int) -> None:
        await manager.connect(websocket)
        try:
            while True:
                data = await websocket.receive_text()
                await manager.send_personal_message(f"You wrote: {data}", websocket)
                await manager.broadcast(f"Client #{client_id} says: {data}")
        except WebSocketDisconnect:
            manager.disconnect(websocket)
            await manager.broadcast(f"Client #{client_id} left the chat")

    @app.post("/news")
    async def news() -> list[str]:
        await manager.broadcast("news")
        return await manager.users("nowhere")

    return app


def test_the_tutorials_own_test_passes_without_with(caplog: pytest.LogCaptureFixture) -> None:
    app = application()
    client = TestClient(app)
    for number in range(2):
        with client.websocket_connect(f"/ws/{number}") as websocket:
            websocket.send_text("hi")
            assert websocket.receive_text() == "You wrote: hi"
            assert websocket.receive_text() == f"Client #{number} says: hi"
    assert client.post("/news").json() == []
    assert "starts on first use" in caplog.text
    with TestClient(app) as client, client.websocket_connect("/ws/1") as one, client.websocket_connect("/ws/2") as two:
        two.send_text("hi")
        assert one.receive_text() == "Client #2 says: hi"


def test_two_clients_without_with_are_told_what_to_write() -> None:
    client = TestClient(application())
    with (
        client.websocket_connect("/ws/1"),
        pytest.raises(RuntimeError, match=r"with TestClient\(app\) as client"),
        client.websocket_connect("/ws/2"),
    ):
        raise AssertionError("it came in")


async def test_a_late_start_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway(Settings())
    start, attempts = Engine.start, 0

    async def fail_once(engine: Engine) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise OSError("no room")
        await start(engine)

    monkeypatch.setattr(Engine, "start", fail_once)
    outcomes = await asyncio.gather(*(gateway.run_on() for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [OSError] * 3
    await asyncio.gather(*(gateway.run_on() for _ in range(3)))
    assert attempts == 2
    assert gateway.node.loop is asyncio.get_running_loop()
    assert gateway._late is not None
    gateway._late._task.cancel()
    await asyncio.wait([gateway._late._task])


async def test_a_gateway_that_has_stopped_stays_stopped() -> None:
    gateway = Gateway(Settings())
    manager = AppManager(gateway)
    async with gateway.lifespan():
        await manager.broadcast("hi")
    with pytest.raises(RuntimeError, match="does not run"):
        await manager.broadcast("too late")
    assert gateway._late is None


def application_with_a_gateway() -> FastAPI:
    app, gateway = FastAPI(), Gateway()
    gateway.run_in(app)
    return application(app, AppManager(gateway))


@pytest.mark.parametrize("create", [application, application_with_a_gateway])
async def test_without_broker_an_application_closes_with_1013_and_answers_503(
    create: Callable[[], FastAPI], caplog: pytest.LogCaptureFixture
) -> None:
    async with Kit(create) as kit:
        one = await kit.websocket("/ws/1")
        kit.broker.kill()
        await one.send_text("hi")
        assert await one.receive_text() == "You wrote: hi"
        with pytest.raises(Disconnected) as closed:
            await one.receive()
        assert (closed.value.code, closed.value.reason) == (1013, "try again later")
        response = await kit.http.post("/news")
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        kit.broker.restore()
    assert "/ws/1 closed with 1013" in caplog.text
    assert "/news answered with 503" in caplog.text


async def test_an_applications_own_answer_to_a_missing_broker_stays() -> None:
    async def teapot(_request: Request, _error: Exception) -> Response:
        return Response(status_code=418)

    async with Kit(lambda: application(FastAPI(exception_handlers={BrokerUnavailable: teapot}))) as kit:
        kit.broker.kill()
        assert (await kit.http.post("/news")).status_code == 418
