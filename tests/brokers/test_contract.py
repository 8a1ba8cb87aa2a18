"""What every broker does.

fakeredis serves all of it over TCP, Lua included. It hangs up after each error reply and cannot be killed or
paused with its data kept, so that faults are tested with real servers alone (test_redis).
"""

import asyncio

import pytest
from msgspec.structs import replace

from gateway.brokers.base import Broker, Claim, HistoryFilter, PublishOptions, StreamOptions
from gateway.brokers.broadcast import UNKNOWN
from gateway.errors import Error
from gateway.messages import ClientInfo, Exclusion, Payload, Position, Publication, Receipt
from tests.brokers.implementations import Implementation, over
from tests.brokers.recorder import Recorder
from tests.waiting import until

DEFAULT = PublishOptions()
PLAIN = StreamOptions()
KEPT = StreamOptions(history_size=5, history_ttl=60.0)
ONE = StreamOptions(history_size=1, history_ttl=60.0)
ALL = HistoryFilter(limit=-1)
ONCE = PublishOptions(idempotency_key="k")


async def say(
    broker: Broker,
    text: str,
    channel: str = "news",
    stream: StreamOptions = KEPT,
    options: PublishOptions = DEFAULT,
) -> Position:
    receipt = await broker.publish(channel, Publication(Payload(text.encode())), stream, options)
    return Position(receipt.offset, receipt.epoch)


async def texts(broker: Broker, which: HistoryFilter = ALL, stream: StreamOptions = KEPT) -> list[str]:
    publications, _ = await broker.history("news", which, stream)
    return [publication.data.decode() for publication in publications]


async def top(broker: Broker, stream: StreamOptions = KEPT) -> Position:
    _, position = await broker.history("news", HistoryFilter(), stream)
    return position


async def verify(broker: Broker, channel: str, position: Position) -> bool:
    [good] = await broker.verify([Claim(channel, position, KEPT, hold=100.0)])
    return good


async def test_publications_reach_subscribers_in_order_and_unchanged(
    broker: Broker, recorder: Recorder, implementation: Implementation
) -> None:
    await broker.subscribe("news")
    info = ClientInfo("u", "c", conn_info=Payload(b'{"a":1}'), chan_info=Payload(b"\x00\xff"))
    sent = Publication(Payload(b"\r\n\x00:\xff"), info=info, tags={"k": "v"}, binary=True)
    nodes = 1 if implementation.counts else UNKNOWN
    assert await broker.publish("news", sent, PLAIN, PublishOptions()) == Receipt(nodes=nodes)
    for number in range(50):
        await say(broker, str(number), stream=KEPT if number % 2 else PLAIN)
    await until(lambda: len(recorder.publications) == 51)
    channel, first = recorder.publications[0]
    assert channel == "news"
    assert (first.data, first.info, first.tags, first.binary) == (sent.data, info, {"k": "v"}, True)
    assert type(first.data) is Payload
    assert first.info is not None
    assert type(first.info.chan_info) is Payload
    assert (first.offset, first.epoch) == (0, "")
    assert first.time > 1_600_000_000_000
    assert sent.time == 0
    assert recorder.texts[1:] == [str(number) for number in range(50)]


@over()
async def test_what_nobody_waits_for_is_published_in_order(broker: Broker, recorder: Recorder) -> None:
    """As far as the broker takes it: what it does not has not been published."""
    await broker.subscribe("news")
    await say(broker, "first")  # from then on a server knows the script
    posted = [
        broker.post("news", Publication(Payload(b"%d" % number)), KEPT if number % 3 else PLAIN) for number in range(20)
    ]
    [kind] = {each if isinstance(each, bool) else type(each) for each in posted}
    expected = [str(number) for number in range(20)] if kind is not False else []
    await say(broker, "last")
    await until(lambda: len(recorder.texts) == len(expected) + 2)
    assert recorder.texts == ["first", *expected, "last"]
    for answer in posted:
        if not isinstance(answer, bool):
            await answer


