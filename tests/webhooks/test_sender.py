"""The sender: order, retries, who is held up by whom, and what becomes of a sender that ends."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.webhooks.sender import Sender
from gateway.webhooks.targets import targets_of
from tests.outbox.nodes import due, place, said
from tests.waiting import settle, until
from tests.webhooks.rig import URL, FakeApps, Rig, an_app

OTHER = "https://two.example/hook"


@asynccontextmanager
async def sending(rig: Rig, name: str = "n1") -> AsyncIterator[Sender]:
    sender = rig.sender(name)
    sender.start()
    await settle()
    try:
        yield sender
    finally:
        await sender.close()


async def test_events_are_told_in_order_one_at_a_time() -> None:
    rig = Rig(an_app())
    async with sending(rig):
        await rig.say("a", "b", "c")
        await rig.pass_time()
    assert rig.receivers.channels() == ["a", "b", "c"]
    assert [len(each.events) for each in rig.receivers.told] == [1, 1, 1]
    assert rig.metrics.webhook_events == {"told": 3}
    assert await rig.outbox.pending() == []


async def test_a_request_has_as_many_as_are_allowed() -> None:
    rig = Rig(an_app(), batch_size=2)
    async with sending(rig):
        await rig.say("a", "b", "c")
        await rig.pass_time()
    assert [each.events for each in rig.receivers.told] == [["a", "b"], ["c"]]


async def test_a_request_has_no_more_bytes_than_receivers_take() -> None:
    rig = Rig(an_app(), batch_size=250)
    large = ["x" * size for size in (30_000, 30_000, 30_000, 100_000, 10)]
    async with sending(rig):
        await rig.say(*large)
        await rig.pass_time()
    assert [[len(each) for each in told.events] for told in rig.receivers.told] == [
        [30_000, 30_000],
        [30_000],
        [100_000],
        [10],
    ]


async def test_more_than_can_be_handed_on_at_once_is_told_all_the_same() -> None:
    rig = Rig(an_app(), batch_size=250)
    rig.outbox.rules = rig.outbox.rules._replace(most=5000)
    names = [f"room{number}" for number in range(2500)]
    await rig.say(*names)
    async with sending(rig):
        await rig.pass_time()
    assert rig.receivers.channels() == names


async def test_who_fails_is_tried_again_ever_more_slowly() -> None:
    rig = Rig(an_app())
    rig.receivers.failing.add(URL)
    async with sending(rig):
        await rig.say("a", "b")
        await rig.pass_time(70)
        tried = rig.receivers.tried[URL]
        assert 6 <= tried <= 10
        assert rig.metrics.webhook_failing == 1
        rig.receivers.failing.clear()
        await rig.pass_time(60)
    assert rig.receivers.channels() == ["a", "b"]
    assert [each.attempt for each in rig.receivers.told] == [tried + 1, 1]
    assert rig.metrics.webhook_failing == 0


async def test_what_nobody_takes_is_put_aside(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(an_app(), retry_for=100, dead_letters=2)
    rig.receivers.failing.add(URL)
    async with sending(rig):
        await rig.say("a", "b", "c")
        await rig.pass_time(90)
        await rig.say("late")
        assert await rig.outbox.dead_letters("9001") == []
        await rig.pass_time(80)
        assert said(await rig.outbox.dead_letters("9001")) == ["client_event c", "client_event b"]
        assert rig.metrics.webhook_events == {"put_aside": 3}
        rig.receivers.failing.clear()
        await rig.pass_time(70)
    assert rig.receivers.channels() == ["late"]
    assert "3 events could not be told to https://one.example/hook, and are put aside" in caplog.text


async def test_who_has_long_been_told_nothing_loses_nothing_by_one_failure() -> None:
    rig = Rig(an_app(), retry_for=100)
    await rig.say("old")
    await rig.pass_time(1000)  # no node was there
    rig.receivers.failing.add(URL)
    async with sending(rig):
        await rig.pass_time(5)
        rig.receivers.failing.clear()
        await rig.pass_time(10)
    assert rig.receivers.channels() == ["old"]


async def test_one_who_fails_holds_nobody_up() -> None:
    rig = Rig(an_app("1", URL, OTHER), an_app("2", "https://three.example"))
    rig.receivers.failing.add(URL)
    async with sending(rig):
        for channel in ("a", "b", "c"):
            await rig.say(channel, app="1")
            await rig.say(channel, app="2")
            await rig.pass_time(1)
            assert rig.receivers.channels(OTHER)[-1] == rig.receivers.channels("https://three.example")[-1] == channel


async def test_one_who_does_not_answer_holds_nobody_up() -> None:
    rig = Rig(an_app("1", URL, OTHER))
    rig.receivers.held[URL].clear()
    async with sending(rig):
        await rig.say("a", "b", app="1")
        await rig.pass_time(1)
        assert rig.receivers.channels(OTHER) == ["a", "b"]
        assert rig.receivers.channels(URL) == ["a"]
        rig.receivers.held[URL].set()
        await rig.pass_time(1)
    assert rig.receivers.channels(URL) == ["a", "b"]


async def test_each_target_gets_what_it_wants() -> None:
    hooks = [
        {"url": URL, "channel_prefix": "presence-"},
        {"url": URL, "event_types": ["client_event"], "channel_prefix": "private-"},
        {"url": OTHER, "event_types": ["cache_miss"]},
    ]
    rig = Rig(an_app(webhooks=hooks))
    async with sending(rig):
        await rig.say("presence-a", "private-b", "c")
        await rig.outbox.enter(place("presence-d"), "key9001")
        await rig.outbox.enter(place("private-e"), "key9001")
        await rig.pass_time(1)
    assert rig.receivers.channels(URL) == ["presence-a", "private-b", "presence-d"]
    assert rig.receivers.channels(OTHER) == []
    assert await rig.outbox.pending() == []


async def test_a_departure_waits_and_a_return_takes_it_back() -> None:
    rig = Rig(an_app())
    two = rig.node()
    await two.start("n2")
    async with sending(rig):
        await rig.outbox.enter(place("a"), "key9001")
        await rig.pass_time(1)
        await rig.outbox.leave(place("a"))
        await rig.pass_time(2)
        await two.enter(place("a"), "key9001")
        await rig.pass_time(10)
        assert len(rig.receivers.told) == 1
        await two.leave(place("a"))
        await rig.pass_time(2)
        assert len(rig.receivers.told) == 1
        await rig.pass_time(2)
        assert len(rig.receivers.told) == 2


async def test_a_departure_is_taken_back_over_a_change_of_sender() -> None:
    rig = Rig(an_app())
    await rig.outbox.enter(place("a"), "key9001")
    async with sending(rig):
        await rig.pass_time(1)
        await rig.outbox.leave(place("a"))
        await rig.pass_time(1)
    async with sending(rig, "n2"):
        await rig.pass_time(1)
        await rig.outbox.enter(place("a"), "key9001")
        await rig.pass_time(5)
    assert len(rig.receivers.told) == 1


async def test_a_sender_that_dies_between_telling_and_noting_it_is_repeated_by_name() -> None:
    rig = Rig(an_app())
    rig.receivers.held[URL].clear()
    async with sending(rig) as one:
        await rig.say("a", "b")
        await rig.pass_time(1)
        assert one._task is not None
        one._task.cancel()  # its lease is not given back
        await settle()
        one._task = None
    rig.receivers.held[URL].set()
    await rig.pass_time(1)
    assert rig.receivers.channels() == ["a"]
    rig.now += rig.leases.ttl
    async with sending(rig, "n2"):
        await rig.pass_time(1)
    assert rig.receivers.channels() == ["a", "a", "b"]
    first, again, other = (each.ids for each in rig.receivers.told)
    assert first == again != other


async def test_a_sender_that_ends_lets_what_is_under_way_end_first() -> None:
    rig = Rig(an_app())
    rig.receivers.held[URL].clear()
    async with sending(rig):
        await rig.say("a", "b")
        await rig.pass_time(1)
        rig.receivers.held[URL].set()
    async with sending(rig, "n2"):
        await rig.pass_time(1)
    assert rig.receivers.channels() == ["a", "b"]


async def test_of_two_nodes_one_tells_and_the_other_takes_over() -> None:
    rig = Rig(an_app())
    rig.leases.ttl = 0.04  # the second one asks by the clock of the machine
    async with sending(rig, "n1") as one, sending(rig, "n2"):
        await rig.say("a")
        await rig.pass_time(1)
        await one.close()
        one._task = None
        await rig.say("b")

        async def both() -> bool:
            await rig.pass_time(0.5)
            return len(rig.receivers.told) == 2

        await until(both)
    assert rig.receivers.channels() == ["a", "b"]


async def test_an_app_that_this_node_has_not_seen_is_found_by_its_key() -> None:
    rig = Rig()
    rig.apps.loaded["key9001"] = an_app()
    async with sending(rig):
        await rig.say("a")
        await rig.pass_time(1)
    assert rig.receivers.channels() == ["a"]


async def test_an_app_that_cannot_be_found_just_now_waits() -> None:
    rig = Rig()
    rig.apps.fails = True
    async with sending(rig):
        await rig.say("a")
        await rig.pass_time(20)
        assert 3 <= len(rig.apps.asked) <= 5
        rig.apps.fails = False
        rig.apps.loaded["key9001"] = an_app()
        await rig.pass_time(10)
    assert rig.receivers.channels() == ["a"]


async def test_what_was_for_an_address_that_is_gone_does_not_stay() -> None:
    rig = Rig(an_app())
    rig.receivers.failing.add(URL)
    async with sending(rig):
        await rig.say("a")
        await rig.pass_time(2)
        rig.apps.apps = {"9001": an_app("9001", OTHER)}
        await rig.say("b")
        await rig.pass_time(120)
        assert rig.receivers.channels(OTHER) == ["b"]
        assert said(await rig.outbox.dead_letters("9001")) == ["client_event a"]
        assert await rig.outbox.pending() == []
        assert rig.metrics.webhook_failing == 0


async def test_what_is_of_an_app_that_this_node_does_not_know_is_left_to_one_that_does() -> None:
    rig = Rig()
    async with sending(rig, "older"):
        await rig.say("a", "b")
        await rig.pass_time(60)
    rig.apps = FakeApps(an_app())
    async with sending(rig, "newer"):
        await rig.pass_time(1)
    assert rig.receivers.channels() == ["a", "b"]


async def test_what_was_for_an_app_that_is_gone_does_not_stay_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(an_app(), retry_for=100)
    rig.receivers.failing.add(URL)
    async with sending(rig):
        await rig.say("a")
        await rig.pass_time(2)
        rig.apps.apps.clear()
        await rig.say("b")
        await rig.pass_time(0.5)
        rig.receivers.failing.clear()
        await rig.pass_time(80)
        assert await rig.outbox.dead_letters("9001") == []
        await rig.pass_time(60)
        assert said(await rig.outbox.dead_letters("9001")) == ["client_event b", "client_event a"]
        assert await rig.outbox.pending() == []
        assert rig.metrics.webhook_events == {"put_aside": 2}
    assert rig.receivers.told == []
    assert "webhooks of app 9001 wait: there is no such app as far as this node knows" in caplog.text


async def test_a_lane_that_was_ended_before_it_began_leaves_its_place_to_another() -> None:
    rig = Rig(an_app())
    sender = rig.sender()
    [target] = targets_of(an_app())
    sender._tell(target)
    await sender._end_lanes(within=0)
    await rig.say("a")
    await rig.outbox.sort("9001", [(event, [target.name]) for event in await due(rig.outbox)])
    sender._tell(target)
    await settle()
    assert rig.receivers.channels() == ["a"]


async def test_settings_of_an_app_that_change_hold_for_what_waits() -> None:
    rig = Rig(an_app())
    rig.receivers.failing.add(URL)
    async with sending(rig) as sender:
        await rig.say("a")
        await rig.pass_time(2)
        renewed = an_app(former_keys=[{"key": "key9001", "secret": "s3cr3t-example"}], key="new")
        rig.apps = FakeApps(renewed)
        await rig.pass_time(2)
        [(lane, _)] = sender._lanes.values()
        assert lane.target.app is renewed


async def test_a_full_target_loses_what_comes_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    rig = Rig(an_app())
    rig.receivers.failing.add(URL)
    rig.outbox.rules = rig.outbox.rules._replace(most=3)
    async with sending(rig):
        for channel in ("a", "b", "c", "d", "e"):
            await rig.say(channel)
            await rig.pass_time(1)
    assert rig.metrics.webhook_events == {"lost": 2}
    assert "webhooks of app 9001: 1 events are lost, too many wait" in caplog.text
