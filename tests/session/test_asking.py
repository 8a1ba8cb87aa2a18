"""Publish, presence and history as commands of clients; recovery is tested with subscriptions."""

import asyncio
from typing import Any

import pytest

from gateway.brokers.base import HistoryFilter, StreamOptions
from gateway.core.tasks import begin
from gateway.errors import BrokerUnavailable
from gateway.messages import ClientInfo, Payload, Publication
from gateway.session.pipeline import UNDER_WAY
from tests.session.rig import Client, Rig
from tests.waiting import until


async def alice(**settings: Any) -> Client:
    return await (await Rig.open(**settings)).connected("alice")


COMMANDS: dict[str, dict[str, Any]] = {"publish": {"data": 1}, "presence": {}, "presence_stats": {}, "history": {}}


@pytest.mark.parametrize("kind", COMMANDS)
async def test_unknown_channels(kind: str) -> None:
    client = await alice()
    assert await client.refused(kind, channel="nope:1", **COMMANDS[kind]) == 102
    assert await client.refused(kind, channel="é", **COMMANDS[kind]) == 107


@pytest.mark.parametrize("kind", COMMANDS)
async def test_permissions(kind: str) -> None:
    client = await alice()
    assert kind in await client.ask(kind, channel="any:1", **COMMANDS[kind])
    assert await client.refused(kind, channel="users:1", **COMMANDS[kind]) == 103
    assert await client.refused(kind, channel="member:1", **COMMANDS[kind]) == 103
    await client.subscribe("member:1")
    assert kind in await client.ask(kind, channel="member:1", **COMMANDS[kind])
    await client.ask("unsubscribe", channel="member:1")
    assert await client.refused(kind, channel="member:1", **COMMANDS[kind]) == 103


@pytest.mark.parametrize("kind", COMMANDS)
async def test_anonymous_users_need_a_permission_of_their_own(kind: str) -> None:
    client = await (await Rig.open()).connected()
    await client.subscribe("member:1")
    assert await client.refused(kind, channel="member:1", **COMMANDS[kind]) == 103
    assert await client.refused(kind, channel="any:1", **COMMANDS[kind]) == 103


@pytest.mark.parametrize("kind", COMMANDS)
async def test_in_insecure_mode_everything_is_allowed(kind: str) -> None:
    client = await (await Rig.open(insecure=True)).connected()
    assert kind in await client.ask(kind, channel="users:1", **COMMANDS[kind])


@pytest.mark.parametrize("kind", ["presence", "presence_stats", "history"])
@pytest.mark.parametrize("insecure", [True, False])
async def test_what_the_channel_does_not_have(kind: str, insecure: bool) -> None:
    assert await (await alice(insecure=insecure)).refused(kind, channel="closed:1") == 108


async def test_a_server_side_subscription_counts_as_one() -> None:
    rig = await Rig.open()
    client = rig.client()
    await client.connect(token=rig.token("alice", channels=["member:1"]))
    assert await client.ask("publish", channel="member:1", data=1) == {"publish": {}}


# — publish —


async def test_publish() -> None:
    rig = await Rig.open()
    client, other = rig.client(), await rig.connected("bob")
    await client.connect(token=rig.token("alice", info={"name": "Al"}))
    await client.subscribe("room:1", token=rig.channel_token("room:1", info={"seat": 3}))
    await other.subscribe("room:1")
    data = b'{"big":123456789012345678901234567890, "f":1.10}'
    await client.say(b'{"id":9,"publish":{"channel":"room:1","data":%b}}' % data)
    me = {"user": "alice", "client": client.session.client, "conn_info": {"name": "Al"}, "chan_info": {"seat": 3}}
    (push,) = other.take()
    push["pub"].pop("epoch")
    assert push == {
        "channel": "room:1",
        "pub": {"data": {"big": 123456789012345678901234567890, "f": 1.1}, "info": me, "offset": 1},
    }
    assert {"id": 9, "publish": {}} in client.take()
    stored = await rig.node.history(rig.node.channels.resolve("room:1"), HistoryFilter(limit=-1))
    assert [publication.data for publication in stored[0]] == [data]


async def test_a_publish_under_way_holds_up_nothing_else() -> None:
    client = await alice()
    gate = client.rig.broker.gate("publish", "any:1")
    await client.say(b'{"id":7,"publish":{"channel":"any:1","data":1}}')
    await client.say(b'{"id":8,"publish":{"channel":"any:1","data":2}}')
    await client.say(b'{"id":9,"publish":{"channel":"news","data":3}}')
    assert (await client.ask("history", channel="any:1", limit=-1))["history"]["publications"] == []
    assert client.take() == [{"id": 9, "publish": {}}]
    gate.open()
    streams = client.rig.broker._streams
    await until(lambda: "any:1" in streams and len(streams["any:1"].publications) == 2)
    history = await client.ask("history", channel="any:1", limit=-1)
    assert [each["data"] for each in history["history"]["publications"]] == [1, 2]


