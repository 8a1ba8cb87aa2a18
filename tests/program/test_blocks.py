"""Keeping users out, on all nodes."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from math import inf
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket

from gateway import BrokerUnavailable, Client, Credentials, Gateway
from gateway.testing import Disconnected, Kit
from tests.redis_server import RedisServer
from tests.waiting import until

BLOCKED = (3510, "blocked")
SECRET = "a secret of more than thirty-two bytes, as all should be"


class Gate:
    """Where ``on_connect`` waits, if it is shut."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def pass_through(self) -> None:
        self.reached.set()
        await self.open.wait()


def create_app() -> FastAPI:
    gateway = Gateway(client={"token": {"hmac_secret_key": SECRET}, "allow_anonymous_connect_without_token": True})
    app = FastAPI(lifespan=gateway.lifespan)
    app.include_router(gateway.router)
    app.state.gate = Gate()
    app.state.gone = []

    @gateway.on_connect
    async def connect(client: Client) -> Credentials | None:
        await app.state.gate.pass_through()
        user = client.query_params.get("user")
        return Credentials(user) if user else None

    @gateway.on_disconnect
    async def disconnect(client: Client) -> None:
        app.state.gone.append(client.user)

    @app.websocket("/plain")
    async def plain(websocket: WebSocket, user: str) -> None:
        async with gateway.attach(websocket, user=user) as connection:
            async for _ in connection:
                pass

    return app


@pytest.fixture(params=["memory", "redis"])
async def kit(request: pytest.FixtureRequest, server: RedisServer) -> AsyncIterator[Kit]:
    async with Kit(create_app, nodes=2, redis_url=server.url if request.param == "redis" else "") as kit:
        yield kit


def shown(end: Disconnected) -> tuple[int, str]:
    assert not end.reconnect
    return end.code, end.reason


async def refused(kit: Kit, **request: Any) -> tuple[int, str]:
    with pytest.raises(Disconnected) as caught:
        await kit.connect(**request)
    return shown(caught.value)


async def test_a_blocked_user_is_sent_away_and_kept_out_on_every_node(kit: Kit) -> None:
    one, two = [await kit.connect(query={"user": "bob"}, node=node) for node in (0, 1)]
    ann = await kit.connect(query={"user": "ann"}, node=1)
    plain = await kit.websocket("/plain?user=bob", node=1)
    await kit.nodes[0].gateway.block("bob", for_=timedelta(minutes=10))
    for each in (one, two, plain):
        assert shown(await each.ended()) == BLOCKED
    for node in (0, 1):
        assert await refused(kit, query={"user": "bob"}, node=node) == BLOCKED
        assert await refused(kit, token=kit.token("bob"), node=node) == BLOCKED
        websocket = await kit.websocket("/plain?user=bob", node=node)
        assert shown(await websocket.ended()) == BLOCKED
    assert ann.connected
    assert (await kit.nodes[1].gateway.blocked())[0].keys() == {"bob"}
    await kit.nodes[1].gateway.unblock("bob")
    await kit.wait_idle()
    await kit.connect(query={"user": "bob"}, node=0)


async def test_a_block_ends_by_itself() -> None:
    async with Kit(create_app, nodes=2) as kit:
        await kit.gateway.block(7, for_=600)
        await kit.clock.advance(599)
        assert await refused(kit, query={"user": "7"}, node=1) == BLOCKED
        await kit.clock.advance(1)
        await kit.connect(query={"user": "7"}, node=1)
        assert await kit.gateway.blocked() == ({}, "")


async def test_who_is_blocked_while_it_connects_does_not_come_in(kit: Kit) -> None:
    gate: Gate = kit.nodes[1].app.state.gate  # type: ignore[attr-defined]  # it is a FastAPI
    gate.open.clear()
    connecting = asyncio.ensure_future(kit.connect(query={"user": "bob"}, node=1))
    await gate.reached.wait()
    await kit.nodes[0].gateway.block("bob")
    await until(lambda: "bob" in kit.nodes[1].gateway.node.blocked)
    gate.open.set()
    with pytest.raises(Disconnected) as caught:
        await connecting
    assert shown(caught.value) == BLOCKED


async def test_the_program_hears_whose_end_it_is_though_it_never_came_in(kit: Kit) -> None:
    gone = kit.nodes[0].app.state.gone  # type: ignore[attr-defined]  # it is a FastAPI
    await kit.gateway.block("bob")
    assert await refused(kit, query={"user": "bob"}) == BLOCKED
    await until(lambda: gone)
    assert gone == ["bob"]


async def test_a_node_that_was_cut_off_asks_who_is_blocked(kit: Kit) -> None:
    bob = await kit.connect(query={"user": "bob"}, node=1)
    eve = await kit.connect(query={"user": "eve"}, node=1)
    kit.broker.kill(1)
    await kit.nodes[0].gateway.block("bob")
    await kit.clock.advance(0)
    assert bob.connected
    kit.broker.restore(1)
    assert shown(await bob.ended()) == BLOCKED
    assert await refused(kit, query={"user": "bob"}, node=1) == BLOCKED
    assert eve.connected


async def test_without_broker_nobody_is_blocked_and_the_program_knows(kit: Kit) -> None:
    bob = await kit.connect(query={"user": "bob"})
    kit.broker.kill()
    with pytest.raises(BrokerUnavailable):
        await kit.gateway.block("bob")
    kit.broker.restore()
    await kit.wait_idle()
    assert bob.connected
    await kit.connect(query={"user": "bob"})
    assert await kit.gateway.blocked() == ({}, "")
    await kit.gateway.block("bob")
    assert shown(await bob.ended()) == BLOCKED


async def test_who_is_blocked_is_told_in_pages(kit: Kit) -> None:
    for user in ("c", "a", "b"):
        await kit.gateway.block(user)
    await kit.gateway.block("d", for_=60)
    await kit.wait_idle()
    assert await kit.gateway.blocked(limit=3) == ({"a": inf, "b": inf, "c": inf}, "c")
    page, cursor = await kit.gateway.blocked(limit=3, cursor="c")
    assert (list(page), cursor) == (["d"], "")


async def test_what_cannot_be_blocked() -> None:
    async with Kit(create_app) as kit:
        for call in (kit.gateway.block, kit.gateway.unblock):
            with pytest.raises(ValueError, match="an empty user would mean all anonymous clients"):
                await call("")
        with pytest.raises(ValueError, match="for_ = -1 must be positive"):
            await kit.gateway.block("bob", for_=-1)
        with pytest.raises(ValueError, match="limit = 0 must be at least 1"):
            await kit.gateway.blocked(limit=0)


async def test_disconnect_is_for_good_and_on_every_node(kit: Kit) -> None:
    clients = [await kit.connect(query={"user": "bob"}, node=node) for node in (0, 1)]
    ann = await kit.connect(query={"user": "ann"}, node=1)
    await kit.nodes[0].gateway.disconnect("bob")
    for each in clients:
        assert shown(await each.ended()) == (3503, "force disconnect")
    assert ann.connected
    one, two = [await kit.connect(query={"user": "bob"}, node=node) for node in (1, 1)]
    await kit.nodes[0].gateway.disconnect(client=one.id)
    assert shown(await one.ended()) == (3503, "force disconnect")
    await kit.wait_idle()
    assert two.connected
