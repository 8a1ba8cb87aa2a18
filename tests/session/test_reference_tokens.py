"""Tokens as Centrifugo 6.9 answers them. What is written here it has answered; where we differ stands at the end."""

import json
from base64 import b64encode
from typing import Any

import pytest

from gateway.core.cluster import RefreshUser
from tests.session.rig import NOW, Client, Rig

SOON, PAST = int(NOW) + 600, int(NOW) - 600
OTHER_KEY = "another secret of more than thirty-two bytes, for comparison"
FORGED = {"key": OTHER_KEY}

Claims = dict[str, Any]


def outcome(client: Client, command_id: int) -> str:
    """What a client has been answered, in a few words."""
    if client.closed is not None:
        return f"closed {client.closed[0]}"
    reply = client.reply(command_id)
    if "error" in reply:
        return f"error {reply['error']['code']}"
    (result,) = reply.values()
    return f"{result['ttl']} s" if result.get("expires") else "no end"


async def ask(client: Client, kind: str, **body: Any) -> str:
    await client.say({"id": 99, kind: body})
    return outcome(client, 99)


# — connect —

CONNECTS: dict[str, tuple[Claims, str]] = {
    "nothing": ({}, "no end"),
    "sub: null": ({"sub": None}, "no end"),
    "sub: a number": ({"sub": 42}, "closed 3500"),
    "sub: a list": ({"sub": ["a"]}, "closed 3500"),
    "exp": ({"exp": SOON}, "600 s"),
    "exp: text": ({"exp": str(SOON)}, "600 s"),
    "exp: text with a fraction": ({"exp": f"{SOON}.5"}, "600 s"),
    "exp: text with an exponent": ({"exp": "4e9"}, "31536000 s"),
    "exp: a fraction": ({"exp": SOON + 0.5}, "600 s"),
    "exp: null": ({"exp": None}, "no end"),
    "exp: 0": ({"exp": 0}, "error 109"),
    "exp: negative": ({"exp": -1}, "error 109"),
    "exp: past": ({"exp": PAST}, "error 109"),
    "exp: past, as text": ({"exp": str(PAST)}, "error 109"),
    "exp: no number": ({"exp": "soon"}, "closed 3500"),
    "exp: empty": ({"exp": ""}, "closed 3500"),
    "exp: true": ({"exp": True}, "closed 3500"),
    "nbf: to come": ({"nbf": SOON}, "error 109"),
    "nbf: to come, as text": ({"nbf": str(SOON)}, "error 109"),
    "nbf: past, as text": ({"nbf": str(PAST)}, "no end"),
    "iat: to come": ({"iat": SOON}, "no end"),
    "expire_at: 0": ({"exp": SOON, "expire_at": 0}, "no end"),
    "expire_at": ({"exp": SOON, "expire_at": int(NOW) + 90}, "90 s"),
    "expire_at: past": ({"expire_at": PAST}, "error 110"),
    "expire_at: text": ({"expire_at": str(SOON)}, "closed 3500"),
    "expire_at: null": ({"exp": SOON, "expire_at": None}, "600 s"),
    "aud: a list": ({"aud": ["a"]}, "no end"),
    "aud: a number": ({"aud": 4}, "closed 3500"),
    "iss: a number": ({"iss": 4}, "closed 3500"),
    "info: text": ({"info": "x"}, "no end"),
    "info: null": ({"info": None}, "no end"),
    "b64info: empty": ({"b64info": "", "info": 1}, "no end"),
    "channels": ({"channels": ["news"]}, "no end"),
    "channels: text": ({"channels": "news"}, "closed 3500"),
    "channels: null": ({"channels": None}, "no end"),
    "channels: unknown": ({"channels": ["zz:a"]}, "error 102"),
    "channels: a number": ({"channels": [4]}, "closed 3500"),
    "subs: without options": ({"subs": {"news": None}}, "no end"),
    "subs: a list": ({"subs": ["news"]}, "closed 3500"),
    "subs: unknown": ({"subs": {"zz:a": {}}}, "error 102"),
    "subs: bad b64data": ({"subs": {"a": {"b64data": "!"}}}, "closed 3500"),
    "subs: bad override": ({"subs": {"a": {"override": {"presence": True}}}}, "closed 3500"),
    "subs: an override that nobody knows": ({"subs": {"a": {"override": {"zzz": {"value": True}}}}}, "no end"),
    "subs: override: null": ({"subs": {"a": {"override": None}}}, "no end"),
    "meta": ({"meta": {"a": 1}}, "no end"),
    "meta: null": ({"meta": None}, "no end"),
    "channel": ({"channel": "news"}, "closed 3500"),
    "channel: null": ({"channel": None}, "no end"),
    "forged": (FORGED, "closed 3500"),
    "forged, and past": ({"exp": PAST, **FORGED}, "closed 3500"),
}


