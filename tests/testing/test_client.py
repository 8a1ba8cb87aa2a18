"""Clients of the kit: what they wait for, what they report, how they leave and come back."""

import asyncio

import pytest
from fastapi import FastAPI

from gateway import Gateway
from gateway.testing import Disconnected, Kit, Late, Refused, Unexpected
from gateway.testing.call import UpgradeRequest
from gateway.testing.client import Client
from tests.testing.chat import create_app


async def test_late_says_what_came_instead() -> None:
    async with Kit(create_app()) as kit:
        ann = await kit.connect(name="ann")
        room = await ann.subscribe("chat:lobby")
        other = await ann.subscribe("plain:other")
        await kit.gateway.publish("plain:other", "elsewhere")
        with pytest.raises(Late, match=r'(?s)no publication in .chat:lobby. within 0.05 s; ann has .*"elsewhere"'):
            await room.next(within=0.05)
        assert (await other.next()).data == "elsewhere"
        with pytest.raises(Late, match="no new subscription in 'chat:lobby'"):
            await room.resubscribed(within=0)
        with pytest.raises(Late, match="no end of the connection"):
            await ann.ended(within=0)


async def test_nothing_fails_when_something_comes() -> None:
    async with Kit(create_app, nodes=2) as kit:
        ann, bob = await kit.connect(name="ann"), await kit.connect(node=1)
        room = await ann.subscribe("plain:x")
        await room.nothing()
        await kit.nodes[1].gateway.publish("plain:x", 17)
        with pytest.raises(Unexpected, match=r"nothing was expected in 'plain:x', but there came .*data=17"):
            await room.nothing()
        assert (await room.next()).data == 17
        await room.nothing()
        assert bob.connected


async def test_nothing_through_fakeredis_fails_when_something_comes(fake_redis_url: str) -> None:
    async with Kit(create_app, nodes=2, redis_url=fake_redis_url) as kit:
        room = await (await kit.connect()).subscribe("plain:x")
        for number in range(20):
            await kit.nodes[1].gateway.publish("plain:x", number)
            with pytest.raises(Unexpected):
                await room.nothing()
            assert (await room.next()).data == number


async def test_joins_and_leaves() -> None:
    async with Kit(create_app()) as kit:
        ann = await kit.connect(query={"name": "ann"})
        room = await ann.subscribe("chat:lobby")
        assert (await room.joined())["user"] == "ann"
        bob = await kit.connect(query={"name": "bob"})
        theirs = await bob.subscribe("chat:lobby")
        assert (await room.joined())["user"] == "bob"
        await bob.unsubscribe(theirs)
        assert (await room.left())["user"] == "bob"


async def test_subscriptions_of_the_server() -> None:
    async with Kit(create_app()) as kit:
        ann = await kit.connect(query={"name": "ann"})
        await kit.gateway.subscribe("ann", "plain:news", data="welcome")
        news = await ann.subscription("plain:news")
        assert (news.data, news.server_side) == ("welcome", True)
        await kit.gateway.publish("plain:news", 1)
        assert (await news.next()).data == 1
        await kit.gateway.unsubscribe("ann", "plain:news")
        assert (await news.ended()).code == 2000
        with pytest.raises(Refused, match="2000 server unsubscribe"):
            await news.next()


async def test_subscriptions_of_the_credentials_are_taken_up_again() -> None:
    async with Kit(create_app()) as kit:
        ann = await kit.connect(token=kit.token("ann", channels=["chat:lobby", "chat:secret"]))
        lobby, secret = ann.subscriptions["chat:lobby"], ann.subscriptions["chat:secret"]
        async with ann.dropped():
            await kit.gateway.publish("chat:lobby", {"text": "missed"})
            ann.token = kit.token("ann", channels=["chat:lobby"])
        assert lobby.recovered
        assert (await lobby.next()).data == {"text": "missed"}
        assert not secret.active
        assert list(ann.subscriptions) == ["chat:lobby"]


# — dropped —


async def test_a_drop_longer_than_the_history() -> None:
    async with Kit(create_app()) as kit:
        ann = await kit.connect()
        room = await ann.subscribe("chat:lobby")
        async with ann.dropped(61):
            await kit.gateway.publish("chat:lobby", {"text": "too long ago"})
            with pytest.raises(Disconnected, match="1006"):
                await ann.rpc("rooms")
        assert not room.recovered
        await room.nothing()
        assert len(kit.nodes[0].gateway.node.hub.connections) == 1
        await kit.gateway.publish("chat:lobby", {"text": "now"})
        assert (await room.next()).offset == 2


async def test_a_drop_that_nobody_notices() -> None:
    app = create_app()
    async with Kit(app) as kit:
        ann = await kit.connect(query={"name": "ann"})
        room = await ann.subscribe("chat:lobby")
        async with ann.dropped(10, noticed=False):
            await kit.gateway.publish("chat:lobby", {"text": "missed"})
            assert len(kit.gateway.node.hub.connections) == 1
        assert room.recovered
        assert len(kit.gateway.node.hub.connections) == 2, "the one before is still thought to be there"
        await kit.clock.advance(30)
        assert len(kit.gateway.node.hub.connections) == 1
        assert app.state.gone == ["ann"]


async def test_coming_back_to_where_one_may_not_be() -> None:
    async with Kit(create_app()) as kit:
        token = kit.token("ann", channel="chat:secret", ttl=10)
        ann = await kit.connect(token=kit.token("ann"))
        room = await ann.subscribe("chat:secret", token=token, data={"some": "data"})
        with pytest.raises(Refused, match="109 token expired"):
            async with ann.dropped(20):
                pass
        with pytest.raises(Refused, match="109"):
            await room.next()


