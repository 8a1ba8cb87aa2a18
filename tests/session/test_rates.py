"""What a client is told that asks for too much."""

import asyncio
from typing import Any

import pytest

from gateway.limits.base import Budget, Outcome
from gateway.limits.memory import MemoryLimits
from tests.session.rig import Gate, Rig


async def limited(**layers: Any) -> Rig:
    """By these rates, and without pings, so that time may pass."""
    rates = {name: {"enabled": True, **rates} for name, rates in layers.items()}
    return await Rig.open(ping_interval=0, pong_timeout=0, rate_limit=rates)


async def test_a_command_over_a_rate_is_refused_and_the_next_kind_goes_on() -> None:
    rig = await limited(client_command={"publish": "2/minute"})
    client = await rig.connected()
    await client.subscribe("room:1")
    for number in range(2):
        assert await client.ask("publish", channel="room:1", data=number) == {"publish": {}}
    assert await client.refused("publish", channel="room:1", data=2) == 111
    assert client.data() == [0, 1]
    assert await client.ask("unsubscribe", channel="room:1") == {"unsubscribe": {}}
    assert rig.node.metrics.errors == {111: 1}
    assert rig.node.metrics.commands["PublishRequest"] == 2
    rig.pass_time(30.1)
    assert await client.ask("publish", channel="room:1", data=3) == {"publish": {}}


async def test_that_it_may_be_tried_again_is_said() -> None:
    rig = await limited(client_command={"subscribe": "1/minute"})
    client = await rig.connected()
    await client.subscribe("room:1")
    reply = await client.ask("subscribe", channel="room:2")
    assert reply == {"error": {"code": 111, "message": "too many requests", "temporary": True}}


async def test_what_comes_in_one_frame_is_counted_one_by_one() -> None:
    rig = await limited(client_command={"total": "3/minute"})
    client = await rig.connected()
    await client.say(*({"id": number, "subscribe": {"channel": f"room:{number}"}} for number in range(2, 8)))
    assert [("error" in client.reply(number)) for number in range(2, 8)] == [False] * 3 + [True] * 3
    await rig.settle()
    assert client.closed is None


async def test_connect_is_not_one_of_a_connections_commands() -> None:
    rig = await limited(client_command={"total": "1/day", "default": "1/day"})
    client = await rig.connected()
    await client.subscribe("room:1")


async def test_a_frame_of_too_many_bytes_is_not_carried_out() -> None:
    rig = await limited(client_command={"bytes": "100000/minute"})
    client = await rig.connected()
    await client.subscribe("room:1")
    assert await client.ask("publish", channel="room:1", data="x" * 60_000) == {"publish": {}}
    assert await client.refused("publish", channel="room:1", data="x" * 60_000) == 111
    assert await client.ask("publish", channel="room:1", data="y") == {"publish": {}}
    await client.say(
        {"id": 50, "publish": {"channel": "room:1", "data": "x" * 60_000}},
        {"id": 51, "unsubscribe": {"channel": "room:1"}},
    )
    assert [client.reply(50)["error"]["code"], client.reply(51)] == [111, {"unsubscribe": {}}]


async def test_users_share_what_they_have() -> None:
    rig = await limited(user_command={"publish": "3/minute"})
    one, two, other = [await rig.connected(user) for user in ("alice", "alice", "bob")]
    for client in (one, two, one):
        assert await client.ask("publish", channel="room:1", data=1) == {"publish": {}}
    assert await two.refused("publish", channel="room:1", data=1) == 111
    assert await other.ask("publish", channel="room:1", data=1) == {"publish": {}}


async def test_a_user_that_connects_too_often_is_to_come_again() -> None:
    rig = await limited(user_command={"connect": "2/minute"})
    for _ in range(2):
        await rig.connected("alice")
    client = rig.client()
    reply = await client.ask("connect", token=rig.token("alice"))
    assert reply == {"error": {"code": 111, "message": "too many requests", "temporary": True}}
    assert len(rig.node.hub.of_user("alice")) == 2
    assert client.session not in rig.node.hub.connections.values()
    await rig.connected("bob")
    rig.pass_time(30.1)
    await rig.connected("alice")


async def test_who_goes_on_asking_for_too_much_is_closed() -> None:
    rig = await limited(client_command={"publish": "1/day"}, client_error={"total": "3/10s"})
    client = await rig.connected()
    await client.ask("publish", channel="room:1", data=1)
    for _ in range(3):
        assert await client.refused("publish", channel="room:1", data=1) == 111
    await client.say(*({"id": number, "publish": {"channel": "room:1", "data": 1}} for number in range(90, 99)))
    assert client.closed == (3508, "too many errors")
    assert client.reply(90)["error"]["code"] == 111
    assert client.inbox == []  # the rest is not even looked at
    await client.leave()
    assert rig.node.metrics.disconnects == {3508: 1}


async def test_other_errors_count_too_but_for_those_of_ours() -> None:
    rig = await limited(client_error={"total": "2/10s"})
    client = await rig.connected()
    rig.broker.down()
    for _ in range(5):
        assert await client.refused("publish", channel="room:1", data=1) == 100
    for _ in range(2):
        assert await client.refused("subscribe", channel="closed:1") == 103
    await client.ask("subscribe", channel="closed:1")
    assert client.closed == (3508, "too many errors")


# — on all nodes —


async def test_users_are_limited_on_all_nodes() -> None:
    store = MemoryLimits()
    rigs = [await limited(redis_user_command={"publish": "3/hour", "connect": "2/hour"}) for _ in range(2)]
    for rig in rigs:
        rig.node.limiter.store = store
    one, two = [await rig.connected("alice") for rig in rigs]
    for client in (one, two, one):
        assert await client.ask("publish", channel="room:1", data=1) == {"publish": {}}
    assert await two.refused("publish", channel="room:1", data=1) == 111
    reply = await rigs[0].client().ask("connect", token=rigs[0].token("alice"))
    assert reply["error"]["code"] == 111
    assert len(rigs[0].node.hub.of_user("alice")) == 1
    await rigs[0].connected("bob")


class Slow(MemoryLimits):
    """Answers when the test lets it."""

    def __init__(self, allows: bool = True) -> None:
        super().__init__()
        self.gate = Gate()
        self._outcome = Outcome(allows, 0.0, 0, 0.0)

    async def take(self, name: str, key: str, budget: Budget, cost: int) -> Outcome:
        await self.gate.pass_through()
        return self._outcome


@pytest.mark.parametrize("allows", [True, False])
async def test_a_client_may_go_while_others_are_asked(allows: bool) -> None:
    rig = await limited(redis_user_command={"publish": "1/hour"})
    client = await rig.connected("alice")
    rig.node.limiter.store = store = Slow(allows)
    commands = ({"id": number, "publish": {"channel": "room:1", "data": 1}} for number in (7, 8, 9))
    saying = asyncio.create_task(client.say(*commands))
    await store.gate.reached()
    await client.leave()
    store.gate.open()
    await saying
    assert client.take() == []
    assert rig.broker.calls["publish"] == 0
    assert rig.node.metrics.errors == {}
    await rig.assert_empty()


async def test_a_client_may_go_while_it_is_asked_whether_its_user_may_connect() -> None:
    rig = await limited(redis_user_command={"connect": "1/hour"})
    rig.node.limiter.store = store = Slow()
    client = rig.client()
    saying = asyncio.create_task(client.say({"id": 1, "connect": {"token": rig.token("alice")}}))
    await store.gate.reached()
    await client.leave()
    store.gate.open()
    await saying
    await rig.assert_empty()
