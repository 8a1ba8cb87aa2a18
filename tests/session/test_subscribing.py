"""Subscribe, unsubscribe and sub_refresh: the tables of the protocol, one row after another."""

from typing import Any

import pytest

from gateway.errors import BrokerUnavailable
from tests.session.rig import NOW, Client, Rig

OTHER_KEY = "another secret of more than thirty-two bytes, for comparison"
LATE = int(NOW) - 1


async def alice(**settings: Any) -> Client:
    return await (await Rig.open(**settings)).connected("alice")


# — subscribe —

REFUSALS: dict[str, tuple[dict[str, Any], int]] = {
    "too long": ({"channel": "x" * 256}, 107),
    "too long in bytes": ({"channel": "named:" + "é" * 125}, 107),
    "not ASCII": ({"channel": "é"}, 107),
    "against the pattern": ({"channel": "named:ABC"}, 107),
    "unknown namespace": ({"channel": "nope:1"}, 102),
    "not allowed": ({"channel": "closed:1"}, 103),
    "private": ({"channel": "$news"}, 103),
    "for other users": ({"channel": "dm:x#bob,carol"}, 103),
    "another type": ({"channel": "news", "type": 1}, 103),
    "a filter": ({"channel": "news", "tf": {"op": "and"}}, 107),
}


@pytest.mark.parametrize(("request_", "code"), REFUSALS.values(), ids=REFUSALS)
async def test_refusals(request_: dict[str, Any], code: int) -> None:
    client = await alice()
    assert await client.refused("subscribe", **request_) == code
    assert client.session.subscriptions == {}


@pytest.mark.parametrize("request_", [{"channel": ""}, {"channel": "news", "delta": "xdelta"}])
async def test_requests_that_end_the_connection(request_: dict[str, Any]) -> None:
    client = await alice()
    await client.say({"id": 2, "subscribe": request_})
    assert (client.closed, client.take()) == ((3501, "bad request"), [])


@pytest.mark.parametrize("request_", [{"delta": "fossil"}, {"tf": None}, {"flag": 4}, {"flag": 2}, {"data": [1]}])
async def test_what_is_asked_for_in_vain_is_left_out(request_: dict[str, Any]) -> None:
    assert await (await alice()).subscribe("news", **request_) == {}


@pytest.mark.parametrize("channel", ["x" * 255, "named:abc", "users:1", "dm:x#bob,alice", "dm:#alice"])
async def test_channels_that_are_allowed(channel: str) -> None:
    assert await (await alice()).subscribe(channel) == {}


async def test_anonymous_users_need_a_permission_of_their_own() -> None:
    client = await (await Rig.open()).connected()
    assert await client.refused("subscribe", channel="users:1") == 103
    assert await client.refused("subscribe", channel="dm:#") == 103
    assert await client.subscribe("news") == {}


async def test_in_insecure_mode_everybody_may_subscribe() -> None:
    client = await (await Rig.open(insecure=True)).connected()
    assert await client.subscribe("closed:1") == {}


async def test_twice() -> None:
    client = await alice()
    await client.subscribe("room:1")
    assert await client.refused("subscribe", channel="room:1") == 105
    await client.rig.publish("room:1", "once")
    assert client.data() == ["once"]


async def test_the_limit_of_channels() -> None:
    rig = await Rig.open(channel_limit=2)
    client = rig.client()
    await client.connect(token=rig.token(channels=["closed:1"]))
    await client.subscribe("a")
    assert await client.refused("subscribe", channel="b") == 106
    assert await client.refused("subscribe", channel="a") == 105
    await client.ask("unsubscribe", channel="a")
    await client.subscribe("b")


# — subscription tokens —

TOKENS: dict[str, tuple[dict[str, Any], int]] = {
    "forged": ({"key": OTHER_KEY}, 103),
    "expired": ({"ttl": -1}, 109),
    "not yet": ({"nbf": int(NOW) + 9}, 109),
    "of a subscription that is over": ({"expire_at": LATE}, 110),
}


