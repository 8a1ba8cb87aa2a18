"""Pings and pongs, and how long a client may take."""

import random
from typing import Any

import pytest

from tests.session.rig import NOW, Client, Rig

BAD_REQUEST = (3501, "bad request")


# — pings —


async def pinged(**client: Any) -> tuple[Rig, Client]:
    rig = await Rig.open(**client)
    connected = await rig.connected()
    connected.take()
    while not connected.take():
        rig.pass_time(0.1)
    return rig, connected


@pytest.mark.parametrize(("chance", "first"), [(0.0, 12.5), (1.0, 25)])
async def test_pings_come_between_half_and_one_interval_then_every_interval(
    chance: float, first: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "random", lambda: chance)
    rig, client = await pinged()
    assert first <= rig.clock() - NOW < first + 0.3
    await client.say({})
    for _ in range(3):
        rig.pass_time(24.2)
        assert client.take() == []
        rig.pass_time(0.8)
        assert (client.take(), client.closed) == ([{}], None)
        await client.say({})


async def test_connect_tells_of_pings() -> None:
    for settings, told in (
        ({}, (25, True)),
        ({"ping_interval": 10, "pong_timeout": 0}, (10, None)),
        ({"ping_interval": 0, "pong_timeout": 0}, (None, None)),
        ({"ping_interval": 0.3, "pong_timeout": 0.1}, (1, True)),
    ):
        result = await (await Rig.open(**settings)).client().connect()
        assert (result.get("ping"), result.get("pong")) == told


async def test_no_pong() -> None:
    rig, client = await pinged()
    rig.pass_time(7.8)
    assert client.closed is None
    rig.pass_time(0.4)
    assert client.closed == (3012, "no pong")


async def test_other_commands_are_no_pong() -> None:
    rig, client = await pinged()
    await client.subscribe("news")
    rig.pass_time(8.2)
    assert client.closed == (3012, "no pong")


async def test_no_pong_is_expected_of_one_who_is_behind() -> None:
    """The ping is somewhere in the megabytes that it has not read yet."""
    rig, client = await pinged()
    client.transport.is_behind = True
    rig.pass_time(100)
    client.transport.is_behind = False
    rig.pass_time(8)
    assert client.closed is None
    await client.say({})
    rig.pass_time(9)
    assert client.closed is None


async def test_one_who_is_not_behind_any_more_owes_a_pong() -> None:
    rig, client = await pinged()
    client.transport.is_behind = True
    rig.pass_time(100)
    client.transport.is_behind = False
    rig.pass_time(16.4)
    assert client.closed == (3012, "no pong")


@pytest.mark.parametrize("pong", [b"{}", b' {"id":0} ', b"{}\n", b'{"publish":{}}'])
async def test_pongs(pong: bytes) -> None:
    rig, client = await pinged()
    await client.session.receive(pong)
    rig.pass_time(8.2)
    assert client.closed is None
    await client.session.receive(pong)
    assert client.closed == BAD_REQUEST


async def test_a_pong_among_commands() -> None:
    _, client = await pinged()
    await client.say({"id": 2, "subscribe": {"channel": "a"}}, {}, {"id": 3, "subscribe": {"channel": "b"}})
    assert [each["id"] for each in client.take()] == [2, 3]


async def test_a_pong_that_nobody_asked_for() -> None:
    client = await (await Rig.open()).connected()
    await client.say({})
    assert client.closed == BAD_REQUEST


async def test_pings_without_pong() -> None:
    rig, client = await pinged(ping_interval=10, pong_timeout=0)
    for _ in range(3):
        rig.pass_time(10.2)
        assert client.take() == [{}]
    await client.say({})
    assert client.closed == BAD_REQUEST


@pytest.mark.parametrize("begun", [True, False])
async def test_pings_that_are_turned_off_end(begun: bool) -> None:
    rig, client = await pinged(ping_interval=25, pong_timeout=0)
    if not begun:
        client = await rig.connected()
        client.take()
    rig.node.reload(Rig({"ping_interval": 0, "pong_timeout": 0}, {}).settings)
    rig.pass_time(60)
    assert (client.take(), client.closed) == ([], None)


async def test_no_pings() -> None:
    rig = await Rig.open(ping_interval=0, pong_timeout=0)
    client = await rig.connected()
    rig.pass_time(60)
    assert (client.take(), client.closed) == ([], None)


# — deadlines —


async def test_a_client_that_never_connects_is_stale() -> None:
    rig = await Rig.open()
    client = rig.client()
    rig.pass_time(9.8)
    assert client.closed is None
    rig.pass_time(0.4)
    assert client.closed == (3502, "stale")


async def test_a_connected_client_is_not_stale() -> None:
    rig = await Rig.open(ping_interval=0, pong_timeout=0)
    client = await rig.connected()
    rig.pass_time(11)
    assert client.closed is None


async def test_a_refused_client_is_given_five_seconds_to_leave() -> None:
    rig = await Rig.open()
    client = rig.client()
    assert await client.refused("connect", token=rig.token(ttl=-1)) == 109
    rig.pass_time(4.8)
    assert client.transport.reasons == []
    rig.pass_time(0.4)
    assert [reason.code for reason in client.transport.reasons] == [1000]


async def test_after_its_end_a_session_leaves_no_deadline() -> None:
    rig = await Rig.open()
    client = rig.client()
    await client.connect(token=rig.token(ttl=30))
    await client.subscribe("$news", token=rig.channel_token("$news", ttl=5))
    await client.leave()
    client.take()
    rig.pass_time(100)
    assert (client.take(), client.transport.reasons) == ([], [])
    await rig.assert_empty()


async def test_the_round_trip_is_measured() -> None:
    rig, client = await pinged()
    rig.pass_time(0.4)
    await client.say({})
    found = rig.node.metrics.ping_round_trip
    assert (sum(found.counts), round(found.total, 3)) == (1, 0.4)
    assert client.session.round_trip == pytest.approx(0.4)
