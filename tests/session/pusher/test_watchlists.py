"""Watchlists: who is told of whom."""

import json
from typing import Any

import pytest

from gateway.apps.signatures import sign
from gateway.errors import BrokerUnavailable, Error, ErrorCode
from gateway.messages import ClientInfo
from tests.session.pusher.rig import KEY, SECRET, PusherClient, PusherRig
from tests.session.rig import Gate
from tests.waiting import settle


def told(client: PusherClient) -> list[dict[str, list[str]]]:
    """What a client was told of its watchlist."""
    found: list[dict[str, list[str]]] = []
    for each in client.take():
        assert "channel" not in each
        if each["event"] == "pusher_internal:watchlist_events":
            found.append({change["name"]: change["user_ids"] for change in each["data"]["events"]})
    return found


async def start(**pusher: Any) -> PusherRig:
    return await PusherRig.start(enable_watchlists=True, pusher=pusher)


async def watching(rig: PusherRig, *users: str) -> tuple[PusherClient, list[dict[str, list[str]]]]:
    client = rig.enter()
    found = await client.sign_in("watcher", watchlist=list(users))
    events = [each["data"]["events"] for each in found if each["event"] == "pusher_internal:watchlist_events"]
    return client, [{change["name"]: change["user_ids"] for change in each} for each in events]


async def test_how_they_are_and_what_changes() -> None:
    rig = await start()
    ivo = rig.enter()
    await ivo.sign_in("23")
    client, first = await watching(rig, "23", "99")
    assert first == [{"online": ["23"], "offline": ["99"]}]
    noor = rig.enter()
    await noor.sign_in("99")
    assert told(client) == [{"online": ["99"]}]
    await ivo.leave()
    rig.pass_time(2.8)
    assert told(client) == []
    rig.pass_time(0.5)
    assert told(client) == [{"offline": ["23"]}]


async def test_only_the_first_and_the_last_connection_count() -> None:
    rig = await start()
    client, _ = await watching(rig, "23")
    first, second = rig.enter(), rig.enter()
    await first.sign_in("23")
    await second.sign_in("23")
    assert told(client) == [{"online": ["23"]}]
    await first.leave()
    rig.pass_time(5)
    assert told(client) == []


async def test_who_returns_in_time_has_not_been_away() -> None:
    rig = await start()
    ivo = rig.enter()
    await ivo.sign_in("23")
    client, _ = await watching(rig, "23")
    await ivo.leave()
    rig.pass_time(1)
    await rig.enter().sign_in("23")
    rig.pass_time(5)
    assert told(client) == []


async def test_others_in_the_inbox_are_not_its_user() -> None:
    rig = await start()
    client, _ = await watching(rig, "23")
    other = ClientInfo("another", "of another protocol")
    await rig.node.announce_join("shop:#23", other)
    await rig.node.announce_leave("shop:#23", other)
    rig.pass_time(5)
    assert told(client) == []


async def test_without_a_watchlist_nothing_is_told() -> None:
    rig = await start()
    assert (await watching(rig))[1] == []
    assert (await watching(rig, "a b", ""))[1] == []


async def test_apps_without_them() -> None:
    rig = await PusherRig.start()
    client, first = await watching(rig, "23")
    await rig.enter().sign_in("23")
    assert (first, told(client)) == ([], [])


async def test_who_signs_in_again_names_more() -> None:
    rig = await start()
    client, _ = await watching(rig, "23")
    found = await client.sign_in("watcher", watchlist=["23", "99"])
    assert found[1]["data"]["events"] == [{"name": "offline", "user_ids": ["99"]}]


async def test_nothing_is_left_of_it() -> None:
    rig = await start()
    ivo = rig.enter()
    await ivo.sign_in("23")
    client, _ = await watching(rig, "23", "99")
    await ivo.leave()
    await client.leave()
    rig.pass_time(5)
    await rig.assert_empty()


async def test_who_goes_while_others_are_looked_for_leaves_nothing() -> None:
    rig = await start()
    client = rig.enter()
    gate = rig.broker.gate("subscribe", "shop:#99")
    text = json.dumps({"id": "watcher", "watchlist": ["99"]})
    auth = f"{KEY}:{sign(SECRET, client.session.client, '', 'user', '', text)}"
    message = {"event": "pusher:signin", "data": {"auth": auth, "user_data": text}}
    await client.session.receive(json.dumps(message).encode())
    await gate.reached()
    await client.session.end()
    gate.open()
    await rig.assert_empty()