@pytest.mark.parametrize(("claims", "code"), TOKENS.values(), ids=TOKENS)
async def test_tokens_that_are_refused(claims: dict[str, Any], code: int) -> None:
    client = await alice()
    token = client.rig.channel_token("news", **claims)
    assert await client.refused("subscribe", channel="news", token=token) == code


async def test_a_connection_token_does_not_open_a_channel() -> None:
    client = await alice()
    assert await client.refused("subscribe", channel="news", token=client.rig.token()) == 103


@pytest.mark.parametrize("claims", [{"channel": "other"}, {"user": "bob"}, {"user": ""}, {"client": "b2"}])
async def test_tokens_for_something_else_end_the_connection(claims: dict[str, Any]) -> None:
    client = await alice()
    token = client.rig.channel_token(**{"channel": "news"} | claims)
    await client.say({"id": 2, "subscribe": {"channel": "news", "token": token}})
    assert (client.closed, client.take()) == ((3500, "invalid token"), [])


@pytest.mark.parametrize("channel", ["$news", "closed:1", "dm:x#bob", "$closed:1"])
async def test_a_token_opens_any_channel(channel: str) -> None:
    client = await alice()
    token = client.rig.channel_token(channel, client=client.session.client)
    assert await client.subscribe(channel, token=token) == {}


async def test_a_token_for_an_anonymous_user() -> None:
    client = await (await Rig.open()).connected()
    assert await client.subscribe("$news", token=client.rig.channel_token("$news", "")) == {}


async def test_what_a_token_brings_along() -> None:
    client = await alice()
    forced = ("presence", "force_positioning", "join_leave", "force_push_join_leave")
    override = {name: {"value": True} for name in forced}
    claims: dict[str, Any] = {"info": {"seat": 3}, "data": {"topic": "x"}, "override": override}
    result = await client.subscribe("users:1", token=client.rig.channel_token("users:1", **claims))
    epoch = (await client.rig.position("users:1")).epoch
    assert result == {"positioned": True, "epoch": epoch, "data": {"topic": "x"}}
    me = {"user": "alice", "client": client.session.client, "chan_info": {"seat": 3}}
    assert client.take() == [{"channel": "users:1", "join": {"info": me}}]


async def test_a_token_may_switch_off_what_the_channel_forces() -> None:
    client = await alice()
    override = {"force_recovery": {"value": False}}
    assert await client.subscribe("room:1", token=client.rig.channel_token("room:1", override=override)) == {}


# — features —

FEATURES: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "forced recovery": ("room:1", {}, ["positioned", "recoverable"]),
    "forced positioning": ("watched:1", {}, ["positioned"]),
    "positioned, though recoverable is asked for": ("watched:1", {"recoverable": True}, ["positioned"]),
    "nothing asked": ("asked:1", {}, []),
    "positioned on request": ("asked:1", {"positioned": True}, ["positioned"]),
    "recoverable on request": ("asked:1", {"recoverable": True}, ["positioned", "recoverable"]),
    "by access to history": ("any:1", {"recoverable": True}, ["positioned", "recoverable"]),
    "by access to history as a subscriber": ("member:1", {"positioned": True}, ["positioned"]),
    "not granted": ("users:1", {"recoverable": True, "positioned": True}, []),
    "without history": ("news", {"recoverable": True, "positioned": True}, []),
}


@pytest.mark.parametrize(("channel", "request_", "granted"), FEATURES.values(), ids=FEATURES)
async def test_features(channel: str, request_: dict[str, Any], granted: list[str]) -> None:
    result = await (await alice()).subscribe(channel, **request_)
    assert sorted(name for name, value in result.items() if value is True) == granted
    assert ("epoch" in result) == bool(granted)


async def test_the_reply_tells_the_position() -> None:
    client = await alice()
    top = await client.rig.publish("room:1", 1, 2, 3)
    result = await client.subscribe("room:1")
    assert result == {"recoverable": True, "epoch": top.epoch, "offset": 3, "positioned": True}
    await client.rig.publish("room:1", 4)
    assert client.take() == [{"channel": "room:1", "pub": {"data": 4, "offset": 4}}]