@over()
async def test_what_a_key_has_carries_its_version_and_an_epoch(broker: Broker, recorder: Recorder) -> None:
    await broker.subscribe("news")
    value = Publication(Payload(b"1"), key="k", epoch="of the backend")
    for version in (2**62, 1):
        await broker.publish("news", value, PLAIN, PublishOptions(version=version))
    await until(lambda: len(recorder.publications) == 2)
    told = [(each.key, each.version, each.epoch, each.offset) for _, each in recorder.publications]
    assert told == [("k", 2**62, "of the backend", 0), ("k", 1, "of the backend", 0)]


@over(history=True)
async def test_live_publications_carry_their_position(broker: Broker, recorder: Recorder) -> None:
    await broker.subscribe("news")
    positions = [await say(broker, text) for text in "abc"]
    await until(lambda: len(recorder.publications) == 3)
    epoch = positions[0].epoch
    assert len(epoch) == 8
    assert positions == [Position(1, epoch), Position(2, epoch), Position(3, epoch)]
    assert [(each.offset, each.epoch) for _, each in recorder.publications] == [(1, epoch), (2, epoch), (3, epoch)]


@over(history=True)
async def test_time_given_by_the_publisher_stays(broker: Broker, recorder: Recorder) -> None:
    await broker.subscribe("news")
    await broker.publish("news", Publication(Payload(b"1"), time=77), KEPT, PublishOptions())
    await until(lambda: recorder.publications)
    assert recorder.publications[0][1].time == 77
    (stored,), _ = await broker.history("news", ALL, KEPT)
    assert (stored.time, stored.epoch, stored.offset) == (0, "", 1)


async def test_only_subscribed_channels_are_heard(broker: Broker, recorder: Recorder) -> None:
    await broker.subscribe("news")
    await broker.subscribe("other")
    await broker.unsubscribe("other")
    await broker.unsubscribe("never")
    await say(broker, "unheard", channel="other")
    await broker.publish_join("other", ClientInfo("u", "c"))
    await broker.publish_leave("other", ClientInfo("u", "c"))
    await say(broker, "heard")
    await until(lambda: recorder.publications)
    assert recorder.texts == ["heard"]
    assert (recorder.joins, recorder.leaves) == ([], [])


async def test_subscribing_again_after_unsubscribe(broker: Broker, recorder: Recorder) -> None:
    await asyncio.gather(broker.subscribe("news"), broker.unsubscribe("news"), broker.subscribe("news"))
    await say(broker, "heard")
    await until(lambda: recorder.publications)


async def test_join_and_leave(broker: Broker, recorder: Recorder) -> None:
    await broker.subscribe("news")
    info = ClientInfo("u", "c", conn_info=Payload(b"{}"))
    await broker.publish_join("news", info)
    await broker.publish_leave("news", info)
    await until(lambda: recorder.leaves)
    assert recorder.joins == recorder.leaves == [("news", info)]


async def test_control_messages_to_all_nodes_or_one(broker: Broker, recorder: Recorder) -> None:
    await broker.publish_control(b"else", node="n2")
    await broker.publish_control(b"all")
    await broker.publish_control(b"me", node="n1")
    await until(lambda: len(recorder.controls) == 2)
    assert recorder.controls == [b"all", b"me"]


async def test_nothing_is_delivered_after_close(broker: Broker, recorder: Recorder) -> None:
    await broker.subscribe("news")
    await broker.close()
    await say(broker, "unheard")
    await broker.publish_join("news", ClientInfo("u", "c"))
    await broker.publish_control(b"unheard")
    assert (recorder.publications, recorder.joins, recorder.controls) == ([], [], [])


@over(history=True)
@pytest.mark.parametrize("size", [1, 10])
async def test_who_is_excluded_is_told_live_and_not_in_history(broker: Broker, recorder: Recorder, size: int) -> None:
    await broker.subscribe("news")
    exclude = Exclusion(("c1", "c2"), ("7",))
    stream = StreamOptions(history_size=size, history_ttl=60.0)
    sent = Publication(Payload(b"1"), exclude=exclude)
    assert (await broker.publish("news", sent, stream, PublishOptions())).nodes == 1
    await until(lambda: recorder.publications)
    assert recorder.publications[0][1].exclude == exclude
    assert (await broker.history("news", ALL, stream))[0] == [Publication(Payload(b"1"), offset=1)]