async def test_of_whom_nobody_can_tell_is_told_when_that_is_possible() -> None:
    rig = await start()
    rig.broker.faults["subscribe"] = BrokerUnavailable()
    client, first = await watching(rig, "23")
    assert first == []
    await rig.enter().sign_in("23")
    rig.pass_time(7)
    await rig.settle()
    assert told(client) == []
    rig.broker.faults.clear()
    rig.pass_time(7)
    await rig.settle()
    assert told(client) == [{"online": ["23"]}]
    rig.broker.faults["subscribe"] = BrokerUnavailable()
    gone, _ = await watching(rig, "99")
    await gone.leave()
    await client.leave()
    rig.broker.faults.clear()
    calls = rig.broker.calls["subscribe"]
    rig.pass_time(7)
    assert rig.broker.calls["subscribe"] == calls


async def test_one_who_cannot_be_asked_about_is_not_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    rig = await start()
    rig.broker.faults["subscribe"] = Error(ErrorCode.LIMIT_EXCEEDED)
    assert (await watching(rig, "23"))[1] == []
    assert "is not watched" in caplog.text
    calls = rig.broker.calls["subscribe"]
    rig.pass_time(7)
    await rig.settle()
    assert rig.broker.calls["subscribe"] == calls


async def test_who_signs_in_twice_in_one_go_watches_once() -> None:
    rig = await start()
    client = rig.enter()
    gate = rig.broker.gate("subscribe", "shop:#99")
    text = json.dumps({"id": "watcher", "watchlist": ["99"]})
    auth = f"{KEY}:{sign(SECRET, client.session.client, '', 'user', '', text)}"
    message = json.dumps({"event": "pusher:signin", "data": {"auth": auth, "user_data": text}}).encode()
    for _ in range(2):
        await client.session.receive(message)
    await gate.reached()
    await settle()
    gate.open()
    await rig.settle()
    assert told(client) == [{"offline": ["99"]}]
    await rig.enter().sign_in("99")
    assert told(client) == [{"online": ["99"]}]
    for each in list(rig.node.hub.connections.values()):
        await each.end()  # type: ignore[attr-defined]
    await rig.assert_empty()


async def test_who_signs_in_while_presence_is_away_is_online_when_it_is_back() -> None:
    rig = await start()
    client, _ = await watching(rig, "17")
    rig.presence.faults += [BrokerUnavailable()] * 2
    noor = rig.enter()
    await noor.sign_in("17")
    assert told(client) == []
    for _ in range(2):
        rig.pass_time(7)
        await rig.settle()
    assert told(client) == [{"online": ["17"]}]
    await noor.leave()
    rig.presence.faults.append(BrokerUnavailable())
    other = rig.enter()
    await other.sign_in("18")
    await other.leave()
    await client.leave()
    rig.pass_time(7)
    await rig.assert_empty()


@pytest.mark.parametrize("step", ["faults", "remove_faults"])
async def test_a_presence_store_that_is_away(step: str) -> None:
    rig = await start()
    getattr(rig.presence, step).append(BrokerUnavailable())
    client = rig.enter()
    assert [each["event"] for each in await client.sign_in("17")] == ["pusher:signin_success"]
    await client.leave()
    await rig.assert_empty()


async def test_who_goes_while_it_is_entered_is_not_there() -> None:
    rig = await start()
    client = rig.enter()
    gate = Gate()
    add = rig.presence.add

    async def slowly(channel: str, info: ClientInfo) -> None:
        await gate.pass_through()
        await add(channel, info)

    rig.presence.add = slowly  # type: ignore[method-assign]
    text = json.dumps({"id": "17"})
    auth = f"{KEY}:{sign(SECRET, client.session.client, '', 'user', '', text)}"
    message = {"event": "pusher:signin", "data": {"auth": auth, "user_data": text}}
    await client.session.receive(json.dumps(message).encode())
    await gate.reached()
    await client.session.end()
    gate.open()
    await rig.assert_empty()


async def test_signing_in_twice_at_once_watches_nobody_twice() -> None:
    rig = await start()
    client = rig.enter()
    text = json.dumps({"id": "watcher", "watchlist": ["23"]})
    auth = f"{KEY}:{sign(SECRET, client.session.client, '', 'user', '', text)}"
    twice = json.dumps({"event": "pusher:signin", "data": {"auth": auth, "user_data": text}}).encode()
    for _ in range(2):
        await client.session.receive(twice)
    await rig.settle()
    assert [each for each in told(client) if each] == [{"offline": ["23"]}]
    await client.leave()
    rig.pass_time(5)
    await rig.assert_empty()
