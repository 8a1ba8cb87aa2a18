"""What a program does for a channel once for all nodes, over two nodes and a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, Request
from starlette.applications import Starlette

from gateway import Gateway
from tests.program.routes.clients import Client, connected, gateway_with, running
from tests.redis_server import RedisServer
from tests.waiting import settle, until

OPEN: dict[str, Any] = {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}


class Seen:
    """What the program saw on all nodes, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.open = 0
        self.ticks: asyncio.Queue[int] = asyncio.Queue()
        """What the source has to say."""

    def tick(self, *numbers: int) -> None:
        for each in numbers:
            self.ticks.put_nowait(each)

    def declare(self, gateway: Gateway) -> Gateway:
        room = gateway.channel("room:{name}:{n:int}", **OPEN)

        async def resource() -> AsyncIterator[str]:
            self.open += 1
            try:
                yield "resource"
            finally:
                self.open -= 1

        @room.on_occupied
        async def occupied(name: str, n: int, resource: Annotated[str, Depends(resource)]) -> None:
            self.events.append(f"occupied {name} {n + 1}")

        @room.on_vacated
        def vacated(name: str) -> None:
            self.events.append(f"vacated {name}")

        ticks = gateway.channel("ticks:{name}", **OPEN)

        @ticks.live
        async def tick(name: str, resource: Annotated[str, Depends(resource)]) -> AsyncIterator[int]:
            self.events.append(f"live {name}")
            try:
                while True:
                    yield await self.ticks.get()
            finally:
                self.events.append(f"ended {name}")

        gateway.channel("plain:{name}", **OPEN)
        return gateway


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def declared(seen: Seen, server: RedisServer) -> tuple[Gateway, Gateway]:
    """Two nodes that do not run yet."""
    engine = {"type": "redis", "redis": {"address": server.url}}
    return seen.declare(gateway_with(engine=engine)), seen.declare(gateway_with(engine=engine))


@pytest.fixture
async def nodes(declared: tuple[Gateway, Gateway]) -> AsyncIterator[tuple[Gateway, Gateway]]:
    async with AsyncExitStack() as stack:
        for gateway in declared:
            await stack.enter_async_context(gateway.lifespan(FastAPI()))
        yield declared


async def opened(gateway: Gateway, channel: str) -> Client:
    client = Client(gateway)
    await client.connect()
    await client.subscribe(channel)
    return client


async def test_the_first_and_the_last_of_all_nodes(nodes: tuple[Gateway, Gateway], seen: Seen) -> None:
    one, other = nodes
    first = await opened(one, "room:a:1")
    await until(lambda: seen.events == ["occupied a 2"])
    second = await opened(other, "room:a:1")
    await opened(other, "plain:a")
    await first.leave()
    third = await opened(other, "room:b:2")
    await until(lambda: seen.events == ["occupied a 2", "occupied b 3"])
    await second.leave()
    await until(lambda: "vacated a" in seen.events, deadline=20)
    await third.leave()
    await until(lambda: "vacated b" in seen.events, deadline=20)
    await opened(one, "room:a:1")
    await until(lambda: seen.events.count("occupied a 2") == 2)
    assert len(seen.events) == 5
    assert seen.open == 0
    times = [gateway.node.metrics.handler_time for gateway in nodes]
    assert sum(sum(each["on_occupied"].counts) for each in times) == 3


async def test_a_live_source_runs_once_and_is_handed_over(nodes: tuple[Gateway, Gateway], seen: Seen) -> None:
    one, other = nodes
    first, second = await opened(one, "ticks:a"), await opened(other, "ticks:a")
    seen.tick(1, 2, 3)
    for each in (first, second):
        await each.hears(1, 2, 3, channel="ticks:a")
    assert seen.events == ["live a"]
    assert seen.open == 1
    await first.leave()
    await until(lambda: not one.running.cluster_events._live._candidates, deadline=20)
    seen.tick(4)
    await second.hears(1, 2, 3, 4, channel="ticks:a")
    await until(lambda: seen.open == 1, deadline=20)  # the one that ended may have said the 4
    await second.leave()
    await until(lambda: seen.open == 0, deadline=20)
    assert seen.events in (["live a", "ended a"], ["live a", "ended a", "live a", "ended a"])


async def test_a_node_that_stops_hands_its_source_over(declared: tuple[Gateway, Gateway], seen: Seen) -> None:
    one, other = declared
    async with other.lifespan(FastAPI()):
        async with one.lifespan(FastAPI()):
            await opened(one, "ticks:a")
            await until(lambda: seen.events == ["live a"])
            reader = await opened(other, "ticks:a")
        await until(lambda: seen.events == ["live a", "ended a", "live a"], deadline=20)
        seen.tick(1)
        await reader.hears(1, channel="ticks:a")
    assert seen.open == 0


