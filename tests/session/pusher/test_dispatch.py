"""Messages: what is none, and what comes too often."""

import pytest

from gateway.limits.base import Outcome, Rate
from tests.session.pusher.rig import PusherRig, ack, error, refusal

NONE = [
    "",
    "[]",
    "{",
    "null",
    '{"data":{}}',
    '{"event":7}',
    '{"event":"pusher:subscribe","data":7}',
    '{"event":"pusher:subscribe","data":"no JSON"}',
    '{"event":"pusher:subscribe","data":{"auth":""}}',
    '{"event":"pusher:unsubscribe"}',
    '{"event":"pusher:signin","data":{"auth":1}}',
    '{"event":"client-x","channel":null,"data":1}',
    '{"event":"client-x","data":NaN,"channel":"private-x"}',
]


@pytest.mark.parametrize("text", NONE)
async def test_what_is_no_message_is_told(text: str) -> None:
    client = (await PusherRig.start()).enter()
    [told] = await client.send_raw(text)
    assert (told["event"], told["data"]["code"]) == ("pusher:error", None)
    assert told["data"]["message"].startswith("message cannot be read: ")
    assert client.closed is None
    assert await client.send("pusher:ping") == [{"event": "pusher:pong", "data": "{}"}]


@pytest.mark.parametrize(
    "event", ["hello", "pusher:connection_established", "pusher_internal:member_added", "Client-x"]
)
async def test_what_clients_do_not_send(event: str) -> None:
    client = (await PusherRig.start()).enter()
    assert await client.send(event) == [error(None, f"there is no event {event!a} for clients to send")]
    assert client.closed is None


async def test_data_as_a_string_of_json() -> None:
    client = (await PusherRig.start()).enter()
    assert await client.send("pusher:subscribe", '{"channel":"news","auth":""}') == [ack("news")]


async def test_too_many_errors() -> None:
    rig = await PusherRig.start(client={"rate_limit": {"client_error": {"enabled": True, "total": "2/10s"}}})
    client = rig.enter()
    for _ in range(3):
        await client.send("hello")
    assert client.closed == (4009, "too many errors")


async def test_a_message_that_is_too_large() -> None:
    client = (await PusherRig.start()).enter()
    await client.send_raw('{"event":"pusher:ping","data":"%s"}' % ("x" * 70_000))
    assert client.closed == (1009, "message is too big")


async def test_rates_of_commands() -> None:
    limits = {"client_command": {"enabled": True, "subscribe": "1/10s", "publish": "1/10s", "refresh": "1/10s"}}
    client = (await PusherRig.start(client={"rate_limit": limits})).enter()
    assert await client.subscribe("private-x") == [ack("private-x")]
    assert await client.subscribe("other") == [refusal("other", "LimitReached", 429)]
    assert await client.send("client-x", 1, channel="private-x") == []
    assert await client.send("client-x", 1, channel="private-x") == [error(4301, "client event rate exceeded")]
    assert [each["event"] for each in await client.sign_in("17")] == ["pusher:signin_success"]
    assert await client.sign_in("17") == [error(None, "too many sign-ins")]
    assert await client.send("pusher:ping") == [{"event": "pusher:pong", "data": "{}"}]


class Nothing:
    """A store of limits that has nothing left for anybody."""

    async def take(self, name: str, key: str, rate: Rate, cost: int) -> Outcome:
        return Outcome(False, 1.0, 0, 1.0)


async def test_rates_that_hold_for_all_nodes() -> None:
    limits = {"redis_user_command": {"enabled": True, "subscribe": "1/10s", "publish": "1/10s"}}
    rig = await PusherRig.start(client={"rate_limit": limits})
    client = rig.enter()
    await client.subscribe("private-x")
    await client.sign_in("17")
    rig.node.limiter.store = Nothing()  # type: ignore[assignment]
    assert await client.subscribe("other") == [refusal("other", "LimitReached", 429)]
    assert await client.send("client-x", 1, channel="private-x") == [error(None, "too many requests")]


async def test_who_has_gone_says_nothing_more() -> None:
    rig = await PusherRig.start()
    client = rig.enter()
    await client.leave()
    assert await client.subscribe("news") == []
    await rig.assert_empty()


async def test_a_pong_as_the_library_writes_it() -> None:
    client = (await PusherRig.start()).enter()
    assert await client.send_raw('{"event":"pusher:pong","data":{}}') == []