def posted(client: Client, monkeypatch: pytest.MonkeyPatch) -> list[asyncio.Future[None]]:
    """Have the broker take what nobody waits for, and accept it when the test says so."""
    answers: list[asyncio.Future[None]] = []

    def post(_channel: str, _publication: Publication, _stream: StreamOptions) -> asyncio.Future[None]:
        answers.append(asyncio.get_running_loop().create_future())
        return answers[-1]

    monkeypatch.setattr(client.rig.broker, "post", post)
    return answers


async def test_publishes_are_answered_as_the_broker_accepts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    client = await alice()
    answers = posted(client, monkeypatch)
    lines = [b'{"id":%d,"publish":{"channel":"any:1","data":1}}' % number for number in range(7, 9)]
    await client.say(b"\n".join(lines))
    assert client.take() == []
    answers[1].set_result(None)
    answers[0].set_exception(BrokerUnavailable("away"))
    await asyncio.sleep(0)
    client.look()
    first, second = client.take()
    assert first == {"id": 8, "publish": {}}
    assert (second["id"], second["error"]["code"]) == (7, 100)


async def test_publishes_that_fail_on_the_spot_are_not_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    client = await alice()

    def refuse(*_: object) -> bool:
        raise BrokerUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(client.rig.broker, "post", refuse)
        for _ in range(UNDER_WAY):
            assert await client.refused("publish", channel="any:1", data=1) == 100
    assert await asyncio.wait_for(client.ask("publish", channel="any:1", data=1), 10) == {"publish": {}}