@over(history=True)
async def test_history_keeps_the_newest(broker: Broker) -> None:
    for number in range(1, 8):
        await say(broker, str(number))
    assert await texts(broker) == ["3", "4", "5", "6", "7"]
    assert (await top(broker)).offset == 7


@over(history=True)
@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (HistoryFilter(), ""),
        (HistoryFilter(limit=2), "34"),
        (HistoryFilter(limit=2, reverse=True), "76"),
        (HistoryFilter(limit=-1, reverse=True), "76543"),
        (HistoryFilter(limit=-1, since=Position(4)), "567"),
        (HistoryFilter(limit=2, since=Position(4)), "56"),
        (HistoryFilter(limit=-1, since=Position(1)), "34567"),
        (HistoryFilter(limit=-1, since=Position(0)), "34567"),
        (HistoryFilter(limit=-1, since=Position(7)), ""),
        (HistoryFilter(limit=-1, since=Position(99)), ""),
        (HistoryFilter(limit=-1, since=Position(5), reverse=True), "43"),
        (HistoryFilter(limit=1, since=Position(5), reverse=True), "4"),
        (HistoryFilter(limit=-1, since=Position(2), reverse=True), ""),
        (HistoryFilter(limit=-1, since=Position(0), reverse=True), ""),
        (HistoryFilter(limit=-1, since=Position(8), reverse=True), ""),
        (HistoryFilter(limit=0, since=Position(4)), ""),
    ],
)
async def test_history_filter(broker: Broker, which: HistoryFilter, expected: str) -> None:
    for number in range(1, 8):
        await say(broker, str(number))
    assert "".join(await texts(broker, which)) == expected


@over(history=True)
@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (HistoryFilter(limit=-1), ["b"]),
        (HistoryFilter(limit=1, reverse=True), ["b"]),
        (HistoryFilter(limit=-1, since=Position(1)), ["b"]),
        (HistoryFilter(limit=-1, since=Position(2)), []),
        (HistoryFilter(limit=-1, since=Position(2), reverse=True), []),
        (HistoryFilter(limit=0), []),
    ],
)
async def test_history_of_one(broker: Broker, which: HistoryFilter, expected: list[str]) -> None:
    for text in "ab":
        await say(broker, text, stream=ONE)
    publications, position = await broker.history("news", which, ONE)
    assert [each.data.decode() for each in publications] == expected
    assert [each.offset for each in publications] == [2] * len(expected)
    assert position.offset == 2


@over(history=True)
async def test_binary_data_survives_a_history_of_one(broker: Broker) -> None:
    data = Payload(bytes(range(256)) + b":\n")
    await broker.publish("news", Publication(data, binary=True), ONE, PublishOptions())
    (stored,), _ = await broker.history("news", ALL, ONE)
    assert stored.data == data


@over(history=True)
async def test_history_size_may_change(broker: Broker) -> None:
    await say(broker, "1", stream=ONE)
    await say(broker, "2", stream=KEPT)
    await say(broker, "3", stream=KEPT)
    assert (await texts(broker))[-2:] == ["2", "3"]
    await say(broker, "4", stream=ONE)
    assert await texts(broker, stream=ONE) == ["4"]
    assert (await top(broker)).offset == 4


@over(history=True)
async def test_reading_makes_the_stream(broker: Broker) -> None:
    position = await top(broker)
    assert position.offset == 0
    assert position.epoch
    assert await top(broker) == position
    assert await say(broker, "a") == Position(1, position.epoch)


@over(history=True)
async def test_channels_have_streams_of_their_own(broker: Broker) -> None:
    await say(broker, "a")
    other = await say(broker, "b", channel="news:other")
    assert other.offset == 1
    assert other.epoch != (await top(broker)).epoch


@over(history=True)
async def test_removal_keeps_the_position(broker: Broker) -> None:
    position = await say(broker, "a")
    await broker.remove_history("news")
    await broker.remove_history("unknown")
    assert await texts(broker) == []
    assert await top(broker) == position
    assert await say(broker, "b") == Position(2, position.epoch)


