"""What is called in another event loop, or in a thread's own: it is refused, and nothing has been done."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from inspect import iscoroutinefunction
from typing import Any

import pytest
from anyio import from_thread, to_thread

from gateway import Client, Gateway
from tests.program.routes.clients import Client as Peer
from tests.program.routes.clients import gateway_with, running
from tests.waiting import settle

OPEN: dict[str, Any] = {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    gateway = gateway_with(
        {"allow_anonymous_connect_without_token": True} | {"subscribe_to_user_personal_channel": {"enabled": True}}
    )
    gateway.channel("room:{name}", presence=True, history_size=10, replay=True, **OPEN)
    async with running(gateway):
        yield gateway


async def nothing() -> AsyncIterator[int]:
    for each in range(0):
        yield each


async def listen(gateway: Gateway) -> None:
    async with gateway.listen("room:1"):
        raise AssertionError("listens")


CALLS: dict[str, Callable[[Gateway], Awaitable[object]]] = {
    "publish": lambda gateway: gateway.publish("room:1", 1),
    "publish_event": lambda gateway: gateway.publish_event("room:1", "said", 1),
    "broadcast": lambda gateway: gateway.broadcast(["room:1"], 1),
    "publish_to_user": lambda gateway: gateway.publish_to_user("7", 1),
    "exclude": lambda gateway: gateway.exclude("client").publish("room:1", 1),
    "send": lambda gateway: gateway.send("client", 1),
    "presence": lambda gateway: gateway.presence("room:1"),
    "presence_stats": lambda gateway: gateway.presence_stats("room:1"),
    "history": lambda gateway: gateway.history("room:1"),
    "remove_history": lambda gateway: gateway.remove_history("room:1"),
    "channels": lambda gateway: gateway.channels(),
    "subscribe": lambda gateway: gateway.subscribe("7", "room:1"),
    "unsubscribe": lambda gateway: gateway.unsubscribe("7", "room:1"),
    "disconnect": lambda gateway: gateway.disconnect("7"),
    "expire": lambda gateway: gateway.expire("7"),
    "block": lambda gateway: gateway.block("7"),
    "unblock": lambda gateway: gateway.unblock("7"),
    "blocked": lambda gateway: gateway.blocked(),
    "stream": lambda gateway: gateway.stream("room:1", nothing()),
    "stop_stream": lambda gateway: gateway.stop_stream("room:1"),
    "run_on": lambda gateway: gateway.run_on(),
    "listen": listen,
}


def test_no_coroutine_of_the_gateway_is_forgotten() -> None:
    named = {name: each for kind in Gateway.__mro__ for name, each in vars(kind).items()}
    assert {name for name, each in named.items() if name[0] != "_" and iscoroutinefunction(each)} <= CALLS.keys()


@pytest.mark.parametrize("name", CALLS)
async def test_a_loop_of_its_own_is_refused_before_anything_is_done(gateway: Gateway, name: str) -> None:
    peer = Peer(gateway)
    await peer.connect()
    await peer.subscribe("room:1")

    async def call() -> None:
        await CALLS[name](gateway)

    with pytest.raises(RuntimeError, match="nothing was done") as caught:
        await asyncio.to_thread(lambda: asyncio.run(call()))
    for way in ("anyio.from_thread.run(gateway.publish", "run_coroutine_threadsafe", "gateway.publisher()"):
        assert way in str(caught.value)
    await settle()
    assert peer.pushes() == []
    assert (await gateway.history("room:1"))[0] == []
    assert peer.closed is None


async def test_what_the_refusal_names_works(gateway: Gateway) -> None:
    def in_thread() -> None:
        from_thread.run(gateway.publish, "room:1", 1)
        asyncio.run_coroutine_threadsafe(gateway.publish("room:1", 2), gateway.loop).result(10)

    await to_thread.run_sync(in_thread)
    assert [each.data for each in (await gateway.history("room:1"))[0]] == [1, 2]


async def test_a_client_is_left_alone_too() -> None:
    gateway = gateway_with()
    gateway.channel("room:{name}", history_size=10, replay=True, **OPEN)
    refusals: list[str] = []
    calls: list[Callable[[Client], Any]] = [
        lambda client: client.subscribe("room:1"),
        lambda client: client.stream(nothing(), channel="room:1"),
        lambda client: _now(lambda: client.unsubscribe("room:2")),
        lambda client: _now(client.disconnect),
    ]

    @gateway.rpc("elsewhere")
    def elsewhere(client: Client) -> None:
        for call in calls:
            with pytest.raises(RuntimeError, match="nothing was done") as caught:
                asyncio.run(call(client))
            refusals.append(str(caught.value))

    async with running(gateway) as opened:
        peer = opened()
        await peer.connect()
        await peer.subscribe("room:2")
        await peer.call("elsewhere")
        assert len(refusals) == len(calls)
        assert list(peer.session.subscriptions) == ["room:2"]
        assert peer.pushes() == []
        assert peer.closed is None


async def _now(work: Callable[[], None]) -> None:
    work()