@pytest.mark.parametrize(("claims", "expected"), CONNECTS.values(), ids=CONNECTS)
async def test_connection_tokens(claims: Claims, expected: str) -> None:
    rig = await Rig.open()
    assert await ask(rig.client(), "connect", token=rig.token(**claims)) == expected


async def test_of_channels_and_subs_the_latter_count_if_there_are_any() -> None:
    rig = await Rig.open()
    for subs, expected in (({"a": {}}, ["a"]), ({}, ["b"]), (None, ["b"])):
        assert list((await rig.client().connect(token=rig.token(subs=subs, channels=["b"])))["subs"]) == expected


# — subscribe —

SUBSCRIBES: dict[str, tuple[Claims, str]] = {
    "nothing": ({}, "no end"),
    "exp": ({"exp": SOON}, "600 s"),
    "exp: text": ({"exp": str(SOON)}, "600 s"),
    "exp: past": ({"exp": PAST}, "error 109"),
    "nbf: to come": ({"nbf": SOON}, "error 109"),
    "expire_at: 0": ({"exp": SOON, "expire_at": 0}, "no end"),
    "expire_at: past": ({"expire_at": PAST}, "error 110"),
    "another channel": ({"channel": "$b"}, "closed 3500"),
    "no channel": ({"channel": ""}, "error 103"),
    "another user": ({"user": "bob"}, "closed 3500"),
    "sub: null": ({"sub": None}, "closed 3500"),
    "another client": ({"client": "z"}, "closed 3500"),
    "client: empty": ({"client": ""}, "no end"),
    "client: null": ({"client": None}, "no end"),
    "forged": (FORGED, "error 103"),
    "bad b64data": ({"b64data": "!"}, "error 103"),
    "bad b64info": ({"b64info": "!"}, "error 103"),
    "bad override": ({"override": 5}, "error 103"),
    "override": ({"override": {"presence": {"value": False}}}, "no end"),
    "channels, which it has no use for": ({"channels": ["a"]}, "no end"),
}


@pytest.mark.parametrize(("claims", "expected"), SUBSCRIBES.values(), ids=SUBSCRIBES)
async def test_subscription_tokens(claims: Claims, expected: str) -> None:
    client = await (await Rig.open()).connected("alice")
    meant: Claims = {"channel": "$a"}
    token = client.rig.channel_token(**meant | claims)
    assert await ask(client, "subscribe", channel="$a", token=token) == expected


async def test_data_of_a_subscription_token() -> None:
    client = await (await Rig.open()).connected("alice")
    encoded = b64encode(json.dumps({"d": 2}).encode()).decode()
    for channel, claims, data in (
        ("$a", {"data": {"d": 1}}, {"d": 1}),
        ("$b", {"data": 1, "b64data": encoded}, {"d": 2}),
    ):
        result = await client.subscribe(channel, token=client.rig.channel_token(channel, **claims))
        assert result == {"data": data}


# — refresh —

REFRESHED: dict[str, Claims | None] = {
    "alice, until then": {"exp": SOON},
    "alice, without end": {},
    "alice, by expire_at": {"exp": SOON, "expire_at": 0},
    "alice, over": {"expire_at": PAST},
    "alice, in news": {"exp": SOON, "channels": ["news"]},
    "expired": {"exp": PAST},
    "too early": {"nbf": SOON},
    "bob": {"user": "bob", "exp": SOON},
    "bob, expired": {"user": "bob", "exp": PAST},
    "nobody": {"user": "", "exp": SOON},
    "for a channel": {"exp": SOON, "channel": "news"},
    "forged": {"exp": SOON, **FORGED},
    "empty": None,
}
"""Tokens of a refresh."""

