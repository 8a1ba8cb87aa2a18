"""Connect: who is let in, with which subscriptions, and until when."""

import asyncio
import uuid
from typing import Any

import pytest

from gateway import __version__
from gateway.errors import BrokerUnavailable
from gateway.messages import Payload
from gateway.session import State
from tests.session.rig import NOW, Rig

OTHER_KEY = "another secret of more than thirty-two bytes, for comparison"
TOKENS_ONLY: dict[str, Any] = {"allow_anonymous_connect_without_token": False}


# — who is let in —


async def test_the_result_of_connect() -> None:
    rig = await Rig.open()
    clients = [rig.client(), rig.client()]
    results = [await each.connect() for each in clients]
    for client, result in zip(clients, results, strict=True):
        assert uuid.UUID(result.pop("client")).version == 4
        assert result == {"version": __version__, "ping": 25, "pong": True}
        assert client.session.state is State.CONNECTED
    assert clients[0].session.client != clients[1].session.client


async def test_the_time_of_the_server_and_a_greeting() -> None:
    rig = await Rig.open(connect_include_server_time=True)
    rig.node.greeting = Payload(b'{"hello":\n"world"}')
    result = await rig.client().connect()
    assert (result["time"], result["data"]) == (int(NOW * 1000), {"hello": "world"})


async def test_a_token_tells_the_user() -> None:
    rig = await Rig.open()
    client = rig.client()
    await client.connect(token=rig.token("alice", info={"name": "Alice"}))
    assert (client.session.user, client.session.info) == ("alice", b'{"name":"Alice"}')
    assert [each.client for each in rig.node.hub.of_user("alice")] == [client.session.client]


async def test_without_token_nobody_is_let_in() -> None:
    client = (await Rig.open(**TOKENS_ONLY)).client()
    await client.say({"id": 1, "connect": {}})
    assert (client.closed, client.take()) == ((3501, "bad request"), [])


@pytest.mark.parametrize(
    ("settings", "user"),
    [
        ({"allow_anonymous_connect_without_token": True}, ""),
        (TOKENS_ONLY | {"insecure": True}, ""),
        (TOKENS_ONLY | {"user_id_http_header": "X-User-Id"}, "alice"),
        ({"allow_anonymous_connect_without_token": True, "user_id_http_header": "X-User-Id"}, ""),
    ],
)
async def test_clients_without_token(settings: dict[str, Any], user: str) -> None:
    rig = await Rig.open(**settings)
    client = rig.client(**{"x-user-id": "alice"})
    await client.connect()
    assert client.session.user == user


@pytest.mark.parametrize("headers", [{}, {"x-user-id": ""}])
async def test_a_trusted_header_that_names_nobody(headers: dict[str, str]) -> None:
    client = (await Rig.open(**TOKENS_ONLY, user_id_http_header="X-User-Id")).client(**headers)
    await client.say({"id": 1, "connect": {}})
    assert client.closed == (3501, "bad request")


INVALID: dict[str, dict[str, Any]] = {
    "forged": {"key": OTHER_KEY},
    "for a channel": {"channel": "news"},
    "wrong audience": {"aud": "others"},
    "forged and expired": {"key": OTHER_KEY, "ttl": -10},
}


@pytest.mark.parametrize("claims", INVALID.values(), ids=INVALID)
async def test_invalid_tokens(claims: dict[str, Any]) -> None:
    rig = await Rig.open(
        token={"hmac_secret_key": "a secret of more than thirty-two bytes, as all should be", "audience": "us"}
    )
    client = rig.client()
    await client.say({"id": 1, "connect": {"token": rig.token(**{"aud": "us"} | claims)}})
    assert (client.closed, client.take()) == ((3500, "invalid token"), [])
    await rig.client().connect(token=rig.token(aud="us"))


async def test_what_is_not_even_a_token() -> None:
    client = (await Rig.open()).client()
    await client.say({"id": 1, "connect": {"token": "x"}})
    assert (client.closed, client.take()) == ((3500, "invalid token"), [])


