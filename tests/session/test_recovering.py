"""Recovery, positions, and publications that arrive while a subscription is being made."""

from typing import Any

import pytest

from gateway.core.cluster import DisconnectUser, UnsubscribeUser
from gateway.errors import Disconnect, DisconnectCode
from gateway.messages import Position
from tests.session.rig import Client, Gate, Rig


async def returning(channel: str, since: int, *, epoch: str = "", published: int = 5, **more: Any) -> dict[str, Any]:
    """The result for a client that was there before; ``epoch`` empty is the right one."""
    rig = await Rig.open(recovery_max_publication_limit=3)
    rig.broker.former = (Position(2, "first"), Position(4, "second"))
    top = await rig.publish(channel, *range(1, published + 1)) if published else await rig.position(channel)
    client = await rig.connected("alice")
    request = {"recover": True, "offset": since, "epoch": epoch or top.epoch} | more
    reply = await client.ask("subscribe", channel=channel, **request)
    assert client.take() == []
    result: dict[str, Any] = reply.get("subscribe", reply)
    assert result.pop("epoch", top.epoch) == top.epoch
    return result


def recovered(since: int, *offsets: int) -> dict[str, Any]:
    result: dict[str, Any] = {"recoverable": True, "positioned": True, "was_recovering": True, "recovered": True}
    if offsets:
        result["publications"] = [{"data": offset, "offset": offset} for offset in offsets]
    return result | ({"offset": since} if since else {})


def lost(top: int) -> dict[str, Any]:
    return {"recoverable": True, "positioned": True, "was_recovering": True} | ({"offset": top} if top else {})


STREAM: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "some missed": ({"since": 3}, recovered(3, 4, 5)),
    "as many as the limit": ({"since": 2}, recovered(2, 3, 4, 5)),
    "more than the limit": ({"since": 1}, lost(5)),
    "nothing missed": ({"since": 5}, recovered(5)),
    "ahead": ({"since": 6}, lost(5)),
    "another epoch": ({"since": 4, "epoch": "other"}, lost(5)),
    "a former epoch": ({"since": 2, "epoch": "first"}, recovered(2, 3, 4, 5)),
    "after a former epoch": ({"since": 3, "epoch": "first"}, lost(5)),
    "the last epoch": ({"since": 4, "epoch": "second"}, recovered(4, 5)),
    "after the last epoch": ({"since": 5, "epoch": "second"}, lost(5)),
    "a former epoch, evicted": ({"since": 1, "epoch": "first", "published": 13}, lost(13)),
    "a former epoch, nothing since": ({"since": 4, "epoch": "second", "published": 4}, recovered(4)),
    "state invalidated": ({"since": 0, "epoch": "_"}, lost(5)),
    "evicted": ({"since": 1, "published": 13}, lost(13)),
    "from the beginning": ({"since": 0, "published": 2}, recovered(0, 1, 2)),
    "an empty stream": ({"since": 0, "published": 0}, recovered(0)),
}


@pytest.mark.parametrize(("request_", "expected"), STREAM.values(), ids=STREAM)
async def test_streams(request_: dict[str, Any], expected: dict[str, Any]) -> None:
    assert await returning("room:1", **request_) == expected


async def test_an_empty_epoch_fits_any() -> None:
    rig = await Rig.open()
    await rig.publish("room:1", 1, 2)
    result = await (await rig.connected()).subscribe("room:1", recover=True)
    assert (result["recovered"], [each["offset"] for each in result["publications"]]) == (True, [1, 2])


async def test_an_error_rather_than_a_loss() -> None:
    assert await returning("room:1", 1, flag=2) == {"error": {"code": 112, "message": "unrecoverable position"}}
    assert await returning("room:1", 1, flag=3) == {"error": {"code": 112, "message": "unrecoverable position"}}
    assert await returning("room:1", 1, flag=1) == lost(5) | {"id": 1}
    assert await returning("room:1", 4, flag=2) == recovered(4, 5)


async def test_after_an_error_the_client_may_subscribe_anew() -> None:
    rig = await Rig.open()
    client = await rig.connected("alice")
    other = await rig.connected("bob")
    lobby = {"force_push_join_leave": {"value": True}, "join_leave": {"value": True}, "presence": {"value": True}}
    for each in (other, client):
        request = {} if each is other else {"recover": True, "offset": 9, "epoch": "gone", "flag": 2}
        token = rig.channel_token("room:1", each.session.user, override=lobby)
        reply = await each.ask("subscribe", channel="room:1", token=token, **request)
    assert reply["error"]["code"] == 112
    assert len(await rig.presence.members("room:1")) == 1
    assert len(other.take()) == 1  # its own join, no more: the other one was never there
    await client.subscribe("room:1")
    await rig.publish("room:1", 1)
    assert client.data() == [1]
    for each in (client, other):
        await each.leave()
    await rig.assert_empty()


