"""Until when connections and subscriptions last, and how clients make that longer."""

from typing import Any

import pytest

from gateway import __version__
from gateway.core.cluster import RefreshUser
from gateway.messages import Payload
from tests.session.rig import NOW, Client, Rig

OTHER_KEY = "another secret of more than thirty-two bytes, for comparison"
LATE = int(NOW) - 1


async def alice(**settings: Any) -> Client:
    return await (await Rig.open(**settings)).connected("alice")


# — connections —


async def test_connections_that_expire() -> None:
    rig = await Rig.open(ping_interval=0, pong_timeout=0)
    client = rig.client()
    result = await client.connect(token=rig.token(ttl=60))
    assert (result["expires"], result["ttl"]) == (True, 60)
    rig.pass_time(84.8)
    assert client.closed is None
    rig.pass_time(0.5)
    assert client.closed == (3005, "connection expired")


@pytest.mark.parametrize(
    ("claims", "ttl"),
    [
        ({}, None),
        ({"ttl": 60, "expire_at": 0}, None),
        ({"ttl": 60, "expire_at": int(NOW) + 7}, 7),
        ({"ttl": 1}, 1),
        ({"ttl": 400 * 86400}, 365 * 86400),
    ],
)
async def test_the_ttl_of_a_connection(claims: dict[str, Any], ttl: int | None) -> None:
    rig = await Rig.open()
    token = rig.token(**claims)
    rig.pass_time(0.5 if claims.get("ttl") == 1 else 0)
    result = await rig.client().connect(token=token)
    assert (result.get("expires"), result.get("ttl")) == ((True, ttl) if ttl else (None, None))


async def test_insecure_connections_do_not_expire() -> None:
    rig = await Rig.open(insecure=True, ping_interval=0, pong_timeout=0)
    client = rig.client()
    assert "expires" not in await client.connect(token=rig.token(ttl=10))
    rig.pass_time(60)
    assert client.closed is None


async def expiring(user: str = "alice", **claims: Any) -> tuple[Rig, Client]:
    rig = await Rig.open(ping_interval=0, pong_timeout=0)
    client = rig.client()
    await client.connect(token=rig.token(user, ttl=60, **claims))
    return rig, client


async def test_refresh() -> None:
    rig, client = await expiring(info={"old": 1}, channels=["news"])
    rig.pass_time(70)
    reply = await client.ask("refresh", token=rig.token(ttl=100, info={"new": 1}, channels=["news"]))
    expected = {"client": client.session.client, "version": __version__, "expires": True, "ttl": 100}
    assert reply == {"refresh": expected}
    assert client.session.info == b'{"new":1}'
    await client.ask("refresh", token=rig.token(ttl=50, channels=["news"]))
    assert client.session.info == b'{"new":1}'
    rig.pass_time(74.5)
    assert client.closed is None
    rig.pass_time(1)
    assert client.closed == (3005, "connection expired")


async def test_a_refresh_may_end_the_expiry() -> None:
    rig, client = await expiring()
    reply = await client.ask("refresh", token=rig.token(ttl=100, expire_at=0))
    assert reply == {"refresh": {"client": client.session.client, "version": __version__}}
    rig.pass_time(200)
    assert client.closed is None


REFRESHES: dict[str, tuple[dict[str, Any] | None, tuple[int, str]]] = {
    "empty": (None, (3501, "bad request")),
    "forged": ({"key": OTHER_KEY}, (3500, "invalid token")),
    "for a channel": ({"channel": "news"}, (3500, "invalid token")),
    "of another user": ({"user": "bob"}, (3500, "invalid token")),
    "expired": ({"ttl": -1}, (3005, "connection expired")),
    "other channels": ({"ttl": 60, "channels": ["news"]}, (3010, "insufficient state")),
}


@pytest.mark.parametrize(("claims", "closed"), REFRESHES.values(), ids=REFRESHES)
async def test_refreshes_that_end_the_connection(claims: dict[str, Any] | None, closed: tuple[int, str]) -> None:
    rig, client = await expiring()
    await client.say({"id": 2, "refresh": {} if claims is None else {"token": rig.token(**claims)}})
    assert client.closed == closed
    assert [each for each in client.take() if each.get("id") == 2] == []


async def test_a_refresh_with_a_connection_that_is_over() -> None:
    rig, client = await expiring()
    reply = await client.ask("refresh", token=rig.token(ttl=60, expire_at=int(NOW) - 1))
    assert reply == {"error": {"code": 110, "message": "expired"}}
    assert client.closed is None