async def test_the_first_publication_tells_the_epoch() -> None:
    client = await alice()
    result = await client.subscribe("room:1")
    assert "offset" not in result
    await client.rig.publish("room:1", "first", "second")
    first, second = (push["pub"] for push in client.take())
    assert (first, "epoch" in second) == ({"data": "first", "offset": 1, "epoch": result["epoch"]}, False)


# — joins and leaves —


async def test_joins_and_leaves() -> None:
    rig = await Rig.open()
    ann, bob = await rig.connected("ann"), await rig.connected("bob")
    await ann.say({"id": 5, "subscribe": {"channel": "lobby:1"}})
    info = {"user": "ann", "client": ann.session.client}
    assert ann.take() == [{"id": 5, "subscribe": {}}, {"channel": "lobby:1", "join": {"info": info}}]
    await bob.subscribe("lobby:1")
    other = {"user": "bob", "client": bob.session.client}
    joined = [{"channel": "lobby:1", "join": {"info": other}}]
    assert (ann.take(), bob.take()) == (joined, joined)
    assert await bob.ask("unsubscribe", channel="lobby:1") == {"unsubscribe": {}}
    assert (ann.take(), bob.take()) == ([{"channel": "lobby:1", "leave": {"info": other}}], [])
    await ann.leave()
    assert ann.take() == []


@pytest.mark.parametrize("wanted", [True, False])
async def test_joins_on_request(wanted: bool) -> None:
    client = await alice()
    await client.subscribe("quiet:1", join_leave=wanted)
    other = await client.rig.connected("bob")
    await other.subscribe("quiet:1")
    assert len(client.take()) == (2 if wanted else 0)
    assert other.take() == []


async def test_presence_is_there_before_the_reply() -> None:
    client = await alice()
    await client.say({"id": 2, "subscribe": {"channel": "any:1"}}, {"id": 3, "presence": {"channel": "any:1"}})
    me = {"user": "alice", "client": client.session.client}
    assert client.take()[1] == {"id": 3, "presence": {"presence": {client.session.client: me}}}
    await client.ask("unsubscribe", channel="any:1")
    assert await client.ask("presence", channel="any:1") == {"presence": {"presence": {}}}


@pytest.mark.parametrize("step", ["join", "leave"])
async def test_a_join_or_leave_that_cannot_be_told(step: str) -> None:
    client = await alice()
    client.rig.broker.faults[step] = BrokerUnavailable()
    await client.subscribe("lobby:1")
    assert await client.ask("unsubscribe", channel="lobby:1") == {"unsubscribe": {}}
    client.rig.broker.faults.clear()
    await client.leave()
    await client.rig.assert_empty()


# — unsubscribe —


async def test_unsubscribe() -> None:
    client = await alice()
    for channel in ("news", "room:1", "lobby:1"):
        await client.subscribe(channel)
    client.take()
    for channel in ("news", "room:1", "lobby:1", "never subscribed", "nope:1"):
        assert await client.ask("unsubscribe", channel=channel) == {"unsubscribe": {}}
        if channel != "nope:1":
            await client.rig.publish(channel, 1)
    assert (client.take(), client.session.subscriptions) == ([], {})
    await client.leave()
    await client.rig.assert_empty()


async def test_subscribe_and_unsubscribe_in_one_frame() -> None:
    client = await alice()
    kinds = ["subscribe", "unsubscribe", "subscribe", "unsubscribe", "subscribe"]
    await client.say(*({"id": number, kind: {"channel": "room:1"}} for number, kind in enumerate(kinds, 2)))
    assert [[key for key in each if key != "id"] for each in client.take()] == [[kind] for kind in kinds]
    await client.rig.publish("room:1", "once")
    assert client.data() == ["once"]


async def test_no_push_follows_the_reply_to_unsubscribe() -> None:
    client = await alice()
    await client.subscribe("news")
    await client.rig.publish("news", "in this tick")
    await client.say({"id": 9, "unsubscribe": {"channel": "news"}})
    await client.rig.publish("news", "later")
    messages = client.take()
    assert messages[-1] == {"id": 9, "unsubscribe": {}}
    assert len(messages) <= 2
