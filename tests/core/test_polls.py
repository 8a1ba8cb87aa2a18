"""Channels that are polled, without backend and clients: who tracks what, and until when."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.config.settings.polls import PollOptions
from gateway.core import polls
from gateway.core.losses import Losses
from gateway.core.patches import Patches
from gateway.core.poll_values import Value
from gateway.core.polls import Item, Poll, Polls
from gateway.core.wheel import Wheel
from gateway.messages import Payload, Position
from gateway.metrics import Metrics
from tests.core.test_hub import Client, Clock
from tests.waiting import until

OFTEN = PollOptions(refresh_interval=0.01, channel_shutdown_delay=-1, track_expired_extra_delay=3)


@dataclass(eq=False)
class Watcher:
    connection: Client = field(default_factory=Client)
    delta: bool = False
    losses: int = 0
    channel: str = "poll:a"

    def lose_position(self, _before: Position | None) -> None:
        self.losses += 1


class Source:
    """A backend that has the same for each key, and says for how many it is asked at a time."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.told: list[bytes] = []
        self.asked: list[list[tuple[str, int]]] = []
        self.failure: Exception | None = None
        self.under_way = self.most = 0
        self.polls = Polls(self.post, Losses(Wheel()), self.clock, 2, Patches(), Metrics())
        self.polls.fetch = self.fetch

    def post(self, _connection: Any, message: bytes) -> None:
        self.told.append(message)

    async def fetch(self, _proxy: str, _channel: str, keys: list[tuple[str, int]]) -> tuple[Sequence[Value], str]:
        self.asked.append(keys)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        if self.failure is not None:
            raise self.failure
        return [Value(key, Payload(key.encode())) for key, _ in keys], ""

    def poll(self, watcher: Watcher, *keys: str, expire_at: int = 0, options: PollOptions = OFTEN) -> Poll:
        poll = self.polls.open("poll:a", options)
        poll.join(watcher)
        poll.track(watcher, [Item(key, 0, expire_at) for key in keys])
        return poll


@pytest.fixture
async def source() -> AsyncIterator[Source]:
    made = Source()
    yield made
    await made.polls.stop()
    assert not made.polls._tasks


async def test_a_key_goes_a_while_after_its_signature(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polls, "SWEEP", 1.0)
    watcher = Watcher()
    poll = source.poll(watcher, "a", expire_at=1010)
    poll.track(watcher, [Item("b", 0, 0)])
    source.clock.now = 1013.0
    await until(lambda: len(source.asked) > 4)
    assert [key for key, _ in source.asked[-1]] == ["a", "b"]
    source.clock.now = 1014.5
    await until(lambda: [key for key, _ in source.asked[-1]] == ["b"])


async def test_nothing_is_kept_of_a_channel_that_nobody_tracks(source: Source) -> None:
    watcher, other = Watcher(), Watcher()
    poll = source.poll(watcher, "a")
    assert source.poll(other, "a") is poll
    poll.leave(watcher)
    await until(lambda: len(source.asked) > 2)
    poll.leave(other)
    await until(lambda: not source.polls._of)
    assert source.polls.open("poll:a", OFTEN).epoch != poll.epoch, "versions begin anew"


async def test_so_many_are_asked_for_at_a_time(source: Source) -> None:
    source.poll(Watcher(), *"abcdefgh", options=PollOptions(refresh_batch_size=1))
    await until(lambda: len(source.asked) == 8)
    assert source.most == 2


async def test_a_defect_ends_no_loop(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    source.failure = ZeroDivisionError()
    source.poll(Watcher(), "a")
    await until(lambda: len(source.asked) > 3)
    source.failure = None
    await until(lambda: source.told == [b"a"])
    assert "channel poll:a: its values could not be asked for" in caplog.text


async def test_who_asks_again_and_again_does_not_ask_the_backend_more(source: Source) -> None:
    watcher = Watcher()
    poll = source.poll(watcher, "a", options=PollOptions())
    await until(lambda: source.told == [b"a"])
    for _ in range(100):
        poll.track(watcher, [Item("a", 0, 0)])
    await until(lambda: source.told == [b"a", b"a"])
    assert len(source.asked) == 2
    poll.track(watcher, [Item("a", 0, 0)])
    await until(lambda: len(source.asked) == 3)


async def test_who_come_together_are_asked_for_together(source: Source) -> None:
    for number in range(100):
        source.poll(Watcher(), f"key {number}", options=PollOptions(refresh_batch_size=60))
    await until(lambda: len(source.told) == 100)
    assert [len(keys) for keys in source.asked] == [60, 40]


async def test_keys_end_with_their_own_signature(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polls, "SWEEP", 1.0)
    watcher = Watcher()
    poll = source.poll(watcher, "a", expire_at=1010)
    poll.track(watcher, [Item("b", 0, 1020), Item("c", 0, 0)])
    await until(lambda: source.asked)
    for now, left in ((1014.0, ["b", "c"]), (1024.0, ["c"])):
        source.clock.now = now
        await until(lambda: [key for key, _ in source.asked[-1]] == left)  # noqa: B023  it is waited for here
    assert poll.would_track(watcher, (), ()) == 1


async def test_nobody_is_asked_for_who_merely_subscribes(source: Source) -> None:
    watcher = Watcher()
    poll = source.polls.open("poll:a", OFTEN)
    poll.join(watcher)
    poll.untrack(watcher, ["a"])
    assert not source.polls._tasks
    poll.leave(watcher)
    assert not source.polls._of


async def test_options_hold_with_the_next_who_comes(source: Source) -> None:
    source.poll(Watcher(), *"abcd", options=PollOptions())
    await until(lambda: len(source.told) == 4)
    source.poll(Watcher(), *"efgh", options=PollOptions(refresh_batch_size=1))
    await until(lambda: len(source.told) == 8)
    assert [len(keys) for keys in source.asked] == [4, 1, 1, 1, 1]


async def test_once_it_is_stopped_nobody_is_asked(source: Source) -> None:
    watcher = Watcher()
    poll = source.poll(watcher, "a")
    await until(lambda: source.told == [b"a"])
    await source.polls.stop()
    source.asked.clear()
    poll.track(watcher, [Item("b", 0, 0)])
    await until(lambda: not source.polls._tasks)
    assert not source.asked