LATE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "exp": ({"ttl": -1}, {"code": 109, "message": "token expired"}),
    "nbf": ({"nbf": int(NOW) + 5}, {"code": 109, "message": "token expired"}),
    "expire_at": ({"expire_at": int(NOW) - 1}, {"code": 110, "message": "expired"}),
    "expire_at now": ({"expire_at": int(NOW)}, {"code": 110, "message": "expired"}),
    "unknown namespace": ({"channels": ["nope:1"]}, {"code": 102, "message": "unknown channel"}),
    "unknown namespace in subs": ({"subs": {"nope:1": {}}}, {"code": 102, "message": "unknown channel"}),
    "no name": ({"channels": [""]}, {"code": 107, "message": "bad request"}),
}


@pytest.mark.parametrize(("claims", "error"), LATE.values(), ids=LATE)
async def test_tokens_answered_by_an_error(claims: dict[str, Any], error: dict[str, Any]) -> None:
    rig = await Rig.open()
    client = rig.client()
    assert await client.ask("connect", token=rig.token(**claims)) == {"error": error}
    assert (client.closed, client.session.state) == (None, State.REFUSED)
    await client.leave()
    await rig.assert_empty()


@pytest.mark.parametrize("allowed", [True, False])
async def test_tokens_without_user(allowed: bool) -> None:
    rig = await Rig.open(disallow_anonymous_connection_tokens=not allowed)
    client = rig.client()
    await client.say({"id": 1, "connect": {"token": rig.token("")}})
    assert client.closed == (None if allowed else (3507, "permission denied"))


async def test_the_limit_of_connections_of_a_user() -> None:
    rig = await Rig.open(user_connection_limit=2)
    first = await rig.connected("alice")
    await rig.connected("alice")
    late = rig.client()
    await late.say({"id": 1, "connect": {"token": rig.token("alice")}})
    assert (late.closed, late.take()) == ((3504, "connection limit"), [])
    await late.leave()
    for _ in range(3):
        await rig.connected()  # anonymous users are not one user
    await rig.connected("bob")
    await first.leave()
    await rig.connected("alice")


# — subscriptions that come with connect —


async def test_channels_of_a_token() -> None:
    rig = await Rig.open()
    client = rig.client()
    await rig.publish("room:1", "before")
    result = await client.connect(token=rig.token(channels=["closed:1", "$closed:2", "room:1"]))
    epoch = (await rig.position("room:1")).epoch
    assert result["subs"] == {
        "closed:1": {},
        "$closed:2": {},
        "room:1": {"recoverable": True, "epoch": epoch, "offset": 1, "positioned": True},
    }
    client.take()
    await rig.publish("closed:1", "hello")
    await rig.publish("room:1", "after")
    assert client.data() == ["hello", "after"]
    await client.leave()
    await rig.assert_empty()


async def test_options_of_a_tokens_subscription() -> None:
    rig = await Rig.open()
    override = {name: {"value": True} for name in ("presence", "join_leave", "force_push_join_leave", "force_recovery")}
    options = {"info": {"seat": 3}, "data": {"topic": "x"}, "override": override}
    client = rig.client()
    result = await client.connect(
        token=rig.token(info=[1], subs={"users:1": options, "closed:1": None}, channels=["c"])
    )
    assert sorted(result["subs"]) == ["closed:1", "users:1"]
    assert result["subs"]["users:1"]["data"] == {"topic": "x"}
    assert result["subs"]["users:1"]["recoverable"] is True
    me = {"user": "alice", "client": client.session.client, "conn_info": [1], "chan_info": {"seat": 3}}
    assert client.take() == [{"channel": "users:1", "join": {"info": me}}]
    assert (await rig.presence.members("users:1")).keys() == {client.session.client}


async def test_own_join_comes_after_the_reply_to_connect() -> None:
    rig = await Rig.open()
    client = rig.client()
    await client.say({"id": 1, "connect": {"token": rig.token(channels=["lobby:1", "quiet:1"])}})
    reply, join = client.take()
    assert (reply["id"], join["channel"], list(join)) == (1, "lobby:1", ["channel", "join"])


async def test_recovery_in_connect() -> None:
    rig = await Rig.open()
    top = await rig.publish("room:1", 1, 2, 3)
    subs = {
        "room:1": {"recover": True, "offset": 1, "epoch": top.epoch},
        "room:2": {"recover": True, "offset": 1, "epoch": "gone"},
    }
    result = await rig.client().connect(token=rig.token(channels=["room:1", "room:2", "news"]), subs=subs)
    assert result["subs"]["room:1"] == {
        "recoverable": True,
        "epoch": top.epoch,
        "publications": [{"data": 2, "offset": 2}, {"data": 3, "offset": 3}],
        "recovered": True,
        "offset": 1,
        "positioned": True,
        "was_recovering": True,
    }
    second = result["subs"]["room:2"]
    assert (second.get("recovered"), second["was_recovering"]) == (None, True)
    assert rig.node.metrics.recoveries == {True: 1, False: 1}
    size = rig.node.metrics.recovery_size
    assert (sum(size.counts), size.total) == (1, 2.0)


