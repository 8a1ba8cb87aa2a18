"""What the program asks of the whole cluster."""

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy import Column, Integer, MetaData, Table, create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from gateway import BrokerUnavailable, Error, Gateway
from gateway import Client as GatewayClient
from gateway.messages import Payload, Position, Publication, Receipt
from tests.program.routes.clients import Client, gateway_with, running, settled
from tests.waiting import until

OPEN: dict[str, Any] = {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}


class Line(BaseModel):
    text: str


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    gateway = gateway_with()
    gateway.channel("chat:{room}", presence=True, history_size=10, join_leave=True, **OPEN)
    gateway.channel("bare:{room}", **OPEN)
    gateway.channel("object", publication_data_format="json_object", **OPEN)

    @gateway.on_connect
    async def connect(client: GatewayClient) -> str | None:
        return client.query_params.get("user")

    async with running(gateway):
        yield gateway


async def opened(gateway: Gateway, user: str = "", *channels: str) -> Client:
    client = Client(gateway, query=f"user={user}" if user else "")
    await client.connect()
    for channel in channels:
        await client.subscribe(channel)
    return client


# — publish —


async def test_publishes_whatever_json_can_say(gateway: Gateway) -> None:
    client = await opened(gateway, "", "chat:a")
    first = await gateway.publish("chat:a", Line(text="hi"))
    second = await gateway.publish("chat:a", {"n": 1}, tags={"a": "b"})
    assert (first.offset, second.offset) == (1, 2)
    assert first.epoch == second.epoch
    await gateway.publish("chat:a", Payload(b"[3]"))
    await client.hears({"text": "hi"}, {"n": 1}, [3])
    assert client.pushes("chat:a")[1]["pub"]["tags"] == {"a": "b"}
    assert (await gateway.publish("bare:a", 1)).offset == 0
    with pytest.raises(TypeError, match="cannot be published as JSON"):
        await gateway.publish("chat:a", object())


async def test_a_key_publishes_once_and_history_may_be_skipped(gateway: Gateway) -> None:
    client = await opened(gateway, "", "chat:a")
    positions = [await gateway.publish("chat:a", "once", idempotency_key="k") for _ in range(2)]
    assert positions[0] == positions[1]
    await gateway.publish("chat:a", "fleeting", skip_history=True)
    await client.hears("once", "fleeting")
    assert [each.data for each in (await gateway.history("chat:a"))[0]] == ["once"]


async def test_versions_and_what_may_be_patched(gateway: Gateway) -> None:
    client = await opened(gateway, "", "chat:a")
    publications: list[Publication] = []
    deliver = gateway.node.deliver

    def noted(name: str, publication: Publication) -> None:
        publications.append(publication)
        deliver(name, publication)

    gateway.node.deliver = noted
    for version in (2, 1, 2, 3):
        await gateway.publish("chat:a", version, version=version, version_epoch="e", delta=version == 3)
    await client.hears(2, 3)
    assert [(each.version, each.patchable) for each in publications] == [(2, False), (3, True)]
    for wrong in (-1, 2**63):
        with pytest.raises(ValueError, match="version"):
            await gateway.publish("chat:a", 1, version=wrong)


@pytest.mark.parametrize("channel", ["nowhere:a", "", "chat:a:b", "chat:\n"])
async def test_names_that_are_no_channels(gateway: Gateway, channel: str) -> None:
    with pytest.raises(Error):
        await gateway.publish(channel, 1)
    with pytest.raises(Error):
        await gateway.broadcast(["chat:a", channel], 1)
    assert (await gateway.history("chat:a"))[0] == []


async def test_data_that_a_channel_does_not_take(gateway: Gateway) -> None:
    for data in ([1], b"\x00"):
        with pytest.raises(Error, match="bad request"):
            await gateway.publish("object", data)
        with pytest.raises(Error, match="bad request"):
            await gateway.broadcast(["chat:a", "object"], data)
    assert (await gateway.history("chat:a"))[0] == []
    await gateway.publish("object", {"a": 1})


async def test_broadcasts(gateway: Gateway) -> None:
    clients = [await opened(gateway, "", f"chat:{number}") for number in range(3)]
    await gateway.publish("chat:1", "before")
    with pytest.raises(TypeError, match=r'a list of names, for example \["chat:1"\]'):
        await gateway.broadcast("chat:1", "each of its letters?")
    positions = await gateway.broadcast([f"chat:{number}" for number in range(3)], Line(text="all"), tags={"a": "b"})
    assert [each.offset for each in positions] == [1, 2, 1]
    for number, client in enumerate(clients):
        await client.hears(*(["before"] if number == 1 else []), {"text": "all"})
        assert client.pushes(f"chat:{number}")[-1]["pub"]["tags"] == {"a": "b"}
    assert await gateway.broadcast([], 1) == []
    await gateway.broadcast(["chat:9"], 1, skip_history=True)
    assert (await gateway.history("chat:9"))[0] == []


