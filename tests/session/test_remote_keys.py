"""Sessions whose tokens need a key that is to be fetched first."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.core.cluster import SubscribeUser
from tests.auth.issuer import P256, RSA, Issuer, issuing, jwk, signed
from tests.session.rig import NOW, Client, Rig, nobody_kept
from tests.waiting import settle, until

AWAY = {"error": {"code": 100, "message": "keys unavailable, try again", "temporary": True}}


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing(jwk(RSA, "old")) as found:
        yield found


@pytest.fixture
async def rig(issuer: Issuer) -> AsyncIterator[Rig]:
    rig = await Rig.open(token={"jwks_public_endpoint": issuer.url})
    yield rig
    rig.tokens.close()


def old(**claims: Any) -> str:
    return signed(RSA, "RS256", "old", **{"sub": "alice"} | claims)


def new(**claims: Any) -> str:
    return signed(P256, "ES256", "new", **{"sub": "alice"} | claims)


async def waiting(client: Client, issuer: Issuer, *commands: dict[str, Any]) -> asyncio.Task[None]:
    """Have the client say it, and go on when the issuer has been asked, which says nothing yet."""
    issuer.silent.set()
    asked = len(issuer.paths)
    task = asyncio.create_task(client.say(*commands))
    await until(lambda: len(issuer.paths) > asked)
    return task


async def expiring(rig: Rig) -> Client:
    client = rig.client()
    await client.connect(token=old(exp=int(NOW) + 60))
    return client


# — connect —


async def test_connect_waits_for_the_key(rig: Rig) -> None:
    client = rig.client()
    assert (await client.connect(token=old(info={"a": 1})))["client"]
    assert (client.session.user, client.session.info) == ("alice", b'{"a":1}')


async def test_a_storm_is_one_fetch(rig: Rig, issuer: Issuer) -> None:
    clients = [rig.client() for _ in range(300)]
    await asyncio.gather(*(each.connect(token=old(sub=f"user {n}")) for n, each in enumerate(clients)))
    assert len(issuer.paths) == 1
    assert {each.session.user for each in clients} == {f"user {n}" for n in range(300)}


async def test_what_comes_behind_a_connect_waits_with_it(rig: Rig, issuer: Issuer) -> None:
    client = rig.client()
    connect, subscribe = {"id": 1, "connect": {"token": old()}}, {"id": 2, "subscribe": {"channel": "news"}}
    task = await waiting(client, issuer, connect, subscribe)
    assert client.take() == []
    issuer.go_on()
    await task
    assert [each["id"] for each in client.take()] == [1, 2]


async def test_others_do_not_wait(rig: Rig, issuer: Issuer) -> None:
    task = await waiting(rig.client(), issuer, {"id": 1, "connect": {"token": old()}})
    other = await rig.connected()
    assert await other.subscribe("news") == {}
    issuer.go_on()
    await task


async def test_while_the_issuer_is_away_clients_are_to_come_again(rig: Rig, issuer: Issuer) -> None:
    issuer.fail()
    client = rig.client()
    assert await client.ask("connect", token=old()) == AWAY
    assert client.closed is None
    assert rig.node.metrics.refusals == {"keys_away": 1}
    issuer.publish(jwk(RSA, "old"))
    await rig.client().connect(token=old())


async def test_an_unknown_key_is_invalid(rig: Rig) -> None:
    client = rig.client()
    await client.say({"id": 1, "connect": {"token": new()}})
    assert client.closed == (3500, "invalid token")
    assert rig.node.metrics.refusals == {"token_key": 1}


async def test_the_time_is_ours_and_bounded(rig: Rig, issuer: Issuer) -> None:
    """The client has said what it had to say: it is not stale, but to be asked to try again."""
    client = rig.client()
    task = await waiting(client, issuer, {"id": 1, "connect": {"token": old()}})
    rig.pass_time(19)
    assert client.closed is None
    rig.pass_time(2)
    assert client.reply(1)["error"]["code"] == 100
    issuer.go_on()
    await task
    assert (client.take(), client.session.user) == ([], "")
    await client.leave()
    await rig.assert_empty()


async def test_one_who_leaves_meanwhile_is_not_let_in(rig: Rig, issuer: Issuer) -> None:
    client = rig.client()
    task = await waiting(client, issuer, {"id": 1, "connect": {"token": old(channels=["news"])}})
    await client.leave()
    issuer.go_on()
    await task
    assert rig.node.hub.connections == {}
    await rig.assert_empty()


async def test_nobody_who_has_left_is_kept(rig: Rig, issuer: Issuer) -> None:
    with nobody_kept():
        client = rig.client()
        task = await waiting(client, issuer, {"id": 1, "connect": {"token": old()}})
        await client.leave()
        issuer.go_on()
        await task
        issuer.fail()
        other = rig.client()
        await other.say({"id": 1, "connect": {"token": new()}})
        await other.leave()
        await rig.settle()
        del client, task, other
        await settle()


# — refresh —


async def test_a_refresh_by_a_new_key(rig: Rig, issuer: Issuer) -> None:
    client = await expiring(rig)
    issuer.publish(jwk(P256, "new"))
    task = await waiting(client, issuer, {"id": 2, "refresh": {"token": new(exp=int(NOW) + 600)}})
    await client.say({"id": 3, "subscribe": {"channel": "news"}})
    assert [each["id"] for each in client.take() if "id" in each] == [3], "its other commands go on"
    issuer.go_on()
    await task
    await rig.settle()
    assert client.reply(2)["refresh"]["ttl"] == 600


async def test_a_refresh_while_the_issuer_is_away_is_to_be_tried_again(rig: Rig, issuer: Issuer) -> None:
    client = await expiring(rig)
    issuer.fail()
    known = await client.ask("refresh", token=old(exp=int(NOW) + 90))
    assert known["refresh"]["ttl"] == 90, "a key that is known goes on"
    await client.say({"id": 7, "refresh": {"token": new(exp=int(NOW) + 600)}})
    await until(lambda: rig.node.metrics.errors[100])
    assert (client.reply(7), client.closed) == (AWAY, None)


async def test_a_refresh_of_one_who_leaves_meanwhile(rig: Rig, issuer: Issuer) -> None:
    client = await expiring(rig)
    expiry = client.session.expiry
    issuer.publish(jwk(P256, "new"))
    task = await waiting(client, issuer, {"id": 2, "refresh": {"token": new(exp=int(NOW) + 600)}})
    await client.leave()
    issuer.go_on()
    await task
    await rig.settle()
    assert client.session.expiry is expiry, "nothing new is set for who has gone"


# — subscriptions —


async def test_subscribing_by_a_new_key_holds_nothing_else_up(rig: Rig, issuer: Issuer) -> None:
    client = await expiring(rig)
    issuer.publish(jwk(P256, "new"), jwk(RSA, "old"))
    subscribe = {"id": 2, "subscribe": {"channel": "$a", "token": new(channel="$a")}}
    same, other = {"id": 3, "unsubscribe": {"channel": "$a"}}, {"id": 4, "subscribe": {"channel": "news"}}
    again = {"id": 5, "subscribe": {"channel": "$a", "token": old(channel="$a")}}
    task = await waiting(client, issuer, subscribe, same, other, again)
    assert [each["id"] for each in client.take() if "id" in each] == [4]
    issuer.go_on()
    await task
    await rig.settle()
    assert [each["id"] for each in client.take() if "id" in each] == [2, 3, 5], "those of a channel keep their order"
    assert set(client.session.subscriptions) == {"$a", "news"}


async def test_a_subscription_that_the_server_makes_meanwhile(rig: Rig, issuer: Issuer) -> None:
    client = await expiring(rig)
    issuer.publish(jwk(P256, "new"))
    task = await waiting(client, issuer, {"id": 2, "subscribe": {"channel": "$a", "token": new(channel="$a")}})
    rig.control(SubscribeUser(user="alice", channel="$a"))
    await settle()
    issuer.go_on()
    await task
    await rig.settle()
    assert client.reply(2) == {"error": {"code": 105, "message": "already subscribed"}}
    assert client.session.subscriptions["$a"].server_side


async def test_subscription_tokens_while_the_issuer_is_away(rig: Rig, issuer: Issuer) -> None:
    client = await expiring(rig)
    issuer.fail()
    await client.subscribe("$a", token=old(channel="$a", exp=int(NOW) + 60))
    await client.say(
        {"id": 5, "subscribe": {"channel": "$b", "token": new(channel="$b")}},
        {"id": 6, "sub_refresh": {"channel": "$a", "token": new(channel="$a", exp=int(NOW) + 90)}},
    )
    await until(lambda: rig.node.metrics.errors[100] == 2)
    assert (client.reply(5), client.reply(6), client.closed) == (AWAY, AWAY, None)
    assert set(client.session.subscriptions) == {"$a"}


async def test_a_subscription_refreshed_by_a_new_key(rig: Rig, issuer: Issuer) -> None:
    client = await expiring(rig)
    await client.subscribe("$a", token=old(channel="$a", exp=int(NOW) + 60))
    issuer.publish(jwk(P256, "new"))
    await client.say({"id": 5, "sub_refresh": {"token": new(channel="$a", exp=int(NOW) + 90)}})
    await until(lambda: rig.tokens.connection_keys and rig.tokens.connection_keys.has(new()))
    await rig.settle()
    assert client.reply(5) == {"sub_refresh": {"expires": True, "ttl": 90}}


async def test_an_unknown_key_of_a_subscription_token_is_refused(rig: Rig) -> None:
    client = await expiring(rig)
    await client.say({"id": 5, "subscribe": {"channel": "$a", "token": new(channel="$a")}})
    await until(lambda: rig.node.metrics.errors[103])
    assert client.reply(5)["error"]["code"] == 103
    assert client.closed is None
