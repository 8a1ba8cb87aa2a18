"""The oracle sees what it is there to see."""

import asyncio
import random
import time
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from tests.chaos.ground import Ground
from tests.chaos.joins import Joins
from tests.chaos.oracle import nothing_lost, within
from tests.chaos.page import Page
from tests.chaos.probe import waits
from tests.chaos.record import Accepted, Membership, Record


class Wire(asyncio.Transport):
    """Takes what a page writes."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = False

    def write(self, data: Any) -> None: ...

    def abort(self) -> None:
        self.ended = True

    close = abort


@pytest.fixture
def record() -> Record:
    return Record()


@pytest.fixture
async def page(record: Record) -> Page:
    """One that has subscribed to feed:1, and stands at offset 4 of epoch e."""
    page = Page("user", "token", ["feed:1"], record, random.Random(1))
    page.due = None
    _come(page)
    _say(page, {"id": 2, "subscribe": {"epoch": "e", "offset": 4, "recoverable": True}})
    return page


def _come(page: Page) -> None:
    page.connection_made(Wire())
    page.data_received(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    _say(page, {"id": page._last_id, "connect": {"client": "c", "ping": 10}})


def _say(page: Page, line: Any) -> None:
    payload = msgspec.json.encode(line)
    page.data_received(bytes((0x81, 126)) + len(payload).to_bytes(2, "big") + payload)


def _publish(page: Page, offset: int, number: int) -> None:
    _say(page, {"push": {"channel": "feed:1", "pub": {"data": {"n": number}, "offset": offset}}})


def test_what_comes_in_order_is_right(page: Page, record: Record) -> None:
    for offset in (5, 6, 7):
        _publish(page, offset, offset)
    assert record.wrong == []
    assert record.counts["delivered"] == 3


@pytest.mark.parametrize(
    ("offsets", "told"), [([5, 7], "lost"), ([5, 5], "doubled or reordered"), ([5, 6, 5], "doubled or reordered")]
)
def test_what_is_lost_doubled_or_reordered_is_seen(page: Page, record: Record, offsets: list[int], told: str) -> None:
    for offset in offsets:
        _publish(page, offset, offset)
    assert told in record.wrong[0]


def test_a_publication_that_comes_twice_at_new_offsets_is_seen(page: Page, record: Record) -> None:
    _publish(page, 5, 1)
    _publish(page, 6, 1)
    assert "gave number 1 after 1" in record.wrong[0]


def _come_again(page: Page, result: dict[str, Any]) -> None:
    page.connection_lost(None)
    page.due = None
    _come(page)
    _say(page, {"id": page._last_id, "subscribe": result})


def test_what_recovery_leaves_out_is_seen(page: Page, record: Record) -> None:
    _come_again(page, {"epoch": "e", "offset": 6, "recovered": True, "publications": [{"data": {"n": 5}, "offset": 5}]})
    assert "lost 6 to 6 in recovery" in record.wrong[0]


def test_what_recovery_under_a_new_epoch_leaves_out_is_seen(page: Page, record: Record) -> None:
    _publish(page, 5, 1)
    _come_again(page, {"epoch": "f", "offset": 5, "recovered": True})
    _publish(page, 6, 2)
    assert record.wrong == []
    _publish(page, 7, 4)
    assert "gave number 4 after 2" in record.wrong[0]


def test_who_is_told_that_it_did_not_recover_has_lost_nothing_in_silence(page: Page, record: Record) -> None:
    _publish(page, 5, 5)
    _come_again(page, {"epoch": "f", "offset": 9})
    _publish(page, 10, 9)
    assert record.wrong == []
    assert record.counts["told recovered:false"] == 1


def test_who_is_sent_away_for_good_is_seen(page: Page, record: Record) -> None:
    page.data_received(bytes((0x88, 2)) + (3500).to_bytes(2, "big"))
    page.connection_lost(None)
    assert "3500" in record.wrong[0]


async def test_who_hears_no_ping_gives_up(page: Page) -> None:
    wire = cast(Wire, page._transport)
    page.look(asyncio.get_running_loop().time() + 14)
    assert not wire.ended
    page.look(asyncio.get_running_loop().time() + 16)
    assert wire.ended


def test_an_acknowledged_publication_that_was_heard_as_another_is_seen(record: Record) -> None:
    record.hear("user", "feed:1", "e", 1, 7)
    assert record.check([Accepted("feed:1", "e", 1, 7)]) == ([], 0)
    wrong, unheard = record.check([Accepted("feed:1", "e", 1, 8), Accepted("feed:1", "e", 2, 9)])
    assert "8 was accepted at 1, where 7 was heard" in wrong[0]
    assert unheard == 1


def test_two_who_hear_different_things_at_one_place_are_seen(record: Record) -> None:
    record.hear("one", "feed:1", "e", 1, 7)
    record.hear("two", "feed:1", "e", 1, 8)
    assert "others heard 7 there" in record.wrong[0]


def test_pings_that_could_not_be_sent_meanwhile_count() -> None:
    assert len(waits(1.0, 1.01)) == 1
    assert [round(took, 2) for _, took in waits(1.0, 1.19)] == [0.19, 0.14, 0.09, 0.04]


def test_joins_and_leaves_that_do_not_alternate_are_seen() -> None:
    joins, member = Joins("observer"), Membership()
    member.live = True
    members = {("c", "room:1"): member}
    joins.hear("join", "room:1", "c")
    assert joins.shown_as_gone(members) == joins.shown_as_there(members) == []
    member.live = False
    assert joins.shown_as_there(members)
    member.live = True
    joins.hear("leave", "room:1", "c")
    assert joins.shown_as_gone(members)
    assert joins.left_too_often(members)
    assert joins.twice == []
    joins.hear("leave", "room:1", "c")
    assert joins.twice


async def test_what_comes_after_its_bound_has_not_come_in_time() -> None:
    async def ready() -> bool:
        return True

    assert await within(ready, time.monotonic() - 15.3, 15.0) is None
    assert await within(ready, time.monotonic() - 14.0, 15.0) is not None


async def test_what_is_on_its_way_is_waited_for_and_then_judged() -> None:
    asked: list[Any] = []
    tops = {"feed:1": ("e", 1)}
    accepted = Accepted("feed:1", "e", 1, 7)

    async def ask(what: str, *arguments: Any) -> Any:
        asked.append((what, *arguments))
        answers: dict[str, Any] = {"behind": (asked.count(("behind", tops)) < 3, []), "wrong": [], "check": ([], 1)}
        return answers[what]

    publishers = SimpleNamespace(tops=tops, accepted=lambda before: [accepted] * (before <= time.monotonic()))
    ground = cast(Ground, SimpleNamespace(crowd=SimpleNamespace(ask=ask), publishers=publishers))
    finding = await nothing_lost(ground)
    assert asked == [("behind", tops)] * 3 + [("wrong",), ("check", [accepted])]
    assert finding.offenders == ["1 that were accepted were heard by nobody"]
