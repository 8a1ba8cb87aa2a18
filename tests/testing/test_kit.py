"""The kit: applications that run in it, connections, time, several nodes."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from gateway import Gateway, Settings
from gateway.testing import Disconnected, Kit, Late, Refused, Rejected, fake_redis
from tests.testing import module
from tests.testing.chat import Text, create_app, rooms


async def test_a_chat() -> None:
    async with Kit(create_app()) as kit:
        ann = await kit.connect(query={"name": "ann"}, headers={"X-Via": "test"}, cookies={"c": "1"})
        assert ann.data == {"via": "test", "cookie": "1"}
        room = await ann.subscribe("chat:lobby")
        assert room.data == {"room": "lobby"}
        await ann.publish("chat:lobby", {"text": "hi"})
        publication = await room.next()
        assert publication.data == {"text": "HI"}
        assert (publication.offset, publication.recovered) == (1, False)
        assert publication.info is not None
        assert publication.info["user"] == "ann"
        await room.nothing()
        assert await ann.history("chat:lobby") == [{"text": "HI"}]
        assert await ann.history("chat:lobby", since=(1, room.epoch)) == []
        assert [each["user"] for each in (await ann.presence("chat:lobby")).values()] == ["ann"]
        assert list(await ann.presence("chat:lobby")) == [ann.id]


async def test_data_of_the_connect_command() -> None:
    async with Kit(create_app()) as kit:
        assert (await kit.connect(data=Text(text="hi"))).data == {"text": "hi"}


async def test_rpc_and_dependency_overrides() -> None:
    app = create_app()
    app.dependency_overrides[rooms] = lambda: ["attic"]
    async with Kit(app) as kit:
        ann = await kit.connect()
        assert await ann.rpc("rooms", {}) == ["attic"]
        with pytest.raises(Refused, match="104 method not found") as caught:
            await ann.rpc("cellars")
        assert not caught.value.temporary


async def test_an_application_may_run_again() -> None:
    app = create_app()
    for _ in range(2):
        async with Kit(app) as kit:
            await (await kit.connect()).subscribe("plain:x")
            assert kit.gateway is app.state.gateway


async def test_http_and_the_state_of_the_lifespan() -> None:
    async with Kit(create_app()) as kit:
        assert (await kit.http.get("/greeting")).json() == "hello"
        ann = await kit.connect(name="ann")
        room = await ann.subscribe("chat:lobby")
        await kit.http.post("/say/lobby", json={"text": "over http"})
        assert (await room.next()).data == {"text": "over http"}


async def test_the_gateway_under_a_prefix() -> None:
    async with Kit(create_app("/realtime")) as kit:
        assert (await kit.connect()).connected
        assert (await kit.connect(path="/realtime/connection/websocket")).connected


async def test_an_application_without_router() -> None:
    gateway = Gateway(Settings())
    app = FastAPI(lifespan=gateway.lifespan)
    async with Kit(app) as kit:
        assert kit.gateway is gateway
        with pytest.raises(Rejected) as caught:
            await kit.connect()
        assert caught.value.status == 403


async def test_who_may_not_connect() -> None:
    async with Kit(create_app()) as kit:
        with pytest.raises(Refused) as refused:
            await kit.connect(query={"name": "nobody"})
        assert refused.value.code == 101
        with pytest.raises(Disconnected) as disconnected:
            await kit.connect(query={"name": "mallory"})
        assert (disconnected.value.code, disconnected.value.reconnect) == (3507, False)
        with pytest.raises(Rejected) as rejected:
            await kit.connect(headers={"Origin": "https://evil.example"})
        assert rejected.value.status == 403
        with pytest.raises(Refused) as refused:
            await (await kit.connect()).subscribe("chat:secret")
        assert (refused.value.code, refused.value.message) == (103, "permission denied")


async def test_tokens_and_their_end() -> None:
    async with Kit(create_app()) as kit:
        ann = await kit.connect(token=kit.token("ann", ttl=60))
        room = await ann.subscribe("chat:lobby", token=kit.token("ann", channel="chat:lobby", ttl=30))
        assert await kit.gateway.presence_stats("chat:lobby") == (1, 1)
        await kit.clock.advance(29)
        assert room.active
        await kit.clock.advance(30)
        await ann.refresh(kit.token("ann", ttl=600))
        await kit.clock.advance(500)
        assert ann.connected
        await kit.clock.advance(200)
        assert (await ann.ended()).code == 3005


async def test_signing_needs_a_secret() -> None:
    gateway = Gateway(Settings())
    async with Kit(FastAPI(lifespan=gateway.lifespan)) as kit:
        with pytest.raises(LookupError, match="hmac_secret_key"):
            kit.token("ann")


async def test_clients_answer_pings_for_hours() -> None:
    async with Kit(create_app()) as kit:
        ann = await kit.connect()
        commands = kit.gateway.node.metrics.bytes_in
        await kit.clock.advance(4 * 3600)
        assert ann.connected
        assert kit.gateway.node.metrics.bytes_in - commands > 2 * 550


async def test_limits_go_by_the_clock() -> None:
    async with Kit(create_app()) as kit:
        ann = await kit.connect()
        assert await ann.rpc("limited") == "fine"
        with pytest.raises(Refused, match="111"):
            await ann.rpc("limited")
        await kit.clock.advance(61)
        assert await ann.rpc("limited") == "fine"


async def test_histories_end_by_the_clock() -> None:
    async with Kit(create_app()) as kit:
        await kit.gateway.publish("chat:lobby", {"text": "old"})
        await kit.clock.advance(59)
        assert len((await kit.gateway.history("chat:lobby"))[0]) == 1
        await kit.clock.advance(2)
        assert (await kit.gateway.history("chat:lobby"))[0] == []


# — several nodes —


@pytest.mark.parametrize("source", [create_app, "tests.testing.module:app"])
async def test_two_nodes(source: Any) -> None:
    async with Kit(source, nodes=2) as kit:
        assert kit.nodes[0].gateway is not kit.nodes[1].gateway
        assert module.app not in [node.app for node in kit.nodes]
        ann = await kit.connect(query={"name": "ann"})
        bob = await kit.connect(query={"name": "bob"}, node=1)
        here, there = await ann.subscribe("chat:lobby"), await bob.subscribe("chat:lobby")
        await ann.publish("chat:lobby", {"text": "hi"})
        assert (await there.next()).data == (await here.next()).data == {"text": "HI"}
        assert len(await bob.presence("chat:lobby")) == 2
        await there.nothing()
        assert await kit.gateway.channels() == {"chat:lobby": 2}
        await kit.nodes[1].gateway.disconnect("ann", code=4000, reason="away with you")
        assert (await ann.ended()).code == 4000
        assert (await there.left())["user"] == "ann"


async def test_a_client_that_returns_to_another_node() -> None:
    async with Kit(create_app, nodes=2) as kit:
        ann = await kit.connect()
        room = await ann.subscribe("chat:lobby")
        async with ann.dropped(20, node=1):
            assert await kit.gateway.presence_stats("chat:lobby") == (0, 0)
            await kit.gateway.publish("chat:lobby", {"text": "missed"})
        assert room.recovered
        assert len(kit.nodes[1].gateway.node.hub.connections) == 1
        publication = await room.next()
        assert (publication.data, publication.recovered) == ({"text": "missed"}, True)


async def test_one_node_may_stop_before_the_other() -> None:
    async with Kit(create_app, nodes=2) as kit:
        ann = await kit.connect()
        room = await ann.subscribe("chat:lobby")
        await (await kit.connect(node=1)).subscribe("chat:lobby")
        await kit.nodes[1].stop()
        assert await kit.gateway.presence_stats("chat:lobby") == (1, 1)
        await kit.gateway.publish("chat:lobby", {"text": "hi"})
        await room.next()


async def test_fakeredis() -> None:
    with fake_redis() as url:
        async with Kit(create_app, nodes=2, redis_url=url) as kit:
            ann, bob = await kit.connect(), await kit.connect(node=1)
            room = await ann.subscribe("chat:lobby")
            await bob.subscribe("chat:lobby")
            await bob.publish("chat:lobby", {"text": "hi"})
            assert (await room.next()).data == {"text": "HI"}
            await room.nothing()
            async with ann.dropped(20):
                await bob.publish("chat:lobby", {"text": "missed"})
            assert room.recovered
            assert (await room.next()).data == {"text": "MISSED"}
            await kit.clock.advance(60)
            assert ann.connected


async def test_fakeredis_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fakeredis", None)
    with pytest.raises(ImportError, match=r"pip install 'fakeredis\[lua\]'"), fake_redis():
        pass


async def test_a_module_that_was_not_imported_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tests.testing.module")
    async with Kit("tests.testing.module:create_app") as kit:
        assert (await kit.connect()).connected
        assert "tests.testing.module" not in sys.modules


# — what cannot run —


def test_one_application_cannot_be_two_nodes() -> None:
    app = create_app()
    with pytest.raises(ValueError, match=r"Kit\(create_app, nodes=2\)"):
        Kit(app, nodes=2)
    with pytest.raises(ValueError, match=r"Kit\(create_app, nodes=2\)"):
        Kit(lambda: app, nodes=2)


def test_what_is_no_application() -> None:
    number: Any = 17
    with pytest.raises(TypeError, match="is no application"):
        Kit(number)
    with pytest.raises(ValueError, match="module:attribute"):
        Kit("tests.testing.chat")
    with pytest.raises(ValueError, match="module:attribute"):
        Kit("no_such_module:app")


async def test_nodes_do_not_share_a_gateway() -> None:
    gateway = Gateway()
    with pytest.raises(LookupError, match="each node runs a gateway of its own"):
        async with Kit(lambda: FastAPI(lifespan=gateway.lifespan), nodes=2):
            pass


async def test_an_application_without_gateway() -> None:
    with pytest.raises(LookupError, match="no gateway has started"):
        async with Kit(FastAPI()):
            pass


async def test_an_application_that_does_not_start_or_stop() -> None:
    gateway = Gateway(Settings())

    @asynccontextmanager
    async def starting(app: FastAPI) -> AsyncIterator[None]:
        if not app.debug:
            raise ConnectionError("no database")
        yield

    @asynccontextmanager
    async def stopping(app: FastAPI) -> AsyncIterator[None]:
        async with gateway.lifespan(app):
            yield
        raise ConnectionError("the database does not close")

    with pytest.raises(ConnectionError, match="no database"):
        async with Kit(FastAPI(lifespan=starting)):
            pass
    with pytest.raises(ConnectionError, match="does not close"):
        async with Kit(FastAPI(lifespan=stopping)):
            pass


async def test_a_failure_of_the_test_comes_first() -> None:
    async def test() -> None:
        async with Kit(create_app()) as kit:
            socket = await kit.websocket("/echo")
            await socket.send_text("fail")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await test()


async def test_a_route_that_does_not_return_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    app = create_app()

    async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") == "/stuck":
            await send({"type": "websocket.accept"})
            await asyncio.Event().wait()
        await app(scope, receive, send)

    with caplog.at_level(logging.WARNING):
        async with Kit(asgi, deadline=0.05) as kit:
            socket = await kit.websocket("/stuck")
            await socket.send_text("hello?")
            with pytest.raises(Late, match="still busy"):
                await socket.nothing()
            assert (await kit.connect()).connected  # at the usual path, for this is not an application with routes
    assert "it is cancelled" in caplog.text
