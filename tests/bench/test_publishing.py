"""The closed loop, the open loop, and the frames they send."""

import json
from collections.abc import Iterator

import pytest

from gateway.bench.dialect import now
from gateway.bench.plan import Plan
from gateway.bench.publishing import STALLED, ClosedLoop, Messages, OpenLoop, Publish

Sent = list[int]


@pytest.fixture
def sent() -> Sent:
    return []


def into(sent: Sent, answer: bool = True) -> Publish:
    """Publishing that writes down the channel."""

    def publish(channel: int) -> bool:
        sent.append(channel)
        return answer

    return publish


def closed(sent: Sent, inflight: int, subscribers: list[list[int]]) -> ClosedLoop:
    loop = ClosedLoop(inflight, subscribers, into(sent))
    loop.start()
    return loop


def test_as_many_are_in_flight_as_asked_for(sent: Sent) -> None:
    loop = closed(sent, 3, [[5]])
    assert sent == [0, 0, 0]
    loop.passed(0, 0, 2)
    assert len(sent) == 5


def test_channels_take_turns(sent: Sent) -> None:
    loop = closed(sent, 2, [[1, 1, 1]])
    loop.passed(0, 0, 1)
    loop.passed(0, 2, 1)
    assert sent == [0, 1, 2, 0]


def test_a_message_has_arrived_once_all_processes_have_it(sent: Sent) -> None:
    loop = closed(sent, 1, [[5], [5], [0]])
    loop.passed(1, 0, 1)
    assert len(sent) == 1
    loop.passed(0, 0, 1)
    assert len(sent) == 2


def test_nothing_is_published_where_nobody_is(sent: Sent) -> None:
    closed(sent, 4, [[1, 0, 1]])
    assert sent == [0, 2, 0, 2]
    refusals: Sent = []
    ClosedLoop(1, [[1, 1]], into(refusals, answer=False)).start()
    assert refusals == [0, 1]


def test_lost_messages_are_found_and_replaced(sent: Sent) -> None:
    loop = closed(sent, 3, [[2], [2]])
    loop.passed(1, 0, 1)
    assert loop.stalled([1], 10.0) == []
    assert loop.stalled([1], 10.0 + STALLED / 2) == []
    assert loop.stalled([2], 10.0 + STALLED) == []  # something came
    assert loop.stalled([2], 10.0 + 2 * STALLED) == [(0, 3)]
    loop.start_again(0)
    assert len(sent) == 6
    for process in (0, 1):
        loop.passed(process, 0, 1)
    assert len(sent) == 7


def test_a_channel_at_rest_has_lost_nothing(sent: Sent) -> None:
    loop = closed(sent, 1, [[1, 1]])
    for time in (0.0, 2 * STALLED):
        assert loop.stalled([0, 0], time) == ([(0, 1)] if time else [])


def test_the_open_loop_keeps_its_rate(sent: Sent) -> None:
    loop = OpenLoop(10.0, 2, into(sent), 5.0)
    assert loop.publish_due(5.0) == pytest.approx(0.1)
    assert sent == [0]
    assert loop.publish_due(5.05) == pytest.approx(0.05)
    assert sent == [0]
    loop.publish_due(5.31)  # late: what was due is made up for
    assert sent == [0, 1, 0, 1]


def test_frames_differ_in_their_time_alone() -> None:
    messages = Messages(Plan(size=60))
    before = now()
    frames = [messages.frame(7) for _ in range(3)]
    assert len({len(frame) for frame in frames}) == 1
    times = [json.loads(_payload(frame))["publish"]["data"]["t"] for frame in frames]
    assert before <= times[0] < times[1] < times[2]
    assert json.loads(_payload(frames[0]))["publish"]["channel"] == "bench7"


def test_no_two_messages_have_one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.bench.publishing.now", lambda: 10**15)
    messages = Messages(Plan())
    found: Iterator[int] = (json.loads(messages.data())["t"] for _ in range(3))
    assert list(found) == [10**15, 10**15 + 1, 10**15 + 2]


def _payload(frame: bytes) -> bytes:
    return frame[frame.index(b"{") :]
