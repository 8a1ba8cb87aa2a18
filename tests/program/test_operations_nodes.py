"""What a program asks of the whole cluster, where it has to do with clients of another node."""

from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest
from fastapi import FastAPI, WebSocket

from gateway import Client, Gateway, Receipt
from gateway.testing import Kit
from tests.redis_server import RedisServer


def create_app() -> FastAPI:
    gateway = Gateway(client={"allow_anonymous_connect_without_token": True})
    app = FastAPI(lifespan=gateway.lifespan)
    app.include_router(gateway.router)
    app.state.gateway = gateway
    options: Any = {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}
    gateway.channel("chat:{room}", history_size=10, **options)

    @gateway.on_connect
    async def connect(client: Client) -> str | None:
        return client.query_params.get("user")

    @app.websocket("/plain/{form}")
    async def plain(websocket: WebSocket, form: Literal["text", "json", "bytes"]) -> None:
        async with gateway.attach(websocket, user="plain", format=form) as connection:
            await connection.subscribe("chat:a")
            await connection.send(connection.id)
            async for _ in connection:
                pass

    return app


@pytest.fixture(params=["memory", "redis"])
async def kit(request: pytest.FixtureRequest, server: RedisServer) -> AsyncIterator[Kit]:
    url = server.url if request.param == "redis" else ""
    async with Kit(create_app, nodes=2, redis_url=url) as kit:
        yield kit


async def test_excludes_clients_and_users_of_other_nodes(kit: Kit) -> None:
    ann, bob, eve = [
        await kit.connect(query={"user": name}, node=node) for node, name in ((0, "ann"), (1, "bob"), (1, "eve"))
    ]
    rooms: list[Any] = [await each.subscribe("chat:a") for each in (ann, bob, eve)]
    plain = await kit.websocket("/plain/text", node=1)
    plain_id = await plain.receive_text()
    gateway = kit.nodes[0].gateway
    await gateway.exclude(ann.id).exclude(eve.id).publish("chat:a", 1)
    await gateway.exclude(user="eve").publish("chat:a", 2)
    await gateway.publish("chat:a", 3, exclude=[plain_id, bob.id])
    heard = [[(await room.next()).data for _ in range(count)] for room, count in zip(rooms, (2, 2, 1), strict=True)]
    assert heard == [[2, 3], [1, 2], [3]]
    assert [await plain.receive_text() for _ in range(2)] == ["1", "2"]
    for each in (*rooms, plain):
        await each.nothing()


async def test_sends_to_a_connection_of_another_node(kit: Kit) -> None:
    ann, bob = await kit.connect(node=1), await kit.connect(node=1)
    room = await ann.subscribe("chat:a")
    gateway = kit.nodes[0].gateway
    await gateway.publish("chat:a", "before")
    await gateway.send(ann.id, {"for": "ann"})
    assert (await room.next()).data == "before"
    assert await ann.message() == {"for": "ann"}
    await bob.round_trip()
    assert not bob._messages


@pytest.mark.parametrize(
    ("form", "sent", "heard"), [("text", "hi", "hi"), ("json", "hi", '"hi"'), ("bytes", b"\x00", b"\x00")]
)
async def test_sends_to_a_plain_socket_of_another_node(kit: Kit, form: str, sent: object, heard: object) -> None:
    plain = await kit.websocket(f"/plain/{form}", node=1)
    first = await plain.receive()
    client_id = first.decode() if isinstance(first, bytes) else first.strip('"')
    await kit.nodes[0].gateway.send(client_id, sent)
    assert await plain.receive() == heard
    await plain.nothing()


async def test_a_receipt_counts_the_nodes_that_took_it(kit: Kit) -> None:
    gateway = kit.nodes[0].gateway
    assert (await gateway.publish("chat:a", 0)).nodes == 0
    for node in (0, 1, 1):
        await (await kit.connect(node=node)).subscribe("chat:a")
    kept = await gateway.publish("chat:a", 1, idempotency_key="once")
    assert (kept.offset, kept.nodes) == (2, 2)
    assert await gateway.publish("chat:a", 1, idempotency_key="once") == kept
    assert await gateway.publish("chat:a", 2, skip_history=True) == Receipt(nodes=2)
    assert await gateway.publish("chat:a", 2, skip_history=True, idempotency_key="x") == Receipt(nodes=2)
