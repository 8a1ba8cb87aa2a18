"""Lives of sessions and subscriptions: their tables, and what breaks when somebody goes amid them."""

import asyncio
from typing import Any

import pytest

from gateway.core.cluster import DisconnectUser, SubscribeUser, UnsubscribeUser
from gateway.errors import BrokerUnavailable, Disconnect
from gateway.session import State, life
from gateway.session.life import SubscriptionEnded, SubscriptionState
from gateway.session.subscription import Subscription
from tests.program.routes.clients import assert_empty, gateway_with, running
from tests.session.rig import Rig, nobody_kept
from tests.waiting import until

UNSUBSCRIBE: dict[str, Any] = {"code": 2000, "reason": "server unsubscribe"}

# — the tables —


def reached(life: Any, first: Any) -> set[Any]:
    found, new = {first}, [first]
    for each in new:
        new += [after for after in life[each] if after not in found]
        found |= life[each]
    return found


def test_every_state_is_reached_and_comes_to_an_end() -> None:
    assert reached(life.LIFE, State.NEW) == set(State)
    assert reached(life.SUBSCRIPTION_LIFE, SubscriptionState.DECIDING) == set(SubscriptionState)
    for state in State:
        assert State.ENDED in reached(life.LIFE, state)
    for stage in SubscriptionState:
        assert SubscriptionState.ENDED in reached(life.SUBSCRIPTION_LIFE, stage)


def test_what_is_over_is_over() -> None:
    assert life.LIFE[State.CLOSED] == {State.ENDED}
    assert life.SUBSCRIPTION_LIFE[SubscriptionState.ENDING] == {SubscriptionState.ENDED}
    assert not life.LIFE[State.ENDED] | life.SUBSCRIPTION_LIFE[SubscriptionState.ENDED]


async def test_nothing_begins_in_a_closed_session() -> None:
    rig = await Rig.open()
    client = await rig.connected("alice")
    client.session.disconnect(Disconnect(3503))
    with pytest.raises(SubscriptionEnded):
        Subscription(client.session, rig.node.channels.resolve("lobby:1"))
    assert not client.session.to(State.CONNECTED)
    await rig.assert_empty()


async def test_the_hub_takes_in_nobody_who_is_not_joining() -> None:
    rig = await Rig.open()
    client = await rig.connected("alice")
    await client.subscribe("news")
    stranger = Subscription(client.session, rig.node.channels.resolve("lobby:1"))
    with pytest.raises(LookupError):
        rig.node.hub.enter(stranger, None)
    member = client.session.subscriptions["news"]
    with pytest.raises(LookupError):  # not twice either
        rig.node.hub.enter(member, None)


# — the order of the cluster's commands —


@pytest.mark.parametrize("rounds", [1, 2])
async def test_a_revocation_given_after_a_subscription_holds(rounds: int) -> None:
    rig = await Rig.open()
    client = await rig.connected("alice")
    for _ in range(rounds):
        rig.control(SubscribeUser(user="alice", channel="lobby:1"))
        rig.control(UnsubscribeUser(user="alice", channel="lobby:1", **UNSUBSCRIBE))
    await rig.settle()
    assert client.session.subscriptions == {}
    taken = client.take()
    assert taken[-1] == {"channel": "lobby:1", "unsubscribe": UNSUBSCRIBE}
    assert sum("unsubscribe" in each for each in taken) == rounds
    rig.control(UnsubscribeUser(user="alice", channel="lobby:1", **UNSUBSCRIBE))
    rig.control(SubscribeUser(user="alice", channel="lobby:1"))
    await rig.settle()
    assert list(client.session.subscriptions) == ["lobby:1"]
    await client.leave()
    await rig.assert_empty()


