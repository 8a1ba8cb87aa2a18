"""What each claim of a token does that is more than to be checked.

Source: Centrifuge protocol, "JWT". How claims are read stands in tests/auth/test_tokens.py, how they are answered in
test_reference_tokens.py.
"""

from base64 import b64encode
from typing import Any

import pytest

from gateway.channels import Channel
from gateway.protocols.base import Wire
from gateway.protocols.centrifuge_protobuf import CentrifugeProtobuf
from gateway.protocols.protobuf import delimited
from tests.protocols.google import google, messages
from tests.session.rig import NOW, Client, Rig

FLAGS = ("presence", "join_leave", "force_push_join_leave", "force_recovery", "force_positioning")
EVERYTHING = {
    "name": "all",
    "history_size": 10,
    "history_ttl": 60,
    **dict.fromkeys(FLAGS, True),
}
NOTHING = {"name": "none", "history_size": 10, "history_ttl": 60}


def base64(text: str) -> str:
    return b64encode(text.encode()).decode()


async def opened(**client: Any) -> Rig:
    return await Rig.open(channel={"namespaces": [EVERYTHING, NOTHING]}, **client)


async def present(rig: Rig, channel: str) -> list[tuple[Any, Any]]:
    members = await rig.presence.members(channel)
    return [(member.conn_info, member.chan_info) for member in members.values()]


# — of a connection —


async def test_sub_names_the_user() -> None:
    rig = await opened()
    client = rig.client()
    await client.connect(token=rig.token("alice"))
    assert list(rig.node.hub.of_user("alice")) == [client.session]


@pytest.mark.parametrize(("uid", "user"), [("bob", "bob"), (42, "42"), (None, "")])
async def test_user_id_claim_names_it_instead(uid: object, user: str) -> None:
    rig = await opened(token={"hmac_secret_key": "a secret of more than thirty-two bytes", "user_id_claim": "uid"})
    client = rig.client()
    await client.connect(token=rig.token("alice", key="a secret of more than thirty-two bytes", uid=uid))
    assert client.session.user == user


@pytest.mark.parametrize(
    ("claims", "shown"),
    [
        ({"info": {"a": 1}}, b'{"a":1}'),
        ({"b64info": base64('{"b":2}')}, b'{"b":2}'),
        ({"info": 1, "b64info": base64("2")}, b"2"),
        ({}, None),
    ],
)
async def test_info_is_shown_to_others(claims: dict[str, Any], shown: bytes | None) -> None:
    rig = await opened()
    client = rig.client()
    await client.connect(token=rig.token(channels=["all:1"], **claims))
    assert await present(rig, "all:1") == [(shown, None)]


async def test_meta_is_shown_to_nobody() -> None:
    rig = await opened()
    client = rig.client()
    await client.say({"id": 1, "connect": {"token": rig.token(channels=["all:1"], meta={"plan": "secret"})}})
    assert len(told := client.take()) == 2, "its reply, and its own join"
    assert "secret" not in str(told)
    assert await present(rig, "all:1") == [(None, None)]


async def test_channels_are_subscribed_by_the_server() -> None:
    rig = await opened()
    result = await rig.client().connect(token=rig.token(channels=["none:1", "$private", "news"]))
    assert list(result["subs"]) == ["none:1", "$private", "news"]


async def test_info_and_data_of_subs() -> None:
    rig = await opened()
    plain = {"info": {"seat": 1}, "data": {"topic": "x"}}
    encoded = {"b64info": base64('{"seat":2}'), "b64data": base64('{"topic":"y"}')}
    result = await rig.client().connect(token=rig.token(subs={"all:1": plain, "all:2": plain | encoded}))
    assert [result["subs"][name]["data"] for name in ("all:1", "all:2")] == [{"topic": "x"}, {"topic": "y"}]
    assert await present(rig, "all:1") == [(None, b'{"seat":1}')]
    assert await present(rig, "all:2") == [(None, b'{"seat":2}')]


async def test_exp_and_expire_at_are_its_end() -> None:
    ends: list[tuple[dict[str, Any], int]] = [({"exp": NOW + 60}, 60), ({"exp": NOW + 60, "expire_at": NOW + 9}, 9)]
    for claims, seconds in ends:
        rig = await opened(ping_interval=0, pong_timeout=0, expired_close_delay=0)
        client = rig.client()
        await client.connect(token=rig.token(**claims))
        rig.pass_time(seconds - 1)
        assert client.closed is None
        rig.pass_time(2)
        assert client.closed == (3005, "connection expired")