async def test_channels_asked_for_in_connect() -> None:
    rig = await Rig.open()
    wanted = ["news", "room:1", "$news", "closed:1", "users:1", "dm:x#7", "dm:x#8", "named:ABC", "é", ""]
    result = await rig.client().connect(token=rig.token("7"), subs={name: {} for name in wanted})
    assert sorted(result["subs"]) == ["dm:x#7", "news", "room:1", "users:1"]
    anonymous = await rig.client().connect(subs={name: {} for name in wanted})
    assert sorted(anonymous["subs"]) == ["news", "room:1"]


async def test_in_insecure_mode_most_channels_may_be_asked_for() -> None:
    rig = await Rig.open(insecure=True)
    result = await rig.client().connect(subs={name: {} for name in ("closed:1", "$news", "dm:x#8")})
    assert sorted(result["subs"]) == ["closed:1"]


async def test_an_unknown_namespace_asked_for_in_connect() -> None:
    client = (await Rig.open()).client()
    await client.say({"id": 1, "connect": {"subs": {"nope:1": {}}}})
    assert (client.closed, client.take()) == ((3501, "bad request"), [])


async def test_a_channel_named_twice_is_made_once() -> None:
    rig = await Rig.open()
    client = rig.client()
    result = await client.connect(token=rig.token(subs={"news": {"data": 1}}), subs={"news": {}})
    assert result["subs"] == {"news": {"data": 1}}
    client.take()
    await rig.publish("news", "once")
    assert client.data() == ["once"]


async def test_too_many_channels_in_connect() -> None:
    rig = await Rig.open(channel_limit=2)
    client = rig.client()
    await client.say({"id": 1, "connect": {"token": rig.token(channels=["a", "b"]), "subs": {"c": {}}}})
    assert (client.closed, client.take()) == ((3505, "channel limit"), [])
    await client.leave()
    await rig.assert_empty()


@pytest.mark.parametrize(("namespace", "channel"), [("", "#alice"), ("lobby", "lobby:#alice")])
async def test_personal_channels(namespace: str, channel: str) -> None:
    personal = {"enabled": True, "personal_channel_namespace": namespace}
    rig = await Rig.open(subscribe_to_user_personal_channel=personal)
    client = rig.client()
    assert (await client.connect(token=rig.token("alice")))["subs"] == {channel: {}}
    assert "subs" not in await rig.client().connect()


@pytest.mark.parametrize("single", [True, False])
async def test_a_single_connection_for_each_user(single: bool) -> None:
    personal = {"enabled": True, "personal_channel_namespace": "lobby", "single_connection": single}
    rig = await Rig.open(subscribe_to_user_personal_channel=personal)
    clients = []
    for user in ("alice", "bob", "", "", "alice"):
        clients.append(await rig.connected(user))
        rig.pass_time(0.1)
    expected = (3504, "connection limit") if single else None
    assert [each.closed for each in clients] == [expected, None, None, None, None]


async def test_a_single_connection_while_the_broker_is_away() -> None:
    """The others on this node go; those elsewhere cannot be told. The client has its reply and stays."""
    personal = {"enabled": True, "personal_channel_namespace": "lobby", "single_connection": True}
    rig = await Rig.open(subscribe_to_user_personal_channel=personal)
    first = await rig.connected("alice")
    rig.broker.faults["control"] = BrokerUnavailable()
    rig.pass_time(0.1)
    second = await rig.connected("alice")
    assert (first.closed, second.closed) == ((3504, "connection limit"), None)


async def test_its_time_is_measured() -> None:
    rig = await Rig.open()
    gate = rig.broker.gate("subscribe", "room:a")
    client = rig.client()
    connecting = asyncio.create_task(client.connect(token=rig.token(channels=["room:a"])))
    await gate.reached()
    rig.pass_time(0.5)
    gate.open()
    await connecting
    found = rig.node.metrics.connect_time
    assert (sum(found.counts), round(found.total, 3)) == (1, 0.5)
