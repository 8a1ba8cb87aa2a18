"""Channels by number: for clients that ask, where it is allowed, and where the protocol has it."""

import json
from typing import Any

import pytest

from gateway.messages import Payload, Publication
from gateway.protocols.base import Wire
from gateway.protocols.centrifuge_protobuf import CentrifugeProtobuf
from tests.session.rig import HISTORY, OPEN, Client, Rig

JOINS: dict[str, Any] = {**OPEN, "join_leave": True, "force_push_join_leave": True}
NAMESPACES: list[dict[str, Any]] = [
    {"name": "room", **JOINS},
    {"name": "named", **OPEN, "allow_channel_compaction": False},
    {"name": "flow", **OPEN, **HISTORY, "force_recovery": True, "allowed_delta_types": ["fossil"]}
    | {"delta_publish": True},
]


async def opened() -> Rig:
    return await Rig.open(channel={"namespaces": NAMESPACES})


async def publish(rig: Rig, channel: str, data: str = "1") -> None:
    await rig.node.publish(rig.node.channels.resolve(channel), Publication(Payload(data.encode())))


async def test_publications_joins_and_leaves_have_the_number() -> None:
    rig = await opened()
    client, other = await rig.connected(), await rig.connected()
    number = (await client.subscribe("room:1", flag=1))["id"]
    assert number > 0
    await other.subscribe("room:1")
    await publish(rig, "room:1")
    await other.ask("unsubscribe", channel="room:1")
    await rig.settle()
    pushes = client.take()
    assert {push.pop("id") for push in pushes} == {number}
    assert {kind for push in pushes for kind in push} == {"join", "pub", "leave"}
    assert {push["channel"] for push in other.take()} == {"room:1"}


async def test_an_unsubscribe_has_the_name() -> None:
    rig = await opened()
    client = await rig.connected()
    await client.subscribe("room:1", flag=1)
    client.take()
    [connection] = rig.node.hub.connections.values()
    [subscription] = connection.subscriptions.values()
    subscription.lose_position(None)
    assert [push["channel"] for push in client.take() if "unsubscribe" in push] == ["room:1"]


@pytest.mark.parametrize(("channel", "more"), [("room:1", {}), ("room:1", {"flag": 2}), ("named:1", {"flag": 1})])
async def test_nobody_else_has_numbers(channel: str, more: dict[str, Any]) -> None:
    rig = await opened()
    client = await rig.connected()
    assert "id" not in await client.subscribe(channel, **more)
    client.take()
    await publish(rig, channel)
    assert client.take() == [{"channel": channel, "pub": {"data": 1}}]


async def test_a_protocol_without_numbers_has_names() -> None:
    assert Wire(CentrifugeProtobuf(), bytes).compact is None


async def test_all_who_have_asked_get_the_same_bytes() -> None:
    rig = await opened()
    clients = [await rig.connected() for _ in range(3)]
    numbers = {(await each.subscribe("flow:1", flag=1))["id"] for each in clients}
    assert len(numbers) == 1
    await publish(rig, "flow:1")
    rig.node.hub.flush()
    assert len({each.transport.frames[-1] for each in clients}) == 1
    assert len(rig.node.hub.channels["flow:1"].audiences) == 1


async def test_no_number_is_used_for_two_channels() -> None:
    rig = await opened()
    client = await rig.connected()
    numbers = []
    for channel in ("flow:1", "flow:2", "flow:1"):
        numbers.append((await client.subscribe(channel, flag=1))["id"])
        await client.ask("unsubscribe", channel=channel)
    assert len(set(numbers)) == 3


async def test_patches_have_the_number() -> None:
    rig = await opened()
    client = await rig.connected()
    number = (await client.subscribe("flow:1", flag=1, delta="fossil"))["id"]
    text = json.dumps("the same each time " * 9)
    for _ in range(2):
        await publish(rig, "flow:1", text)
    assert [(push["id"], push["pub"].get("delta", False)) for push in client.take()] == [
        (number, False),
        (number, True),
    ]


async def recovering(client: Client, **more: Any) -> dict[str, Any]:
    return await client.subscribe("flow:1", flag=1, recover=True, **more)


async def test_what_is_recovered_goes_on_by_number() -> None:
    rig = await opened()
    first, client = await rig.connected(), await rig.connected()
    epoch = (await first.subscribe("flow:1"))["epoch"]
    await publish(rig, "flow:1")
    result = await recovering(client, epoch=epoch, offset=0)
    assert [each["offset"] for each in result["publications"]] == [1]
    await publish(rig, "flow:1")
    assert [(push["id"], push["pub"]["offset"]) for push in client.take()] == [(result["id"], 2)]
