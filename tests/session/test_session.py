"""States and commands, frames, pings, deadlines, and the ways in which a connection ends."""

import asyncio
import json
import logging
from contextlib import suppress
from typing import Any

import pytest

from gateway.core.cluster import DisconnectUser, SubscribeUser
from gateway.errors import BrokerUnavailable, Disconnect, DisconnectCode, UnsubscribeCode
from gateway.messages import Payload, Publication
from gateway.protocols.base import OBJECTS_AT_FIRST
from gateway.session import State
from gateway.session.dispatch import FAIR
from tests.session.rig import Rig

BAD_REQUEST = (3501, "bad request")
COMMANDS: dict[str, dict[str, Any]] = {
    "connect": {},
    "ping": {},
    "subscribe": {"channel": "news"},
    "unsubscribe": {"channel": "news"},
    "publish": {"channel": "news", "data": 1},
    "presence": {"channel": "any:x"},
    "presence_stats": {"channel": "any:x"},
    "history": {"channel": "any:x"},
    "rpc": {"method": "add"},
    "send": {"data": 1},
    "refresh": {"token": "t"},
    "sub_refresh": {"channel": "news", "token": "t"},
}


# — states —


@pytest.mark.parametrize("kind", [kind for kind in COMMANDS if kind != "connect"])
async def test_before_connect_nothing_else_may_come(kind: str) -> None:
    client = (await Rig.open()).client()
    await client.say({"id": 1, kind: COMMANDS[kind]})
    assert (client.closed, client.take()) == (BAD_REQUEST, [])


async def test_before_connect_only_so_much_is_read() -> None:
    """Whatever it is: reading it takes the time of all others."""
    rig = await Rig.open()
    client = rig.client()
    pongs = [b"{}"] * OBJECTS_AT_FIRST
    await client.say(b'{"id":1,"connect":{}}', *pongs)
    assert (client.closed, client.take()) == (BAD_REQUEST, [])
    client = await rig.connected()
    await client.say(*[b'{"id":9,"rpc":{}}'] * OBJECTS_AT_FIRST)
    assert (client.closed, len(client.take())) == (None, OBJECTS_AT_FIRST)


@pytest.mark.parametrize("kind", COMMANDS)
async def test_after_a_refused_connect_nothing_may_come(kind: str) -> None:
    rig = await Rig.open()
    client = rig.client()
    assert await client.refused("connect", token=rig.token(ttl=-1)) == 109
    await client.say({"id": 2, kind: COMMANDS[kind]})
    assert (client.closed, client.take()) == (BAD_REQUEST, [])


@pytest.mark.parametrize("kind", COMMANDS)
async def test_after_the_end_commands_are_not_heard(kind: str) -> None:
    client = await (await Rig.open()).connected()
    client.session.disconnect(Disconnect(DisconnectCode.FORCE_DISCONNECT))
    await client.say({"id": 2, kind: COMMANDS[kind]})
    assert (client.take(), len(client.transport.reasons)) == ([], 1)


ANSWERS: dict[str, int | None] = {"subscribe": None, "unsubscribe": None, "publish": None, "history": None}
ANSWERS |= {"presence": None, "presence_stats": None, "rpc": 108, "sub_refresh": 103}


@pytest.mark.parametrize(("kind", "error"), ANSWERS.items())
async def test_commands_of_a_connected_client(kind: str, error: int | None) -> None:
    client = await (await Rig.open()).connected("alice")
    reply = await client.ask(kind, **COMMANDS[kind])
    assert reply["error"]["code"] == error if error else kind in reply, reply
    assert client.closed is None


ENDINGS = {"connect": BAD_REQUEST, "ping": BAD_REQUEST, "send": (3508, "not available")}
ENDINGS |= {"refresh": (3500, "invalid token")}


@pytest.mark.parametrize(("kind", "closed"), ENDINGS.items())
async def test_commands_that_end_the_connection(kind: str, closed: tuple[int, str]) -> None:
    client = await (await Rig.open()).connected()
    await client.say({"id": 2, kind: COMMANDS[kind]})
    assert (client.closed, client.take()) == (closed, [])


@pytest.mark.parametrize("kind", ["subscribe", "unsubscribe", "publish", "presence", "presence_stats", "history"])
async def test_a_command_without_channel_ends_the_connection(kind: str) -> None:
    client = await (await Rig.open()).connected()
    await client.say({"id": 2, kind: {}})
    assert client.closed == BAD_REQUEST