ALICE = ("600 s", "no end", "no end", "error 110", "closed 3010")
IN_NEWS = ("closed 3010",) * 4 + ("600 s",)
NOBODY = ("closed 3500",) * 5
BAD = ("closed 3005", "closed 3005", "closed 3500", "closed 3005")
TAIL = ("closed 3500", "closed 3500", "closed 3501")

CONNECTIONS: dict[str, tuple[Claims | None, tuple[str, ...]]] = {
    "with an end": ({"exp": SOON}, (*ALICE, *BAD, "closed 3500", *TAIL)),
    "without end": ({}, (*ALICE, *BAD, "closed 3500", *TAIL)),
    "without end, by expire_at": ({"exp": SOON, "expire_at": 0}, (*ALICE, *BAD, "closed 3500", *TAIL)),
    "in news": ({"exp": SOON, "channels": ["news"]}, (*IN_NEWS, *BAD, "closed 3500", *TAIL)),
    "in news, without end": ({"channels": ["news"]}, (*IN_NEWS, *BAD, "closed 3500", *TAIL)),
    "of nobody": ({"user": ""}, (*NOBODY, *BAD, "600 s", *TAIL)),
    "of nobody, without token": (None, (*NOBODY, *BAD, "600 s", *TAIL)),
}
"""What connections answer to these, in their order."""


@pytest.mark.parametrize(("claims", "expected"), CONNECTIONS.values(), ids=CONNECTIONS)
async def test_refreshes(claims: Claims | None, expected: tuple[str, ...]) -> None:
    rig = await Rig.open()
    found = []
    for refreshed in REFRESHED.values():
        client = rig.client()
        await client.connect(**({} if claims is None else {"token": rig.token(**claims)}))
        found.append(await ask(client, "refresh", token="" if refreshed is None else rig.token(**refreshed)))
    assert dict(zip(REFRESHED, found, strict=True)) == dict(zip(REFRESHED, expected, strict=True))


async def test_a_refresh_without_end_may_be_followed_by_one_with_an_end() -> None:
    rig = await Rig.open()
    client = rig.client()
    await client.connect(token=rig.token(ttl=60))
    assert await ask(client, "refresh", token=rig.token()) == "no end"
    assert await ask(client, "refresh", token=rig.token(exp=SOON)) == "600 s"


SERVER_SIDE: dict[str, tuple[Claims, str]] = {
    "until then": ({"expire_at": SOON}, "600 s"),
    "with info": ({"expire_at": SOON, "info": b"1"}, "600 s"),
    "without end": ({}, "no end"),
    "over": ({"expire_at": PAST}, "closed 3005"),
    "expired": ({"expired": True}, "closed 3005"),
    "expired, until then": ({"expired": True, "expire_at": SOON}, "closed 3005"),
}


@pytest.mark.parametrize(("command", "expected"), SERVER_SIDE.values(), ids=SERVER_SIDE)
@pytest.mark.parametrize("claims", [{"exp": SOON}, {}], ids=["with an end", "without end"])
async def test_refreshes_by_the_server_and_then_by_the_client(claims: Claims, command: Claims, expected: str) -> None:
    rig = await Rig.open()
    client = rig.client()
    await client.connect(token=rig.token(**claims))
    rig.control(RefreshUser(user="alice", **command))
    if client.closed is None:
        [push] = client.take()
        assert push == {"refresh": {"expires": True, "ttl": 600} if expected == "600 s" else {}}
        assert await ask(client, "refresh", token=rig.token(exp=SOON)) == "600 s"
        assert await ask(client, "refresh", token=rig.token()) == "no end"
    else:
        assert f"closed {client.closed[0]}" == expected


# — sub_refresh —

SUB_REFRESHED: dict[str, Claims | None] = {
    "alice, until then": {"exp": SOON},
    "alice, without end": {},
    "alice, by expire_at": {"exp": SOON, "expire_at": 0},
    "alice, over": {"expire_at": PAST},
    "bob": {"user": "bob", "exp": SOON},
    "another channel": {"channel": "$b", "exp": SOON},
    "another client": {"client": "z", "exp": SOON},
    "for no channel": {"channel": "", "exp": SOON},
    "forged": {"exp": SOON, **FORGED},
    "empty": None,
}

