"""What the flight recorder hears of a connection, of a user and of a channel; and that nothing of it stays."""

import json
from typing import Any

import pytest

from gateway.brokers.base import HistoryFilter
from gateway.channels import Channel
from gateway.core.cluster import DisconnectUser, SendMessage, UnsubscribeUser
from gateway.core.excerpt import excerpt
from gateway.core.recorder import CONNECTIONS, LINGER, Subject, What
from gateway.errors import Disconnect, DisconnectCode
from gateway.messages import ConnectRequest, Exclusion, MemberAdded, Payload, Publication
from gateway.session import ClientSession, Session, taps
from gateway.session.taps import Taps
from tests.program.sockets.client import Client as PlainClient
from tests.program.sockets.client import SocketRig
from tests.session.rig import SECRET, Client, Gate, Rig, nobody_kept

JOINS = "lobby:1"


class Recorded:
    """A node with taps, and what is recorded there."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.taps = Taps(rig.node)
        self.recorder = self.taps.recorder

    @classmethod
    async def open(cls, **client: Any) -> "Recorded":
        return cls(await Rig.open(**client))

    def watch(self, what: What, name: str, seconds: float = 600) -> None:
        assert self.recorder.start(Subject(what, name), seconds)

    def stop(self, what: What, name: str) -> None:
        assert self.recorder.start(Subject(what, name), 0)

    def told(self, what: What, name: str, *fields: str) -> list[Any]:
        """Some fields of the events that have come since, and are not asked for again."""
        events = self.recorder.watches[Subject(what, name)].events
        taken = [tuple(getattr(each, field) for field in fields) for each in events]
        events.clear()
        return [each[0] for each in taken] if len(fields) == 1 else taken

    def assert_nothing_stays(self) -> None:
        node = self.rig.node
        assert (self.taps._watched, self.taps._connecting, self.taps._subscribers) == ({}, {}, {})
        assert self.recorder.watches == {}
        assert node.witness is None
        assert node.deliver == node.hub.publish
        for each in (node, node.hub):
            assert {name for name in vars(each) if callable(getattr(type(each), name, None))} == set()
        for connection in node.hub.connections.values():
            assert type(connection) is ClientSession


@pytest.fixture
async def recorded() -> Recorded:
    return await Recorded.open(ping_interval=10, pong_timeout=3)


async def say_refused(client: Client, **request: Any) -> None:
    await client.say(json.dumps({"id": 1, "connect": request}).encode())


# — a connection —


async def test_commands_replies_and_errors_of_a_client(recorded: Recorded) -> None:
    client = await recorded.rig.connected("ann")
    recorded.watch("client", client.session.client)
    await client.subscribe("room:1")
    await client.ask("publish", channel="room:1", data={"password": "hidden", "n": 1})
    await client.ask("subscribe", channel="closed:1", token="hidden")
    await client.ask("rpc", method="sum")
    events = recorded.told("client", client.session.client, "kind", "text", "channel", "data")
    assert events == [
        ("watch", "connected, from centrifuge-json", "", ""),
        ("command", "#2 subscribe", "room:1", '{"channel":"room:1"}'),
        ("reply", "#2 subscribe", "", events[2][3]),
        ("subscribe", "subscribed after offset 0", "room:1", ""),
        ("command", "#3 publish", "room:1", '{"channel":"room:1","data":{"password":"***","n":1}}'),
        ("publication", f"offset 1, 30 bytes from 'ann' {client.session.client}", "room:1", events[5][3]),
        ("reply", "#3 publish", "", "{}"),
        ("command", "#4 subscribe", "closed:1", '{"channel":"closed:1","token":"***"}'),
        ("error", events[8][1], "", ""),
        ("command", "#5 rpc sum", "", '{"method":"sum"}'),
        ("error", "#5 108 not available", "", ""),
    ]
    assert events[8][1].startswith("#4 103 permission denied: ")
    assert json.loads(events[2][3])["positioned"]
    assert excerpt(events[5][3]) == '{"password":"***","n":1}'


async def test_a_recorded_client_sees_what_any_other_does(recorded: Recorded) -> None:
    one, other = await recorded.rig.connected("ann"), await recorded.rig.connected("bob")
    recorded.watch("client", one.session.client)
    recorded.watch("channel", "room:1")
    for client in (one, other):
        await client.subscribe("room:1")
    for client in (one, other):
        assert await client.ask("publish", channel="room:1", data=1) == {"publish": {}}
        assert await client.refused("publish", channel="closed:1", data=1) == 103
        assert await client.refused("presence", channel="room:1") == 108
    for client in (one, other):
        recorded.rig.control(SendMessage(client=client.session.client, data=Payload(b'"hi"')))
        recorded.rig.control(UnsubscribeUser(client=client.session.client, channel="room:1", code=2000, reason="go"))
    heard = [client.take() for client in (one, other)]
    assert heard[0] == heard[1]
    assert len(heard[0]) == 4


async def test_pings_and_pongs(recorded: Recorded) -> None:
    """The first one, too: its deadline was set before."""
    client = await recorded.rig.connected("ann")
    recorded.watch("client", client.session.client)
    for _ in range(2):
        while not client.session.awaits_pong:
            recorded.rig.pass_time(0.1)
        recorded.rig.pass_time(0.2)
        await client.say(b"{}")
    told = recorded.told("client", client.session.client, "kind", "text")
    assert told[1:] == [("ping", "sent"), ("pong", "after 200 ms")] * 2
    await client.say(b"{}")
    assert client.closed == (3501, "bad request")


async def test_what_the_server_orders_and_the_end(recorded: Recorded) -> None:
    client = await recorded.rig.connected("ann")
    name = client.session.client
    recorded.watch("client", name)
    await client.subscribe("room:1")
    recorded.told("client", name, "kind")
    recorded.rig.control(SendMessage(user="ann", data=Payload(b'{"key":1}')))
    recorded.rig.control(UnsubscribeUser(user="ann", channel="room:1", code=2000, reason="server unsubscribe"))
    recorded.rig.control(DisconnectUser(user="ann", client="another", code=3503, reason="not this one"))
    recorded.rig.pass_time(2)
    recorded.rig.control(DisconnectUser(user="ann", code=3503, reason="force disconnect"))
    recorded.rig.control(DisconnectUser(user="ann", code=3503, reason="again"))
    await recorded.rig.settle()
    assert recorded.told("client", name, "kind", "text", "channel") == [
        ("server", "the server orders: send", ""),
        ("server", "the server orders: unsubscribe 2000 server unsubscribe", "room:1"),
        ("unsubscribe", "nothing more is delivered", "room:1"),
        ("push", "unsubscribe 2000 server unsubscribe", "room:1"),
        ("server", "the server orders: disconnect 3503 force disconnect", ""),
        ("disconnect", "the gateway closes with 3503 force disconnect", ""),
        ("close", "ended with 3503 force disconnect, after 2.0 s", ""),
    ]


async def test_a_client_that_leaves(recorded: Recorded) -> None:
    client = await recorded.rig.connected("ann")
    recorded.watch("client", client.session.client)
    await client.session.end(Disconnect(1001, "going away"))
    assert recorded.told("client", client.session.client, "text")[-1] == "ended with 1001 going away, after 0.0 s"


async def test_only_publications_that_are_delivered(recorded: Recorded) -> None:
    client = await recorded.rig.connected("ann")
    name = client.session.client
    recorded.watch("client", name)
    await client.subscribe("room:1")
    recorded.told("client", name, "kind")
    node = recorded.rig.node
    await recorded.rig.publish("room:1", 1, 2)
    await recorded.rig.publish("room:2", "another")
    epoch = (await recorded.rig.position("room:1")).epoch
    node.on_publication("room:1", Publication(Payload(b"1"), offset=1, epoch=epoch))  # once more
    excluded = [Exclusion(clients=(name,)), Exclusion(users=("ann",))]
    for offset, exclude in enumerate(excluded, 3):
        node.on_publication("room:1", Publication(Payload(b"0"), offset=offset, epoch=epoch, exclude=exclude))
    node.on_publication("room:1", Publication(Payload(b"9"), offset=9, epoch=epoch))  # some are missing before
    told = recorded.told("client", name, "kind", "text")
    assert told == [
        ("publication", "offset 1, 1 bytes"),
        ("publication", "offset 2, 1 bytes"),
        ("lost", "something is missing before"),
        ("push", "unsubscribe 2500 insufficient state"),
    ]


async def test_joins_that_are_pushed(recorded: Recorded) -> None:
    one, other = await recorded.rig.connected("ann"), await recorded.rig.connected("bob")
    await one.subscribe(JOINS)
    await one.subscribe("quiet:1")  # whose joins it does not want
    recorded.watch("client", one.session.client)
    recorded.watch("channel", JOINS)
    await other.subscribe("quiet:1")
    await other.subscribe(JOINS)
    await other.leave()
    await recorded.rig.settle()
    who = f"'bob' {other.session.client}"
    assert recorded.told("client", one.session.client, "kind", "text")[1:] == [
        ("push", f"join of {who}"),
        ("push", f"leave of {who}"),
    ]
    recorded.rig.node.hub.announce(JOINS, MemberAdded("bob"), Exclusion(clients=("nobody",)))  # says the same again
    kinds = recorded.told("channel", JOINS, "kind", "user")
    assert kinds[1:] == [("subscribe", "bob"), ("join", "bob"), ("unsubscribe", "bob"), ("leave", "bob")]


# — a user —


async def test_connections_that_come_later(recorded: Recorded) -> None:
    recorded.watch("user", "ann")
    client = recorded.rig.client()
    client.session.address = "192.0.2.7"
    await client.connect(token=recorded.rig.token("ann"), name="js", version="5.2", data={"secret": "hidden"})
    await recorded.rig.connected("bob")
    events = recorded.told("user", "ann", "kind", "text", "client", "data")
    assert events[0] == (
        "connect",
        "connect is being decided, from 192.0.2.7, centrifuge-json, js 5.2",
        client.session.client,
        '{"token":"***","data":{"secret":"***"},"name":"js","version":"5.2"}',
    )
    assert [each[0] for each in events] == ["connect", "reply"]
    await client.leave()
    assert recorded.told("user", "ann", "kind") == ["close"]
    assert recorded.taps._watched == {}


async def test_subscriptions_of_before_and_after(recorded: Recorded) -> None:
    client = await recorded.rig.connected("ann")
    await client.subscribe("room:1")
    recorded.watch("user", "ann")
    await client.subscribe("room:2")
    recorded.told("user", "ann", "kind")
    await recorded.rig.publish("room:1", 1)
    await recorded.rig.publish("room:2", 1)
    assert recorded.told("user", "ann", "kind", "channel") == [("publication", "room:1"), ("publication", "room:2")]
    await client.ask("unsubscribe", channel="room:1")
    assert list(recorded.taps._subscribers) == ["room:2"]
    recorded.stop("user", "ann")
    recorded.assert_nothing_stays()


async def test_the_user_agent_is_told_where_it_is_known(recorded: Recorded) -> None:
    recorded.watch("user", "ann")
    client = recorded.rig.client()
    client.session.user_agent = "Mozilla/5.0"
    await client.connect(token=recorded.rig.token("ann"))
    assert recorded.told("user", "ann", "text")[0].endswith("centrifuge-json, Mozilla/5.0")


async def test_connects_with_bad_tokens(recorded: Recorded) -> None:
    rig = recorded.rig
    recorded.watch("user", "ann")
    forged, expired = rig.token("ann", key=SECRET[::-1]), rig.token("ann", ttl=-1)
    for token in (forged, expired, rig.token("bob", key=SECRET[::-1]), "none.at.all", "e30.e30.e30"):
        await say_refused(rig.client(), token=token)
    told = recorded.told("user", "ann", "kind", "text", "data")
    assert [(each[0], each[2]) for each in told] == [("error", '{"token":"***"}')] * 2
    assert told[0][1].startswith("connect refused: 3500 invalid token: alg is 'HS256', and no key of ")
    assert told[1][1].startswith("connect refused: 109 token expired: exp has passed; its token names 'ann'; ")
    assert recorded.taps._connecting == {}


async def test_whoever_says_so_does_not_fill_a_recording(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taps, "CLAIMS", 2)
    recorded.watch("user", "ann")
    for _ in range(4):
        await say_refused(recorded.rig.client(), token=recorded.rig.token("ann", key=SECRET[::-1]))
    told = recorded.told("user", "ann", "text")
    assert len(told) == 2
    assert told[1].endswith("no more such refusals are told")


async def test_connects_of_a_user_who_may_not() -> None:
    recorded = await Recorded.open(user_connection_limit=1)
    recorded.watch("user", "ann")
    await recorded.rig.connected("ann")
    recorded.told("user", "ann", "kind")
    await say_refused(recorded.rig.client(), token=recorded.rig.token("ann"))
    [(kind, text, user)] = recorded.told("user", "ann", "kind", "text", "user")
    assert (kind, user) == ("error", "ann")
    assert text.startswith("connect refused: 3504 connection limit; ")


async def test_connects_of_a_user_whom_no_token_names() -> None:
    named: dict[str, Any] = {"user_id_http_header": "x-user", "allow_anonymous_connect_without_token": False}
    recorded = await Recorded.open(user_connection_limit=1, **named)
    recorded.watch("user", "ann")
    await recorded.rig.connected("ann")
    recorded.told("user", "ann", "kind")
    await say_refused(recorded.rig.client(**{"x-user": "ann"}))
    assert recorded.told("user", "ann", "kind", "user") == [("error", "ann")]


async def test_a_connect_that_fails_when_its_user_is_known(recorded: Recorded) -> None:
    """Its end is told, too."""
    recorded.watch("user", "ann")
    client = recorded.rig.client()
    recorded.rig.broker.down()
    await say_refused(client, token=recorded.rig.token("ann", channels=["room:1"]))
    recorded.rig.pass_time(6)
    await recorded.rig.settle()
    told = recorded.told("user", "ann", "kind", "text")
    assert [kind for kind, _ in told] == ["connect", "error", "disconnect", "close"]
    assert told[1][1] == "#1 100 broker unavailable, try again"


async def test_a_user_of_many_connections(recorded: Recorded) -> None:
    clients = [await recorded.rig.connected("ann") for _ in range(CONNECTIONS + 5)]
    recorded.watch("user", "ann")
    later = await recorded.rig.connected("ann")
    told = recorded.told("user", "ann", "kind", "text", "client")
    assert len(recorded.taps._watched) == CONNECTIONS
    assert len(told) == CONNECTIONS + 2
    assert told[-1] == ("connect", f"not recorded: there are {CONNECTIONS} other connections", later.session.client)
    await clients[0].leave()
    await recorded.rig.connected("ann")
    assert recorded.told("user", "ann", "kind") == ["close", "connect", "reply"]


async def test_a_client_that_is_gone_before_anybody_knows_it(recorded: Recorded) -> None:
    recorded.watch("user", "ann")
    client = recorded.rig.client()
    recorded.taps.connecting(client.session, ConnectRequest())
    await client.leave()
    assert recorded.taps._connecting == {}
    recorded.taps.connecting(recorded.rig.client().session, ConnectRequest())
    recorded.stop("user", "ann")
    recorded.assert_nothing_stays()


# — a channel —


async def test_what_happens_in_a_channel(recorded: Recorded) -> None:
    rig = recorded.rig
    recorded.watch("channel", "room:1")
    client = await rig.connected("ann")
    await client.subscribe("room:1")
    tagged = Publication(Payload(b'{"token":1}'), tags={"kind": "x", "api_key": "hidden"})
    await rig.node.publish(rig.node.channels.resolve("room:1"), tagged)
    await rig.node.history(rig.node.channels.resolve("room:1"), HistoryFilter(limit=5))
    await client.ask("unsubscribe", channel="room:1")
    assert recorded.told("channel", "room:1", "kind", "text", "user") == [
        ("watch", "subscribers on this node: 0", ""),
        ("subscribe", "subscribed after offset 0", "ann"),
        (
            "publication",
            'offset 1, 11 bytes, tags {"kind":"x","api_key":"***"}',
            "",
        ),
        ("publish", "accepted, offset 1; nodes that hear it: 1", ""),
        ("history", "1 read, the newest has offset 1", ""),
        ("unsubscribe", "nothing more is delivered", "ann"),
    ]


async def test_what_a_client_publishes_in_a_channel(recorded: Recorded) -> None:
    client = await recorded.rig.connected("ann")
    recorded.watch("channel", "room:1")
    assert await client.ask("publish", channel="room:1", data=1) == {"publish": {}}
    assert recorded.told("channel", "room:1", "kind", "text", "user")[1:] == [
        ("publish", "accepted, offset 1; nodes that hear it: 0", "ann")
    ]


async def test_refusals_in_a_channel(recorded: Recorded) -> None:
    client = await recorded.rig.connected("ann")
    recorded.watch("user", "ann")  # which takes nothing from the other
    recorded.watch("channel", "closed:1")
    await client.refused("subscribe", channel="closed:1")
    await client.refused("subscribe", channel="closed:2")
    await client.refused("publish", channel="closed:1", data={"token": 1})
    assert recorded.told("channel", "closed:1", "kind", "text", "user", "data")[1:] == [
        ("error", "subscribe refused: 103 permission denied", "ann", '{"channel":"closed:1"}'),
        ("error", "publish refused: 103 permission denied", "ann", '{"channel":"closed:1","data":{"token":"***"}}'),
    ]


async def test_a_publish_that_the_broker_does_not_take(recorded: Recorded) -> None:
    client = await recorded.rig.connected("ann")
    recorded.watch("channel", "room:1")
    recorded.rig.broker.down()
    assert (await client.ask("publish", channel="room:1", data=1))["error"]["code"] == 100
    assert recorded.told("channel", "room:1", "kind", "text", "user")[1:] == [
        ("error", "publish failed: 100 broker unavailable, try again", "ann")
    ]


async def test_losses_and_returns_in_a_channel(recorded: Recorded) -> None:
    client = await recorded.rig.connected("ann")
    await client.subscribe("room:1")
    recorded.watch("channel", "room:1")
    position = await recorded.rig.publish("room:1", 1)
    recorded.rig.node.on_publication("room:1", Publication(Payload(b"9"), offset=9, epoch=position.epoch))
    await client.subscribe("room:1", recover=True, offset=1, epoch=position.epoch)
    told = recorded.told("channel", "room:1", "kind", "text")
    assert [text for kind, text in told if kind in ("lost", "subscribe")] == [
        "something is missing before; subscribers who miss it: 1",
        "subscribed after offset 1, had offset 1",
    ]


# — plain sockets —


async def test_a_plain_socket() -> None:
    rig = await SocketRig.open()
    recorded = Recorded(rig)
    recorded.watch("user", "ann")
    client = PlainClient()
    async with rig.sockets.attach(client.websocket, user="ann") as connection:
        await connection.subscribe("room:1")
        await rig.publish("room:1", 1)
        rig.node.hub.flush()
    await rig.settle()
    assert client.heard == ["1"]
    assert recorded.told("user", "ann", "kind", "text") == [
        ("connect", "connected, from plain-text"),
        ("subscribe", "subscribed"),
        ("publication", "offset 1, 1 bytes"),
        ("close", "ended with 3000 connection closed, after 0.0 s"),
    ]
    recorded.stop("user", "ann")
    recorded.assert_nothing_stays()
    await rig.assert_empty()


# — nothing stays —


async def test_a_watch_that_ends_leaves_nothing() -> None:
    recorded = await Recorded.open(ping_interval=0, pong_timeout=0)
    rig = recorded.rig
    client = await rig.connected("ann")
    subjects: list[tuple[What, str]] = [("client", client.session.client), ("user", "ann"), ("channel", "room:1")]
    for subject in subjects:
        recorded.watch(*subject, 10)
    await client.subscribe("room:1")
    recorded.stop(*subjects[0])
    assert type(client.session) is not ClientSession  # for its user
    recorded.told("user", "ann", "kind")
    await client.ask("publish", channel="room:1", data=1)
    assert "command" in recorded.told("user", "ann", "kind")
    rig.pass_time(10 + LINGER + 0.5)
    recorded.assert_nothing_stays()
    await client.ask("publish", channel="room:1", data=2)
    await client.leave()
    await rig.assert_empty()


async def test_a_session_is_not_kept(recorded: Recorded) -> None:
    recorded.watch("user", "ann")
    with nobody_kept():
        client = await recorded.rig.connected("ann")
        await client.subscribe("room:1")
        await client.leave()
        await recorded.rig.settle()
        del client
        await say_refused(recorded.rig.client(), token="none")
        await recorded.rig.settle()
        recorded.rig.pass_time(30)
        await recorded.rig.settle()


async def test_what_was_taken_hold_of_goes_on_afterwards(recorded: Recorded) -> None:
    """The deadline of a ping, and a frame whose commands are amid."""
    rig = recorded.rig
    client = await rig.connected("ann")
    recorded.watch("client", client.session.client)
    gate = rig.broker.gate("subscribe", "room:1")
    work = rig.node._work
    commands = [{"id": 7, "subscribe": {"channel": "room:1"}}, {"id": 8, "presence_stats": {"channel": "any:1"}}]
    frame = b"\n".join(json.dumps(each).encode() for each in commands)
    work.spawn(client.session.receive(frame))
    await gate.reached()
    recorded.stop("client", client.session.client)
    recorded.assert_nothing_stays()
    gate.open()
    await rig.settle()
    assert [each.get("id") for each in client.take()] == [7, 8]
    rig.pass_time(10)
    client.look()
    assert b"{}" in client.transport.frames or {} in client.take()


async def test_an_answer_that_is_waited_for_when_the_watch_ends(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python looks up ``session.answer`` before it waits for what is answered, as a program's for an RPC."""
    client = await recorded.rig.connected("ann")
    recorded.watch("client", client.session.client)
    gate = Gate()

    async def count(_channel: Channel) -> tuple[int, int]:
        await gate.pass_through()
        return 2, 1

    monkeypatch.setattr(recorded.rig.node, "presence_stats", count)
    frame = json.dumps({"id": 7, "presence_stats": {"channel": "any:1"}}).encode()
    recorded.rig.node._work.spawn(client.session.receive(frame))
    await gate.reached()
    recorded.stop("client", client.session.client)
    gate.open()
    await recorded.rig.settle()
    assert client.take() == [{"id": 7, "presence_stats": {"num_clients": 2, "num_users": 1}}]


async def test_a_session_of_another_kind_is_what_it_was(recorded: Recorded) -> None:
    class Special(Session):
        __slots__ = ()

        def disconnect(self, reason: Disconnect) -> None:
            super().disconnect(Disconnect(DisconnectCode.EXPIRED))

    client = await recorded.rig.connected("ann")
    client.session.__class__ = Special  # type: ignore[assignment]
    recorded.watch("client", client.session.client)
    recorded.watch("user", "ann")
    recorded.stop("user", "ann")
    client.session.disconnect(Disconnect(DisconnectCode.STALE))
    assert client.closed == (3005, "connection expired")
    assert recorded.told("client", client.session.client, "text")[-1] == "the gateway closes with 3502 stale"
    recorded.stop("client", client.session.client)
    assert type(client.session).__name__ == "Special"