async def test_send_needs_no_id_to_be_refused() -> None:
    client = await (await Rig.open()).connected()
    await client.say({"send": {"data": {}}})
    assert client.closed == (3508, "not available")


@pytest.mark.parametrize("frame", [b"{", b"", b"\n", b"{}\n\n", b"null", b'{"id":2}', b'{"connect":{}}', b"\xff"])
@pytest.mark.parametrize("connected", [True, False])
async def test_bad_frames_end_the_connection(connected: bool, frame: bytes) -> None:
    rig = await Rig.open()
    client = await rig.connected() if connected else rig.client()
    await client.say(frame)
    assert client.closed == ((3501, "bad request: Expected `object`, got `null`") if frame == b"null" else BAD_REQUEST)


# — frames —


async def test_connect_and_subscribe_in_one_frame() -> None:
    client = (await Rig.open()).client()
    await client.say(
        {"id": 1, "connect": {}},
        {"id": 2, "subscribe": {"channel": "news"}},
        {"id": 3, "subscribe": {"channel": "no:1"}},
    )
    first, *others = client.take()
    assert (first["id"], first["connect"]["client"]) == (1, client.session.client)
    assert others == [{"id": 2, "subscribe": {}}, {"id": 3, "error": {"code": 102, "message": "unknown channel"}}]


async def test_replies_come_in_the_order_of_commands_and_in_one_frame() -> None:
    client = await (await Rig.open()).connected()
    client.take()
    wanted = [{"id": number, "publish": {"channel": "news", "data": number}} for number in range(10, 30)]
    await client.session.receive(b"\n".join(json.dumps(each).encode() for each in wanted))
    client.rig.node.hub.flush()
    assert len(client.transport.frames) == 1
    assert [each["id"] for each in client.take()] == list(range(10, 30))


async def test_what_follows_a_violation_is_not_carried_out() -> None:
    rig = await Rig.open()
    client = await rig.connected()
    await client.say({"id": 2, "subscribe": {"channel": "a"}}, {"id": 3}, {"id": 4, "subscribe": {"channel": "b"}})
    assert (client.closed, client.take()) == (BAD_REQUEST, [])  # no command of such a frame is trusted
    assert client.session.subscriptions == {}


async def test_what_was_answered_before_a_violation_is_written() -> None:
    client = await (await Rig.open()).connected()
    await client.say(
        {"id": 2, "subscribe": {"channel": "a"}}, {"id": 3, "connect": {}}, {"id": 4, "subscribe": {"channel": "b"}}
    )
    assert (client.closed, client.take()) == (BAD_REQUEST, [{"id": 2, "subscribe": {}}])
    assert list(client.session.subscriptions) == ["a"]


async def test_a_reply_reaches_the_client_before_the_close() -> None:
    rig = await Rig.open()
    client = await rig.connected()
    rig.node.hub.post(client.session, b'{"id":7}')
    client.session.disconnect(Disconnect(DisconnectCode.FORCE_DISCONNECT))
    assert (client.take(), client.closed) == ([{"id": 7}], (3503, "force disconnect"))


async def test_a_publication_reaches_the_client_before_the_close() -> None:
    """A last word and the disconnect may well come in the same tick."""
    rig = await Rig.open()
    client = await rig.connected("alice")
    await client.subscribe("news")
    await rig.publish("news", "goodbye")
    rig.control(DisconnectUser(user="alice", code=3503, reason="force disconnect"))
    assert (client.data(), client.closed) == (["goodbye"], (3503, "force disconnect"))


async def test_an_unexpected_failure_is_answered_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    rig = await Rig.open()
    client = await rig.connected()
    rig.broker.faults["publish"] = ZeroDivisionError("secret detail")
    with caplog.at_level(logging.WARNING):
        reply = await client.ask("publish", channel="news", data=1)
    assert reply == {"error": {"code": 100, "message": "internal server error", "temporary": True}}
    (record,) = caplog.records
    assert (client.session.client in record.getMessage(), record.exc_info is not None) == (True, True)
    rig.broker.faults.clear()
    assert await client.ask("publish", channel="news", data=1) == {"publish": {}}


@pytest.mark.parametrize(
    ("kind", "channel"),
    [("subscribe", "room:1"), ("subscribe", "news"), ("publish", "any:x"), ("history", "any:x")],
)
async def test_without_its_broker_the_gateway_asks_to_try_again(kind: str, channel: str) -> None:
    rig = await Rig.open()
    client = await rig.connected("alice")
    rig.broker.down()
    reply = await client.ask(kind, channel=channel, **({"data": 1} if kind == "publish" else {}))
    assert (reply["error"]["code"], reply["error"]["temporary"]) == (100, True)
    assert client.closed is None
    rig.broker.faults.clear()
    assert kind in await client.ask(kind, channel=channel, **({"data": 1} if kind == "publish" else {}))


