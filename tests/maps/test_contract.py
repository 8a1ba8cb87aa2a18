"""What every map store does."""

import math
from collections.abc import Sequence

import pytest

from gateway.brokers.base import Claim, HistoryFilter
from gateway.errors import Error, ErrorCode
from gateway.maps.base import NO_EXTRAS, MapOptions, MapReceipt, MapWrite
from gateway.messages import ClientInfo, Payload, Position, Publication
from tests.maps.conftest import Ground
from tests.waiting import until

PERSISTENT = MapOptions(mode="persistent", history_size=100, history_ttl=60.0, history_meta_ttl=math.inf)
RECOVERABLE = MapOptions(mode="recoverable", history_size=100, history_ttl=60.0, history_meta_ttl=600.0, key_ttl=60.0)
EPHEMERAL = MapOptions(mode="ephemeral", key_ttl=60.0)
BRIEF = MapOptions(mode="recoverable", history_size=100, history_ttl=60.0, history_meta_ttl=600.0, key_ttl=0.05)
ALL = HistoryFilter(limit=-1)
EACH = pytest.mark.parametrize("options", [EPHEMERAL, RECOVERABLE, PERSISTENT], ids=lambda each: each.mode)
STREAMS = pytest.mark.parametrize("options", [RECOVERABLE, PERSISTENT], ids=lambda each: each.mode)


async def put(
    ground: Ground,
    key: str,
    text: str = "1",
    options: MapOptions = PERSISTENT,
    write: MapWrite = NO_EXTRAS,
    tags: dict[str, str] | None = None,
) -> MapReceipt:
    return await ground.maps.publish("m", Publication(Payload(text.encode()), key=key, tags=tags), options, write)


async def state(ground: Ground, options: MapOptions = PERSISTENT) -> dict[str, str]:
    page = await ground.maps.read_state("m", options, 100)
    return {each.key: each.data.decode() for each in page.entries}


async def changes(ground: Ground, since: Position | None = None) -> list[tuple[int, str, bool]]:
    stream, _ = await ground.maps.read_stream("m", PERSISTENT, HistoryFilter(limit=-1, since=since))
    return told(stream)


def told(publications: Sequence[Publication]) -> list[tuple[int, str, bool]]:
    return [(each.offset, each.key, each.removed) for each in publications]


async def heard(ground: Ground, count: int) -> list[Publication]:
    await until(lambda: len(ground.heard.publications) >= count)
    return [publication for _, publication in ground.heard.publications]


@EACH
async def test_a_change_updates_the_state_and_reaches_subscribers(ground: Ground, options: MapOptions) -> None:
    await ground.broker.subscribe("m")
    info = ClientInfo("u", "c", conn_info=Payload(b"1"))
    sent = Publication(Payload(b"\r\n:\x00\xff"), info=info, tags={"k": "v"}, binary=True, key="a:ü")
    receipt = await ground.maps.publish("m", sent, options)
    [live] = await heard(ground, 1)
    assert (live.key, live.data, live.info, live.tags, live.binary) == ("a:ü", sent.data, info, {"k": "v"}, True)
    assert (live.offset, live.epoch) == (receipt.offset, receipt.epoch)
    page = await ground.maps.read_state("m", options, 10)
    [entry] = page.entries
    assert (entry.key, entry.data, entry.info, entry.tags, entry.binary) == ("a:ü", sent.data, info, {"k": "v"}, True)
    assert entry.offset == receipt.offset == options.streams
    assert (page.position, page.cursor) == (Position(receipt.offset, receipt.epoch), "")
    assert bool(receipt.epoch) is options.streams
    assert await ground.maps.count("m") == 1


@STREAMS
async def test_entries_stand_at_the_offsets_of_their_changes(ground: Ground, options: MapOptions) -> None:
    for key, text in (("a", "1"), ("b", "2"), ("a", "3")):
        await put(ground, key, text, options)
    removed = await ground.maps.remove("m", "b", options)
    assert (removed.offset, removed.suppressed) == (4, "")
    page = await ground.maps.read_state("m", options, 10)
    assert [(each.key, each.offset, each.data) for each in page.entries] == [("a", 3, b"3")]
    stream, top = await ground.maps.read_stream("m", options, ALL)
    assert told(stream) == [(1, "a", False), (2, "b", False), (3, "a", False), (4, "b", True)]
    assert top == page.position == Position(4, removed.epoch)
    assert await ground.maps.verify([Claim("m", top, options), Claim("m", Position(3, top.epoch), options)]) == [
        True,
        False,
    ]


async def test_the_stream_is_trimmed_exactly_and_read_in_parts(ground: Ground) -> None:
    short = MapOptions(mode="persistent", history_size=2, history_ttl=60.0, history_meta_ttl=math.inf)
    for key in "abcd":
        await put(ground, key, options=short)
    assert await changes(ground) == [(3, "c", False), (4, "d", False)]
    assert await changes(ground, Position(3)) == [(4, "d", False)]
    newest, _ = await ground.maps.read_stream("m", short, HistoryFilter(limit=1, reverse=True))
    assert told(newest) == [(4, "d", False)]
    none, top = await ground.maps.read_stream("m", short, HistoryFilter())
    assert (none, top.offset) == ([], 4)
    assert await state(ground, short) == dict.fromkeys("abcd", "1")


