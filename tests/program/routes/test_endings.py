"""What the program is told of the ends of subscriptions and connections: all of it, in order, as whom it concerns."""

import asyncio
from contextvars import ContextVar
from typing import Annotated, Any

import pytest
from fastapi import Body, Depends, HTTPException, Query

from gateway import Client, Credentials, Grant
from gateway.brokers.memory import MemoryBroker
from gateway.errors import BrokerUnavailable
from gateway.session import State
from tests.program.routes.clients import assert_empty, connected, gateway_with, running, settled
from tests.session.rig import nobody_kept
from tests.waiting import settle, until

tenant: ContextVar[str] = ContextVar("tenant", default="nobody's")


class Told:
    """A program that writes down what it is told, in a room whose farewells may be held up."""

    def __init__(self) -> None:
        self.gateway = gateway_with()
        self.log: list[str] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.room = self.gateway.channel("room", presence=True)
        self.room.on_subscribe(self.join)
        self.room.on_unsubscribe(self.leave)
        self.gateway.on_disconnect(self.gone)

    async def join(self) -> None:
        self.log.append("joined")

    async def leave(self) -> None:
        self.log.append("leaving")
        await self.go_on.wait()
        self.log.append("left")

    async def gone(self) -> None:
        self.log.append("gone")


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.mark.parametrize("by_server", [False, True])
async def test_the_end_of_a_subscription_comes_before_the_next_begins(told: Told, by_server: bool) -> None:
    async with connected(told.gateway) as client:
        await client.subscribe("room")
        told.go_on.clear()
        if by_server:
            await told.gateway.unsubscribe("", "room", client=client.session.client)
        else:
            await client.result("unsubscribe", channel="room")  # answered at once
        again = await client.send("subscribe", channel="room")
        await until(lambda: "leaving" in told.log)
        told.go_on.set()
        assert "subscribe" in await client.reply(again)
        assert told.log == ["joined", "leaving", "left", "joined"]


async def test_also_where_all_of_it_waits_in_line(told: Told) -> None:
    async with connected(told.gateway) as client:
        for kind in ("subscribe", "unsubscribe", "subscribe"):
            last = await client.send(kind, channel="room")
        await client.reply(last)
        assert told.log == ["joined", "leaving", "left", "joined"]


async def test_the_connection_ends_last(told: Told) -> None:
    async with connected(told.gateway) as client:
        await client.subscribe("room")
        told.go_on.clear()
        told.gateway.running.acceptor.close(client.session)
        await until(lambda: "leaving" in told.log)
        told.go_on.set()
        await assert_empty(told.gateway)
        assert told.log == ["joined", "leaving", "left", "gone"]


async def test_what_waits_behind_a_slow_handler_is_told_though_the_client_has_left(told: Told) -> None:
    busy = asyncio.Event()

    @told.room.on_publish
    async def say(text: Annotated[str, Body()]) -> None:
        busy.set()
        await told.go_on.wait()

    async with connected(told.gateway) as client:
        await client.subscribe("room")
        told.go_on.clear()
        for text in ("1", "2"):
            await client.send("publish", channel="room", data=text)
        await busy.wait()
        told.gateway.running.acceptor.close(client.session)
        told.go_on.set()
        await assert_empty(told.gateway)
        assert told.log == ["joined", "leaving", "left", "gone"]


@pytest.mark.parametrize("hears", [True, False])
async def test_what_came_just_before_the_end_is_done_whether_the_program_hears_of_ends_or_not(hears: bool) -> None:
    gateway = gateway_with()
    said: list[str] = []

    @gateway.rpc("say")
    async def say() -> None:
        said.append("bye")

    if hears:
        gateway.on_disconnect(Told().gone)
    async with connected(gateway) as client:
        await client.send("rpc", method="say")
        gateway.running.acceptor.close(client.session)
        await assert_empty(gateway)
        assert said == ["bye"]


async def test_a_kick_holds_though_the_handler_has_not_decided_yet() -> None:
    gateway = gateway_with()
    asked, go_on = asyncio.Event(), asyncio.Event()

    @gateway.channel("room").on_subscribe
    async def join() -> None:
        asked.set()
        await go_on.wait()

    async with connected(gateway) as client:
        first = await client.send("subscribe", channel="room")
        await asked.wait()
        await gateway.unsubscribe("", "room", client=client.session.client)
        go_on.set()
        assert (await client.reply(first))["error"]["code"] == 103
        assert client.session.subscriptions == {}
        await settled(gateway)
        await client.subscribe("room")  # it holds for that once
        await gateway.unsubscribe("", "other", client=client.session.client)
        await client.result("unsubscribe", channel="room")
        await client.subscribe("room")


async def test_who_is_subscribed_anew_in_the_same_breath_stays_in_presence() -> None:
    gateway = gateway_with()
    gateway.channel("room", presence=True)

    @gateway.rpc("again")
    async def again(client: Client) -> None:
        client.unsubscribe("room")
        await client.subscribe("room")

    async with connected(gateway) as client:
        await client.call("again")
        await client.call("again")
        await settled(gateway)
        assert list(await gateway.presence("room")) == [client.session.client]


async def test_a_subscription_that_credentials_give_ends_when_they_say() -> None:
    gateway = gateway_with()
    gateway.channel("news")
    now = 1_000_000_000

    @gateway.on_connect
    async def connect() -> Credentials:
        return Credentials("ann", channels={"news": Grant(expires=gateway.node.clock() + now)})

    async with connected(gateway) as client:
        [subscription] = client.session.subscriptions.values()
        assert subscription.expire_at == int(gateway.node.clock() + now)
        assert not subscription.refreshable