# — the end —


async def test_the_first_reason_counts() -> None:
    rig = await Rig.open()
    client = await rig.connected("alice")
    client.session.disconnect(Disconnect(DisconnectCode.SLOW))
    client.session.disconnect(Disconnect(DisconnectCode.SHUTDOWN))
    rig.control(DisconnectUser(user="alice", code=3503, reason="force disconnect"))
    await client.leave()
    assert [str(reason) for reason in client.transport.reasons] == ["3008 slow"]
    assert rig.node.metrics.disconnects == {3008: 1}


async def test_a_client_that_leaves_by_itself() -> None:
    rig = await Rig.open()
    client = await rig.connected("alice")
    await client.subscribe("lobby:1")
    await client.leave()
    assert (client.transport.reasons, client.session.state) == ([], State.ENDED)
    assert rig.node.metrics.disconnects == {3000: 1}
    await rig.assert_empty()


async def test_the_end_leaves_every_channel() -> None:
    rig = await Rig.open()
    client = rig.client()
    await client.connect(token=rig.token(channels=["room:server", "lobby:server"]))
    other = await rig.connected()
    await other.subscribe("lobby:1")
    for channel in ("news", "lobby:1", "room:1", "cell:1"):
        await client.subscribe(channel)
    other.take()
    await client.leave()
    assert [list(push) for push in other.take()] == [["channel", "leave"]]
    await other.leave()
    await rig.assert_empty()


@pytest.mark.parametrize("fault", [BrokerUnavailable(), ZeroDivisionError()])
async def test_a_failure_does_not_keep_the_end_from_leaving_the_others(fault: Exception) -> None:
    rig = await Rig.open()
    client = await rig.connected("alice")
    for channel in ("any:1", "any:2", "news"):
        await client.subscribe(channel)
    rig.presence.remove_faults = [fault]
    with suppress(ZeroDivisionError):
        await client.leave()
    await rig.assert_empty()


async def test_binary_data_ends_connections_that_speak_json() -> None:
    rig = await Rig.open()
    client = await rig.connected()
    await client.subscribe("news")
    publication = Publication(Payload(b"\x00"), binary=True)
    await rig.node.publish(rig.node.channels.resolve("news"), publication)
    assert client.closed == (3506, "inappropriate protocol")


# — commands of the server API —


@pytest.mark.parametrize("code", [3001, 3008, 3011, 3012, 3014, 3503, 4000, 4999])
async def test_disconnect_user(code: int) -> None:
    rig = await Rig.open()
    clients = [await rig.connected("alice"), await rig.connected("alice"), await rig.connected("bob")]
    spared = await rig.connected("alice")
    whitelist = [spared.session.client]
    rig.control(DisconnectUser(user="alice", code=code, reason="why not", whitelist=whitelist))
    assert [each.closed for each in clients] == [(code, "why not"), (code, "why not"), None]
    assert spared.closed is None


async def test_a_command_for_one_client_only() -> None:
    rig = await Rig.open()
    one, other = await rig.connected("alice"), await rig.connected("alice")
    rig.control(DisconnectUser(user="alice", client=one.session.client, code=3503, reason="x"))
    rig.control(DisconnectUser(user="alice", session="a session of another transport", code=3503, reason="x"))
    assert (one.closed, other.closed) == ((3503, "x"), None)


async def test_commands_do_not_reach_a_closed_session() -> None:
    rig = await Rig.open()
    client = await rig.connected("alice")
    client.session.disconnect(Disconnect(DisconnectCode.SHUTDOWN))
    client.session.control(SubscribeUser(user="alice", channel="news"))
    await client.leave()
    await rig.assert_empty()


def test_unsubscribe_codes() -> None:
    assert [(int(code), code.reason) for code in UnsubscribeCode] == [
        (2000, "server unsubscribe"),
        (2500, "insufficient state"),
        (2501, "subscription expired"),
        (2502, "state invalidated"),
    ]


async def test_a_frame_of_many_commands_lets_others_have_their_turn() -> None:
    client = await (await Rig.open()).connected("alice")
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(others())
    await client.say(*({"id": number, "presence": {"channel": "lobby:1"}} for number in range(10, 10 + 4 * FAIR)))
    task.cancel()
    assert turns >= 3