@EACH
async def test_pages_hold_each_entry_once_in_the_order_of_keys(ground: Ground, options: MapOptions) -> None:
    for key in ("b", "ab", "ü", "a", "c"):
        await put(ground, key, options=options)
    keys: list[str] = []
    cursor = ""
    while cursor or not keys:
        page = await ground.maps.read_state("m", options, 2, cursor)
        keys += [each.key for each in page.entries]
        cursor = page.cursor
    assert keys == ["a", "ab", "b", "c", "ü"]
    assert (await ground.maps.read_state("m", options, 5)).cursor == ""
    assert (await ground.maps.read_state("m", options, 0)).entries == []
    one = await ground.maps.read_key("m", options, "ab")
    assert [each.key for each in one.entries] == ["ab"]
    assert (await ground.maps.read_key("m", options, "nobody")).entries == []


@EACH
async def test_key_modes_say_when_a_write_changes_nothing(ground: Ground, options: MapOptions) -> None:
    await ground.broker.subscribe("m")
    missing = await put(ground, "a", "0", options, MapWrite(key_mode="if_exists"))
    first = await put(ground, "a", "1", options, MapWrite(key_mode="if_new"))
    again = await put(ground, "a", "2", options, MapWrite(key_mode="if_new"))
    there = await put(ground, "a", "3", options, MapWrite(key_mode="if_exists"))
    absent = await ground.maps.remove("m", "b", options)
    reasons = [each.suppressed for each in (missing, first, again, there, absent)]
    assert reasons == ["key_not_found", "", "key_exists", "", "key_not_found"]
    assert (again.offset, absent.offset) == (first.offset, there.offset)
    assert missing.epoch == first.epoch == absent.epoch
    assert await state(ground, options) == {"a": "3"}
    assert [each.data for each in await heard(ground, 2)] == [b"1", b"3"]


@EACH
async def test_an_idempotency_key_is_answered_as_the_first_time(ground: Ground, options: MapOptions) -> None:
    once = MapWrite(idempotency_key="k")
    suppressed = await ground.maps.remove("m", "a", options, once)
    first = await put(ground, "a", "1", options, once)
    await put(ground, "a", "2", options)
    again = await put(ground, "a", "3", options, once)
    removed = await ground.maps.remove("m", "a", options, once)
    assert (suppressed.suppressed, first.suppressed) == ("key_not_found", "")  # only what was done is remembered
    assert again == removed == MapReceipt(first.offset, first.epoch, "idempotency")
    assert await state(ground, options) == {"a": "2"}


@STREAMS
async def test_versions_are_those_of_keys(ground: Ground, options: MapOptions) -> None:
    async def versioned(version: int, epoch: str = "", key: str = "a") -> str:
        return (
            await put(ground, key, str(version), options, MapWrite(version=version, version_epoch=epoch))
        ).suppressed

    large = 2**53
    assert await versioned(large + 1, "e") == ""
    assert await versioned(large, "e") == "version"
    assert await versioned(large + 1) == "version"
    assert await versioned(large + 2) == ""
    assert await versioned(1, key="b") == ""
    await put(ground, "a", "plain", options)
    assert await versioned(5) == "version"  # what has no version leaves the one that was there
    assert await versioned(1, "other") == ""
    await ground.maps.remove("m", "a", options)
    await put(ground, "a", "plain", options)
    assert await versioned(1, "other") == ""  # with its key its version goes


@STREAMS
async def test_a_write_may_expect_a_position(ground: Ground, options: MapOptions) -> None:
    first = await put(ground, "a", "1", options)
    at = Position(first.offset, first.epoch)
    wrong = await put(ground, "a", "2", options, MapWrite(expected=Position(7, first.epoch)))
    assert (wrong.suppressed, wrong.offset) == ("position_mismatch", 1)
    assert wrong.current is not None
    assert (wrong.current.offset, wrong.current.data) == (1, b"1")
    foreign = await ground.maps.remove("m", "a", options, MapWrite(expected=Position(1, "other")))
    absent = await ground.maps.remove("m", "b", options, MapWrite(expected=at))
    assert (foreign.suppressed, absent.suppressed) == ("position_mismatch", "position_mismatch")
    right = await put(ground, "a", "2", options, MapWrite(expected=at))
    assert (right.suppressed, right.offset) == ("", 2)


async def test_an_ephemeral_map_has_no_versions_positions_or_stream(ground: Ground) -> None:
    for write in (MapWrite(version=1), MapWrite(expected=Position(1))):
        with pytest.raises(Error) as failure:
            await put(ground, "a", options=EPHEMERAL, write=write)
        assert failure.value.code == ErrorCode.BAD_REQUEST
    receipt = await put(ground, "a", options=EPHEMERAL)
    assert receipt == MapReceipt()
    assert await ground.maps.read_stream("m", EPHEMERAL, ALL) == ([], Position())


