"""The node's copy of the block list."""

from math import inf

import pytest

from gateway.blocks.memory import MemoryBlocks
from gateway.core.blocked import SWEEP, Blocked
from gateway.core.hub import Hub
from gateway.metrics import Metrics
from tests.core.test_hub import Client, Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hub(clock: Clock) -> Hub:
    return Hub(Metrics(clock), clock=clock)


@pytest.fixture
def blocked(hub: Hub, clock: Clock) -> Blocked:
    return Blocked(MemoryBlocks(clock), hub, clock)


def opened(hub: Hub, client: str, user: str) -> Client:
    connection = Client(client=client, user=user)
    hub.open(connection)
    return connection


def test_blocks_end_by_themselves(blocked: Blocked, clock: Clock) -> None:
    blocked.on_block("ann", 10)
    blocked.on_block("bob", inf)
    assert "ann" in blocked
    assert "eve" not in blocked
    clock.now += 10
    assert "ann" not in blocked
    assert "bob" in blocked
    blocked.on_unblock("bob")
    blocked.on_unblock("nobody")
    assert "bob" not in blocked


def test_who_is_blocked_is_sent_away_wherever_it_is_connected(hub: Hub, blocked: Blocked) -> None:
    ann, again, bob = opened(hub, "c1", "ann"), opened(hub, "c2", "ann"), opened(hub, "c3", "bob")
    blocked.on_block("ann", 10)
    assert (ann.disconnected, again.disconnected, bob.disconnected) == ([3510], [3510], [])


def test_a_list_takes_the_place_of_what_was_known(hub: Hub, blocked: Blocked) -> None:
    blocked.on_block("ann", 10)
    bob, eve = opened(hub, "c1", "bob"), opened(hub, "c2", "eve")
    blocked.on_list({"bob": 10, "dan": inf})
    assert [user in blocked for user in ("ann", "bob", "dan")] == [False, True, True]
    assert (bob.disconnected, eve.disconnected) == ([3510], [])


def test_what_has_ended_is_forgotten(blocked: Blocked, clock: Clock) -> None:
    for number in range(100):
        blocked.on_block(f"user {number}", 1)
    clock.now += SWEEP
    blocked.on_block("ann", 1)
    assert list(blocked._until) == ["ann"]


def test_pages(blocked: Blocked, clock: Clock) -> None:
    blocked.on_list({"c": 10, "a": inf, "b": 20, "d": 30})
    clock.now += 10
    first, cursor = blocked.page(2)
    assert (first, cursor) == ({"a": inf, "b": clock.now + 10}, "b")
    assert blocked.page(2, cursor) == ({"d": clock.now + 20}, "")
    assert blocked.page(2, "d") == ({}, "")
