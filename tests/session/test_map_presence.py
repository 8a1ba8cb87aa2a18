"""Who is present, as entries of a map."""

from typing import Any

import pytest

from gateway.config.map_problems import TICK
from gateway.errors import BrokerUnavailable, Error, ErrorCode
from gateway.maps.base import MapReceipt
from tests.session.rig import OPEN, Client, Gate, Rig
from tests.session.test_mapping import EPHEMERAL, WRITERS, changes, keys
from tests.waiting import until

NAMESPACES: list[dict[str, Any]] = [
    {"name": "room", **OPEN, "map_clients_presence_channel_prefix": "online:"}
    | {"map_users_presence_channel_prefix": "users:"},
    {"name": "online", "subscription_type": "map_clients", **OPEN, "map": EPHEMERAL},
    {"name": "users", "subscription_type": "map_users", **OPEN, "map": EPHEMERAL},
    {"name": "clients", **OPEN, "map_clients_presence_channel_prefix": "online:"},
    {"name": "people", **OPEN, "map_users_presence_channel_prefix": "users:"},
    {"name": "closed", "map_clients_presence_channel_prefix": "online:"},
    {"name": "cursors", "subscription_type": "map", **OPEN}
    | {"map": {**EPHEMERAL, **WRITERS, "client_key": "client_id", "remove_client_on_unsubscribe": True}}
    | {"map_clients_presence_channel_prefix": "online:"},
]


async def opened() -> Rig:
    rig = await Rig.open(channel={"namespaces": NAMESPACES}, insecure=True, ping_interval=0)
    rig.node.maps.start()
    return rig


async def watch(rig: Rig, channel: str, kind: int) -> tuple[Client, list[dict[str, Any]]]:
    client = await rig.connected()
    loaded = await client.subscribe(channel, type=kind, phase=2)
    state: list[dict[str, Any]] = loaded.get("state", [])
    return client, state


def pass_time(rig: Rig, seconds: float) -> None:
    for _ in range(int(10 * seconds)):
        rig.clock.tick()
        rig.wheel.turn()


async def test_each_connection_is_an_entry_while_it_is_there() -> None:
    rig = await opened()
    watcher, state = await watch(rig, "online:room:7", 2)
    assert state == []
    eve = await rig.connected("eve")
    await eve.subscribe("room:7")
    entry = {"info": {"user": "eve", "client": eve.session.client}, "key": eve.session.client}
    assert changes(watcher) == [entry]
    assert (await watch(rig, "online:room:7", 2))[1] == [entry]
    await eve.ask("unsubscribe", channel="room:7")
    assert changes(watcher) == [{"key": eve.session.client, "removed": True}]
    await eve.subscribe("room:7")
    await eve.session.end()
    assert keys(changes(watcher)) == [eve.session.client, "-" + eve.session.client]


async def test_users_are_there_a_while_longer_than_their_connections() -> None:
    rig = await opened()
    watcher, _ = await watch(rig, "users:room:7", 3)
    one, two, nobody = await rig.connected("bob"), await rig.connected("bob"), await rig.connected()
    for client in (one, two, nobody):
        await client.subscribe("room:7")
    assert changes(watcher) == [{"key": "bob"}]
    await one.ask("unsubscribe", channel="room:7")
    assert changes(watcher) == []


async def test_who_stays_is_renewed_without_being_told_of_again() -> None:
    rig = await opened()
    watcher, _ = await watch(rig, "online:room:7", 2)
    users, _ = await watch(rig, "users:room:7", 3)
    eve, bob = await rig.connected("eve"), await rig.connected("bob")
    await eve.subscribe("room:7")
    await bob.subscribe("room:7")
    first = len(changes(watcher)) + len(changes(users))
    assert first == 4
    for _ in range(4):
        pass_time(rig, TICK)
        await rig.node._work.finish(within=5)
    await bob.session.end()
    assert keys(changes(watcher)) == ["-" + bob.session.client]
    assert changes(users) == []
    for _ in range(4):
        pass_time(rig, TICK)
        await rig.node._work.finish(within=5)
    assert keys(changes(users)) == ["-bob"]
    assert changes(watcher) == []


async def test_options_hold_for_those_with_a_token_and_in_maps_too() -> None:
    rig = await opened()
    watcher, _ = await watch(rig, "online:closed:1", 2)
    alice = await rig.connected("alice")
    await alice.subscribe("closed:1", token=rig.channel_token("closed:1"))
    assert keys(changes(watcher)) == [alice.session.client]
    board, _ = await watch(rig, "cursors:1", 1)
    online, _ = await watch(rig, "online:cursors:1", 2)
    await alice.subscribe("cursors:1", type=1, phase=2)
    await alice.ask("publish", channel="cursors:1", type=1, data=1)
    assert keys(changes(board)) == [alice.session.client]
    assert keys(changes(online)) == [alice.session.client]
    await alice.ask("unsubscribe", channel="cursors:1")
    assert keys(changes(board)) == ["-" + alice.session.client]
    assert keys(changes(online)) == ["-" + alice.session.client]


