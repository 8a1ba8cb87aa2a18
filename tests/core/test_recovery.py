from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.brokers.base import Continued
from gateway.core.recovery import Recovery, merge, recover_cache, recover_stream, resume
from gateway.errors import Disconnect, DisconnectCode
from gateway.messages import Payload, Position, Publication

MOST = 1000
EPOCH = "qTzWvbYc"
TOP = Position(5, EPOCH)


def stored(*offsets: int) -> list[Publication]:
    return [Publication(Payload(b"%d" % offset), offset=offset) for offset in offsets]


def live(*offsets: int, epoch: str = EPOCH) -> list[Publication]:
    return [Publication(Payload(b"%d" % offset), offset=offset, epoch=epoch) for offset in offsets]


def offsets(recovery: Recovery) -> list[int]:
    return [each.offset for each in recovery.publications]


# — under which epoch —

THIRD = Continued(9, "third", (Position(3, "first"), Position(3, "second"), Position(7, "former")))
RESUMED: dict[str, tuple[Position, Position]] = {
    "before the end of the first": (Position(2, "first"), Position(2, "third")),
    "at its end": (Position(3, "first"), Position(3, "third")),
    "beyond it": (Position(4, "first"), Position(4, "first")),
    "under one that nothing was published under": (Position(3, "second"), Position(3, "third")),
    "at the end of the last": (Position(7, "former"), Position(7, "third")),
    "beyond the last": (Position(8, "former"), Position(8, "former")),
    "at the beginning": (Position(0, "former"), Position(0, "third")),
    "under the present one": (Position(9, "third"), Position(9, "third")),
    "beyond the present one": (Position(10, "third"), Position(10, "third")),
    "under another stream's": (Position(1, "other"), Position(1, "other")),
    "under any": (Position(1), Position(1)),
}


@pytest.mark.parametrize(("since", "now"), RESUMED.values(), ids=RESUMED)
def test_former_epochs(since: Position, now: Position) -> None:
    assert resume(since, THIRD) == (now, Position(9, "third"))
    assert resume(since, TOP) == (since, TOP)
    assert resume(None, THIRD) == (None, Position(9, "third"))


# — stored —

STREAMS: dict[str, tuple[Position, tuple[int, ...], bool]] = {
    "all that was missed": (Position(2, EPOCH), (3, 4, 5), True),
    "one": (Position(4, EPOCH), (5,), True),
    "nothing missed": (Position(5, EPOCH), (), True),
    "the first was evicted": (Position(2, EPOCH), (4, 5), False),
    "all were evicted": (Position(2, EPOCH), (), False),
    "cut off by the limit": (Position(2, EPOCH), (3, 4), False),
    "one is left out that cannot be read": (Position(2, EPOCH), (3, 5), False),
    "another epoch": (Position(2, "other"), (3, 4, 5), False),
    "another epoch at the same offset": (Position(5, "other"), (), False),
    "the epoch of a client told to forget": (Position(0, "_"), (1, 2, 3, 4, 5), False),
    "any epoch, everything": (Position(0, ""), (1, 2, 3, 4, 5), True),
    "any epoch, no longer everything": (Position(0, ""), (2, 3, 4, 5), False),
    "any epoch from the middle": (Position(3, ""), (4, 5), True),
    "ahead of the stream": (Position(9, EPOCH), (), False),
}


@pytest.mark.parametrize(("since", "stream", "recovered"), STREAMS.values(), ids=STREAMS)
def test_streams(since: Position, stream: tuple[int, ...], recovered: bool) -> None:
    found = recover_stream(since, stored(*stream), TOP, MOST)
    assert (found.recovered, found.position) == (recovered, TOP)
    assert offsets(found) == (list(stream) if recovered else [])


def test_an_empty_stream_is_recovered_from_its_beginning() -> None:
    assert recover_stream(Position(0, EPOCH), [], Position(0, EPOCH), MOST) == Recovery(True, [], Position(0, EPOCH))


def test_what_is_too_large_is_not_recovered() -> None:
    """A reply is one message, and is kept whole for as long as its client reads slowly."""
    since, stream = Position(0, EPOCH), stored(1, 2, 3, 4, 5)
    size = sum(len(each.data) for each in stream)
    assert recover_stream(since, stream, TOP, size).recovered
    assert recover_stream(since, stream, TOP, size - 1) == Recovery(False, [], TOP)


CELLS: dict[str, tuple[Position, int | None, bool, list[int]]] = {
    "up to date": (TOP, 5, True, []),
    "behind": (Position(1, EPOCH), 5, True, [5]),
    "another epoch": (Position(5, "other"), 5, True, [5]),
    "no position at all": (Position(), 5, True, [5]),
    "expired": (Position(1, EPOCH), None, False, []),
    "expired, and up to date": (TOP, None, True, []),
    "not the newest": (Position(1, EPOCH), 4, False, []),
}


