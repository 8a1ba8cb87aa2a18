"""Connections: how they begin, live and end."""

import re

import pytest

from gateway.core.cluster import DisconnectUser, RefreshUser, SubscribeUser, UnsubscribeUser
from gateway.errors import Disconnect, DisconnectCode
from gateway.session.application import NoApplication
from gateway.session.pusher.session import new_socket_id
from tests.session.pusher.rig import PusherRig, ack, error


def test_socket_ids_have_their_form_and_differ() -> None:
    ids = {new_socket_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(r"\d+\.\d+", each) and len(each) <= 33 for each in ids)


async def test_a_client_that_goes_leaves_nothing() -> None:
    rig = await PusherRig.start(enable_watchlists=True)
    client = rig.enter()
    await client.join("presence-desk", "17")
    await client.sign_in("17", watchlist=["23"])
    await client.subscribe("news")
    await client.leave()
    assert rig.shared.quota.count("9001") == 0
    await rig.assert_empty()


async def test_a_program_that_let_nobody_in_is_not_told_who_goes() -> None:
    told: list[object] = []

    async def gone(session: object) -> None:
        told.append(session)

    program = NoApplication()
    program.disconnect = gone  # type: ignore[assignment]
    client = (await PusherRig.start(application=program)).enter()
    await client.subscribe("news")
    await client.leave()
    assert told == []
    await client.rig.assert_empty()


async def test_pings_are_answered_and_pongs_need_not_be_asked_for() -> None:
    client = (await PusherRig.start()).enter()
    assert await client.send("pusher:ping") == [{"event": "pusher:pong", "data": "{}"}]
    assert await client.send("pusher:pong") == []
    assert await client.send_raw('{"event":"pusher:pong","data":"{}"}') == []
    assert await client.send_raw('{"event":"pusher:pong"}') == []
    assert client.closed is None


async def test_whatever_a_client_says_it_lives() -> None:
    rig = await PusherRig.start(client={"ping_interval": 25, "pong_timeout": 8})
    client = rig.enter()
    while client.session.awaits_pong is None:  # the first ping comes at some moment of the interval
        rig.pass_time(0.1)
    await client.send("pusher:ping")
    rig.pass_time(8)
    assert client.closed is None


async def test_who_says_nothing_is_closed_with_4201() -> None:
    rig = await PusherRig.start(client={"ping_interval": 25, "pong_timeout": 8})
    client = rig.enter()
    rig.pass_time(34)
    assert client.closed == (4201, "no pong")
    assert client.session.reason is not None
    assert client.session.reason.code == DisconnectCode.NO_PONG


@pytest.mark.parametrize(
    ("code", "closed", "told"),
    [
        (DisconnectCode.SHUTDOWN, (4200, "shutdown"), []),
        (DisconnectCode.SLOW, (4100, "slow"), []),
        (DisconnectCode.FORCE_DISCONNECT, (4009, "force disconnect"), [error(4009, "force disconnect")]),
        (4321, (4321, "of the program"), []),
        (4021, (4021, "of the program"), [error(4021, "of the program")]),
    ],
)
async def test_ends_in_the_protocols_codes(code: int, closed: tuple[int, str], told: list[object]) -> None:
    client = (await PusherRig.start()).enter()
    client.session.disconnect(Disconnect(code, "of the program" if code >= 4000 else None))
    assert (client.take(), client.closed) == (told, closed)


async def test_before_the_first_message_nobody_is_told_to_return_at_once() -> None:
    rig = await PusherRig.start()
    client = rig.newcomer()
    client.session.disconnect(Disconnect(DisconnectCode.SHUTDOWN))
    assert (client.take(), client.closed) == ([error(4100, "shutdown")], (4100, "shutdown"))


async def test_an_app_that_is_not_found_in_time() -> None:
    rig = await PusherRig.start()
    client = rig.newcomer()
    rig.pass_time(rig.settings.client.stale_close_delay + 1)
    assert client.closed == (4100, "the app could not be looked up in time")


async def test_nothing_may_be_said_before_the_first_message() -> None:
    client = (await PusherRig.start()).newcomer()
    assert await client.send("pusher:ping") == [error(4009, "bad request")]
    assert client.closed == (4009, "bad request")


@pytest.mark.parametrize("way", ["sign in", "private", "presence"])
async def test_who_says_in_time_who_it_is_stays(way: str) -> None:
    rig = await PusherRig.start(authorization_timeout=5)
    client = rig.enter()
    if way == "sign in":
        await client.sign_in("17")
    else:
        await client.subscribe(f"{way}-x", '{"user_id":"17"}' if way == "presence" else "")
    rig.pass_time(10)
    assert client.closed is None


async def test_who_does_not_say_in_time_who_it_is_is_closed_with_4009() -> None:
    rig = await PusherRig.start(authorization_timeout=5)
    client = rig.enter()
    await client.subscribe("news")
    rig.pass_time(4.5)
    assert client.closed is None
    rig.pass_time(1)
    assert client.closed == (4009, "connection not authorized in time")


async def test_nothing_is_waited_for_of_who_has_gone() -> None:
    rig = await PusherRig.start(authorization_timeout=5)
    client = rig.enter()
    await client.leave()
    rig.pass_time(10)
    assert rig.node.metrics.refusals == {}


async def test_commands_of_the_server_api() -> None:
    rig = await PusherRig.start()
    client = rig.enter()
    await client.subscribe("news")
    name = client.session.client
    rig.control(SubscribeUser(client=name, channel="shop:other"))
    rig.control(RefreshUser(client=name, expire_at=int(rig.clock()) + 60))
    rig.control(UnsubscribeUser(client=name, channel="shop:news", code=2000, reason=""))
    await rig.settle()
    assert client.take() == []
    assert client.session.subscriptions == {}
    assert await client.subscribe("news") == [ack("news")]
    rig.control(DisconnectUser(client=name, code=3503, reason="force disconnect"))
    assert client.closed is not None
    assert client.closed[0] == 4009


@pytest.mark.parametrize("says", [True, False])
async def test_clients_of_an_app_that_is_gone_are_closed(says: bool) -> None:
    """Else its secret would still open what stands in its namespace, which may be another app's by now."""
    rig = await PusherRig.start(client={"ping_interval": 25, "pong_timeout": 8})
    client = rig.enter()
    await client.subscribe("private-a")
    rig.apps.reload(rig.node.settings.pusher.model_copy(update={"apps": ()}))
    if says:
        assert await client.subscribe("private-b") == []
    else:
        rig.pass_time(30)
    assert client.closed == (4200, "the app has changed")
    await rig.settle()
    await rig.assert_empty()
