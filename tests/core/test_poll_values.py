"""What those are told who track keys: patches, what is kept, what is published, and what is of another epoch."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from gateway.config.settings.polls import PollOptions
from gateway.core import polls
from gateway.core.losses import PAUSE, PORTION, Losses
from gateway.core.patches import Patches
from gateway.core.poll_values import Value
from gateway.core.polls import Item, Polls
from gateway.core.wheel import Wheel
from gateway.errors import DisconnectCode, Error, ErrorCode
from gateway.messages import Payload, Publication, Quoted
from gateway.metrics import Metrics
from gateway.protocols.base import Wire
from gateway.protocols.centrifuge_json import CentrifugeJson
from gateway.protocols.fossil import apply
from tests.core.test_hub import Client, Clock
from tests.core.test_polls import Watcher
from tests.core.test_wheel import Clock as WheelClock
from tests.waiting import until

PAD = "x" * 200


def text(data: Any) -> Payload:
    return Payload(json.dumps(data).encode())


class Versions:
    """A backend with versions, asked only when a test says so; and what it is told in JSON, as clients read it."""

    def __init__(self, **options: Any) -> None:
        self.there: dict[str, Value] = {}
        self.asked: list[dict[str, int]] = []
        self.told: list[dict[str, Any]] = []
        self.epochs: list[str] = []
        """Those of its answers, one after another."""
        self.meanwhile: Callable[[], None] | None = None
        """What happens while it is asked the next time."""
        self.time = WheelClock()
        self.wheel = Wheel(self.time)
        self.polls = Polls(self.post, Losses(self.wheel), Clock(), 2, Patches(), Metrics())
        self.polls.fetch = self.fetch
        self.poll = self.polls.open("poll:a", PollOptions(mode="versioned", publish_enabled=True, **options))

    def post(self, _connection: Any, message: bytes) -> None:
        self.told.append(json.loads(message)["push"]["pub"])

    async def fetch(self, _proxy: str, _channel: str, keys: list[tuple[str, int]]) -> tuple[Sequence[Value], str]:
        self.asked.append(dict(keys))
        epoch = self.epochs.pop(0) if self.epochs else ""
        meanwhile = self.meanwhile
        self.meanwhile = None
        if meanwhile is not None:
            meanwhile()
        return [self.there[key] for key, _ in keys if key in self.there], epoch

    def watcher(self, *, delta: bool = False) -> Watcher:
        watcher = Watcher(Client(wire=Wire(CentrifugeJson(), bytes)), delta)
        self.poll.join(watcher)
        return watcher

    def publish(self, key: str, version: int, data: Any, epoch: str = "") -> None:
        self.poll.publish(Publication(text(data), key=key, version=version, epoch=epoch))

    def has(self, key: str, version: int, data: Any, previous: Any = None) -> None:
        self.there[key] = Value(key, text(data), version, previous=text(previous) if previous else None)


def forms(told: Sequence[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(each["version"], "patch" if each.get("delta") else "whole") for each in told]


@pytest.fixture
async def versions(request: pytest.FixtureRequest) -> AsyncIterator[Versions]:
    made = Versions(**getattr(request, "param", {"refresh_interval": 0.02}))
    yield made
    await made.polls.stop()


async def test_patches_are_on_what_the_backend_says_was_there(versions: Versions) -> None:
    watcher, plain = versions.watcher(delta=True), versions.watcher()
    values = [[PAD, number] for number in range(5)]
    versions.has("k", 1, values[1])
    versions.poll.track(watcher, [Item("k", 0, 0)])
    await until(lambda: forms(versions.told) == [(1, "whole")])
    assert versions.told[0]["data"] == json.dumps(values[1]), "a string, for who has negotiated delta"
    versions.has("k", 2, values[2], previous=values[1])
    await until(lambda: forms(versions.told)[1:] == [(2, "patch")])
    assert apply(json.dumps(values[1]).encode(), versions.told[1]["data"].encode()) == text(values[2])
    versions.has("k", 3, values[3], previous=[PAD, "something else"])
    await until(lambda: forms(versions.told)[2:] == [(3, "whole")])
    versions.poll.track(watcher, [Item("k", 3, 0)])
    versions.has("k", 4, values[4], previous=values[3])
    await until(lambda: forms(versions.told)[3:] == [(4, "whole")])
    versions.poll.track(plain, [Item("k", 4, 0)])
    versions.has("k", 5, values[0], previous=values[4])
    await until(lambda: sorted(forms(versions.told)[4:]) == [(5, "patch"), (5, "whole")])
    versions.there["k"] = Value("k", removed=True)
    await until(lambda: len(versions.told) == 8)
    removals = {"key": "k", "removed": True}, {"data": "null", "key": "k", "removed": True}
    assert sorted(versions.told[6:], key=len) == list(removals)


async def test_a_version_may_come_in_other_bytes(versions: Versions) -> None:
    first, second = versions.watcher(delta=True), versions.watcher(delta=True)
    versions.has("k", 1, {"pad": PAD, "n": 1})
    versions.poll.track(first, [Item("k", 0, 0)])
    await until(lambda: len(versions.told) == 1)
    versions.has("k", 1, {"n": 1, "pad": PAD})
    versions.poll.track(second, [Item("k", 0, 0)])
    await until(lambda: len(versions.told) == 2)
    versions.has("k", 2, {"n": 2, "pad": PAD}, previous={"n": 1, "pad": PAD})
    await until(lambda: sorted(forms(versions.told)[2:]) == [(2, "patch"), (2, "whole")])


@pytest.mark.parametrize(
    "versions", [{"refresh_interval": 0.02, "keep_latest_data": True}], indirect=True, ids=["kept"]
)
async def test_what_is_kept_is_answered_at_once(versions: Versions) -> None:
    first, second = versions.watcher(delta=True), versions.watcher(delta=True)
    versions.has("k", 1, [PAD, 1])
    assert not versions.poll.track(first, [Item("k", 0, 0)])
    await until(lambda: forms(versions.told) == [(1, "whole")])
    [answered] = versions.poll.track(second, [Item("k", 0, 0)])
    assert (answered.key, answered.version, answered.data) == ("k", 1, Quoted(text([PAD, 1])))
    assert not versions.poll.track(versions.watcher(), [Item("k", 1, 0)])
    versions.has("k", 2, [PAD, 2])
    await until(lambda: sorted(forms(versions.told)[1:]) == [(2, "patch"), (2, "patch"), (2, "whole")])
    versions.has("large", 1, "x" * polls.ANSWERED)
    versions.poll.track(first, [Item("large", 0, 0)])
    await until(lambda: [each["key"] for each in versions.told[4:]] == ["large"])
    assert not versions.poll.track(second, [Item("large", 0, 0)])
    await until(lambda: [each["key"] for each in versions.told[5:]] == ["large"])


async def test_what_is_published_is_told_to_who_has_less(versions: Versions) -> None:
    versions.has("k", 1, 1)
    watcher, ahead = versions.watcher(), versions.watcher()
    versions.poll.track(watcher, [Item("k", 0, 0)])
    await until(lambda: len(versions.told) == 1)
    versions.poll.track(ahead, [Item("k", 5, 0)])
    versions.publish("k", 3, 3)
    versions.publish("k", 3, "not newer")
    versions.publish("nobody's", 3, 3)
    assert versions.told[1:] == [{"data": 3, "key": "k", "version": 3}]


async def test_what_is_published_is_left_out_of_the_next_cycle(versions: Versions) -> None:
    versions.has("k", 1, 1)
    versions.has("l", 1, 1)
    versions.poll.track(versions.watcher(), [Item("k", 0, 0), Item("l", 0, 0)])
    await until(lambda: {"k": 1, "l": 1} in versions.asked)
    versions.asked.clear()
    versions.meanwhile = lambda: versions.publish("k", 3, 3)
    await until(lambda: {"k": 3, "l": 1} in versions.asked)
    assert versions.asked[:3] == [{"k": 1, "l": 1}, {"l": 1}, {"k": 3, "l": 1}]


async def test_what_is_published_is_asked_for_if_somebody_still_waits_for_it(versions: Versions) -> None:
    versions.has("k", 1, 1)
    versions.has("l", 1, 1)
    versions.poll.track(versions.watcher(), [Item("k", 0, 0), Item("l", 0, 0)])
    await until(lambda: {"k": 1, "l": 1} in versions.asked)

    def fail() -> None:
        raise Error(ErrorCode.INTERNAL)

    versions.publish("k", 2, 2)
    versions.meanwhile = fail
    versions.poll.track(versions.watcher(), [Item("k", 0, 0)])
    await until(lambda: {"k": 0, "l": 1} in versions.asked)
    assert {"l": 1} not in versions.asked


async def test_all_that_is_tracked_may_have_been_published(versions: Versions) -> None:
    versions.poll.track(versions.watcher(), [Item("k", 1, 0)])
    versions.meanwhile = lambda: versions.publish("k", 3, 3)
    await until(lambda: versions.asked[-2:] == [{"k": 0}, {"k": 3}])


async def test_a_backend_that_is_behind_is_asked_again(versions: Versions) -> None:
    versions.has("k", 1, 1)
    first = versions.watcher()
    versions.poll.track(first, [Item("k", 0, 0)])
    await until(lambda: len(versions.told) == 1)
    versions.publish("k", 2, 2)
    versions.poll.track(versions.watcher(), [Item("k", 0, 0)])
    await until(lambda: len(versions.told) == 3)
    assert versions.told[2]["version"] == 1, "what the backend has, for who has nothing"
    versions.has("k", 2, 2)
    await until(lambda: len(versions.told) == 4)
    assert versions.told[3]["version"] == 2


async def test_a_publication_of_another_epoch(versions: Versions) -> None:
    versions.has("k", 9, 9)
    watcher = versions.watcher()
    versions.poll.track(watcher, [Item("k", 0, 0)])
    await until(lambda: len(versions.told) == 1)
    versions.publish("k", 10, 10, epoch="one")
    assert (versions.poll.epoch, len(versions.told), watcher.losses) == ("one", 2, 0)
    versions.publish("k", 1, 1, epoch="two")
    assert (versions.poll.epoch, len(versions.told), watcher.losses) == ("two", 2, 1)


async def test_many_subscribe_again_by_and_by(versions: Versions) -> None:
    watchers = [versions.watcher() for _ in range(2 * PORTION)]
    for each in watchers:
        versions.poll.track(each, [Item("k", 1, 0)])
    versions.publish("k", 2, 2, epoch="one")
    versions.told.clear()
    versions.publish("k", 1, 1, epoch="two")
    assert sum(each.losses for each in watchers) == PORTION
    first = watchers[0]
    versions.poll.leave(first)
    versions.poll.join(first)
    versions.poll.track(first, [Item("k", 0, 0)])
    versions.publish("k", 3, 3, epoch="two")
    assert len(versions.told) == 1, "nobody who is to come back hears of another epoch"
    for _ in range(2):
        versions.time.now += PAUSE + 0.1
        versions.wheel.turn()
        assert {each.losses for each in watchers} == {1}


@pytest.mark.parametrize("versions", [{"refresh_interval": 600}], indirect=True, ids=["no cycle"])
async def test_an_answer_of_the_epoch_before_is_none(versions: Versions) -> None:
    watcher = versions.watcher()
    versions.publish("k", 1, 1, epoch="one")

    def begin_anew() -> None:
        versions.publish("k", 1, 1, epoch="two")
        versions.poll.track(watcher, [Item("k", 0, 0)])
        versions.epochs.append("two")

    versions.meanwhile = begin_anew
    versions.epochs.append("one")
    versions.has("k", 1, 1)
    versions.poll.track(watcher, [Item("k", 0, 0)])
    await until(lambda: len(versions.told) == 1)
    assert (versions.poll.epoch, watcher.losses) == ("two", 1)
    assert versions.asked == [{"k": 0}, {"k": 0}]


async def test_nothing_is_published_for_who_may_track_it_no_longer(
    versions: Versions,
) -> None:
    watcher = versions.watcher()
    versions.poll.track(watcher, [Item("k", 0, 1000)])
    clock = versions.polls.clock
    assert isinstance(clock, Clock)
    clock.now = 1040.0
    versions.publish("k", 1, 1)
    assert not versions.told


@pytest.mark.parametrize("versions", [{"refresh_interval": 600}], indirect=True, ids=["no cycle"])
async def test_nothing_that_others_ask_for_is_told_to_who_may_track_it_no_longer(versions: Versions) -> None:
    versions.has("k", 1, 1)
    versions.poll.track(versions.watcher(), [Item("k", 0, 1000)])
    await until(lambda: len(versions.told) == 1)
    clock = versions.polls.clock
    assert isinstance(clock, Clock)
    clock.now = 1040.0
    versions.has("k", 2, 2)
    versions.poll.track(versions.watcher(), [Item("k", 0, 0)])
    await until(lambda: len(versions.told) > 1)
    assert [each["version"] for each in versions.told] == [1, 2]


async def test_data_that_some_cannot_read(versions: Versions) -> None:
    watcher = versions.watcher()
    versions.poll.track(watcher, [Item("k", 0, 0)])
    versions.poll.publish(Publication(Payload(b"\xff"), key="k", version=1, binary=True))
    assert isinstance(watcher.connection, Client)
    assert watcher.connection.disconnected == [DisconnectCode.INAPPROPRIATE_PROTOCOL]