@pytest.mark.parametrize("since", [3, 5])
async def test_positioned_only(since: int) -> None:
    expected = {"positioned": True, "was_recovering": True, "offset": 5}
    assert await returning("watched:1", since) == expected


async def test_without_position_there_is_no_recovery() -> None:
    rig = await Rig.open()
    client = await rig.connected()
    for channel in ("news", "asked:1"):
        assert await client.subscribe(channel, recover=True, offset=3, epoch="x") == {"was_recovering": True}


CELL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "far behind": ({"since": 1}, recovered(1, 5)),
    "up to date": ({"since": 5}, recovered(5)),
    "another epoch": ({"since": 5, "epoch": "other"}, recovered(5, 5)),
    "a former epoch": ({"since": 4, "epoch": "second"}, recovered(4, 5)),
    "a former epoch, nothing since": ({"since": 4, "epoch": "second", "published": 4}, recovered(4)),
    "another value at the same offset": ({"since": 5, "epoch": "second"}, recovered(5, 5)),
    "never published": ({"since": 0, "published": 0}, recovered(0)),
    "never published, elsewhere it was": ({"since": 4, "published": 0}, lost(0)),
}


@pytest.mark.parametrize(("request_", "expected"), CELL.values(), ids=CELL)
async def test_cells(request_: dict[str, Any], expected: dict[str, Any]) -> None:
    assert await returning("cell:1", **request_) == expected


@pytest.mark.parametrize("offset", [2, 3])
async def test_an_expired_cell(offset: int) -> None:
    rig = await Rig.open(ping_interval=0, pong_timeout=0)
    client = await rig.connected()
    top = await rig.publish("cell:1", 1, 2, 3)
    rig.pass_time(61)
    result = await client.subscribe("cell:1", recover=True, offset=offset, epoch=top.epoch)
    assert (result.get("recovered", False), result.get("publications")) == (offset == 3, None)


# — live publications meanwhile —


async def waiting(channel: str, since: int | None = None, *, step: str = "read") -> tuple[Rig, Client, Gate]:
    """A client whose subscribe has come as far as ``step``; two publications are stored."""
    rig = await Rig.open()
    top = await rig.publish(channel, 1, 2)
    client = await rig.connected("alice")
    other = await rig.connected("bob")
    await other.subscribe(channel)  # the channel is heard already
    gate = rig.broker.gate(step, channel)
    recover = {} if since is None else {"recover": True, "offset": since, "epoch": top.epoch}
    rig.node.spawn(client.say({"id": 7, "subscribe": {"channel": channel} | recover}))
    await gate.reached()
    return rig, client, gate


async def let_through(rig: Rig, client: Client, gate: Gate) -> dict[str, Any]:
    """The result, once what waits has gone on; nothing may come before it."""
    gate.open()
    await rig.settle()
    client.look()
    assert client.inbox[0]["id"] == 7
    result: dict[str, Any] = client.reply(7)["subscribe"]
    return result


@pytest.mark.parametrize("step", ["history", "read"])
async def test_live_publications_join_the_recovered_ones(step: str) -> None:
    rig, client, gate = await waiting("room:1", 1, step=step)
    await rig.publish("room:1", 3, 4)
    result = await let_through(rig, client, gate)
    assert (result["recovered"], result["offset"]) == (True, 1)
    assert [each["offset"] for each in result["publications"]] == [2, 3, 4]
    await rig.publish("room:1", 5)
    assert client.data() == [5]


@pytest.mark.parametrize("step", ["history", "read"])
async def test_without_recovery_they_belong_to_the_past(step: str) -> None:
    rig, client, gate = await waiting("room:1", step=step)
    await rig.publish("room:1", 3, 4)
    result = await let_through(rig, client, gate)
    assert (result["offset"], "publications" in result) == (4, False)
    await rig.publish("room:1", 5)
    assert client.data() == [5]


@pytest.mark.parametrize("step", ["history", "read"])
async def test_what_could_not_be_recovered_is_not_sent_in_part(step: str) -> None:
    rig, client, gate = await waiting("room:1", 99, step=step)
    await rig.publish("room:1", 3, 4)
    result = await let_through(rig, client, gate)
    assert (result["offset"], "publications" in result, "recovered" in result) == (4, False, False)


async def test_a_live_publication_is_the_newest_of_a_cell() -> None:
    rig, client, gate = await waiting("cell:1", 1)
    await rig.publish("cell:1", 3, 4)
    result = await let_through(rig, client, gate)
    assert (result["recovered"], [each["offset"] for each in result["publications"]]) == (True, [4])