async def test_connections_and_users_are_shown_each_where_they_are_wanted() -> None:
    rig = await opened()
    online, _ = await watch(rig, "online:clients:1", 2)
    users, _ = await watch(rig, "users:people:1", 3)
    bob = await rig.connected("bob")
    await bob.subscribe("clients:1")
    await bob.subscribe("people:1")
    assert keys(changes(online)) == [bob.session.client]
    assert keys(changes(users)) == ["bob"]
    await bob.session.end()
    assert keys(changes(online)) == ["-" + bob.session.client]
    assert changes(users) == []


async def test_who_leaves_while_others_are_renewed_is_not_shown_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = await opened()
    watcher, _ = await watch(rig, "online:clients:1", 2)
    eve, bob = await rig.connected("eve"), await rig.connected("bob")
    await eve.subscribe("clients:1")
    await bob.subscribe("clients:1")
    changes(watcher)
    maps, show = rig.node.maps, rig.node.maps.show
    shown: list[str] = []

    async def show_and_leave(channel: Any, publication: Any, write: Any) -> None:
        shown.append(publication.key)
        await bob.session.end()
        await show(channel, publication, write)

    monkeypatch.setattr(maps, "show", show_and_leave)
    pass_time(rig, TICK)
    await rig.node._work.finish(within=5)
    assert shown == [eve.session.client]
    assert keys(changes(watcher)) == ["-" + bob.session.client]


@pytest.mark.parametrize("failure", [BrokerUnavailable(stored="no"), Error(ErrorCode.LIMIT_EXCEEDED)], ids=repr)
async def test_what_cannot_be_shown_disturbs_nobody_and_does_not_wait(
    monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """What is said again by itself must not fill the queue in which publications wait for the broker."""
    rig = await opened()
    watcher, _ = await watch(rig, "online:clients:1", 2)

    async def fail(*_: Any) -> None:
        raise failure

    eve = await rig.connected("eve")
    with monkeypatch.context() as patch:
        patch.setattr(rig.maps, "publish", fail)
        patch.setattr(rig.maps, "remove", fail)
        await eve.subscribe("clients:1")
        await eve.ask("unsubscribe", channel="clients:1")
        await eve.subscribe("clients:1")
        assert rig.node.publishing.waiting == (0, 0)
    assert changes(watcher) == []
    pass_time(rig, TICK)
    await rig.node._work.finish(within=5)
    assert keys(changes(watcher)) == [eve.session.client]


@pytest.mark.parametrize("leaves", ["disconnect", "unsubscribe"])
async def test_what_lands_after_its_client_has_left_goes_too(monkeypatch: pytest.MonkeyPatch, leaves: str) -> None:
    rig = await opened()
    watcher, _ = await watch(rig, "cursors:1", 1)
    eve = await rig.connected("eve")
    await eve.subscribe("cursors:1", type=1, phase=2)
    gate, publish = Gate(), rig.maps.publish

    async def slowly(*args: Any) -> MapReceipt:
        await gate.pass_through()
        return await publish(*args)

    monkeypatch.setattr(rig.maps, "publish", slowly)
    await eve.say({"id": 9, "publish": {"channel": "cursors:1", "type": 1, "data": 1}})
    await gate.reached()
    if leaves == "disconnect":
        await eve.session.end()
    else:
        await eve.say({"id": 10, "unsubscribe": {"channel": "cursors:1"}})
    assert changes(watcher) == []
    gate.open()
    await until(lambda: "-" + eve.session.client in keys(changes(watcher)))
    assert (await watch(rig, "cursors:1", 1))[1] == []


@pytest.mark.parametrize("returns", [False, True])
async def test_who_has_left_while_the_broker_was_away_goes_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch, returns: bool
) -> None:
    rig = await opened()
    watcher, _ = await watch(rig, "cursors:1", 1)
    eve = await rig.connected("eve")
    await eve.subscribe("cursors:1", type=1, phase=2)
    await eve.ask("publish", channel="cursors:1", type=1, data=1)

    async def fail(*_: Any) -> None:
        raise BrokerUnavailable(stored="no")

    with monkeypatch.context() as patch:
        patch.setattr(rig.maps, "remove", fail)
        await eve.ask("unsubscribe", channel="cursors:1")
        await eve.session.left()
    if returns:
        await eve.subscribe("cursors:1", type=1, phase=2)
    assert keys(changes(watcher)) == [eve.session.client]
    pass_time(rig, TICK)
    await rig.node._work.finish(within=5)
    assert keys(changes(watcher)) == ([] if returns else ["-" + eve.session.client])


async def test_what_is_written_without_a_subscription_stays() -> None:
    rig = await opened()
    eve = await rig.connected("eve")
    assert await eve.ask("publish", channel="cursors:1", type=1, data=1) == {"publish": {}}
    assert keys((await watch(rig, "cursors:1", 1))[1]) == [eve.session.client]