async def test_who_publishes_faster_than_the_broker_accepts_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    client = await alice()
    answers = posted(client, monkeypatch)
    lines = [b'{"id":%d,"publish":{"channel":"any:1","data":1}}' % number for number in range(7, 207)]
    saying = asyncio.create_task(client.say(b"\n".join(lines)))
    await until(lambda: len(answers) == UNDER_WAY)
    for number in range(UNDER_WAY // 2 - 1):
        answers[number].set_result(None)
    await asyncio.sleep(0)
    assert len(answers) == UNDER_WAY
    answers[UNDER_WAY // 2 - 1].set_result(None)
    await until(lambda: len(answers) == UNDER_WAY + UNDER_WAY // 2)
    told = UNDER_WAY // 2
    while not saying.done():
        for each in answers[told:]:
            each.set_result(None)
            told += 1
        await asyncio.sleep(0)
    assert len(answers) == 200


async def test_the_publishes_of_a_frame_reach_the_broker_together() -> None:
    client = await alice()
    gate = client.rig.broker.gate("publish", "any:1")
    lines = [b'{"id":%d,"publish":{"channel":"any:1","data":%d}}' % (number, number) for number in range(7, 12)]
    assert begin(client.session.receive(b"\n".join(lines))) is None  # without another turn of the loop
    assert gate.waiting == 5
    gate.open()
    found = client.rig.broker._streams
    await until(lambda: "any:1" in found and len(found["any:1"].publications) == 5)


async def test_who_publishes_without_subscription() -> None:
    rig = await Rig.open()
    client, other = rig.client(), await rig.connected()
    await client.connect(token=rig.token("alice", info=[1]))
    await other.subscribe("news")
    await client.ask("publish", channel="news", data="hi")
    me = {"user": "alice", "client": client.session.client, "conn_info": [1]}
    assert other.take() == [{"channel": "news", "pub": {"data": "hi", "info": me}}]


@pytest.mark.parametrize(
    ("channel", "data", "accepted"),
    [
        ("news", b'"data":null,', True),
        ("news", b'"data":"",', True),
        ("news", b"", False),
        ("objects:1", b'"data": {"a":1},', True),
        ("objects:1", b'"data":[1],', False),
        ("objects:1", b"", False),
        ("binary:1", b'"data":1,', True),
    ],
)
async def test_data_that_may_be_published(channel: str, data: bytes, accepted: bool) -> None:
    client = await alice()
    await client.say(b'{"id":9,"publish":{%b"channel":"%b"}}' % (data, channel.encode()))
    expected = {"publish": {}} if accepted else {"error": {"code": 107, "message": "bad request"}}
    assert client.reply(9) == expected


async def test_empty_data_does_not_harm_subscribers() -> None:
    """A channel of the format ``binary`` takes it, from clients that speak JSON as well."""
    client = await alice()
    other = await client.rig.connected("bob")
    await other.subscribe("binary:1")
    await client.ask("publish", channel="binary:1")
    other.look()
    assert other.closed is None


@pytest.mark.parametrize("data", [b'"\xff"', b'{"\xc0\xaf":1}'])
async def test_data_that_is_not_text_does_not_reach_others(data: bytes) -> None:
    client = await alice()
    other = await client.rig.connected("bob")
    await other.subscribe("news")
    await client.say(b'{"id":9,"publish":{"channel":"news","data":%b}}' % data)
    assert client.closed == (3501, "bad request")
    assert (other.take(), other.closed) == ([], None)


# — presence —


async def test_presence_of_more_than_a_client_may_read_at_once() -> None:
    rig = await Rig.open()
    client = await rig.connected("ann")
    for number in range(5000):
        await rig.presence.add("any:1", ClientInfo("bob", f"c{number}"))
    assert len((await client.ask("presence", channel="any:1"))["presence"]["presence"]) == 5000
    await rig.presence.add("any:1", ClientInfo("bob", "another"))
    assert await client.refused("presence", channel="any:1") == 106
    stats = await client.ask("presence_stats", channel="any:1")
    assert stats == {"presence_stats": {"num_clients": 5001, "num_users": 1}}


async def test_presence() -> None:
    rig = await Rig.open()
    clients = [await rig.connected(user) for user in ("ann", "bob", "bob", "", "")]
    for each in clients:
        await each.subscribe("any:1", token=rig.channel_token("any:1", each.session.user, info=7))
    present = (await clients[0].ask("presence", channel="any:1"))["presence"]["presence"]
    infos = [{"user": each.session.user, "client": each.session.client, "chan_info": 7} for each in clients]
    assert present == {info["client"]: info for info in infos}
    stats = await clients[0].ask("presence_stats", channel="any:1")
    assert stats == {"presence_stats": {"num_clients": 5, "num_users": 3}}
    for each in clients[1:]:
        await each.leave()
    await clients[0].ask("unsubscribe", channel="any:1")
    stats = await clients[0].ask("presence_stats", channel="any:1")
    assert stats == {"presence_stats": {"num_clients": 0, "num_users": 0}}


# — history —

PAGES: dict[str, tuple[dict[str, Any], list[int]]] = {
    "no limit": ({}, []),
    "limit 0": ({"limit": 0, "since": {"offset": 4}}, []),
    "the oldest": ({"limit": 2}, [3, 4]),
    "all": ({"limit": -1}, [3, 4, 5, 6]),
    "the newest": ({"limit": 2, "reverse": True}, [6, 5]),
    "after": ({"limit": 2, "since": {"offset": 3}}, [4, 5]),
    "after the top": ({"limit": 2, "since": {"offset": 6}}, []),
    "after what is no longer there": ({"limit": 2, "since": {"offset": 1}}, [3, 4]),
    "before": ({"limit": 2, "since": {"offset": 6}, "reverse": True}, [5, 4]),
    "before the oldest": ({"limit": 2, "since": {"offset": 3}, "reverse": True}, []),
    "before what is not in the stream": ({"limit": 2, "since": {"offset": 99}, "reverse": True}, []),
}


@pytest.mark.parametrize(("request_", "expected"), PAGES.values(), ids=PAGES)
async def test_pages_of_history(request_: dict[str, Any], expected: list[int]) -> None:
    small = {"name": "small", "history_size": 4, "history_ttl": 60, "allow_history_for_client": True}
    rig = await Rig.open(channel={"namespaces": [small]})
    client = await rig.connected("alice")
    top = await rig.publish("small:1", *range(1, 7))
    for epoch in ("", top.epoch):
        since = {"since": request_["since"] | {"epoch": epoch}} if "since" in request_ else {}
        result = (await client.ask("history", channel="small:1", **request_ | since))["history"]
        assert [publication["offset"] for publication in result["publications"]] == expected
        assert (result["offset"], result["epoch"]) == (6, top.epoch)


async def test_history_of_an_unused_channel() -> None:
    client = await alice()
    result = (await client.ask("history", channel="any:1", limit=-1))["history"]
    assert (result["publications"], result["offset"], len(result["epoch"])) == ([], 0, 8)


@pytest.mark.parametrize("limit", [-1, 5, 2**40])
async def test_the_limit_of_history(limit: int) -> None:
    client = await alice(history_max_publication_limit=3)
    await client.rig.publish("any:1", *range(6))
    result = (await client.ask("history", channel="any:1", limit=limit))["history"]
    assert [publication["data"] for publication in result["publications"]] == [0, 1, 2]


async def test_history_of_another_epoch() -> None:
    client = await alice()
    since = {"offset": 1, "epoch": "other"}
    reply = await client.ask("history", channel="any:1", since=since, limit=1)
    assert reply == {"error": {"code": 112, "message": "unrecoverable position"}}


async def test_history_before_the_beginning() -> None:
    client = await alice()
    assert await client.refused("history", channel="any:1", since={"offset": 0}, reverse=True, limit=1) == 107


async def test_history_with_binary_data() -> None:
    client = await alice()
    publication = Publication(Payload(b"\x00"), binary=True)
    await client.rig.node.publish(client.rig.node.channels.resolve("any:1"), publication)
    await client.say({"id": 9, "history": {"channel": "any:1", "limit": 1}})
    assert (client.closed, client.take()) == ((3506, "inappropriate protocol"), [])


# — rpc and send —


async def test_nobody_answers_rpc() -> None:
    reply = await (await alice()).ask("rpc", method="add", data=[1, 2])
    assert reply == {"error": {"code": 108, "message": "not available"}}
