"""Client events."""

import json
from typing import Any

import pytest

from gateway.errors import BrokerUnavailable, Error, ErrorCode
from tests.session.pusher.rig import PusherClient, PusherRig, error, event

RATE = error(4301, "client event rate exceeded")


async def pair(channel: str, **app: Any) -> tuple[PusherRig, PusherClient, PusherClient]:
    """Two who are subscribed."""
    rig = await PusherRig.start(**app)
    clients = rig.enter(), rig.enter()
    for number, each in enumerate(clients):
        await each.subscribe(channel, f'{{"user_id":"{number}"}}' if channel.startswith("presence-") else "")
    for each in clients:
        each.take()
    return rig, *clients


@pytest.mark.parametrize("channel", ["private-x", "presence-x", "private-cache-x", "private-encrypted-x"])
@pytest.mark.parametrize("data", [{"on": True}, "text", 5, None, []])
async def test_the_others_hear_it_as_it_was_said(channel: str, data: Any) -> None:
    rig, sender, other = await pair(channel)
    text = {"user_id": "0"} if channel.startswith("presence-") else {}
    assert await sender.send_raw(_said(channel, data)) == []
    assert other.take() == [event(channel, data, "client-typing", **text)]
    assert rig.hooks.told[-1][:4] == ("client_event", "9001", channel, "client-typing")
    assert rig.hooks.told[-1][5:] == (sender.session.client, text.get("user_id", ""))


def _said(channel: str, data: Any) -> str:
    return json.dumps({"event": "client-typing", "channel": channel, "data": data, "user_id": "forged"})


async def test_they_are_not_kept() -> None:
    rig = await PusherRig.start(namespace={"history_size": 10, "history_ttl": 60})
    sender, other = rig.enter(), rig.enter(resumes=True)
    for each in (sender, other):
        await each.subscribe("private-x")
    await sender.send("client-x", 1, channel="private-x")
    assert other.take() == [event("private-x", 1, "client-x")]
    assert (await rig.position("shop:private-x")).offset == 0


@pytest.mark.parametrize("channel", ["news", "cache-x", "#server-to-user-17", "private-other", "", "a b"])
async def test_where_there_are_none(channel: str) -> None:
    rig, sender, other = await pair("news")
    await sender.sign_in("17")
    await sender.subscribe("#server-to-user-17")
    [told] = await sender.send("client-x", 1, channel=channel)
    assert (told["event"], told["data"]["code"]) == ("pusher:error", 4301)
    assert (other.take(), rig.hooks.told, sender.closed) == ([], [], None)


async def test_they_are_off_unless_the_app_has_them() -> None:
    _, sender, other = await pair("private-x", enable_client_messages=False)
    found = await sender.send("client-x", 1, channel="private-x")
    assert (found, other.take()) == ([error(4301, "client events are not enabled for the app")], [])


async def test_sizes() -> None:
    _, sender, other = await pair("private-x", max_event_size=10, max_event_name_length=10)
    assert await sender.send("client-xxx", "x" * 8, channel="private-x") == []
    assert len(other.take()) == 1
    for name, data in (("client-xxxx", 1), ("client-x", "x" * 9)):
        [told] = await sender.send(name, data, channel="private-x")
        assert told["data"]["code"] == 4301
    assert other.take() == []


async def test_so_many_in_a_second() -> None:
    rig, sender, other = await pair("private-x", max_client_events_per_second=2)
    found = [await sender.send("client-x", each, channel="private-x") for each in (1, 2, 3)]
    assert found == [[], [], [RATE]]
    rig.pass_time(0.5)
    assert await sender.send("client-x", 4, channel="private-x") == []
    assert [each["data"] for each in other.take()] == [1, 2, 4]


async def test_more_of_them_are_no_reason_to_close() -> None:
    errors = {"rate_limit": {"client_error": {"enabled": True, "total": "2/10s"}}}
    rig, sender, _ = await pair("private-x", max_client_events_per_second=1, client=errors)
    found = [await sender.send("client-x", each, channel="private-x") for each in range(10)]
    assert found == [[], *[[RATE]] * 9]
    assert sender.closed is None
    assert rig.node.metrics.errors[ErrorCode.TOO_MANY_REQUESTS] == 9


async def test_without_limit() -> None:
    _, sender, other = await pair("private-x", max_client_events_per_second=0)
    for each in range(30):
        assert await sender.send("client-x", each + 1, channel="private-x") == []
    assert [each["data"] for each in other.take()] == [*range(1, 31)]


async def test_the_broker_is_away() -> None:
    rig, sender, other = await pair("private-x")
    rig.broker.faults["publish"] = BrokerUnavailable()
    found = await sender.send("client-x", 1, channel="private-x")
    assert (found, other.take(), rig.hooks.told) == ([error(None, "broker unavailable, try again")], [], [])


async def test_what_the_namespace_does_not_take() -> None:
    rig = await PusherRig.start(namespace={"publication_data_format": "json_object"})
    sender = rig.enter()
    await sender.subscribe("private-x")
    [told] = await sender.send("client-x", "text", channel="private-x")
    assert told["event"] == "pusher:error"
    assert await sender.send("client-x", {"a": 1}, channel="private-x") == []


async def test_an_error_of_the_catalogue_is_told() -> None:
    rig, sender, _ = await pair("private-x")
    rig.broker.faults["publish"] = Error(ErrorCode.LIMIT_EXCEEDED)
    assert await sender.send("client-x", 1, channel="private-x") == [error(None, "limit exceeded")]