async def test_a_broadcast_that_fails_leaves_no_work_behind(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings are errors: a coroutine that nobody awaits would show."""

    async def publish(*_: Any) -> Position:
        raise BrokerUnavailable

    monkeypatch.setattr(gateway.node.broker, "publish", publish)
    with pytest.raises(BrokerUnavailable):
        await gateway.broadcast([f"chat:{number}" for number in range(1100)], 1)


async def test_excludes_one_client(gateway: Gateway) -> None:
    alice, bob = await opened(gateway, "alice", "chat:a", "chat:b"), await opened(gateway, "bob", "chat:a", "chat:b")
    others = gateway.exclude(alice.session.client)
    await others.publish("chat:a", 1)
    await others.broadcast(["chat:a", "chat:b"], 2)
    await bob.hears(1, 2, channel="chat:a")
    assert alice.data() == []
    await gateway.publish("chat:a", 3)
    await alice.hears(3, channel="chat:a")
    assert alice.closed is None
    assert len((await gateway.history("chat:a"))[0]) == 3
    assert others.nodes() == gateway.nodes()
    assert others.loop is gateway.loop
    assert others.node is gateway.node
    await others.exclude(bob.session.client).publish("chat:a", 4)
    await gateway.publish("chat:a", 5, exclude={alice.session.client, bob.session.client})
    await gateway.broadcast(["chat:a"], 6, exclude=alice.session.client)
    await gateway.exclude(user="alice").exclude(user="bob").publish("chat:a", 7)
    await gateway.exclude(bob.session.client, user="alice").publish("chat:a", 8)
    await gateway.publish("chat:a", 9, exclude=None)
    await alice.hears(3, 9, channel="chat:a")
    await bob.hears(1, 2, 3, 6, 9, channel="chat:a")


def test_anonymous_clients_are_not_excluded_as_if_they_were_one_user(gateway: Gateway) -> None:
    with pytest.raises(ValueError, match="an empty user would mean all anonymous clients"):
        gateway.exclude(user="")


@pytest.mark.parametrize("wrong", [7, {"id": "7"}, HTTPConnection({"type": "http", "headers": []})])
async def test_who_can_be_excluded_and_sent_to(gateway: Gateway, wrong: Any) -> None:
    advice = r'gateway\.exclude\(user="7"\)'
    with pytest.raises(TypeError, match=advice):
        gateway.exclude(wrong)
    with pytest.raises(TypeError, match=advice):
        await gateway.publish("chat:a", 1, exclude=wrong)
    with pytest.raises(TypeError, match=advice):
        await gateway.send(wrong, 1)


async def test_a_receipt_says_where_and_how_many(gateway: Gateway) -> None:
    assert (await gateway.publish("chat:a", 1)).nodes == 0
    await opened(gateway, "", "chat:a", "bare:a")
    receipt = await gateway.publish("chat:a", 2)
    assert (receipt.offset, receipt.nodes) == (2, 1)
    assert [each.data for each in (await gateway.history("chat:a", since=receipt, reverse=True))[0]] == [1]
    assert await gateway.publish("bare:a", 2) == Receipt(nodes=1)
    assert [each.nodes for each in await gateway.broadcast(["chat:a", "chat:b"], 3)] == [1, 0]


# — to one connection —


async def test_sends_to_one_connection(gateway: Gateway) -> None:
    one, two = await opened(gateway, "alice", "chat:a"), await opened(gateway, "alice", "chat:a")
    await gateway.publish("chat:a", "first")
    await gateway.send(one.session.client, Line(text="for you"))
    await gateway.publish("chat:a", "last")
    await one.hears("first", "last", channel="chat:a")
    await two.hears("first", "last", channel="chat:a")
    kinds = [next(iter(each.keys() - {"channel"})) for each in one.pushes() if "join" not in each]
    assert kinds == ["pub", "message", "pub"]
    assert [each["message"] for each in one.pushes() if "message" in each] == [{"data": {"text": "for you"}}]
    assert not [each for each in two.pushes() if "message" in each]
    await gateway.send("nobody", 1)


async def test_who_is_connecting_hears_behind_the_answer() -> None:
    gateway = gateway_with()

    @gateway.on_connect
    async def connect(client: GatewayClient) -> None:
        await gateway.send(client, "welcome")

    async with running(gateway):
        client = Client(gateway)
        await client.send("connect")
        await until(lambda: client.pushes() or None)
        assert [next(iter(each.keys() - {"id"})) for each in client.inbox] == ["connect", "push"]
        assert client.pushes() == [{"message": {"data": "welcome"}}]


async def test_bytes_are_not_sent_to_who_speaks_json(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    client = await opened(gateway)
    await gateway.send(client.session.client, b"\x00")
    await gateway.send(client.session.client, "after")
    assert [each["message"] for each in client.pushes()] == [{"data": "after"}]
    assert client.closed is None
    assert "a message of bytes was not sent, it speaks JSON or text" in caplog.text


async def test_excludes_the_client_of_an_event() -> None:
    gateway = gateway_with()
    gateway.channel("chat", **OPEN)

    @gateway.rpc("say")
    async def say(client: GatewayClient) -> None:
        await gateway.exclude(client).publish("chat", "hello")

    async with running(gateway):
        alice, bob = await opened(gateway, "", "chat"), await opened(gateway, "", "chat")
        await alice.call("say")
        await bob.hears("hello")
        assert alice.data() == []


# — reading —


async def test_presence_and_history(gateway: Gateway) -> None:
    one, two = await opened(gateway, "alice", "chat:a"), await opened(gateway, "alice", "chat:a")
    members = await gateway.presence("chat:a")
    assert {each.user for each in members.values()} == {"alice"}
    assert set(members) == {one.session.client, two.session.client}
    assert await gateway.presence_stats("chat:a") == (2, 1)
    for number in range(1, 5):
        top = await gateway.publish("chat:a", number)
    publications, position = await gateway.history("chat:a")
    assert ([each.data for each in publications], position) == ([1, 2, 3, 4], Position(4, top.epoch))
    publications, _ = await gateway.history("chat:a", limit=2, reverse=True)
    assert [each.data for each in publications] == [4, 3]
    publications, _ = await gateway.history("chat:a", since=Position(2, top.epoch))
    assert [each.data for each in publications] == [3, 4]
    assert (await gateway.history("chat:a", limit=0))[0] == []
    await gateway.remove_history("chat:a")
    assert (await gateway.history("chat:a"))[0] == []
    assert (await gateway.publish("chat:a", 5)).offset == 5
    with pytest.raises(Error, match="unrecoverable position"):
        await gateway.history("chat:a", since=Position(1, "another"))


async def test_what_is_off_is_not_available(gateway: Gateway) -> None:
    for ask in (gateway.presence, gateway.presence_stats, gateway.history, gateway.remove_history):
        with pytest.raises(Error, match="not available"):
            await ask("bare:a")
        with pytest.raises(Error, match="unknown channel"):
            await ask("nowhere:a")


async def test_channels_and_nodes(gateway: Gateway) -> None:
    await opened(gateway, "", "chat:a", "bare:a")
    await opened(gateway, "", "chat:a")
    assert await gateway.channels() == {"chat:a": 2, "bare:a": 1}
    found = await gateway.channels("chat:*")
    assert (found, found.cursor, found.partial) == ({"chat:a": 2}, "", False)
    page = await gateway.channels(limit=1)
    assert (page, page.cursor) == ({"bare:a": 1}, "bare:a")
    page = await gateway.channels(limit=1, cursor=page.cursor)
    assert (page, page.cursor) == ({"chat:a": 2}, "")
    with pytest.raises(ValueError, match="limit = -1 must not be negative"):
        await gateway.channels(limit=-1)
    [node] = gateway.nodes()
    assert (node.uid, node.num_clients) == (gateway.node.uid, 2)


# — users —


async def test_subscribes_and_unsubscribes_users(gateway: Gateway) -> None:
    clients = [await opened(gateway, "alice") for _ in range(2)]
    bob = await opened(gateway, "bob")
    await gateway.subscribe("alice", "chat:a", info={"by": "server"}, data="welcome")
    for client in clients:
        [push] = await client.pushed("chat:a")
        assert push["subscribe"]["data"] == "welcome"
    members = await gateway.presence("chat:a")
    assert {each.raw_chan_info for each in members.values()} == {b'{"by":"server"}'}
    await gateway.unsubscribe("alice", "chat:a", client=clients[0].session.client)
    await until(lambda: gateway.node.hub.subscribers("chat:a") == 1)
    assert clients[0].pushes("chat:a")[-1]["unsubscribe"]["code"] == 2000
    await gateway.subscribe("bob", "chat:a", client="another")
    await gateway.unsubscribe("alice", "chat:a")
    await until(lambda: gateway.node.hub.subscribers("chat:a") == 0)
    assert bob.pushes() == []
    for call in (gateway.subscribe, gateway.unsubscribe):
        with pytest.raises(Error, match="unknown channel"):
            await call("alice", "nowhere:a")


async def test_disconnects_users(gateway: Gateway) -> None:
    one, two, three = [await opened(gateway, "alice") for _ in range(3)]
    await gateway.disconnect("alice", client=one.session.client, code=4000)
    assert await one.is_closed() == (4000, "disconnected")
    await gateway.disconnect("alice", keep=[two.session.client])
    assert await three.is_closed() == (3503, "force disconnect")
    await gateway.disconnect("alice", code=4321, reason="enough")
    assert await two.is_closed() == (4321, "enough")


@pytest.mark.parametrize(
    ("options", "problem"),
    [({"code": 1000}, "code = 1000"), ({"code": 5000}, "code = 5000"), ({"reason": "ü" * 62}, "longer than 123 bytes")],
)
async def test_what_no_disconnect_can_say(gateway: Gateway, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        await gateway.disconnect("alice", **options)


async def test_expires_users(gateway: Gateway) -> None:
    client, other = await opened(gateway, "alice"), await opened(gateway, "alice")
    moment = int(time.time()) + 100
    await gateway.expire("alice", at=moment, client=other.session.client)
    await until(lambda: other.session.expire_at == moment)
    assert client.session.expire_at == 0
    await gateway.expire("alice")
    assert (await client.is_closed())[0] == 3005
    assert (await other.is_closed())[0] == 3005


# — bound to a commit —

TABLE = Table("orders", MetaData(), Column("id", Integer, primary_key=True))


async def test_leaves_with_the_commit_of_a_session_in_a_thread(gateway: Gateway) -> None:
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    TABLE.create(engine)
    client = await opened(gateway, "", "chat:a")

    def route(commit: bool) -> None:
        """As FastAPI runs what is not async."""
        with Session(engine) as session:
            session.execute(TABLE.insert())
            gateway.on_commit(session).publish("chat:a", Line(text=str(commit)), tags={"a": "b"})
            gateway.exclude(client.session.client).on_commit(session).publish("chat:a", "not for all")
            assert client.data() == []
            if commit:
                session.commit()

    await run_in_threadpool(route, False)
    await run_in_threadpool(route, True)
    await client.hears({"text": "True"})
    await until(lambda: not gateway.node._work.running)
    assert len((await gateway.history("chat:a"))[0]) == 2
    assert client.data() == [{"text": "True"}]
    engine.dispose()


async def test_leaves_with_the_commit_of_an_async_session(gateway: Gateway) -> None:
    engine = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
    client = await opened(gateway, "", "chat:a")
    async with engine.begin() as connection:
        await connection.run_sync(TABLE.create)
    async with AsyncSession(engine) as session:
        await session.execute(TABLE.insert())
        gateway.on_commit(session).publish("chat:a", "dropped")
        await session.rollback()
        await session.execute(TABLE.insert())
        gateway.on_commit(session).publish("chat:a", "paid", idempotency_key="k", skip_history=True)
        await settled(gateway)
        assert client.data() == []
        await session.commit()
    await client.hears("paid")
    await engine.dispose()


async def test_what_could_never_be_published_is_refused_at_once(gateway: Gateway) -> None:
    with Session(create_engine("sqlite://")) as session:
        with pytest.raises(Error, match="unknown channel"):
            gateway.on_commit(session).publish("nowhere:a", 1)
        with pytest.raises(TypeError, match="cannot be published"):
            gateway.on_commit(session).publish("chat:a", object())
        with pytest.raises(Error, match="bad request"):
            gateway.on_commit(session).publish("chat:a", b"")
        assert not session.in_transaction()


async def test_what_the_broker_does_not_take_any_more_is_told(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def away(*_: Any) -> None:
        raise BrokerUnavailable

    monkeypatch.setattr(gateway.node.broker, "publish", away)
    with Session(create_engine("sqlite://")) as session:
        gateway.on_commit(session).publish("chat:a", "lost")
        session.commit()
    await until(lambda: "a publication to chat:a was committed and could not be published" in caplog.text)


# — without a gateway that runs —


async def test_needs_a_node() -> None:
    idle = gateway_with()
    calls: list[Any] = [idle.publish("a", 1), idle.broadcast(["a"], 1), idle.presence("a"), idle.disconnect("alice")]
    for each in calls:
        with pytest.raises(RuntimeError, match=r"the gateway does not run: write gateway.run_in\(app\)"):
            await each