async def test_a_cell_that_is_only_watched_does_not_recover() -> None:
    rig, client, gate = await waiting("cellpos:1", 1)
    await rig.publish("cellpos:1", 3)
    result = await let_through(rig, client, gate)
    assert ("recoverable" in result, "recovered" in result, result["offset"]) == (False, False, 3)


async def test_without_positions_publications_follow_the_reply() -> None:
    rig = await Rig.open()
    client = await rig.connected("alice")
    gate = rig.broker.gate("subscribe", "news")
    rig.node.spawn(client.say({"id": 7, "subscribe": {"channel": "news"}}))
    await gate.reached()
    await rig.publish("news", "before")
    assert client.take() == []
    assert await let_through(rig, client, gate) == {}
    await rig.publish("news", "after")
    assert client.data() == ["after"]


async def test_a_gap_between_stored_and_live() -> None:
    rig, client, gate = await waiting("room:1", 1)
    rig.broker.heard.discard("room:1")
    await rig.publish("room:1", 3)
    rig.broker.heard.add("room:1")
    await rig.publish("room:1", 4)
    gate.open()
    await rig.settle()
    assert (client.closed, client.take()) == ((3010, "insufficient state"), [])
    await client.leave()
    assert "room:1" not in client.session.subscriptions


# — taken away, or gone, meanwhile —


@pytest.mark.parametrize("channel", ["room:1", "any:1", "member:1"])
@pytest.mark.parametrize("step", ["subscribe", "history", "read"])
async def test_a_connection_closed_while_it_subscribes(channel: str, step: str) -> None:
    rig = await Rig.open()
    client = await rig.connected("alice")
    gate = rig.broker.gate(step, channel)
    rig.node.spawn(client.say({"id": 7, "subscribe": {"channel": channel, "recoverable": True}}))
    await gate.reached()
    rig.control(DisconnectUser(user="alice", code=3503, reason="force disconnect"))
    await client.leave()
    gate.open()
    await rig.settle()
    assert (client.closed, client.take()) == ((3503, "force disconnect"), [])
    await rig.assert_empty()


@pytest.mark.parametrize("step", ["subscribe", "history", "read"])
async def test_a_subscription_taken_away_while_it_is_made(step: str) -> None:
    rig = await Rig.open()
    client = await rig.connected("alice")
    gate = rig.broker.gate(step, "any:1")
    rig.node.spawn(client.say({"id": 7, "subscribe": {"channel": "any:1", "recoverable": True}}))
    await gate.reached()
    rig.control(UnsubscribeUser(user="alice", channel="any:1", code=2000, reason="server unsubscribe"))
    gate.open()
    await rig.settle()
    replies = [each for each in client.take() if each.get("id") == 7]
    assert replies == [{"id": 7, "error": {"code": 103, "message": "permission denied"}}]
    assert (client.closed, client.session.subscriptions) == (None, {})
    await rig.publish("any:1", 1)
    assert client.take() == []
    rig.broker.gates.clear()
    await client.subscribe("any:1")
    await client.leave()
    await rig.assert_empty()


# — positions while subscribed —


async def behind(channel: str, **request: Any) -> tuple[Rig, Client]:
    """A client that has just missed a publication and sees the next one."""
    rig = await Rig.open()
    client = rig.client()
    await client.connect(**{"token": rig.token("alice")} | request)
    if channel not in client.session.subscriptions:
        await client.subscribe(channel)
    await rig.publish(channel, 1)
    assert client.data() == [1]
    rig.broker.heard.discard(channel)
    await rig.publish(channel, 2)
    rig.broker.heard.add(channel)
    await rig.publish(channel, 3)
    await rig.settle()
    return rig, client


@pytest.mark.parametrize("channel", ["room:1", "watched:1", "cell:1"])
async def test_a_client_that_missed_something_subscribes_again(channel: str) -> None:
    rig, client = await behind(channel)
    lost = {"code": 2500, "reason": "insufficient state"}
    assert (client.take(), client.closed) == ([{"channel": channel, "unsubscribe": lost}], None)
    assert (client.session.subscriptions, rig.node.metrics.lost_positions) == ({}, 1)
    top = await rig.position(channel)
    result = await client.subscribe(channel, recover=True, offset=1, epoch=top.epoch)
    assert result["was_recovering"] is True
    await rig.publish(channel, 4)
    assert client.data() == [4]
    await client.leave()
    await rig.assert_empty()


async def test_with_joins_and_presence_the_loss_is_a_leave() -> None:
    override = {name: {"value": True} for name in ("presence", "join_leave", "force_push_join_leave")}
    rig = await Rig.open()
    client = await rig.connected("alice")
    await client.subscribe("watched:1", token=rig.channel_token("watched:1", override=override))
    client.take()
    rig.node.hub.lose(rig.node.hub.channels["watched:1"], list(rig.node.hub.channels["watched:1"].audiences))
    await rig.settle()
    assert rig.broker.calls["leave"] == 1
    assert rig.presence.empty