# — of a subscription —


async def test_client_ties_a_token_to_one_connection() -> None:
    rig = await opened()
    client, other = await rig.connected("alice"), await rig.connected("alice")
    token = rig.channel_token("$a", client=client.session.client)
    assert await client.subscribe("$a", token=token) == {}
    await other.say({"id": 9, "subscribe": {"channel": "$a", "token": token}})
    assert other.closed == (3500, "invalid token")


async def test_info_and_data_of_a_subscription_token() -> None:
    rig = await opened()
    client = await rig.connected("alice")
    encoded: dict[str, Any] = {"b64info": base64('{"seat":2}'), "b64data": base64('{"topic":"y"}')}
    result = await client.subscribe("all:1", token=rig.channel_token("all:1", info=1, data=1, **encoded))
    assert result["data"] == {"topic": "y"}
    assert await present(rig, "all:1") == [(None, b'{"seat":2}')]


# — overrides, of both —


# — what is no JSON —

BINARY = b"\x00\xff"


async def test_binary_info_and_data_are_for_protobuf_clients() -> None:
    rig = await opened()
    ann = await rig.connected(token=rig.token("ann", channels=["all:x"]))
    ann.take()
    encoded = b64encode(BINARY).decode()
    token = rig.token("bob", b64info=encoded, subs={"all:x": {"b64info": encoded, "b64data": encoded}})
    json_of, rig.wire = rig.wire, Wire(CentrifugeProtobuf(), bytes)
    bob = rig.client()
    await bob.session.receive(delimited(google("Command")(id=1, connect={"token": token}).SerializeToString()))
    rig.node.hub.flush()
    reply, push = [google("Reply").FromString(each) for frame in bob.transport.frames for each in messages(frame)]
    assert reply.connect.subs["all:x"].data == BINARY
    assert (push.push.join.info.conn_info, push.push.join.info.chan_info) == (BINARY, BINARY)
    shown = {"user": "bob", "client": bob.session.client, "conn_info": None, "chan_info": None}
    assert ann.take() == [{"channel": "all:x", "join": {"info": shown}}]
    rig.wire = json_of
    carol = rig.client()
    await carol.say({"id": 1, "connect": {"token": rig.token("carol", subs={"all:x": {"b64data": encoded}})}})
    assert carol.closed == (3506, "inappropriate protocol")
    dave = await rig.connected("dave")
    token = rig.channel_token("all:y", "dave", b64info=encoded)
    assert "data" not in await dave.subscribe("all:y", token=token)
    await dave.say(
        {"id": 9, "subscribe": {"channel": "all:z", "token": rig.channel_token("all:z", "dave", b64data=encoded)}}
    )
    assert dave.closed == (3506, "inappropriate protocol")


async def granted(rig: Rig, channel: str, override: dict[str, Any], *, by_connect: bool) -> Client:
    if by_connect:
        client = rig.client()
        await client.connect(token=rig.token(subs={channel: {"override": override}}))
    else:
        client = await rig.connected("alice")
        await client.subscribe(channel, token=rig.channel_token(channel, override=override))
    return client


@pytest.mark.parametrize("by_connect", [True, False], ids=["connect", "subscribe"])
@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize(("channel", "value"), [("all:1", False), ("none:1", True)])
async def test_an_override_changes_one_option_and_no_other(
    flag: str, channel: str, value: bool, by_connect: bool
) -> None:
    rig = await opened()
    client = await granted(rig, channel, {flag: {"value": value}}, by_connect=by_connect)
    options = client.session.subscriptions[channel].options
    assert {name: getattr(options, name) for name in FLAGS} == dict.fromkeys(FLAGS, not value) | {flag: value}
    resolved: Channel = rig.node.channels.resolve(channel)
    assert {getattr(resolved.options, name) for name in FLAGS} == {not value}, "others have what the channel has"


@pytest.mark.parametrize("by_connect", [True, False], ids=["connect", "subscribe"])
async def test_an_override_that_says_nothing_changes_nothing(by_connect: bool) -> None:
    rig = await opened()
    client = await granted(rig, "all:1", dict.fromkeys(FLAGS), by_connect=by_connect)
    subscription = client.session.subscriptions["all:1"]
    assert subscription.options is rig.node.channels.resolve("all:1").options
