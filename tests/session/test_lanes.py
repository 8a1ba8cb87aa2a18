"""Commands that the program decides: in order within a channel, side by side otherwise, and not without end."""

import asyncio
import json
from contextvars import ContextVar
from typing import Annotated, Any

import pytest
from fastapi import Body
from msgspec import Raw

from gateway import Gateway, Grant
from gateway.core.tasks import Tasks
from gateway.messages import PublishRequest, RefreshRequest, RPCRequest, SubscribeRequest
from gateway.session import State
from gateway.session.lanes import UNDER_WAY, Lanes
from tests.program.routes.clients import Client, assert_empty, connected, gateway_with, settled
from tests.waiting import until

OPEN: dict[str, Any] = {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}


class Work:
    """Pieces of work that wait to be let go, and note when they begin."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.done: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self._tasks = Tasks()
        self.lanes = Lanes(self._tasks.spawn)

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        return self._tasks.running

    async def piece(self, name: str) -> None:
        self.begun.append(name)
        await self.gates.setdefault(name, asyncio.Event()).wait()
        self.done.append(name)

    async def add(self, request: Any, name: str) -> None:
        await self.lanes.add(request, self.piece(name))

    async def let_go(self, *names: str) -> None:
        for name in names:
            self.gates.setdefault(name, asyncio.Event()).set()
        await until(lambda: set(names) <= set(self.done))


async def test_what_one_piece_of_work_sets_the_next_does_not_see() -> None:
    user: ContextVar[str] = ContextVar("user", default="nobody")
    seen: list[str] = []

    async def piece(name: str) -> None:
        seen.append(user.get())
        user.set(name)

    work = Work()
    for name in ("ann", "bob"):  # the second waits behind the first
        await work.lanes.add(SubscribeRequest("a"), piece(name))
    await until(lambda: len(seen) == 2)
    assert seen == ["nobody", "nobody"]


async def test_who_is_cancelled_waits_no_more_and_the_others_do() -> None:
    work = Work()
    await work.add(SubscribeRequest("a"), "a1")
    cancelled, waits = (asyncio.ensure_future(work.lanes.finished()) for _ in range(2))
    await until(lambda: work.begun == ["a1"])
    cancelled.cancel()
    await asyncio.wait([cancelled])
    tasks = list(work.tasks)
    await work.let_go("a1")
    await asyncio.gather(*tasks)  # which have not failed for who had gone
    await waits
    assert cancelled.cancelled()


async def test_a_lane_for_each_channel() -> None:
    work = Work()
    a, b = SubscribeRequest("a"), SubscribeRequest("b")
    await work.add(a, "a1")
    await work.add(PublishRequest("a", Raw(b"1")), "a2")
    await work.add(b, "b1")
    await until(lambda: work.begun == ["a1", "b1"])
    assert work.lanes.busy(PublishRequest("a", Raw(b"2")))
    assert not work.lanes.busy(SubscribeRequest("c"))
    await work.let_go("b1")
    assert not work.lanes.busy(b)
    await work.let_go("a1", "a2")
    assert work.done == ["b1", "a1", "a2"]
    assert not work.lanes.busy(a)
    assert not work.tasks
    await work.add(a, "a3")
    await work.let_go("a3")


async def test_calls_and_commands_without_channel_wait_for_nobody() -> None:
    work = Work()
    for number in range(3):
        await work.add(RPCRequest(method="x"), str(number))
    await until(lambda: len(work.begun) == 3)
    assert not work.lanes.busy(RPCRequest(method="x"))
    assert not work.lanes.busy(RefreshRequest("token"))
    await work.let_go("0", "1", "2")
    assert not work.tasks


async def test_too_much_under_way_waits() -> None:
    work = Work()
    names = [str(number) for number in range(UNDER_WAY)]
    adding = [asyncio.ensure_future(work.add(RPCRequest(method="x"), name)) for name in names]
    await until(lambda: len(work.begun) == UNDER_WAY)
    await until(lambda: sum(each.done() for each in adding) == UNDER_WAY - 1)
    assert not adding[-1].done()
    await work.let_go(*names[: UNDER_WAY // 2 - 1])
    assert not adding[-1].done()
    await work.let_go(names[UNDER_WAY // 2])
    await adding[-1]
    await work.let_go(*names)
    assert work.lanes._count == 0


async def test_who_waits_may_leave() -> None:
    work = Work()
    for number in range(UNDER_WAY - 1):
        await work.add(SubscribeRequest("a"), str(number))
    waiting = asyncio.ensure_future(work.add(SubscribeRequest("a"), "last"))
    await until(lambda: work.begun)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await work.let_go(*map(str, range(UNDER_WAY - 1)), "last")
    assert work.lanes._count == 0


async def test_what_is_cancelled_leaves_nothing_behind() -> None:
    """The node stops: what had not begun is closed, and nobody waits for room that will not come."""
    work = Work()
    for number in range(UNDER_WAY - 1):
        await work.add(SubscribeRequest("a"), str(number))
    waiting = asyncio.ensure_future(work.add(SubscribeRequest("a"), "last"))
    await until(lambda: work.begun)
    for task in list(work.tasks):
        task.cancel()
    await until(lambda: waiting.done())
    assert work.begun == ["0"]
    assert not work.lanes.busy(SubscribeRequest("a"))
    assert work.lanes._count == 0


# — within a session —


class Gates:
    """A program whose handlers wait until the test lets them go on."""

    def __init__(self) -> None:
        self.gateway = gateway_with()
        self.calls: list[str] = []
        self.open = asyncio.Event()
        for name in ("a", "b"):
            self.declare(name)

        @self.gateway.rpc("call")
        async def call(text: Annotated[str, Body()]) -> str:
            await self.reach(text)
            return text

        self.gateway.channel("free", history_size=5, **OPEN)

    def declare(self, name: str) -> None:
        route = self.gateway.channel(name, presence=True, history_size=10, publish="anyone")

        @route.on_subscribe
        async def join() -> None:
            await self.reach(f"subscribe {name}")

        @route.on_publish
        async def say(text: Annotated[str, Body()]) -> None:
            await self.reach(f"publish {name} {text}")

        @route.on_unsubscribe
        async def leave() -> None:
            self.calls.append(f"unsubscribe {name}")

    async def reach(self, what: str) -> None:
        self.calls.append(what)
        await self.open.wait()


@pytest.fixture
def gates() -> Gates:
    return Gates()


async def test_commands_of_one_channel_keep_their_order(gates: Gates) -> None:
    async with connected(gates.gateway) as client:
        await client.send("subscribe", channel="a")
        for text in ("1", "2"):
            await client.send("publish", channel="a", data=text)
        await client.send("presence", channel="a")
        await client.send("unsubscribe", channel="a")
        last = await client.send("publish", channel="a", data="3")
        await client.send("subscribe", channel="b")
        await until(lambda: gates.calls == ["subscribe a", "subscribe b"])
        # what has nothing to do with it goes on meanwhile
        assert "subscribe" in await client.ask("subscribe", channel="free")
        gates.open.set()
        await client.reply(last)
        await settled(gates.gateway)
        of_a = [each for each in gates.calls if each != "subscribe b"]
        assert [each for each in of_a if not each.startswith("unsub")] == [
            "subscribe a",
            "publish a 1",
            "publish a 2",
            "publish a 3",
        ]
        assert of_a.count("unsubscribe a") == 1
        client.look()
        replies = [each["id"] for each in client.inbox if "id" in each and each["id"] <= 7 and "subscribe" not in each]
        assert replies == [3, 4, 5, 6]
        assert [each.data for each in (await gates.gateway.history("a"))[0]] == ["1", "2", "3"]


async def test_calls_do_not_wait_for_each_other_or_for_channels(gates: Gates) -> None:
    async with connected(gates.gateway) as client:
        await client.send("subscribe", channel="a")
        ids = [await client.send("rpc", method="call", data=str(number)) for number in range(3)]
        await until(lambda: gates.calls == ["subscribe a", "0", "1", "2"])
        gates.open.set()
        assert [(await client.reply(each))["rpc"]["data"] for each in ids] == ["0", "1", "2"]


async def test_a_client_that_asks_too_much_waits_alone(gates: Gates) -> None:
    async with connected(gates.gateway) as client:
        other = Client(gates.gateway)
        await other.connect()
        frame = b"\n".join(
            json.dumps({"id": number, "rpc": {"method": "call", "data": str(number)}}).encode()
            for number in range(2, UNDER_WAY + 12)
        )
        receiving = asyncio.create_task(client.session.receive(frame))
        await until(lambda: len(gates.calls) == UNDER_WAY)
        assert not receiving.done()
        await other.subscribe("free")
        gates.open.set()
        await receiving
        await client.reply(UNDER_WAY + 11)
        assert len(gates.calls) == UNDER_WAY + 10


async def test_what_waits_is_not_begun_for_a_client_that_has_left(gates: Gates) -> None:
    async with connected(gates.gateway) as client:
        await client.send("subscribe", channel="a")
        await client.send("publish", channel="a", data="1")
        await client.send("rpc", method="call", data="call")
        await until(lambda: gates.calls == ["subscribe a", "call"])
        gates.gateway.running.acceptor.close(client.session)
        await until(lambda: client.session.state is State.ENDED)
        gates.open.set()
        await assert_empty(gates.gateway)
        # whom it has let in after all, it hears leave
        assert gates.calls == ["subscribe a", "call", "unsubscribe a"]


async def test_a_disconnect_of_one_command_ends_all() -> None:
    gateway: Gateway = gateway_with()
    go_on = asyncio.Event()

    @gateway.channel("a").on_subscribe
    async def join() -> Grant:
        await go_on.wait()
        return Grant()

    async with connected(gateway) as client:
        await client.send("subscribe", channel="a")
        await client.send("publish", channel="a")  # data is missing, but it has to wait
        await client.send("unsubscribe")  # this one is of no channel, and wrong
        assert await client.is_closed() == (3501, "bad request")
        go_on.set()
        await client.leave()
        await assert_empty(gateway)
