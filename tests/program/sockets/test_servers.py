"""The programs of the documentation on real servers: two nodes that share a Redis, whatever serves them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from gateway import ConnectionManager, Gateway
from gateway.auth.tokens import sign_connection
from gateway.config.settings import Settings
from gateway.core.cluster import DisconnectUser
from gateway.messages import Position
from gateway.program.sockets.attaching import Format
from gateway.program.sockets.writing import PlainDirectTransport, PlainPortableTransport
from tests.redis_server import RedisServer
from tests.serving import Serve, on_uvicorn
from tests.waiting import until

SECRET = "a secret of more than thirty-two bytes, as all should be"
SETTINGS: dict[str, Any] = {
    "client": {"token": {"hmac_secret_key": SECRET}, "queue_max_size": 300_000},
    "channel": {
        "namespaces": [{"name": "chat", "history_size": 100, "history_ttl": 60, "presence": True, "join_leave": True}]
    },
}


def program(gateway: Gateway) -> FastAPI:
    """The routes, as the documentation writes them."""
    app = FastAPI(lifespan=gateway.lifespan)
    manager = ConnectionManager(gateway)

    @app.websocket("/tutorial/{client_id}")
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

    @app.websocket("/ws/{client_id}")
    async def ws(websocket: WebSocket, client_id: str) -> None:
        async with gateway.attach(websocket, user=client_id) as connection:
            await connection.subscribe("chat:lobby", replay=10)
            async for text in connection:
                await gateway.publish("chat:lobby", f"Client #{client_id} says: {text}")
        await gateway.publish("chat:lobby", f"Client #{client_id} left the chat")

    @app.websocket("/echo/{kind}")
    async def echo(websocket: WebSocket, kind: Format) -> None:
        async with gateway.attach(websocket, format=kind) as connection:
            async for value in connection:
                await connection.send(value)

    @app.websocket("/token")
    async def token(websocket: WebSocket, token: str | None = None) -> None:
        async with gateway.attach(websocket, token=token) as connection:
            await connection.send(connection.user)
            await connection.receive()

    add_more(app, gateway, manager)
    return app


def add_more(app: FastAPI, gateway: Gateway, manager: ConnectionManager) -> None:
    """What the tutorial has not."""

    @app.websocket("/rooms/{room}/{user}")
    async def rooms(websocket: WebSocket, room: str, user: str) -> None:
        await manager.connect(websocket, room=room, user=user)
        async for text in websocket.iter_text():
            await manager.broadcast(f"{user}: {text}", room=room, exclude=websocket)
            await manager.send_personal_message(f"in {room}: {await manager.users(room)}", websocket)
        manager.disconnect(websocket)
        await manager.broadcast(f"{user} left, here are {await manager.users(room)}", room=room)

    @app.websocket("/order")
    async def order(websocket: WebSocket) -> None:
        await manager.connect(websocket, user="ann", room="order")
        await websocket.receive_text()
        for number in range(0, 200, 4):
            await manager.broadcast(str(number))
            await manager.send_personal_message(str(number + 1), websocket)
            await manager.broadcast(str(number + 2), room="order")
            await websocket.send_text(str(number + 3))
        await manager.send_to_user("ann", "goodbye")

    @app.websocket("/replay")
    async def replay(websocket: WebSocket) -> None:
        async with gateway.attach(websocket, format="json") as connection:
            hello = await connection.receive()
            since = Position(hello["offset"], hello["epoch"]) if hello else None
            await connection.subscribe("chat:replay", since=since)
            await connection.send("ready") if since is None else None
            async for message in connection.messages():
                told = {"offset": message.offset, "epoch": message.epoch, "recovered": message.recovered}
                await connection.send({**told, "data": message.data})

    @app.websocket("/subscribed/{channel}")
    async def subscribed(websocket: WebSocket, channel: str) -> None:
        async with gateway.attach(websocket, channels=[channel]) as connection:
            await connection.receive()


class Cluster:
    """Two nodes, and clients that go to either."""

    def __init__(self, redis: RedisServer) -> None:
        engine = {"type": "redis", "redis": {"address": redis.url}}
        self.nodes = [Gateway(Settings(**SETTINGS, engine=engine)) for _ in range(2)]
        self.ports: list[int] = []

    def client(self, path: str, node: int = 0, **options: Any) -> connect:
        return connect(f"ws://127.0.0.1:{self.ports[node]}{path}", proxy=None, **options)

    async def subscribed(self, channel: str, count: int) -> None:
        await until(lambda: sum(each.node.hub.subscribers(channel) for each in self.nodes) == count)

    async def empty(self) -> None:
        await until(lambda: not any(each.node.hub.connections or each.node.hub.subscriptions for each in self.nodes))
        assert [each.running.acceptor.sessions for each in self.nodes] == [set(), set()]


@pytest.fixture
async def cluster(server: RedisServer, serve: Serve) -> AsyncIterator[Cluster]:
    cluster = Cluster(server)
    async with AsyncExitStack() as stack:
        for gateway in cluster.nodes:
            served = serve(program(gateway), gateway.settings)
            cluster.ports.append(await stack.enter_async_context(served))
        yield cluster


async def hears(client: ClientConnection, *messages: str | bytes) -> None:
    async with asyncio.timeout(10):
        assert [await client.recv() for _ in messages] == list(messages)


async def ended(client: ClientConnection) -> tuple[int, str]:
    async with asyncio.timeout(10):
        await client.wait_closed()
    assert client.close_code is not None
    return client.close_code, client.close_reason or ""


async def test_the_tutorial(cluster: Cluster) -> None:
    async with cluster.client("/tutorial/1") as one, cluster.client("/tutorial/2", 1) as two:
        await cluster.subscribed("broadcast", 2)
        await one.send("hi")
        await hears(one, "You wrote: hi", "Client #1 says: hi")
        await hears(two, "Client #1 says: hi")
        await two.close()
        await hears(one, "Client #2 left the chat")
        one.transport.abort()
    await cluster.empty()


async def test_rooms_of_all_nodes(cluster: Cluster) -> None:
    async with (
        cluster.client("/rooms/a/ann") as ann,
        cluster.client("/rooms/a/bob", 1) as bob,
        cluster.client("/rooms/b/eve", 1) as eve,
    ):
        await ann.send("hi")
        await hears(bob, "ann: hi")
        await hears(ann, "in a: ['ann', 'bob']")
        await bob.send("hello")
        await hears(ann, "bob: hello")
        await eve.send("anybody?")
        await hears(eve, "in b: ['eve']")
        await bob.close()
        await hears(ann, "bob left, here are ['ann']")
    await cluster.empty()


async def test_what_a_route_sends_arrives_in_the_order_of_its_calls(cluster: Cluster) -> None:
    async with (
        cluster.client("/order") as one,
        cluster.client("/tutorial/2") as other,
        cluster.client("/rooms/order/ann", 1) as elsewhere,
    ):
        await one.send("go")
        await hears(one, *map(str, range(200)), "goodbye")
        await ended(one)
        await hears(other, *map(str, range(0, 200, 4)))
        await hears(elsewhere, *map(str, range(0, 200, 2)), "goodbye")


async def test_nothing_is_missed_from_the_open_on(cluster: Cluster) -> None:
    for number in range(30):
        channel = ("news", "chat:lobby")[number % 2]
        async with cluster.client(f"/subscribed/{channel}") as client:
            await cluster.nodes[1].publish(channel, number)
            await hears(client, str(number))
        await cluster.empty()


async def test_a_page_goes_on_on_another_node(cluster: Cluster) -> None:
    said = [{"n": number} for number in range(6)]
    async with cluster.client("/replay") as client:
        await client.send("null")
        await hears(client, '"ready"')
        for each in said[:3]:
            await cluster.nodes[1].publish("chat:replay", each)
        async with asyncio.timeout(10):
            heard = [json.loads(await client.recv()) for _ in range(3)]
    for each in said[3:5]:
        await cluster.nodes[0].publish("chat:replay", each)
    async with cluster.client("/replay", 1) as client:
        await client.send(json.dumps(heard[-1]))
        async with asyncio.timeout(10):
            heard += [json.loads(await client.recv()) for _ in range(2)]
            await cluster.nodes[0].publish("chat:replay", said[5])
            heard.append(json.loads(await client.recv()))
    assert [each["data"] for each in heard] == said
    assert [each["offset"] for each in heard] == [1, 2, 3, 4, 5, 6]
    assert [each["recovered"] for each in heard] == [False, False, False, True, True, False]
    assert len({each["epoch"] for each in heard}) == 1
    await cluster.empty()


async def test_a_broker_that_has_gone_closes_with_1013(cluster: Cluster, server: RedisServer) -> None:
    async with cluster.client("/ws/ann") as ann:
        await cluster.subscribed("chat:lobby", 1)
        server.kill()
        try:
            await until(lambda: not cluster.nodes[0].node.broker.health().connected)
            async with cluster.client("/tutorial/1") as client:
                assert await ended(client) == (1013, "try again later")
            await ann.send("hi")
            assert await ended(ann) == (1013, "try again later")
        finally:
            server.start()
    await cluster.empty()


async def test_attached(cluster: Cluster) -> None:
    watcher = cluster.nodes[1]
    async with cluster.client("/ws/ann") as ann, cluster.client("/ws/bob", 1) as bob:
        await cluster.subscribed("chat:lobby", 2)
        await ann.send("one")
        await bob.send("two")
        for client in (ann, bob):
            async with asyncio.timeout(10):
                assert {await client.recv(), await client.recv()} == {"Client #ann says: one", "Client #bob says: two"}
        members = await watcher.node.presence(watcher.node.channels.resolve("chat:lobby"))
        assert {member.user for member in members.values()} == {"ann", "bob"}
        await ann.close()
        await hears(bob, "Client #ann left the chat")
        members = await watcher.node.presence(watcher.node.channels.resolve("chat:lobby"))
        assert {member.user for member in members.values()} == {"bob"}
        async with cluster.client("/ws/eve") as eve:
            async with asyncio.timeout(10):
                assert [await eve.recv() for _ in range(3)][2] == "Client #ann left the chat"
    await cluster.empty()


async def test_writes_as_directly_as_the_server_allows(cluster: Cluster, serve: Serve) -> None:
    async with cluster.client("/ws/ann"):
        await cluster.subscribed("chat:lobby", 1)
        [session] = cluster.nodes[0].running.acceptor.sessions
        expected = PlainDirectTransport if serve is on_uvicorn else PlainPortableTransport
        assert type(session.transport) is expected


@pytest.mark.parametrize(
    ("kind", "said", "echoed"),
    [
        ("text", "ü €", "ü €"),
        ("json", '{"a": [1, null]}', '{"a":[1,null]}'),
        ("bytes", b"\x00\xff", b"\x00\xff"),
    ],
)
async def test_echo(cluster: Cluster, kind: str, said: str | bytes, echoed: str | bytes) -> None:
    async with cluster.client(f"/echo/{kind}") as client:
        for _ in range(3):
            await client.send(said)
        await hears(client, *[echoed] * 3)


@pytest.mark.parametrize(("kind", "said", "code"), [("text", b"a", 1003), ("json", "{", 1007)])
async def test_messages_that_are_not_in_the_format(cluster: Cluster, kind: str, said: Any, code: int) -> None:
    async with cluster.client(f"/echo/{kind}") as client:
        await client.send(said)
        assert (await ended(client))[0] == code
    await cluster.empty()


async def test_many_publications_of_one_moment(cluster: Cluster) -> None:
    async with cluster.client("/ws/ann") as ann, cluster.client("/ws/bob") as bob:
        await cluster.subscribed("chat:lobby", 2)
        await asyncio.gather(*(cluster.nodes[1].publish("chat:lobby", str(number)) for number in range(200)))
        for client in (ann, bob):
            await hears(client, *map(str, range(200)))


async def test_tokens(cluster: Cluster) -> None:
    good = sign_connection(SECRET, "ann", 60)
    async with cluster.client(f"/token?token={good}") as client:
        await hears(client, "ann")
    for query in ("", "?token=nonsense"):
        with pytest.raises(InvalidStatus) as refused:
            async with cluster.client(f"/token{query}"):
                pass
        assert refused.value.response.status_code == 403
    late = sign_connection(SECRET, "ann", 1, now=1)
    async with cluster.client(f"/token?token={late}") as client:
        assert await ended(client) == (4001, "token expired")
    await cluster.empty()


async def test_a_token_that_ends(cluster: Cluster) -> None:
    async with cluster.client(f"/token?token={sign_connection(SECRET, 'ann', 1)}") as client:
        assert await ended(client) == (4001, "token expired")
    await cluster.empty()


async def test_a_user_is_disconnected_from_another_node(cluster: Cluster) -> None:
    async with cluster.client("/ws/ann") as ann, cluster.client("/ws/bob") as bob:
        await cluster.subscribed("chat:lobby", 2)
        await cluster.nodes[1].node.cluster.command(DisconnectUser(user="ann", code=4444, reason="go"))
        assert await ended(ann) == (4444, "go")
        await hears(bob, "Client #ann left the chat")
    await cluster.empty()


async def test_a_node_that_drains(cluster: Cluster) -> None:
    async with cluster.client("/ws/ann") as ann, cluster.client("/tutorial/2") as two:
        await cluster.subscribed("chat:lobby", 1)
        await cluster.subscribed("broadcast", 1)
        await cluster.nodes[0].running.acceptor.drain()
        assert await ended(ann) == (1012, "service restart")
        assert await ended(two) == (1012, "service restart")
        with pytest.raises(InvalidStatus):
            async with cluster.client("/ws/eve"):
                pass
    await cluster.empty()


async def test_a_client_that_does_not_read(cluster: Cluster) -> None:
    """It is cut off, and nobody else is held up; the node holds no more for it than it may."""
    async with cluster.client("/ws/ann", compression=None) as ann, cluster.client("/ws/bob") as bob:
        await cluster.subscribed("chat:lobby", 2)
        ann.transport.pause_reading()
        text = "x" * 100_000
        sent = 0
        while len(cluster.nodes[0].node.hub.connections) == 2:
            await cluster.nodes[1].publish("chat:lobby", text)
            await hears(bob, text)
            sent += 1
            assert sent < 500
        assert cluster.nodes[0].node.metrics.disconnects == {3008: 1}
        await hears(bob, "Client #ann left the chat")
        ann.transport.abort()
