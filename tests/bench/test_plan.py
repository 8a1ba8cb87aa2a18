"""Plans, and how they are shared out."""

import msgspec
import pytest

from gateway.bench.plan import PER_SOURCE, Plan, shares


def test_one_process_does_it_all() -> None:
    [share] = shares(Plan(connections=PER_SOURCE + 1), 1)
    assert share == msgspec.structs.replace(Plan(), connections=PER_SOURCE + 1, sources=2)


def test_few_channels_are_shared_by_all_and_the_first_publishes() -> None:
    found = shares(Plan(connections=10, channels=2), 3)
    assert [share.connections for share in found] == [4, 3, 3]
    assert [share.publishers for share in found] == ["one", "none", "none"]
    assert {share.channels for share in found} == {2}
    assert {share.inflight for share in found} == {2}


def test_many_channels_are_dealt_out() -> None:
    found = shares(Plan(connections=8, channels=5, inflight=3, rate=10.0), 2)
    assert [(share.first_channel, share.channels) for share in found] == [(0, 3), (3, 2)]
    assert [share.connections for share in found] == [6, 2]
    assert [share.inflight for share in found] == [2, 1]
    assert [share.rate for share in found] == [6.0, 4.0]
    assert [share.channel(0) for share in found] == ["bench0", "bench3"]


@pytest.mark.parametrize(("connections", "channels", "processes"), [(7, 3, 2), (100, 7, 4), (5, 5, 5), (99, 10, 3)])
def test_every_channel_keeps_its_connections(connections: int, channels: int, processes: int) -> None:
    counts = dict.fromkeys(range(channels), 0)
    for share in shares(Plan(connections=connections, channels=channels), processes):
        for number in range(share.connections):
            counts[share.first_channel + number % share.channels] += 1
    assert list(counts.values()) == [len(range(channel, connections, channels)) for channel in range(channels)]


def test_each_process_has_something_in_flight() -> None:
    assert [share.inflight for share in shares(Plan(channels=3, inflight=1), 3)] == [1, 1, 1]


def test_tokens_are_taken_in_turn() -> None:
    plan = Plan(tokens=("a", "b"))
    assert [plan.token(number) for number in range(3)] == ["a", "b", "a"]
    assert Plan().token(0) == ""
