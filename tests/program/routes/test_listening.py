"""The program itself as a subscriber of a channel."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway import Disconnect, Error, Gateway
from gateway.core.cluster import UnsubscribeUser
from gateway.program.routes.listening import Listener
from tests.program.routes.clients import assert_empty, connected, gateway_with, running
from tests.waiting import settle, until

OPEN: dict[str, Any] = {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True} | {
    "allow_publish_for_client": True,
    "allow_publish_for_anonymous": True,
}


@pytest.fixture
def gateway() -> Gateway:
    gateway = gateway_with()
    gateway.channel("orders:{kind}", history_size=5, **OPEN)
    return gateway


async def test_hears_what_is_published_in_order(gateway: Gateway) -> None:
    async with connected(gateway) as client:
        await client.subscribe("orders:new")
        async with gateway.listen("orders:new") as orders:
            await client.result("publish", channel="orders:new", data={"id": 1})
            await gateway.publish("orders:new", b"\x00", tags={"a": "b"})
            await gateway.publish("orders:old", 3)
            heard = []
            async for each in orders:
                heard.append(each)
                if len(heard) == 2:
                    break
            assert [(each.data, each.raw, each.tags, each.offset) for each in heard] == [
                ({"id": 1}, b'{"id": 1}', {}, 1),
                (b"\x00", b"\x00", {"a": "b"}, 2),
            ]
            assert heard[0].info is not None
            assert heard[0].info.client == client.session.client
            assert heard[1].binary is True
            assert orders.take() == []
            assert orders.dropped == 0
        await client.leave()
        await assert_empty(gateway)


async def test_waits_for_what_comes_later(gateway: Gateway) -> None:
    async with running(gateway), gateway.listen("orders:new") as orders:
        waiting = aiter(orders)
        for number in range(3):
            await gateway.publish("orders:new", number)
            assert (await anext(waiting)).data == number


async def test_takes_what_is_there(gateway: Gateway) -> None:
    async with running(gateway), gateway.listen("orders:new") as orders:
        assert orders.take() == []
        await gateway.broadcast(["orders:new"] * 3, "x")
        gateway.node.hub.flush()
        assert [each.data for each in orders.take()] == ["x"] * 3
        assert orders.take() == []


@pytest.mark.parametrize("limit", [1, 3])
async def test_the_oldest_go_when_too_many_wait(gateway: Gateway, limit: int) -> None:
    async with running(gateway), gateway.listen("orders:new", limit=limit) as orders:
        for number in range(5):
            await gateway.publish("orders:new", number)
        gateway.node.hub.flush()
        assert orders.dropped == gateway.node.metrics.dropped["listener"] == 5 - limit
        assert [each.data for each in orders.take()] == list(range(5 - limit, 5))


async def test_several_listen(gateway: Gateway) -> None:
    async with running(gateway):
        async with gateway.listen("orders:new") as one:
            async with gateway.listen("orders:new") as other:
                assert await gateway.channels("orders:*") == {"orders:new": 2}
                await gateway.publish("orders:new", 1)
                gateway.node.hub.flush()
                assert len(other.take()) == 1
            await gateway.publish("orders:new", 2)
            gateway.node.hub.flush()
            assert [each.data for each in one.take()] == [1, 2]
        await assert_empty(gateway)


async def test_large_publications_come_one_by_one(gateway: Gateway) -> None:
    async with running(gateway), gateway.listen("orders:new") as orders:
        for _ in range(3):
            await gateway.publish("orders:new", "x" * 100_000)
        await until(lambda: len(orders._waiting) == 3)


async def test_ends_also_when_its_block_fails(gateway: Gateway) -> None:
    async with running(gateway):
        with pytest.raises(ValueError, match="of the program"):
            async with gateway.listen("orders:new"):
                raise ValueError("of the program")
        await assert_empty(gateway)
        with pytest.raises(Error, match="unknown channel"):
            async with gateway.listen("nowhere:x"):
                raise AssertionError


async def test_a_listener_takes_no_orders(gateway: Gateway) -> None:
    """Commands are for connections."""
    async with running(gateway), gateway.listen("orders:new") as orders:
        orders.lose_position(None)
        orders.disconnect(Disconnect(4000, "bye"))
        orders.control(UnsubscribeUser(user="", channel="orders:new", code=2000, reason="bye"))
        await gateway.publish("orders:new", 1)
        gateway.node.hub.flush()
        assert len(orders.take()) == 1


def test_only_while_the_gateway_runs(gateway: Gateway) -> None:
    with pytest.raises(RuntimeError, match="the gateway does not run"):
        gateway.listen("orders:new")


# — the end of the process —


async def collect(listener: Listener[int]) -> list[int]:
    return [each.data async for each in listener]


async def test_ends_when_the_process_is_told_to_stop(gateway: Gateway, ask_to_stop: Callable[[], None]) -> None:
    async with running(gateway):
        async with gateway.listen("orders:new") as waiting, gateway.listen("orders:new") as behind:
            task = asyncio.create_task(collect(waiting))
            await gateway.publish("orders:new", 1)
            gateway.node.hub.flush()
            await settle()
            ask_to_stop()
            assert await task == [1]
            await gateway.publish("orders:new", 2)  # too late
            gateway.node.hub.flush()
            assert await collect(behind) == [1]
            assert (waiting.closed, behind.closed) == (True, True)
        async with gateway.listen("orders:new") as late:
            assert await collect(late) == []
        await assert_empty(gateway)


async def test_ends_with_the_lifespan(gateway: Gateway) -> None:
    heard: list[list[int]] = []

    async def work() -> None:
        async with gateway.listen("orders:new") as orders:
            listening.set()
            heard.append(await collect(orders))

    listening = asyncio.Event()
    async with running(gateway):
        task = asyncio.create_task(work())
        await listening.wait()
    await task
    assert heard == [[]]