async def test_a_new_token_for_a_subscription() -> None:
    async with Kit(create_app()) as kit:
        ann = await kit.connect(token=kit.token("ann"))
        room = await ann.subscribe("chat:secret", token=kit.token("ann", channel="chat:secret", ttl=10))
        await room.refresh(kit.token("ann", channel="chat:secret", ttl=100))
        await kit.clock.advance(50)
        assert not room.resubscriptions
        async with ann.dropped(20):
            pass
        assert room.active


async def test_goodbye() -> None:
    app = create_app()
    async with Kit(app) as kit:
        ann = await kit.connect(query={"name": "ann"})
        await ann.subscribe("chat:lobby")
        await ann.close()
        assert not ann.connected
        await kit.wait_idle()
        assert app.state.gone == ["ann"]
        with pytest.raises(Disconnected, match="1000"):
            await ann.publish("chat:lobby", {"text": "too late"})
        await ann.reconnect()
        assert ann.connected


# — slow —


async def test_a_slow_client_for_whom_too_much_waits() -> None:
    async with Kit(create_app()) as kit:
        ann, bob = await kit.connect(), await kit.connect()
        await ann.subscribe("plain:x")
        room = await bob.subscribe("plain:x")
        ann.slow()
        for number in range(10):
            await kit.gateway.publish("plain:x", "x" * 1000)
            assert (await room.next()).data, number
        ended = await ann.ended()
        assert (ended.code, ended.reconnect) == (3008, True)
        assert bob.connected


async def test_a_slow_client_that_takes_too_long() -> None:
    async with Kit(create_app()) as kit:
        ann = await kit.connect()
        room = await ann.subscribe("plain:x")
        ann.slow()
        await kit.gateway.publish("plain:x", 1)
        with pytest.raises(Late):
            await room.next(within=0.01)
        await kit.clock.advance(9)
        ann.read()
        assert (await room.next()).data == 1
        ann.slow()
        await kit.gateway.publish("plain:x", 2)
        await kit.clock.advance(10.2)
        assert (await ann.ended()).code == 3008


async def test_a_slow_client_that_never_reads_again() -> None:
    async with Kit(create_app()) as kit:
        ann = await kit.connect()
        await ann.subscribe("plain:x")
        ann.slow()
        await kit.gateway.publish("plain:x", 1)
        await kit.clock.advance(60)
        assert (await ann.ended()).code == 1006
        assert len(kit.gateway.node.hub.connections) == 0


# — what is wrong by the kit's own eyes —


class Received:
    """A client that is told what to have received."""

    def __init__(self, kit: Kit) -> None:
        self.client = Client("ann", kit._cluster, 0, 1.0, UpgradeRequest("/connection/websocket"), {})

    async def after(self, *frames: str) -> AssertionError:
        await self.client.connect()
        await self.client.subscribe("chat:lobby")
        for frame in frames:
            self.client.hear(frame)
        with pytest.raises(AssertionError) as caught:
            await self.client.rpc("rooms")
        return caught.value


@pytest.mark.parametrize(
    ("frames", "problem"),
    [
        (['{"push":{"channel":"chat:lobby","pub":{"data":1,"offset":2}}}'], "after offset 0 came"),
        (['{"push":{"channel":"chat:lobby","pub":{"data":1,"offset":0}}}'] * 2 + ["[]]"], ""),
        (['{"push":{"channel":"chat:other","pub":{"data":1}}}'], "is not subscribed to 'chat:other'"),
    ],
)
async def test_frames_that_must_not_come(frames: list[str], problem: str) -> None:
    async with Kit(create_app()) as kit:
        received = Received(kit)
        if problem:
            assert problem in str(await received.after(*frames))
        else:
            with pytest.raises(ValueError, match="Extra data"):
                await received.after(*frames)


async def test_a_failure_that_nobody_waits_for_fails_the_test() -> None:
    async def test() -> None:
        async with Kit(create_app()) as kit:
            ann = await kit.connect()
            await ann.subscribe("chat:lobby")
            ann.hear('{"push":{"channel":"chat:lobby","pub":{"data":1,"offset":7}}}')

    with pytest.raises(AssertionError, match="after offset 0 came"):
        await test()


async def test_waiting_side_by_side() -> None:
    async with Kit(create_app()) as kit:
        ann = await kit.connect()
        first, second = await ann.subscribe("plain:1"), await ann.subscribe("plain:2")
        both = asyncio.gather(first.next(), second.next())
        await kit.gateway.broadcast(["plain:2", "plain:1"], "both")
        assert [each.data for each in await both] == ["both", "both"]


async def test_the_program_may_sleep_by_the_clock() -> None:
    async with Kit(create_app()) as kit:
        before = kit.clock()
        sleeping = asyncio.ensure_future(kit.clock.sleep(3600))
        await kit.clock.advance(3599)
        assert not sleeping.done()
        await kit.clock.advance(1)
        assert sleeping.done()
        assert kit.clock() == before + 3600


async def test_a_kick_while_the_program_still_decides() -> None:
    gateway, asked, go_on = Gateway(), asyncio.Event(), asyncio.Event()
    app = FastAPI(lifespan=gateway.lifespan)
    app.include_router(gateway.router)

    @gateway.on_connect
    async def connect() -> str:
        return "ann"

    @gateway.channel("room").on_subscribe
    async def join() -> None:
        asked.set()
        await go_on.wait()

    async with Kit(app) as kit:
        ann = await kit.connect()
        subscribing = asyncio.create_task(ann.subscribe("room"))
        await asked.wait()
        await kit.gateway.unsubscribe("ann", "room")
        go_on.set()
        with pytest.raises(Refused, match="permission denied"):
            await subscribing