async def test_a_map_may_have_so_many_keys(ground: Ground) -> None:
    two = MapOptions(mode="persistent", history_size=9, history_ttl=60.0, history_meta_ttl=math.inf, key_limit=2)
    for key in "ab":
        await put(ground, key, options=two)
    with pytest.raises(Error) as failure:
        await put(ground, "c", options=two)
    assert failure.value.code == ErrorCode.LIMIT_EXCEEDED
    assert (await put(ground, "a", "2", two)).offset == 3


async def test_what_a_key_had_before_goes_along_where_patches_are_wanted(ground: Ground) -> None:
    await ground.broker.subscribe("m")
    delta = MapWrite(delta=True)
    await put(ground, "a", "1", write=delta)
    await put(ground, "b", "2", write=delta)
    await put(ground, "a", "3", write=delta)
    await put(ground, "a", "4")
    await ground.maps.remove("m", "a", PERSISTENT, delta)
    await put(ground, "a", "5", write=delta)
    live = await heard(ground, 6)
    assert [each.previous for each in live] == [None, None, b"1", None, None, None]


@EACH
async def test_a_removal_has_the_tags_of_what_is_removed(ground: Ground, options: MapOptions) -> None:
    await ground.broker.subscribe("m")
    await put(ground, "a", options=options, tags={"t": "x"})
    await ground.maps.remove("m", "a", options)
    _, gone = await heard(ground, 2)
    assert (gone.key, gone.removed, gone.tags, gone.data) == ("a", True, {"t": "x"}, b"")
    if options.streams:
        stream, _ = await ground.maps.read_stream("m", options, ALL)
        assert (stream[-1].removed, stream[-1].tags) == (True, {"t": "x"})


async def test_overdue_keys_are_removed_by_the_sweep_alone(ground: Ground) -> None:
    await ground.broker.subscribe("m")
    await put(ground, "lasting", options=RECOVERABLE)
    await put(ground, "a", options=BRIEF, tags={"t": "x"})

    async def gone() -> bool:
        assert set(await state(ground, BRIEF)) >= {"lasting"}
        await ground.sweep(BRIEF)
        return len(ground.heard.publications) > 2

    await until(gone)
    last = (await heard(ground, 3))[-1]
    assert (last.key, last.removed, last.offset, last.tags) == ("a", True, 3, {"t": "x"})
    assert await state(ground, BRIEF) == {"lasting": "1"}
    await ground.sweep(BRIEF)
    assert len(ground.heard.publications) == 3


async def test_what_is_published_again_lasts_longer(ground: Ground) -> None:
    await put(ground, "a", options=BRIEF)
    await put(ground, "b", options=BRIEF)
    await put(ground, "c", options=BRIEF)
    await put(ground, "a", options=RECOVERABLE)
    await put(ground, "b", options=RECOVERABLE, write=MapWrite(key_mode="if_new", renews=True))
    suppressed = await put(ground, "c", options=RECOVERABLE, write=MapWrite(key_mode="if_new"))
    assert suppressed.suppressed == "key_exists"

    async def gone() -> bool:
        await ground.sweep(BRIEF)
        return await ground.maps.count("m") == 2

    await until(gone)
    assert set(await state(ground, BRIEF)) == {"a", "b"}


async def test_the_sweep_leaves_maps_that_it_does_not_know(ground: Ground) -> None:
    await put(ground, "a", options=BRIEF)
    seen: list[str] = []

    async def asked() -> bool:
        await ground.maps.sweep(lambda channel: seen.append(channel))
        return bool(seen)

    await until(asked)
    assert await state(ground, BRIEF) == {"a": "1"}


@STREAMS
async def test_clear_forgets_all_of_a_map(ground: Ground, options: MapOptions) -> None:
    before = await put(ground, "a", options=options)
    await ground.maps.clear("m")
    page = await ground.maps.read_state("m", options, 10)
    assert (page.entries, page.position.offset) == ([], 0)
    after = await put(ground, "b", options=options)
    assert after.offset == 1
    assert after.epoch == page.position.epoch != before.epoch
    stream, _ = await ground.maps.read_stream("m", options, ALL)
    assert told(stream) == [(1, "b", False)]
    assert await ground.maps.verify([Claim("m", Position(1, before.epoch), options)]) == [False]


async def test_the_epoch_of_a_map_that_was_only_read_is_that_of_the_first_change(ground: Ground) -> None:
    page = await ground.maps.read_state("m", PERSISTENT, 10)
    assert page.position.epoch
    assert (await put(ground, "a")).epoch == page.position.epoch


@EACH
async def test_a_write_needs_a_key(ground: Ground, options: MapOptions) -> None:
    with pytest.raises(Error) as failure:
        await put(ground, "", options=options)
    assert failure.value.code == ErrorCode.BAD_REQUEST