async def test_a_refresh_gives_an_end_to_a_connection_that_had_none() -> None:
    rig = await Rig.open(ping_interval=0, pong_timeout=0)
    client = await rig.connected("alice")
    reply = await client.ask("refresh", token=rig.token(ttl=60))
    assert (reply["refresh"]["expires"], reply["refresh"]["ttl"]) == (True, 60)
    rig.pass_time(86)
    assert client.closed == (3005, "connection expired")


async def test_refresh_by_the_server() -> None:
    rig, client = await expiring()
    client.take()
    rig.control(RefreshUser(user="alice", expire_at=int(NOW) + 500, info=Payload(b"1")))
    assert (client.take(), client.session.info) == ([{"refresh": {"expires": True, "ttl": 500}}], b"1")
    rig.pass_time(100)
    rig.control(RefreshUser(user="alice"))
    assert (client.take(), client.session.info) == ([{"refresh": {}}], b"1")
    rig.pass_time(600)
    assert client.closed is None


@pytest.mark.parametrize("command", [{"expired": True}, {"expire_at": int(NOW) - 1}])
async def test_expiry_by_the_server(command: dict[str, Any]) -> None:
    rig, client = await expiring()
    rig.control(RefreshUser(user="alice", **command))
    assert client.closed == (3005, "connection expired")


# — subscriptions —


async def subscribed(channel: str = "$news", **claims: Any) -> Client:
    client = await alice(ping_interval=0, pong_timeout=0)
    result = await client.subscribe(channel, token=client.rig.channel_token(channel, **{"ttl": 60} | claims))
    assert (result["expires"], result["ttl"]) == (True, 60)
    return client


@pytest.mark.parametrize("claims", [{}, {"ttl": 60, "expire_at": 0}])
async def test_subscriptions_that_do_not_expire(claims: dict[str, Any]) -> None:
    client = await alice(ping_interval=0, pong_timeout=0)
    assert await client.subscribe("$news", token=client.rig.channel_token("$news", **claims)) == {}
    client.rig.pass_time(100)
    assert client.take() == []


async def test_an_expired_subscription_ends() -> None:
    client = await subscribed("$lobby:1")
    client.take()
    client.rig.pass_time(84.8)
    assert client.take() == []
    client.rig.pass_time(0.5)
    gone = {"code": 2501, "reason": "subscription expired"}
    assert client.take() == [{"channel": "$lobby:1", "unsubscribe": gone}]
    await client.rig.settle()
    await client.rig.publish("$lobby:1", 1)
    assert (client.take(), client.closed) == ([], None)
    await client.subscribe("$lobby:1", token=client.rig.channel_token("$lobby:1"))
    await client.leave()
    await client.rig.assert_empty()


async def test_sub_refresh() -> None:
    client = await subscribed(info=1)
    client.rig.pass_time(70)
    token = client.rig.channel_token("$news", ttl=100, info={"new": 1})
    reply = await client.ask("sub_refresh", channel="$news", token=token)
    assert reply == {"sub_refresh": {"expires": True, "ttl": 100}}
    assert client.session.subscriptions["$news"].info.chan_info == b'{"new":1}'
    client.rig.pass_time(124.5)
    assert client.take() == []
    client.rig.pass_time(1)
    assert client.take()[0]["unsubscribe"]["code"] == 2501


async def test_sub_refresh_does_not_rewrite_the_past() -> None:
    client = await alice()
    await client.subscribe("any:1", token=client.rig.channel_token("any:1", ttl=60, info="before"))
    await client.ask("publish", channel="any:1", data=1)
    await client.ask("sub_refresh", token=client.rig.channel_token("any:1", ttl=60, info="after"))
    await client.ask("publish", channel="any:1", data=2)
    history = (await client.ask("history", channel="any:1", limit=-1))["history"]
    assert [each["info"]["chan_info"] for each in history["publications"]] == ["before", "after"]
    present = (await client.ask("presence", channel="any:1"))["presence"]["presence"]
    assert [info["chan_info"] for info in present.values()] == ["after"]


async def test_sub_refresh_with_the_token_only() -> None:
    client = await subscribed()
    token = client.rig.channel_token("$news", ttl=600)
    assert await client.ask("sub_refresh", token=token) == {"sub_refresh": {"expires": True, "ttl": 600}}