@over(history=True)
async def test_skip_history(broker: Broker, recorder: Recorder) -> None:
    await broker.subscribe("news")
    assert await say(broker, "fleeting", options=PublishOptions(skip_history=True)) == Position()
    await until(lambda: recorder.publications)
    assert recorder.publications[0][1].offset == 0
    assert (await top(broker)).offset == 0


@over(idempotency=True)
@pytest.mark.parametrize("stream", [KEPT, PLAIN, ONE])
async def test_idempotent_publish(broker: Broker, recorder: Recorder, stream: StreamOptions) -> None:
    await broker.subscribe("news")
    first = await say(broker, "first", stream=stream, options=ONCE)
    assert await say(broker, "again", stream=stream, options=ONCE) == first
    await say(broker, "other key", stream=stream, options=PublishOptions(idempotency_key="k2"))
    await broker.subscribe("other")
    await say(broker, "other channel", channel="other", stream=stream, options=ONCE)
    await until(lambda: len(recorder.publications) == 3)
    assert recorder.texts == ["first", "other key", "other channel"]


async def test_how_many_nodes_hear_a_channel(broker: Broker) -> None:
    channels = [f"news:{number}" for number in range(600)]
    assert await broker.hearers([]) == []
    assert await broker.hearers(["news:7", "other"]) == [0, 0]
    await broker.subscribe("news:7")
    assert await broker.hearers(channels) == [int(name == "news:7") for name in channels]
    await broker.unsubscribe("news:7")
    assert await broker.hearers(["news:7"]) == [0]


@over(history=True)
async def test_version_drops_what_is_not_newer(broker: Broker, recorder: Recorder) -> None:
    await broker.subscribe("news")
    big = 2**62

    async def versioned(text: str, version: int, epoch: str = "") -> int:
        return (await say(broker, text, options=PublishOptions(version=version, version_epoch=epoch))).offset

    assert await versioned("a", big) == 1
    assert await versioned("equal", big) == 1
    assert await versioned("older", big - 1) == 1
    assert await versioned("shorter", 9) == 1
    assert await versioned("b", big + 1) == 2
    assert await versioned("c", 1, "e1") == 3
    assert await versioned("equal", 1, "e1") == 3
    assert await versioned("without epoch", 1) == 3
    assert await versioned("d", 1, "e2") == 4
    assert await versioned("e", 0) == 5
    assert await versioned("f", 1) == 6
    await until(lambda: len(recorder.publications) == 6)
    assert "".join(recorder.texts) == "abcdef"


@over(history=True)
async def test_publications_tell_their_version_and_whether_they_may_be_patched(
    broker: Broker, recorder: Recorder
) -> None:
    await broker.subscribe("news")
    await say(broker, "a", options=PublishOptions(version=2**62, delta=True))
    await say(broker, "b", stream=replace(KEPT, delta_publish=True))
    await say(broker, "c", options=PublishOptions(idempotency_key="k", version=3))
    await until(lambda: len(recorder.publications) == 3)
    told = [(each.version, each.patchable) for _, each in recorder.publications]
    assert told == [(2**62, True), (0, True), (3, False)]
    stored, _ = await broker.history("news", HistoryFilter(limit=-1), KEPT)
    assert [each.version for each in stored] == [2**62, 0, 3]


@over(history=True)
async def test_dropped_version_is_remembered_as_result(broker: Broker) -> None:
    await say(broker, "a", options=PublishOptions(version=5))
    dropped = PublishOptions(version=5, idempotency_key="k")
    first = await say(broker, "b", options=dropped)
    await say(broker, "c", options=PublishOptions(version=6))
    assert first.offset == 1
    assert await say(broker, "b", options=dropped) == first


@over(history=True)
async def test_verify(broker: Broker) -> None:
    position = await say(broker, "a")
    assert await verify(broker, "news", position)
    assert await verify(broker, "news", Position(1))
    assert not await verify(broker, "news", Position(0, position.epoch))
    assert not await verify(broker, "news", Position(1, "other"))
    assert not await verify(broker, "unknown", position)
    assert await top(broker) == position


