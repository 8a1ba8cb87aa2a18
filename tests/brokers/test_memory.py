"""What only the memory broker can show: expiry by a clock of the test's own."""

from gateway.brokers.base import Claim, HistoryFilter, PublishOptions, StreamOptions
from gateway.brokers.memory import MemoryBroker
from gateway.messages import Payload, Position, Publication
from tests.brokers.recorder import Recorder

KEPT = StreamOptions(history_size=10, history_ttl=60.0, history_meta_ttl=600.0)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


async def say(broker: MemoryBroker, channel: str = "news", key: str = "") -> Position:
    receipt = await broker.publish(channel, Publication(Payload(b"1")), KEPT, PublishOptions(idempotency_key=key))
    return Position(receipt.offset, receipt.epoch)


async def test_publications_expire_and_the_position_stays() -> None:
    clock = Clock()
    broker = MemoryBroker(clock)
    position = await say(broker)
    clock.now += 59
    await say(broker)
    clock.now += 59
    assert len((await broker.history("news", HistoryFilter(-1), KEPT))[0]) == 2
    clock.now += 2
    assert await broker.history("news", HistoryFilter(-1), KEPT) == ([], Position(2, position.epoch))
    assert await say(broker) == Position(3, position.epoch)


async def test_unused_metadata_expires_and_use_keeps_it() -> None:
    clock = Clock()
    broker = MemoryBroker(clock)
    position = await say(broker)
    clock.now += 599
    assert await broker.verify([Claim("news", position, KEPT)]) == [True]
    clock.now += 599
    assert (await broker.history("news", HistoryFilter(), KEPT))[1] == position
    clock.now += 600
    publications, anew = await broker.history("news", HistoryFilter(-1), KEPT)
    assert publications == []
    assert anew.offset == 0
    assert anew.epoch != position.epoch


async def test_idempotency_key_expires() -> None:
    clock = Clock()
    broker = MemoryBroker(clock)
    assert (await say(broker, key="k")).offset == 1
    clock.now += 299
    assert (await say(broker, key="k")).offset == 1
    clock.now += 2
    assert (await say(broker, key="k")).offset == 2
    clock.now += 600
    assert (await say(broker, key="k")).offset == 1


async def test_an_idempotency_key_may_be_remembered_for_a_shorter_time() -> None:
    clock = Clock()
    broker = MemoryBroker(clock)
    once = PublishOptions(idempotency_key="k", idempotency_ttl=10.0)
    for now, offset in ((0.0, 1), (9.0, 1), (11.0, 2)):
        clock.now = now
        assert (await broker.publish("news", Publication(Payload(b"1")), KEPT, once)).offset == offset
    assert len(broker._results) == 1


async def test_a_result_is_forgotten_where_no_stream_is_kept() -> None:
    clock = Clock()
    broker = MemoryBroker(clock)
    for key in ("a", "b"):
        once = PublishOptions(idempotency_key=key, idempotency_ttl=10.0)
        await broker.publish("news", Publication(Payload(b"1")), StreamOptions(), once)
        clock.now += 11
    assert [key for _, key in broker._results] == ["b"]
    assert len(broker._result_expiries) == 1


async def test_live_time_is_the_clocks() -> None:
    clock = Clock()
    broker, recorder = MemoryBroker(clock), Recorder()
    await broker.start("n", recorder)
    await broker.subscribe("news")
    await say(broker)
    assert recorder.publications[0][1].time == 1_000_000


async def test_expired_channels_leave_no_memory_behind() -> None:
    clock = Clock()
    broker = MemoryBroker(clock)
    for number in range(200):
        await say(broker, f"room{number}", key="k")
    await broker.remove_history("room0")
    clock.now += 61
    await say(broker, "room1")
    for _ in range(30):
        await say(broker)
    held = sum(len(stream.publications) for stream in broker._streams.values())
    assert held == 10 + 1
    clock.now += 700
    for _ in range(60):
        await say(broker)
    assert set(broker._streams) == {"news"}
    assert broker._results == {}
    # Waiting for their expiry are "news" twice (publications, metadata), and nothing for ever.
    clock.now += 700
    await say(broker)
    assert len(broker._expiries) + len(broker._meta_expiries) + len(broker._result_expiries) <= 4


async def test_publications_outlive_a_sweep_that_comes_too_early() -> None:
    clock = Clock()
    broker = MemoryBroker(clock)
    await say(broker)
    clock.now += 40
    await say(broker)
    clock.now += 30
    await say(broker, "other")
    assert len((await broker.history("news", HistoryFilter(-1), KEPT))[0]) == 2
    clock.now += 31
    await say(broker, "other")
    assert not broker._streams["news"].publications


async def test_metadata_that_expires_first_takes_the_publications_along() -> None:
    clock = Clock()
    broker = MemoryBroker(clock)
    short = StreamOptions(history_size=10, history_ttl=60.0, history_meta_ttl=10.0)
    await broker.publish("news", Publication(Payload(b"1")), short, PublishOptions())
    clock.now += 11
    await say(broker, "other")
    assert set(broker._streams) == {"other"}
    clock.now += 50
    await say(broker, "other")
    assert {channel for _, channel in broker._expiries} == {"other"}


async def test_close_ends_delivery() -> None:
    broker, recorder = MemoryBroker(), Recorder()
    await broker.start("n", recorder)
    await broker.subscribe("news")
    await broker.close()
    await say(broker)
    assert recorder.publications == []


async def test_reading_leaves_nothing_behind() -> None:
    broker = MemoryBroker()
    for number in range(100):
        await broker.subscribe(f"room{number}")
        _, position = await broker.history(f"room{number}", HistoryFilter(-1), KEPT)
        assert await broker.verify([Claim(f"room{number}", position, KEPT)]) == [True]
        await broker.unsubscribe(f"room{number}")
    assert not broker._streams
    assert not broker._promised
    assert not broker._meta_expiries


async def test_an_epoch_that_a_subscriber_was_told_outlives_other_streams() -> None:
    clock = Clock()
    broker = MemoryBroker(clock)
    await broker.subscribe("quiet")
    _, told = await broker.history("quiet", HistoryFilter(), KEPT)
    for _ in range(3):
        ended = await say(broker, "busy")
        clock.now += 601
        _, anew = await broker.history("busy", HistoryFilter(), KEPT)
        assert anew.epoch != ended.epoch
        assert await broker.verify([Claim("quiet", told, KEPT)]) == [True]
    assert await say(broker, "quiet") == Position(1, told.epoch)
    clock.now += 601
    assert (await say(broker, "quiet")).epoch != told.epoch
    await broker.unsubscribe("quiet")
    assert broker._promised == {}


async def test_streams_that_ended_unseen_are_followed_by_others() -> None:
    clock = Clock()
    broker = MemoryBroker(clock)
    epochs = set()
    for _ in range(20):
        epochs.add((await say(broker)).epoch)
        clock.now += 601
        await say(broker, "other")  # sweeps
    assert len(epochs) == 20
    assert len(broker._meta_expiries) <= 2