@pytest.mark.parametrize("channel", ["room:1", "watched:1"])
async def test_server_side_subscriptions_need_a_new_connection(channel: str) -> None:
    rig = await Rig.open()
    token = rig.token("alice", channels=[channel])
    rig, client = await behind(channel, token=token)
    assert (client.closed, client.take()) == ((3010, "insufficient state"), [])
    await client.leave()
    await rig.assert_empty()


async def test_a_stream_that_began_anew() -> None:
    rig = await Rig.open()
    client = await rig.connected("alice")
    await rig.publish("room:1", 1)  # or there would be no stream
    await client.subscribe("room:1")
    rig.broker._streams["room:1"].reset()
    await rig.publish("room:1", 1)
    assert [each["unsubscribe"]["code"] for each in client.take()] == [2500]


async def test_a_loss_after_the_end_is_nobodys() -> None:
    rig = await Rig.open()
    client = await rig.connected("alice")
    await client.subscribe("room:1")
    client.session.disconnect(Disconnect(DisconnectCode.SHUTDOWN))
    channel = rig.node.hub.channels["room:1"]
    assert channel.positions() == {Position(0, (await rig.position("room:1")).epoch)}
    rig.node.hub.lose(channel, list(channel.audiences))
    await client.leave()
    assert (client.closed, client.take()) == ((3001, "shutdown"), [])
    await rig.assert_empty()


# — replay —


REPLAY = {
    "name": "kept",
    "history_size": 4,
    "history_ttl": "1h",
    "force_recovery": True,
    "replay": True,
    "allow_subscribe_for_client": True,
    "allow_subscribe_for_anonymous": True,
}


async def test_a_newcomer_gets_what_is_kept() -> None:
    rig = await Rig.open(channel={"namespaces": [REPLAY]})
    await rig.publish("kept:1", 1, 2, 3, 4, 5)
    client = await rig.connected()
    result = await client.subscribe("kept:1")
    assert [each["data"] for each in result["publications"]] == [2, 3, 4, 5]
    assert result["offset"] == 1
    assert "recovered" not in result
    assert "was_recovering" not in result
    await rig.publish("kept:1", 6)
    assert client.data() == [6]


async def test_who_has_missed_too_much_begins_anew() -> None:
    rig = await Rig.open(channel={"namespaces": [REPLAY]})
    top = await rig.publish("kept:1", 1, 2, 3, 4, 5, 6)
    client = await rig.connected()
    result = await client.subscribe("kept:1", recover=True, offset=1, epoch=top.epoch)
    assert result["was_recovering"]
    assert "recovered" not in result
    assert [each["data"] for each in result["publications"]] == [3, 4, 5, 6]
    other = await (await rig.connected()).subscribe("kept:1", recover=True, offset=4, epoch=top.epoch)
    assert (other["recovered"], [each["data"] for each in other["publications"]]) == (True, [5, 6])


@pytest.mark.parametrize("since", [None, 1, 3])
async def test_who_begins_anew_stands_in_the_present_epoch(since: int | None) -> None:
    rig = await Rig.open(channel={"namespaces": [REPLAY]})
    rig.broker.former = (Position(2, "first"),)
    top = await rig.publish("kept:1", 1, 2, 3)
    client = await rig.connected()
    position = {} if since is None else {"recover": True, "offset": since, "epoch": "first"}
    result = await client.subscribe("kept:1", **position)
    assert [each["data"] for each in result["publications"]] == [2, 3] if since == 1 else [1, 2, 3]
    assert rig.node.hub.channels["kept:1"].positions() == {Position(3, top.epoch)}
    await rig.publish("kept:1", 4)
    assert client.data() == [4]
    assert rig.node.hub.channels["kept:1"].positions() == {Position(4, top.epoch)}


async def test_a_cell_shows_its_value_to_newcomers() -> None:
    rig = await Rig.open(channel={"namespaces": [REPLAY | {"force_recovery_mode": "cache"}]})
    await rig.publish("kept:1", 1, 2, 3)
    result = await (await rig.connected()).subscribe("kept:1")
    assert [each["data"] for each in result["publications"]] == [3]


async def test_what_the_server_subscribes_is_replayed_too() -> None:
    rig = await Rig.open(channel={"namespaces": [REPLAY]})
    await rig.publish("kept:1", 1, 2)
    client = rig.client()
    result = (await client.connect(token=rig.token(channels=["kept:1"])))["subs"]["kept:1"]
    assert (result["recovered"], [each["data"] for each in result["publications"]]) == (True, [1, 2])