@pytest.mark.parametrize(("since", "newest", "recovered", "sent"), CELLS.values(), ids=CELLS)
def test_cells(since: Position, newest: int | None, recovered: bool, sent: list[int]) -> None:
    found = recover_cache(since, stored(newest) if newest else [], TOP)
    assert (found.recovered, offsets(found), found.position) == (recovered, sent, TOP)


def test_cells_that_never_held_anything() -> None:
    top = Position(0, EPOCH)
    assert recover_cache(top, [], top) == Recovery(True, [], top)
    assert recover_cache(Position(3, EPOCH), [], top) == Recovery(False, [], top)


# — stored and live —

FOUND = Recovery(True, stored(4, 5), TOP)
MERGED: dict[str, tuple[tuple[int, ...], dict[str, Any], list[int], int]] = {
    "nothing live": ((), {}, [4, 5], 5),
    "what follows": ((6, 7), {}, [4, 5, 6, 7], 7),
    "duplicates": ((4, 5, 6), {}, [4, 5, 6], 6),
    "out of order, and twice": ((7, 6, 7, 6), {}, [4, 5, 6, 7], 7),
    "not recovering": ((6,), {"recovering": False}, [], 6),
    "the newest only": ((6, 7), {"newest_only": True}, [7], 7),
    "the newest only, nothing live": ((), {"newest_only": True}, [5], 5),
}


@pytest.mark.parametrize(("arrived", "how", "sent", "at"), MERGED.values(), ids=MERGED)
def test_merged(arrived: tuple[int, ...], how: dict[str, Any], sent: list[int], at: int) -> None:
    merged = merge(FOUND, live(*arrived), **{"recovering": True} | how)
    assert (merged.recovered, offsets(merged), merged.position) == (True, sent, Position(at, EPOCH))


def test_what_was_not_recovered_stays_so() -> None:
    merged = merge(Recovery(False, [], TOP), live(6), recovering=True)
    assert merged == Recovery(False, [], Position(6, EPOCH))


def test_a_live_publication_fills_an_empty_cell() -> None:
    merged = merge(Recovery(False, [], TOP), live(6), recovering=True, newest_only=True)
    assert (merged.recovered, offsets(merged), merged.position) == (True, [6], Position(6, EPOCH))


@pytest.mark.parametrize("arrived", [live(7), live(6, 8), live(6, epoch="other"), live(5, epoch="other")])
@pytest.mark.parametrize("recovering", [True, False])
def test_a_publication_missing_between(arrived: list[Publication], recovering: bool) -> None:
    with pytest.raises(Disconnect) as caught:
        merge(FOUND, arrived, recovering=recovering)
    assert caught.value.code == DisconnectCode.INSUFFICIENT_STATE


@given(st.data())
def test_recovered_means_exactly_what_was_missed(data: st.DataObject) -> None:
    """For any stream, eviction, limit and interleaving: all that was missed, in order, or nothing of it."""
    top = data.draw(st.integers(0, 12), "top when the stream was read")
    retained = data.draw(st.integers(1, top + 1), "oldest retained")
    since = data.draw(st.integers(0, 14), "offset of the client")
    limit = data.draw(st.integers(1, 14), "limit")
    end = data.draw(st.integers(top, top + 4), "top in the end")
    live_from = data.draw(st.integers(1, top + 1), "first publication heard live")
    heard = list(range(live_from, end + 1))
    heard = data.draw(st.permutations(heard + data.draw(st.lists(st.sampled_from(heard))) if heard else []))
    stream = stored(*range(max(retained, since + 1), top + 1))[:limit]

    found = recover_stream(Position(since, data.draw(st.sampled_from(["", EPOCH]))), stream, Position(top, EPOCH), MOST)
    merged = merge(found, live(*heard), recovering=True)

    assert merged.position == Position(end, EPOCH)
    complete = since <= top and retained <= since + 1 and top - since <= limit
    assert merged.recovered == complete
    assert offsets(merged) == (list(range(since + 1, end + 1)) if complete else [])


@given(st.sets(st.integers(1, 12)), st.integers(0, 12))
def test_a_gap_is_never_delivered(heard: set[int], top: int) -> None:
    found = Recovery(True, [], Position(top, EPOCH))
    after = sorted(offset for offset in heard if offset > top)
    if after == list(range(top + 1, top + 1 + len(after))):
        assert offsets(merge(found, live(*heard), recovering=True)) == after
    else:
        with pytest.raises(Disconnect):
            merge(found, live(*heard), recovering=True)