@over(history=True)
async def test_stream_that_went_back_gets_a_new_epoch(broker: Broker) -> None:
    position = await say(broker, "a")
    assert not await verify(broker, "news", Position(9, position.epoch))
    anew = await top(broker)
    assert anew.offset == 0
    assert anew.epoch != position.epoch
    assert await texts(broker) == []
    assert await say(broker, "b") == Position(1, anew.epoch)
    assert await texts(broker) == ["b"]
    assert not await verify(broker, "news", position)


@over(history=True)
async def test_equal_reads_share_an_answer_but_not_a_list(broker: Broker) -> None:
    await say(broker, "a")
    reads = await asyncio.gather(*(broker.history("news", ALL, KEPT) for _ in range(5)))
    reads[0][0].clear()
    assert [[each.data for each in publications] for publications, _ in reads[1:]] == [[b"a"]] * 4


@over(history=True)
async def test_many_claims_are_verified_together(broker: Broker) -> None:
    positions = [await say(broker, "a", channel=f"room{number}") for number in range(300)]
    for number in range(0, 300, 7):
        await say(broker, "b", channel=f"room{number}")
    claims = [Claim(f"room{number}", position, KEPT) for number, position in enumerate(positions)]
    assert await broker.verify(claims) == [number % 7 != 0 for number in range(300)]
    assert await broker.verify([]) == []


@over(history=True)
async def test_who_has_read_an_empty_stream_misses_nothing(broker: Broker) -> None:
    position = await top(broker)
    assert await verify(broker, "news", position)
    assert await top(broker) == position
    assert await say(broker, "a") == Position(1, position.epoch)
    assert not await verify(broker, "news", position)


async def test_health(broker: Broker) -> None:
    health = broker.health()
    assert health.ok
    assert (health.connected, health.deaf, health.reconnects) == (True, False, 0)


async def test_after_the_echo_what_was_published_has_been_delivered(broker: Broker, recorder: Recorder) -> None:
    await broker.subscribe("news")
    for number in range(50):
        await say(broker, str(number), stream=KEPT if number % 2 else PLAIN)
        await broker.echo()
        assert len(recorder.publications) == number + 1


async def test_large_publications_keep_their_place(broker: Broker, recorder: Recorder) -> None:
    await broker.subscribe("news")
    texts = [str(number) * (1 if number % 3 else 100_000) for number in range(9)]
    await asyncio.gather(*(say(broker, text, stream=PLAIN) for text in texts))
    await until(lambda: len(recorder.publications) == 9)
    assert recorder.texts == texts


async def test_marks_of_live_publications(broker: Broker, recorder: Recorder) -> None:
    await broker.subscribe("news")
    sent = Publication(Payload(b"1"), time=77, exclude=Exclusion(("c1",), ("7",)))
    await broker.publish("news", sent, PLAIN, PublishOptions())
    await until(lambda: recorder.publications)
    [(_, heard)] = recorder.publications
    assert (heard.time, heard.exclude) == (77, sent.exclude)


@over(history=False)
async def test_without_history_nothing_pretends_to_be_one(broker: Broker, recorder: Recorder) -> None:
    await broker.subscribe("news")
    assert await say(broker, "a") == Position()
    with pytest.raises(Error, match=r"108 .* keeps no history"):
        await texts(broker)
    with pytest.raises(Error, match=r"108 .* keeps no history"):
        await broker.remove_history("news")
    assert await broker.verify([Claim("news", Position(), PLAIN)]) == [True]
    await until(lambda: recorder.texts == ["a"])
    assert recorder.publications[0][1].offset == 0


@over(idempotency=False)
async def test_keys_that_nobody_remembers_are_refused(broker: Broker, recorder: Recorder) -> None:
    await broker.subscribe("news")
    with pytest.raises(Error, match=r"108 .* idempotency keys"):
        await say(broker, "a", options=ONCE)
    await say(broker, "b")
    await until(lambda: recorder.texts == ["b"])