RENEWED = ("600 s", "no end", "no end", "error 110", *("closed 3500",) * 5, "error 107")

SUBSCRIPTIONS: dict[str, tuple[Claims | str | None, tuple[str, ...]]] = {
    "with an end": ({"exp": SOON}, RENEWED),
    "without end": ({}, RENEWED),
    "without token": (None, RENEWED),
    "the server's": ("server", ("closed 3501",) * len(SUB_REFRESHED)),
    "none": ("none", ("error 103",) * len(SUB_REFRESHED)),
}


@pytest.mark.parametrize(("claims", "expected"), SUBSCRIPTIONS.values(), ids=SUBSCRIPTIONS)
async def test_sub_refreshes(claims: Claims | str | None, expected: tuple[str, ...]) -> None:
    rig = await Rig.open()
    found = []
    for refreshed in SUB_REFRESHED.values():
        client = rig.client()
        await client.connect(token=rig.token(channels=["a"] if claims == "server" else []))
        if not isinstance(claims, str):
            token = "" if claims is None else rig.channel_token("a", **claims)
            await client.subscribe("a", token=token)
        meant: Claims = {"channel": "a"}
        token = "" if refreshed is None else rig.channel_token(**meant | refreshed)
        found.append(await ask(client, "sub_refresh", channel="a", token=token))
    assert dict(zip(SUB_REFRESHED, found, strict=True)) == dict(zip(SUB_REFRESHED, expected, strict=True))


# — where we differ, and why —

DIFFERENT: dict[str, tuple[Claims, str]] = {
    # those are answered as any other broken token is; there by error 100, after which SDKs come back with the same
    "bad b64info": ({"b64info": "!"}, "closed 3500"),
    # for ever, there
    "expire_at: negative": ({"expire_at": -5}, "closed 3500"),
    # as no token can be both, there as well; an empty one is let pass there
    "channel: empty": ({"channel": ""}, "closed 3500"),
    "meta: no object": ({"meta": 5}, "closed 3500"),
    # accepted here, since nothing depends on them, or since what they mean is clear; there 3500
    "iat: no number": ({"iat": "x"}, "no end"),
    "jti: a number": ({"jti": 5}, "no end"),
    "aud: null": ({"aud": None}, "no end"),
    "expire_at: a fraction": ({"expire_at": SOON + 0.5}, "600 s"),
}


@pytest.mark.parametrize(("claims", "expected"), DIFFERENT.values(), ids=DIFFERENT)
async def test_connection_tokens_that_are_taken_otherwise(claims: Claims, expected: str) -> None:
    rig = await Rig.open()
    assert await ask(rig.client(), "connect", token=rig.token(**claims)) == expected


@pytest.mark.parametrize("claims", [{"exp": PAST}, {"nbf": SOON}])
async def test_a_sub_refresh_by_an_expired_token_takes_nobodys_end_away(claims: Claims) -> None:
    """There it does: the subscription has no end any more."""
    client = await (await Rig.open()).connected("alice")
    await client.subscribe("a", token=client.rig.channel_token("a", exp=SOON))
    token = client.rig.channel_token("a", **claims)
    assert await ask(client, "sub_refresh", channel="a", token=token) == "error 109"
    assert [each["unsubscribe"]["code"] for each in client.take()] == [2501]


async def test_a_sub_refresh_names_its_channel_by_the_token() -> None:
    """There it ends the connection, as centrifuge-python finds."""
    client = await (await Rig.open()).connected("alice")
    await client.subscribe("a", token=client.rig.channel_token("a", exp=SOON))
    assert await ask(client, "sub_refresh", token=client.rig.channel_token("a", exp=SOON)) == "600 s"


async def test_a_refresh_for_channels_that_there_are_not_has_the_client_connect_anew() -> None:
    """Where it then hears of them (102), which there answers the refresh."""
    rig = await Rig.open()
    client = await rig.connected("alice")
    assert await ask(client, "refresh", token=rig.token(channels=["zz:a"])) == "closed 3010"