# — threads —


async def test_handlers_in_threads_may_send_the_client_away() -> None:
    gateway = gateway_with()
    gateway.channel("room", allow_subscribe_for_client=True, allow_subscribe_for_anonymous=True)

    @gateway.rpc("kick")
    def kick(client: Client) -> list[str]:
        client.unsubscribe("room")
        return client.channels

    @gateway.rpc("ban")
    def ban(client: Client) -> None:
        client.disconnect(4001, "banned")

    async with running(gateway) as opened:
        client, other = opened(), opened()
        for each in (client, other):
            await each.connect()
            await each.subscribe("room")
        assert await client.call("kick") == []
        assert client.pushes("room")[-1]["unsubscribe"]["code"] == 2000
        await gateway.publish("room", "others hear on")
        await other.hears("others hear on")
        await client.send("rpc", method="ban")
        assert await client.is_closed() == (4001, "banned")
        await until(lambda: client.session.state is State.ENDED)


# — context variables —


async def test_each_event_has_the_context_of_its_own_client() -> None:
    gateway = gateway_with()
    seen: list[tuple[str, str]] = []

    async def enter(client: Client) -> None:
        tenant.set(f"{client.user}'s")

    @gateway.on_connect
    async def connect(name: Annotated[str, Query()]) -> Credentials:
        seen.append(("connect", tenant.get()))
        return Credentials(name)

    @gateway.on_disconnect
    async def gone() -> None:
        seen.append(("disconnect", tenant.get()))

    room = gateway.channel("room", allow_subscribe_for_client=True)

    @room.on_unsubscribe
    async def leave() -> None:
        seen.append(("unsubscribe", tenant.get()))

    @room.on_occupied
    async def occupied() -> None:
        seen.append(("occupied", tenant.get()))

    @gateway.rpc("ban")
    async def ban(_: Annotated[None, Depends(enter)]) -> None:
        seen.append(("rpc", tenant.get()))
        await gateway.disconnect("bob")

    async with running(gateway) as opened:
        clients = {}
        for name in ("ann", "bob"):
            token = tenant.set(f"{name}'s request")  # as a middleware would
            clients[name] = opened(f"name={name}")
            tenant.reset(token)
            await clients[name].connect()
        tenant.set("whoever reads the socket")
        await clients["bob"].subscribe("room")
        await clients["ann"].call("ban")
        await clients["bob"].is_closed()
        await settled(gateway)
    assert sorted(seen[:6]) == sorted(
        [
            ("connect", "ann's request"),
            ("connect", "bob's request"),
            ("occupied", "nobody's"),
            ("rpc", "ann's"),
            ("unsubscribe", "bob's request"),
            ("disconnect", "bob's request"),
        ]
    )


async def test_a_failure_to_hear_of_an_end_is_not_what_the_client_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one that has been revoked would be told to try again."""
    gateway = gateway_with()
    news = gateway.channel("news")
    go_on, asked, subscribe = asyncio.Event(), asyncio.Event(), MemoryBroker.subscribe

    @gateway.on_connect
    async def connect() -> str:
        return "alice"

    @news.on_subscribe
    async def enter() -> None: ...

    @news.on_unsubscribe
    async def leave() -> None:
        raise ValueError("a defect")

    async def slow(broker: MemoryBroker, channel: str) -> None:
        asked.set()
        await go_on.wait()
        await subscribe(broker, channel)

    async with connected(gateway) as client:
        monkeypatch.setattr(MemoryBroker, "subscribe", slow)
        subscribing = await client.send("subscribe", channel="news")
        await asked.wait()
        await gateway.unsubscribe("alice", "news")
        go_on.set()
        assert (await client.reply(subscribing))["error"]["code"] == 103


# — a broker that is away —


async def test_a_program_learns_that_its_client_could_not_be_subscribed(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = gateway_with()
    gateway.channel("room")

    async def away(*_: Any) -> None:
        raise BrokerUnavailable

    @gateway.rpc("enter")
    async def enter(client: Client) -> None:
        await client.subscribe("room")

    async with connected(gateway) as client:
        monkeypatch.setattr(MemoryBroker, "subscribe", away)
        assert (await client.error("rpc", method="enter"))[0] == 100
        assert client.session.subscriptions == {}


# — freed when they close —


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("rpc", {"method": "refused"}),
        ("subscribe", {"channel": "refused"}),
        ("subscribe", {"channel": "away"}),
        ("connect", {"subs": {"away": {}}}),
    ],
)
async def test_a_failure_does_not_keep_a_client(
    kind: str, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = gateway_with()
    anybody: dict[str, Any] = {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}
    gateway.channel("away", **anybody)

    async def refuse() -> None:
        raise HTTPException(403)

    async def away(*_: Any) -> None:
        raise BrokerUnavailable

    gateway.rpc("refused")(refuse)
    gateway.channel("refused").on_subscribe(refuse)
    monkeypatch.setattr(MemoryBroker, "subscribe", away)
    async with running(gateway) as opened:
        with nobody_kept():
            client = opened()
            if kind != "connect":
                await client.connect()
            assert "error" in await client.ask(kind, **body)
            await client.leave()
            del client
            await settle()
            caplog.clear()