async def test_also_those_that_wait_for_connect() -> None:
    rig = await Rig.open()
    gate = rig.broker.gate("read", "room:1")
    client = rig.client()
    rig.node.spawn(client.say({"id": 1, "connect": {"token": rig.token("alice", channels=["room:1"])}}))
    await gate.reached()
    rig.control(SubscribeUser(user="alice", channel="lobby:1"))
    rig.control(UnsubscribeUser(user="alice", channel="lobby:1", **UNSUBSCRIBE))
    gate.open()
    await rig.settle()
    assert list(client.session.subscriptions) == ["room:1"]


# — joins and leaves —


async def test_joins_leave_when_the_subscriptions_start_and_nobody_waits_for_them() -> None:
    rig = await Rig.open()
    gate = rig.broker.gate("join", "lobby:1")
    client = await rig.connected(token=rig.token("alice", channels=["lobby:1", "lobby:2"]))
    await client.ask("presence", channel="lobby:1")
    assert (gate.waiting, rig.broker.calls["join"]) == (1, 2)
    gate.open()


async def test_no_leave_of_whom_nobody_saw_join() -> None:
    rig = await Rig.open()
    watcher = await rig.connected("bob")
    await watcher.subscribe("lobby:1")
    watcher.take()
    gate = rig.broker.gate("read", "room:1")
    client = rig.client()
    rig.node.spawn(client.say({"id": 1, "connect": {"token": rig.token("alice", channels=["lobby:1", "room:1"])}}))
    await gate.reached()
    await until(lambda: "lobby:1" in client.session.subscriptions)
    await client.leave()
    gate.open()
    await rig.settle()
    assert watcher.take() == []


async def test_a_leave_is_told_once_when_presence_cannot_be_written() -> None:
    """As when Redis refuses writes and takes PUBLISH: the store tells it when the member is gone."""
    rig = await Rig.open()
    watcher, client = await rig.connected("bob"), await rig.connected("alice")
    await watcher.subscribe("lobby:1")
    await client.subscribe("lobby:1")
    info = client.session.subscriptions["lobby:1"].info
    rig.presence.remove_faults = [BrokerUnavailable()]
    await client.leave()
    await rig.settle()
    watcher.take()
    assert rig.broker.calls["leave"] == 0
    rig.node._swept("lobby:1", info)
    await rig.settle()
    assert [list(push) for push in watcher.take()] == [["channel", "leave"]]


async def test_a_leave_that_the_store_would_not_tell_is_told_at_once() -> None:
    """In a namespace without, join and leave are a token's doing, of which the store knows nothing."""
    rig = await Rig.open()
    override = {"join_leave": {"value": True}}
    client = await rig.connected("alice")
    await client.subscribe("member:1", token=rig.channel_token("member:1", override=override))
    rig.presence.remove_faults = [BrokerUnavailable()]
    await client.leave()
    await rig.settle()
    assert rig.broker.calls["leave"] == 1


# — single connections —

SINGLE: dict[str, Any] = {
    "subscribe_to_user_personal_channel": {
        "enabled": True,
        "personal_channel_namespace": "lobby",
        "single_connection": True,
    }
}


async def test_of_connections_of_one_moment_one_is_left() -> None:
    rig = await Rig.open(**SINGLE)
    clients = [rig.client() for _ in range(5)]
    for client in clients:
        rig.node.spawn(client.say({"id": 1, "connect": {"token": rig.token("alice")}}))
    await rig.settle()
    assert sorted(str(client.closed) for client in clients) == ["(3504, 'connection limit')"] * 4 + ["None"]


async def test_an_older_connection_does_not_end_a_newer_one_but_the_other_way_round() -> None:
    """As when the clocks of two nodes differ: who comes later may have come before."""
    rig = await Rig.open(**SINGLE)
    client = await rig.connected("alice")
    told: list[Any] = []

    async def tell(command: Any) -> None:
        told.append(command)

    rig.node.tell_all = tell  # type: ignore[method-assign]
    before = DisconnectUser(user="alice", code=3504, reason="connection limit", before=(client.session.since - 5, "z"))
    rig.control(before)
    assert client.closed is None
    assert [each.before for each in told] == [(client.session.since, client.session.client)]