async def test_one_node_without_redis(seen: Seen) -> None:
    gateway = seen.declare(gateway_with())
    async with running(gateway):
        room, ticks = await opened(gateway, "room:a:1"), await opened(gateway, "ticks:a")
        seen.tick(1, 2)
        await ticks.hears(1, 2, channel="ticks:a")
        await room.leave()
        await ticks.leave()
        await until(lambda: {"vacated a", "ended a"} <= set(seen.events), deadline=20)
    assert seen.open == 0


async def test_what_fails_is_logged_and_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    gateway = gateway_with()

    @gateway.channel("room", **OPEN).on_occupied
    async def occupied() -> None:
        raise RuntimeError("no database")

    async with connected(gateway) as client:
        await client.subscribe("room")
        await until(lambda: "no database" in caplog.text)
        assert client.closed is None
    assert caplog.text.count("RuntimeError: no database") == 1


async def test_a_channel_is_not_vacated_while_the_program_still_hears_that_it_is_occupied() -> None:
    gateway = gateway_with()
    room = gateway.channel("room", **OPEN)
    log: list[str] = []
    connected_upstream = asyncio.Event()

    @room.on_occupied
    async def occupied() -> None:
        log.append("connecting")
        await connected_upstream.wait()
        log.append("connected")

    @room.on_vacated
    async def vacated() -> None:
        log.append("closed")

    async with gateway.lifespan(FastAPI()):
        await opened(gateway, "room")
        await until(lambda: log == ["connecting"])
        for watcher in gateway.node.feeds.watchers:
            watcher.on_ceased("room")
        await settle()
        assert log == ["connecting"]
        connected_upstream.set()
        await until(lambda: log == ["connecting", "connected", "closed"])


async def test_the_lifespan_may_be_of_an_application_without_overrides() -> None:
    gateway = gateway_with()
    seen: list[str] = []

    def dependency(request: Request) -> str:
        return str(request.app.state.pool)

    @gateway.channel("room", **OPEN).on_occupied
    async def occupied(pool: Annotated[str, Depends(dependency)]) -> None:
        seen.append(pool)

    outer = Starlette()
    outer.state.pool = "the pool"
    async with gateway.lifespan(outer):
        await opened(gateway, "room")
        await until(lambda: seen == ["the pool"])


async def test_overrides_hold_without_a_client() -> None:
    gateway = gateway_with()
    seen: list[str] = []

    def dependency() -> str:
        return "the real one"

    @gateway.channel("room", **OPEN).on_occupied
    async def occupied(found: Annotated[str, Depends(dependency)]) -> None:
        seen.append(found)

    app = FastAPI()
    app.dependency_overrides[dependency] = lambda: "another"
    async with gateway.lifespan(app):
        await opened(gateway, "room")
        await until(lambda: seen == ["another"])


async def test_a_dependency_that_swallows_a_failure_does_not_end_a_source(caplog: pytest.LogCaptureFixture) -> None:
    """It would look as if the source had come to its end, and nobody would run it again."""
    gateway = gateway_with()
    runs: list[str] = []

    async def forgetful() -> AsyncIterator[None]:
        with suppress(HTTPException):
            yield

    @gateway.channel("ticks", **OPEN).live
    async def tick(_: Annotated[None, Depends(forgetful)]) -> AsyncIterator[int]:
        runs.append("")
        yield len(runs)
        if len(runs) == 1:
            raise HTTPException(500)

    async with connected(gateway) as client:
        await client.subscribe("ticks")
        await until(lambda: client.data("ticks") == [1, 2])
    assert "every `except` must `raise`" in caplog.text


async def test_a_source_whose_dependencies_cannot_be_solved_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    gateway = gateway_with()
    refusals = [HTTPException(503)]

    def busy() -> None:
        if refusals:
            raise refusals.pop()

    @gateway.channel("ticks", **OPEN).live
    async def tick(_: Annotated[None, Depends(busy)]) -> AsyncIterator[int]:
        yield 1

    async with connected(gateway) as client:
        await client.subscribe("ticks")
        await client.hears(1, channel="ticks")


async def test_channels_of_another_release_are_of_no_concern(seen: Seen) -> None:
    """In a rolling deploy another node may know channels that are unknown here."""
    gateway = seen.declare(gateway_with(channel={"namespaces": [{"name": "chat"}]}))
    async with running(gateway):
        everywhere = gateway.running.cluster_events
        for channel in ("nowhere:x", "chat:x", "plain:x"):
            everywhere.on_occupied(channel)
            everywhere.on_vacated(channel)
        assert gateway.node._work.running == set()


async def test_programs_without_such_handlers_pay_nothing() -> None:
    gateway = gateway_with()
    gateway.channel("chat", **OPEN)
    async with connected(gateway) as client:
        assert gateway.node.feeds.watchers == []
        await client.subscribe("chat")