async def test_sub_refresh_may_end_the_expiry() -> None:
    client = await subscribed(info=1)
    token = client.rig.channel_token("$news", ttl=600, expire_at=0)
    assert await client.ask("sub_refresh", channel="$news", token=token) == {"sub_refresh": {}}
    assert client.session.subscriptions["$news"].info.chan_info == b"1"
    client.rig.pass_time(200)
    assert client.take() == []


@pytest.mark.parametrize("with_channel", [True, False])
async def test_sub_refresh_without_subscription(with_channel: bool) -> None:
    client = await alice()
    request = {"channel": "news"} if with_channel else {}
    assert await client.refused("sub_refresh", token=client.rig.channel_token("news"), **request) == 103


SUB_REFRESHES: dict[str, tuple[dict[str, Any] | None, int]] = {
    "no token": (None, 107),
    "of a subscription that is over": ({"expire_at": LATE}, 110),
}


@pytest.mark.parametrize(("claims", "code"), SUB_REFRESHES.values(), ids=SUB_REFRESHES)
async def test_sub_refreshes_answered_by_an_error(claims: dict[str, Any] | None, code: int) -> None:
    client = await subscribed()
    request = {} if claims is None else {"token": client.rig.channel_token("$news", **claims)}
    assert await client.refused("sub_refresh", channel="$news", **request) == code
    client.rig.pass_time(86)
    assert client.take()[0]["unsubscribe"]["code"] == 2501  # the expiry stands


async def test_an_expired_sub_refresh_has_the_client_subscribe_again() -> None:
    """The SDKs take an error in answer for the end; before it stands what has them ask for another token."""
    client = await subscribed()
    client.take()
    await client.say({"id": 9, "sub_refresh": {"channel": "$news", "token": client.rig.channel_token("$news", ttl=-1)}})
    gone = {"code": 2501, "reason": "subscription expired"}
    expired = {"id": 9, "error": {"code": 109, "message": "token expired", "temporary": True}}
    assert client.take() == [{"channel": "$news", "unsubscribe": gone}, expired]
    await client.subscribe("$news", token=client.rig.channel_token("$news", ttl=60))


BAD_SUB_REFRESHES: dict[str, dict[str, Any]] = {
    "forged": {"key": OTHER_KEY},
    "another channel": {"channel": "news"},
    "another user": {"user": "bob"},
    "another client": {"client": "b2"},
}


@pytest.mark.parametrize("claims", BAD_SUB_REFRESHES.values(), ids=BAD_SUB_REFRESHES)
async def test_sub_refreshes_that_end_the_connection(claims: dict[str, Any]) -> None:
    client = await subscribed()
    meant: dict[str, Any] = {"channel": "$news", "ttl": 60}
    token = client.rig.channel_token(**meant | claims)
    await client.say({"id": 9, "sub_refresh": {"channel": "$news", "token": token}})
    assert (client.closed, client.take()) == ((3500, "invalid token"), [])


async def test_a_forged_token_does_not_even_name_a_channel() -> None:
    client = await subscribed()
    await client.say({"id": 9, "sub_refresh": {"token": client.rig.channel_token("$news", key=OTHER_KEY)}})
    assert client.closed == (3500, "invalid token")


async def test_a_sub_refresh_gives_an_end_to_a_subscription_that_had_none() -> None:
    client = await alice(ping_interval=0, pong_timeout=0)
    await client.subscribe("news")
    reply = await client.ask("sub_refresh", channel="news", token=client.rig.channel_token("news", ttl=60, info=1))
    assert reply == {"sub_refresh": {"expires": True, "ttl": 60}}
    assert client.session.subscriptions["news"].info.chan_info == b"1"
    client.take()
    client.rig.pass_time(86)
    gone = {"code": 2501, "reason": "subscription expired"}
    assert client.take() == [{"channel": "news", "unsubscribe": gone}]


async def test_what_the_server_has_subscribed_a_client_does_not_refresh() -> None:
    rig = await Rig.open()
    client = rig.client()
    await client.connect(token=rig.token(channels=["news"]))
    await client.say({"id": 9, "sub_refresh": {"channel": "news", "token": rig.channel_token("news", ttl=60)}})
    assert client.closed == (3501, "bad request")


async def test_an_empty_sub_refresh() -> None:
    client = await subscribed()
    await client.say({"id": 9, "sub_refresh": {}})
    assert client.closed == (3501, "bad request")