# — who decides, and for how long —


async def test_so_many_connects_are_decided_at_a_time_and_the_others_wait() -> None:
    gateway = gateway_with({"connecting_limit": 2, "connect_timeout": 20.0, "stale_close_delay": 0.5})
    go_on, deciding = asyncio.Semaphore(0), []

    @gateway.on_connect
    async def connect() -> str:
        deciding.append("")
        await go_on.acquire()
        return "alice"

    async with running(gateway) as opened:
        clients = [opened() for _ in range(5)]
        connecting = [client.begin("connect") for client in clients]
        await until(lambda: len(deciding) == 2)
        gateway.running.acceptor.close(clients[4].session)
        gateway.node.wheel.turn()
        for decided in range(3, 6):
            go_on.release()
            await until(lambda: len(deciding) == min(decided, 4))  # noqa: B023  it is waited for here
        go_on.release()
        await asyncio.gather(*connecting)
        assert [client.closed for client in clients[:4]] == [None] * 4
        assert len(deciding) == 4  # not for whom has left
        for client in clients:
            gateway.running.acceptor.close(client.session)
        await assert_empty(gateway)


async def test_a_handler_that_hangs_keeps_its_turn_no_longer_than_the_deadline_though_its_client_has_left() -> None:
    gateway = gateway_with({"connecting_limit": 1, "connect_timeout": 0.1})
    go_on, deciding = asyncio.Event(), []

    @gateway.on_connect
    async def connect() -> str:
        deciding.append("")
        if len(deciding) == 1:
            await go_on.wait()
        return "alice"

    async with running(gateway) as opened:
        impatient, patient = opened(), opened()
        connecting = [client.begin("connect") for client in (impatient, patient)]
        await until(lambda: deciding)
        gateway.running.acceptor.close(impatient.session)
        await patient.reply(1)
        go_on.set()
        await asyncio.gather(*connecting)
        assert gateway.node.connecting._value == 1
        gateway.running.acceptor.close(patient.session)
        await assert_empty(gateway)


async def test_who_is_let_in_too_late_is_told_to_try_again_and_the_program_hears_of_the_end() -> None:
    gateway = gateway_with({"connect_timeout": 0.1, "allow_anonymous_connect_without_token": True})
    go_on, log = asyncio.Event(), []

    @gateway.on_connect
    async def connect() -> str:
        await go_on.wait()
        log.append("let in")
        return "alice"

    @gateway.on_disconnect
    async def disconnect() -> None:
        log.append("gone")

    async with running(gateway) as opened:
        client = opened()
        connecting = client.begin("connect")
        error = await client.reply(1)
        assert (error["error"]["code"], error["error"]["temporary"]) == (100, True)
        assert log == []
        go_on.set()
        await connecting
        await client.is_closed()
        gateway.running.acceptor.close(client.session)
        await assert_empty(gateway)
        assert log == ["let in", "gone"]


async def test_a_deadline_that_comes_as_the_client_is_sent_away_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    rig = await Rig.open(connect_timeout=1)
    gate = rig.broker.gate("read", "room:1")
    client = rig.client()
    rig.node.spawn(client.say({"id": 1, "connect": {"token": rig.token("alice", channels=["room:1"])}}))
    await gate.reached()
    client.session.disconnect(Disconnect(3503))
    rig.pass_time(1.1)  # before the session ends, which is a task
    gate.open()
    await rig.settle()
    assert (client.closed, caplog.records) == ((3503, "force disconnect"), [])
    await rig.assert_empty()


@pytest.mark.parametrize("frame", [b"{", b'{"id":1,"connect":{"token":"none"}}'], ids=["bad", "forged"])
async def test_who_is_closed_for_a_failure_is_freed_without_the_collector(frame: bytes) -> None:
    rig = await Rig.open()
    with nobody_kept():
        await rig.client().say(frame)
        await rig.settle()
